//! x87, MMX and SSE: which handler.
//!
//! Features are checked first: what the CPU model hides is undefined, and so is everything in VEX and EVEX encoding,
//! which nobody compiles. The common moves have handlers of their own ([`moves`]); state in and out likewise; what is
//! left runs through thunks, made here.

mod moves;

use super::{Source, by_form, undefined};
use crate::engine::cpu_model::CpuModel;
use crate::engine::interp::exec::vector::{environment, moves as exec_moves, state, thunked, x87};
use crate::engine::interp::op::{Handler, Op};
use crate::engine::interp::thunk;
use crate::engine::interp::thunk::plan::{Plan, Unit};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use iced_x86::{CpuidFeature, EncodingKind, Mnemonic, OpKind, Register};

/// Evaluates an expression with a constant `$C` that says whether CR0 or CR4 may forbid the instruction.
macro_rules! by_check {
    ($source:expr, $C:ident => $e:expr) => {
        if $source.mode.contains(Mode::FPU_TRAPS) {
            const $C: bool = true;
            $e
        } else {
            const $C: bool = false;
            $e
        }
    };
}
use by_check;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    if source.instr.mnemonic() == Mnemonic::Wait {
        // Counted to the 8086, which had the pin.
        return Some(source.op(x87::wait));
    }
    let features = source.instr.cpuid_features();
    let legacy = source.instr.op_code().encoding() == EncodingKind::Legacy;
    if !legacy || !features.iter().any(|&f| name(f).is_some()) {
        return None;
    }
    if !features.iter().all(|&f| offered(source.model, f)) {
        return Some(source.op(undefined).ending());
    }
    save_restore(source)
        .or_else(|| x87_special(source))
        .or_else(|| moves::compile(source))
        .or_else(|| masked_store(source))
        .or_else(|| thunked(source))
}

/// The model's name of a feature this group answers for.
fn name(feature: CpuidFeature) -> Option<&'static str> {
    use CpuidFeature as F;
    Some(match feature {
        F::FPU | F::FPU287 | F::FPU287XL_ONLY | F::FPU387 | F::FPU387SL_ONLY => "FPU",
        F::MMX => "MMX",
        F::FXSR => "FXSR",
        F::SSE => "SSE",
        F::SSE2 => "SSE2",
        F::SSE3 => "SSE3",
        F::SSSE3 => "SSSE3",
        F::SSE4_1 => "SSE4_1",
        F::SSE4_2 => "SSE4_2",
        F::XSAVE => "XSAVE",
        F::XSAVEOPT => "XSAVEOPT",
        _ => return None,
    })
}

fn offered(model: &CpuModel, feature: CpuidFeature) -> bool {
    match feature {
        CpuidFeature::CMOV => model.has("CMOV"),
        _ => name(feature).is_some_and(|name| model.has(name)),
    }
}

/// Number of a vector register.
fn vector_number(register: Register) -> RegAt {
    let base = if register.is_mm() {
        Register::MM0
    } else {
        Register::XMM0
    };
    RegAt::new((register as u32).wrapping_sub(base as u32) as u8)
}

fn save_restore(source: Source<'_>) -> Option<Op> {
    use Mnemonic as M;
    let form = source.form();
    Some(source.op(match source.instr.mnemonic() {
        M::Fxsave => by_form!(form, F => state::fxsave::<F, false>),
        M::Fxsave64 => by_form!(form, F => state::fxsave::<F, true>),
        M::Fxrstor => by_form!(form, F => state::fxrstor::<F, false>),
        M::Fxrstor64 => by_form!(form, F => state::fxrstor::<F, true>),
        M::Xsave | M::Xsaveopt => by_form!(form, F => state::xsave::<F, false>),
        M::Xsave64 | M::Xsaveopt64 => by_form!(form, F => state::xsave::<F, true>),
        M::Xrstor => by_form!(form, F => state::xrstor::<F, false>),
        M::Xrstor64 => by_form!(form, F => state::xrstor::<F, true>),
        M::Ldmxcsr => by_form!(form, F => state::load_mxcsr::<F>),
        M::Stmxcsr => by_form!(form, F => state::store_mxcsr::<F>),
        _ => return None,
    }))
}

