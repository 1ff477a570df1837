//! A vCPU in 64-bit mode over identity-mapped memory, and one instruction run on it.

use super::native::Registers;
use crate::engine::cpu_model::CpuModel;
use crate::engine::interp::compile::{Source, compile};
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::state_io::interp_model;
use crate::engine::state::{CS, CpuState};
use crate::mem::GuestMemory;
use iced_x86::{Decoder, DecoderOptions, Encoder, Instruction};
use std::sync::Arc;

/// Where instructions run.
pub const RIP: u64 = 0x10_0000;
/// The operand buffer: 64 bytes across a page's end.
pub const BUFFER: u64 = 0x20_0fe0;
/// First physical address behind RAM.
pub const RAM: u64 = 16 << 20;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;

/// CR0: PE, MP, NE, WP, PG; CR4: PAE, OSFXSR, OSXMMEXCPT, OSXSAVE.
const CR0: u64 = 0x8001_0033;
const CR4: u64 = 1 << 5 | 3 << 9 | 1 << 18;

pub fn long_mode() -> Cpu {
    let memory = GuestMemory::new(RAM).unwrap();
    // Present, writable, user; 1 GiB pages.
    memory.write_obj(PML4, &(PDPT | 7)).unwrap();
    memory.write_obj(PDPT, &0x87u64).unwrap();
    let mut cpu = Cpu::new(Arc::new(interp_model()), Arc::new(memory));
    let mut state = CpuState::reset();
    state.cr0 = CR0;
    state.cr4 = CR4;
    state.cr3 = PML4;
    state.efer = 0x500;
    state.xcr0 = 3;
    state.rip = RIP;
    for (n, segment) in state.segments.user.iter_mut().enumerate() {
        segment.selector = if n == CS { 8 } else { 16 };
        segment.base = 0;
        segment.limit = u32::MAX;
        segment.attributes = if n == CS { 0xa09b } else { 0xc093 };
    }
    cpu.load_state(&state).unwrap();
    cpu.xstate.legacy.init_x87(true);
    cpu
}

/// 32-bit protected mode without paging, flat.
pub fn protected_mode() -> Cpu {
    let mut cpu = long_mode();
    let mut state = cpu.save_state();
    state.cr0 = 0x33;
    state.efer = 0;
    state.segments.user[CS].attributes = 0xc09b;
    state.segments.tr.attributes = 0x8b;
    cpu.load_state(&state).unwrap();
    cpu
}

/// The instruction as a decoder finds it at the start of a trace.
pub fn redecode(instr: &Instruction, bitness: u32) -> Instruction {
    let mut encoder = Encoder::new(bitness);
    encoder.encode(instr, 0).unwrap();
    decode(&encoder.take_buffer(), bitness)
}

pub fn decode(bytes: &[u8], bitness: u32) -> Instruction {
    let mut decoder = Decoder::with_ip(bitness, bytes, 0, DecoderOptions::NONE);
    decoder.decode()
}

pub fn compiled(cpu: &Cpu, instr: &Instruction) -> Op {
    compiled_for(cpu, instr, &cpu.model)
}

pub fn compiled_for(cpu: &Cpu, instr: &Instruction, model: &CpuModel) -> Op {
    compile(Source {
        instr,
        mode: cpu.mode,
        model,
    })
}

/// Runs machine code of one instruction.
pub fn run(cpu: &mut Cpu, bytes: &[u8]) -> Step {
    let instr = decode(bytes, cpu.mode.bitness());
    let op = compiled(cpu, &instr);
    cpu.fault = None;
    (op.run)(cpu, &op)
}

/// The vector a run must have raised.
pub fn faulted(cpu: &mut Cpu, bytes: &[u8]) -> Option<u8> {
    match run(cpu, bytes) {
        Ok(()) => None,
        Err(leave) => {
            assert_eq!(leave, crate::engine::soft::cpu::Leave::Fault, "{bytes:x?}");
            Some(cpu.fault.expect("a fault says what it is").vector)
        }
    }
}

pub fn put(cpu: &mut Cpu, registers: &Registers) {
    cpu.xstate.legacy = registers.legacy.clone();
    cpu.regs.set_all(&registers.gprs);
    cpu.flags.set_rflags(registers.rflags);
}

pub fn take(cpu: &Cpu) -> Registers {
    Registers {
        legacy: cpu.xstate.legacy.clone(),
        gprs: cpu.regs.all(),
        rflags: cpu.flags.rflags(),
    }
}
