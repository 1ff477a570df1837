//! MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, alone and repeated.
//!
//! A repeated instruction commits element by element: whatever stops it finds RCX, RSI and RDI saying how far it came,
//! and rip still at it. It stops for good when the count or the comparison says so, and for a while when its budget is
//! spent (interrupts must get in), when the engine wants to look (changed code, single step, breakpoints), and after an
//! element that asked the chipset, whose answers belong to that element alone.
//!
//! With the direction flag clear and no segments in the way, whole runs inside a page go through
//! [`bulk`](crate::engine::soft::bulk).

use super::alu::{Binary, Cmp};
use super::port;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::flags::{DF, TF};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::word::Word;
use crate::engine::state::ES;
use std::marker::PhantomData;

const AX: RegAt = RegAt::new(0);
const CX: RegAt = RegAt::new(1);
const DX: RegAt = RegAt::new(2);
const SI: RegAt = RegAt::new(6);
const DI: RegAt = RegAt::new(7);

/// What a repeated instruction may spend before the engine looks up: an element costs 1.
const BUDGET: u32 = 64;
/// Price of a run through one page.
const RUN: u32 = 4;

/// How rSI and rDI become linear addresses.
pub trait Addressing: 'static {
    /// Address size: how much of rCX, rSI and rDI counts.
    type Index: Word;
    /// Whether linear addresses are the registers themselves.
    const BULK: bool;
    /// Linear address of the source element.
    fn source<W: Word>(cpu: &mut Cpu, op: &Op) -> Step<u64>;
    /// Linear address of the destination element: to be stored to, or only compared.
    fn destination<W: Word, const WRITE: bool>(cpu: &mut Cpu) -> Step<u64>;
}

/// Addresses of `I` bits with no segment: 64-bit code without FS and GS, flat 32-bit code.
pub struct Plain<I>(PhantomData<I>);
/// Addresses of `I` bits in segments.
pub struct Segmented<I>(PhantomData<I>);

fn index<A: Addressing>(cpu: &Cpu, register: RegAt) -> u64 {
    cpu.regs.get::<A::Index>(register).to_u64()
}

impl<I: Word> Addressing for Plain<I> {
    type Index = I;
    const BULK: bool = true;
    #[inline(always)]
    fn source<W: Word>(cpu: &mut Cpu, _: &Op) -> Step<u64> {
        Ok(index::<Self>(cpu, SI))
    }
    #[inline(always)]
    fn destination<W: Word, const WRITE: bool>(cpu: &mut Cpu) -> Step<u64> {
        Ok(index::<Self>(cpu, DI))
    }
}

impl<I: Word> Addressing for Segmented<I> {
    type Index = I;
    const BULK: bool = false;
    fn source<W: Word>(cpu: &mut Cpu, op: &Op) -> Step<u64> {
        cpu.segmented(op.segment, index::<Self>(cpu, SI), W::BYTES as u32, false)
    }
    fn destination<W: Word, const WRITE: bool>(cpu: &mut Cpu) -> Step<u64> {
        cpu.segmented(ES as u8, index::<Self>(cpu, DI), W::BYTES as u32, WRITE)
    }
}

/// Moves an index register on by `elements`, the way the direction flag says.
#[inline(always)]
fn advance<A: Addressing, W: Word>(cpu: &mut Cpu, register: RegAt, elements: u64) {
    let distance = elements * W::BYTES as u64;
    let from = index::<A>(cpu, register);
    let to = if cpu.flags.others & DF == 0 {
        from.wrapping_add(distance)
    } else {
        from.wrapping_sub(distance)
    };
    cpu.regs.set(register, A::Index::from_u64(to));
}

/// What a run did.
pub struct Run {
    elements: u64,
    /// The comparison ends the repetition.
    ended: bool,
}

/// What is done to an element.
pub trait Element: 'static {
    /// One element, index registers included.
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step;
    /// Up to `count` elements, upwards, index registers included; `None`: not this way.
    fn run<A: Addressing, W: Word>(_: &mut Cpu, _: &Op, _count: u64) -> Option<Run> {
        None
    }
    /// Whether the flags end the repetition.
    fn ended(_: &Cpu) -> bool {
        false
    }
}

/// MOVS.
pub struct Movs;
/// STOS.
pub struct Stos;
/// LODS.
pub struct Lods;
/// CMPS, repeated while equal, or while not (`UNTIL_EQUAL`).
pub struct Cmps<const UNTIL_EQUAL: bool>;
/// SCAS, likewise.
pub struct Scas<const UNTIL_EQUAL: bool>;
/// INS.
pub struct Ins;
/// OUTS.
pub struct Outs;

/// How many elements a run did, if any.
fn some(elements: u64) -> Option<Run> {
    (elements > 0).then_some(Run {
        elements,
        ended: false,
    })
}

impl Element for Movs {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
        let from = A::source::<W>(cpu, op)?;
        let value = cpu.load::<W>(from)?;
        let to = A::destination::<W, true>(cpu)?;
        cpu.store(to, value)?;
        advance::<A, W>(cpu, SI, 1);
        advance::<A, W>(cpu, DI, 1);
        Ok(())
    }

    fn run<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op, count: u64) -> Option<Run> {
        let (from, to) = (index::<A>(cpu, SI), index::<A>(cpu, DI));
        let run = some(cpu.copy_run::<W>(from, to, count))?;
        advance::<A, W>(cpu, SI, run.elements);
        advance::<A, W>(cpu, DI, run.elements);
        Some(run)
    }
}

