//! MMX and SSE through thunks: operands to where the thunk wants them, and results back.
//!
//! [`Op::imm`] is the [`Thunk`]'s address; `reg` and `rm` number the first and the second vector register, `rm` is
//! the general register of instructions that have one.
//!
//! **Exceptions.** A thunk runs with every exception masked. While the guest masks them all too, its MXCSR is the
//! thunk's, flags included. Else the flags that this instruction alone raised are compared with the guest's masks
//! before anything is committed (`raised`).
#![allow(
    unsafe_code,
    reason = "calls thunks, with pointers to registers of this vCPU or to locals"
)]

use super::gate;
use super::moves::number;
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::interp::thunk::plan::{Direction, FlagUse, General, Implicit, Memory, Plan, Unit, Vector};
use crate::engine::interp::thunk::{Args, Thunk};
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::{self, Flags};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::xstate::{MXCSR_FLAGS, MXCSR_MASKS_AT};
use std::ptr::null_mut;

const ALL_MASKED: u32 = MXCSR_FLAGS << MXCSR_MASKS_AT;
/// Exceptions found before computing (invalid, denormal, divide by zero): if one of them is unmasked, nothing is
/// computed and no other flag rises (Intel SDM volume 1, section 11.5.2).
const BEFORE: u32 = 7;
const UNDERFLOW: u32 = 1 << 4;
/// Byte 0 of RFLAGS as LAHF gives it, without the fixed bits.
const LAHF: u64 = flags::SF | flags::ZF | flags::AF | flags::PF | flags::CF;

/// The thunk of an operation.
#[inline(always)]
pub(super) fn thunk(op: &Op) -> &'static Thunk {
    // SAFETY: `compile::vector` pairs the handlers that call this with the address of a `&'static Thunk` only.
    unsafe { &*std::ptr::with_exposed_provenance::<Thunk>(op.imm as usize) }
}

/// The memory operand: its address, alignment checked.
#[inline(always)]
pub(super) fn address<F: Form, const WRITE: bool>(cpu: &mut Cpu, op: &Op, memory: Memory) -> Step<u64> {
    let at = F::bytes::<WRITE>(cpu, op, memory.bytes.into())?;
    if memory.aligned && at & (u64::from(memory.bytes) - 1) != 0 {
        return cpu.raise_gp();
    }
    Ok(at)
}

#[inline(always)]
fn load<F: Form>(cpu: &mut Cpu, op: &Op, memory: Memory) -> Step<u128> {
    let at = address::<F, false>(cpu, op, memory)?;
    let mut bytes = [0; 16];
    cpu.load_bytes(at, &mut bytes[..usize::from(memory.bytes & 31).min(16)])?;
    Ok(u128::from_le_bytes(bytes))
}

/// XMM, XMM: no flags, no MXCSR.
pub fn plain<const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if CHECK {
        gate::sse(cpu)?;
    }
    let xmm = cpu.xstate.legacy.xmm.as_mut_ptr();
    // SAFETY: `number` is below 16, so both are registers: 16 aligned bytes; a plain thunk uses no `Args`.
    unsafe { thunk(op).call(xmm.add(number(op.reg)), xmm.add(number(op.rm)), null_mut()) };
    Ok(())
}

/// XMM, memory: no flags, no MXCSR.
pub fn plain_load<F: Form, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if CHECK {
        gate::sse(cpu)?;
    }
    let thunk = thunk(op);
    let Some(memory) = thunk.plan.memory else {
        return cpu.raise_ud();
    };
    let mut second = load::<F>(cpu, op, memory)?;
    let first = &mut cpu.xstate.legacy.xmm[number(op.reg)];
    // SAFETY: both are 16 aligned bytes, good for this call; a plain thunk uses no `Args`.
    unsafe { thunk.call(first, &mut second, null_mut()) };
    Ok(())
}

/// XMM, XMM, with MXCSR.
pub fn float<const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if CHECK {
        gate::sse(cpu)?;
    }
    let second = cpu.xstate.legacy.xmm[number(op.rm)];
    float_on(cpu, op, thunk(op), second)
}

/// XMM, memory, with MXCSR.
pub fn float_load<F: Form, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if CHECK {
        gate::sse(cpu)?;
    }
    let thunk = thunk(op);
    let Some(memory) = thunk.plan.memory else {
        return cpu.raise_ud();
    };
    let second = load::<F>(cpu, op, memory)?;
    float_on(cpu, op, thunk, second)
}

