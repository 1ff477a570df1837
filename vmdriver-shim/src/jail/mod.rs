//! The jail: what a worker gives up for good, before it reads the first hostile byte or runs the first guest
//! instruction.
//!
//! Two steps. [`enter`] is for the whole process, called once by each worker while it has one thread (the kernel keeps
//! most of this per thread) and after it has what it needs open: everything later arrives by descriptor. [`confine`] is
//! for each thread, at its start: the system calls of its part, and no other.
//!
//! | order | module | what goes |
//! |---|---|---|
//! | 1 | `capabilities` | the ambient and the bounding set |
//! | 2 | `namespaces` | the host's network (unless `nat` needs it), IPC and names, its file system |
//! | 3 | `ids` | root, for a user and group of the worker's own |
//! | 4 | `capabilities` | every capability in every set; no new privileges |
//! | 5 | `landlock` | every path; TCP |
//! | 6 | `limits` | memory, address space, descriptors, size of files, core dumps |
//! | 7 | [`allow`], `seccomp` | system calls, by thread; then new threads |
//!
//! What must never happen here: a wall missing in silence. What the host lacks is returned in words, and the caller
//! prints them; or it is an error, where the user asked for that.

pub mod allow;
mod capabilities;
mod ids;
mod landlock;
mod limits;
mod namespaces;
mod seccomp;

pub use ids::{UID_BASE, UID_PAIRS};
pub use limits::Room;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use thiserror::Error;

/// Which worker this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The guest side.
    Vmm,
    /// The host side.
    App,
}

/// What a worker's cell must leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Whose it is.
    pub role: Role,
    /// Whether the host's network stays in reach.
    pub network: bool,
    /// What it may still take.
    pub room: Room,
    /// Whether a wall this host cannot build is an error.
    pub required: bool,
}

/// Which back ends the I/O worker's wait loop has that need system calls of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// A `nat` card: the host's sockets.
    pub network: bool,
    /// The user's terminal: its modes.
    pub terminal: bool,
}

/// A thread's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// vmm: engine, devices and run loop.
    Vcpu {
        /// The engine is KVM.
        kvm: bool,
    },
    /// vmm: hears the supervisor.
    Ear,
    /// I/O worker: the main thread until all other threads are there.
    Attach(Io),
    /// I/O worker: the main thread from then on.
    WaitLoop(Io),
    /// I/O worker: a disk's thread.
    Disk,
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
    /// The filter of system calls.
    #[error("filter of system calls: {0}")]
    Filter(#[source] seccompiler::Error),
    /// The user wants it whole, and this host cannot.
    #[error("the jail is not whole, and machine.require_jail (--require-jail) asks for that: {}", .0.join("; "))]
    Required(Vec<String>),
}

fn step(step: &'static str) -> impl Fn(Errno) -> JailError {
    move |errno| JailError::Step {
        step,
        source: errno.into(),
    }
}

/// This process is a worker: threads started by [`spawn`] are confined. Tests run the same threads outside of any jail.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Gives up all but the system calls (see the order above), and for the vmm being traced or dumped. Returns what the
/// host lacks, in words; [`JailError::Required`] instead, if the cell says so.
///
/// The tie to the supervisor ([`crate::spawn::die_with_parent`]), which a change of user id cuts, is made anew.
pub fn enter(cell: &Cell) -> Result<Vec<String>, JailError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(JailError::Threads(threads));
    }
    let supervisor = getppid();
    let usage = limits::Usage::now()?;
    let mut lacking = Vec::new();

    capabilities::clear_ambient_and_bounding()?;
    leave_namespaces(cell, supervisor.as_raw().unsigned_abs(), &mut lacking);
    // Once more: a user namespace begins with full sets.
    capabilities::clear_ambient_and_bounding()?;
    capabilities::clear()?;
    prctl::set_no_new_privs().map_err(step("no_new_privs"))?;
    lacking.extend(landlock::restrict(cell.network));
    limits::set(&usage, cell.room)?;
    if cell.role == Role::Vmm {
        // After the change of user id, which sets this flag as the host likes.
        prctl::set_dumpable(false).map_err(step("not dumpable"))?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("parent death signal"))?;
    if getppid() != supervisor {
        return Err(JailError::Orphan);
    }
    lacking.extend(seccomp::available().err().map(seccomp::refusal));
    if cell.required && !lacking.is_empty() {
        return Err(JailError::Required(lacking));
    }
    speak_plainly_of_panics();
    ENTERED.store(true, Relaxed);
    Ok(lacking)
}

/// Namespaces and ids. Root leaves first, since it may where user namespaces are off; all others in a user namespace.
fn leave_namespaces(cell: &Cell, supervisor: u32, lacking: &mut Vec<String>) {
    let wanted = namespaces::wanted(cell.network);
    let mut made = namespaces::make(wanted);
    let mut emptied = made.is_ok().then(namespaces::empty_root);
    ids::leave_root(cell.role.id(supervisor), lacking);
    if made.is_err() {
        made = namespaces::make_as_user(wanted);
        emptied = made.is_ok().then(namespaces::empty_root);
    }
    lacking.extend(made.err().map(namespaces::refusal));
    if let Some(Err((what, errno))) = emptied {
        lacking.push(format!(
            "sees the host's file system, if Landlock does not keep it from it: {what}: {} (allow mounting in user \
             namespaces, or start as root)",
            errno.desc()
        ));
    }
}

/// A panic's message, in one write, and no more: the standard hook offers a backtrace, which would open files.
fn speak_plainly_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("?");
        // Where nobody listens the exit status says it alone.
        let text = format!("thread {name} {panic}\n");
        io::stderr().write_all(text.as_bytes()).ok();
    }));
}

/// Confines the calling thread to the system calls of its part, for good; in a process that has [`enter`]ed. Nothing on a
/// host without seccomp, which `enter` has told. With the last of the worker's threads, no other can be started any more.
pub fn confine(thread: Thread) -> Result<(), JailError> {
    if !ENTERED.load(Relaxed) {
        return Ok(());
    }
    if allow::is_last(thread) {
        limits::no_more_threads()?;
    }
    match seccomp::available() {
        Ok(()) => seccomp::apply(thread),
        Err(_) => Ok(()),
    }
}

/// Starts a thread of a worker, confined to its part before it does anything.
pub fn spawn(
    name: String,
    thread: Thread,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (tell, told) = sync_channel(1);
    let started = thread::Builder::new().name(name).spawn(move || {
        let confined = confine(thread);
        let go = confined.is_ok();
        // Whoever starts a thread waits for this word.
        if tell.send(confined).is_ok() && go {
            work();
        }
    })?;
    match told.recv() {
        Ok(Ok(())) => Ok(started),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(_) => Err(io::Error::other("it ended at its start")),
    }
}
