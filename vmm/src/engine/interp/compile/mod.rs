//! From iced-x86's instruction to an [`Op`]: which handler, which operands.
//!
//! [`compile`] asks each group's file in turn; a group answers for the mnemonics it knows. What nobody knows, and
//! what the CPU model hides, becomes #UD. Called once per instruction of a new trace, never while one runs.

mod alu;
mod atomic;
mod bcd;
mod bit;
mod branch;
mod data;
mod far;
mod flag;
mod misc;
mod muldiv;
mod port;
mod segment;
mod shift;
mod stack;
mod string;
mod system;
mod unary;
mod vector;

use super::form::address;
use super::op::{Handler, Op};
use crate::engine::cpu_model::CpuModel;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register};

/// The LOCK prefix.
const LOCK: u8 = 0xf0;

/// An instruction to be compiled. Its IP, as given to the decoder, is its distance from the trace's first byte.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The instruction.
    pub instr: &'a Instruction,
    /// The mode it was decoded in.
    pub mode: Mode,
    /// What the guest is offered: an instruction of a hidden feature is undefined.
    pub model: &'a CpuModel,
}

/// A [`super::form::Form`], as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormKind {
    /// [`super::form::Base64`].
    Base64,
    /// [`super::form::Index64`].
    Index64,
    /// [`super::form::Rip64`].
    Rip64,
    /// [`super::form::Segment64`].
    Segment64,
    /// [`super::form::Flat32`].
    Flat32,
    /// [`super::form::General`].
    General,
}

/// Evaluates an expression with a type `$W` bound to the unsigned integer of `$bits`.
macro_rules! by_width {
    ($bits:expr, $W:ident => $e:expr) => {
        match $bits {
            8 => {
                type $W = u8;
                $e
            }
            16 => {
                type $W = u16;
                $e
            }
            32 => {
                type $W = u32;
                $e
            }
            _ => {
                type $W = u64;
                $e
            }
        }
    };
}

/// Evaluates an expression with a type `$F` bound to the form a [`FormKind`] names.
macro_rules! by_form {
    ($kind:expr, $F:ident => $e:expr) => {{
        use $crate::engine::interp::compile::FormKind as Kind;
        use $crate::engine::interp::form;
        match $kind {
            Kind::Base64 => {
                type $F = form::Base64;
                $e
            }
            Kind::Index64 => {
                type $F = form::Index64;
                $e
            }
            Kind::Rip64 => {
                type $F = form::Rip64;
                $e
            }
            Kind::Segment64 => {
                type $F = form::Segment64;
                $e
            }
            Kind::Flat32 => {
                type $F = form::Flat32;
                $e
            }
            Kind::General => {
                type $F = form::General;
                $e
            }
        }
    }};
}
pub(super) use {by_form, by_width};

/// Decodes one instruction, `at` bytes behind its trace's first. `None`: the bytes end before it does; an invalid one
/// compiles to #UD.
///
/// As AMD processors decode: near branches honour the operand-size prefix in 64-bit code, far pointers ignore REX.W.
/// LOCK MOV CR0, AMD's other way to CR8, is a feature (AltMovCr8) the CPU model has not.
pub fn decode(bytes: &[u8], mode: Mode, at: u64) -> Option<Instruction> {
    let decode_as = |options| {
        let mut decoder = Decoder::with_ip(mode.bitness(), bytes, at, options);
        let instr = decoder.decode();
        (decoder.last_error() != DecoderError::NoMoreBytes).then_some(instr)
    };
    let instr = decode_as(DecoderOptions::AMD)?;
    let cr8 = [instr.op0_register(), instr.op1_register()].contains(&Register::CR8);
    let locked = bytes.iter().take(instr.len()).any(|&byte| byte == LOCK);
    if cr8 && locked {
        return decode_as(DecoderOptions::NONE);
    }
    Some(instr)
}

