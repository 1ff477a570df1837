//! NOP in its many forms, HLT, BOUND, fences, UD.

use super::{Source, by_form};
use crate::engine::interp::exec::misc;
use crate::engine::interp::op::Op;
use iced_x86::{Code, Mnemonic};

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    let op = match source.instr.mnemonic() {
        Mnemonic::Hlt => source.op(misc::halt).ending(),
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => source.op(misc::undefined).ending(),
        Mnemonic::Bound if source.instr.code() == Code::Bound_r16_m1616 => {
            source.op(by_form!(form, F => misc::bound::<u16, u32, F>))
        }
        Mnemonic::Bound => source.op(by_form!(form, F => misc::bound::<u32, u64, F>)),
        // 0F0D with a register: AMD processors know no such prefetch.
        _ if matches!(
            source.instr.code(),
            Code::Reservednop_rm16_r16_0F0D
                | Code::Reservednop_rm32_r32_0F0D
                | Code::Reservednop_rm64_r64_0F0D
        ) =>
        {
            source.op(misc::undefined).ending()
        }
        mnemonic if NOTHING.contains(&mnemonic) => source.op(misc::nothing),
        _ => return None,
    };
    Some(op)
}

/// What the guest cannot tell from NOP: hints, fences on a single vCPU, and the hint space 0F18 to 0F1F, where the
/// CPU model has none of the later extensions (MPX, CET, CLDEMOTE).
const NOTHING: [Mnemonic; 27] = [
    Mnemonic::Nop,
    Mnemonic::Reservednop,
    Mnemonic::Pause,
    Mnemonic::Lfence,
    Mnemonic::Mfence,
    Mnemonic::Sfence,
    Mnemonic::Prefetch,
    Mnemonic::Prefetchw,
    Mnemonic::Prefetchwt1,
    Mnemonic::Prefetchnta,
    Mnemonic::Prefetcht0,
    Mnemonic::Prefetcht1,
    Mnemonic::Prefetcht2,
    Mnemonic::Prefetchit0,
    Mnemonic::Prefetchit1,
    Mnemonic::Endbr32,
    Mnemonic::Endbr64,
    Mnemonic::Rdsspd,
    Mnemonic::Rdsspq,
    Mnemonic::Cldemote,
    Mnemonic::Bndcl,
    Mnemonic::Bndcn,
    Mnemonic::Bndcu,
    Mnemonic::Bndldx,
    Mnemonic::Bndmk,
    Mnemonic::Bndmov,
    Mnemonic::Bndstx,
];
