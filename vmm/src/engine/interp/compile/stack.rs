//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE; and which way to the stack a mode allows.

use super::{Source, by_form, segment};
use crate::engine::interp::exec::stack::{self, AnyStack, Stack32, Stack64};
use crate::engine::interp::op::{Handler, Op};
use crate::engine::soft::mode::Mode;
use crate::engine::state::{DS, ES, SS};
use iced_x86::{Code, Mnemonic};

/// Evaluates an expression with types `$S` bound to the quickest way to the stack and `$W` to the word of `$bits`.
/// Other widths than the mode's own are rare enough for the general way.
macro_rules! by_stack {
    ($mode:expr, $bits:expr, $S:ident, $W:ident => $e:expr) => {
        match ($bits, $crate::engine::interp::compile::stack::flat_stack($mode)) {
            (64, _) => {
                type $S = Stack64;
                type $W = u64;
                $e
            }
            (32, true) => {
                type $S = Stack32;
                type $W = u32;
                $e
            }
            (32, false) => {
                type $S = AnyStack;
                type $W = u32;
                $e
            }
            _ => {
                type $S = AnyStack;
                type $W = u16;
                $e
            }
        }
    };
}
pub(super) use by_stack;

/// Whether a 32-bit stack pointer is a linear address.
pub(super) fn flat_stack(mode: Mode) -> bool {
    mode.contains(Mode::FLAT | Mode::STACK32)
}

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let op = match source.instr.mnemonic() {
        Mnemonic::Push => push(source),
        Mnemonic::Pop => pop(source),
        Mnemonic::Pusha => source.op(stack::push_all::<u16>),
        Mnemonic::Pushad => source.op(stack::push_all::<u32>),
        Mnemonic::Popa => source.op(stack::pop_all::<u16>),
        Mnemonic::Popad => source.op(stack::pop_all::<u32>),
        Mnemonic::Leave => {
            source.op(by_stack!(source.mode, frame_bits(source), S, W => stack::leave::<S, W> as Handler))
        }
        Mnemonic::Enter => enter(source),
        _ => return None,
    };
    Some(op)
}

/// Operand size of an instruction that pushes or pops one value.
pub(super) fn stack_bits(source: Source<'_>) -> u32 {
    source.instr.stack_pointer_increment().unsigned_abs() * 8
}

/// Operand size of ENTER and LEAVE.
fn frame_bits(source: Source<'_>) -> u32 {
    match source.instr.code() {
        Code::Enterw_imm16_imm8 | Code::Leavew => 16,
        Code::Enterd_imm16_imm8 | Code::Leaved => 32,
        _ => 64,
    }
}

fn push(source: Source<'_>) -> Op {
    let bits = stack_bits(source);
    if let Some(index) = segment_operand(source) {
        return Op {
            imm: index as u64,
            ..source.op(by_stack!(source.mode, bits, S, W => stack::push_segment::<S, W> as Handler))
        };
    }
    let form = source.form();
    source.op(by_stack!(source.mode, bits, S, W => {
        match (source.is_memory(0), source.is_register(0)) {
            (true, _) => by_form!(form, F => stack::push_memory::<S, W, F>),
            (_, true) => stack::push_register::<S, W>,
            _ => stack::push_immediate::<S, W> as Handler,
        }
    }))
}

fn pop(source: Source<'_>) -> Op {
    let bits = stack_bits(source);
    if let Some(index) = segment_operand(source) {
        return pop_segment(source, index, bits);
    }
    let form = source.form();
    source.op(by_stack!(source.mode, bits, S, W => {
        if source.is_memory(0) {
            by_form!(form, F => stack::pop_memory::<S, W, F>)
        } else {
            stack::pop_register::<S, W> as Handler
        }
    }))
}

fn pop_segment(source: Source<'_>, index: usize, bits: u32) -> Op {
    let op = by_stack!(source.mode, bits, _S, W => match index {
        SS => source.op(stack::pop_stack_segment::<W>).ending(),
        ES | DS => source.op(stack::pop_segment_and_end::<W>).ending(),
        _ => source.op(stack::pop_segment::<W>),
    });
    Op {
        imm: index as u64,
        ..op
    }
}

/// Index of a segment-register operand.
fn segment_operand(source: Source<'_>) -> Option<usize> {
    let register = source.is_register(0).then(|| source.instr.op_register(0))?;
    let is_segment = register.is_segment_register();
    is_segment.then(|| usize::from(segment(register)))
}

fn enter(source: Source<'_>) -> Op {
    let instr = source.instr;
    Op {
        imm: u64::from(instr.immediate16()),
        disp: i32::from(instr.immediate8_2nd() % 32),
        ..source.op(by_stack!(source.mode, frame_bits(source), _S, W => stack::enter::<W> as Handler))
    }
}
