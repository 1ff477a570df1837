//! PUSHF, POPF, and instructions for single flags.

use super::Source;
use super::stack::{by_stack, stack_bits};
use crate::engine::interp::exec::flag;
use crate::engine::interp::exec::stack::{AnyStack, Stack32, Stack64};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::Mnemonic;

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let run: Handler = match source.instr.mnemonic() {
        Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq => {
            by_stack!(source.mode, stack_bits(source), S, W => flag::push_flags::<S, W>)
        }
        Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq => {
            by_stack!(source.mode, stack_bits(source), S, W => flag::pop_flags::<S, W>)
        }
        Mnemonic::Lahf => flag::load_ah,
        Mnemonic::Sahf => flag::store_ah,
        Mnemonic::Salc => flag::set_al,
        Mnemonic::Cmc => flag::complement_carry,
        Mnemonic::Clc => flag::clear_carry,
        Mnemonic::Stc => flag::set_carry,
        Mnemonic::Cld => flag::clear_direction,
        Mnemonic::Std => flag::set_direction,
        Mnemonic::Cli => flag::clear_interrupt,
        Mnemonic::Sti => flag::set_interrupt,
        _ => return None,
    };
    Some(source.op(run))
}
