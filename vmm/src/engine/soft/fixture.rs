//! Vcpus in a small guest memory with tables in known places, for tests of what the architecture does to them.

use super::cpu::{Cpu, Fault, Leave, Step};
use super::flags::Flags;
use super::segment::SegmentRegister;
use super::stack::SP;
use super::state_io::interp_model;
use crate::engine::state::{CS, CpuState, SS, TableRegister};
use crate::mem::GuestMemory;
use std::sync::Arc;

/// Where things lie.
pub const GDT: u64 = 0x1000;
pub const IDT: u64 = 0x2000;
pub const TSS: u64 = 0x4000;
pub const TSS_B: u64 = 0x4800;
pub const LDT: u64 = 0x5000;
pub const STACK0: u64 = 0x8000;
pub const STACK3: u64 = 0x9000;
pub const CODE: u64 = 0x7000;
pub const HANDLERS: u64 = 0xa000;
pub const PML4: u64 = 0x1_0000;

/// Selectors of the GDT's flat segments.
pub const CODE0: u16 = 0x08;
pub const DATA0: u16 = 0x10;
pub const CODE3: u16 = 0x1b;
pub const DATA3: u16 = 0x23;
pub const TASK: u16 = 0x28;
/// A second task's TSS (32-bit and legacy modes).
pub const TASK_B: u16 = 0x38;
/// A slot for a test's own descriptor; 16 bytes.
pub const FREE: u16 = 0x40;
/// The LDT's descriptor; 16 bytes.
pub const LDT_SLOT: u16 = 0x60;
const GDT_LIMIT: u16 = 0x7f;

/// Access byte and flag nibble of flat segments.
pub const FLAT_CODE: u32 = 0xc09b;
pub const FLAT_DATA: u32 = 0xc093;
pub const LONG_CODE: u32 = 0xa09b;

/// A segment or system-segment descriptor. `limit` is the raw 20-bit field; attributes as in [`SegmentRegister`].
pub const fn segment(base: u32, limit: u32, attributes: u32) -> u64 {
    let (base, limit, attributes) = (base as u64, limit as u64, attributes as u64);
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | (attributes & 0xff) << 40
        | (limit >> 16 & 0xf) << 48
        | (attributes >> 12 & 0xf) << 52
        | (base >> 24) << 56
}

/// A gate. `low`: parameter count or IST.
pub const fn gate(kind: u8, dpl: u8, selector: u16, offset: u32, low: u8) -> u64 {
    let offset = offset as u64;
    (offset & 0xffff)
        | (selector as u64) << 16
        | (low as u64) << 32
        | (0x80 | (dpl as u64) << 5 | kind as u64) << 40
        | (offset >> 16) << 48
}

/// An IDT entry's handler address.
pub const fn handler(vector: u8) -> u64 {
    HANDLERS + 0x10 * vector as u64
}

fn register(selector: u16, descriptor: u64) -> SegmentRegister {
    super::descriptor::Descriptor(descriptor).register(selector)
}

/// Memory access by physical address.
pub fn put<T: zerocopy::IntoBytes + zerocopy::Immutable>(cpu: &Cpu, at: u64, value: T) {
    cpu.memory.write_obj(at, &value).unwrap();
}
pub fn get<T: zerocopy::FromBytes + zerocopy::IntoBytes>(cpu: &Cpu, at: u64) -> T {
    cpu.memory.read_obj(at).unwrap()
}

/// Sets a GDT slot.
pub fn set_gdt(cpu: &Cpu, selector: u16, descriptor: u64) {
    put(cpu, GDT + u64::from(selector & !7), descriptor);
}

/// A vCPU after RESET with 4 MiB.
pub fn reset() -> Cpu {
    Cpu::new(
        Arc::new(interp_model()),
        Arc::new(GuestMemory::new(4 << 20).unwrap()),
    )
}

/// Real mode at CODE, stack at STACK0, an IVT of handlers at `vector * 16` in segment HANDLERS / 16.
pub fn real() -> Cpu {
    let mut cpu = reset();
    cpu.load_state(&CpuState::real_mode(0, CODE as u16)).unwrap();
    cpu.regs.set(SP, STACK0);
    for vector in 0..=255u32 {
        let entry = ((HANDLERS as u32 / 16) << 16) + vector * 16;
        put(&cpu, u64::from(vector) * 4, entry);
    }
    cpu
}

/// 32-bit protected mode at CPL `cpl`, flat, no paging, interrupt gates for all vectors (DPL 0, 0x80 and 3: DPL 3), TSS
/// with an inner stack.
pub fn protected(cpl: u8) -> Cpu {
    let mut cpu = reset();
    cpu.load_state(&CpuState::flat32(CODE as u32)).unwrap();
    set_flat_gdt(&cpu, FLAT_CODE);
    for vector in 0..=255u8 {
        let dpl = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let entry = gate(14, dpl, CODE0, handler(vector) as u32, 0);
        put(&cpu, IDT + 8 * u64::from(vector), entry);
    }
    put(&cpu, TSS + 4, STACK0 as u32);
    put(&cpu, TSS + 8, u32::from(DATA0));
    set_gdt(&cpu, TASK, segment(TSS as u32, 0x67, 0x8b));
    set_gdt(&cpu, TASK_B, segment(TSS_B as u32, 0x67, 0x89));
    set_tables(&mut cpu, 0x7ff);
    enter(&mut cpu, cpl);
    cpu
}

