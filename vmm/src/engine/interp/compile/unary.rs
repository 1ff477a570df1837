//! INC, DEC, NEG, NOT.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::unary::{self, Dec, Inc, Neg, Not, Unary};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let run = match source.instr.mnemonic() {
        Mnemonic::Inc => pick::<Inc>(source),
        Mnemonic::Dec => pick::<Dec>(source),
        Mnemonic::Neg => pick::<Neg>(source),
        Mnemonic::Not => pick::<Not>(source),
        _ => return None,
    };
    Some(source.op(run))
}

fn pick<O: Unary>(source: Source<'_>) -> Handler {
    let form = source.form();
    by_width!(source.bits(0), W => if source.is_memory(0) {
        by_form!(form, F => unary::m::<O, W, F>)
    } else {
        unary::r::<O, W>
    })
}
