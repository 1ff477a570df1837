//! MOV to and from segment registers, LDS, LES, LFS, LGS, LSS. The checks of a load are in
//! [`crate::engine::soft::segment`].
//!
//! The segment register's index is in [`Op::imm`]. A load ends its trace: it can end (or begin) flat addressing.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::word::Word;
use crate::engine::state::SS;

#[inline(always)]
fn selector(cpu: &Cpu, op: &Op) -> u16 {
    cpu.segments
        .get(op.imm as usize)
        .map_or(0, |segment| segment.selector)
}

/// MOV register, segment register: zero-extended.
pub fn store_r<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let selector = selector(cpu, op);
    cpu.regs.set(op.reg, W::from_u64(selector.into()));
    Ok(())
}

/// MOV memory, segment register: 16 bits, whatever the operand size.
pub fn store_m<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<u16, true>(cpu, op)?;
    cpu.store(at, selector(cpu, op))
}

fn load(cpu: &mut Cpu, op: &Op, selector: u16) -> Step {
    let index = op.imm as usize;
    cpu.load_segment(index, selector)?;
    if index == SS {
        // Neither interrupts nor debug traps before RSP is loaded too (Intel SDM volume 3, section 6.8.3).
        cpu.shadow = true;
        cpu.shadow_is_mov_ss = true;
        cpu.attention = true;
    }
    op.finish(cpu)
}

/// MOV segment register, register.
pub fn load_r(cpu: &mut Cpu, op: &Op) -> Step {
    let selector = cpu.regs.get::<u16>(op.reg);
    load(cpu, op, selector)
}

/// MOV segment register, memory.
pub fn load_m<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<u16, false>(cpu, op)?;
    let selector = cpu.load::<u16>(at)?;
    load(cpu, op, selector)
}

/// LDS and relatives: the offset in `W`, behind it the selector. No shadow for LSS: it loads both at once.
pub fn load_far<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let offset = cpu.load::<W>(at)?;
    let at = F::linear_at::<u16, false>(cpu, op, W::BYTES as u64)?;
    let selector = cpu.load::<u16>(at)?;
    cpu.load_segment(op.imm as usize, selector)?;
    cpu.regs.set(op.reg, offset);
    op.finish(cpu)
}
