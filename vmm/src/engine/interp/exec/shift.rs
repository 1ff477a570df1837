//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD.
//!
//! The count is masked to 5 bits (6 for 64-bit operands); a count of 0 changes no flag. What the manuals leave
//! undefined (OF for counts above 1, AF, double shifts by more than the operand's size) is what AMD's Zen does.

use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::Flags;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;

const CL: RegAt = RegAt::new(1);

/// A shift or rotate by a count that is not 0.
pub trait Shift: 'static {
    /// The result, and the flags. `count` is masked: 1..=31, for 64-bit operands 1..=63.
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W;
}

/// Where the count comes from.
pub trait Count: 'static {
    /// The count, masked for operands of `W`.
    fn count<W: Word>(cpu: &Cpu, op: &Op) -> u32;
}

/// The immediate.
pub struct Immediate;
/// CL.
pub struct InCl;

fn masked<W: Word>(count: u32) -> u32 {
    count & if W::BITS == 64 { 63 } else { 31 }
}

impl Count for Immediate {
    #[inline(always)]
    fn count<W: Word>(_: &Cpu, op: &Op) -> u32 {
        masked::<W>(op.imm as u32)
    }
}

impl Count for InCl {
    #[inline(always)]
    fn count<W: Word>(cpu: &Cpu, _: &Op) -> u32 {
        masked::<W>(cpu.regs.get::<u8>(CL).into())
    }
}

/// SHL, SAL.
pub struct Shl;
/// SHR.
pub struct Shr;
/// SAR.
pub struct Sar;
/// ROL.
pub struct Rol;
/// ROR.
pub struct Ror;
/// RCL.
pub struct Rcl;
/// RCR.
pub struct Rcr;

impl Shift for Shl {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let before_last = a.to_u64() << (count - 1);
        let result = W::from_u64(before_last << 1);
        let cf = W::from_u64(before_last).sign();
        flags.set_shifted(result, cf, result.sign() != cf);
        result
    }
}

impl Shift for Shr {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let before_last = a.to_u64() >> (count - 1);
        let result = W::from_u64(before_last >> 1);
        flags.set_shifted(result, before_last & 1 != 0, W::from_u64(before_last).sign());
        result
    }
}

impl Shift for Sar {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let before_last = a.to_i64() >> (count - 1);
        let result = W::from_u64((before_last >> 1) as u64);
        flags.set_shifted(result, before_last & 1 != 0, false);
        result
    }
}

fn rotated_left<W: Word>(a: W, count: u32) -> W {
    let count = count % W::BITS;
    if count == 0 {
        return a;
    }
    a << count | a >> (W::BITS - count)
}

impl Shift for Rol {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let result = rotated_left(a, count);
        let cf = result.to_u64() & 1 != 0;
        flags.set_cf_of(cf, result.sign() != cf);
        result
    }
}

impl Shift for Ror {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let result = rotated_left(a, W::BITS - count % W::BITS);
        flags.set_cf_of(result.sign(), result.sign() != (result << 1).sign());
        result
    }
}

/// Rotates CF and `a`, CF on top, to the left by 0..=BITS.
fn through_carry<W: Word>(a: W, cf: bool, count: u32) -> (W, bool) {
    let wide = u128::from(cf) << W::BITS | u128::from(a.to_u64());
    let rotated = wide << count | wide >> (W::BITS + 1 - count);
    (W::from_u64(rotated as u64), rotated >> W::BITS & 1 != 0)
}

impl Shift for Rcl {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let (result, cf) = through_carry(a, flags.cf(), count % (W::BITS + 1));
        flags.set_cf_of(cf, result.sign() != cf);
        result
    }
}

impl Shift for Rcr {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut Flags, a: W, count: u32) -> W {
        let (result, cf) = through_carry(a, flags.cf(), W::BITS + 1 - count % (W::BITS + 1));
        flags.set_cf_of(cf, result.sign() != (result << 1).sign());
        result
    }
}

/// Register.
pub fn r<O: Shift, W: Word, C: Count>(cpu: &mut Cpu, op: &Op) -> Step {
    let count = C::count::<W>(cpu, op);
    let a = cpu.regs.get::<W>(op.reg);
    let result = if count == 0 {
        a
    } else {
        O::apply(&mut cpu.flags, a, count)
    };
    // Written even if nothing moved: a 32-bit register's upper half goes.
    cpu.regs.set(op.reg, result);
    Ok(())
}

/// Memory.
pub fn m<O: Shift, W: Word, C: Count, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let count = C::count::<W>(cpu, op);
    let at = F::linear::<W, true>(cpu, op)?;
    let mut flags = cpu.flags;
    cpu.modify::<W, ()>(at, |a| {
        let result = if count == 0 {
            a
        } else {
            O::apply(&mut flags, a, count)
        };
        (result, ())
    })?;
    cpu.flags = flags;
    Ok(())
}

/// SHLD (`LEFT`) or SHRD of `a`, bits coming in from `b`, by a masked count that is not 0. Beyond the operand's 16
/// bits, those of `b` come in once more, and CF is clear.
#[inline(always)]
fn double<const LEFT: bool, W: Word>(flags: &mut Flags, a: W, b: W, count: u32) -> W {
    let wide = |high: W, low: W| u128::from(high.to_u64()) << W::BITS | u128::from(low.to_u64());
    let beyond = count > W::BITS;
    let (a, left) = if beyond { (b, count - W::BITS) } else { (a, count) };
    if LEFT {
        let before_last = wide(a, b) << (left - 1);
        let result = W::from_u64((before_last << 1 >> W::BITS) as u64);
        let cf = !beyond && W::from_u64((before_last >> W::BITS) as u64).sign();
        // OF compares CF with the top bit that is left of the destination's own.
        let top = count < W::BITS && result.sign();
        flags.set_shifted(result, cf, top != cf);
        result
    } else {
        let before_last = wide(b, a) >> (left - 1);
        let result = W::from_u64((before_last >> 1) as u64);
        let of = result.sign() != (result << 1).sign();
        flags.set_shifted(result, !beyond && before_last & 1 != 0, of);
        result
    }
}

/// SHLD, SHRD; destination in a register.
pub fn double_r<const LEFT: bool, W: Word, C: Count>(cpu: &mut Cpu, op: &Op) -> Step {
    let count = C::count::<W>(cpu, op);
    let (a, b) = (cpu.regs.get::<W>(op.reg), cpu.regs.get::<W>(op.rm));
    let result = if count == 0 {
        a
    } else {
        double::<LEFT, W>(&mut cpu.flags, a, b, count)
    };
    cpu.regs.set(op.reg, result);
    Ok(())
}

/// SHLD, SHRD; destination in memory.
pub fn double_m<const LEFT: bool, W: Word, C: Count, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let count = C::count::<W>(cpu, op);
    let b = cpu.regs.get::<W>(op.reg);
    let at = F::linear::<W, true>(cpu, op)?;
    let mut flags = cpu.flags;
    cpu.modify::<W, ()>(at, |a| {
        let result = if count == 0 {
            a
        } else {
            double::<LEFT, W>(&mut flags, a, b, count)
        };
        (result, ())
    })?;
    cpu.flags = flags;
    Ok(())
}