/// Compiles one instruction.
pub fn compile(source: Source<'_>) -> Op {
    // The most frequent first. `misc` before `vector`, which answers for whatever has SSE's feature bit, prefetches and
    // fences included; `string` tells its MOVSD and CMPSD from SSE's.
    let groups: [fn(Source<'_>) -> Option<Op>; 18] = [
        data::compile,
        alu::compile,
        branch::compile,
        stack::compile,
        unary::compile,
        shift::compile,
        bit::compile,
        string::compile,
        flag::compile,
        muldiv::compile,
        atomic::compile,
        misc::compile,
        system::compile,
        segment::compile,
        far::compile,
        port::compile,
        bcd::compile,
        vector::compile,
    ];
    groups
        .iter()
        .find_map(|group| group(source))
        .unwrap_or_else(|| source.op(undefined).ending())
}

/// What the vector group alone makes of an instruction.
#[cfg(test)]
pub(super) fn compile_vector(cpu: &Cpu, instr: &Instruction) -> Option<Op> {
    vector::compile(Source {
        instr,
        mode: cpu.mode,
        model: &cpu.model,
    })
}

/// Ends a trace that has no branch at its end; takes no bytes.
pub const END: Op = Op {
    run: |cpu, op| op.finish(cpu),
    imm: 0,
    disp: 0,
    reg: RegAt::ZERO,
    rm: RegAt::ZERO,
    base: RegAt::ZERO,
    index: RegAt::ZERO,
    scale: 0,
    segment: 0,
    len: 0,
    offset: 0,
    ends: true,
};

/// #UD.
pub fn undefined(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.raise_ud()
}

impl Source<'_> {
    /// Bits of operand `n`: register, memory or immediate size.
    pub fn bits(&self, n: u32) -> u32 {
        match self.instr.op_kind(n) {
            OpKind::Register => self.instr.op_register(n).size() as u32 * 8,
            OpKind::Memory => self.instr.memory_size().size() as u32 * 8,
            OpKind::Immediate8 | OpKind::Immediate8_2nd => 8,
            OpKind::Immediate16 | OpKind::Immediate8to16 => 16,
            OpKind::Immediate32 | OpKind::Immediate8to32 => 32,
            _ => 64,
        }
    }

    /// Whether operand `n` is in memory (string operands are not).
    pub fn is_memory(&self, n: u32) -> bool {
        n < self.instr.op_count() && self.instr.op_kind(n) == OpKind::Memory
    }

    /// Whether operand `n` is a register.
    pub fn is_register(&self, n: u32) -> bool {
        n < self.instr.op_count() && self.instr.op_kind(n) == OpKind::Register
    }

    /// The quickest form for the memory operand.
    pub fn form(&self) -> FormKind {
        let instr = self.instr;
        let base = instr.memory_base();
        let general_segment = matches!(instr.memory_segment(), Register::FS | Register::GS);
        let address_bits = self.address_bits();
        if self.mode.contains(Mode::CODE64) {
            if address_bits == 32 {
                let plain = !general_segment && base != Register::EIP;
                return if plain {
                    FormKind::Flat32
                } else {
                    FormKind::General
                };
            }
            return match (base, general_segment) {
                (Register::RIP, false) => FormKind::Rip64,
                (Register::RIP, true) => FormKind::General,
                (_, true) => FormKind::Segment64,
                _ if instr.memory_index() == Register::None => FormKind::Base64,
                _ => FormKind::Index64,
            };
        }
        // CS is readable in a flat mode, but never writable: stores through it take the checks.
        let flat =
            self.mode.contains(Mode::FLAT) && !general_segment && instr.memory_segment() != Register::CS;
        if flat && address_bits == 32 {
            FormKind::Flat32
        } else {
            FormKind::General
        }
    }

    /// Address size of the memory operand in bits.
    pub fn address_bits(&self) -> u32 {
        let of = |register: Register| register.size() as u32 * 8;
        match (self.instr.memory_base(), self.instr.memory_index()) {
            (Register::None, Register::None) => self.instr.memory_displ_size() * 8,
            (Register::None, index) => of(index),
            (base, _) => of(base),
        }
        .max(16)
    }

    /// An operation with every operand filled in: the first general register operand as `reg`, the second as `rm`,
    /// immediate or branch target, memory operand.
    pub fn op(&self, run: Handler) -> Op {
        let instr = self.instr;
        let mut op = Op {
            run,
            imm: 0,
            disp: 0,
            reg: RegAt::ZERO,
            rm: RegAt::ZERO,
            base: RegAt::ZERO,
            index: RegAt::ZERO,
            scale: 0,
            segment: crate::engine::state::DS as u8,
            len: instr.len() as u8,
            offset: instr.ip() as u8,
            ends: false,
        };
        let mut registers = 0;
        for n in 0..instr.op_count() {
            match instr.op_kind(n) {
                OpKind::Register => {
                    if let Some(at) = general(instr.op_register(n)) {
                        match registers {
                            0 => op.reg = at,
                            1 => op.rm = at,
                            // The CL of SHLD and SHRD.
                            _ => {}
                        }
                        registers += 1;
                    }
                }
                OpKind::Memory => self.memory(&mut op),
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                    op.imm = instr.near_branch_target();
                }
                OpKind::FarBranch16 | OpKind::FarBranch32 => {
                    op.imm = u64::from(instr.far_branch_selector()) << 32
                        | if instr.op_kind(n) == OpKind::FarBranch16 {
                            u64::from(instr.far_branch16())
                        } else {
                            u64::from(instr.far_branch32())
                        };
                }
                kind if is_immediate(kind) && op.imm == 0 => op.imm = instr.immediate(n),
                _ => {}
            }
        }
        op
    }

    fn memory(&self, op: &mut Op) {
        let instr = self.instr;
        let relative = matches!(instr.memory_base(), Register::RIP | Register::EIP);
        op.base = general(instr.memory_base()).unwrap_or(RegAt::ZERO);
        op.index = general(instr.memory_index()).unwrap_or(RegAt::ZERO);
        op.scale = instr.memory_index_scale().trailing_zeros() as u8;
        let displacement = instr.memory_displacement64();
        op.disp = if relative {
            displacement.wrapping_sub(instr.next_ip()) as i32
        } else {
            displacement as i32
        };
        op.segment = segment(instr.memory_segment());
        if self.form() == FormKind::General {
            op.scale |= match self.address_bits() {
                16 => address::A16,
                32 => address::A32,
                _ => 0,
            };
            op.scale |= if relative { address::RIP } else { 0 };
        }
    }
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

/// Index into `Cpu::segments`.
pub fn segment(register: Register) -> u8 {
    match register {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    }
}

/// Place of a general register.
pub fn general(register: Register) -> Option<RegAt> {
    if !register.is_gpr() {
        return None;
    }
    if matches!(
        register,
        Register::AH | Register::CH | Register::DH | Register::BH
    ) {
        return Some(RegAt::high(register as u8 - Register::AH as u8));
    }
    Some(RegAt::new(register.full_register() as u8 - Register::RAX as u8))
}
