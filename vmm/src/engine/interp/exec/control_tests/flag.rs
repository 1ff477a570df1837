//! Flags by privilege: POPF, PUSHF, CLI, STI.

use super::*;
use crate::engine::soft::fixture::{self, put, stack};
use crate::engine::soft::flags::{AC, CF, DF, ID, IF, IOPL, NT, RF, TF, VIF, VIP, VM};

const FREE: u64 = 0xcd5 | TF | NT;
const WIDE: u64 = FREE | AC | ID;

/// A vCPU of CPL `cpl`, or in virtual-8086 mode, with this IOPL.
fn vcpu(kind: &str, iopl: u64) -> Cpu {
    let mut cpu = match kind {
        "real" => fixture::real(),
        "protected 0" => fixture::protected(0),
        "protected 3" => fixture::protected(3),
        "long 0" => fixture::long(0),
        "long 3" => fixture::long(3),
        _ => fixture::v86(iopl),
    };
    cpu.flags.others = (cpu.flags.others & !IOPL) | iopl << 12;
    cpu
}

/// Physical address of the stack's top.
fn top(cpu: &mut Cpu) -> u64 {
    cpu.stack_linear(cpu.stack_pointer(), 1, false).unwrap()
}

#[test]
fn popf_changes_what_privilege_allows() {
    let o32: &[u8] = &[0x66, 0x9d];
    // Who, IOPL, bytes, which flags change (None: #GP).
    let table: &[(&str, u64, &[u8], Option<u64>)] = &[
        ("real", 0, &[0x9d], Some(FREE | IF | IOPL)),
        ("real", 0, o32, Some(WIDE | IF | IOPL)),
        ("protected 0", 0, &[0x9d], Some(WIDE | IF | IOPL)),
        ("protected 0", 0, o32, Some(FREE | IF | IOPL)),
        ("protected 3", 0, &[0x9d], Some(WIDE)),
        ("protected 3", 2, &[0x9d], Some(WIDE)),
        ("protected 3", 3, &[0x9d], Some(WIDE | IF)),
        ("protected 3", 3, o32, Some(FREE | IF)),
        ("long 0", 0, &[0x9d], Some(WIDE | IF | IOPL)),
        ("long 3", 0, &[0x9d], Some(WIDE)),
        ("long 3", 3, &[0x9d], Some(WIDE | IF)),
        ("long 3", 3, o32, Some(FREE | IF)),
        ("v86", 3, &[0x9d], Some(FREE | IF)),
        ("v86", 3, o32, Some(WIDE | IF)),
        ("v86", 2, &[0x9d], None),
        ("v86", 0, o32, None),
    ];
    for &(who, iopl, bytes, changes) in table {
        for image in [0, u64::MAX] {
            let mut cpu = vcpu(who, iopl);
            cpu.flags.others |= VIF | VIP | if image == 0 { IF | DF } else { 0 };
            let (old, before) = (cpu.flags.rflags(), cpu.stack_pointer());
            let at = top(&mut cpu);
            put(&cpu, at, image);
            let ran = run(&mut cpu, bytes);
            let Some(changes) = changes else {
                assert_eq!((ran, cpu.stack_pointer()), (GP, before), "{who} {iopl}");
                continue;
            };
            assert_eq!(ran, Ran::Done);
            let expected = (old & !changes) | (image & changes);
            assert_eq!(cpu.flags.rflags(), expected, "{who}, IOPL {iopl}, {bytes:x?}");
        }
    }
}

#[test]
fn popf_of_32_bits_and_more_clears_rf_and_16_bits_do_not() {
    for (bytes, kept) in [(&[0x9d][..], 0), (&[0x66, 0x9d], RF)] {
        let mut cpu = fixture::long(0);
        cpu.flags.others |= RF;
        put(&cpu, reg(&cpu, RSP), RF | 2);
        assert_eq!(run(&mut cpu, bytes), Ran::Done);
        assert_eq!(cpu.flags.others & RF, kept);
    }
}

#[test]
fn popf_that_opens_interrupts_or_sets_tf_has_the_engine_look() {
    for (old, image, looks) in [
        (0, IF, true),
        (IF, IF, false),
        (0, TF, true),
        (IF, 0, false),
        (0, CF, false),
    ] {
        let mut cpu = fixture::long(0);
        cpu.flags.others = 2 | old;
        cpu.attention = false;
        put(&cpu, reg(&cpu, RSP), image | 2);
        assert_eq!(run(&mut cpu, &[0x9d]), Ran::Done);
        assert_eq!(cpu.attention, looks, "{old:#x} {image:#x}");
        assert!(!cpu.shadow);
    }
}

