//! HLT, BOUND, hints, undefined instructions, interrupts by instruction, ports.

use super::*;
use crate::bus::Width;
use crate::engine::Op as Direction;
use crate::engine::soft::fixture::{self, handler, put};
use crate::engine::soft::flags::IF;
use crate::engine::state::DS;

#[test]
fn hlt_is_for_cpl_0() {
    let mut cpu = fixture::long(3);
    assert_eq!(run(&mut cpu, &[0xf4]), GP);
    assert!(!cpu.halted);
    let mut cpu = fixture::long(0);
    cpu.attention = false;
    assert_eq!(run(&mut cpu, &[0xf4]), Ran::Done);
    assert!(cpu.halted && cpu.attention);
    assert_eq!(cpu.rip, CODE + 1);
}

#[test]
fn hints_touch_neither_registers_nor_memory() {
    let mut cpu = fixture::long(3);
    set_reg(&mut cpu, RAX, UNMAPPED);
    let before = cpu.regs.all();
    let mut tried = 0;
    for prefix in [None, Some(0x66), Some(0xf3), Some(0xf2)] {
        for opcode in 0x18..=0x1f {
            for modrm in [
                0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0xc0, 0xc8, 0xd1, 0xfa, 0xfb,
            ] {
                let bytes: Vec<u8> = prefix.into_iter().chain([0x0f, opcode, modrm]).collect();
                assert_eq!(run(&mut cpu, &bytes), Ran::Done, "{bytes:x?}");
                assert_eq!(cpu.rip, CODE + bytes.len() as u64);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 4 * 8 * 13);
    for bytes in [
        &[0x90][..],
        &[0xf3, 0x90],
        &[0x66, 0x90],
        &[0x0f, 0x0d, 0x08],
        &[0x0f, 0x0d, 0x38],
        &[0x0f, 0xae, 0xe8],
        &[0x0f, 0xae, 0xf0],
        &[0x0f, 0xae, 0xff],
    ] {
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
    }
    assert_eq!(cpu.regs.all(), before);
}

#[test]
fn what_is_undefined_stays_so() {
    for bytes in [
        &[0x0f, 0x0b][..],
        &[0x0f, 0xff],
        &[0x0f, 0xb9, 0xc0],
        &[0x0f, 0x0d, 0xc8],
        &[0xf0, 0x90],
        &[0xd6],
        &[0x60],
        &[0xce],
        &[0x66, 0x0f, 0xae, 0x38], // CLFLUSHOPT: not of the model
    ] {
        let mut cpu = fixture::long(0);
        set_reg(&mut cpu, RAX, CODE);
        assert_eq!(run(&mut cpu, bytes), UD, "{bytes:x?}");
    }
}

#[test]
fn bound_is_signed_and_ends_included() {
    for (index, ran) in [
        (0xffff_fffeu64, Ran::Done),
        (5, Ran::Done),
        (6, Ran::Fault(5, None)),
        (0xffff_fffd, Ran::Fault(5, None)),
    ] {
        for wide in [true, false] {
            let mut cpu = fixture::protected(3);
            let bytes: &[u8] = if wide {
                put(&cpu, 0x3000, [-2i32, 5].map(|b| b as u32));
                &[0x62, 0x03] // bound eax, [ebx]
            } else {
                put(&cpu, 0x3000, [-2i16, 5].map(|b| b as u16));
                &[0x66, 0x62, 0x03]
            };
            set_reg(&mut cpu, RAX, index);
            set_reg(&mut cpu, 3, 0x3000);
            assert_eq!(run(&mut cpu, bytes), ran, "{index:#x}");
        }
    }
}

#[test]
fn interrupts_by_instruction_go_to_their_handlers() {
    for (bytes, vector, of) in [
        (&[0xcc][..], 3, false),
        (&[0xcd, 0x80], 0x80, false),
        (&[0xf1], 1, false),
        (&[0xce], 4, true),
    ] {
        let mut cpu = fixture::protected(3);
        cpu.flags.set_cf_of(false, of);
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
        assert_eq!((cpu.rip, cpu.cpl), (handler(vector), 0), "{bytes:x?}");
        let back = fixture::stack(&cpu, 4, 1)[0];
        assert_eq!(back, CODE + bytes.len() as u64);
        // And back.
        assert_eq!(
            {
                cpu.memory.write(handler(vector), &[0xcf]).unwrap();
                step(&mut cpu)
            },
            Ran::Done
        );
        assert_eq!((cpu.rip, cpu.cpl), (back, 3));
    }
    let mut cpu = fixture::protected(3);
    cpu.flags.set_cf_of(false, false);
    assert_eq!(run(&mut cpu, &[0xce]), Ran::Done);
    assert_eq!(cpu.rip, CODE + 1);
    assert_eq!(run(&mut cpu, &[0xcd, 0x20]), Ran::Fault(13, Some(0x20 * 8 + 2)));
}

#[test]
fn far_pointers_load_both_halves_or_neither() {
    let mut cpu = fixture::protected(0);
    cpu.attention = false;
    set_reg(&mut cpu, 3, 0x3000);
    put(&cpu, 0x3000, 0x1234_5678u32);
    put(&cpu, 0x3004, fixture::DATA3);
    for bytes in [
        &[0xc5, 0x03][..],
        &[0xc4, 0x03],
        &[0x0f, 0xb4, 0x03],
        &[0x0f, 0xb5, 0x03],
    ] {
        set_reg(&mut cpu, RAX, 0);
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
        assert_eq!(reg(&cpu, RAX), 0x1234_5678);
    }
    assert_eq!(cpu.segments[DS].selector, fixture::DATA3);
    // LSS of a DPL 3 segment at CPL 0.
    set_reg(&mut cpu, RAX, 7);
    assert_eq!(
        run(&mut cpu, &[0x0f, 0xb2, 0x03]),
        Ran::Fault(13, Some(u32::from(fixture::DATA3) & !3))
    );
    assert_eq!(reg(&cpu, RAX), 7);
    put(&cpu, 0x3004, fixture::DATA0);
    assert_eq!(run(&mut cpu, &[0x0f, 0xb2, 0x03]), Ran::Done);
    assert!(!cpu.shadow && !cpu.attention);
}

#[test]
fn ports_are_asked_in_their_width_and_answers_cut_to_it() {
    let read = |port, width| {
        Ran::Asked(Exit::Port {
            port,
            width,
            op: Direction::Read,
        })
    };
    let written = |port, width, value| {
        Ran::Asked(Exit::Port {
            port,
            width,
            op: Direction::Write(value),
        })
    };
    // Bytes, question, RAX after an answer of all ones.
    let table: &[(&[u8], Ran, u64)] = &[
        (&[0xe4, 0x60], read(0x60, Width::Byte), 0x1122_3344_5566_77ff),
        (&[0xed], read(0xcf8, Width::Dword), 0xffff_ffff),
        (&[0x66, 0xed], read(0xcf8, Width::Word), 0x1122_3344_5566_ffff),
        (&[0xe5, 0xff], read(0xff, Width::Dword), 0xffff_ffff),
        (
            &[0xe6, 0x80],
            written(0x80, Width::Byte, 0x88),
            0x1122_3344_5566_7788,
        ),
        (
            &[0xef],
            written(0xcf8, Width::Dword, 0x5566_7788),
            0x1122_3344_5566_7788,
        ),
        (
            &[0x66, 0xef],
            written(0xcf8, Width::Word, 0x7788),
            0x1122_3344_5566_7788,
        ),
    ];
    for (bytes, question, after) in table {
        let mut cpu = fixture::long(0);
        set_reg(&mut cpu, RAX, 0x1122_3344_5566_7788);
        set_reg(&mut cpu, RDX, 0xffff_0cf8);
        assert_eq!(run(&mut cpu, bytes), *question, "{bytes:x?}");
        assert_eq!((cpu.rip, reg(&cpu, RAX)), (CODE, 0x1122_3344_5566_7788));
        cpu.replay.answer(u64::MAX);
        assert_eq!(step(&mut cpu), Ran::Done);
        assert_eq!(
            (cpu.rip, reg(&cpu, RAX)),
            (CODE + bytes.len() as u64, *after),
            "{bytes:x?}"
        );
        // At CPL 3 without IOPL, and with no permission bitmap inside the TSS's limit.
        let mut cpu = fixture::long(3);
        cpu.flags.others |= IF;
        set_reg(&mut cpu, RDX, 0xcf8);
        put(&cpu, fixture::TSS + 0x66, 0x68u16);
        assert_eq!(run(&mut cpu, bytes), GP, "{bytes:x?}");
    }
}
