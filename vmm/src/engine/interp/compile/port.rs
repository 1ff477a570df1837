//! IN and OUT.

use super::{Source, by_width};
use crate::engine::interp::exec::port;
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let run = match source.instr.mnemonic() {
        Mnemonic::In if source.is_register(1) => {
            by_width!(source.bits(0), W => port::in_register::<W> as Handler)
        }
        Mnemonic::In => by_width!(source.bits(0), W => port::in_immediate::<W> as Handler),
        Mnemonic::Out if source.is_register(0) => {
            by_width!(source.bits(1), W => port::out_register::<W> as Handler)
        }
        Mnemonic::Out => by_width!(source.bits(1), W => port::out_immediate::<W> as Handler),
        _ => return None,
    };
    Some(source.op(run))
}
