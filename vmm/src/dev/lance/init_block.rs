//! The initialization block: what INIT reads from guest memory, in both layouts.
//!
//! Source: AMD publication 19436, "Initialization Block", SSIZE32 = 0 and 1.

use super::csr::Mode;
use super::descriptors::Style;

/// Bytes that hold either layout.
pub const BYTES: usize = 28;

/// One ring: where it is, and the power of two of its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSpec {
    /// Address of the first descriptor.
    pub base: u32,
    /// Descriptors as a power of two, 0..=9.
    pub log2: u8,
}

/// The block's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitBlock {
    /// CSR15.
    pub mode: Mode,
    /// CSR12 to 14.
    pub physical: [u16; 3],
    /// CSR8 to 11.
    pub logical: [u16; 4],
    /// The receive ring.
    pub rx: RingSpec,
    /// The transmit ring.
    pub tx: RingSpec,
}

impl InitBlock {
    /// Bytes of the block in this style.
    pub const fn bytes(style: Style) -> usize {
        match style {
            Style::Lance => 24,
            Style::Wide | Style::Burst => BYTES,
        }
    }

    /// Reads the block out of the bytes read for it; of a shorter one the last do not matter.
    pub fn parse(style: Style, bytes: &[u8; BYTES]) -> Self {
        let (pairs, _) = bytes.as_chunks::<2>();
        let half = |at: usize| pairs.get(at / 2).map_or(0, |&pair| u16::from_le_bytes(pair));
        let word = |at: usize| u32::from(half(at + 2)) << 16 | u32::from(half(at));
        match style {
            Style::Lance => {
                // Three bits of length above a 24-bit address: at most 128 descriptors.
                let ring = |at| RingSpec {
                    base: word(at) & 0x00ff_ffff,
                    log2: (word(at) >> 29) as u8,
                };
                Self {
                    mode: Mode::from_bits_retain(half(0)),
                    physical: [half(2), half(4), half(6)],
                    logical: [half(8), half(10), half(12), half(14)],
                    rx: ring(16),
                    tx: ring(20),
                }
            }
            Style::Wide | Style::Burst => {
                // Lengths above 9 mean 512 too.
                let ring = |at, log2: u16| RingSpec {
                    base: word(at),
                    log2: (log2 & 0xf).min(9) as u8,
                };
                Self {
                    mode: Mode::from_bits_retain(half(0)),
                    physical: [half(4), half(6), half(8)],
                    logical: [half(12), half(14), half(16), half(18)],
                    rx: ring(20, half(2) >> 4),
                    tx: ring(24, half(2) >> 12),
                }
            }
        }
    }
}
