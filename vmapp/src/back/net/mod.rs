//! What a network card's cable is plugged into.
//!
//! | module | what it is |
//! |---|---|
//! | [`tap`] | `backend = "tap"`: an interface of the host |
//! | [`nat`] | `backend = "nat"`: a private network whose router translates to sockets of the host |
//! | [`none`] | `backend = "none"`: the cable is out |
//! | [`pcap`] | `pcap = FILE`: any of these, with every frame captured |
//! | [`burst`] | frames that leave together |
//! | [`segments`] | frames that arrive together |
//! | [`offload`] | what a tap has in front of each frame for both |
//!
//! The I/O worker's net service drives one [`Net`] a card. A back end takes or gives one frame a call and never
//! blocks; it holds no frames of its own beyond what its protocol needs (bounded), and of a tap what one read gave. Frames are
//! whole, without the frame check sequence, at most [`MAX_FRAME`] bytes.

pub mod burst;
pub mod nat;
pub mod none;
pub mod offload;
pub mod pcap;
pub mod segments;
pub mod tap;

use super::Interests;
use burst::Burst;
use shared::abi::counters::AppCounter;
use shared::msg::handover::Joins;
use shared::msg::net::MAX_FRAME;
use std::ops::RangeInclusive;
use vmdriver_shim::counters::Counters;

/// Bytes a frame may have: from a bare Ethernet header on.
pub const FRAME_BYTES: RangeInclusive<usize> = 14..=MAX_FRAME;

/// What became of a frame from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Out, or answered here.
    Out,
    /// Lost: nobody there, no room on the host, or nothing a network would carry. Counted by the caller.
    Dropped,
}

/// What there is for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame of so many bytes, 14 to [`MAX_FRAME`], now in the buffer.
    Frame(usize),
    /// One that cannot be given to a guest (too long, too short) was there and is gone.
    Dropped,
    /// None now.
    Nothing,
}

/// What the net service would do if it could.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// There is receive credit.
    pub frames: bool,
}

/// Where frames for the guest wait until they are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// In the back end, which makes them itself: asked every turn, and not without receive credit, so that none is
    /// lost.
    Here,
    /// In a queue of the host, which anybody may fill: asked when a descriptor is ready, and without receive credit
    /// emptied all the same, so that the guest never gets stale frames.
    OnHost,
}

/// One cable.
pub trait Net {
    /// Takes a frame of the guest.
    fn send(&mut self, frame: &[u8]) -> Sent;
    /// Which frames it takes together.
    fn joins(&self) -> Joins {
        Joins::default()
    }
    /// Takes frames of the guest that leave together, all or none: joined as [`joins`](Self::joins) says, or one alone.
    fn send_burst(&mut self, burst: &Burst<'_>) -> Sent {
        match burst.frames() {
            [frame] => self.send(frame),
            _ => Sent::Dropped,
        }
    }
    /// Gives a frame for the guest; `into` holds [`MAX_FRAME`] bytes.
    fn receive(&mut self, into: &mut [u8]) -> Received;
    /// Whether the other end of the cable is there. Asked once a turn.
    fn link(&mut self) -> bool;
    /// What to wait for. Within a time: [`receive`](Self::receive) then has something, or timers to run.
    fn interests(&self, wanted: Wanted) -> Interests<'_>;
    /// Where frames wait.
    fn waits(&self) -> Waits {
        Waits::Here
    }
    /// The turn is over: what was put off is done now.
    fn end_turn(&mut self, _counters: &Counters<AppCounter>) {}
    /// Something the user should know; each is told once, and their rate is bounded.
    fn trouble(&mut self) -> Option<String> {
        None
    }
}

impl<N: Net + ?Sized> Net for Box<N> {
    fn send(&mut self, frame: &[u8]) -> Sent {
        (**self).send(frame)
    }
    fn joins(&self) -> Joins {
        (**self).joins()
    }
    fn send_burst(&mut self, burst: &Burst<'_>) -> Sent {
        (**self).send_burst(burst)
    }
    fn receive(&mut self, into: &mut [u8]) -> Received {
        (**self).receive(into)
    }
    fn link(&mut self) -> bool {
        (**self).link()
    }
    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        (**self).interests(wanted)
    }
    fn waits(&self) -> Waits {
        (**self).waits()
    }
    fn end_turn(&mut self, counters: &Counters<AppCounter>) {
        (**self).end_turn(counters);
    }
    fn trouble(&mut self) -> Option<String> {
        (**self).trouble()
    }
}
