//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE.
//!
//! [`Stack`] is how the stack is reached: two quick ways, and one for every mode. The stack pointer moves last, so that
//! a fault finds it where it was.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::stack::SP;
use crate::engine::soft::word::Word;
use crate::engine::state::SS;

/// RBP.
const BP: RegAt = RegAt::new(5);

/// A way to the stack.
pub trait Stack: 'static {
    /// Stores below the top, and moves the pointer.
    fn push<W: Word>(cpu: &mut Cpu, value: W) -> Step;
    /// Loads the top.
    fn peek<W: Word>(cpu: &mut Cpu) -> Step<W>;
    /// Moves the pointer up.
    fn drop(cpu: &mut Cpu, bytes: u64);
}

/// 64-bit code: RSP, no segment.
pub struct Stack64;
/// 32-bit stack in a flat SS.
pub struct Stack32;
/// Every mode, with all checks.
pub struct AnyStack;

macro_rules! flat_stack {
    ($name:ident, $pointer:ty) => {
        impl Stack for $name {
            #[inline(always)]
            fn push<W: Word>(cpu: &mut Cpu, value: W) -> Step {
                let to = cpu
                    .regs
                    .get::<$pointer>(SP)
                    .wrapping_sub(W::BYTES as $pointer);
                match cpu.store(u64::from(to), value) {
                    Ok(()) => {
                        cpu.regs.set(SP, to);
                        Ok(())
                    }
                    failed => cpu.of_stack(failed),
                }
            }
            #[inline(always)]
            fn peek<W: Word>(cpu: &mut Cpu) -> Step<W> {
                let at = u64::from(cpu.regs.get::<$pointer>(SP));
                match cpu.load(at) {
                    Ok(value) => Ok(value),
                    failed => cpu.of_stack(failed),
                }
            }
            #[inline(always)]
            fn drop(cpu: &mut Cpu, bytes: u64) {
                let to = cpu.regs.get::<$pointer>(SP).wrapping_add(bytes as $pointer);
                cpu.regs.set(SP, to);
            }
        }
    };
}
flat_stack!(Stack64, u64);
flat_stack!(Stack32, u32);

impl Stack for AnyStack {
    fn push<W: Word>(cpu: &mut Cpu, value: W) -> Step {
        cpu.push(value)
    }
    fn peek<W: Word>(cpu: &mut Cpu) -> Step<W> {
        cpu.peek(0)
    }
    fn drop(cpu: &mut Cpu, bytes: u64) {
        cpu.drop_stack(bytes);
    }
}

/// PUSH register.
pub fn push_register<S: Stack, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.regs.get::<W>(op.reg);
    S::push(cpu, value)
}

/// PUSH immediate.
pub fn push_immediate<S: Stack, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    S::push(cpu, W::from_u64(op.imm))
}

/// PUSH memory.
pub fn push_memory<S: Stack, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let value = cpu.load::<W>(at)?;
    S::push(cpu, value)
}

/// PUSH segment register number [`Op::imm`], zero-extended to the operand size.
pub fn push_segment<S: Stack, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let selector = cpu.segments[op.imm as usize % 6].selector;
    S::push(cpu, W::from_u64(selector.into()))
}

/// POP register. POP RSP gets the value, not the value and the move.
pub fn pop_register<S: Stack, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = S::peek::<W>(cpu)?;
    S::drop(cpu, W::BYTES as u64);
    cpu.regs.set(op.reg, value);
    Ok(())
}

/// POP memory. An address that uses RSP is computed with the pointer already moved (Intel SDM volume 2, POP).
pub fn pop_memory<S: Stack, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = S::peek::<W>(cpu)?;
    let before = cpu.regs.get::<u64>(SP);
    S::drop(cpu, W::BYTES as u64);
    let stored = F::linear::<W, true>(cpu, op).and_then(|at| cpu.store(at, value));
    if stored.is_err() {
        cpu.regs.set(SP, before);
    }
    stored
}

/// POP FS, POP GS: nothing a trace depends on changes.
pub fn pop_segment<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    load_popped::<W>(cpu, op.imm as usize % 6)
}

