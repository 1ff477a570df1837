//! Near jumps, calls and returns; LOOP.

use super::data::by_condition;
use super::stack::flat_stack;
use super::{Source, by_form, by_width};
use crate::engine::interp::exec::branch::{self, Always, Checked, Equal, Flat, Long, NotEqual, Until};
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

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let instr = source.instr;
    let op = match instr.mnemonic() {
        Mnemonic::Jmp if !is_far(source) => jump(source).ending(),
        Mnemonic::Call if !is_far(source) => call(source).ending(),
        Mnemonic::Ret => source
            .op(by_near!(source.mode, return_bits(source), N => branch::ret::<N> as Handler))
            .ending(),
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

fn is_far(source: Source<'_>) -> bool {
    let instr = source.instr;
    instr.is_jmp_far() || instr.is_jmp_far_indirect() || instr.is_call_far() || instr.is_call_far_indirect()
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
    by_near!(source.mode, branch_bits(source), N => by_condition!(code, C => branch::jump_if::<N, C> as Handler))
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

fn jump(source: Source<'_>) -> Op {
    let form = source.form();
    let run = if is_relative(source) {
        by_near!(source.mode, branch_bits(source), N => branch::jump::<N> as Handler)
    } else if source.is_memory(0) {
        by_near!(source.mode, source.bits(0), N => by_form!(form, F => branch::jump_memory::<N, F> as Handler))
    } else {
        by_near!(source.mode, source.bits(0), N => branch::jump_register::<N> as Handler)
    };
    source.op(run)
}

fn call(source: Source<'_>) -> Op {
    let form = source.form();
    let run = if is_relative(source) {
        by_near!(source.mode, branch_bits(source), N => branch::call::<N> as Handler)
    } else if source.is_memory(0) {
        by_near!(source.mode, source.bits(0), N => by_form!(form, F => branch::call_memory::<N, F> as Handler))
    } else {
        by_near!(source.mode, source.bits(0), N => branch::call_register::<N> as Handler)
    };
    source.op(run)
}

fn return_bits(source: Source<'_>) -> u32 {
    match source.instr.code() {
        Code::Retnw | Code::Retnw_imm16 => 16,
        Code::Retnd | Code::Retnd_imm16 => 32,
        _ => 64,
    }
}