#[inline(always)]
fn float_on(cpu: &mut Cpu, op: &Op, thunk: &Thunk, mut second: u128) -> Step {
    let legacy = &mut cpu.xstate.legacy;
    if legacy.mxcsr & ALL_MASKED == ALL_MASKED {
        let mut args = Args::new(legacy.mxcsr);
        let first = &mut legacy.xmm[number(op.reg)];
        // SAFETY: both operands are 16 aligned bytes, good for this call.
        unsafe { thunk.call(first, &mut second, &mut args) };
        legacy.mxcsr = args.mxcsr;
        return Ok(());
    }
    let mut operands = Operands {
        first: legacy.xmm[number(op.reg)],
        second,
        args: Args::new(0),
    };
    operands.compute(cpu, thunk)?;
    cpu.xstate.legacy.xmm[number(op.reg)] = operands.first;
    Ok(())
}

/// A computation's operands, apart from the vCPU's registers so that it can be given up.
struct Operands {
    first: u128,
    second: u128,
    args: Args,
}

impl Operands {
    /// Runs the thunk; raises what the guest does not mask, and folds the flags into its MXCSR.
    fn compute(&mut self, cpu: &mut Cpu, thunk: &Thunk) -> Step {
        let guest = cpu.xstate.legacy.mxcsr;
        self.args.mxcsr = (guest | ALL_MASKED) & !MXCSR_FLAGS;
        // SAFETY: both operands are 16 aligned bytes, good for this call.
        unsafe { thunk.call(&mut self.first, &mut self.second, &mut self.args) };
        if thunk.plan.unit != Unit::Float {
            return Ok(());
        }
        let tiny = || thunk.plan.can_underflow && has_denormal(&thunk.plan, self.first);
        let (flags, unmasked) = raised(guest, self.args.mxcsr & MXCSR_FLAGS, tiny);
        cpu.xstate.legacy.mxcsr |= flags;
        if unmasked {
            return gate::simd_exception(cpu);
        }
        Ok(())
    }
}

/// Which flags rise, and whether one of them is unmasked, after a computation with all masked that gave `flags`.
///
/// An underflow that is masked needs a tiny and inexact result, one that is not masked only a tiny one (Intel SDM
/// volume 1, section 4.9.1.5): `tiny` says whether the result is. With overflow or underflow unmasked PE is that of the
/// result in range, where silicon tells of the one of unbounded exponent that nobody gets to see.
fn raised(guest: u32, flags: u32, tiny: impl FnOnce() -> bool) -> (u32, bool) {
    let unmasked = !(guest >> MXCSR_MASKS_AT) & MXCSR_FLAGS;
    let before = flags & BEFORE;
    if before & unmasked != 0 {
        return (before, true);
    }
    let flags = if unmasked & UNDERFLOW != 0 && tiny() {
        flags | UNDERFLOW
    } else {
        flags
    };
    (flags, flags & unmasked != 0)
}

/// Whether a result element is denormal.
fn has_denormal(plan: &Plan, result: u128) -> bool {
    use iced_x86::MemorySize as S;
    let double = |at: u32| (result >> at) as u64 & !(1 << 63);
    let single = |at: u32| (result >> at) as u32 & !(1 << 31);
    let is_double = |at| (1..1 << 52).contains(&double(at));
    let is_single = |at| (1..1 << 23).contains(&single(at));
    match result_elements(plan) {
        S::Packed128_Float64 => is_double(0) || is_double(64),
        S::Float64 => is_double(0),
        S::Float32 => is_single(0),
        _ => (0..128).step_by(32).any(is_single),
    }
}

/// What the result of an instruction that can underflow consists of.
fn result_elements(plan: &Plan) -> iced_x86::MemorySize {
    use iced_x86::{MemorySize as S, Mnemonic as M};
    match plan.renamed.mnemonic() {
        M::Addpd | M::Subpd | M::Mulpd | M::Divpd | M::Addsubpd | M::Haddpd | M::Hsubpd | M::Dppd => {
            S::Packed128_Float64
        }
        M::Addsd | M::Subsd | M::Mulsd | M::Divsd => S::Float64,
        M::Addss | M::Subss | M::Mulss | M::Divss | M::Cvtsd2ss => S::Float32,
        _ => S::Packed128_Float32,
    }
}

