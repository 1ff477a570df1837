//! The four operand sizes as one trait, so that a handler is written once.

/// An unsigned operand of 8, 16, 32 or 64 bits.
pub trait Word: Copy + Eq + Ord + std::fmt::Debug + 'static {
    /// Bits.
    const BITS: u32;
    /// Bytes.
    const BYTES: usize = Self::BITS as usize / 8;
    /// Low bits of a 64-bit value.
    fn from_u64(value: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
    /// Sign-extended.
    fn to_i64(self) -> i64;
}

macro_rules! word {
    ($($unsigned:ty, $signed:ty;)*) => {$(
        impl Word for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            #[inline(always)]
            fn from_u64(value: u64) -> Self { value as $unsigned }
            #[inline(always)]
            fn to_u64(self) -> u64 { self as u64 }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as $signed as i64 }
        }
    )*};
}
word! { u8, i8; u16, i16; u32, i32; u64, i64; }
