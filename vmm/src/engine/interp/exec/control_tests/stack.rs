//! PUSH, POP and frames in every mode.

use super::*;
use crate::engine::soft::fixture::{self, DATA0, STACK0, get, put, stack};
use crate::engine::state::{DS, ES, FS, SS};

type Make = fn() -> Cpu;

#[test]
fn pushes_have_the_width_the_mode_gives_them() {
    let real: Make = fixture::real;
    let protected: Make = || fixture::protected(0);
    let long: Make = || fixture::long(0);
    let data = u64::from(DATA0);
    // Where, bytes, width, what is pushed; RAX is 1122334455667788.
    let table: &[(Make, &[u8], u64, u64)] = &[
        (real, &[0x50], 2, 0x7788),
        (real, &[0x66, 0x50], 4, 0x5566_7788),
        (real, &[0x6a, 0x80], 2, 0xff80),
        (real, &[0x68, 0x34, 0x12], 2, 0x1234),
        (real, &[0x54], 2, 0x8000),
        (protected, &[0x50], 4, 0x5566_7788),
        (protected, &[0x66, 0x50], 2, 0x7788),
        (protected, &[0x6a, 0x80], 4, 0xffff_ff80),
        (protected, &[0x1e], 4, data),
        (protected, &[0x66, 0x06], 2, data),
        (protected, &[0x0f, 0xa0], 4, data),
        (protected, &[0x54], 4, STACK0),
        (long, &[0x50], 8, 0x1122_3344_5566_7788),
        (long, &[0x66, 0x50], 2, 0x7788),
        (long, &[0x66, 0x48, 0x50], 8, 0x1122_3344_5566_7788),
        (long, &[0x6a, 0x80], 8, 0xffff_ffff_ffff_ff80),
        (long, &[0x66, 0x68, 0x34, 0x92], 2, 0x9234),
        (long, &[0x68, 0, 0, 0, 0x80], 8, 0xffff_ffff_8000_0000),
        (long, &[0x0f, 0xa8], 8, data),
        (long, &[0x66, 0x0f, 0xa8], 2, data),
        (long, &[0xff, 0x34, 0x24], 8, 0xdddd_cccc_bbbb_aaaa),
    ];
    for &(make, bytes, width, value) in table {
        let mut cpu = make();
        set_reg(&mut cpu, RAX, 0x1122_3344_5566_7788);
        put(&cpu, STACK0, 0xdddd_cccc_bbbb_aaaau64);
        put(&cpu, STACK0 - 8, u64::MAX);
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
        assert_eq!(reg(&cpu, RSP), STACK0 - width, "{bytes:x?}");
        assert_eq!(stack(&cpu, width, 1)[0], value, "{bytes:x?}");
    }
}

#[test]
fn pops_have_too_and_pop_memory_counts_from_the_moved_pointer() {
    let real: Make = fixture::real;
    let protected: Make = || fixture::protected(0);
    let long: Make = || fixture::long(0);
    // Where, bytes, RSP after, RAX after.
    let table: &[(Make, &[u8], u64, u64)] = &[
        (real, &[0x58], STACK0 + 2, 0xffff_ffff_ffff_aaaa),
        (real, &[0x66, 0x58], STACK0 + 4, 0xbbbb_aaaa),
        (real, &[0x5c], 0xaaaa, u64::MAX),
        (protected, &[0x58], STACK0 + 4, 0xbbbb_aaaa),
        (protected, &[0x5c], 0xbbbb_aaaa, u64::MAX),
        (long, &[0x58], STACK0 + 8, 0xdddd_cccc_bbbb_aaaa),
        (long, &[0x66, 0x58], STACK0 + 2, 0xffff_ffff_ffff_aaaa),
        (long, &[0x5c], 0xdddd_cccc_bbbb_aaaa, u64::MAX),
        (long, &[0x8f, 0x04, 0x24], STACK0 + 8, u64::MAX),
    ];
    for &(make, bytes, sp, rax) in table {
        let mut cpu = make();
        set_reg(&mut cpu, RAX, u64::MAX);
        put(&cpu, STACK0, 0xdddd_cccc_bbbb_aaaau64);
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
        assert_eq!((reg(&cpu, RSP), reg(&cpu, RAX)), (sp, rax), "{bytes:x?}");
        if bytes[0] == 0x8f {
            assert_eq!(get::<u64>(&cpu, STACK0 + 8), 0xdddd_cccc_bbbb_aaaa);
        }
    }
}

