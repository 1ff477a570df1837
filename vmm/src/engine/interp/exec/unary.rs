//! INC, DEC, NEG, NOT: one operand, read and written.

use super::alu::{Binary, Sub};
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::Flags;
use crate::engine::soft::word::Word;

/// A one-operand operation.
pub trait Unary: 'static {
    /// The result, and the flags.
    fn apply<W: Word>(flags: &mut Flags, a: W) -> W;
}

/// INC.
pub struct Inc;
/// DEC.
pub struct Dec;
/// NEG.
pub struct Neg;
/// NOT.
pub struct Not;

impl Unary for Inc {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W) -> W {
        let sum = a.plus(W::from_u64(1));
        // Adding one carries out of every bit that turns from one to zero.
        flags.set_keeping_cf(sum, a & !sum);
        sum
    }
}

impl Unary for Dec {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W) -> W {
        let difference = a.minus(W::from_u64(1));
        flags.set_keeping_cf(difference, !a & difference);
        difference
    }
}

impl Unary for Neg {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W) -> W {
        Sub::apply(flags, W::ZERO, a)
    }
}

impl Unary for Not {
    #[inline(always)]
    fn apply<W: Word>(_: &mut Flags, a: W) -> W {
        !a
    }
}

/// Register.
pub fn r<O: Unary, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.regs.get::<W>(op.reg);
    let result = O::apply(&mut cpu.flags, a);
    cpu.regs.set(op.reg, result);
    Ok(())
}

/// Memory.
pub fn m<O: Unary, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, true>(cpu, op)?;
    let mut flags = cpu.flags;
    cpu.modify::<W, ()>(at, |a| (O::apply(&mut flags, a), ()))?;
    cpu.flags = flags;
    Ok(())
}
