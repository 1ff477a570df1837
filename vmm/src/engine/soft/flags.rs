//! Arithmetic flags, computed when somebody looks.
//!
//! An operation stores its result, sign-extended to 64 bits, and one word from which carry, overflow and adjust follow:
//!
//! | flag | from |
//! |---|---|
//! | ZF | `result == 0` |
//! | SF | sign of `result`, xor bit 0 of `aux` |
//! | PF | even parity of `result` bits 0-7 xor `aux` bits 8-15 |
//! | CF | `aux` bit 63 |
//! | OF | `aux` bit 63 xor bit 62 |
//! | AF | `aux` bit 3 |
//!
//! For an addition `aux` is the vector of carries out of each bit, moved up so that the carry out of the operand's
//! top bit stands at 63: both CF and OF fall out of it without a branch. Bits 0 and 8-15 exist so that any
//! combination can be loaded (POPF, SAHF), ZF together with SF included.

use super::word::Word;

/// CF in RFLAGS.
pub const CF: u64 = 1;
/// PF.
pub const PF: u64 = 1 << 2;
/// AF.
pub const AF: u64 = 1 << 4;
/// ZF.
pub const ZF: u64 = 1 << 6;
/// SF.
pub const SF: u64 = 1 << 7;
/// Trap flag.
pub const TF: u64 = 1 << 8;
/// Interrupt enable.
pub const IF: u64 = 1 << 9;
/// Direction.
pub const DF: u64 = 1 << 10;
/// OF.
pub const OF: u64 = 1 << 11;
/// I/O privilege level.
pub const IOPL: u64 = 3 << 12;
/// Nested task.
pub const NT: u64 = 1 << 14;
/// Resume.
pub const RF: u64 = 1 << 16;
/// Virtual 8086 mode.
pub const VM: u64 = 1 << 17;
/// Alignment check, and SMAP's override.
pub const AC: u64 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u64 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u64 = 1 << 20;
/// CPUID there.
pub const ID: u64 = 1 << 21;
/// The six this module computes.
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

const AUX_CF: u64 = 1 << 63;
const AUX_AF: u64 = 1 << 3;

/// RFLAGS: six lazy flags, and the others as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    result: i64,
    aux: u64,
    /// RFLAGS without the arithmetic flags; bit 1 is set.
    pub others: u64,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            result: 1,
            aux: 0,
            others: 2,
        }
    }
}

impl Flags {
    /// After an operation whose carries out of each bit are `carries` (in the operand's own bit positions).
    #[inline(always)]
    pub fn set_carries<W: Word>(&mut self, result: W, carries: W) {
        let carries = carries.to_u64();
        self.result = result.to_i64();
        self.aux = (carries & AUX_AF) | ((carries << (64 - W::BITS)) & (3 << 62));
    }

    /// After AND, OR, XOR, TEST: carry, overflow and adjust are clear.
    #[inline(always)]
    pub fn set_logic<W: Word>(&mut self, result: W) {
        self.result = result.to_i64();
        self.aux = 0;
    }

    /// After an operation that leaves CF alone (INC, DEC): `carries` as in [`set_carries`](Self::set_carries).
    #[inline(always)]
    pub fn set_keeping_cf<W: Word>(&mut self, result: W, carries: W) {
        let kept = self.aux & AUX_CF;
        self.set_carries(result, carries);
        // Bit 62 is OF xor CF: changing CF alone must change both.
        let change = (self.aux & AUX_CF) ^ kept;
        self.aux ^= change | change >> 1;
    }

    /// After a shift, which computes carry and overflow by itself. AF, which the manuals leave undefined, is set: as
    /// AMD's Zen does.
    #[inline(always)]
    pub fn set_shifted<W: Word>(&mut self, result: W, cf: bool, of: bool) {
        self.result = result.to_i64();
        self.aux = AUX_AF | u64::from(cf) << 63 | u64::from(cf != of) << 62;
    }

    /// Changes carry and overflow only (rotates, multiplications).
    #[inline(always)]
    pub fn set_cf_of(&mut self, cf: bool, of: bool) {
        self.aux = (self.aux & !(3 << 62)) | u64::from(cf) << 63 | u64::from(cf != of) << 62;
    }

