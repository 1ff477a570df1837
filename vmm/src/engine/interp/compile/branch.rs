//! Jumps, calls, returns, near and far; LOOP; INT and IRET.

use super::stack::flat_stack;
use super::{Source, by_form, by_width};
use crate::engine::interp::exec::branch::{
    self, Always, Checked, Equal, Far, FarCall, FarJump, Flat, Long, NotEqual, Until,
};
use crate::engine::interp::op::{Handler, Op};
use crate::engine::soft::mode::Mode;
use iced_x86::{Code, ConditionCode, Mnemonic, OpKind};

/// Evaluates an expression with `$N` bound to the quickest kind of near branch with an operand of `$bits`.
macro_rules! by_near {
    ($mode:expr, $bits:expr, $N:ident => $e:expr) => {
        match ($bits, $mode.contains(Mode::CODE32) && flat_stack($mode)) {
            (64, _) => {
                type $N = Long;
                $e
            }
            (32, true) => {
                type $N = Flat;
                $e
            }
            (32, false) => {
                type $N = Checked<u32>;
                $e
            }
            _ => {
                type $N = Checked<u16>;
                $e
            }
        }
    };
}

/// Evaluates an expression with the constant `$C` for each of the 16 condition codes.
macro_rules! by_condition {
    ($code:expr, $N:ty) => {
        match $code {
            0 => branch::jump_if::<$N, 0>,
            1 => branch::jump_if::<$N, 1>,
            2 => branch::jump_if::<$N, 2>,
            3 => branch::jump_if::<$N, 3>,
            4 => branch::jump_if::<$N, 4>,
            5 => branch::jump_if::<$N, 5>,
            6 => branch::jump_if::<$N, 6>,
            7 => branch::jump_if::<$N, 7>,
            8 => branch::jump_if::<$N, 8>,
            9 => branch::jump_if::<$N, 9>,
            10 => branch::jump_if::<$N, 10>,
            11 => branch::jump_if::<$N, 11>,
            12 => branch::jump_if::<$N, 12>,
            13 => branch::jump_if::<$N, 13>,
            14 => branch::jump_if::<$N, 14>,
            _ => branch::jump_if::<$N, 15> as Handler,
        }
    };
}

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let instr = source.instr;
    let op = match instr.mnemonic() {
        Mnemonic::Jmp => jump(source)?.ending(),
        Mnemonic::Call => call(source)?.ending(),
        Mnemonic::Ret => source
            .op(by_near!(source.mode, return_bits(source), N => branch::ret::<N> as Handler))
            .ending(),
        Mnemonic::Retf => far_return(source).ending(),
        Mnemonic::Iret => source.op(branch::interrupt_return::<u16>).ending(),
        Mnemonic::Iretd => source.op(branch::interrupt_return::<u32>).ending(),
        Mnemonic::Iretq => source.op(branch::interrupt_return::<u64>).ending(),
        Mnemonic::Int => source.op(branch::interrupt).ending(),
        Mnemonic::Int3 => source.op(branch::breakpoint).ending(),
        Mnemonic::Int1 => source.op(branch::debug_trap).ending(),
        Mnemonic::Into => source.op(branch::overflow),
        Mnemonic::Loop => source.op(count_down::<Always>(source)),
        Mnemonic::Loope => source.op(count_down::<Equal>(source)),
        Mnemonic::Loopne => source.op(count_down::<NotEqual>(source)),
        Mnemonic::Jcxz => source.op(jump_if_no_count(source, 16)),
        Mnemonic::Jecxz => source.op(jump_if_no_count(source, 32)),
        Mnemonic::Jrcxz => source.op(jump_if_no_count(source, 64)),
        _ if instr.is_jcc_short_or_near() => source.op(conditional(source)),
        _ => return None,
    };
    Some(op)
}

/// Operand size of a relative branch.
fn branch_bits(source: Source<'_>) -> u32 {
    match source.instr.op_kind(0) {
        OpKind::NearBranch16 => 16,
        OpKind::NearBranch32 => 32,
        _ => 64,
    }
}

fn is_relative(source: Source<'_>) -> bool {
    matches!(
        source.instr.op_kind(0),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    )
}

fn conditional(source: Source<'_>) -> Handler {
    // iced-x86 numbers the conditions as the encoding does, after a `None`.
    let code = source.instr.condition_code() as u8 - ConditionCode::o as u8;
    by_near!(source.mode, branch_bits(source), N => by_condition!(code, N))
}

fn count_down<U: Until>(source: Source<'_>) -> Handler {
    let count_bits = source.instr.op_code().address_size();
    by_near!(source.mode, branch_bits(source), N => {
        by_width!(count_bits, C => branch::count_down::<N, C, U>)
    })
}

fn jump_if_no_count(source: Source<'_>, count_bits: u32) -> Handler {
    by_near!(source.mode, branch_bits(source), N => {
        by_width!(count_bits, C => branch::jump_if_no_count::<N, C>)
    })
}

fn jump(source: Source<'_>) -> Option<Op> {
    if let Some(far) = far::<FarJump>(source) {
        return Some(source.op(far));
    }
    let form = source.form();
    let run = if is_relative(source) {
        by_near!(source.mode, branch_bits(source), N => branch::jump::<N> as Handler)
    } else if source.is_memory(0) {
        by_near!(source.mode, source.bits(0), N => by_form!(form, F => branch::jump_memory::<N, F> as Handler))
    } else {
        by_near!(source.mode, source.bits(0), N => branch::jump_register::<N> as Handler)
    };
    Some(source.op(run))
}

fn call(source: Source<'_>) -> Option<Op> {
    if let Some(far) = far::<FarCall>(source) {
        return Some(source.op(far));
    }
    let form = source.form();
    let run = if is_relative(source) {
        by_near!(source.mode, branch_bits(source), N => branch::call::<N> as Handler)
    } else if source.is_memory(0) {
        by_near!(source.mode, source.bits(0), N => by_form!(form, F => branch::call_memory::<N, F> as Handler))
    } else {
        by_near!(source.mode, source.bits(0), N => branch::call_register::<N> as Handler)
    };
    Some(source.op(run))
}

fn far<T: Far>(source: Source<'_>) -> Option<Handler> {
    let form = source.form();
    Some(match source.instr.code() {
        Code::Jmp_ptr1616 | Code::Call_ptr1616 => branch::far_immediate::<T, u16>,
        Code::Jmp_ptr1632 | Code::Call_ptr1632 => branch::far_immediate::<T, u32>,
        Code::Jmp_m1616 | Code::Call_m1616 => by_form!(form, F => branch::far_memory::<T, u16, F>),
        Code::Jmp_m1632 | Code::Call_m1632 => by_form!(form, F => branch::far_memory::<T, u32, F>),
        _ => return None,
    })
}

fn return_bits(source: Source<'_>) -> u32 {
    match source.instr.code() {
        Code::Retnw | Code::Retnw_imm16 | Code::Retfw | Code::Retfw_imm16 => 16,
        Code::Retnd | Code::Retnd_imm16 | Code::Retfd | Code::Retfd_imm16 => 32,
        _ => 64,
    }
}

fn far_return(source: Source<'_>) -> Op {
    source.op(by_width!(return_bits(source), W => branch::far_return::<W> as Handler))
}
