//! Ports, memory-mapped registers, model-specific registers and the interrupt flag.

use core::arch::asm;

macro_rules! port_access {
    ($read:ident, $write:ident, $ty:ty, $register:tt) => {
        /// Reads a port.
        pub fn $read(port: u16) -> $ty {
            let value: $ty;
            // SAFETY: the machine is ours; see the crate's head.
            unsafe { asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nostack)) };
            value
        }
        /// Writes a port.
        pub fn $write(port: u16, value: $ty) {
            // SAFETY: as above.
            unsafe { asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nostack)) };
        }
    };
}
port_access!(inb, outb, u8, "al");
port_access!(inw, outw, u16, "ax");
port_access!(inl, outl, u32, "eax");

/// Reads a 32-bit register.
pub fn read32(at: u64) -> u32 {
    let value: u32;
    // SAFETY: as above. One plain MOV, so that engines need no more of the instruction set for device accesses.
    unsafe { asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) at, options(nostack)) };
    value
}

/// Writes a 32-bit register.
pub fn write32(at: u64, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("mov [{1}], {0:e}", in(reg) value, in(reg) at, options(nostack)) };
}

/// Memory as bytes, for tables the firmware or the loader left.
pub fn bytes(at: u64, len: usize) -> &'static [u8] {
    // SAFETY: identity-mapped memory below 1 GiB that nobody writes meanwhile.
    unsafe { core::slice::from_raw_parts(at as *const u8, len) }
}

/// A little-endian number of up to 8 bytes in a table.
pub fn number(at: u64, len: usize) -> u64 {
    bytes(at, len).iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

pub fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as above.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

pub fn wrmsr(index: u32, value: u64) {
    // SAFETY: as above.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack))
    };
}

pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CR8: the task priority, 0..=15.
pub fn cr8() -> u64 {
    let value: u64;
    // SAFETY: as above.
    unsafe { asm!("mov {}, cr8", out(reg) value, options(nostack)) };
    value
}

pub fn set_cr8(value: u64) {
    // SAFETY: as above.
    unsafe { asm!("mov cr8, {}", in(reg) value, options(nostack)) };
}

pub fn sti() {
    // SAFETY: traps::init has run before any guest code.
    unsafe { asm!("sti", "nop", options(nostack)) };
}

pub fn cli() {
    // SAFETY: always allowed at CPL 0.
    unsafe { asm!("cli", options(nostack)) };
}

/// Halts until an interrupt has been served: interrupts are on exactly while it waits.
pub fn halt() {
    // SAFETY: as for `sti`.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}
