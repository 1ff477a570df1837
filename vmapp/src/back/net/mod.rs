//! What a network card's cable is plugged into.
//!
//! | module | `backend =` |
//! |---|---|
//! | [`nat`] | `"nat"`: a private network whose router translates to sockets of the host |
//!
//! The I/O worker's net service drives one [`Net`] a card. A back end takes or gives one frame a call and never blocks; it
//! holds no frames of its own beyond what its protocol needs (bounded). Frames are whole, without the frame check
//! sequence, at most [`MAX_FRAME`](shared::msg::net::MAX_FRAME) bytes.

pub mod nat;

use super::Interests;

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
    /// A frame of so many bytes, 14 to [`MAX_FRAME`](shared::msg::net::MAX_FRAME), now in the buffer.
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

/// One cable.
pub trait Net {
    /// Takes a frame of the guest.
    fn send(&mut self, frame: &[u8]) -> Sent;
    /// Gives a frame for the guest; `into` holds [`MAX_FRAME`](shared::msg::net::MAX_FRAME) bytes.
    fn receive(&mut self, into: &mut [u8]) -> Received;
    /// Whether the other end of the cable is there. Asked once a turn.
    fn link(&mut self) -> bool;
    /// What to wait for. Within a time: [`receive`](Self::receive) then has something, or timers to run.
    fn interests(&self, wanted: Wanted) -> Interests<'_>;
    /// Something the user should know; each is told once, and their rate is bounded.
    fn trouble(&mut self) -> Option<String> {
        None
    }
}