/// 64-bit mode at CPL `cpl`: the first GiB mapped to itself for everyone, interrupt gates for all vectors.
pub fn long(cpl: u8) -> Cpu {
    let mut cpu = reset();
    put(&cpu, PML4, (PML4 + 0x1000) | 7);
    put(&cpu, PML4 + 0x1000, 0x87u64);
    cpu.load_state(&CpuState::long64(CODE, PML4)).unwrap();
    set_flat_gdt(&cpu, LONG_CODE);
    for vector in 0..=255u8 {
        let dpl = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let at = IDT + 16 * u64::from(vector);
        put(&cpu, at, gate(14, dpl, CODE0, handler(vector) as u32, 0));
        put(&cpu, at + 8, 0u64);
    }
    put(&cpu, TSS + 4, STACK0);
    set_gdt(&cpu, TASK, segment(TSS as u32, 0x67, 0x8b));
    put(&cpu, GDT + u64::from(TASK) + 8, 0u64);
    set_tables(&mut cpu, 0xfff);
    enter(&mut cpu, cpl);
    cpu
}

fn set_flat_gdt(cpu: &Cpu, code: u32) {
    set_gdt(cpu, CODE0, segment(0, 0xf_ffff, code));
    set_gdt(cpu, DATA0, segment(0, 0xf_ffff, FLAT_DATA));
    set_gdt(cpu, CODE3, segment(0, 0xf_ffff, code | 0x60));
    set_gdt(cpu, DATA3, segment(0, 0xf_ffff, FLAT_DATA | 0x60));
}

fn set_tables(cpu: &mut Cpu, idt_limit: u16) {
    cpu.gdtr = TableRegister {
        base: GDT,
        limit: GDT_LIMIT,
    };
    cpu.idtr = TableRegister {
        base: IDT,
        limit: idt_limit,
    };
    cpu.tr = register(TASK, get(cpu, GDT + u64::from(TASK)));
}

/// Puts the vCPU at another privilege level, its stack with it.
pub fn enter(cpu: &mut Cpu, cpl: u8) {
    let (code, data, sp) = if cpl == 3 {
        (CODE3, DATA3, STACK3)
    } else {
        (CODE0, DATA0, STACK0)
    };
    let level = |selector: u16| (selector & !3) | u16::from(cpl);
    let dpl = |mut s: SegmentRegister| {
        s.attributes = (s.attributes & !0x60) | u32::from(cpl) << 5;
        s
    };
    for index in 0..6 {
        let selector = if index == CS { code } else { data };
        let raw: u64 = get(cpu, GDT + u64::from(selector & !7));
        cpu.segments[index] = dpl(register(level(selector), raw));
    }
    cpu.regs.set(SP, sp);
    cpu.update_mode();
    assert_eq!(cpu.cpl, cpl);
}

/// Virtual-8086 mode inside [`protected`]: segments all 0x700 (CS: 0), IP CODE.
pub fn v86(iopl: u64) -> Cpu {
    let mut cpu = protected(0);
    cpu.flags = Flags::default();
    cpu.flags.others |= super::flags::VM | super::flags::IF | iopl << 12;
    cpu.install_v86([0x700, 0, 0x700, 0x700, 0x700, 0x700]);
    cpu.regs.set(SP, 0x1000u64);
    cpu.rip = CODE;
    cpu.update_mode();
    cpu
}

/// The fault a step raised, as vector and code.
pub fn fault<T>(cpu: &mut Cpu, step: Step<T>) -> Option<(u8, Option<u32>)> {
    match step {
        Ok(_) => None,
        Err(Leave::Fault) => cpu.fault.take().map(|Fault { vector, code, .. }| (vector, code)),
        Err(other) => panic!("left with {other:?}"),
    }
}

/// What tells one state from another: selectors, rip, RSP, flags, CPL.
pub fn signature(cpu: &Cpu) -> ([u16; 6], u64, u64, u64, u8) {
    (
        cpu.segments.map(|s| s.selector),
        cpu.rip,
        cpu.regs.get(SP),
        cpu.flags.rflags(),
        cpu.cpl,
    )
}

/// Words on the stack from its top, of 2, 4 or 8 bytes, by physical address.
pub fn stack(cpu: &Cpu, bytes: u64, count: u64) -> Vec<u64> {
    let top = cpu.segments[SS].base.wrapping_add(cpu.stack_pointer());
    let top = if cpu.mode.contains(super::mode::Mode::CODE64) {
        cpu.stack_pointer()
    } else {
        top
    };
    (0..count)
        .map(|i| {
            let mut word = [0; 8];
            cpu.memory
                .read(top + i * bytes, &mut word[..bytes as usize])
                .unwrap();
            u64::from_le_bytes(word)
        })
        .collect()
}
