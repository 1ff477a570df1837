//! String instructions: element, addressing and repetition.

use super::{Source, by_width, segment};
use crate::engine::interp::exec::string::{
    self, Cmps, Element, Ins, Lods, Movs, Outs, Plain, Scas, Segmented, Stos,
};
use crate::engine::interp::op::{Handler, Op};
use crate::engine::soft::mode::Mode;
use crate::engine::state::{DS, FS};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let instr = source.instr;
    if !instr.is_string_instruction() {
        return None;
    }
    let until_equal = instr.has_repne_prefix();
    let run = match instr.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => pick::<Movs>(source),
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => pick::<Stos>(source),
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => pick::<Lods>(source),
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq => match until_equal {
            true => pick::<Cmps<true>>(source),
            false => pick::<Cmps<false>>(source),
        },
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => match until_equal {
            true => pick::<Scas<true>>(source),
            false => pick::<Scas<false>>(source),
        },
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => pick::<Ins>(source),
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => pick::<Outs>(source),
        _ => return None,
    };
    Some(Op {
        segment: source_segment(source),
        ..source.op(run)
    })
}

fn pick<E: Element>(source: Source<'_>) -> Handler {
    let plain = plain(source);
    let repeated = source.instr.has_rep_prefix() || source.instr.has_repne_prefix();
    // 16-bit addresses are never plain: they come with segments, in real or virtual-8086 mode, or are rare.
    by_width!(source.instr.memory_size().size() * 8, W => match (address_bits(source.instr), plain, repeated) {
        (64, true, true) => string::repeat::<E, Plain<u64>, W>,
        (64, true, false) => string::once::<E, Plain<u64>, W>,
        (64, false, true) => string::repeat::<E, Segmented<u64>, W>,
        (64, false, false) => string::once::<E, Segmented<u64>, W>,
        (32, true, true) => string::repeat::<E, Plain<u32>, W>,
        (32, true, false) => string::once::<E, Plain<u32>, W>,
        (32, false, true) => string::repeat::<E, Segmented<u32>, W>,
        (32, false, false) => string::once::<E, Segmented<u32>, W>,
        (_, _, true) => string::repeat::<E, Segmented<u16>, W>,
        (_, _, false) => string::once::<E, Segmented<u16>, W>,
    })
}

/// Whether linear addresses are the registers themselves.
fn plain(source: Source<'_>) -> bool {
    source.mode.contains(Mode::FLAT) && usize::from(source_segment(source)) < FS
}

/// Segment of the source element. 64-bit code knows FS and GS only.
fn source_segment(source: Source<'_>) -> u8 {
    let given = match source.instr.segment_prefix() {
        Register::None => DS as u8,
        register => segment(register),
    };
    if source.mode.contains(Mode::CODE64) && usize::from(given) < FS {
        return DS as u8;
    }
    given
}

fn address_bits(instr: &Instruction) -> u32 {
    let wide = |kind| {
        matches!(
            kind,
            OpKind::MemorySegRSI | OpKind::MemoryESRDI | OpKind::MemorySegRDI
        )
    };
    let middle = |kind| {
        matches!(
            kind,
            OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI
        )
    };
    let mut kinds = (0..instr.op_count()).map(|n| instr.op_kind(n));
    if kinds.clone().any(wide) {
        64
    } else if kinds.any(middle) {
        32
    } else {
        16
    }
}
