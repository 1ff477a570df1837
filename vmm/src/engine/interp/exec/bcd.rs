//! DAA, DAS, AAA, AAS, AAM, AAD (Intel SDM volume 2). They are rare and exist outside 64-bit code only: written for
//! reading.

use super::alu::{Add, Binary, Sub};
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::flags::{AF, CF};
use crate::engine::soft::regs::RegAt;

const AL: RegAt = RegAt::new(0);
const AX: RegAt = RegAt::new(0);
const AH: RegAt = RegAt::high(0);

/// Sets CF and AF over the flags an addition or subtraction left. Those are what AMD's Zen has where the manuals say
/// "undefined".
fn set_carries(cpu: &mut Cpu, cf: bool, af: bool) {
    let carries = if cf { CF } else { 0 } | if af { AF } else { 0 };
    cpu.flags
        .set_arithmetic(cpu.flags.arithmetic() & !(CF | AF) | carries);
}

fn low_digit_adjusts(cpu: &Cpu) -> bool {
    cpu.regs.get::<u8>(AL) & 15 > 9 || cpu.flags.af()
}

/// What DAA adds and DAS subtracts, for the low and the high digit.
fn adjustment(low: bool, high: bool) -> u8 {
    u8::from(low) * 6 + u8::from(high) * 0x60
}

/// DAA.
pub fn daa(cpu: &mut Cpu, _: &Op) -> Step {
    let old = cpu.regs.get::<u8>(AL);
    let (low, high) = (low_digit_adjusts(cpu), old > 0x99 || cpu.flags.cf());
    let al = Add::apply(&mut cpu.flags, old, adjustment(low, high));
    cpu.regs.set(AL, al);
    set_carries(cpu, high, low);
    Ok(())
}

/// DAS. A borrow from the low digit's adjustment is a carry of its own.
pub fn das(cpu: &mut Cpu, _: &Op) -> Step {
    let old = cpu.regs.get::<u8>(AL);
    let (low, high) = (low_digit_adjusts(cpu), old > 0x99 || cpu.flags.cf());
    let al = Sub::apply(&mut cpu.flags, old, adjustment(low, high));
    cpu.regs.set(AL, al);
    set_carries(cpu, high || low && old < 6, low);
    Ok(())
}

/// AAA.
pub fn aaa(cpu: &mut Cpu, _: &Op) -> Step {
    ascii::<Add>(cpu)
}

/// AAS.
pub fn aas(cpu: &mut Cpu, _: &Op) -> Step {
    ascii::<Sub>(cpu)
}

fn ascii<O: Binary>(cpu: &mut Cpu) -> Step {
    let adjusts = low_digit_adjusts(cpu);
    let old = cpu.regs.get::<u16>(AX);
    let ax = O::apply(&mut cpu.flags, old, if adjusts { 0x106u16 } else { 0 });
    cpu.regs.set(AX, ax & 0xff0f);
    set_carries(cpu, adjusts, adjusts);
    Ok(())
}

/// AAM.
pub fn aam(cpu: &mut Cpu, op: &Op) -> Step {
    let al = cpu.regs.get::<u8>(AL);
    let base = op.imm as u8;
    match (al.checked_div(base), al.checked_rem(base)) {
        (Some(tens), Some(units)) => {
            cpu.regs.set(AH, tens);
            cpu.regs.set(AL, units);
            cpu.flags.set_logic(units);
            Ok(())
        }
        _ => cpu.raise(vector::DE),
    }
}

/// AAD.
pub fn aad(cpu: &mut Cpu, op: &Op) -> Step {
    let tens = cpu.regs.get::<u8>(AH).wrapping_mul(op.imm as u8);
    let al = Add::apply(&mut cpu.flags, cpu.regs.get::<u8>(AL), tens);
    cpu.regs.set(AX, u16::from(al));
    Ok(())
}
