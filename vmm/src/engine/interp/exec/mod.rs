//! The handlers, one file per group of instructions.
//!
//! Each is generic over operand size ([`crate::engine::soft::word::Word`]) and memory form
//! ([`super::form::Form`]); a group's file in [`super::compile`] picks the instance. A handler reads its operands, does
//! what can fault, and only then changes registers and flags.

pub mod alu;
pub mod atomic;
pub mod bcd;
pub mod bit;
pub mod branch;
pub mod data;
pub mod far;
pub mod flag;
pub mod misc;
pub mod muldiv;
pub mod port;
pub mod segment;
pub mod shift;
pub mod stack;
pub mod string;
pub mod system;
pub mod unary;
pub mod vector;

#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod tests;