impl Element for Stos {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
        let to = A::destination::<W, true>(cpu)?;
        let value = cpu.regs.get::<W>(AX);
        cpu.store(to, value)?;
        advance::<A, W>(cpu, DI, 1);
        Ok(())
    }

    fn run<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op, count: u64) -> Option<Run> {
        let (to, value) = (index::<A>(cpu, DI), cpu.regs.get::<W>(AX));
        let run = some(cpu.fill_run(to, value, count))?;
        advance::<A, W>(cpu, DI, run.elements);
        Some(run)
    }
}

impl Element for Lods {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
        let from = A::source::<W>(cpu, op)?;
        let value = cpu.load::<W>(from)?;
        cpu.regs.set(AX, value);
        advance::<A, W>(cpu, SI, 1);
        Ok(())
    }
}

impl<const UNTIL_EQUAL: bool> Element for Cmps<UNTIL_EQUAL> {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
        let left = A::source::<W>(cpu, op)?;
        let a = cpu.load::<W>(left)?;
        let right = A::destination::<W, false>(cpu)?;
        let b = cpu.load::<W>(right)?;
        Cmp::apply(&mut cpu.flags, a, b);
        advance::<A, W>(cpu, SI, 1);
        advance::<A, W>(cpu, DI, 1);
        Ok(())
    }

    fn run<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op, count: u64) -> Option<Run> {
        let (left, right) = (index::<A>(cpu, SI), index::<A>(cpu, DI));
        let compared = cpu.compare_run::<W>(left, right, count, UNTIL_EQUAL)?;
        let (a, b) = compared.last;
        Cmp::apply(&mut cpu.flags, a, b);
        advance::<A, W>(cpu, SI, compared.elements);
        advance::<A, W>(cpu, DI, compared.elements);
        Some(Run {
            elements: compared.elements,
            ended: Self::ended(cpu),
        })
    }

    fn ended(cpu: &Cpu) -> bool {
        cpu.flags.zf() == UNTIL_EQUAL
    }
}

impl<const UNTIL_EQUAL: bool> Element for Scas<UNTIL_EQUAL> {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
        let at = A::destination::<W, false>(cpu)?;
        let b = cpu.load::<W>(at)?;
        let a = cpu.regs.get::<W>(AX);
        Cmp::apply(&mut cpu.flags, a, b);
        advance::<A, W>(cpu, DI, 1);
        Ok(())
    }

    fn run<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op, count: u64) -> Option<Run> {
        let (at, value) = (index::<A>(cpu, DI), cpu.regs.get::<W>(AX));
        let compared = cpu.scan_run(value, at, count, UNTIL_EQUAL)?;
        let (a, b) = compared.last;
        Cmp::apply(&mut cpu.flags, a, b);
        advance::<A, W>(cpu, DI, compared.elements);
        Some(Run {
            elements: compared.elements,
            ended: Self::ended(cpu),
        })
    }

    fn ended(cpu: &Cpu) -> bool {
        cpu.flags.zf() == UNTIL_EQUAL
    }
}

impl Element for Ins {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, _: &Op) -> Step {
        let port = cpu.regs.get::<u16>(DX);
        cpu.check_io(port, W::BYTES as u16)?;
        let to = A::destination::<W, true>(cpu)?;
        // A store that faults must not have read the port.
        cpu.probe_store(to, W::BYTES)?;
        let value = port::read::<W>(cpu, port)?;
        cpu.store(to, value)?;
        advance::<A, W>(cpu, DI, 1);
        Ok(())
    }
}

impl Element for Outs {
    fn one<A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
        let port = cpu.regs.get::<u16>(DX);
        cpu.check_io(port, W::BYTES as u16)?;
        let from = A::source::<W>(cpu, op)?;
        let value = cpu.load::<W>(from)?;
        port::write(cpu, port, value)?;
        advance::<A, W>(cpu, SI, 1);
        Ok(())
    }
}

/// Without a REP prefix.
pub fn once<E: Element, A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    E::one::<A, W>(cpu, op)
}

/// With one.
pub fn repeat<E: Element, A: Addressing, W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let mut budget = BUDGET;
    let quick = A::BULK && cpu.flags.others & (DF | TF) == 0;
    loop {
        let count = index::<A>(cpu, CX);
        if count == 0 {
            return Ok(());
        }
        let run = if quick {
            E::run::<A, W>(cpu, op, count)
        } else {
            None
        };
        let (elements, ended, price) = match run {
            Some(run) => (run.elements, run.ended, RUN),
            None => {
                E::one::<A, W>(cpu, op)?;
                (1, E::ended(cpu), 1)
            }
        };
        let left = A::Index::from_u64(count - elements);
        cpu.regs.set(CX, left);
        if ended || left == A::Index::ZERO {
            return Ok(());
        }
        budget = budget.saturating_sub(price);
        let watched = cpu.flags.others & TF != 0 || cpu.debug_hits != 0;
        if budget == 0 || cpu.attention || cpu.replay.used() || watched {
            cpu.rip = cpu.cut_ip(op.here(cpu));
            return Err(Leave::Jump);
        }
    }
}
