//! General registers, addressed by byte: AH is byte 1 of RAX, so one accessor serves every operand.
#![allow(
    unsafe_code,
    reason = "unchecked register access in the hottest path; RegAt's constructor is the bound"
)]

use super::word::Word;

/// Sixteen registers and a seventeenth that always reads 0, for addresses without base or index.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
pub struct Regs([u64; 17]);

/// Where an operand lies in [`Regs`]: a byte offset. Only made by [`RegAt::new`] and [`RegAt::high`], so that eight
/// bytes from it are always inside, or it is the second byte of one of the first four registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegAt(u8);

impl RegAt {
    /// The register that reads 0.
    pub const ZERO: Self = Self(16 * 8);

    /// Register `number` (masked to 0..=15) from its lowest byte.
    pub const fn new(number: u8) -> Self {
        Self((number & 15) * 8)
    }

    /// AH, CH, DH, BH for `number` 0..=3 (masked). 8-bit operands only.
    pub const fn high(number: u8) -> Self {
        Self((number & 3) * 8 + 1)
    }

    /// Register number.
    pub const fn number(self) -> u8 {
        self.0 / 8
    }
}

impl Regs {
    /// The low part of a register.
    #[inline(always)]
    pub fn get<W: Word>(&self, at: RegAt) -> W {
        // SAFETY: `at.0` is at most 16 * 8, or 1 + 3 * 8 for a high byte, which `W` of at most 8 bytes keeps inside
        // the 136 bytes of the array; every bit pattern is a valid unsigned integer; reading unaligned.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u8>()
                .add(at.0 as usize)
                .cast::<W>()
                .read_unaligned()
        }
    }

    /// Sets a register: 32 bits clear the upper half, 8 and 16 bits leave the rest.
    #[inline(always)]
    pub fn set<W: Word>(&mut self, at: RegAt, value: W) {
        let place = self.0.as_mut_ptr().cast::<u8>();
        if W::BITS == 32 {
            // SAFETY: as in `get`, for 8 bytes.
            unsafe {
                place
                    .add(at.0 as usize)
                    .cast::<u64>()
                    .write_unaligned(value.to_u64())
            }
        } else {
            // SAFETY: as in `get`.
            unsafe { place.add(at.0 as usize).cast::<W>().write_unaligned(value) }
        }
    }

    /// All sixteen, in encoding order.
    pub fn all(&self) -> [u64; 16] {
        let mut all = [0; 16];
        all.copy_from_slice(&self.0[..16]);
        all
    }

    /// Sets all sixteen.
    pub fn set_all(&mut self, all: &[u64; 16]) {
        self.0[..16].copy_from_slice(all);
    }
}
