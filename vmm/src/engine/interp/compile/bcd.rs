//! DAA, DAS, AAA, AAS, AAM, AAD.

use super::Source;
use crate::engine::interp::exec::bcd;
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let run: Handler = match source.instr.mnemonic() {
        Mnemonic::Daa => bcd::daa,
        Mnemonic::Das => bcd::das,
        Mnemonic::Aaa => bcd::aaa,
        Mnemonic::Aas => bcd::aas,
        Mnemonic::Aam => bcd::aam,
        Mnemonic::Aad => bcd::aad,
        _ => return None,
    };
    Some(source.op(run))
}
