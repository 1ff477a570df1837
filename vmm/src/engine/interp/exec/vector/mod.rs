//! x87, MMX and SSE: the common moves by themselves ([`moves`]), state in and out ([`state`], [`environment`]),
//! everything else through native thunks ([`thunked`], [`x87`]).
//!
//! Handlers are generic over `CHECK`: whether CR0 and CR4 may forbid the instruction. A trace compiled while
//! [`Mode::FPU_TRAPS`](crate::engine::soft::mode::Mode::FPU_TRAPS) is set gets the checking ones; the others are never
//! asked. Rare instructions always check.

pub mod environment;
pub mod gate;
pub mod moves;
pub mod state;
pub mod thunked;
pub mod x87;

#[cfg(test)]
mod tests;
