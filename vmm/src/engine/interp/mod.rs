//! `interp`: the reference engine. Decodes once into traces of compact operations, then runs those.
//!
//! | module | what it owns |
//! |---|---|
//! | [`form`] | memory operands: one type per way to a linear address |
//! | [`op`] | [`Op`](op::Op): one decoded instruction, 32 bytes, its handler first |
//! | [`compile`] | iced-x86's instruction to an `Op`: which handler, which operands; one file per group of instructions |
//! | [`exec`] | the handlers, one file per group, generic over operand size and operand form |
//! | [`trace`] | straight-line runs of `Op`s by physical address and mode, their links, their end when their bytes change |
//! | [`alone`] | the operations of instructions that run one at a time |
//! | [`thunk`] | x87, MMX, SSE by native code made per distinct instruction |
//! | [`run`] | the loop: trace after trace, events between them, exits |
//! | [`engine`] | the [`Engine`](crate::engine::Engine): kick, alarm, clock, state in and out |
//!
//! A handler is specialised when it is chosen, so that none asks for mode, segment or page kind while it runs: 64-bit
//! and flat 32-bit forms have handlers of their own, and everything else goes through general ones.

pub mod alone;
pub mod compile;
pub mod engine;
pub mod exec;
pub mod form;
pub mod op;
pub mod run;
pub mod thunk;
pub mod trace;
