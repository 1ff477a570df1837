//! Tests of the network as a guest sees it: frames in, frames out.
//!
//! `services` and `connections` play the host ([`Scripted`](super::host::scripted::Scripted)) and the clock; `end_to_end`
//! runs smoltcp's TCP as the guest against real sockets of 127.0.0.1.

mod connections;
mod end_to_end;
mod hostile;
mod rig;
mod services;
mod streams;
