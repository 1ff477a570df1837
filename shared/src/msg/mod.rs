//! What crosses, one file per device kind, and the start-up hand-over.
//!
//! A slot's `kind` is an ABI number; each file turns it into an enum with `TryFrom`, and an unknown one is
//! [`UnknownKind`], never a guess.

pub mod console;
pub mod control;
pub mod disk;
pub mod fault;
pub mod handover;
pub mod net;

use thiserror::Error;

/// A slot of a kind its channel does not have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("message kind {kind} does not exist on the {channel} channel")]
pub struct UnknownKind {
    /// The number found.
    pub kind: u16,
    /// Which channel.
    pub channel: &'static str,
}
