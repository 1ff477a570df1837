//! The machine: everything the guest can see.
//!
//! Guest memory ([`mem`]), the vCPU engines ([`engine`]), the bus ([`bus`]), the device front ends ([`dev`]), the
//! boot loaders ([`boot`]) and the board and run loop that join them ([`machine`]). Host I/O never happens here: what
//! needs the host crosses the rings to vmapp.
//!
//! Nothing a guest or the peer does may panic this process: guest numbers are checked, peer numbers doubly so.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod boot;
pub mod bus;
pub mod dev;
pub mod engine;
pub mod machine;
pub mod mem;
pub mod time;
