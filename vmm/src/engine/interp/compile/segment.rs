//! MOV to and from segment registers, LDS, LES, LFS, LGS, LSS.

use super::{Source, by_form, by_width, segment};
use crate::engine::interp::exec::segment::{load_far, load_m, load_r, store_m, store_r};
use crate::engine::interp::op::{Handler, Op};
use crate::engine::state::{DS, ES, FS, GS, SS};
use iced_x86::{Mnemonic, Register};

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    match source.instr.mnemonic() {
        Mnemonic::Mov => mov(source),
        Mnemonic::Lds => far(source, DS),
        Mnemonic::Les => far(source, ES),
        Mnemonic::Lfs => far(source, FS),
        Mnemonic::Lgs => far(source, GS),
        Mnemonic::Lss => far(source, SS),
        _ => None,
    }
}

fn mov(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    let (to, from) = (source.instr.op0_register(), source.instr.op1_register());
    if to.is_segment_register() {
        let run: Handler = if source.is_memory(1) {
            by_form!(form, F => load_m::<F>)
        } else {
            load_r
        };
        // CS is loaded by far transfers only: #UD.
        return (to != Register::CS).then(|| with_index(source, run, to).ending());
    }
    if !from.is_segment_register() {
        return None;
    }
    let run: Handler = if source.is_memory(0) {
        by_form!(form, F => store_m::<F>)
    } else {
        by_width!(source.bits(0), W => store_r::<W>)
    };
    Some(with_index(source, run, from))
}

fn with_index(source: Source<'_>, run: Handler, register: Register) -> Op {
    Op {
        imm: segment(register).into(),
        ..source.op(run)
    }
}

fn far(source: Source<'_>, index: usize) -> Option<Op> {
    let form = source.form();
    let run: Handler = by_width!(source.bits(0), W => by_form!(form, F => load_far::<W, F>));
    Some(
        Op {
            imm: index as u64,
            ..source.op(run)
        }
        .ending(),
    )
}
