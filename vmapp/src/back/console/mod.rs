//! Consoles of the host: where a serial port's bytes come out and go in.
//!
//! | module | `serial =` | with nobody there |
//! |---|---|---|
//! | [`stdio`] | `"stdio"` on pipes and files, `"file:PATH"` | a closed pipe: output is dropped; end of input: no more input |
//! | [`stdio`] | `"stdio"` on a terminal | the same |
//! | [`pty`] | `"pty"` | output is dropped, as in QEMU |
//! | [`socket`] | `"socket:PATH"` | output is dropped |
//!
//! The I/O worker's console service drives one [`Console`]. A back end never blocks and never buffers: what does not fit
//! now is refused ([`Wrote::Blocked`]), stays in the ring and makes the guest's UART wait. Dropped bytes are counted.

pub mod escape;
pub mod host_fd;
pub mod pty;
pub mod socket;
pub mod stdio;
pub mod terminal;

use crate::back::{Interest, Interests};
use nix::poll::PollFlags;
use shared::msg::handover::Escape;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// How often a back end without a descriptor to wait for (an unplugged pty, a terminal of which we are not the
/// foreground job, a supervisor too busy for a word) is looked at again.
pub const RECHECK: Duration = Duration::from_millis(250);

/// What became of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// So many bytes from the front are out.
    Out(usize),
    /// So many bytes from the front went nowhere: nobody is connected.
    Dropped(usize),
    /// None fits now.
    Blocked,
}

/// What the console service would do if it could; a back end turns it into descriptors to wait for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// There is room for input.
    pub input: bool,
    /// Output was refused and waits.
    pub output: bool,
}

/// One console of the host.
pub trait Console {
    /// Writes from the front of `bytes` (never empty), without blocking.
    fn write(&mut self, bytes: &[u8]) -> Wrote;
    /// Reads what is there for the guest, without blocking; 0 when nothing is.
    fn read(&mut self, into: &mut [u8]) -> usize;
    /// What to wait for, given what is wanted.
    fn interests(&self, wanted: Wanted) -> Interests<'_>;
    /// Something the user typed for the supervisor; each is told once.
    fn asked(&mut self) -> Option<Escape> {
        None
    }
    /// Something the user should know; each is told once.
    fn trouble(&mut self) -> Option<String> {
        None
    }
    /// A client that the supervisor accepted. Where it does not belong it is hung up on.
    fn take_client(&mut self, client: OwnedFd) {
        drop(client);
    }
    /// Whether the client is gone and the supervisor does not know yet: until [`told_gone`](Self::told_gone) there is no
    /// other.
    fn owes_gone(&self) -> bool {
        false
    }
    /// The supervisor was told.
    fn told_gone(&mut self) {}
    /// The supervisor vanished: leave the host as the user had it.
    fn abandoned(&mut self) {}
}

/// `serial = "none"`.
#[derive(Debug)]
pub struct Nowhere;

impl Console for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        Wrote::Dropped(bytes.len())
    }
    fn read(&mut self, _into: &mut [u8]) -> usize {
        0
    }
    fn interests(&self, _wanted: Wanted) -> Interests<'_> {
        Interests::default()
    }
}

/// One descriptor, waited for in both directions as wanted.
fn both_ways(fd: BorrowedFd<'_>, wanted: Wanted) -> Option<Interest<'_>> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, wanted.input);
    events.set(PollFlags::POLLOUT, wanted.output);
    (!events.is_empty()).then_some(Interest { fd, events })
}
