//! What only CPL 0 may do, and what user code may only with leave: control registers, MSRs, descriptor-table registers,
//! port permission, and what the engine asks of the host's silicon.
//!
//! | module | what it owns |
//! |---|---|
//! | `control` | CR0, CR3, CR4, CR8, XCR0, debug registers by MOV |
//! | [`host`] | the host's time stamp counter and random numbers |
//! | `msr` | RDMSR, WRMSR |
//! | `ports` | IOPL and the I/O permission bitmap |
//! | `tables` | LLDT, LTR, VERR, VERW, LAR, LSL |

mod control;
pub mod host;
mod msr;
mod ports;
mod tables;
#[cfg(test)]
mod tests;

pub use msr::Msrs;
pub use tables::Probe;

/// The bits of CR0 that mean anything: PE MP EM TS ET NE WP AM NW CD PG.
pub(super) const CR0_DEFINED: u64 = 0xe005_003f;
/// CR0.ET, always 1.
pub(super) const CR0_ET: u64 = 1 << 4;