#[test]
fn a_fault_leaves_the_stack_pointer() {
    for (bytes, sp, address) in [
        (&[0x50][..], UNMAPPED + 8, 0),
        (&[0x58], UNMAPPED, 0),
        (&[0xc3], UNMAPPED, 0),
        (&[0x9d], UNMAPPED, 0),
        (&[0xc8, 0x10, 0, 3], UNMAPPED + 8, 0),
        (&[0x8f, 0x00], STACK0, UNMAPPED), // pop [rax]
        (&[0xff, 0x30], STACK0, UNMAPPED), // push [rax]
        (&[0xc9], STACK0, UNMAPPED),       // leave
    ] {
        let mut cpu = fixture::long(0);
        set_reg(&mut cpu, RSP, sp);
        set_reg(&mut cpu, RAX, address);
        set_reg(&mut cpu, RBP, address);
        let ran = run(&mut cpu, bytes);
        assert!(matches!(ran, Ran::Fault(14, Some(0 | 2))), "{bytes:x?}: {ran:?}");
        let after = (reg(&cpu, RSP), reg(&cpu, RAX), reg(&cpu, RBP));
        assert_eq!(after, (sp, address, address), "{bytes:x?}");
    }
}

#[test]
fn a_16_bit_stack_wraps_at_64_kib_and_keeps_the_rest_of_rsp() {
    let mut cpu = fixture::real();
    set_reg(&mut cpu, RSP, 0x7777_0000);
    set_reg(&mut cpu, RAX, 0x1234);
    assert_eq!(run(&mut cpu, &[0x50]), Ran::Done);
    assert_eq!((reg(&cpu, RSP), get::<u16>(&cpu, 0xfffe)), (0x7777_fffe, 0x1234));
    assert_eq!(run(&mut cpu, &[0x5b]), Ran::Done);
    assert_eq!((reg(&cpu, RSP), reg(&cpu, 3)), (0x7777_0000, 0x1234));
    // A word across the end of the segment does not wrap: it is outside the limit.
    set_reg(&mut cpu, RSP, 1);
    assert_eq!(run(&mut cpu, &[0x50]), SS0);
    assert_eq!(reg(&cpu, RSP), 1);
}

#[test]
fn pusha_and_popa_are_each_others_inverse_but_for_sp() {
    for (bytes, width) in [(&[0x60][..], 4), (&[0x66, 0x60], 2)] {
        let mut cpu = fixture::protected(0);
        for number in (0..8).filter(|&n| n != RSP) {
            set_reg(&mut cpu, number, 0x1111_1111 * u64::from(number + 1));
        }
        let before = cpu.regs.all();
        assert_eq!(run(&mut cpu, bytes), Ran::Done);
        let mask = u64::MAX >> (64 - 8 * width);
        let expected: Vec<u64> = before[..8].iter().rev().map(|v| v & mask).collect();
        assert_eq!(stack(&cpu, width, 8), expected);
        let at = reg(&cpu, RSP) + 3 * width;
        put(&cpu, at, 0u16); // SP's slot is ignored
        for number in (0..8).filter(|&n| n != RSP) {
            set_reg(&mut cpu, number, 0);
        }
        let popa: Vec<u8> = bytes.iter().map(|b| if *b == 0x60 { 0x61 } else { *b }).collect();
        assert_eq!(run(&mut cpu, &popa), Ran::Done);
        let after = cpu.regs.all();
        for number in 0..8 {
            let cut = if number == usize::from(RSP) {
                u64::MAX
            } else {
                mask
            };
            assert_eq!(after[number], before[number] & cut, "{number}");
        }
    }
}

