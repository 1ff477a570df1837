//! Single-producer single-consumer rings and the wake-up protocol, over any [`Memory`](crate::mem::Memory).
//!
//! A ring is a power-of-two number of fixed-size slots and two free-running `u32` indices: *head*, written by the
//! producer, and *tail*, written by the consumer. Three positions matter, in this order:
//!
//! ```text
//!   tail ........ cursor ........ head ........ tail + slots
//!   read, not     published,      written, not  free: the producer's credit
//!   given back    not yet read    published
//! ```
//!
//! The gap between *tail* and the consumer's private *cursor* is what makes the I/O worker restartable: a request is
//! given back only when it is completed, so a successor that attaches at *tail* finds every unfinished request again.
//!
//! [`Producer`] and [`Consumer`] keep private copies of their own index and never believe the shared one again after
//! attaching; the peer's index is checked against what is possible on every look ([`RingError`]).
//! [`Attention`] is the other half: who must be told, and whether a doorbell is owed.

mod attention;
mod spsc;

pub use attention::{Attention, Owed, Side};
pub use spsc::{Consumer, Producer, PushError, Reservation, RingError};
