//! Near branches: targets, operand and address sizes, limits.

use super::*;
use crate::engine::soft::fixture::{self, STACK0, get, put};

#[test]
fn a_branch_to_nowhere_faults_before_it_does_anything() {
    for bytes in [
        &[0xff, 0xe0][..], // jmp rax
        &[0xff, 0xd0],     // call rax
        &[0xff, 0x23],     // jmp [rbx]
        &[0xff, 0x13],     // call [rbx]
        &[0xc3],
        &[0xc2, 0x10, 0],
    ] {
        let mut cpu = fixture::long(0);
        set_reg(&mut cpu, RAX, HOLE);
        set_reg(&mut cpu, 3, STACK0);
        put(&cpu, STACK0, HOLE);
        put(&cpu, STACK0 - 8, 0x1234u64);
        assert_eq!(run(&mut cpu, bytes), GP, "{bytes:x?}");
        assert_eq!((cpu.rip, reg(&cpu, RSP)), (CODE, STACK0), "{bytes:x?}");
        assert_eq!(get::<u64>(&cpu, STACK0 - 8), 0x1234, "{bytes:x?}");
    }
}

#[test]
fn a_stack_that_is_not_canonical_is_a_stack_fault() {
    for bytes in [
        &[0xff, 0xd0][..],
        &[0xe8, 0, 0, 0, 0],
        &[0xc3],
        &[0x50],
        &[0x58],
        &[0x9c],
    ] {
        let mut cpu = fixture::long(0);
        set_reg(&mut cpu, RAX, CODE);
        set_reg(&mut cpu, RSP, HOLE + 4);
        assert_eq!(run(&mut cpu, bytes), SS0, "{bytes:x?}");
        assert_eq!(reg(&cpu, RSP), HOLE + 4);
    }
}

#[test]
fn the_operand_size_prefix_counts_in_64_bit_code() {
    // Bytes, next rip, change of RSP: as an AMD Zen 4 does.
    let table: &[(&[u8], u64, i64)] = &[
        (&[0x66, 0xe9, 0x10, 0x20], 0x9014, 0),
        (&[0x66, 0xeb, 0x10], 0x7013, 0),
        (&[0x66, 0x48, 0xeb, 0x10], CODE + 0x14 + 0x40_0000, 0),
        (&[0x66, 0xe8, 0x10, 0x20], 0x9014, -2),
        (&[0x66, 0xff, 0xd0], 0x1234, -2),
        (&[0x66, 0xff, 0xe0], 0x1234, 0),
        (&[0x66, 0xc3], 0x4321, 2),
        (&[0x66, 0xe2, 0x10], 0x7013, 0),
        (&[0x66, 0x74, 0x10], CODE + 3 + 0x40_0000, 0),
    ];
    for &(bytes, rip, moved) in table {
        let mut cpu = fixture::long(0);
        // The code lies above 64 KiB too: the second 4 MiB of the map are the first again.
        put(&cpu, fixture::PML4 + 0x1000, (fixture::PML4 + 0x2000) | 7);
        put(&cpu, fixture::PML4 + 0x2000, 0x87u64);
        put(&cpu, fixture::PML4 + 0x2008, 0x20_0087u64);
        put(&cpu, fixture::PML4 + 0x2010, 0x87u64);
        set_reg(&mut cpu, RAX, 0x5555_1234);
        set_reg(&mut cpu, RCX, 5);
        put(&cpu, STACK0, 0x7777_5555_4321u64);
        cpu.memory.write(CODE, bytes).unwrap();
        cpu.rip = CODE + 0x40_0000;
        assert_eq!(step(&mut cpu), Ran::Done, "{bytes:x?}");
        assert_eq!(cpu.rip, rip, "{bytes:x?}");
        assert_eq!(reg(&cpu, RSP).wrapping_sub(STACK0) as i64, moved, "{bytes:x?}");
        if moved == -2 {
            assert_eq!(u64::from(get::<u16>(&cpu, STACK0 - 2)), CODE + bytes.len() as u64);
        }
    }
}

#[test]
fn sixteen_bit_targets_wrap_and_wider_ones_meet_the_limit() {
    // jmp rel16, jmp rel32 (66), call, ret imm16.
    let table: &[(&[u8], Ran, u64, u64)] = &[
        (&[0xe9, 0xf0, 0xff], Ran::Done, CODE - 13, 0x8000),
        (
            &[0xe9, 0x00, 0x90],
            Ran::Done,
            (CODE + 3 + 0x9000) & 0xffff,
            0x8000,
        ),
        (&[0x66, 0xe9, 0xfa, 0x7f, 1, 0], GP, CODE, 0x8000),
        (&[0x66, 0xe9, 0xf9, 0x7f, 0, 0], Ran::Done, CODE + 0x7fff, 0x8000),
        (&[0xe8, 0x00, 0x01], Ran::Done, CODE + 0x103, 0x7ffe),
        (&[0x66, 0xe8, 0x00, 0x01, 0, 0], Ran::Done, CODE + 0x106, 0x7ffc),
        (&[0xc2, 0x06, 0], Ran::Done, 0x4321, 0x8008),
        (&[0x66, 0xc3], GP, CODE, 0x8000),
    ];
    for (bytes, ran, rip, sp) in table {
        let mut cpu = fixture::real();
        put(&cpu, STACK0, 0x0001_4321u32);
        assert_eq!(run(&mut cpu, bytes), *ran, "{bytes:x?}");
        assert_eq!((cpu.rip, reg(&cpu, RSP)), (*rip, *sp), "{bytes:x?}");
    }
}

