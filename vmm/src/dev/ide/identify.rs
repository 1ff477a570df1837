//! What IDENTIFY DEVICE answers: 256 words, as a table of what is not zero.
//!
//! Source: ATA/ATAPI-6, IDENTIFY DEVICE, by word number.

use super::disk::{Disk, DmaMode, MOST_LBA28};
use super::geometry::Geometry;
use shared::msg::disk::SECTOR;

const MODEL: &str = "WORLDSWITCH DISK";
const FIRMWARE: &str = "1.0";

/// Nanoseconds of a multiword DMA or PIO cycle at the fastest mode (words 65 to 68).
const CYCLE_NS: u16 = 120;

/// Words 82 and 85: NOP, look-ahead, write cache, power management.
const NOP: u16 = 1 << 14;
const LOOK_AHEAD: u16 = 1 << 6;
const WRITE_CACHE: u16 = 1 << 5;
const POWER_MANAGEMENT: u16 = 1 << 3;
/// Words 83 and 86: FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses.
const FLUSH_AND_48_BIT: u16 = 1 << 13 | 1 << 12 | 1 << 10;
/// "This word is valid", where bit 15 is zero and bit 14 one.
const VALID: u16 = 1 << 14;

/// The data of the command. `second`: it is device 1 of its cable.
pub(super) fn identity(disk: &Disk, second: bool) -> [u8; SECTOR] {
    let mut words = [0u16; SECTOR / 2];
    let mut put = |at: usize, values: &[u16]| {
        for (word, value) in words.iter_mut().skip(at).zip(values) {
            *word = *value;
        }
    };
    let settings = &disk.settings;
    let native = Geometry::native(disk.sectors);
    let current = settings.geometry;
    // Fixed; neither a packet device nor removable.
    put(0, &[0x0040, native.cylinders]);
    // No SET FEATURES needed to spin up.
    put(2, &[0xc837, native.heads.into(), 0, 0, native.per_track.into()]);
    put(10, &text::<10>(&disk.serial));
    put(23, &text::<4>(FIRMWARE));
    put(27, &text::<20>(MODEL));
    put(47, &[0x8000 | u16::from(disk.most_multiple())]);
    // Standby timer as the standard has it; IORDY, can be turned off; LBA; DMA.
    put(49, &[0x2f00, VALID]);
    // Words 54 to 58, 64 to 70 and 88 mean something.
    put(53, &[0x0007]);
    put(
        54,
        &[current.cylinders, current.heads.into(), current.per_track.into()],
    );
    put(57, &halves(current.capacity()));
    put(
        59,
        &[match settings.multiple {
            0 => 0,
            sectors => 0x0100 | u16::from(sectors),
        }],
    );
    put(60, &halves(disk.sectors.min(MOST_LBA28) as u32));
    let (multiword, ultra) = match settings.dma {
        Some(DmaMode::Multiword(mode)) => (1 << (8 + mode), 0),
        Some(DmaMode::Ultra(mode)) => (0, 1 << (8 + mode)),
        None => (0, 0),
    };
    put(63, &[0x0007 | multiword]);
    // PIO modes 3 and 4.
    put(64, &[0x0003, CYCLE_NS, CYCLE_NS, CYCLE_NS, CYCLE_NS]);
    // ATA-3 to ATA/ATAPI-6; no revision told.
    put(80, &[0x0078]);
    put(82, &[NOP | LOOK_AHEAD | WRITE_CACHE | POWER_MANAGEMENT]);
    put(83, &[VALID | FLUSH_AND_48_BIT, VALID]);
    let cache = if settings.write_cache { WRITE_CACHE } else { 0 };
    let ahead = if settings.look_ahead { LOOK_AHEAD } else { 0 };
    put(
        85,
        &[NOP | ahead | cache | POWER_MANAGEMENT, FLUSH_AND_48_BIT, VALID],
    );
    put(88, &[0x003f | ultra]);
    // An 80-conductor cable; each device's number by jumper, diagnostics passed.
    put(93, &[if second { 0x6b00 } else { 0x600b }]);
    let [a, b, c, d] = [0, 16, 32, 48].map(|shift| (disk.sectors >> shift) as u16);
    put(100, &[a, b, c, d]);
    signed(words)
}

fn halves(number: u32) -> [u16; 2] {
    [number as u16, (number >> 16) as u16]
}

/// Text of `WORDS` words, padded with spaces, the first character in the high byte. What is not printable ASCII becomes a
/// space.
fn text<const WORDS: usize>(text: &str) -> [u16; WORDS] {
    let mut bytes = text.bytes().map(|byte| match byte {
        0x20..0x7f => byte,
        _ => b' ',
    });
    std::array::from_fn(|_| {
        let mut next = || bytes.next().unwrap_or(b' ');
        u16::from_be_bytes([next(), next()])
    })
}

/// The words as bytes, with the integrity word 255: all bytes add up to zero.
fn signed(words: [u16; SECTOR / 2]) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    for (pair, word) in bytes.chunks_exact_mut(2).zip(words) {
        pair.copy_from_slice(&word.to_le_bytes());
    }
    bytes[SECTOR - 2] = 0xa5;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[SECTOR - 1] = sum.wrapping_neg();
    bytes
}
