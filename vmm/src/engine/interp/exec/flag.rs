//! PUSHF, POPF, LAHF, SAHF, SALC, and the instructions for single flags.
//!
//! What software may change of RFLAGS depends on CPL, IOPL and virtual-8086 mode (Intel SDM volume 2: CLI, STI, POPF,
//! PUSHF; volume 3, section 20.2.7). The software CPU has no VME, so that VIF and VIP mean nothing here.

use super::stack::Stack;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::{AC, AF, ARITHMETIC, CF, DF, ID, IF, IOPL, NT, OF, PF, RF, SF, TF, VM, ZF};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;

const AL: RegAt = RegAt::new(0);
const AH: RegAt = RegAt::high(0);
/// What SAHF loads and LAHF stores, besides bit 1.
const LOW: u64 = CF | PF | AF | ZF | SF;

/// CMC.
pub fn complement_carry(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_cf(!cpu.flags.cf());
    Ok(())
}

/// CLC.
pub fn clear_carry(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_cf(false);
    Ok(())
}

/// STC.
pub fn set_carry(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.set_cf(true);
    Ok(())
}

/// CLD.
pub fn clear_direction(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.others &= !DF;
    Ok(())
}

/// STD.
pub fn set_direction(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.flags.others |= DF;
    Ok(())
}

/// LAHF.
pub fn load_ah(cpu: &mut Cpu, _: &Op) -> Step {
    let low = (cpu.flags.arithmetic() & LOW) as u8 | 2;
    cpu.regs.set(AH, low);
    Ok(())
}

/// SAHF.
pub fn store_ah(cpu: &mut Cpu, _: &Op) -> Step {
    let low = u64::from(cpu.regs.get::<u8>(AH)) & LOW;
    let overflow = cpu.flags.arithmetic() & OF;
    cpu.flags.set_arithmetic(overflow | low);
    Ok(())
}

/// SALC: AL is CF in every bit.
pub fn set_al(cpu: &mut Cpu, _: &Op) -> Step {
    let al = if cpu.flags.cf() { 0xffu8 } else { 0 };
    cpu.regs.set(AL, al);
    Ok(())
}

fn iopl(cpu: &Cpu) -> u8 {
    ((cpu.flags.others & IOPL) >> 12) as u8
}

/// CLI and STI are for CPL up to IOPL; virtual-8086 mode counts as CPL 3.
fn check_iopl(cpu: &mut Cpu) -> Step {
    if cpu.cpl <= iopl(cpu) {
        Ok(())
    } else {
        cpu.raise_gp()
    }
}

/// CLI.
pub fn clear_interrupt(cpu: &mut Cpu, _: &Op) -> Step {
    check_iopl(cpu)?;
    cpu.flags.others &= !IF;
    Ok(())
}

/// STI. If it opens interrupts, the next instruction still runs without one.
pub fn set_interrupt(cpu: &mut Cpu, op: &Op) -> Step {
    check_iopl(cpu)?;
    if cpu.flags.others & IF != 0 {
        return Ok(());
    }
    cpu.flags.others |= IF;
    cpu.shadow = true;
    cpu.attention = true;
    op.finish(cpu)
}

/// PUSHF and POPF are IOPL-sensitive in virtual-8086 mode only.
fn check_v86(cpu: &mut Cpu) -> Step {
    if cpu.mode.contains(Mode::V86) {
        check_iopl(cpu)?;
    }
    Ok(())
}

/// PUSHF, PUSHFD, PUSHFQ. VM and RF are pushed as 0.
pub fn push_flags<S: Stack, W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    check_v86(cpu)?;
    let image = cpu.flags.rflags() & !(VM | RF);
    S::push(cpu, W::from_u64(image))
}

/// POPF, POPFD, POPFQ.
pub fn pop_flags<S: Stack, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    check_v86(cpu)?;
    let image = S::peek::<W>(cpu)?.to_u64();
    let old = cpu.flags.rflags();
    let new = merge::<W>(cpu, old, image);
    S::drop(cpu, W::BYTES as u64);
    cpu.flags.set_rflags(new);
    if (old ^ new) & AC != 0 {
        cpu.select_tlb();
    }
    if new & !old & IF != 0 || new & TF != 0 {
        cpu.attention = true;
        return op.finish(cpu);
    }
    Ok(())
}

/// `old` with what POPF may change taken from `image`. IOPL is CPL 0's, IF that of CPL up to IOPL; 32 and 64 bits
/// clear RF.
fn merge<W: Word>(cpu: &Cpu, old: u64, image: u64) -> u64 {
    let mut change = ARITHMETIC | TF | DF | NT;
    if cpu.cpl == 0 {
        change |= IOPL;
    }
    if cpu.cpl <= iopl(cpu) {
        change |= IF;
    }
    let mut kept = old;
    if W::BITS > 16 {
        change |= AC | ID;
        kept &= !RF;
    }
    (kept & !change) | (image & change)
}
