//! The four operand sizes as one trait, so that a handler is written once.

use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

/// An unsigned operand of 8, 16, 32 or 64 bits.
pub trait Word:
    Copy
    + Eq
    + Ord
    + Debug
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
    + 'static
{
    /// Bits.
    const BITS: u32;
    /// Bytes.
    const BYTES: usize = Self::BITS as usize / 8;
    /// Zero.
    const ZERO: Self;
    /// Top bit alone.
    const TOP: Self;
    /// Low bits of a 64-bit value.
    fn from_u64(value: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
    /// Sign-extended.
    fn to_i64(self) -> i64;
    /// Sum modulo the size.
    fn plus(self, other: Self) -> Self;
    /// Difference modulo the size.
    fn minus(self, other: Self) -> Self;
    /// Top bit.
    #[inline(always)]
    fn sign(self) -> bool {
        self.to_i64() < 0
    }
}

macro_rules! word {
    ($($unsigned:ty, $signed:ty;)*) => {$(
        impl Word for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const ZERO: Self = 0;
            const TOP: Self = 1 << (<$unsigned>::BITS - 1);
            #[inline(always)]
            fn from_u64(value: u64) -> Self { value as $unsigned }
            #[inline(always)]
            fn to_u64(self) -> u64 { self as u64 }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as $signed as i64 }
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
        }
    )*};
}
word! { u8, i8; u16, i16; u32, i32; u64, i64; }
