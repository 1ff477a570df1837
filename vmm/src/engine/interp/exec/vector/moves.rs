//! Moves between XMM registers, memory and general registers, and clearing a register: what compilers emit most.
//!
//! [`Op::reg`] and [`Op::rm`] number XMM registers here; a general register is always `rm`.

use super::gate;
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;

/// Index of an XMM register.
#[inline(always)]
pub(super) fn number(at: RegAt) -> usize {
    usize::from(at.number() & 15)
}

#[inline(always)]
fn check<const CHECK: bool>(cpu: &mut Cpu) -> Step {
    if CHECK { gate::sse(cpu) } else { Ok(()) }
}

/// Address of 16 bytes; `ALIGNED`: #GP(0) unless aligned.
#[inline(always)]
fn sixteen<F: Form, const WRITE: bool, const ALIGNED: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
    let at = F::bytes::<WRITE>(cpu, op, 16)?;
    if ALIGNED && at & 15 != 0 {
        return cpu.raise_gp();
    }
    Ok(at)
}

/// MOVAPS and friends, register to register.
pub fn copy<const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let xmm = &mut cpu.xstate.legacy.xmm;
    xmm[number(op.reg)] = xmm[number(op.rm)];
    Ok(())
}

/// PXOR, XORPS, XORPD of a register with itself.
pub fn clear<const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    cpu.xstate.legacy.xmm[number(op.reg)] = 0;
    Ok(())
}

/// MOVQ, register to register: the upper half is cleared.
pub fn copy_low<const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let xmm = &mut cpu.xstate.legacy.xmm;
    xmm[number(op.reg)] = u128::from(xmm[number(op.rm)] as u64);
    Ok(())
}

/// MOVAPS, MOVUPS and friends: 16 bytes from memory.
pub fn load<F: Form, const ALIGNED: bool, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let at = sixteen::<F, false, ALIGNED>(cpu, op)?;
    let mut bytes = [0; 16];
    cpu.load_bytes(at, &mut bytes)?;
    cpu.xstate.legacy.xmm[number(op.reg)] = u128::from_le_bytes(bytes);
    Ok(())
}

/// MOVAPS, MOVUPS, MOVNTPS and friends: 16 bytes to memory.
pub fn store<F: Form, const ALIGNED: bool, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let at = sixteen::<F, true, ALIGNED>(cpu, op)?;
    let bytes = cpu.xstate.legacy.xmm[number(op.reg)].to_le_bytes();
    cpu.store_bytes(at, &bytes)
}

/// MOVD, MOVQ, MOVSS, MOVSD from memory: the rest of the register is cleared.
pub fn load_low<W: Word, F: Form, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let at = F::linear::<W, false>(cpu, op)?;
    let value = cpu.load::<W>(at)?;
    cpu.xstate.legacy.xmm[number(op.reg)] = u128::from(value.to_u64());
    Ok(())
}

/// MOVD, MOVQ, MOVSS, MOVSD, MOVLPS, MOVLPD to memory.
pub fn store_low<W: Word, F: Form, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let at = F::linear::<W, true>(cpu, op)?;
    let value = cpu.xstate.legacy.xmm[number(op.reg)] as u64;
    cpu.store(at, W::from_u64(value))
}

/// MOVD and MOVQ from a general register.
pub fn from_general<W: Word, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let value = cpu.regs.get::<W>(op.rm);
    cpu.xstate.legacy.xmm[number(op.reg)] = u128::from(value.to_u64());
    Ok(())
}

/// MOVD and MOVQ to a general register.
pub fn to_general<W: Word, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    check::<CHECK>(cpu)?;
    let value = cpu.xstate.legacy.xmm[number(op.reg)] as u64;
    cpu.regs.set(op.rm, W::from_u64(value));
    Ok(())
}

/// MASKMOVDQU and MASKMOVQ: the bytes of `reg` whose mask byte (`rm`) has its top bit set go to memory at DS:rDI. The
/// rights to the whole operand are checked even where the mask leaves nothing to store.
pub fn store_masked<const MMX: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if MMX {
        gate::mmx(cpu)?;
        gate::pending(cpu)?;
    } else {
        gate::sse(cpu)?;
    }
    let len = if MMX { 8 } else { 16 };
    let operand = |at: RegAt| {
        if MMX {
            u128::from(cpu.xstate.legacy.mm(at.number()))
        } else {
            cpu.xstate.legacy.xmm[number(at)]
        }
    };
    let (data, mask) = (operand(op.reg).to_le_bytes(), operand(op.rm).to_le_bytes());
    let offset = crate::engine::interp::form::offset(cpu, op);
    let at = cpu.segmented(op.segment, offset, len as u32, true)?;
    cpu.probe_store(at, len)?;
    for i in (0..len).filter(|&i| mask[i] & 0x80 != 0) {
        cpu.store(cpu.wrap(at.wrapping_add(i as u64)), data[i])?;
    }
    if MMX {
        cpu.xstate.legacy.enter_mmx();
    }
    Ok(())
}
