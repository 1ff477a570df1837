//! NOP and its many forms, HLT, BOUND, the undefined instructions.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::word::Word;

/// NOP, PAUSE, ENDBR, prefetches, fences: one vCPU sees its own accesses in order.
pub fn nothing(_: &mut Cpu, _: &Op) -> Step {
    Ok(())
}

/// UD0, UD1, UD2.
pub fn undefined(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.raise_ud()
}

/// HLT, at CPL 0.
pub fn halt(cpu: &mut Cpu, op: &Op) -> Step {
    if cpu.cpl != 0 {
        return cpu.raise_gp();
    }
    cpu.halted = true;
    cpu.attention = true;
    op.finish(cpu)
}

/// BOUND: `W` is the operand size, `Pair` twice that. #BR if the signed index is outside the bounds, ends included.
pub fn bound<W: Word, Pair: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<Pair, false>(cpu, op)?;
    let pair = cpu.load::<Pair>(at)?.to_u64();
    let lower = W::from_u64(pair).to_i64();
    let upper = W::from_u64(pair >> W::BITS).to_i64();
    let index = cpu.regs.get::<W>(op.reg).to_i64();
    if (lower..=upper).contains(&index) {
        Ok(())
    } else {
        cpu.raise(vector::BR)
    }
}