#[test]
fn enter_builds_the_frame_silicon_builds() {
    const FRAME: u64 = STACK0 + 0x100;
    type Row<'a> = (&'a [u8], u64, u64, u64, &'a [u64]);
    // Bytes, RSP and RBP after, top words (of the operand size) from the top of the old stack down; as a Zen 4 does.
    let long: &[Row<'_>] = &[
        (&[0xc8, 0x10, 0, 0], STACK0 - 0x18, STACK0 - 8, 8, &[FRAME]),
        (
            &[0xc8, 0x10, 0, 3],
            STACK0 - 0x30,
            STACK0 - 8,
            8,
            &[FRAME, 0x11, 0x12, STACK0 - 8],
        ),
        (
            &[0xc8, 0, 0, 0x23],
            STACK0 - 0x20,
            STACK0 - 8,
            8,
            &[FRAME, 0x11, 0x12, STACK0 - 8],
        ),
        (
            &[0x66, 0xc8, 0x10, 0, 0],
            STACK0 - 0x12,
            0x7ffe,
            2,
            &[FRAME & 0xffff],
        ),
    ];
    for &(bytes, sp, bp, width, words) in long {
        let mut cpu = fixture::long(0);
        set_reg(&mut cpu, RBP, FRAME);
        put(&cpu, FRAME - 8, 0x11u64);
        put(&cpu, FRAME - 16, 0x12u64);
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
        assert_eq!((reg(&cpu, RSP), reg(&cpu, RBP)), (sp, bp), "{bytes:x?}");
        for (i, &word) in words.iter().enumerate() {
            let mut raw = [0; 8];
            let at = STACK0 - width * (i as u64 + 1);
            cpu.memory.read(at, &mut raw[..width as usize]).unwrap();
            assert_eq!(u64::from_le_bytes(raw), word, "{bytes:x?} word {i}");
        }
    }
    // 66 in 64-bit code: only BP is written, the rest of RBP stays.
    let mut cpu = fixture::long(0);
    set_reg(&mut cpu, RBP, 0x1122_3344_5566_7788);
    assert_eq!(run(&mut cpu, &[0x66, 0xc8, 0x10, 0, 0]), Ran::Done);
    assert_eq!(reg(&cpu, RBP), 0x1122_3344_5566_7ffe);
    // The new top must be writable, though nothing is written there.
    let mut cpu = fixture::long(0);
    put(&cpu, fixture::PML4 + 0x1000, (fixture::PML4 + 0x2000) | 7);
    put(&cpu, fixture::PML4 + 0x2000, 0x87u64);
    cpu.tlb.flush();
    set_reg(&mut cpu, RSP, 0x1000 + 8);
    assert_eq!(run(&mut cpu, &[0xc8, 0x00, 0x20, 0]), Ran::Fault(14, Some(2)));
    assert_eq!(reg(&cpu, RSP), 0x1008);
}

#[test]
fn leave_undoes_enter() {
    let real: Make = fixture::real;
    let protected: Make = || fixture::protected(0);
    let long: Make = || fixture::long(0);
    for make in [real, protected, long] {
        let mut cpu = make();
        set_reg(&mut cpu, RBP, 0x6543);
        assert_eq!(run(&mut cpu, &[0xc8, 0x20, 0, 1]), Ran::Done);
        assert_ne!(reg(&cpu, RSP), STACK0);
        assert_eq!(run(&mut cpu, &[0xc9]), Ran::Done);
        assert_eq!((reg(&cpu, RSP), reg(&cpu, RBP)), (STACK0, 0x6543));
    }
}

#[test]
fn pop_of_a_segment_register_loads_it_or_changes_nothing() {
    for (bytes, index) in [(&[0x07][..], ES), (&[0x1f], DS), (&[0x0f, 0xa1], FS)] {
        let mut cpu = fixture::protected(0);
        put(&cpu, STACK0, 0xffff_0000u32 | u32::from(fixture::DATA3));
        assert_eq!(run(&mut cpu, bytes), Ran::Done, "{bytes:x?}");
        assert_eq!(
            (cpu.segments[index].selector, reg(&cpu, RSP)),
            (fixture::DATA3, STACK0 + 4)
        );
        set_reg(&mut cpu, RSP, STACK0);
        put(&cpu, STACK0, 0x7c0u32);
        assert_eq!(run(&mut cpu, bytes), Ran::Fault(13, Some(0x7c0)));
        assert_eq!(
            (cpu.segments[index].selector, reg(&cpu, RSP)),
            (fixture::DATA3, STACK0)
        );
        assert!(!cpu.shadow);
    }
}

#[test]
fn pop_ss_holds_interrupts_and_debug_traps_off() {
    let mut cpu = fixture::protected(0);
    cpu.attention = false;
    put(&cpu, STACK0, u32::from(DATA0));
    assert_eq!(run(&mut cpu, &[0x17]), Ran::Done);
    assert_eq!(cpu.segments[SS].selector, DATA0);
    assert!(cpu.shadow && cpu.shadow_is_mov_ss && cpu.attention);
    assert_eq!((cpu.rip, reg(&cpu, RSP)), (CODE + 1, STACK0 + 4));
}
