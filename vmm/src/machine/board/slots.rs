//! Where PCI devices sit on bus 0, and where their windows are when the guest starts: as firmware would have left them.
//!
//! A guest may move every window; Linux keeps those it finds and that do not clash. Decoding is on and bus mastering off:
//! a firmware that assigned a window switches it on, and there are drivers that count on it (iPXE's pcnet32 looks for
//! its chip first and writes the command register then).

use crate::dev::chipset::pci::DevFn;
use shared::spec::MAX_NETS;

/// Configuration offsets of base address registers (PCI 2.1, section 6.2.5).
pub const BAR0: u8 = 0x10;
/// The second.
pub const BAR1: u8 = 0x14;
/// The fifth.
pub const BAR4: u8 = 0x20;
const _: () = assert!(crate::dev::ide::Ide::BAR == 4);

/// Ports of the IDE function's bus master, with the bit that says ports.
pub const IDE_BUS_MASTER: u32 = 0xc000 | 1;

/// Device of the first network card: 3, where users of QEMU expect it.
const FIRST_LANCE: u8 = 3;
const LANCE_PORTS: u32 = 0xc100;
const LANCE_MEMORY: u32 = 0xfebf_0000;

/// Place of network card `n`.
pub const fn lance(n: u8) -> DevFn {
    DevFn::new(FIRST_LANCE + n, 0)
}

/// Which network card a place is.
pub fn lance_of(devfn: DevFn) -> Option<u8> {
    let n = devfn.device().checked_sub(FIRST_LANCE)?;
    (devfn.function() == 0 && usize::from(n) < MAX_NETS).then_some(n)
}

/// First base address register of card `n`: 32 ports.
pub fn lance_ports(n: u8) -> u32 {
    (LANCE_PORTS + 0x20 * u32::from(n)) | 1
}

/// Second base address register of card `n`: 32 bytes of memory, a page apart.
pub fn lance_memory(n: u8) -> u32 {
    LANCE_MEMORY + 0x1000 * u32::from(n)
}
