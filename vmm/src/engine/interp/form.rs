//! How a memory operand's linear address comes about: one type per way, chosen once when the instruction is compiled, so
//! that the common ways are two or three additions and no question.

use super::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::word::Word;

/// A way to a linear address.
pub trait Form: 'static {
    /// The linear address of an access to a `W`; `WRITE`: it will be stored to. Checks what segmentation asks for.
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64>;

    /// The same for `len` bytes, 1 or more: operands that are no [`Word`].
    #[inline(always)]
    fn bytes<const WRITE: bool>(cpu: &mut Cpu, op: &Op, _len: u32) -> Step<u64> {
        Self::linear::<u8, WRITE>(cpu, op)
    }
}

/// 64-bit: base + displacement.
pub struct Base64;
/// 64-bit: base + index + displacement.
pub struct Index64;
/// 64-bit: next instruction + displacement.
pub struct Rip64;
/// 64-bit: FS or GS base + base + index + displacement.
pub struct Segment64;
/// Flat 32-bit, and 64-bit code with a 32-bit address size.
pub struct Flat32;
/// Everything else: 16-bit addresses, segments with a base or a limit, FS and GS outside 64-bit code, RIP-relative
/// with a 32-bit address size.
pub struct General;

/// In [`Op::scale`] for [`General`]: bits 0-1 the shift, and the address size.
pub mod address {
    /// 16-bit address.
    pub const A16: u8 = 1 << 4;
    /// 32-bit address.
    pub const A32: u8 = 1 << 5;
    /// Relative to the next instruction.
    pub const RIP: u8 = 1 << 6;
}

#[inline(always)]
fn sum(cpu: &Cpu, op: &Op) -> u64 {
    let base: u64 = cpu.regs.get(op.base);
    let index: u64 = cpu.regs.get(op.index);
    base.wrapping_add(index << (op.scale & 3))
        .wrapping_add(op.disp as i64 as u64)
}

impl Form for Base64 {
    #[inline(always)]
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        let base: u64 = cpu.regs.get(op.base);
        Ok(base.wrapping_add(op.disp as i64 as u64))
    }
}

impl Form for Index64 {
    #[inline(always)]
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        Ok(sum(cpu, op))
    }
}

impl Form for Rip64 {
    #[inline(always)]
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        Ok(op.next(cpu).wrapping_add(op.disp as i64 as u64))
    }
}

impl Form for Segment64 {
    #[inline(always)]
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        Ok(sum(cpu, op).wrapping_add(cpu.segments[usize::from(op.segment)].base))
    }
}

impl Form for Flat32 {
    #[inline(always)]
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        Ok(sum(cpu, op) & 0xffff_ffff)
    }
}

impl Form for General {
    #[inline(never)]
    fn linear<W: Word, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        cpu.segmented(op.segment, offset(cpu, op), W::BYTES as u32, WRITE)
    }

    #[inline(never)]
    fn bytes<const WRITE: bool>(cpu: &mut Cpu, op: &Op, len: u32) -> Step<u64> {
        cpu.segmented(op.segment, offset(cpu, op), len, WRITE)
    }
}

/// The offset part of any memory operand: what LEA gives, cut to the address size.
pub fn offset(cpu: &Cpu, op: &Op) -> u64 {
    let mut offset = sum(cpu, op);
    if op.scale & address::RIP != 0 {
        offset = offset.wrapping_add(op.next(cpu));
    }
    if op.scale & address::A16 != 0 {
        offset & 0xffff
    } else if op.scale & address::A32 != 0 {
        offset & 0xffff_ffff
    } else {
        offset
    }
}
