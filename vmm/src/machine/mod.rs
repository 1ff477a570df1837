//! The machine: the board (what is wired to what), the run loop, and the life cycle.
//!
//! ```text
//!   start ──▶ hand-over received ──▶ memory, engine ──▶ rights dropped ──▶ boot files loaded ──▶ Started ──▶ run loop
//!                    │ any error                                                                 │
//!                    ▼                                                                           ▼
//!              Ended(Failed)  ◀──────────── vCPU failed ────────────────  power off, reset, triple fault, debug exit,
//!                                                                         stopped by the supervisor or its death
//! ```
//!
//! One thread, the vCPU's, owns engine and devices; nothing here takes a lock. A second thread (`ear`) hears what
//! can arrive while the vCPU thread is inside the engine and cannot look: the kick doorbell and the supervisor. It
//! sets a flag and kicks; it touches no device.

mod board;
mod ear;
mod forward;
mod run_loop;
mod share;
mod start;
mod voice;

pub use board::{Board, BoardConfig, BoardError};
pub use ear::{Ear, Orders};
pub use run_loop::Machine;
pub use start::{StartError, main};
