//! MUL, IMUL, DIV, IDIV.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::muldiv::{self, Div, Idiv, Imul, Mul, Wide};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    let run: Handler = match (source.instr.mnemonic(), source.instr.op_count()) {
        (Mnemonic::Mul, _) => pick::<Mul>(source),
        (Mnemonic::Div, _) => pick::<Div>(source),
        (Mnemonic::Idiv, _) => pick::<Idiv>(source),
        (Mnemonic::Imul, 1) => pick::<Imul>(source),
        (Mnemonic::Imul, count) => {
            by_width!(source.bits(0), W => match (count == 3, source.is_memory(1)) {
                (false, false) => muldiv::imul_rr::<W>,
                (false, true) => by_form!(form, F => muldiv::imul_rm::<W, F>),
                (true, false) => muldiv::imul_rri::<W>,
                (true, true) => by_form!(form, F => muldiv::imul_rmi::<W, F>),
            })
        }
        _ => return None,
    };
    Some(source.op(run))
}

fn pick<O: Wide>(source: Source<'_>) -> Handler {
    let form = source.form();
    by_width!(source.bits(0), W => if source.is_memory(0) {
        by_form!(form, F => muldiv::m::<O, W, F>)
    } else {
        muldiv::r::<O, W>
    })
}
