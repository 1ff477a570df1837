//! Guest-physical memory: which pages are RAM, ROM or nothing, and copies in and out.
//!
//! [`GuestMemory`] is shared (`Arc`) by the engine, which reaches RAM by host pointer, and by device front ends, which
//! only copy. Guest RAM is written by the vCPU at any time, so no Rust reference into it ever exists: all access is
//! by opaque copy, read once. The copies are bounds-checked; an address outside RAM is [`MemoryError`], never a panic.
//!
//! A software engine also has it keep [`CodeMap`]: which bytes are decoded code, and who wrote some.
//!
//! `unsafe` here: making the mappings and copying through their pointers.

mod code;
mod map;

pub use code::CodeMap;
pub use map::{GuestMemory, MemoryError, Region, RegionKind};

/// End of conventional memory; the VGA window follows.
pub const LOW_END: u64 = 0xa_0000;
/// End of the VGA window; RAM (option ROM and BIOS area) follows.
pub const VGA_END: u64 = 0xc_0000;
/// Where RAM below 4 GiB ends at the latest; PCI, APICs and firmware follow.
pub const PCI_HOLE: u64 = 0xc000_0000;
/// Where RAM goes on above the hole.
pub const HIGH_BASE: u64 = 1 << 32;
/// I/O APIC registers.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// Local APIC registers at reset.
pub const LAPIC_BASE: u64 = 0xfee0_0000;
