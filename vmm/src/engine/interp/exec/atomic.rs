//! XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B. One vCPU: with or without LOCK they are the same.
//!
//! CMPXCHG and its wide relatives always write their memory operand, with what was there if the comparison failed.

use super::alu::{Add, Binary, Cmp};
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::Flags;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;

const A: RegAt = RegAt::new(0);
const C: RegAt = RegAt::new(1);
const D: RegAt = RegAt::new(2);
const B: RegAt = RegAt::new(3);

/// XADD register, register.
pub fn xadd_rr<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.regs.get::<W>(op.reg), cpu.regs.get::<W>(op.rm));
    let sum = Add::apply(&mut cpu.flags, a, b);
    // In this order: of one register twice, the sum stays.
    cpu.regs.set(op.rm, a);
    cpu.regs.set(op.reg, sum);
    Ok(())
}

/// XADD memory, register.
pub fn xadd_mr<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, true>(cpu, op)?;
    let b = cpu.regs.get::<W>(op.reg);
    let mut flags = cpu.flags;
    let (a, ()) = cpu.modify::<W, ()>(at, |a| (Add::apply(&mut flags, a, b), ()))?;
    cpu.regs.set(op.reg, a);
    cpu.flags = flags;
    Ok(())
}

/// Whether the accumulator is what is there; the flags of comparing them.
#[inline(always)]
fn equal<W: Word>(flags: &mut Flags, accumulator: W, there: W) -> bool {
    Cmp::apply(flags, accumulator, there);
    accumulator == there
}

/// CMPXCHG register, register.
pub fn cmpxchg_rr<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let there = cpu.regs.get::<W>(op.reg);
    let accumulator = cpu.regs.get::<W>(A);
    if equal(&mut cpu.flags, accumulator, there) {
        let new = cpu.regs.get::<W>(op.rm);
        cpu.regs.set(op.reg, new);
    } else {
        // The destination is not written with itself: a 32-bit one keeps its upper half (as AMD's Zen does).
        cpu.regs.set(A, there);
    }
    Ok(())
}

/// CMPXCHG memory, register.
pub fn cmpxchg_mr<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, true>(cpu, op)?;
    let new = cpu.regs.get::<W>(op.reg);
    let accumulator = cpu.regs.get::<W>(A);
    let mut flags = cpu.flags;
    let (there, equal) = cpu.modify::<W, bool>(at, |there| {
        let equal = equal(&mut flags, accumulator, there);
        (if equal { new } else { there }, equal)
    })?;
    if !equal {
        cpu.regs.set(A, there);
    }
    cpu.flags = flags;
    Ok(())
}

/// CMPXCHG8B.
pub fn cmpxchg8b<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let pair = |cpu: &Cpu, high: RegAt, low: RegAt| {
        u64::from(cpu.regs.get::<u32>(high)) << 32 | u64::from(cpu.regs.get::<u32>(low))
    };
    let at = F::linear::<u64, true>(cpu, op)?;
    let (expected, new) = (pair(cpu, D, A), pair(cpu, C, B));
    let (there, ()) = cpu.modify::<u64, ()>(at, |there| (if there == expected { new } else { there }, ()))?;
    if there != expected {
        cpu.regs.set(A, there as u32);
        cpu.regs.set(D, (there >> 32) as u32);
    }
    cpu.flags.set_zf(there == expected);
    Ok(())
}

/// CMPXCHG16B. The operand must be aligned (#GP), so it never crosses a page.
pub fn cmpxchg16b<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<u64, true>(cpu, op)?;
    if !at.is_multiple_of(16) {
        return cpu.raise_gp();
    }
    cpu.probe_store(at, 16)?;
    let there = (cpu.load::<u64>(at)?, cpu.load::<u64>(at + 8)?);
    let equal = there == (cpu.regs.get(A), cpu.regs.get(D));
    let new = if equal {
        (cpu.regs.get::<u64>(B), cpu.regs.get::<u64>(C))
    } else {
        there
    };
    let wide = u128::from(new.1) << 64 | u128::from(new.0);
    cpu.store_bytes(at, &wide.to_le_bytes())?;
    if !equal {
        cpu.regs.set(A, there.0);
        cpu.regs.set(D, there.1);
    }
    cpu.flags.set_zf(equal);
    Ok(())
}
