//! A set of the 256 interrupt vectors: the IRR, ISR and TMR (Intel SDM volume 3, section 11.8.4).

/// Vectors 0..=255, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vectors([u64; 4]);

impl Vectors {
    /// Puts `vector` in or takes it out.
    pub fn set(&mut self, vector: u8, member: bool) {
        let word = &mut self.0[usize::from(vector >> 6)];
        let bit = 1 << (vector & 63);
        *word = if member { *word | bit } else { *word & !bit };
    }

    /// Whether `vector` is in it.
    pub fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0
    }

    /// The highest vector, if any.
    pub fn highest(&self) -> Option<u8> {
        let (at, word) = self.0.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        Some((at as u8) << 6 | (63 - word.leading_zeros() as u8))
    }

    /// The 32-bit register `index` (0..=7) that shows vectors `32 * index` and up.
    pub fn register(&self, index: u8) -> u32 {
        let word = self.0[usize::from(index >> 1 & 3)];
        if index & 1 == 0 {
            word as u32
        } else {
            (word >> 32) as u32
        }
    }
}
