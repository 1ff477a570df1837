//! What the differential test cannot reach: 16-bit addresses and limits, segment registers, device memory.

use crate::engine::cpu_model::CpuModel;
use crate::engine::interp::compile::{Source, compile, decode};
use crate::engine::soft::cpu::{Cpu, Leave, Step, vector};
use crate::engine::soft::mode::Mode;
use crate::engine::state::{DS, ES, SS};
use crate::engine::{Exit, Op as Access};
use crate::mem::GuestMemory;
use std::sync::Arc;

const AX: usize = 0;
const BX: usize = 3;
const BP: usize = 5;
const SI: usize = 6;

/// In real mode, all segments but CS at 0; a byte of memory is its address's low byte, plus its page.
fn real_mode() -> Cpu {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let bytes: Vec<u8> = (0..0x2_0000u32).map(|n| (n + (n >> 12)) as u8).collect();
    memory.write(0, &bytes).unwrap();
    Cpu::new(Arc::new(CpuModel::default_level()), Arc::new(memory))
}

fn set(cpu: &mut Cpu, registers: &[(usize, u64)]) {
    let mut all = cpu.regs.all();
    for &(n, value) in registers {
        all[n] = value;
    }
    cpu.regs.set_all(&all);
}

fn run(cpu: &mut Cpu, code: &[u8]) -> Step {
    let instr = decode(code, cpu.mode, 0).unwrap();
    assert_eq!(instr.len(), code.len(), "{code:02x?}");
    let op = compile(Source {
        model: &cpu.model,
        instr: &instr,
        mode: cpu.mode,
    });
    (op.run)(cpu, &op)
}

fn word(cpu: &Cpu, at: u64) -> u16 {
    cpu.memory.read_obj(at).unwrap()
}

#[test]
fn sixteen_bit_addresses_wrap_at_64_kib() {
    let table: &[(&str, &[u8], u64)] = &[
        ("mov al, [bx+si]", &[0x8a, 0x00], 1),
        ("mov al, [bx+si+7fh]", &[0x8a, 0x40, 0x7f], 0x80),
        ("mov al, [bx-1]", &[0x8a, 0x47, 0xff], 0xfffe),
        ("mov al, [1234h]", &[0xa0, 0x34, 0x12], 0x1234),
        ("xlat", &[0xd7], 4),
    ];
    for (name, code, at) in table {
        let mut cpu = real_mode();
        set(&mut cpu, &[(BX, 0xffff), (SI, 2), (AX, 0x1105)]);
        assert_eq!(run(&mut cpu, code), Ok(()), "{name}");
        let expected = 0x1100 | u64::from((at + (at >> 12)) as u8);
        assert_eq!(cpu.regs.all()[AX], expected, "{name}");
    }
    let mut cpu = real_mode();
    set(&mut cpu, &[(BX, 0xffff), (SI, 2), (AX, 0xffff_0000)]);
    run(&mut cpu, &[0x8d, 0x00]).unwrap();
    assert_eq!(cpu.regs.all()[AX], 0xffff_0001, "lea ax, [bx+si]");
}

#[test]
fn an_access_beyond_the_limit_faults_and_changes_nothing() {
    let table: &[(&str, &[u8], u8)] = &[
        ("mov ax, [bx]", &[0x8b, 0x07], vector::GP),
        ("mov [bx], ax", &[0x89, 0x07], vector::GP),
        ("mov ax, [bp+0]", &[0x8b, 0x46, 0x00], vector::SS),
        ("xadd [bx], ax", &[0x0f, 0xc1, 0x07], vector::GP),
        ("cmpxchg [bx], cx", &[0x0f, 0xb1, 0x0f], vector::GP),
        ("cmpxchg8b [bx]", &[0x0f, 0xc7, 0x0f], vector::GP),
        ("xchg [bx], ax", &[0x87, 0x07], vector::GP),
        ("neg word [bx]", &[0xf7, 0x1f], vector::GP),
        ("shl word [bx], 1", &[0xd1, 0x27], vector::GP),
        ("bts [bx], ax", &[0x0f, 0xab, 0x07], vector::GP),
        ("imul ax, [bx]", &[0x0f, 0xaf, 0x07], vector::GP),
        ("les ax, [bx-2]", &[0xc4, 0x47, 0xfe], vector::GP),
        ("mov [bx], ds", &[0x8c, 0x1f], vector::GP),
    ];
    for (name, code, vector) in table {
        let mut cpu = real_mode();
        set(&mut cpu, &[(BX, 0xffff), (BP, 0xffff), (AX, 3)]);
        let before = (cpu.regs.all(), cpu.flags.rflags(), cpu.segments);
        assert_eq!(run(&mut cpu, code), Err(Leave::Fault), "{name}");
        let fault = cpu.fault.take().unwrap();
        assert_eq!((fault.vector, fault.code), (*vector, Some(0)), "{name}");
        let after = (cpu.regs.all(), cpu.flags.rflags(), cpu.segments);
        assert_eq!(after, before, "{name}");
    }
}

