//! The code of a thunk.
//!
//! SysV calling convention: RDI points to the first operand, RSI to the second or the memory operand, RDX to
//! [`Args`], which moves to R8 at once because PCMPESTRI takes RDX. An x87 instruction runs under the guest's whole x87
//! state, exceptions unmasked as the guest has them: one that is raised stays pending, because no waiting instruction
//! follows before FXSAVE has put it into the guest's status word.

use super::Args;
use super::plan::{FlagUse, General, Implicit, Plan, Unit, Vector};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    AsmMemoryOperand, CodeAssembler, al, ax, dword_ptr, eax, mm1, mm2, ptr, qword_ptr, r8, rax, rcx, rdi,
    rdx, rsi, word_ptr, xmm0, xmm1, xmm2, xmmword_ptr,
};
use std::mem::offset_of;

const MXCSR: usize = offset_of!(Args, mxcsr);
const HOST_MXCSR: usize = offset_of!(Args, host_mxcsr);
const FLAGS: usize = offset_of!(Args, flags);
const RAX: usize = offset_of!(Args, rax);
const RDX: usize = offset_of!(Args, rdx);
const RCX: usize = offset_of!(Args, rcx);
const XMM0: usize = offset_of!(Args, xmm0);

/// The machine code for a plan, position independent.
pub(super) fn emit(plan: &Plan) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    a.mov(r8, rdx)?;
    match plan.unit {
        Unit::X87 => x87(&mut a, plan)?,
        Unit::Integer | Unit::Float => vector(&mut a, plan)?,
    }
    a.ret()?;
    a.assemble(0)
}

fn arg(at: usize) -> AsmMemoryOperand {
    r8 + at as i32
}

fn x87(a: &mut CodeAssembler, plan: &Plan) -> Result<(), IcedError> {
    let flags = plan.flags != FlagUse::None;
    a.fxrstor64(ptr(rdi))?;
    if flags {
        load_flags(a)?;
    }
    a.add_instruction(plan.renamed)?;
    if flags {
        store_flags(a)?;
    }
    a.fxsave64(ptr(rdi))?;
    a.fninit()?;
    a.ldmxcsr(dword_ptr(arg(HOST_MXCSR)))
}

fn vector(a: &mut CodeAssembler, plan: &Plan) -> Result<(), IcedError> {
    load_operands(a, plan)?;
    if plan.unit == Unit::Float {
        a.ldmxcsr(dword_ptr(arg(MXCSR)))?;
    }
    a.add_instruction(plan.renamed)?;
    if plan.unit == Unit::Float {
        a.stmxcsr(dword_ptr(arg(MXCSR)))?;
        a.ldmxcsr(dword_ptr(arg(HOST_MXCSR)))?;
    }
    store_operands(a, plan)?;
    if plan.enters_mmx() {
        a.emms()?;
    }
    Ok(())
}

fn load_operands(a: &mut CodeAssembler, plan: &Plan) -> Result<(), IcedError> {
    match plan.vectors[0] {
        Some(Vector::Xmm) => a.movaps(xmm1, xmmword_ptr(rdi))?,
        Some(Vector::Mm) => a.movq(mm1, qword_ptr(rdi))?,
        None => {}
    }
    match plan.vectors[1] {
        Some(Vector::Xmm) => a.movaps(xmm2, xmmword_ptr(rsi))?,
        Some(Vector::Mm) => a.movq(mm2, qword_ptr(rsi))?,
        None => {}
    }
    if plan.implicit == Implicit::ReadXmm0 {
        a.movaps(xmm0, xmmword_ptr(arg(XMM0)))?;
    }
    let lengths = matches!(plan.implicit, Implicit::LengthsToIndex | Implicit::LengthsToMask);
    if lengths {
        a.mov(rdx, qword_ptr(arg(RDX)))?;
    }
    if lengths || plan.general == Some(General::In) {
        a.mov(rax, qword_ptr(arg(RAX)))?;
    }
    Ok(())
}

fn store_operands(a: &mut CodeAssembler, plan: &Plan) -> Result<(), IcedError> {
    if plan.general == Some(General::Out) {
        a.mov(qword_ptr(arg(RAX)), rax)?;
    }
    match plan.implicit {
        Implicit::LengthsToIndex | Implicit::Index => a.mov(qword_ptr(arg(RCX)), rcx)?,
        Implicit::LengthsToMask | Implicit::Mask => a.movaps(xmmword_ptr(arg(XMM0)), xmm0)?,
        Implicit::None | Implicit::ReadXmm0 => {}
    }
    // Behind the other results: this takes RAX. No instruction in between changes flags.
    if plan.flags != FlagUse::None {
        store_flags(a)?;
    }
    if plan.writes {
        match plan.vectors[0] {
            Some(Vector::Xmm) => a.movaps(xmmword_ptr(rdi), xmm1)?,
            Some(Vector::Mm) => a.movq(qword_ptr(rdi), mm1)?,
            None => {}
        }
    }
    Ok(())
}

/// From the form of [`Args::flags`].
fn load_flags(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.movzx(eax, word_ptr(arg(FLAGS)))?;
    // Overflows exactly if AL is 1; SAHF leaves OF alone.
    a.add(al, 0x7f)?;
    a.sahf()
}

fn store_flags(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lahf()?;
    a.seto(al)?;
    a.mov(word_ptr(arg(FLAGS)), ax)
}
