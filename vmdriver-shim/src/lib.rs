//! The boundary: the only code that makes, seals, maps or passes shared memory and descriptors, rings doorbells,
//! watches for a peer's death, spawns the workers and drops their rights.
//!
//! | module | what it owns |
//! |---|---|
//! | [`memory`] | `SharedMemory`: one sealed memfd per VM, made by the supervisor, checked and mapped by the workers |
//! | [`doorbell`] | `Doorbell`: an eventfd, rung for a sleeper, drained by the woken |
//! | [`counters`] | `Counters`: one side's statistics in the shared memory |
//! | [`crossing`] | `Crossing`: one side's whole view: looking, spinning, sleeping, waking, by-cause counts |
//! | [`channel`] | `Channel`: one device's pair of rings, and the synchronous call |
//! | [`nowait`] | a read that never waits |
//! | [`rate`] | whether something happens often enough to be put together |
//! | [`handover`] | `Socket`: records of JSON and descriptors between supervisor and workers |
//! | [`spawn`] | `Child`: a worker with its pidfd, its death reported and never missed |
//! | [`tap`] | the calls that attach a descriptor to a tap |
//! | [`jail`] | rights a worker gives up before the first guest instruction |
//!
//! `unsafe` is allowed in `memory` (mapping) and where a raw descriptor call has no safe wrapper; each block names the
//! condition it relies on. Nothing here panics on what a peer does.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod channel;
mod combine;
pub mod counters;
pub mod crossing;
pub mod doorbell;
pub mod handover;
pub mod jail;
pub mod memory;
pub mod nowait;
pub mod rate;
pub mod spawn;
mod spin;
mod storm;
pub mod tap;
