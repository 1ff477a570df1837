//! Moves, extensions, LEA, XCHG, CMOVcc, SETcc, BSWAP, XLAT: data goes from place to place, no flag changes.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;

const A: RegAt = RegAt::new(0);
const D: RegAt = RegAt::new(2);

/// MOV register, register.
pub fn mov_rr<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.regs.get::<W>(op.rm);
    cpu.regs.set(op.reg, value);
    Ok(())
}

/// MOV register, immediate.
pub fn mov_ri<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.regs.set(op.reg, W::from_u64(op.imm));
    Ok(())
}

/// MOV register, memory.
pub fn mov_rm<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let value = cpu.load::<W>(at)?;
    cpu.regs.set(op.reg, value);
    Ok(())
}

/// MOV memory, register.
pub fn mov_mr<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, true>(cpu, op)?;
    cpu.store(at, cpu.regs.get::<W>(op.reg))
}

/// MOV memory, immediate.
pub fn mov_mi<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, true>(cpu, op)?;
    cpu.store(at, W::from_u64(op.imm))
}

/// MOV accumulator, memory at the 64-bit offset in `imm`.
pub fn mov_from_offset64<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = cpu.segmented(op.segment, op.imm, W::BYTES as u32, false)?;
    let value = cpu.load::<W>(at)?;
    cpu.regs.set(A, value);
    Ok(())
}

/// MOV memory at the 64-bit offset in `imm`, accumulator.
pub fn mov_to_offset64<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = cpu.segmented(op.segment, op.imm, W::BYTES as u32, true)?;
    cpu.store(at, cpu.regs.get::<W>(A))
}

#[inline(always)]
fn extended<From: Word, To: Word, const SIGNED: bool>(value: From) -> To {
    To::from_u64(if SIGNED {
        value.to_i64() as u64
    } else {
        value.to_u64()
    })
}

/// MOVZX, MOVSX, MOVSXD register, register.
pub fn extend_rr<From: Word, To: Word, const SIGNED: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.regs.get::<From>(op.rm);
    cpu.regs.set(op.reg, extended::<From, To, SIGNED>(value));
    Ok(())
}

/// MOVZX, MOVSX, MOVSXD register, memory.
pub fn extend_rm<From: Word, To: Word, const SIGNED: bool, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<From, false>(cpu, op)?;
    let value = cpu.load::<From>(at)?;
    cpu.regs.set(op.reg, extended::<From, To, SIGNED>(value));
    Ok(())
}

/// CBW, CWDE, CDQE: the accumulator's lower half, sign-extended.
pub fn extend_a<From: Word, To: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let value = cpu.regs.get::<From>(A);
    cpu.regs.set(A, extended::<From, To, true>(value));
    Ok(())
}

/// CWD, CDQ, CQO: the accumulator's sign in every bit of rDX.
pub fn sign_into_d<W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let sign = (cpu.regs.get::<W>(A).to_i64() >> 63) as u64;
    cpu.regs.set(D, W::from_u64(sign));
    Ok(())
}

/// LEA.
pub fn lea<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let offset = F::offset(cpu, op);
    cpu.regs.set(op.reg, W::from_u64(offset));
    Ok(())
}

/// XCHG register, register.
pub fn xchg_rr<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.regs.get::<W>(op.reg), cpu.regs.get::<W>(op.rm));
    cpu.regs.set(op.reg, b);
    cpu.regs.set(op.rm, a);
    Ok(())
}

/// XCHG with memory.
pub fn xchg_m<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, true>(cpu, op)?;
    let new = cpu.regs.get::<W>(op.reg);
    let (old, ()) = cpu.modify::<W, ()>(at, |_| (new, ()))?;
    cpu.regs.set(op.reg, old);
    Ok(())
}

/// CMOVcc register, register. A 32-bit destination loses its upper half either way.
pub fn cmov_rr<W: Word, const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let from = if cpu.flags.condition(CONDITION) {
        op.rm
    } else {
        op.reg
    };
    let value = cpu.regs.get::<W>(from);
    cpu.regs.set(op.reg, value);
    Ok(())
}

/// CMOVcc register, memory: loads, and can fault, whatever the condition.
pub fn cmov_rm<W: Word, F: Form, const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let loaded = cpu.load::<W>(at)?;
    let value = if cpu.flags.condition(CONDITION) {
        loaded
    } else {
        cpu.regs.get::<W>(op.reg)
    };
    cpu.regs.set(op.reg, value);
    Ok(())
}

/// SETcc register.
pub fn set_r<const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = u8::from(cpu.flags.condition(CONDITION));
    cpu.regs.set(op.reg, value);
    Ok(())
}

/// SETcc memory.
pub fn set_m<F: Form, const CONDITION: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<u8, true>(cpu, op)?;
    cpu.store(at, u8::from(cpu.flags.condition(CONDITION)))
}

/// BSWAP of 32 or 64 bits. Of 16 bits it is undefined (SDM volume 2): silicon leaves zero.
pub fn bswap<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let swapped = match W::BITS {
        64 => cpu.regs.get::<u64>(op.reg).swap_bytes(),
        32 => cpu.regs.get::<u32>(op.reg).swap_bytes().into(),
        _ => 0,
    };
    cpu.regs.set(op.reg, W::from_u64(swapped));
    Ok(())
}

/// XLAT: AL from the table at rBX, AL bytes in.
pub fn xlat<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let distance = u64::from(cpu.regs.get::<u8>(A));
    let at = F::linear_at::<u8, false>(cpu, op, distance)?;
    let value = cpu.load::<u8>(at)?;
    cpu.regs.set(A, value);
    Ok(())
}
