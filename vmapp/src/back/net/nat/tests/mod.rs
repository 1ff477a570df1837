//! Tests of the network as a guest sees it: frames in, frames out.
//!
//! `services`, `connections` and `hostile` play the host ([`Scripted`](super::host::scripted::Scripted)) and the clock;
//! `streams` has two of our connections talk over a bad network; `real` and `end_to_end` use real sockets of 127.0.0.1,
//! the latter with smoltcp's TCP as the guest.

mod connections;
mod end_to_end;
mod hostile;
mod real;
mod rig;
mod services;
mod streams;
