//! Control instructions against written expectations: what silicon cannot be asked for from a user process, that is
//! other modes and privileges, interruption, devices.

mod branch;
mod flag;
mod misc;
mod stack;
mod string;

use crate::engine::Exit;
use crate::engine::interp::alone::Alone;
use crate::engine::soft::cpu::{Cpu, Leave};
use crate::engine::soft::fixture::CODE;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::segment::SegmentRegister;
use crate::engine::state::CS;

/// How an instruction left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ran {
    /// Done; rip says where to.
    Done,
    /// Vector and error code; rip still at the instruction.
    Fault(u8, Option<u32>),
    /// A question to the chipset; rip still at the instruction.
    Asked(Exit),
    /// It would change itself.
    Restart,
}

const UD: Ran = Ran::Fault(6, None);
const GP: Ran = Ran::Fault(13, Some(0));
const SS0: Ran = Ran::Fault(12, Some(0));

/// Runs the instruction whose bytes these are at CODE.
fn run(cpu: &mut Cpu, bytes: &[u8]) -> Ran {
    cpu.memory.write(CODE, bytes).unwrap();
    cpu.rip = CODE;
    step(cpu)
}

/// Runs the one instruction at rip, as the engine does while it steps.
fn step(cpu: &mut Cpu) -> Ran {
    let mut alone = Alone::default();
    for op in alone.at_rip(cpu).unwrap() {
        match (op.run)(cpu, op) {
            Ok(()) => assert!(!op.ends, "an op that ends its trace went straight on"),
            Err(Leave::Jump) => {
                cpu.replay.clear();
                return Ran::Done;
            }
            Err(Leave::Fault) => {
                cpu.replay.clear();
                let fault = cpu.fault.take().unwrap();
                let stack = op.segment == 2 && fault.noncanonical;
                return Ran::Fault(if stack { 12 } else { fault.vector }, fault.code);
            }
            Err(Leave::Exit) => {
                cpu.replay.rewind();
                return Ran::Asked(cpu.exit.take().unwrap());
            }
            Err(Leave::Restart) => return Ran::Restart,
        }
    }
    unreachable!("a trace's last op leaves it");
}

/// A general register by number.
fn reg(cpu: &Cpu, number: u8) -> u64 {
    cpu.regs.get(RegAt::new(number))
}

fn set_reg(cpu: &mut Cpu, number: u8, value: u64) {
    cpu.regs.set(RegAt::new(number), value);
}

/// Changes CS, flatness with it.
fn set_cs(cpu: &mut Cpu, change: impl FnOnce(&mut SegmentRegister)) {
    change(&mut cpu.segments[CS]);
    cpu.update_mode();
}

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RSP: u8 = 4;
const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;
/// First address that is not canonical.
const HOLE: u64 = 0x8000_0000_0000;
/// Mapped by the 64-bit fixture, and no memory: a device.
const DEVICE: u64 = 0x1000_0000;
/// Not mapped by the 64-bit fixture.
const UNMAPPED: u64 = 0x1_0000_0000;
