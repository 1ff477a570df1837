//! Near jumps, calls and returns; LOOP.
//!
//! [`Near`] is what a near branch does to the instruction pointer. A target outside the code segment or not canonical is
//! #GP(0) of the branch itself, before it pushed or popped anything. In 64-bit code the operand-size prefix counts,
//! as on AMD processors (which the CPU model is): the target is cut to 16 bits, CALL pushes and RET pops two bytes.

use super::stack::{AnyStack, Stack, Stack32, Stack64};
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;
use std::marker::PhantomData;

/// RCX.
const CX: RegAt = RegAt::new(1);

/// A kind of near branch.
pub trait Near: 'static {
    /// What indirect branches load, CALL pushes, RET pops.
    type Word: Word;
    /// Where they push and pop.
    type Stack: Stack;
    /// The target cut to the operand size, and checked.
    fn target(cpu: &mut Cpu, target: u64) -> Step<u64>;
}

/// 64-bit code.
pub struct Long;
/// 32-bit code, all segments flat.
pub struct Flat;
/// Every mode, with all checks; the operand size is `W`.
pub struct Checked<W>(PhantomData<W>);

impl Near for Long {
    type Word = u64;
    type Stack = Stack64;
    #[inline(always)]
    fn target(cpu: &mut Cpu, target: u64) -> Step<u64> {
        if ((target << 16) as i64 >> 16) as u64 != target {
            return cpu.raise_gp();
        }
        Ok(target)
    }
}

impl Near for Flat {
    type Word = u32;
    type Stack = Stack32;
    #[inline(always)]
    fn target(_: &mut Cpu, target: u64) -> Step<u64> {
        Ok(target & 0xffff_ffff)
    }
}

impl<W: Word> Near for Checked<W> {
    type Word = W;
    type Stack = AnyStack;
    fn target(cpu: &mut Cpu, target: u64) -> Step<u64> {
        let target = W::from_u64(target).to_u64();
        cpu.check_code_limit(target, 1)?;
        Ok(target)
    }
}

#[inline(always)]
fn go<N: Near>(cpu: &mut Cpu, target: u64) -> Step {
    cpu.rip = N::target(cpu, target)?;
    Err(Leave::Jump)
}

#[inline(always)]
fn relative(cpu: &Cpu, op: &Op) -> u64 {
    cpu.rip.wrapping_add(op.imm)
}

/// JMP relative.
pub fn jump<N: Near>(cpu: &mut Cpu, op: &Op) -> Step {
    go::<N>(cpu, relative(cpu, op))
}

/// JMP register.
pub fn jump_register<N: Near>(cpu: &mut Cpu, op: &Op) -> Step {
    let target = cpu.regs.get::<N::Word>(op.reg).to_u64();
    go::<N>(cpu, target)
}

/// JMP memory.
pub fn jump_memory<N: Near, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<N::Word, false>(cpu, op)?;
    let target = cpu.load::<N::Word>(at)?.to_u64();
    go::<N>(cpu, target)
}

/// Jcc with condition code `CODE`.
pub fn jump_if<N: Near, const CODE: u8>(cpu: &mut Cpu, op: &Op) -> Step {
    if cpu.flags.condition(CODE) {
        go::<N>(cpu, relative(cpu, op))
    } else {
        Ok(())
    }
}

/// JCXZ, JECXZ, JRCXZ: `C` is the address size.
pub fn jump_if_no_count<N: Near, C: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    if cpu.regs.get::<C>(CX) == C::ZERO {
        go::<N>(cpu, relative(cpu, op))
    } else {
        Ok(())
    }
}

/// What LOOP looks at besides the count.
pub trait Until: 'static {
    /// Whether to go on.
    fn holds(cpu: &Cpu) -> bool;
}
/// LOOP.
pub struct Always;
/// LOOPE.
pub struct Equal;
/// LOOPNE.
pub struct NotEqual;
impl Until for Always {
    fn holds(_: &Cpu) -> bool {
        true
    }
}
impl Until for Equal {
    fn holds(cpu: &Cpu) -> bool {
        cpu.flags.zf()
    }
}
impl Until for NotEqual {
    fn holds(cpu: &Cpu) -> bool {
        !cpu.flags.zf()
    }
}

/// LOOP, LOOPE, LOOPNE: `C` is the address size. A branch that faults has not counted.
pub fn count_down<N: Near, C: Word, U: Until>(cpu: &mut Cpu, op: &Op) -> Step {
    let count = cpu.regs.get::<C>(CX).minus(C::from_u64(1));
    if count == C::ZERO || !U::holds(cpu) {
        cpu.regs.set(CX, count);
        return Ok(());
    }
    cpu.rip = N::target(cpu, relative(cpu, op))?;
    cpu.regs.set(CX, count);
    Err(Leave::Jump)
}

#[inline(always)]
fn call_to<N: Near>(cpu: &mut Cpu, op: &Op, target: u64) -> Step {
    let target = match N::target(cpu, target) {
        Ok(target) => target,
        Err(leave) => return refused_call::<N>(cpu, leave),
    };
    N::Stack::push(cpu, N::Word::from_u64(op.next(cpu)))?;
    cpu.rip = target;
    Err(Leave::Jump)
}

/// A CALL whose target is refused: if the return address cannot be pushed either, silicon (Zen) reports the stack.
#[cold]
fn refused_call<N: Near>(cpu: &mut Cpu, leave: Leave) -> Step {
    let refused = cpu.fault.take();
    let size = N::Word::BYTES;
    let top = cpu.stack_pointer().wrapping_sub(size as u64);
    let at = cpu.stack_linear(top, size, true)?;
    let probed = cpu.probe_store(at, size);
    cpu.of_stack(probed)?;
    cpu.fault = refused;
    Err(leave)
}

/// CALL relative.
pub fn call<N: Near>(cpu: &mut Cpu, op: &Op) -> Step {
    call_to::<N>(cpu, op, relative(cpu, op))
}

/// CALL register.
pub fn call_register<N: Near>(cpu: &mut Cpu, op: &Op) -> Step {
    let target = cpu.regs.get::<N::Word>(op.reg).to_u64();
    call_to::<N>(cpu, op, target)
}

/// CALL memory.
pub fn call_memory<N: Near, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<N::Word, false>(cpu, op)?;
    let target = cpu.load::<N::Word>(at)?.to_u64();
    call_to::<N>(cpu, op, target)
}

/// RET; [`Op::imm`] more bytes are dropped.
pub fn ret<N: Near>(cpu: &mut Cpu, op: &Op) -> Step {
    let target = N::Stack::peek::<N::Word>(cpu)?.to_u64();
    cpu.rip = N::target(cpu, target)?;
    N::Stack::drop(cpu, N::Word::BYTES as u64 + op.imm);
    Err(Leave::Jump)
}
