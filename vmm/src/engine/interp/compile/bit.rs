//! BT, BTS, BTR, BTC, BSF, BSR, POPCNT, CRC32.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::bit::{
    self, Change, Clear, Count, Forward, Invert, Keep, Population, Reverse, Set,
};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    let run: Handler = match source.instr.mnemonic() {
        Mnemonic::Bt => bit::<Keep>(source),
        Mnemonic::Bts => bit::<Set>(source),
        Mnemonic::Btr => bit::<Clear>(source),
        Mnemonic::Btc => bit::<Invert>(source),
        // Without BMI1 and LZCNT, which the CPU model hides, the F3 prefix is ignored.
        Mnemonic::Bsf | Mnemonic::Tzcnt => count::<Forward>(source),
        Mnemonic::Bsr | Mnemonic::Lzcnt => count::<Reverse>(source),
        Mnemonic::Popcnt => count::<Population>(source),
        Mnemonic::Crc32 => by_width!(source.bits(1), W => if source.is_memory(1) {
            by_form!(form, F => bit::crc_rm::<W, F>)
        } else {
            bit::crc_rr::<W>
        }),
        _ => return None,
    };
    Some(source.op(run))
}

fn bit<O: Change>(source: Source<'_>) -> Handler {
    let form = source.form();
    by_width!(source.bits(0), W => match (source.is_memory(0), source.is_register(1)) {
        (false, true) => bit::bit_rr::<O, W>,
        (false, false) => bit::bit_ri::<O, W>,
        (true, true) => by_form!(form, F => bit::bit_mr::<O, W, F>),
        (true, false) => by_form!(form, F => bit::bit_mi::<O, W, F>),
    })
}

fn count<O: Count>(source: Source<'_>) -> Handler {
    let form = source.form();
    by_width!(source.bits(0), W => if source.is_memory(1) {
        by_form!(form, F => bit::count_rm::<O, W, F>)
    } else {
        bit::count_rr::<O, W>
    })
}
