//! What goes by a selector: far jumps, calls and returns, interrupts by instruction, IRET.
//!
//! The rules are in [`soft::transfer`](crate::engine::soft::transfer) and [`soft::deliver`](crate::engine::soft::deliver);
//! here are the operands. All end their trace, and INTO where it interrupts.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::deliver::Software;
use crate::engine::soft::word::Word;

/// A far transfer: JMP or CALL.
pub trait Far: 'static {
    /// Does it; `next` is the instruction behind.
    fn transfer(cpu: &mut Cpu, selector: u16, offset: u64, bits: u32, next: u64) -> Step;
}
/// JMP far.
pub struct FarJump;
/// CALL far.
pub struct FarCall;
impl Far for FarJump {
    fn transfer(cpu: &mut Cpu, selector: u16, offset: u64, bits: u32, next: u64) -> Step {
        cpu.far_jump(selector, offset, bits, next)
    }
}
impl Far for FarCall {
    fn transfer(cpu: &mut Cpu, selector: u16, offset: u64, bits: u32, next: u64) -> Step {
        cpu.far_call(selector, offset, bits, next)
    }
}

/// Address of the next instruction, as wide as the code.
fn next(cpu: &Cpu, op: &Op) -> u64 {
    cpu.cut_ip(op.next(cpu))
}

/// JMP or CALL to an immediate far pointer: [`Op::imm`] is selector and offset; `W` the operand size.
pub fn far_immediate<T: Far, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let offset = W::from_u64(op.imm & 0xffff_ffff).to_u64();
    T::transfer(cpu, (op.imm >> 32) as u16, offset, W::BITS, next(cpu, op))?;
    Err(Leave::Jump)
}

/// Offset and selector of a far pointer in memory. REX.W does not widen the offset, as on AMD processors.
fn pointer<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step<(W, u16)> {
    let behind = Op {
        disp: op.disp.wrapping_add(W::BYTES as i32),
        ..*op
    };
    let offset_at = F::linear::<W, false>(cpu, op)?;
    let selector_at = F::linear::<u16, false>(cpu, &behind)?;
    Ok((cpu.load::<W>(offset_at)?, cpu.load::<u16>(selector_at)?))
}

/// JMP or CALL through a far pointer in memory.
pub fn far_memory<T: Far, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let (offset, selector) = pointer::<W, F>(cpu, op)?;
    T::transfer(cpu, selector, offset.to_u64(), W::BITS, next(cpu, op))?;
    Err(Leave::Jump)
}

/// RETF; [`Op::imm`] more bytes are dropped; `W` is the operand size.
pub fn far_return<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.far_return(W::BITS, op.imm as u16)?;
    Err(Leave::Jump)
}

/// IRET, IRETD, IRETQ.
pub fn interrupt_return<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.iret(W::BITS, next(cpu, op))?;
    Err(Leave::Jump)
}

/// INT n.
pub fn interrupt(cpu: &mut Cpu, op: &Op) -> Step {
    software(cpu, op, op.imm as u8, Software::Int)
}

/// INT3.
pub fn breakpoint(cpu: &mut Cpu, op: &Op) -> Step {
    software(cpu, op, 3, Software::Trap)
}

/// INTO.
pub fn overflow(cpu: &mut Cpu, op: &Op) -> Step {
    if !cpu.flags.of() {
        return Ok(());
    }
    software(cpu, op, 4, Software::Trap)
}

/// INT1 (ICEBP).
pub fn debug_trap(cpu: &mut Cpu, op: &Op) -> Step {
    software(cpu, op, 1, Software::Int1)
}

fn software(cpu: &mut Cpu, op: &Op, vector: u8, kind: Software) -> Step {
    cpu.software_interrupt(vector, kind, next(cpu, op))?;
    Err(Leave::Jump)
}
