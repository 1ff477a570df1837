//! A doorbell: an eventfd one side rings to wake the other.
//!
//! Rung by [`crate::crossing`] for a peer that announced it sleeps, by the supervisor never. It carries no data: what
//! there is to do stands in the shared memory, so a ring too many costs a look and a ring too few is the bug the sleep
//! protocol excludes.
//!
//! Neither ringing nor draining may block, and the flag that says so, `O_NONBLOCK`, belongs to the open file that both
//! workers hold. Against a peer that clears it:
//!
//! - draining does not depend on it: each read asks not to wait by itself ([`nowait`]);
//! - ringing has no such call for an eventfd (`pwritev2` refuses the flag, Linux 6.18), and a look before it (`poll`) would
//!   cost every ring a system call and lose the race to a peer that means it. So a peer that clears the flag *and* fills
//!   the counter can hold us in a ring. Both workers' jails refuse the calls that clear it (`F_SETFL`, `FIONBIO`). On a
//!   host without seccomp it is what such a peer can always have: a stall. The supervisor ends it: a worker without
//!   heartbeat is killed, and so is a vmm that does not obey a stop.

use crate::nowait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// What is wrong with a doorbell.
#[derive(Debug, Error)]
pub enum DoorbellError {
    /// The kernel gave none.
    #[error("cannot make a doorbell: {0}")]
    Create(#[source] io::Error),
    /// The descriptor handed over is something else.
    #[error("the descriptor handed over as a doorbell is {0:?}, not an eventfd")]
    NotEventFd(String),
    /// It could block us.
    #[error("the doorbell handed over is a blocking descriptor")]
    Blocking,
    /// It could not be looked at, or the kernel refused to ring it.
    #[error("doorbell: {0}")]
    Io(#[source] io::Error),
}

/// One end of a doorbell; both ends are alike.
#[derive(Debug)]
pub struct Doorbell {
    fd: OwnedFd,
}

impl Doorbell {
    /// A new doorbell, not rung.
    pub fn new() -> Result<Self, DoorbellError> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| DoorbellError::Create(e.into()))?;
        Ok(Self { fd: event.into() })
    }

    /// Accepts a descriptor from outside: an eventfd that does not block.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, DoorbellError> {
        let link =
            std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(DoorbellError::Io)?;
        if link.as_os_str() != "anon_inode:[eventfd]" {
            return Err(DoorbellError::NotEventFd(link.to_string_lossy().into_owned()));
        }
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(|e| DoorbellError::Io(e.into()))?;
        if !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK) {
            return Err(DoorbellError::Blocking);
        }
        Ok(Self { fd })
    }

    /// Rings. A bell so full of rings that it takes no more is rung already: that is success.
    pub fn ring(&self) -> Result<(), DoorbellError> {
        match unistd::write(&self.fd, &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(e) => Err(DoorbellError::Io(e.into())),
        }
    }

    /// Silences the bell. Returns whether it had been rung.
    pub fn drain(&self) -> bool {
        let mut count = [0; size_of::<u64>()];
        nowait::read(self.fd.as_fd(), None, &mut count).is_ok_and(|read| read > 0)
    }

    /// Another handle of the same bell.
    pub fn try_clone(&self) -> Result<Self, DoorbellError> {
        let fd = self.fd.try_clone().map_err(DoorbellError::Io)?;
        Ok(Self { fd })
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
