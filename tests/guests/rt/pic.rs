//! The two 8259A interrupt controllers (Intel 8259A data sheet), at vectors 32 to 47.

use crate::io::{inb, outb};

pub const MASTER: u16 = 0x20;
pub const SLAVE: u16 = 0xa0;
/// Vector of IRQ 0.
pub const BASE: u8 = 32;

/// Initialises both, all lines masked.
pub fn init() {
    start(false);
}

/// Initialises both with or without automatic end of interrupt, all lines masked.
pub fn start(automatic_eoi: bool) {
    let icw4 = if automatic_eoi { 3 } else { 1 };
    for (port, base, cascade) in [(MASTER, BASE, 4), (SLAVE, BASE + 8, 2)] {
        for (offset, value) in [(0, 0x11), (1, base), (1, cascade), (1, icw4), (1, 0xff)] {
            outb(port + offset, value);
        }
    }
}

/// Unmasks exactly these lines (bit n is IRQ n); the cascade opens by itself.
pub fn only(lines: u16) {
    let lines = if lines & 0xff00 != 0 { lines | 4 } else { lines };
    let [low, high] = (!lines).to_le_bytes();
    outb(MASTER + 1, low);
    outb(SLAVE + 1, high);
}

/// Non-specific end of interrupt for a line.
pub fn eoi(irq: u8) {
    if irq >= 8 {
        outb(SLAVE, 0x20);
    }
    outb(MASTER, 0x20);
}

/// Requests: bit n is IRQ n.
pub fn irr() -> u16 {
    ocw3(0x0a)
}

/// Interrupts in service.
pub fn isr() -> u16 {
    ocw3(0x0b)
}

fn ocw3(command: u8) -> u16 {
    outb(MASTER, command);
    outb(SLAVE, command);
    u16::from_le_bytes([inb(MASTER), inb(SLAVE)])
}