#[test]
fn popf_of_ac_switches_the_smap_override() {
    let mut cpu = fixture::long(0);
    put(&cpu, fixture::PML4 + 0x1000, 0x87u64);
    cpu.cr4 |= 1 << 21;
    cpu.tlb.flush();
    cpu.update_mode();
    // The stack itself is a user page: reach it with AC, leave by POPF without.
    cpu.flags.others |= AC;
    cpu.select_tlb();
    put(&cpu, reg(&cpu, RSP), 2u64);
    assert_eq!(run(&mut cpu, &[0x9d]), Ran::Done);
    assert_eq!(cpu.load::<u8>(fixture::STACK0), Err(Leave::Fault));
}

#[test]
fn pushf_hides_vm_and_rf_and_is_iopl_sensitive_only_in_virtual_8086_mode() {
    for (who, iopl, bytes, width, ran) in [
        ("real", 0, &[0x9c][..], 2, Ran::Done),
        ("protected 3", 0, &[0x9c], 4, Ran::Done),
        ("long 3", 0, &[0x9c], 8, Ran::Done),
        ("long 3", 0, &[0x66, 0x9c], 2, Ran::Done),
        ("v86", 3, &[0x9c], 2, Ran::Done),
        ("v86", 3, &[0x66, 0x9c], 4, Ran::Done),
        ("v86", 2, &[0x9c], 0, GP),
    ] {
        let mut cpu = vcpu(who, iopl);
        cpu.flags.others |= RF | AC;
        let before = cpu.stack_pointer();
        assert_eq!(run(&mut cpu, bytes), ran, "{who}");
        assert_eq!(before - cpu.stack_pointer(), width, "{who}");
        if width > 0 {
            let mask = u64::MAX >> (64 - 8 * width);
            assert_eq!(
                stack(&cpu, width, 1)[0],
                cpu.flags.rflags() & !(VM | RF) & mask,
                "{who}"
            );
        }
    }
}

#[test]
fn cli_and_sti_are_for_cpl_up_to_iopl() {
    for (who, iopl, allowed) in [
        ("real", 0, true),
        ("protected 0", 0, true),
        ("protected 3", 2, false),
        ("protected 3", 3, true),
        ("long 3", 0, false),
        ("long 3", 3, true),
        ("v86", 2, false),
        ("v86", 3, true),
    ] {
        for (opcode, before, after) in [(0xfa, IF, 0), (0xfb, 0, IF)] {
            let mut cpu = vcpu(who, iopl);
            cpu.flags.others = (cpu.flags.others & !IF) | before;
            let ran = run(&mut cpu, &[opcode]);
            let flag = cpu.flags.others & IF;
            let expected = if allowed { (Ran::Done, after) } else { (GP, before) };
            assert_eq!((ran, flag), expected, "{who} {iopl} {opcode:x}");
        }
    }
}

#[test]
fn sti_holds_interrupts_off_for_one_instruction_only_when_it_opens_them() {
    for (before, shadow) in [(0, true), (IF, false)] {
        let mut cpu = fixture::long(0);
        cpu.flags.others = 2 | before;
        cpu.attention = false;
        assert_eq!(run(&mut cpu, &[0xfb]), Ran::Done);
        assert_eq!(
            (cpu.shadow, cpu.shadow_is_mov_ss, cpu.attention),
            (shadow, false, shadow)
        );
    }
}

#[test]
fn single_flags_change_alone() {
    let table: &[(&[u8], u64, u64)] = &[
        (&[0xf5], 0x8d4, 0x8d5),
        (&[0xf5], 0x8d5, 0x8d4),
        (&[0xf8], 0xcd5, 0xcd4),
        (&[0xf9], 0xc94, 0xc95),
        (&[0xfc], 0xcd5, 0x8d5),
        (&[0xfd], 0x8d5, 0xcd5),
        (&[0x9e], 0x800, 0x844), // AH = 46: ZF, PF, and the fixed bit
        (&[0x9e], 0x0d5, 0x044),
    ];
    for &(bytes, before, after) in table {
        let mut cpu = fixture::long(0);
        cpu.flags.set_rflags(before | 2);
        set_reg(&mut cpu, RAX, 0x4600);
        assert_eq!(run(&mut cpu, bytes), Ran::Done);
        assert_eq!(cpu.flags.rflags(), after | 2, "{bytes:x?} of {before:#x}");
    }
    let mut cpu = fixture::protected(0);
    cpu.flags.set_rflags(0xfd7);
    set_reg(&mut cpu, RAX, 0x1234);
    assert_eq!(run(&mut cpu, &[0x9f]), Ran::Done);
    assert_eq!(reg(&cpu, RAX), 0xd734);
    assert_eq!(run(&mut cpu, &[0xd6]), Ran::Done);
    assert_eq!(reg(&cpu, RAX), 0xd7ff);
}
