//! The 32 offsets behind both base address registers: which register an access means. Pure.
//!
//! The window has two shapes. After H_RESET it is word I/O (WIO); a 32-bit write to offset 0x10 makes it doubleword I/O
//! (DWIO) until the next H_RESET. An access that fits the other shape means nothing, so that a driver that tries both,
//! as all do, sees which one it is.
//!
//! Source: AMD publication 19436, "I/O Resources", tables of both shapes.

use crate::bus::Width;

/// Offsets in the window.
pub const BYTES: u16 = 32;
/// Bytes of the address PROM, at the beginning of the window.
pub const PROM_BYTES: usize = 16;

/// The first of the registers, in both shapes RDP.
const RDP: u16 = 0x10;

/// What an access reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The address PROM, from this byte on.
    Prom(u8),
    /// Register data port: the CSR that RAP names.
    Rdp,
    /// Register address port.
    Rap,
    /// Reading it is S_RESET.
    Reset,
    /// Bus configuration data port: the BCR that RAP names.
    Bdp,
}

/// The registers in the order of their offsets.
const REGISTERS: [Target; 4] = [Target::Rdp, Target::Rap, Target::Reset, Target::Bdp];

/// What an access of `width` at `offset` reaches. The PROM is read in any width: drivers read bytes in both shapes.
pub fn target(offset: u16, width: Width, dwio: bool) -> Option<Target> {
    if offset < RDP {
        let fits = offset + u16::from(width.bytes()) <= RDP && width != Width::Qword;
        return fits.then_some(Target::Prom(offset as u8));
    }
    let shape = if dwio { Width::Dword } else { Width::Word };
    let step = u16::from(shape.bytes());
    let past = offset - RDP;
    if width != shape || !past.is_multiple_of(step) {
        return None;
    }
    REGISTERS.get(usize::from(past / step)).copied()
}

/// Whether a write turns the window into DWIO.
pub fn selects_dwio(offset: u16, width: Width) -> bool {
    offset == RDP && width == Width::Dword
}

/// The PROM of a card with this address: "WW" at the end, a checksum before it.
pub fn prom(mac: [u8; 6]) -> [u8; PROM_BYTES] {
    let mut prom = [0; PROM_BYTES];
    prom[..6].copy_from_slice(&mac);
    prom[9] = 0x11;
    prom[14] = 0x57;
    prom[15] = 0x57;
    let sum: u16 = prom.iter().map(|&byte| u16::from(byte)).sum();
    prom[12..14].copy_from_slice(&sum.to_le_bytes());
    prom
}
