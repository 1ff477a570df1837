//! The supervisor's signals as a descriptor: nothing ever runs in a handler.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// End, by the signal of this name.
    End(&'static str),
    /// Stop: the user suspends the job.
    Suspend,
    /// Go on: the user took the job up again, perhaps in the foreground.
    Resume,
}

/// Signals that ask us to end.
const END: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The signals, blocked and queued.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Takes them over from now on. Call while the process has one thread.
    pub fn take() -> nix::Result<Self> {
        let mut queued = SigSet::empty();
        for signal in END.into_iter().chain([Signal::SIGTSTP, Signal::SIGCONT]) {
            queued.add(signal);
        }
        let mut blocked = queued;
        // Setting the terminal's modes from the background fails instead of stopping us.
        blocked.add(Signal::SIGTTIN);
        blocked.add(Signal::SIGTTOU);
        blocked.thread_block()?;
        let fd = SignalFd::with_flags(&queued, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd })
    }

    /// The next one that came, if any.
    pub fn take_next(&mut self) -> Option<Asked> {
        let info = self.fd.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo)
            .ok()
            .and_then(|n| Signal::try_from(n).ok())?;
        Some(match signal {
            Signal::SIGTSTP => Asked::Suspend,
            Signal::SIGCONT => Asked::Resume,
            other => Asked::End(other.as_str()),
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