    /// Changes carry only.
    #[inline(always)]
    pub fn set_cf(&mut self, cf: bool) {
        let of = self.of();
        self.set_cf_of(cf, of);
    }

    /// Changes ZF only (CMPXCHG8B, VERR and friends).
    pub fn set_zf(&mut self, zf: bool) {
        let bits = (self.arithmetic() & !ZF) | if zf { ZF } else { 0 };
        self.set_arithmetic(bits);
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        self.aux & AUX_CF != 0
    }
    /// Zero.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.result == 0
    }
    /// Sign.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        (self.result < 0) != (self.aux & 1 != 0)
    }
    /// Overflow.
    #[inline(always)]
    pub fn of(&self) -> bool {
        self.aux.wrapping_add(1 << 62) & AUX_CF != 0
    }
    /// Parity of the low byte.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        ((self.result as u8) ^ (self.aux >> 8) as u8)
            .count_ones()
            .is_multiple_of(2)
    }
    /// Adjust.
    #[inline(always)]
    pub fn af(&self) -> bool {
        self.aux & AUX_AF != 0
    }

    /// The six arithmetic flags in their RFLAGS places.
    pub fn arithmetic(&self) -> u64 {
        let bit = |on: bool, flag: u64| if on { flag } else { 0 };
        bit(self.cf(), CF)
            | bit(self.pf(), PF)
            | bit(self.af(), AF)
            | bit(self.zf(), ZF)
            | bit(self.sf(), SF)
            | bit(self.of(), OF)
    }

    /// Sets the six arithmetic flags from their RFLAGS places.
    pub fn set_arithmetic(&mut self, bits: u64) {
        let has = |flag: u64| bits & flag != 0;
        self.result = i64::from(!has(ZF));
        let parity_now = (self.result as u8).count_ones().is_multiple_of(2);
        self.aux = u64::from(has(SF))
            | if has(AF) { AUX_AF } else { 0 }
            | u64::from(parity_now != has(PF)) << 8
            | u64::from(has(CF)) << 63
            | u64::from(has(CF) != has(OF)) << 62;
    }

    /// RFLAGS whole.
    pub fn rflags(&self) -> u64 {
        self.others | self.arithmetic()
    }

    /// Sets RFLAGS whole. Reserved bits are the caller's business, bit 1 excepted.
    pub fn set_rflags(&mut self, rflags: u64) {
        self.others = (rflags & !ARITHMETIC) | 2;
        self.set_arithmetic(rflags);
    }

    /// Condition code 0..=15 as encoded in Jcc, SETcc and CMOVcc (Intel SDM volume 2, appendix B, table B-10).
    #[inline(always)]
    pub fn condition(&self, code: u8) -> bool {
        let holds = match (code >> 1) & 7 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds != (code & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_can_be_loaded_and_read_back() {
        for bits in 0..64u64 {
            let spread = [CF, PF, AF, ZF, SF, OF]
                .iter()
                .enumerate()
                .filter(|(i, _)| bits >> i & 1 != 0)
                .fold(0, |all, (_, flag)| all | flag);
            let mut flags = Flags::default();
            flags.set_rflags(spread | 2 | IF);
            assert_eq!(flags.rflags(), spread | 2 | IF);
            flags.set_cf(!flags.cf());
            assert_eq!(flags.rflags(), (spread ^ CF) | 2 | IF);
        }
    }

    #[test]
    fn byte_additions_agree_with_the_definition_of_each_flag() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let result = a.wrapping_add(b);
                let mut flags = Flags::default();
                flags.set_carries(result, (a & b) | ((a | b) & !result));
                assert_eq!(flags.cf(), a.checked_add(b).is_none());
                assert_eq!(flags.of(), (a as i8).checked_add(b as i8).is_none());
                assert_eq!(flags.af(), (a & 15) + (b & 15) > 15);
                assert_eq!((flags.zf(), flags.sf()), (result == 0, result > 127));
                assert_eq!(flags.pf(), result.count_ones() % 2 == 0);
                let of = flags.of();
                for cf in [false, true] {
                    flags.set_cf(cf);
                    let mut inc = flags;
                    inc.set_keeping_cf(result, (a & b) | ((a | b) & !result));
                    assert_eq!((inc.cf(), inc.of()), (cf, of));
                }
            }
        }
    }
}