#[test]
fn a_bit_offset_reaches_back_and_wraps_with_the_address() {
    for (offset, at) in [
        (-1i16, 0xfffe),
        (-16, 0xfffe),
        (-17, 0xfffc),
        (16, 2),
        (0x7fff, 0xffe),
    ] {
        let mut cpu = real_mode();
        let before = word(&cpu, at);
        set(&mut cpu, &[(BX, 0), (AX, u64::from(offset as u16))]);
        // btc [bx], ax
        run(&mut cpu, &[0x0f, 0xbb, 0x07]).unwrap();
        let mask = 1 << (offset & 15);
        assert_eq!(word(&cpu, at), before ^ mask, "{offset}");
        assert_eq!(cpu.flags.cf(), before & mask != 0, "{offset}");
    }
}

#[test]
fn segment_registers_move_to_and_fro() {
    let mut cpu = real_mode();
    set(&mut cpu, &[(AX, 0xffff_1234), (BX, 0x100)]);
    assert_eq!(run(&mut cpu, &[0x8e, 0xd8]), Err(Leave::Jump), "mov ds, ax");
    assert_eq!(
        (cpu.segments[DS].selector, cpu.segments[DS].base),
        (0x1234, 0x1_2340)
    );
    assert!(!cpu.shadow);
    set(&mut cpu, &[(AX, 0xffff_ffff)]);
    run(&mut cpu, &[0x8c, 0xd8]).unwrap();
    assert_eq!(cpu.regs.all()[AX], 0xffff_1234, "mov ax, ds");
    run(&mut cpu, &[0x66, 0x8c, 0xd8]).unwrap();
    assert_eq!(cpu.regs.all()[AX], 0x1234, "mov eax, ds");
    run(&mut cpu, &[0x8c, 0x1f]).unwrap();
    assert_eq!(word(&cpu, 0x1_2440), 0x1234, "mov [bx], ds");
    cpu.memory.write(0x1_2440, &[0x78, 0x56, 0xbc, 0x9a]).unwrap();
    assert_eq!(run(&mut cpu, &[0xc4, 0x37]), Err(Leave::Jump), "les si, [bx]");
    assert_eq!((cpu.regs.all()[SI], cpu.segments[ES].selector), (0x5678, 0x9abc));
}

#[test]
fn only_mov_ss_casts_a_shadow_and_cs_cannot_be_moved_to() {
    let mut cpu = real_mode();
    cpu.attention = false;
    assert_eq!(
        run(&mut cpu, &[0x0f, 0xb2, 0x07]),
        Err(Leave::Jump),
        "lss ax, [bx]"
    );
    assert!(!cpu.shadow && !cpu.attention);
    assert_eq!(run(&mut cpu, &[0x8e, 0xd0]), Err(Leave::Jump), "mov ss, ax");
    assert!(cpu.shadow && cpu.shadow_is_mov_ss && cpu.attention);
    assert_eq!(u64::from(cpu.segments[SS].selector), cpu.regs.all()[AX]);
    assert_eq!(run(&mut cpu, &[0x8e, 0xc8]), Err(Leave::Fault), "mov cs, ax");
    assert_eq!(cpu.fault.take().unwrap().vector, vector::UD);
}

#[test]
fn nothing_reads_the_operand_of_a_nop() {
    // nop word [bx]; prefetcht0 [bx]; prefetchw [bx]: beyond the limit.
    for code in [[0x0f, 0x1f, 0x07], [0x0f, 0x18, 0x0f], [0x0f, 0x0d, 0x0f]] {
        let mut cpu = real_mode();
        set(&mut cpu, &[(BX, 0xffff)]);
        assert_eq!(run(&mut cpu, &code), Ok(()), "{code:02x?}");
    }
}

#[test]
fn a_64_bit_offset_is_used_whole() {
    let mut cpu = real_mode();
    cpu.mode = Mode::CODE64 | Mode::LONG | Mode::PROTECTED | Mode::FLAT;
    let at = 0x12_3456_7890u64;
    let mut code = vec![0x48, 0xa1];
    code.extend(at.to_le_bytes());
    assert_eq!(run(&mut cpu, &code), Err(Leave::Exit));
    let expected = Exit::Mmio {
        at,
        width: crate::bus::Width::Qword,
        op: Access::Read,
    };
    assert_eq!(cpu.exit.take(), Some(expected));
    cpu.replay.answer(0x1122_3344_5566_7788);
    assert_eq!(run(&mut cpu, &code), Ok(()));
    assert_eq!(cpu.regs.all()[AX], 0x1122_3344_5566_7788);
}

#[test]
fn a_read_modify_write_of_a_device_asks_twice_and_commits_once() {
    let mut cpu = real_mode();
    cpu.mode = Mode::CODE64 | Mode::LONG | Mode::PROTECTED | Mode::FLAT;
    let at = 0x4000_0000;
    set(&mut cpu, &[(BX, at), (AX, 5)]);
    let code = [0x0f, 0xc1, 0x03]; // xadd [rbx], eax
    let mmio = |op| Exit::Mmio {
        at,
        width: crate::bus::Width::Dword,
        op,
    };
    let before = (cpu.regs.all(), cpu.flags.rflags());
    for (question, answer) in [(Access::Read, 7), (Access::Write(12), 0)] {
        assert_eq!(run(&mut cpu, &code), Err(Leave::Exit));
        assert_eq!(cpu.exit.take(), Some(mmio(question)));
        assert_eq!((cpu.regs.all(), cpu.flags.rflags()), before);
        cpu.replay.rewind();
        cpu.replay.answer(answer);
    }
    assert_eq!(run(&mut cpu, &code), Ok(()));
    assert_eq!(cpu.regs.all()[AX], 7);
}
