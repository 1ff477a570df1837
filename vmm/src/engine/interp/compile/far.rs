//! Far jumps, calls and returns, INT and IRET.

use super::{Source, by_form, by_width};
use crate::engine::interp::exec::far::{self, Far, FarCall, FarJump};
use crate::engine::interp::op::{Handler, Op};
use iced_x86::{Code, Mnemonic};

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    let op = match source.instr.mnemonic() {
        Mnemonic::Jmp => source.op(transfer::<FarJump>(source)?).ending(),
        Mnemonic::Call => source.op(transfer::<FarCall>(source)?).ending(),
        Mnemonic::Retf => far_return(source).ending(),
        Mnemonic::Iret => source.op(far::interrupt_return::<u16>).ending(),
        Mnemonic::Iretd => source.op(far::interrupt_return::<u32>).ending(),
        Mnemonic::Iretq => source.op(far::interrupt_return::<u64>).ending(),
        Mnemonic::Int => source.op(far::interrupt).ending(),
        Mnemonic::Int3 => source.op(far::breakpoint).ending(),
        Mnemonic::Int1 => source.op(far::debug_trap).ending(),
        Mnemonic::Into => source.op(far::overflow),
        _ => return None,
    };
    Some(op)
}

fn transfer<T: Far>(source: Source<'_>) -> Option<Handler> {
    let form = source.form();
    Some(match source.instr.code() {
        Code::Jmp_ptr1616 | Code::Call_ptr1616 => far::far_immediate::<T, u16>,
        Code::Jmp_ptr1632 | Code::Call_ptr1632 => far::far_immediate::<T, u32>,
        Code::Jmp_m1616 | Code::Call_m1616 => by_form!(form, F => far::far_memory::<T, u16, F>),
        Code::Jmp_m1632 | Code::Call_m1632 => by_form!(form, F => far::far_memory::<T, u32, F>),
        _ => return None,
    })
}

fn far_return(source: Source<'_>) -> Op {
    let bits = match source.instr.code() {
        Code::Retfw | Code::Retfw_imm16 => 16,
        Code::Retfd | Code::Retfd_imm16 => 32,
        _ => 64,
    };
    source.op(by_width!(bits, W => far::far_return::<W> as Handler))
}