/// Everything else: MM registers, general registers, flags, implicit operands, stores.
pub fn general<F: Form, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    let thunk = thunk(op);
    let plan = &thunk.plan;
    if CHECK {
        check(cpu, plan)?;
    }
    if plan.enters_mmx() {
        gate::pending(cpu)?;
    }
    let mut operands = gather::<F>(cpu, op, plan)?;
    if let Err(leave) = operands.compute(cpu, thunk) {
        // The silicon changes to MMX's order before it converts.
        if plan.enters_mmx() {
            cpu.xstate.legacy.enter_mmx();
        }
        return Err(leave);
    }
    if let Some(memory) = plan.memory
        && memory.direction == Direction::Store
    {
        let at = address::<F, true>(cpu, op, memory)?;
        let bytes = operands.second.to_le_bytes();
        cpu.store_bytes(at, &bytes[..usize::from(memory.bytes & 31).min(16)])?;
    }
    commit(cpu, op, plan, &operands);
    Ok(())
}

/// SSE's conditions for what names an XMM register, MMX's for the rest.
fn check(cpu: &mut Cpu, plan: &Plan) -> Step {
    if plan.enters_mmx() && !plan.vectors.contains(&Some(Vector::Xmm)) {
        gate::mmx(cpu)
    } else {
        gate::sse(cpu)
    }
}

fn gather<F: Form>(cpu: &mut Cpu, op: &Op, plan: &Plan) -> Step<Operands> {
    let loaded = match plan.memory {
        Some(memory) if memory.direction == Direction::Load => load::<F>(cpu, op, memory)?,
        _ => 0,
    };
    let legacy = &cpu.xstate.legacy;
    let value = |vector: Option<Vector>, at: RegAt| match vector {
        Some(Vector::Xmm) => Some(legacy.xmm[number(at)]),
        Some(Vector::Mm) => Some(u128::from(legacy.mm(at.number()))),
        None => None,
    };
    let mut args = Args::new(0);
    if plan.general == Some(General::In) {
        args.rax = cpu.regs.get(op.rm);
    }
    match plan.implicit {
        Implicit::ReadXmm0 => args.xmm0 = legacy.xmm[0],
        Implicit::LengthsToIndex | Implicit::LengthsToMask => {
            args.rax = cpu.regs.get(RegAt::new(0));
            args.rdx = cpu.regs.get(RegAt::new(2));
        }
        Implicit::None | Implicit::Index | Implicit::Mask => {}
    }
    Ok(Operands {
        first: value(plan.vectors[0], op.reg).unwrap_or(0),
        second: value(plan.vectors[1], op.rm).unwrap_or(loaded),
        args,
    })
}

fn commit(cpu: &mut Cpu, op: &Op, plan: &Plan, operands: &Operands) {
    let legacy = &mut cpu.xstate.legacy;
    if plan.enters_mmx() {
        legacy.enter_mmx();
    }
    match plan.vectors[0] {
        Some(Vector::Xmm) if plan.writes => legacy.xmm[number(op.reg)] = operands.first,
        Some(Vector::Mm) if plan.writes => legacy.set_mm(op.reg.number(), operands.first as u64),
        _ => {}
    }
    match plan.implicit {
        Implicit::LengthsToMask | Implicit::Mask => legacy.xmm[0] = operands.args.xmm0,
        Implicit::LengthsToIndex | Implicit::Index => cpu.regs.set(RegAt::new(1), operands.args.rcx),
        Implicit::None | Implicit::ReadXmm0 => {}
    }
    if plan.general == Some(General::Out) {
        cpu.regs.set(op.rm, operands.args.rax);
    }
    if plan.flags != FlagUse::None {
        unpack_flags(&mut cpu.flags, operands.args.flags);
    }
}

/// The arithmetic flags as thunks take them.
pub(super) fn pack_flags(flags: &Flags) -> u16 {
    let bits = flags.arithmetic();
    ((bits & LAHF) << 8) as u16 | u16::from(bits & flags::OF != 0)
}

/// The arithmetic flags as thunks give them.
pub(super) fn unpack_flags(flags: &mut Flags, packed: u16) {
    let overflow = if packed & 1 != 0 { flags::OF } else { 0 };
    flags.set_arithmetic(u64::from(packed >> 8) & LAHF | overflow);
}
