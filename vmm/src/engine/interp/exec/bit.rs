//! BT, BTS, BTR, BTC, BSF, BSR, POPCNT, CRC32.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::{Flags, ZF};
use crate::engine::soft::word::Word;

/// What becomes of the bit that was tested into CF.
pub trait Change: 'static {
    /// Whether anything is written.
    const WRITES: bool = true;
    /// The word with the bit of `mask` changed.
    fn change<W: Word>(a: W, mask: W) -> W;
}

/// BT: stays.
pub struct Keep;
/// BTS: set.
pub struct Set;
/// BTR: cleared.
pub struct Clear;
/// BTC: inverted.
pub struct Invert;

impl Change for Keep {
    const WRITES: bool = false;
    #[inline(always)]
    fn change<W: Word>(a: W, _: W) -> W {
        a
    }
}
impl Change for Set {
    #[inline(always)]
    fn change<W: Word>(a: W, mask: W) -> W {
        a | mask
    }
}
impl Change for Clear {
    #[inline(always)]
    fn change<W: Word>(a: W, mask: W) -> W {
        a & !mask
    }
}
impl Change for Invert {
    #[inline(always)]
    fn change<W: Word>(a: W, mask: W) -> W {
        a ^ mask
    }
}

#[inline(always)]
fn mask<W: Word>(bit: u64) -> W {
    W::from_u64(1) << (bit as u32 & (W::BITS - 1))
}

#[inline(always)]
fn in_register<O: Change, W: Word>(cpu: &mut Cpu, op: &Op, bit: u64) -> Step {
    let a = cpu.regs.get::<W>(op.reg);
    let mask = mask::<W>(bit);
    cpu.flags.set_cf(a & mask != W::ZERO);
    if O::WRITES {
        cpu.regs.set(op.reg, O::change(a, mask));
    }
    Ok(())
}

/// Bit of a register, number in a register.
pub fn bit_rr<O: Change, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let bit = cpu.regs.get::<u64>(op.rm);
    in_register::<O, W>(cpu, op, bit)
}

/// Bit of a register, immediate number.
pub fn bit_ri<O: Change, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    in_register::<O, W>(cpu, op, op.imm)
}

#[inline(always)]
fn in_memory<O: Change, W: Word>(cpu: &mut Cpu, at: u64, bit: u64) -> Step {
    let mask = mask::<W>(bit);
    let a = if O::WRITES {
        cpu.modify::<W, ()>(at, |a| (O::change(a, mask), ()))?.0
    } else {
        cpu.load::<W>(at)?
    };
    cpu.flags.set_cf(a & mask != W::ZERO);
    Ok(())
}

/// Bit of a string of bits in memory: the number in the register is signed and reaches beyond the operand (SDM
/// volume 1, section 3.7.3 on bit offsets).
pub fn bit_mr<O: Change, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let bit = cpu.regs.get::<W>(op.reg).to_i64();
    let distance = (bit >> W::BITS.trailing_zeros()) as u64;
    let bytes = distance.wrapping_mul(W::BYTES as u64);
    let at = if O::WRITES {
        F::linear_at::<W, true>(cpu, op, bytes)?
    } else {
        F::linear_at::<W, false>(cpu, op, bytes)?
    };
    in_memory::<O, W>(cpu, at, bit as u64)
}

/// Bit of a word in memory, immediate number: never beyond the word.
pub fn bit_mi<O: Change, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = if O::WRITES {
        F::linear::<W, true>(cpu, op)?
    } else {
        F::linear::<W, false>(cpu, op)?
    };
    in_memory::<O, W>(cpu, at, op.imm)
}

/// An operation from one operand to another.
pub trait Count: 'static {
    /// What the destination becomes, or `None`: it stays. Sets the flags.
    fn apply<W: Word>(flags: &mut Flags, a: W) -> Option<W>;
}

/// BSF. A source of 0 leaves the destination as it is, upper half included (AMD APM volume 3, BSF).
pub struct Forward;
/// BSR, with the same exception.
pub struct Reverse;
/// POPCNT.
pub struct Population;

/// ZF says whether the source was 0. The other flags are undefined: here as on AMD's Zen, which clears them all but
/// PF, the parity of the index.
#[inline(always)]
fn found<W: Word>(flags: &mut Flags, a: W, index: u32) -> Option<W> {
    if a == W::ZERO {
        flags.set_logic(0u32);
        return None;
    }
    // A bit beyond parity's reach, so that the result is never 0.
    flags.set_logic(index | 1 << 8);
    Some(W::from_u64(index.into()))
}

impl Count for Forward {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W) -> Option<W> {
        found(flags, a, a.to_u64().trailing_zeros())
    }
}

impl Count for Reverse {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W) -> Option<W> {
        found(flags, a, 63 ^ a.to_u64().leading_zeros())
    }
}

impl Count for Population {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W) -> Option<W> {
        // PF is clear too, unlike after a logical operation on 0.
        flags.set_arithmetic(if a == W::ZERO { ZF } else { 0 });
        Some(W::from_u64(a.to_u64().count_ones().into()))
    }
}

/// Source in a register.
pub fn count_rr<O: Count, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.regs.get::<W>(op.rm);
    if let Some(result) = O::apply(&mut cpu.flags, a) {
        cpu.regs.set(op.reg, result);
    }
    Ok(())
}

/// Source in memory.
pub fn count_rm<O: Count, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let a = cpu.load::<W>(at)?;
    if let Some(result) = O::apply(&mut cpu.flags, a) {
        cpu.regs.set(op.reg, result);
    }
    Ok(())
}

/// CRC-32C of each byte, reflected polynomial 1EDC6F41h.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc<W: Word>(mut crc: u32, a: W) -> u32 {
    for byte in a.to_u64().to_le_bytes().into_iter().take(W::BYTES) {
        crc = crc >> 8 ^ CRC[usize::from(crc as u8 ^ byte)];
    }
    crc
}

/// CRC32, source in a register. The destination's upper half is cleared, of 64 bits too.
pub fn crc_rr<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let sum = crc::<W>(cpu.regs.get(op.reg), cpu.regs.get(op.rm));
    cpu.regs.set(op.reg, sum);
    Ok(())
}

/// CRC32, source in memory.
pub fn crc_rm<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let a = cpu.load::<W>(at)?;
    let sum = crc::<W>(cpu.regs.get(op.reg), a);
    cpu.regs.set(op.reg, sum);
    Ok(())
}
