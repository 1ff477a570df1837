//! ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::alu::{self, Adc, Add, And, Binary, Cmp, Or, Sbb, Sub, Test, Xor};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let run = match source.instr.mnemonic() {
        Mnemonic::Add => pick::<Add>(source),
        Mnemonic::Adc => pick::<Adc>(source),
        Mnemonic::Sub => pick::<Sub>(source),
        Mnemonic::Sbb => pick::<Sbb>(source),
        Mnemonic::Cmp => pick::<Cmp>(source),
        Mnemonic::And => pick::<And>(source),
        Mnemonic::Or => pick::<Or>(source),
        Mnemonic::Xor => pick::<Xor>(source),
        Mnemonic::Test => pick::<Test>(source),
        _ => return None,
    };
    Some(source.op(run))
}

fn pick<O: Binary>(source: Source<'_>) -> Handler {
    let form = source.form();
    by_width!(source.bits(0), W => match (source.is_memory(0), source.is_memory(1), source.is_register(1)) {
        (false, false, true) => alu::rr::<O, W>,
        (false, true, _) => by_form!(form, F => alu::rm::<O, W, F>),
        (true, _, true) => by_form!(form, F => alu::mr::<O, W, F>),
        (true, _, false) => by_form!(form, F => alu::mi::<O, W, F>),
        (false, false, false) => alu::ri::<O, W>,
    })
}
