//! Table registers, selectors and the machine status word: instructions whose operand is 16 bits in a register or in
//! memory, or a table's limit and base.

use super::{not_user_with_umip, privileged};
use crate::engine::check::is_canonical;
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::system::Probe;
use crate::engine::soft::word::Word;
use crate::engine::state::TableRegister;
use std::marker::PhantomData;

const CR0_PE: u64 = 1;
/// What LMSW loads: PE, MP, EM, TS.
const CR0_MSW: u64 = 0xf;

/// An operand in a register (always [`Op::rm`] here) or in memory.
pub trait Place: 'static {
    /// Its value.
    fn read<W: Word>(cpu: &mut Cpu, op: &Op) -> Step<W>;
    /// Sets it.
    fn write<W: Word>(cpu: &mut Cpu, op: &Op, value: W) -> Step;
}

/// In a register.
pub struct InRegister;
/// In memory.
pub struct InMemory<F>(PhantomData<F>);

impl Place for InRegister {
    fn read<W: Word>(cpu: &mut Cpu, op: &Op) -> Step<W> {
        Ok(cpu.regs.get(op.rm))
    }
    fn write<W: Word>(cpu: &mut Cpu, op: &Op, value: W) -> Step {
        cpu.regs.set(op.rm, value);
        Ok(())
    }
}

impl<F: Form> Place for InMemory<F> {
    fn read<W: Word>(cpu: &mut Cpu, op: &Op) -> Step<W> {
        let at = F::linear::<W, false>(cpu, op)?;
        cpu.load(at)
    }
    fn write<W: Word>(cpu: &mut Cpu, op: &Op, value: W) -> Step {
        let at = F::linear::<W, true>(cpu, op)?;
        cpu.store(at, value)
    }
}

/// GDTR or IDTR.
pub trait Table: 'static {
    /// The register.
    fn register(cpu: &mut Cpu) -> &mut TableRegister;
}
/// GDTR.
pub struct Gdtr;
/// IDTR.
pub struct Idtr;
impl Table for Gdtr {
    fn register(cpu: &mut Cpu) -> &mut TableRegister {
        &mut cpu.gdtr
    }
}
impl Table for Idtr {
    fn register(cpu: &mut Cpu) -> &mut TableRegister {
        &mut cpu.idtr
    }
}

/// Linear address of the 6 or 10 bytes of a table operand, both fields checked.
fn table_operand<B: Word, F: Form, const WRITE: bool>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
    let at = F::linear::<u16, WRITE>(cpu, op)?;
    let base_field = Op {
        disp: op.disp.wrapping_add(2),
        ..*op
    };
    F::linear::<B, WRITE>(cpu, &base_field)?;
    Ok(at)
}

/// SGDT, SIDT: base of the width `B`, whatever the operand size.
pub fn store_table<T: Table, B: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    not_user_with_umip(cpu)?;
    let at = table_operand::<B, F, true>(cpu, op)?;
    let TableRegister { base, limit } = *T::register(cpu);
    let mut image = [0; 10];
    image[..2].copy_from_slice(&limit.to_le_bytes());
    image[2..].copy_from_slice(&base.to_le_bytes());
    cpu.store_bytes(at, &image[..2 + B::BYTES])
}

/// LGDT, LIDT. [`Op::imm`]: mask of the base (a 16-bit operand size loads 24 bits).
pub fn load_table<T: Table, B: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let at = table_operand::<B, F, false>(cpu, op)?;
    let limit = cpu.load::<u16>(at)?;
    let base = cpu.load::<B>(cpu.wrap(at.wrapping_add(2)))?.to_u64() & op.imm;
    if B::BITS == 64 && !is_canonical(base) {
        return cpu.raise_gp();
    }
    *T::register(cpu) = TableRegister { base, limit };
    Ok(())
}

/// SLDT.
pub fn sldt<W: Word, P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    not_user_with_umip(cpu)?;
    let selector = cpu.ldtr.selector;
    P::write(cpu, op, W::from_u64(selector.into()))
}

/// STR.
pub fn str<W: Word, P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    not_user_with_umip(cpu)?;
    let selector = cpu.tr.selector;
    P::write(cpu, op, W::from_u64(selector.into()))
}

/// SMSW: as much of CR0 as the operand takes.
pub fn smsw<W: Word, P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    not_user_with_umip(cpu)?;
    let cr0 = cpu.cr0;
    P::write(cpu, op, W::from_u64(cr0))
}

/// LLDT.
pub fn lldt<P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let selector = P::read(cpu, op)?;
    cpu.load_ldt(selector)
}

/// LTR.
pub fn ltr<P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let selector = P::read(cpu, op)?;
    cpu.load_task_register(selector)
}

/// LMSW: sets PE, never clears it.
pub fn lmsw<P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let word: u16 = P::read(cpu, op)?;
    let kept = cpu.cr0 & (!CR0_MSW | CR0_PE);
    cpu.write_cr0(kept | (u64::from(word) & CR0_MSW))?;
    op.finish(cpu)
}

/// VERR.
pub fn verr<P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    verify::<P>(cpu, op, Probe::Read)
}

/// VERW.
pub fn verw<P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    verify::<P>(cpu, op, Probe::Write)
}

fn verify<P: Place>(cpu: &mut Cpu, op: &Op, probe: Probe) -> Step {
    let selector = P::read(cpu, op)?;
    let answer = cpu.probe_descriptor(selector, probe)?;
    cpu.flags.set_zf(answer.is_some());
    Ok(())
}

/// LAR.
pub fn lar<W: Word, P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    look_up::<W, P>(cpu, op, Probe::Rights)
}

/// LSL.
pub fn lsl<W: Word, P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    look_up::<W, P>(cpu, op, Probe::Limit)
}

fn look_up<W: Word, P: Place>(cpu: &mut Cpu, op: &Op, probe: Probe) -> Step {
    let selector = P::read(cpu, op)?;
    let answer = cpu.probe_descriptor(selector, probe)?;
    if let Some(value) = answer {
        cpu.regs.set(op.reg, W::from_u64(value.into()));
    }
    cpu.flags.set_zf(answer.is_some());
    Ok(())
}

/// ARPL: raises the RPL of a selector to that of another.
pub fn arpl<P: Place>(cpu: &mut Cpu, op: &Op) -> Step {
    let selector: u16 = P::read(cpu, op)?;
    let least = cpu.regs.get::<u16>(op.reg) & 3;
    let raised = selector & 3 < least;
    if raised {
        P::write(cpu, op, (selector & !3) | least)?;
    }
    cpu.flags.set_zf(raised);
    Ok(())
}

/// Whether the instructions that only protected mode has exist: not in real and virtual-8086 mode.
pub fn has_descriptors(mode: Mode) -> bool {
    mode.contains(Mode::PROTECTED) && !mode.contains(Mode::V86)
}
