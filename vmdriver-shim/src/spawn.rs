//! Starting a worker so that it cannot outlive its supervisor, and learning of its death without missing it.
//!
//! The supervisor holds a [`Child`]; the worker calls, first thing, [`die_with_parent`],
//! [`leave_signals_to_supervisor`] and [`inherited_socket`]. What must never happen here: a worker left behind, a
//! zombie, or a descriptor of the supervisor's in a worker that was not handed to it on purpose.
#![allow(
    unsafe_code,
    reason = "pidfd_open, close_range and signal dispositions have no safe wrapper"
)]

use crate::handover::{HandoverError, Socket};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{dup2_stdin, getppid};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use thiserror::Error;

/// Why a worker could not be started, or made itself at home.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The program did not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which.
        program: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// A system call that prepares or watches a worker failed.
    #[error("{what}: {source}")]
    System {
        /// Which.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The supervisor was gone before the worker could tie itself to it.
    #[error("the supervisor is gone")]
    Orphan,
    /// Descriptor 0 is not the supervisor's socket.
    #[error("descriptor 0: {0} (workers are started by `vmapp run`, not by hand)")]
    Socket(#[from] HandoverError),
}

fn system(what: &'static str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::System {
        what,
        source: errno.into(),
    }
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It returned this status. -1: someone else collected it, so that it is unknown.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signalled(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

impl From<ExitStatus> for Death {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Exited(-1),
        }
    }
}

/// Environment variables a worker sees; everything else of the user's stays out of a process that handles hostile bytes.
/// Not RUST_BACKTRACE: a backtrace opens files, and from inside the jail that would kill the worker before it has said what
/// went wrong.
const PASSED_ON: [&str; 2] = ["RUST_LOG", "NO_COLOR"];
/// Our own variables are passed on as well.
const OWN_PREFIX: &str = "WORLDSWITCH_";

/// A running worker. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
    death: Option<Death>,
}

impl Child {
    /// Starts `program` with `socket` as its descriptor 0, nothing to write to on 1, `stderr` on 2, and no other
    /// descriptor. It stays in our process group, so that it may read the terminal.
    ///
    /// Call from a thread that lives as long as the worker should: the kernel ties [`die_with_parent`] to the thread.
    pub fn spawn<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
        socket: Socket,
        stderr: Stdio,
    ) -> Result<Self, SpawnError> {
        close_all_on_exec()?;
        collect_children()?;
        let program = program.as_ref();
        let environment = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            PASSED_ON.contains(&name.as_ref()) || name.starts_with(OWN_PREFIX)
        });
        let mut process = Command::new(program)
            .args(args)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|source| SpawnError::Start {
                program: program.to_string_lossy().into_owned(),
                source,
            })?;
        match open_pidfd(process.id()) {
            Ok(pidfd) => Ok(Self {
                process,
                pidfd,
                death: None,
            }),
            Err(error) => {
                // Not watched, so not wanted. Its end is of no interest any more.
                process.kill().and_then(|()| process.wait()).ok();
                Err(error)
            }
        }
    }

    /// Becomes readable when the worker is dead.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it did. Never blocks.
    pub fn try_wait(&mut self) -> Option<Death> {
        if self.death.is_none() {
            self.death = match self.process.try_wait() {
                Ok(status) => status.map(Death::from),
                Err(_) => Some(Death::Exited(-1)),
            };
        }
        self.death
    }

    /// How it ended; blocks until it does.
    pub fn wait(&mut self) -> Death {
        match self.death {
            Some(death) => death,
            None => {
                let death = self.process.wait().map_or(Death::Exited(-1), Death::from);
                self.death = Some(death);
                death
            }
        }
    }

    /// Kills it with SIGKILL; one that is dead stays so.
    pub fn kill(&mut self) {
        if self.try_wait().is_none() {
            // Fails only for a process that is already reaped, and this one is not.
            self.process.kill().ok();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// Every descriptor but the standard three closes on exec, whoever opened it: a shell may have left us some that do not.
fn close_all_on_exec() -> Result<(), SpawnError> {
    const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;
    // SAFETY: sets a flag of descriptors and closes none.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    Errno::result(done).map(drop).map_err(system("close_range"))
}

/// We may have been started with SIGCHLD ignored; then the kernel would reap our workers and we never learn how they
/// ended.
fn collect_children() -> Result<(), SpawnError> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: installs no handler.
    unsafe { sigaction(Signal::SIGCHLD, &default) }
        .map(drop)
        .map_err(system("sigaction"))
}

fn open_pidfd(pid: u32) -> Result<OwnedFd, SpawnError> {
    // SAFETY: pidfd_open(2) takes two numbers.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = Errno::result(raw).map_err(system("pidfd_open"))?;
    // SAFETY: a new descriptor, which close-on-exec covers by itself; the kernel's numbers fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// Worker: ends this process when the supervisor does, however that ends. First thing in `main`, and again after a change
/// of user id, which makes the kernel forget it.
pub fn die_with_parent() -> Result<(), SpawnError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(system("prctl(PR_SET_PDEATHSIG)"))?;
    // The supervisor may have died before that. Whoever made the socket on descriptor 0 must still be our parent.
    match getsockopt(&io::stdin(), sockopt::PeerCredentials) {
        Ok(peer) if peer.pid() != getppid().as_raw() => Err(SpawnError::Orphan),
        _ => Ok(()),
    }
}

/// Worker: a key press at the terminal (or a closed terminal) reaches the whole process group; what it means is for the
/// supervisor to say. It ends workers by their socket, and by SIGKILL.
pub fn leave_signals_to_supervisor() -> Result<(), SpawnError> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGTSTP,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        // SAFETY: installs no handler.
        unsafe { sigaction(signal, &ignore) }.map_err(system("sigaction"))?;
    }
    Ok(())
}

/// Worker: takes the supervisor's socket from descriptor 0 and puts /dev/null there.
pub fn inherited_socket() -> Result<Socket, SpawnError> {
    let taken = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(HandoverError::Io)?;
    let socket = Socket::from_fd(taken)?;
    let null = File::open("/dev/null").map_err(HandoverError::Io)?;
    dup2_stdin(null).map_err(system("dup2"))?;
    Ok(socket)
}
