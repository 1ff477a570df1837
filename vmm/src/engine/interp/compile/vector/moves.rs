//! The moves with handlers of their own.

use super::by_check;
use crate::engine::interp::compile::{Source, by_form, general};
use crate::engine::interp::exec::vector::moves;
use crate::engine::interp::op::{Handler, Op};
use crate::engine::soft::mode::Mode;
use iced_x86::{Mnemonic, Register};

/// Where a move's operands are.
enum Shape {
    /// XMM, XMM.
    Registers,
    /// XMM, memory.
    Load,
    /// Memory, XMM.
    Store,
    /// XMM, general register.
    FromGeneral,
    /// General register, XMM.
    ToGeneral,
}

fn shape(source: Source<'_>) -> Option<Shape> {
    if source.instr.op_count() != 2 {
        return None;
    }
    let register = |n| {
        if source.is_register(n) {
            source.instr.op_register(n)
        } else {
            Register::None
        }
    };
    let memory = |n| source.is_memory(n);
    match (register(0), register(1)) {
        (a, b) if a.is_xmm() && b.is_xmm() => Some(Shape::Registers),
        (a, _) if a.is_xmm() && memory(1) => Some(Shape::Load),
        (_, b) if memory(0) && b.is_xmm() => Some(Shape::Store),
        (a, b) if a.is_xmm() && b.is_gpr() => Some(Shape::FromGeneral),
        (a, b) if a.is_gpr() && b.is_xmm() => Some(Shape::ToGeneral),
        _ => None,
    }
}

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let shape = shape(source)?;
    let run = match shape {
        Shape::Registers => registers(source)?,
        Shape::Load => load(source)?,
        Shape::Store => store(source)?,
        Shape::FromGeneral => match source.instr.mnemonic() {
            Mnemonic::Movd => by_check!(source, C => moves::from_general::<u32, C>),
            Mnemonic::Movq => by_check!(source, C => moves::from_general::<u64, C>),
            _ => return None,
        },
        Shape::ToGeneral => match source.instr.mnemonic() {
            Mnemonic::Movd => by_check!(source, C => moves::to_general::<u32, C>),
            Mnemonic::Movq => by_check!(source, C => moves::to_general::<u64, C>),
            _ => return None,
        },
    };
    let mut op = source.op(run);
    let place = |n| {
        let register = source.instr.op_register(n);
        general(register).unwrap_or_else(|| super::vector_number(register))
    };
    (op.reg, op.rm) = match shape {
        Shape::Registers | Shape::FromGeneral => (place(0), place(1)),
        Shape::ToGeneral => (place(1), place(0)),
        Shape::Load => (place(0), op.rm),
        Shape::Store => (place(1), op.rm),
    };
    Some(op)
}

fn registers(source: Source<'_>) -> Option<Handler> {
    use Mnemonic as M;
    let same = source.instr.op_register(0) == source.instr.op_register(1);
    Some(match source.instr.mnemonic() {
        M::Movaps | M::Movapd | M::Movdqa | M::Movups | M::Movupd | M::Movdqu => {
            by_check!(source, C => moves::copy::<C>)
        }
        M::Movq => by_check!(source, C => moves::copy_low::<C>),
        M::Pxor | M::Xorps | M::Xorpd if same => by_check!(source, C => moves::clear::<C>),
        _ => return None,
    })
}

fn load(source: Source<'_>) -> Option<Handler> {
    use Mnemonic as M;
    let form = source.form();
    Some(match source.instr.mnemonic() {
        M::Movaps | M::Movapd | M::Movdqa | M::Movntdqa => {
            by_check!(source, C => by_form!(form, F => moves::load::<F, true, C>))
        }
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => {
            by_check!(source, C => by_form!(form, F => moves::load::<F, false, C>))
        }
        M::Movd | M::Movss => by_check!(source, C => by_form!(form, F => moves::load_low::<u32, F, C>)),
        M::Movq | M::Movsd => by_check!(source, C => by_form!(form, F => moves::load_low::<u64, F, C>)),
        _ => return None,
    })
}

fn store(source: Source<'_>) -> Option<Handler> {
    use Mnemonic as M;
    let form = source.form();
    Some(match source.instr.mnemonic() {
        M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq => {
            by_check!(source, C => by_form!(form, F => moves::store::<F, true, C>))
        }
        M::Movups | M::Movupd | M::Movdqu => {
            by_check!(source, C => by_form!(form, F => moves::store::<F, false, C>))
        }
        M::Movd | M::Movss => by_check!(source, C => by_form!(form, F => moves::store_low::<u32, F, C>)),
        M::Movq | M::Movsd | M::Movlps | M::Movlpd => {
            by_check!(source, C => by_form!(form, F => moves::store_low::<u64, F, C>))
        }
        _ => return None,
    })
}
