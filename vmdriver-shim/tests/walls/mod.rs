//! Which walls of a jail this host lets a process build: asked of its kernel, in a child for each, so that a test that
//! skips where one is missing does not take the word of the code it tests. For the tests of the jail, here and of the
//! product. What must never happen here: a call into the code under test.
#![allow(
    unsafe_code,
    reason = "work between fork and exec, and Landlock, have no safe wrapper"
)]

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, chdir, pivot_root, setresgid, setresuid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How a child ends whose wall stands.
const STANDS: i32 = 7;

type Wall = fn() -> Result<(), Errno>;

/// Each wall and how it is built; the later ones where the earlier ones stand.
const WALLS: &[(&str, Wall)] = &[
    ("namespaces", namespaces),
    ("an empty root", empty_root),
    ("another user", another_user),
    ("Landlock", landlock),
    ("a filter of system calls", filter),
];

/// The first wall that a process of ours, or of `user`, cannot build here, and why.
pub fn missing(user: Option<u32>) -> Option<String> {
    WALLS.iter().find_map(|(name, wall)| {
        Some(format!(
            "no {name} on this host: {}",
            in_a_child(user, *wall).err()?
        ))
    })
}

fn in_a_child(user: Option<u32>, wall: Wall) -> io::Result<()> {
    let mut child = Command::new("never started");
    // SAFETY: between fork and exec this makes system calls with numbers and short constant strings, and allocates nothing.
    unsafe {
        child.pre_exec(move || {
            if let Some(user) = user {
                become_user(user)?;
            }
            wall()?;
            libc::_exit(STANDS)
        })
    };
    let ended = child.status()?;
    assert_eq!(ended.code(), Some(STANDS), "{ended}");
    Ok(())
}

fn become_user(user: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

fn namespaces() -> Result<(), Errno> {
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    match unshare(own) {
        // A plain user's way.
        Err(Errno::EPERM) => unshare(own | CloneFlags::CLONE_NEWUSER),
        made => made,
    }
}

fn empty_root() -> Result<(), Errno> {
    let none = None::<&str>;
    namespaces()?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(none, "/proc", Some("tmpfs"), MsFlags::MS_RDONLY, none)?;
    chdir("/proc")?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)
}

/// Root's alone.
fn another_user() -> Result<(), Errno> {
    const NOBODYS: u32 = 65_536;
    if Uid::effective().is_root() {
        become_user(NOBODYS)
    } else {
        Ok(())
    }
}

fn landlock() -> Result<(), Errno> {
    /// LANDLOCK_ACCESS_FS_EXECUTE (linux/landlock.h).
    const EXECUTE: u64 = 1;
    let right = EXECUTE;
    prctl::set_no_new_privs()?;
    // SAFETY: reads eight bytes of a live local, the first member of struct landlock_ruleset_attr; older kernels know no
    // more, newer ones take it alone.
    let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const right, 8, 0) };
    let ruleset = Errno::result(ruleset)?;
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) }).map(drop)
}

/// A filter at no address is what a kernel that filters complains of, and one that does not never looks at.
fn filter() -> Result<(), Errno> {
    prctl::set_no_new_privs()?;
    // SAFETY: the kernel refuses a filter it cannot read.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, 0, 0, 0) };
    match Errno::result(set) {
        Err(Errno::EFAULT) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::ENOSYS),
    }
}