/// The x87 instructions without thunks.
fn x87_special(source: Source<'_>) -> Option<Op> {
    use Mnemonic as M;
    let form = source.form();
    let instr = source.instr;
    let wide = matches!(instr.memory_size().size(), 28 | 108);
    Some(source.op(match (instr.mnemonic(), wide) {
        (M::Emms, _) => x87::empty_mmx,
        (M::Fneni | M::Fndisi | M::Fnsetpm, _) => x87::nothing,
        (M::Fnstsw, _) if instr.op_kind(0) == OpKind::Register => {
            by_check!(source, C => x87::status_to_ax::<C>)
        }
        (M::Fnstsw, _) => by_check!(source, C => by_form!(form, F => x87::store_word::<F, false, C>)),
        (M::Fnstcw, _) => by_check!(source, C => by_form!(form, F => x87::store_word::<F, true, C>)),
        (M::Fnstenv, false) => by_form!(form, F => environment::store::<F, false>),
        (M::Fnstenv, true) => by_form!(form, F => environment::store::<F, true>),
        (M::Fnsave, false) => by_form!(form, F => environment::save::<F, false>),
        (M::Fnsave, true) => by_form!(form, F => environment::save::<F, true>),
        (M::Fldenv, false) => by_form!(form, F => environment::load::<F, false>),
        (M::Fldenv, true) => by_form!(form, F => environment::load::<F, true>),
        (M::Frstor, false) => by_form!(form, F => environment::restore::<F, false>),
        (M::Frstor, true) => by_form!(form, F => environment::restore::<F, true>),
        _ => return None,
    }))
}

/// MASKMOVDQU and MASKMOVQ: the address is in rDI, which is no explicit operand.
fn masked_store(source: Source<'_>) -> Option<Op> {
    use super::super::form::address;
    let instr = source.instr;
    let run: Handler = match instr.mnemonic() {
        Mnemonic::Maskmovdqu => exec_moves::store_masked::<false>,
        Mnemonic::Maskmovq => exec_moves::store_masked::<true>,
        _ => return None,
    };
    let size = match instr.op_kind(0) {
        OpKind::MemorySegDI => address::A16,
        OpKind::MemorySegEDI => address::A32,
        _ => 0,
    };
    Some(Op {
        reg: vector_number(instr.op_register(1)),
        rm: vector_number(instr.op_register(2)),
        base: RegAt::new(7),
        scale: size,
        segment: super::segment(instr.memory_segment()),
        ..source.op(run)
    })
}

fn thunked(source: Source<'_>) -> Option<Op> {
    let instr = source.instr;
    let thunk = thunk::get(instr)?;
    let mut op = source.op(pick(source, &thunk.plan));
    let registers = (0..instr.op_count())
        .filter(|&n| instr.op_kind(n) == OpKind::Register)
        .map(|n| instr.op_register(n));
    let mut vectors = registers.clone().filter(|r| r.is_xmm() || r.is_mm());
    let general = registers.clone().find_map(super::general);
    op.reg = vectors.next().map_or(RegAt::ZERO, vector_number);
    op.rm = vectors
        .next()
        .map(vector_number)
        .or(general)
        .unwrap_or(RegAt::ZERO);
    op.imm = std::ptr::from_ref(thunk).expose_provenance() as u64;
    Some(op)
}

fn pick(source: Source<'_>, plan: &Plan) -> Handler {
    let form = source.form();
    let waits = !matches!(source.instr.mnemonic(), Mnemonic::Fninit | Mnemonic::Fnclex);
    let plain = plan.is_plain();
    by_check!(source, C => match (plan.unit, plan.memory.is_some()) {
        (Unit::X87, _) if waits => by_form!(form, F => x87::run::<F, true, C>),
        (Unit::X87, _) => by_form!(form, F => x87::run::<F, false, C>),
        (Unit::Integer, false) if plain => thunked::plain::<C>,
        (Unit::Integer, true) if plain => by_form!(form, F => thunked::plain_load::<F, C>),
        (Unit::Float, false) if plain => thunked::float::<C>,
        (Unit::Float, true) if plain => by_form!(form, F => thunked::float_load::<F, C>),
        _ => by_form!(form, F => thunked::general::<F, C>),
    })
}
