//! The contract between the two worlds.
//!
//! Everything the vmm (guest side) and vmapp (host side) must agree on lives here: the layout of the shared
//! memory ([`abi`]), the rings and the wake-up protocol over it ([`ring`]), what the messages in the slots mean
//! ([`msg`]) and the machine specification handed over at start ([`spec`]).
//!
//! What must never happen here: a system call, a thread, a clock, or a dependency on either side. `unsafe` lives
//! in [`mem`] alone. Every value read from shared memory is hostile until checked; a wrong one is a typed error.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod abi;
pub mod mem;
pub mod msg;
pub mod ring;
pub mod spec;
