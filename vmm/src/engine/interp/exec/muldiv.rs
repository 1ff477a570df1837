//! MUL, IMUL, DIV, IDIV.
//!
//! Products and dividends are built in 128 bits whatever the size: one machine instruction on the host.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;

const A: RegAt = RegAt::new(0);
const AH: RegAt = RegAt::high(0);
const D: RegAt = RegAt::new(2);

/// What the one-operand group does with rDX:rAX (AX for bytes) and its operand.
pub trait Wide: 'static {
    /// Does it. Raises #DE before anything changed.
    fn apply<W: Word>(cpu: &mut Cpu, operand: W) -> Step;
}

/// MUL.
pub struct Mul;
/// IMUL with one operand.
pub struct Imul;
/// DIV.
pub struct Div;
/// IDIV.
pub struct Idiv;

/// Where the upper half lives: rDX, or AH.
const fn upper<W: Word>() -> RegAt {
    if W::BITS == 8 { AH } else { D }
}

#[inline(always)]
fn set_pair<W: Word>(cpu: &mut Cpu, low: W, high: W) {
    cpu.regs.set(A, low);
    cpu.regs.set(upper::<W>(), high);
}

impl Wide for Mul {
    #[inline(always)]
    fn apply<W: Word>(cpu: &mut Cpu, operand: W) -> Step {
        let product = u128::from(cpu.regs.get::<W>(A).to_u64()) * u128::from(operand.to_u64());
        let high = W::from_u64((product >> W::BITS) as u64);
        set_pair(cpu, W::from_u64(product as u64), high);
        cpu.flags.set_cf_of(high != W::ZERO, high != W::ZERO);
        Ok(())
    }
}

#[inline(always)]
fn signed_product<W: Word>(a: W, b: W) -> (i128, W, bool) {
    let product = i128::from(a.to_i64()) * i128::from(b.to_i64());
    let low = W::from_u64(product as u64);
    (product, low, i128::from(low.to_i64()) != product)
}

impl Wide for Imul {
    #[inline(always)]
    fn apply<W: Word>(cpu: &mut Cpu, operand: W) -> Step {
        let (product, low, overflow) = signed_product(cpu.regs.get::<W>(A), operand);
        set_pair(cpu, low, W::from_u64((product >> W::BITS) as u64));
        cpu.flags.set_cf_of(overflow, overflow);
        Ok(())
    }
}

impl Wide for Div {
    #[inline(always)]
    fn apply<W: Word>(cpu: &mut Cpu, operand: W) -> Step {
        let (low, high) = (cpu.regs.get::<W>(A), cpu.regs.get::<W>(upper::<W>()));
        // A quotient fits exactly if the upper half is below the divisor, which a divisor of 0 never is above.
        if high >= operand {
            return cpu.raise(vector::DE);
        }
        let divisor = operand.to_u64();
        let (quotient, remainder) = if W::BITS == 64 && high != W::ZERO {
            let dividend = u128::from(high.to_u64()) << 64 | u128::from(low.to_u64());
            let divisor = u128::from(divisor);
            ((dividend / divisor) as u64, (dividend % divisor) as u64)
        } else {
            // Of 64 bits the upper half is 0 here, and its shift harmless.
            let dividend = high.to_u64() << (W::BITS & 63) | low.to_u64();
            (dividend / divisor, dividend % divisor)
        };
        set_pair(cpu, W::from_u64(quotient), W::from_u64(remainder));
        Ok(())
    }
}

impl Wide for Idiv {
    #[inline(always)]
    fn apply<W: Word>(cpu: &mut Cpu, operand: W) -> Step {
        let (low, high) = (cpu.regs.get::<W>(A), cpu.regs.get::<W>(upper::<W>()));
        let dividend = i128::from(high.to_i64()) << W::BITS | i128::from(low.to_u64());
        let divisor = i128::from(operand.to_i64());
        // Wide division is a library call; what fits 64 bits is not: all but the widest, and most of those.
        let halves = match (i64::try_from(dividend), operand.to_i64()) {
            (Ok(dividend), divisor) if dividend != i64::MIN => dividend
                .checked_div(divisor)
                .map(|quotient| (i128::from(quotient), i128::from(dividend.wrapping_rem(divisor)))),
            _ => dividend
                .checked_div(divisor)
                .map(|quotient| (quotient, dividend.wrapping_rem(divisor))),
        };
        match halves {
            Some((quotient, remainder)) if i128::from(W::from_u64(quotient as u64).to_i64()) == quotient => {
                set_pair(cpu, W::from_u64(quotient as u64), W::from_u64(remainder as u64));
                Ok(())
            }
            _ => cpu.raise(vector::DE),
        }
    }
}

/// One operand, in a register.
pub fn r<O: Wide, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let operand = cpu.regs.get::<W>(op.reg);
    O::apply(cpu, operand)
}

/// One operand, in memory.
pub fn m<O: Wide, W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let operand = cpu.load::<W>(at)?;
    O::apply(cpu, operand)
}

#[inline(always)]
fn imul_to_reg<W: Word>(cpu: &mut Cpu, op: &Op, a: W, b: W) {
    let (_, low, overflow) = signed_product(a, b);
    cpu.regs.set(op.reg, low);
    cpu.flags.set_cf_of(overflow, overflow);
}

/// IMUL register, register.
pub fn imul_rr<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let (a, b) = (cpu.regs.get::<W>(op.reg), cpu.regs.get::<W>(op.rm));
    imul_to_reg(cpu, op, a, b);
    Ok(())
}

/// IMUL register, memory.
pub fn imul_rm<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let (a, b) = (cpu.regs.get::<W>(op.reg), cpu.load::<W>(at)?);
    imul_to_reg(cpu, op, a, b);
    Ok(())
}

/// IMUL register, register, immediate.
pub fn imul_rri<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let a = cpu.regs.get::<W>(op.rm);
    imul_to_reg(cpu, op, a, W::from_u64(op.imm));
    Ok(())
}

/// IMUL register, memory, immediate.
pub fn imul_rmi<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<W, false>(cpu, op)?;
    let a = cpu.load::<W>(at)?;
    imul_to_reg(cpu, op, a, W::from_u64(op.imm));
    Ok(())
}
