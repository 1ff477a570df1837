//! Back ends: the host hands of the devices, driven by the I/O worker's one loop ([`crate::serve`]).
//!
//! What must never happen here: a call that blocks, a buffer without a bound, or a descriptor of the user's changed for
//! others.

pub mod console;
