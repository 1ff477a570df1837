//! IN and OUT. Whether a port may be touched is [`Cpu::check_io`]'s question, what happens there the chipset's.

use crate::bus::Width;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;
use crate::engine::{Exit, Op as Direction};

const AX: RegAt = RegAt::new(0);
const DX: RegAt = RegAt::new(2);

fn width<W: Word>() -> Width {
    match W::BITS {
        8 => Width::Byte,
        16 => Width::Word,
        _ => Width::Dword,
    }
}

/// Asks the chipset for a port's value.
pub(super) fn read<W: Word>(cpu: &mut Cpu, port: u16) -> Step<W> {
    let answer = cpu.ask(Exit::Port {
        port,
        width: width::<W>(),
        op: Direction::Read,
    })?;
    Ok(W::from_u64(answer))
}

/// Hands the chipset a value for a port.
pub(super) fn write<W: Word>(cpu: &mut Cpu, port: u16, value: W) -> Step {
    cpu.ask(Exit::Port {
        port,
        width: width::<W>(),
        op: Direction::Write(value.to_u64()),
    })?;
    Ok(())
}

fn input<W: Word>(cpu: &mut Cpu, port: u16) -> Step {
    cpu.check_io(port, W::BYTES as u16)?;
    let value = read::<W>(cpu, port)?;
    cpu.regs.set(AX, value);
    Ok(())
}

fn output<W: Word>(cpu: &mut Cpu, port: u16) -> Step {
    cpu.check_io(port, W::BYTES as u16)?;
    let value = cpu.regs.get::<W>(AX);
    write(cpu, port, value)
}

/// IN from the port in the immediate.
pub fn in_immediate<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    input::<W>(cpu, op.imm as u8 as u16)
}

/// IN from the port in DX.
pub fn in_register<W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let port = cpu.regs.get::<u16>(DX);
    input::<W>(cpu, port)
}

/// OUT to the port in the immediate.
pub fn out_immediate<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    output::<W>(cpu, op.imm as u8 as u16)
}

/// OUT to the port in DX.
pub fn out_register<W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
    let port = cpu.regs.get::<u16>(DX);
    output::<W>(cpu, port)
}
