//! The handlers, one file per group of instructions.
//!
//! Each is generic over operand size ([`crate::engine::soft::word::Word`]) and memory form
//! ([`super::form::Form`]); a group's file in [`super::compile`] picks the instance. A handler reads its operands, does
//! what can fault, and only then changes registers and flags.

pub mod alu;
pub mod system;
pub mod vector;
