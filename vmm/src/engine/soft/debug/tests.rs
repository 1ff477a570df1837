//! Breakpoints, single step and the task switch trap, against written expectations.

use super::*;
use crate::engine::soft::fixture::{CODE, PML4, fault, long, protected, put};

/// DR7 with breakpoint 0 on (local), of this R/W and LEN.
fn dr7(rw: u64, len: u64) -> u64 {
    0x401 | rw << 16 | len << 18
}

fn armed(rw: u64, len: u64, at: u64) -> Cpu {
    let mut cpu = long(0);
    cpu.write_debug(0, at).unwrap();
    cpu.write_debug(7, dr7(rw, len)).unwrap();
    cpu
}

#[test]
fn data_breakpoints_trap_behind_the_access_that_touches_them() {
    // (R/W, LEN, address, accessed at, bytes, store, hit)
    for (rw, len, at, first, bytes, store, hit) in [
        (1, 3, 0x6000u64, 0x6000u64, 4, true, true),
        (1, 3, 0x6000, 0x6000, 4, false, false),
        (3, 3, 0x6000, 0x6003, 1, false, true),
        (3, 3, 0x6000, 0x6004, 1, false, false),
        (3, 0, 0x6001, 0x6000, 4, false, true),
        (3, 2, 0x6004, 0x6000, 1, false, true),
        (3, 2, 0x6000, 0x6008, 8, true, false),
        (0, 0, 0x6000, 0x6000, 1, true, false),
        (2, 0, 0x6000, 0x6000, 1, true, false),
    ] {
        let mut cpu = armed(rw, len, at);
        // Twice: the TLB must not swallow the second.
        for _ in 0..2 {
            cpu.begin_instruction().unwrap();
            match (bytes, store) {
                (1, true) => cpu.store(first, 0u8).unwrap(),
                (4, true) => cpu.store(first, 0u32).unwrap(),
                (8, true) => cpu.store(first, 0u64).unwrap(),
                (1, false) => drop(cpu.load::<u8>(first).unwrap()),
                _ => drop(cpu.load::<u32>(first).unwrap()),
            }
            let trap = cpu.debug_trap(false);
            assert_eq!(
                trap.is_some(),
                hit,
                "R/W {rw} LEN {len} {at:#x}: {first:#x}+{bytes}"
            );
            if hit {
                assert!(trap.unwrap().trap);
                assert_eq!(cpu.debug[DR6], DR6_FIXED | 1);
            }
        }
    }
}

#[test]
fn an_instruction_breakpoint_faults_once_and_resumes_with_rf() {
    let mut cpu = armed(0, 0, CODE);
    let step = cpu.begin_instruction();
    assert_eq!(fault(&mut cpu, step), Some((1, None)));
    cpu.flags.others |= RF;
    cpu.begin_instruction().unwrap();
    let step = cpu.begin_instruction();
    assert_eq!(fault(&mut cpu, step), Some((1, None)), "RF lasts one instruction");
    cpu.rip += 1;
    cpu.begin_instruction().unwrap();
}

#[test]
fn single_step_sets_bs_and_keeps_company() {
    let mut cpu = armed(3, 0, 0x6000);
    cpu.begin_instruction().unwrap();
    cpu.load::<u8>(0x6000).unwrap();
    assert!(cpu.debug_trap(true).is_some());
    assert_eq!(cpu.debug[DR6], DR6_FIXED | DR6_BS | 1);
}

#[test]
fn the_engine_is_asked_to_step_only_when_something_is_on() {
    let mut cpu = long(0);
    assert!(!cpu.debugging());
    cpu.write_debug(0, 0x6000).unwrap();
    assert!(!cpu.debugging());
    cpu.write_debug(7, dr7(1, 0)).unwrap();
    assert!(cpu.debugging() && cpu.attention);
    cpu.write_debug(7, 0).unwrap();
    cpu.flags.others |= TF;
    assert!(cpu.debugging());
}

#[test]
fn port_breakpoints_need_debugging_extensions() {
    for (de, hit) in [(false, false), (true, true)] {
        let mut cpu = armed(2, 1, 0x60);
        cpu.cr4 |= if de { CR4_DE } else { 0 };
        cpu.check_io(0x61, 1).unwrap();
        assert_eq!(cpu.debug_trap(false).is_some(), hit);
    }
}

#[test]
fn debug_registers_have_fixed_bits_aliases_and_guards() {
    let mut cpu = protected(0);
    cpu.write_debug(6, 0xffff_ffff).unwrap();
    assert_eq!(cpu.read_debug(4), Ok(0xffff_eff0 | 0xf));
    cpu.write_debug(7, 0xffff_dfff).unwrap();
    assert_eq!(cpu.read_debug(5), Ok(0xffff_07ff));
    let step = cpu.write_debug(7, 1 << 32);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0))));
    cpu.cr4 |= CR4_DE;
    let step = cpu.read_debug(4);
    assert_eq!(fault(&mut cpu, step), Some((6, None)));
    let mut cpu = protected(3);
    let step = cpu.read_debug(0);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0))));
}

#[test]
fn the_processors_own_accesses_hit_no_breakpoint() {
    let mut cpu = armed(3, 3, PML4);
    put(&cpu, PML4 + 0x500, 0u64);
    cpu.begin_instruction().unwrap();
    cpu.load_system::<u64>(PML4).unwrap();
    assert_eq!(cpu.debug_trap(false), None);
}
