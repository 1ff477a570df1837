//! Back ends: the host hands of the devices, driven by the I/O worker's one loop ([`crate::serve`]).
//!
//! What must never happen here: a call that blocks (a disk's own thread excepted), a buffer without a bound, or a descriptor
//! of the user's changed for others.

pub mod console;
pub mod disk;
pub mod net;

use nix::poll::PollFlags;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A descriptor to wait for.
#[derive(Debug)]
pub struct Interest<'a> {
    /// Which.
    pub fd: BorrowedFd<'a>,
    /// `POLLIN`, `POLLOUT` or both.
    pub events: PollFlags,
}

/// What to wait for before looking at a back end again.
#[derive(Debug, Default)]
pub struct Interests<'a> {
    /// Descriptors, each at most once.
    pub fds: [Option<Interest<'a>>; 2],
    /// At the latest after this; zero: do not wait.
    pub within: Option<Duration>,
}
