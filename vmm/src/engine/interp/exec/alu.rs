//! ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST in every size and form: the pattern the other groups follow.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::Flags;
use crate::engine::soft::word::Word;

/// A two-operand operation that sets the arithmetic flags.
pub trait Binary: 'static {
    /// Whether the result goes to the first operand.
    const WRITES: bool = true;
    /// The result, and the flags.
    fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W;
}

/// ADD.
pub struct Add;
/// ADC.
pub struct Adc;
/// SUB.
pub struct Sub;
/// SBB.
pub struct Sbb;
/// CMP.
pub struct Cmp;
/// AND.
pub struct And;
/// OR.
pub struct Or;
/// XOR.
pub struct Xor;
/// TEST.
pub struct Test;

/// Carries out of each bit of `a + b (+ carry) = sum`.
#[inline(always)]
fn carries<W: Word>(a: W, b: W, sum: W) -> W {
    (a & b) | ((a | b) & !sum)
}

/// Borrows into each bit of `a - b (- borrow) = difference`.
#[inline(always)]
fn borrows<W: Word>(a: W, b: W, difference: W) -> W {
    (!a & b) | ((!a | b) & difference)
}

impl Binary for Add {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W {
        let sum = a.plus(b);
        flags.set_carries(sum, carries(a, b, sum));
        sum
    }
}

impl Binary for Adc {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W {
        let sum = a.plus(b).plus(W::from_u64(flags.cf().into()));
        flags.set_carries(sum, carries(a, b, sum));
        sum
    }
}

impl Binary for Sub {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W {
        let difference = a.minus(b);
        flags.set_carries(difference, borrows(a, b, difference));
        difference
    }
}

impl Binary for Sbb {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W {
        let difference = a.minus(b).minus(W::from_u64(flags.cf().into()));
        flags.set_carries(difference, borrows(a, b, difference));
        difference
    }
}

impl Binary for Cmp {
    const WRITES: bool = false;
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W {
        Sub::apply(flags, a, b)
    }
}

macro_rules! logic {
    ($name:ident, $writes:literal, $operator:tt) => {
        impl Binary for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn apply<W: Word>(flags: &mut Flags, a: W, b: W) -> W {
                let result = a $operator b;
                flags.set_logic(result);
                result
            }
        }
    };
}
logic!(And, true, &);
logic!(Or, true, |);
logic!(Xor, true, ^);
logic!(Test, false, &);

/// Register, register.
pub fn rr<O: Binary, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.regs.get::<W>(op.reg), cpu.regs.get::<W>(op.rm));
    let result = O::apply(&mut cpu.flags, a, b);
    if O::WRITES {
        cpu.regs.set(op.reg, result);
    }
    Ok(())
}

/// Register, immediate.
pub fn ri<O: Binary, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.regs.get::<W>(op.reg);
    let result = O::apply(&mut cpu.flags, a, W::from_u64(op.imm));
    if O::WRITES {
        cpu.regs.set(op.reg, result);
    }
    Ok(())
}

/// Register, memory.
pub fn rm<O: Binary, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let b = cpu.load::<W>(at)?;
    let a = cpu.regs.get::<W>(op.reg);
    let result = O::apply(&mut cpu.flags, a, b);
    if O::WRITES {
        cpu.regs.set(op.reg, result);
    }
    Ok(())
}

/// Memory, register.
pub fn mr<O: Binary, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let b = cpu.regs.get::<W>(op.reg);
    memory::<O, W, F>(cpu, op, b)
}

/// Memory, immediate.
pub fn mi<O: Binary, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    memory::<O, W, F>(cpu, op, W::from_u64(op.imm))
}

#[inline(always)]
fn memory<O: Binary, W: Word, F: Form>(cpu: &mut Cpu, op: &Op, b: W) -> Step {
    let mut flags = cpu.flags;
    if O::WRITES {
        let at = F::linear::<W, true>(cpu, op)?;
        cpu.modify::<W, ()>(at, |a| (O::apply(&mut flags, a, b), ()))?;
    } else {
        let at = F::linear::<W, false>(cpu, op)?;
        let a = cpu.load::<W>(at)?;
        O::apply(&mut flags, a, b);
    }
    cpu.flags = flags;
    Ok(())
}
