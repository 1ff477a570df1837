//! DAA, DAS, AAA, AAS, AAM, AAD (Intel SDM volume 2). They are rare and exist outside 64-bit code only: written for
//! reading.

use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::flags::{AF, CF};
use crate::engine::soft::regs::RegAt;

const AL: RegAt = RegAt::new(0);
const AX: RegAt = RegAt::new(0);
const AH: RegAt = RegAt::high(0);

/// SF, ZF and PF of the result; CF and AF as said; OF clear.
fn set_flags(cpu: &mut Cpu, result: u8, cf: bool, af: bool) {
    cpu.flags.set_logic(result);
    let carries = if cf { CF } else { 0 } | if af { AF } else { 0 };
    cpu.flags.set_arithmetic(cpu.flags.arithmetic() | carries);
}

fn low_digit_adjusts(cpu: &Cpu) -> bool {
    cpu.regs.get::<u8>(AL) & 15 > 9 || cpu.flags.af()
}

/// DAA.
pub fn daa(cpu: &mut Cpu, _: &Op) -> Step {
    let old = cpu.regs.get::<u8>(AL);
    let (low, high) = (low_digit_adjusts(cpu), old > 0x99 || cpu.flags.cf());
    let al = old
        .wrapping_add(if low { 6 } else { 0 })
        .wrapping_add(if high { 0x60 } else { 0 });
    cpu.regs.set(AL, al);
    set_flags(cpu, al, high, low);
    Ok(())
}

/// DAS. A borrow from the low digit's adjustment is a carry of its own.
pub fn das(cpu: &mut Cpu, _: &Op) -> Step {
    let old = cpu.regs.get::<u8>(AL);
    let (low, high) = (low_digit_adjusts(cpu), old > 0x99 || cpu.flags.cf());
    let al = old
        .wrapping_sub(if low { 6 } else { 0 })
        .wrapping_sub(if high { 0x60 } else { 0 });
    cpu.regs.set(AL, al);
    set_flags(cpu, al, high || low && old < 6, low);
    Ok(())
}

/// AAA.
pub fn aaa(cpu: &mut Cpu, _: &Op) -> Step {
    let adjusts = low_digit_adjusts(cpu);
    let ax = cpu.regs.get::<u16>(AX);
    adjusted(cpu, if adjusts { ax.wrapping_add(0x106) } else { ax }, adjusts);
    Ok(())
}

/// AAS.
pub fn aas(cpu: &mut Cpu, _: &Op) -> Step {
    let adjusts = low_digit_adjusts(cpu);
    let ax = cpu.regs.get::<u16>(AX);
    adjusted(cpu, if adjusts { ax.wrapping_sub(0x106) } else { ax }, adjusts);
    Ok(())
}

fn adjusted(cpu: &mut Cpu, ax: u16, carry: bool) {
    let ax = ax & 0xff0f;
    cpu.regs.set(AX, ax);
    set_flags(cpu, ax as u8, carry, carry);
}

/// AAM.
pub fn aam(cpu: &mut Cpu, op: &Op) -> Step {
    let al = cpu.regs.get::<u8>(AL);
    let base = op.imm as u8;
    match (al.checked_div(base), al.checked_rem(base)) {
        (Some(tens), Some(units)) => {
            cpu.regs.set(AH, tens);
            cpu.regs.set(AL, units);
            set_flags(cpu, units, false, false);
            Ok(())
        }
        _ => cpu.raise(vector::DE),
    }
}

/// AAD.
pub fn aad(cpu: &mut Cpu, op: &Op) -> Step {
    let tens = cpu.regs.get::<u8>(AH).wrapping_mul(op.imm as u8);
    let al = cpu.regs.get::<u8>(AL).wrapping_add(tens);
    cpu.regs.set(AX, u16::from(al));
    set_flags(cpu, al, false, false);
    Ok(())
}
