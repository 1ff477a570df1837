//! The rights a worker gives up for good, before it reads the first hostile byte or runs the first guest instruction.
//!
//! Called once by each worker, in `main`, while it has one thread (the kernel keeps these rights per thread) and after it
//! has what it needs open: everything later arrives by descriptor. What must never happen here: a right kept in
//! silence. What cannot be given up is returned in words, and the caller prints them.
#![allow(unsafe_code, reason = "capset and two prctl operations have no safe wrapper")]

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getppid, setgroups, setresgid, setresuid};
use std::io;
use thiserror::Error;

/// First of the user and group ids workers run under when started as root. 65536 to 98303 belong to nobody: above the
/// 16-bit ids of users and services, below the ranges that `/etc/subuid` gives to containers (from 100000).
pub const UID_BASE: u32 = 65_536;
/// VMs told apart before ids repeat. A VM's pair of ids follows from its supervisor's process id.
pub const UID_PAIRS: u32 = 16_384;

/// Which worker this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The guest side.
    Vmm,
    /// The host side.
    App,
}

impl Role {
    /// The user and group id of this worker under a supervisor with this process id: never the same for both workers.
    pub fn id(self, supervisor: u32) -> u32 {
        let which = match self {
            Self::Vmm => 0,
            Self::App => 1,
        };
        UID_BASE + 2 * (supervisor % UID_PAIRS) + which
    }
}

/// Why a worker must not go on.
#[derive(Debug, Error)]
pub enum JailError {
    /// Other threads would keep what this one gives up.
    #[error("rights must be given up before threads are started; there are {0}")]
    Threads(usize),
    /// The supervisor died meanwhile.
    #[error("the supervisor is gone")]
    Orphan,
    /// A step that nothing legitimate refuses was refused.
    #[error("{step}: {source}")]
    Step {
        /// Which.
        step: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
}

fn step(step: &'static str) -> impl Fn(Errno) -> JailError {
    move |errno| JailError::Step {
        step,
        source: errno.into(),
    }
}

/// Gives up: groups and user id (if root), every capability in every set, gaining any by exec, core dumps, and for the vmm
/// being traced or dumped. Returns what the host did not let us give up.
///
/// The tie to the supervisor ([`crate::spawn::die_with_parent`]), which a change of user id cuts, is made anew.
pub fn drop_privileges(role: Role) -> Result<Vec<String>, JailError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(JailError::Threads(threads));
    }
    let supervisor = getppid();
    let mut kept = Vec::new();
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(step("no core dumps"))?;
    clear_ambient_and_bounding()?;
    if Uid::current().is_root() || Uid::effective().is_root() {
        leave_root(role.id(supervisor.as_raw().unsigned_abs()), &mut kept);
    }
    clear_capabilities().map_err(step("capset"))?;
    prctl::set_no_new_privs().map_err(step("no_new_privs"))?;
    if role == Role::Vmm {
        // After the change of user id, which sets this flag as the host likes.
        prctl::set_dumpable(false).map_err(step("not dumpable"))?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("parent death signal"))?;
    if getppid() != supervisor {
        return Err(JailError::Orphan);
    }
    Ok(kept)
}

/// A user namespace may have no such id, or root may be root in name only: then the capabilities still go.
fn leave_root(id: u32, kept: &mut Vec<String>) {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let steps = [
        ("supplementary groups", setgroups(&[])),
        ("group root", setresgid(gid, gid, gid)),
        ("user root", setresuid(uid, uid, uid)),
    ];
    for (what, done) in steps {
        if let Err(errno) = done {
            kept.push(format!("{what} kept: {} (wanted id {id})", errno.desc()));
        }
    }
}

fn clear_ambient_and_bounding() -> Result<(), JailError> {
    // SAFETY: prctl with numbers only.
    let ambient = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(ambient).map_err(step("clear ambient capabilities"))?;
    for capability in 0..64 {
        // SAFETY: as above.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => {}
            // Past the last one the kernel knows.
            Err(Errno::EINVAL) => break,
            // Without CAP_SETPCAP the bounding set stays. It bounds what exec can gain, and no_new_privs makes that
            // nothing.
            Err(Errno::EPERM) => break,
            Err(e) => return Err(step("drop bounding capabilities")(e)),
        }
    }
    Ok(())
}

/// Empties the effective, permitted and inheritable sets of this thread.
fn clear_capabilities() -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    /// _LINUX_CAPABILITY_VERSION_3 of linux/capability.h: 64 bits, in two of the structures below.
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // Effective, permitted, inheritable; twice.
    let sets = [[0u32; 3]; 2];
    // SAFETY: both pointers are to live structures of the shape that version 3 of capset(2) reads.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
    Errno::result(done).map(drop)
}