#[test]
fn the_code_segments_limit_holds_for_every_32_bit_branch() {
    for bytes in [
        &[0xe9, 0xfb, 0x0f, 0, 0][..], // jmp CODE + 0x1000
        &[0x74, 0x7e],                 // jz, taken
        &[0xe2, 0x7e],                 // loop
        &[0xe8, 0xfb, 0x0f, 0, 0],
        &[0xff, 0xe0],
        &[0xc3],
    ] {
        let mut cpu = fixture::protected(0);
        cpu.flags.set_zf(true);
        set_reg(&mut cpu, RAX, CODE + 0x1000);
        set_reg(&mut cpu, RCX, 2);
        put(&cpu, STACK0, CODE as u32 + 0x1000);
        set_cs(&mut cpu, |cs| cs.limit = CODE as u32 + 0x7f);
        assert_eq!(run(&mut cpu, bytes), GP, "{bytes:x?}");
        assert_eq!(
            (cpu.rip, reg(&cpu, RCX), reg(&cpu, RSP)),
            (CODE, 2, STACK0),
            "{bytes:x?}"
        );
        set_cs(&mut cpu, |cs| cs.limit = CODE as u32 + 0x1000);
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
    }
}

#[test]
fn loops_count_in_the_address_size() {
    type Make = fn() -> Cpu;
    type Row<'a> = (Make, &'a [u8], u64, u64, bool, bool);
    let real: Make = fixture::real;
    let protected: Make = || fixture::protected(0);
    let long: Make = || fixture::long(0);
    const HIGH: u64 = 0xffff_ffff_0000_0000;
    // Where, bytes, RCX before and after, ZF, whether it branches.
    let table: &[Row<'_>] = &[
        (real, &[0xe2, 0x10], 0x2_0001, 0x2_0000, false, false),
        (real, &[0xe2, 0x10], 0x2_0000, 0x2_ffff, false, true),
        (real, &[0x67, 0xe2, 0x10], 0x2_0001, 0x2_0000, false, true),
        (protected, &[0xe2, 0x10], 1, 0, false, false),
        (protected, &[0x67, 0xe2, 0x10], 0x2_0001, 0x2_0000, false, false),
        (long, &[0xe2, 0x10], HIGH | 1, HIGH, false, true),
        (long, &[0x67, 0xe2, 0x10], HIGH | 2, 1, false, true),
        (long, &[0x67, 0xe2, 0x10], HIGH | 1, 0, false, false),
        (long, &[0xe1, 0x10], 2, 1, false, false),
        (long, &[0xe1, 0x10], 2, 1, true, true),
        (long, &[0xe0, 0x10], 2, 1, false, true),
        (long, &[0xe0, 0x10], 2, 1, true, false),
        (real, &[0xe3, 0x10], 0x2_0000, 0x2_0000, false, true),
        (real, &[0x67, 0xe3, 0x10], 0x2_0000, 0x2_0000, false, false),
        (long, &[0x67, 0xe3, 0x10], HIGH, HIGH, false, true),
        (long, &[0xe3, 0x10], HIGH, HIGH, false, false),
    ];
    for &(make, bytes, before, after, zf, branches) in table {
        let mut cpu = make();
        set_reg(&mut cpu, RCX, before);
        cpu.flags.set_zf(zf);
        assert_eq!(run(&mut cpu, bytes), Ran::Done);
        let next = CODE + bytes.len() as u64 + if branches { 0x10 } else { 0 };
        assert_eq!(
            (cpu.rip, reg(&cpu, RCX)),
            (next, after),
            "{bytes:x?} of {before:#x}"
        );
    }
}

#[test]
fn each_condition_code_asks_for_its_flags() {
    let holds = |code: u8, f: u64| {
        let (cf, pf, zf, sf, of) = (f & 1, f >> 2 & 1, f >> 6 & 1, f >> 7 & 1, f >> 11 & 1);
        let plain = [of, cf, zf, cf | zf, sf, pf, sf ^ of, zf | (sf ^ of)][usize::from(code >> 1)];
        plain != u64::from(code & 1)
    };
    let mut cpu = fixture::long(0);
    for code in 0..16u8 {
        for flags in (0..0x1000u64).filter(|f| f & !0x8c5 == 0) {
            cpu.flags.set_rflags(flags | 2);
            assert_eq!(run(&mut cpu, &[0x70 | code, 0x20]), Ran::Done);
            let next = CODE + 2 + if holds(code, flags) { 0x20 } else { 0 };
            assert_eq!(cpu.rip, next, "condition {code:x}, flags {flags:#x}");
        }
    }
}
