//! The 8254 timer (Intel 8254 data sheet) and port 61h, which gates its counter 2.

use crate::io::{inb, outb};

/// Input clock in Hz.
pub const HZ: u64 = 1_193_182;
const CONTROL: u16 = 0x43;
const PORT_61: u16 = 0x61;

/// Sets a counter's mode and its count (0 is 65536), low byte then high.
pub fn start(counter: u8, mode: u8, count: u16) {
    outb(CONTROL, counter << 6 | 0x30 | mode << 1);
    let port = 0x40 + u16::from(counter);
    let [low, high] = count.to_le_bytes();
    outb(port, low);
    outb(port, high);
}

/// Stops a counter's output from changing: mode 0 without a count.
pub fn stop(counter: u8) {
    outb(CONTROL, counter << 6 | 0x30);
}

/// Latches and reads a count.
pub fn count(counter: u8) -> u16 {
    outb(CONTROL, counter << 6);
    read(counter)
}

/// Reads a count's two bytes.
pub fn read(counter: u8) -> u16 {
    let port = 0x40 + u16::from(counter);
    u16::from_le_bytes([inb(port), inb(port)])
}

/// Status by the read-back command: bit 7 OUT, bit 6 null count, bits 5-4 access, bits 3-1 mode.
pub fn status(counter: u8) -> u8 {
    outb(CONTROL, 0xe0 | 2 << counter);
    inb(0x40 + u16::from(counter))
}

/// Opens or closes counter 2's gate; the speaker stays off.
pub fn gate2(open: bool) {
    outb(PORT_61, inb(PORT_61) & 0x0c | u8::from(open));
}

/// Counter 2's output.
pub fn out2() -> bool {
    inb(PORT_61) & 0x20 != 0
}
