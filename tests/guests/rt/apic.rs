//! The local APIC (Intel SDM volume 3, chapter 11) through its memory window, and the I/O APIC (82093AA data sheet).

use crate::io::{read32, write32, wrmsr};

const LOCAL: u64 = 0xfee0_0000;
const IO: u64 = 0xfec0_0000;

/// Offsets of local APIC registers.
pub const ID: u64 = 0x20;
pub const VERSION: u64 = 0x30;
pub const TPR: u64 = 0x80;
pub const PPR: u64 = 0xa0;
pub const EOI: u64 = 0xb0;
pub const SVR: u64 = 0xf0;
pub const ISR: u64 = 0x100;
pub const IRR: u64 = 0x200;
pub const ESR: u64 = 0x280;
pub const ICR: u64 = 0x300;
pub const LVT_TIMER: u64 = 0x320;
pub const LVT_LINT0: u64 = 0x350;
pub const LVT_LINT1: u64 = 0x360;
pub const INITIAL: u64 = 0x380;
pub const CURRENT: u64 = 0x390;
pub const DIVIDE: u64 = 0x3e0;

/// LVT and redirection entry bits.
pub const MASKED: u32 = 1 << 16;
pub const LEVEL: u32 = 1 << 15;
pub const REMOTE_IRR: u32 = 1 << 14;
const EXTINT: u32 = 7 << 8;
const NMI: u32 = 4 << 8;
/// Spurious vector with the software enable bit.
const ENABLED: u32 = 0x1ff;
/// ICR: to this CPU alone, asserted.
const SELF: u32 = 1 << 18 | 1 << 14;
/// IA32_TSC_DEADLINE.
const TSC_DEADLINE: u32 = 0x6e0;

pub fn get(register: u64) -> u32 {
    read32(LOCAL + register)
}

pub fn set(register: u64, value: u32) {
    write32(LOCAL + register, value);
}

/// On, with the PICs wired through LINT0 as firmware leaves it.
pub fn virtual_wire() {
    set(SVR, ENABLED);
    set(LVT_LINT0, EXTINT);
    set(LVT_LINT1, NMI);
    set(TPR, 0);
}

pub fn eoi() {
    set(EOI, 0);
}

/// Sends this CPU an interrupt.
pub fn send_self(vector: u8) {
    set(ICR, SELF | u32::from(vector));
}

/// A vector's bit in ISR or IRR.
pub fn bit(registers: u64, vector: u8) -> bool {
    get(registers + 0x10 * u64::from(vector / 32)) >> (vector % 32) & 1 == 1
}

pub fn set_deadline(tsc: u64) {
    wrmsr(TSC_DEADLINE, tsc);
}

/// Reads an I/O APIC register.
pub fn io_get(index: u32) -> u32 {
    write32(IO, index);
    read32(IO + 0x10)
}

pub fn io_set(index: u32, value: u32) {
    write32(IO, index);
    write32(IO + 0x10, value);
}

/// Routes a pin to this CPU (APIC ID 0): vector, and flags like [`LEVEL`] and [`MASKED`].
pub fn route(pin: u32, vector: u8, flags: u32) {
    io_set(0x10 + 2 * pin, MASKED);
    io_set(0x11 + 2 * pin, 0);
    io_set(0x10 + 2 * pin, flags | u32::from(vector));
}

/// The low half of a pin's redirection entry.
pub fn entry(pin: u32) -> u32 {
    io_get(0x10 + 2 * pin)
}