/// POP ES, POP DS: flatness may change.
pub fn pop_segment_and_end<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    load_popped::<W>(cpu, op.imm as usize % 6)?;
    op.finish(cpu)
}

/// POP SS: no interrupt and no debug trap before one more instruction.
pub fn pop_stack_segment<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    load_popped::<W>(cpu, SS)?;
    cpu.shadow = true;
    cpu.shadow_is_mov_ss = true;
    cpu.attention = true;
    op.finish(cpu)
}

fn load_popped<W: Word>(cpu: &mut Cpu, index: usize) -> Step {
    let selector = cpu.peek::<W>(0)?;
    let before = cpu.regs.get::<u64>(SP);
    // The pointer moves by the old SS's width: the new one counts from the next instruction on.
    cpu.drop_stack(W::BYTES as u64);
    let loaded = cpu.load_segment(index, selector.to_u64() as u16);
    if loaded.is_err() {
        cpu.regs.set(SP, before);
    }
    loaded
}

/// PUSHA, PUSHAD: AX, CX, DX, BX, SP as it was, BP, SI, DI.
pub fn push_all<W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let top = cpu.stack_pointer();
    for number in 0..8u8 {
        let value = cpu.regs.get::<W>(RegAt::new(number));
        let to = top.wrapping_sub(W::BYTES as u64 * (u64::from(number) + 1));
        let at = cpu.stack_linear(to, W::BYTES, true)?;
        cpu.store(at, value)?;
    }
    cpu.set_stack_pointer(top.wrapping_sub(8 * W::BYTES as u64));
    Ok(())
}

/// POPA, POPAD: the stack pointer's slot is skipped.
pub fn pop_all<W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let mut values = [W::ZERO; 8];
    for (depth, value) in (0u64..).step_by(W::BYTES).zip(&mut values) {
        *value = cpu.peek(depth)?;
    }
    for (number, value) in (0u8..8).rev().zip(values) {
        if RegAt::new(number) != SP {
            cpu.regs.set(RegAt::new(number), value);
        }
    }
    cpu.drop_stack(8 * W::BYTES as u64);
    Ok(())
}

/// LEAVE: the frame pointer, as wide as the stack, becomes the stack pointer.
pub fn leave<S: Stack, W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let before = cpu.regs.get::<u64>(SP);
    let frame = cpu.regs.get::<u64>(BP);
    cpu.set_stack_pointer(frame);
    match S::peek::<W>(cpu) {
        Ok(value) => {
            S::drop(cpu, W::BYTES as u64);
            cpu.regs.set(BP, value);
            Ok(())
        }
        Err(leave) => {
            cpu.regs.set(SP, before);
            Err(leave)
        }
    }
}

/// ENTER: [`Op::imm`] is the frame's size, [`Op::disp`] the nesting level, 0..=31.
///
/// Where the manuals differ from silicon, silicon (AMD Zen) counts: only the operand size of rBP is written, and a store
/// at the new top must be possible though none is made.
pub fn enter<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let before = cpu.regs.get::<u64>(SP);
    let built = build_frame::<W>(cpu, op);
    match built {
        Ok(frame) => cpu.regs.set(BP, W::from_u64(frame)),
        Err(_) => cpu.regs.set(SP, before),
    }
    built.map(drop)
}

fn build_frame<W: Word>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
    let outer = cpu.regs.get::<u64>(BP);
    cpu.push(cpu.regs.get::<W>(BP))?;
    let frame = cpu.stack_pointer();
    for level in 1..op.disp as u64 {
        let from = outer.wrapping_sub(level * W::BYTES as u64);
        let at = cpu.stack_linear(from, W::BYTES, false)?;
        let loaded = cpu.load::<W>(at);
        let pointer = cpu.of_stack(loaded)?;
        cpu.push(pointer)?;
    }
    if op.disp > 0 {
        cpu.push(W::from_u64(frame))?;
    }
    let top = cpu.stack_pointer().wrapping_sub(op.imm);
    let at = cpu.stack_linear(top, W::BYTES, true)?;
    let probed = cpu.probe_store(at, W::BYTES);
    cpu.of_stack(probed)?;
    cpu.set_stack_pointer(top);
    Ok(frame)
}
