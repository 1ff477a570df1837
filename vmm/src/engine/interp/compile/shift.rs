//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::shift::{self, Immediate, InCl, Rcl, Rcr, Rol, Ror, Sar, Shift, Shl, Shr};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::{Mnemonic, Register};

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let run = match source.instr.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => pick::<Shl>(source),
        Mnemonic::Shr => pick::<Shr>(source),
        Mnemonic::Sar => pick::<Sar>(source),
        Mnemonic::Rol => pick::<Rol>(source),
        Mnemonic::Ror => pick::<Ror>(source),
        Mnemonic::Rcl => pick::<Rcl>(source),
        Mnemonic::Rcr => pick::<Rcr>(source),
        Mnemonic::Shld => pick_double::<true>(source),
        Mnemonic::Shrd => pick_double::<false>(source),
        _ => return None,
    };
    Some(source.op(run))
}

fn pick<O: Shift>(source: Source<'_>) -> Handler {
    let form = source.form();
    let in_cl = source.instr.op1_register() == Register::CL;
    by_width!(source.bits(0), W => match (source.is_memory(0), in_cl) {
        (false, false) => shift::r::<O, W, Immediate>,
        (false, true) => shift::r::<O, W, InCl>,
        (true, false) => by_form!(form, F => shift::m::<O, W, Immediate, F>),
        (true, true) => by_form!(form, F => shift::m::<O, W, InCl, F>),
    })
}

fn pick_double<const LEFT: bool>(source: Source<'_>) -> Handler {
    let form = source.form();
    let in_cl = source.instr.op2_register() == Register::CL;
    by_width!(source.bits(0), W => match (source.is_memory(0), in_cl) {
        (false, false) => shift::double_r::<LEFT, W, Immediate>,
        (false, true) => shift::double_r::<LEFT, W, InCl>,
        (true, false) => by_form!(form, F => shift::double_m::<LEFT, W, Immediate, F>),
        (true, true) => by_form!(form, F => shift::double_m::<LEFT, W, InCl, F>),
    })
}
