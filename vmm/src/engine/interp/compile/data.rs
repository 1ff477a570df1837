//! MOV between general registers, memory and immediates; MOVZX, MOVSX, MOVSXD; LEA; XCHG; CMOVcc; SETcc; BSWAP; XLAT;
//! CBW and its relatives.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::data;
use crate::engine::interp::op::{Handler, Op};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use iced_x86::{Code, Mnemonic};

/// Evaluates an expression with the constant `$C` bound to a condition code 0..=15.
macro_rules! by_condition {
    ($code:expr, $C:ident => $e:expr) => {
        by_condition!(@ $code, $C => $e; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $code:expr, $C:ident => $e:expr; $($n:literal)*) => {
        match $code {
            $($n => {
                const $C: u8 = $n;
                $e
            })*
            _ => {
                const $C: u8 = 15;
                $e
            }
        }
    };
}

pub(super) use by_condition;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    let run = match source.instr.mnemonic() {
        Mnemonic::Mov => return mov(source),
        Mnemonic::Movnti => return Some(source.op(store(source))),
        Mnemonic::Movzx => extend::<false>(source),
        Mnemonic::Movsx | Mnemonic::Movsxd => extend::<true>(source),
        Mnemonic::Cbw => data::extend_a::<u8, u16>,
        Mnemonic::Cwde => data::extend_a::<u16, u32>,
        Mnemonic::Cdqe => data::extend_a::<u32, u64>,
        Mnemonic::Cwd => data::sign_into_d::<u16>,
        Mnemonic::Cdq => data::sign_into_d::<u32>,
        Mnemonic::Cqo => data::sign_into_d::<u64>,
        Mnemonic::Lea => by_width!(source.bits(0), W => by_form!(form, F => data::lea::<W, F>)),
        Mnemonic::Xchg => by_width!(source.bits(0), W => if source.is_memory(0) || source.is_memory(1) {
            by_form!(form, F => data::xchg_m::<W, F>)
        } else {
            data::xchg_rr::<W>
        }),
        Mnemonic::Bswap => by_width!(source.bits(0), W => data::bswap::<W>),
        Mnemonic::Xlatb => {
            let run: Handler = by_form!(form, F => data::xlat::<F>);
            // The table index is AL, not the whole of rAX: the handler adds it.
            return Some(Op {
                index: RegAt::ZERO,
                ..source.op(run)
            });
        }
        _ => return conditional(source),
    };
    Some(source.op(run))
}

fn mov(source: Source<'_>) -> Option<Op> {
    let special = |n: u32| source.is_register(n) && !source.instr.op_register(n).is_gpr();
    if special(0) || special(1) {
        return None;
    }
    if let Some(op) = offset64(source) {
        return Some(op);
    }
    let form = source.form();
    let run: Handler = match (source.is_memory(0), source.is_memory(1), source.is_register(1)) {
        (true, ..) => store(source),
        (_, true, _) => by_width!(source.bits(0), W => by_form!(form, F => data::mov_rm::<W, F>)),
        (_, _, true) => by_width!(source.bits(0), W => data::mov_rr::<W>),
        (_, _, false) => by_width!(source.bits(0), W => data::mov_ri::<W>),
    };
    Some(source.op(run))
}

fn store(source: Source<'_>) -> Handler {
    let form = source.form();
    by_width!(source.bits(0), W => if source.is_register(1) {
        by_form!(form, F => data::mov_mr::<W, F>)
    } else {
        by_form!(form, F => data::mov_mi::<W, F>)
    })
}

/// MOV with an offset of 64 bits, which no displacement field holds.
fn offset64(source: Source<'_>) -> Option<Op> {
    let bits = source.bits(0);
    let run: Handler = match source.instr.code() {
        Code::Mov_AL_moffs8 | Code::Mov_AX_moffs16 | Code::Mov_EAX_moffs32 | Code::Mov_RAX_moffs64 => {
            by_width!(bits, W => data::mov_from_offset64::<W>)
        }
        Code::Mov_moffs8_AL | Code::Mov_moffs16_AX | Code::Mov_moffs32_EAX | Code::Mov_moffs64_RAX => {
            by_width!(bits, W => data::mov_to_offset64::<W>)
        }
        _ => return None,
    };
    let wide = source.mode.contains(Mode::CODE64) && source.address_bits() == 64;
    wide.then(|| Op {
        imm: source.instr.memory_displacement64(),
        ..source.op(run)
    })
}

fn extend<const SIGNED: bool>(source: Source<'_>) -> Handler {
    let form = source.form();
    // MOVSXD loads 32 bits even for a 16-bit destination: seen on AMD's Zen, where it faults accordingly.
    let from = if source.instr.mnemonic() == Mnemonic::Movsxd {
        32
    } else {
        source.bits(1)
    };
    by_width!(from, From => by_width!(source.bits(0), To => if source.is_memory(1) {
        by_form!(form, F => data::extend_rm::<From, To, SIGNED, F>)
    } else {
        data::extend_rr::<From, To, SIGNED>
    }))
}

/// CMOVcc and SETcc. The condition code is in the last four bits of the opcode.
fn conditional(source: Source<'_>) -> Option<Op> {
    let opcode = source.instr.code().op_code().op_code();
    let form = source.form();
    let condition = (opcode & 15) as u8;
    let run: Handler = match opcode & !15 {
        _ if !is_conditional(source) => return None,
        0x90 if source.is_memory(0) => {
            by_condition!(condition, C => by_form!(form, F => data::set_m::<F, C>))
        }
        0x90 => by_condition!(condition, C => data::set_r::<C>),
        _ if source.is_memory(1) => by_condition!(condition, C => match source.bits(0) {
            16 => by_form!(form, F => data::cmov_rm::<u16, F, C>),
            32 => by_form!(form, F => data::cmov_rm::<u32, F, C>),
            _ => by_form!(form, F => data::cmov_rm::<u64, F, C>),
        }),
        _ => by_condition!(condition, C => match source.bits(0) {
            16 => data::cmov_rr::<u16, C>,
            32 => data::cmov_rr::<u32, C>,
            _ => data::cmov_rr::<u64, C>,
        }),
    };
    Some(source.op(run))
}

fn is_conditional(source: Source<'_>) -> bool {
    use iced_x86::{ConditionCode, FlowControl, OpCodeTableKind};
    let code = source.instr.code();
    code.condition_code() != ConditionCode::None
        && code.flow_control() == FlowControl::Next
        && code.op_code().table() == OpCodeTableKind::T0F
        && matches!(code.op_code().op_code() >> 4, 4 | 9)
}
