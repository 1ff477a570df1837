//! XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::atomic;
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    let in_memory = source.is_memory(0);
    let run: Handler = match source.instr.mnemonic() {
        Mnemonic::Xadd => by_width!(source.bits(0), W => if in_memory {
            by_form!(form, F => atomic::xadd_mr::<W, F>)
        } else {
            atomic::xadd_rr::<W>
        }),
        Mnemonic::Cmpxchg => by_width!(source.bits(0), W => if in_memory {
            by_form!(form, F => atomic::cmpxchg_mr::<W, F>)
        } else {
            atomic::cmpxchg_rr::<W>
        }),
        Mnemonic::Cmpxchg8b => by_form!(form, F => atomic::cmpxchg8b::<F>),
        Mnemonic::Cmpxchg16b => by_form!(form, F => atomic::cmpxchg16b::<F>),
        _ => return None,
    };
    Some(source.op(run))
}
