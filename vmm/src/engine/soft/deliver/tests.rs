//! Written expectations: every way into a handler and back, and what becomes of faults on the way.

use super::*;
use crate::engine::soft::debug::DR6;
use crate::engine::soft::fixture::*;
use crate::engine::soft::flags::{IF, NT, TF, VM};
use crate::engine::soft::stack::SP;
use crate::engine::state::{CS, DS, SS};

const FLAGS: u64 = 0x2 | IF | TF | NT | 1;

fn set_flags(cpu: &mut Cpu, flags: u64) {
    cpu.flags.set_rflags(flags);
    cpu.update_mode();
}

#[test]
fn combinations_follow_the_double_fault_table() {
    use Class::*;
    use Combined::*;
    for (first, second, expected) in [
        (Benign, Benign, Serial),
        (Benign, Contributory, Serial),
        (Benign, PageFault, Serial),
        (Contributory, Benign, Serial),
        (Contributory, Contributory, Double),
        (Contributory, PageFault, Serial),
        (PageFault, Benign, Serial),
        (PageFault, Contributory, Double),
        (PageFault, PageFault, Double),
        (DoubleFault, Benign, Serial),
        (DoubleFault, Contributory, Triple),
        (DoubleFault, PageFault, Triple),
    ] {
        assert_eq!(combine(first, second), expected, "{first:?} then {second:?}");
    }
    for vector in 0..32 {
        let expected = match vector {
            0 | 10..=13 => Contributory,
            14 => PageFault,
            8 => DoubleFault,
            _ => Benign,
        };
        assert_eq!(class(vector), expected, "vector {vector}");
    }
}

/// (vector, code of the exception, gates taken away, vector delivered in the end, its code)
type Chain = (u8, Option<u32>, &'static [u8], u8, Option<u64>);

#[test]
fn a_missing_gate_becomes_the_fault_the_classes_say() {
    let table: &[Chain] = &[
        (6, None, &[], 6, None),
        (13, Some(0x18), &[], 13, Some(0x18)),
        // Benign: the gate's #NP with its slot, IDT and EXT bits.
        (6, None, &[6], 11, Some(6 * 8 + 3)),
        (1, None, &[1], 11, Some(8 + 3)),
        // Contributory and page fault: #DF(0).
        (0, None, &[0], 8, Some(0)),
        (13, Some(0), &[13], 8, Some(0)),
        (14, Some(2), &[14], 8, Some(0)),
        // Benign, then #NP whose own gate is missing: #NP while #NP: #DF.
        (6, None, &[6, 11], 8, Some(0)),
    ];
    for &(vector, code, missing, delivered, pushed) in table {
        for (mut cpu, size) in [(protected(3), 4), (long(3), 8)] {
            for &gone in missing {
                let at = IDT + u64::from(gone) * (size * 2) + 5;
                put(&cpu, at, 0x0eu8);
            }
            cpu.deliver_fault(Fault::new(vector, code)).unwrap();
            assert_eq!(cpu.rip, handler(delivered), "vector {vector} without {missing:?}");
            if let Some(pushed) = pushed {
                assert_eq!(stack(&cpu, size, 1), [pushed], "vector {vector}");
            } else {
                assert_eq!(stack(&cpu, size, 1), [CODE], "vector {vector}: no code");
            }
        }
    }
}

#[test]
fn a_fault_of_the_double_fault_shuts_down_and_leaves_the_state() {
    for mut cpu in [real(), protected(0), protected(3), long(0), long(3), v86(0)] {
        cpu.idtr.limit = 0;
        let before = signature(&cpu);
        let result = cpu.deliver_fault(Fault::new(13, Some(0)));
        assert_eq!(result, Err(Undelivered::TripleFault));
        assert_eq!(signature(&cpu), before);
    }
}

#[test]
fn an_endless_chain_of_benign_faults_is_handed_back_to_the_engine() {
    // A handler at CPL 3 with an odd stack and alignment checks on: its own frame raises #AC, for ever.
    let mut cpu = protected(3);
    cpu.cr0 |= 1 << 18;
    set_flags(&mut cpu, 2 | 1 << 18);
    put(&cpu, IDT + 8 * 17, gate(14, 0, CODE3, 0xa000, 0));
    cpu.regs.set(SP, STACK3 + 1);
    cpu.deliver_fault(Fault::new(17, Some(0))).unwrap();
    assert!(matches!(cpu.pending, Some(Event::Fault(fault)) if fault.vector == 17));
}

#[test]
fn protected_mode_frames_hold_what_the_manual_draws() {
    let flags = FLAGS;
    // Same privilege, 32-bit gate.
    let mut cpu = protected(0);
    set_flags(&mut cpu, flags);
    cpu.deliver_interrupt(0x21).unwrap();
    assert_eq!(stack(&cpu, 4, 3), [CODE, u64::from(CODE0), flags]);
    assert_eq!(cpu.flags.others & (IF | TF | NT | RF | VM), 0);
    // Inner privilege: SS:ESP too, from the TSS.
    let mut cpu = protected(3);
    set_flags(&mut cpu, flags);
    cpu.deliver_fault(Fault::new(13, Some(0x44))).unwrap();
    let frame = [0x44, CODE, CODE3.into(), flags | RF, STACK3, DATA3.into()];
    assert_eq!(stack(&cpu, 4, 6), frame);
    let sp: u64 = cpu.regs.get(SP);
    assert_eq!((cpu.cpl, sp), (0, STACK0 - 24));
    assert_eq!(
        (cpu.segments[SS].selector, cpu.segments[CS].selector),
        (DATA0, CODE0)
    );
    // 16-bit trap gate: words, IF stays.
    let mut cpu = protected(3);
    set_flags(&mut cpu, flags);
    put(&cpu, IDT + 8 * 13, gate(7, 0, CODE0, 0xb000, 0));
    cpu.deliver_fault(Fault::new(13, Some(0x44))).unwrap();
    let frame = [0x44, CODE, CODE3.into(), flags, STACK3, DATA3.into()];
    assert_eq!(stack(&cpu, 2, 6), frame);
    assert_eq!((cpu.rip, cpu.flags.others & IF), (0xb000, IF));
}

#[test]
fn the_pushed_resume_flag_is_set_by_faults_only() {
    let trap = Fault {
        trap: true,
        ..Fault::new(1, None)
    };
    let pushed = |cpu: &Cpu| stack(cpu, 4, 3)[2] & RF != 0;
    let mut cpu = protected(0);
    cpu.deliver_fault(Fault::new(6, None)).unwrap();
    assert!(pushed(&cpu));
    let mut cpu = protected(0);
    cpu.deliver_fault(trap).unwrap();
    assert!(!pushed(&cpu));
    let mut cpu = protected(0);
    cpu.deliver_interrupt(0x30).unwrap();
    assert!(!pushed(&cpu));
    let mut cpu = protected(0);
    cpu.software_interrupt(0x80, Software::Int, CODE + 2).unwrap();
    assert!(!pushed(&cpu));
}

#[test]
fn long_mode_frames_are_aligned_and_always_hold_the_stack() {
    for (cpl, ist) in [(0, 0), (3, 0), (0, 3), (3, 3)] {
        let mut cpu = long(cpl);
        set_flags(&mut cpu, FLAGS);
        let (cs, ss) = (cpu.segments[CS].selector, cpu.segments[SS].selector);
        let old_sp = cpu.regs.get::<u64>(SP) - 7;
        cpu.regs.set(SP, old_sp);
        put(&cpu, TSS + 36 + 16, STACK0 + 0xfff);
        put(&cpu, IDT + 16 * 14, gate(15, 0, CODE0, handler(14) as u32, ist));
        cpu.deliver_fault(Fault {
            address: 0xdead,
            ..Fault::new(14, Some(6))
        })
        .unwrap();
        let frame = [6, CODE, cs.into(), FLAGS | RF, old_sp, ss.into()];
        assert_eq!(stack(&cpu, 8, 6), frame, "CPL {cpl}, IST {ist}");
        let top = match (cpl, ist) {
            (0, 0) => STACK0 - 16,
            (3, 0) => STACK0,
            _ => STACK0 + 0xff0,
        };
        let sp: u64 = cpu.regs.get(SP);
        assert_eq!((sp, cpu.cr2, cpu.cpl), (top - 48, 0xdead, 0));
        // A stack of the TSS comes with a null SS.
        let expected = if cpl == 3 { 0 } else { DATA0 };
        assert_eq!(cpu.segments[SS].selector, expected);
        assert_eq!(cpu.flags.others & IF, IF, "trap gate");
        assert_eq!(cpu.iret_after_code(), Ok(()));
        assert_eq!((cpu.rip, cpu.cpl, cpu.regs.get::<u64>(SP)), (CODE, cpl, old_sp));
    }
}

impl Cpu {
    fn iret_after_code(&mut self) -> Step {
        self.drop_stack(8);
        self.iret(64, 0)
    }
}

#[test]
fn software_interrupts_are_checked_against_gate_and_iopl() {
    use Software::{Int, Int1, Trap};
    type Row = (u64, u8, Software, Option<(u8, Option<u32>)>);
    let table: &[Row] = &[
        // (CPL, or 4: virtual-8086 with IOPL 0; 7: with IOPL 3)
        (0, 0x20, Int, None),
        (3, 0x20, Int, Some((13, Some(0x20 * 8 + 2)))),
        (3, 0x80, Int, None),
        (3, 13, Int, Some((13, Some(13 * 8 + 2)))),
        (3, 3, Trap, None),
        (3, 4, Trap, None),
        (3, 1, Int, Some((13, Some(8 + 2)))),
        (3, 1, Int1, None),
        (4, 0x80, Int, Some((13, Some(0)))),
        (4, 3, Trap, None),
        (7, 0x80, Int, None),
        (7, 0x20, Int, Some((13, Some(0x20 * 8 + 2)))),
    ];
    for &(who, vector, kind, expected) in table {
        let mut cpu = if who < 4 {
            protected(who as u8)
        } else {
            v86(who - 4)
        };
        let before = signature(&cpu);
        let step = cpu.software_interrupt(vector, kind, CODE + 2);
        assert_eq!(fault(&mut cpu, step), expected, "{who} {vector:#x} {kind:?}");
        if expected.is_some() {
            assert_eq!(signature(&cpu), before);
        } else {
            assert_eq!(cpu.rip, handler(vector));
            assert_eq!(stack(&cpu, 4, 1), [CODE + 2]);
        }
    }
}

#[test]
fn a_debug_trap_held_back_by_mov_ss_outlives_int_n_but_neither_int1_nor_a_fault() {
    use Software::{Int, Int1, Trap};
    for (vector, kind, kept) in [(0x80, Int, 1), (3, Trap, 1), (1, Int1, 0)] {
        let mut cpu = protected(3);
        cpu.debug_hits = 1;
        cpu.software_interrupt(vector, kind, CODE + 2).unwrap();
        assert_eq!(cpu.debug_hits, kept, "{kind:?}");
    }
    let mut cpu = protected(3);
    cpu.debug_hits = 1;
    cpu.deliver_fault(Fault::new(13, Some(0))).unwrap();
    assert_eq!(cpu.debug_hits, 0);
}

#[test]
fn gates_of_every_type_and_defect_are_judged_in_order() {
    let code0 = u64::from(CODE0);
    // (the IDT entry, fault in protected mode, fault in long mode)
    let slot = Some(0x30 * 8 + 2);
    let (gp, np) = (Some((13, slot)), Some((11, slot)));
    let bad = |vector: u8, code: u32| Some((vector, Some(code)));
    let with_present = |on: bool, entry: u64| if on { entry } else { entry & !(1 << 47) };
    for kind in 0..16u8 {
        let entry = gate(kind, 0, CODE0, 0xb000, 0);
        let (legacy, long_mode) = match kind {
            6 | 7 => (None, gp),
            14 | 15 => (None, None),
            // A task gate with a selector that is no TSS.
            5 => (bad(13, CODE0.into()), gp),
            _ => (gp, gp),
        };
        check_gate(entry, legacy, long_mode);
        let absent = match kind {
            5..=7 => (np, gp),
            14 | 15 => (np, np),
            _ => (gp, gp),
        };
        check_gate(with_present(false, entry), absent.0, absent.1);
        check_gate(entry | 1 << 44, gp, gp);
    }
    assert_eq!(code0, 8);
    for (selector, legacy, long_mode) in [
        (0, bad(13, 0), bad(13, 0)),
        (DATA0, bad(13, 0x10), bad(13, 0x10)),
        (0x78, bad(13, 0x78), bad(13, 0x78)),
        (0x80, bad(13, 0x80), bad(13, 0x80)),
        (0x0c, bad(13, 0x0c), bad(13, 0x0c)),
        (CODE3, bad(13, 0x18), bad(13, 0x18)),
    ] {
        check_gate(gate(14, 0, selector, 0xb000, 0), legacy, long_mode);
    }
}

fn check_gate(entry: u64, legacy: Option<(u8, Option<u32>)>, long_mode: Option<(u8, Option<u32>)>) {
    for (mut cpu, size, expected) in [(protected(0), 8, legacy), (long(0), 16, long_mode)] {
        cpu.ldtr.attributes |= crate::engine::soft::segment::UNUSABLE;
        put(&cpu, IDT + 0x30 * size, entry);
        let step = cpu.software_interrupt(0x30, Software::Int, CODE);
        let seen = fault(&mut cpu, step);
        assert_eq!(seen, expected, "entry {entry:#x} of {size} bytes");
    }
}

#[test]
fn a_bad_inner_stack_is_invalid_tss_with_its_selector() {
    type Break = fn(&mut Cpu);
    let table: &[(Break, u8, u32)] = &[
        (|c| put(c, TSS + 8, 0u32), 10, 0),
        (|c| put(c, TSS + 8, u32::from(CODE0)), 10, 8),
        (|c| put(c, TSS + 8, u32::from(DATA3)), 10, 0x20),
        (|c| put(c, TSS + 8, u32::from(DATA0 | 1)), 10, 0x10),
        (|c| put(c, TSS + 8, 0x80u32), 10, 0x80),
        (|c| c.tr.limit = 8, 10, 0x28),
        (|c| set_gdt(c, DATA0, segment(0, 0xf_ffff, 0xc013)), 12, 0x10),
        // The frame does not fit the new stack's limit.
        (|c| set_gdt(c, DATA0, segment(0, 6, FLAT_DATA)), 12, 0x10),
    ];
    for (i, (break_it, vector, code)) in table.iter().enumerate() {
        let mut cpu = protected(3);
        break_it(&mut cpu);
        let before = signature(&cpu);
        let step = cpu.software_interrupt(0x80, Software::Int, CODE);
        assert_eq!(fault(&mut cpu, step), Some((*vector, Some(*code))), "row {i}");
        assert_eq!(signature(&cpu), before, "row {i}");
    }
}

#[test]
fn an_outside_event_sets_the_external_bit() {
    let mut cpu = protected(0);
    put(&cpu, IDT + 8 * 0x30 + 5, 0x0eu8);
    cpu.deliver_interrupt(0x30).unwrap();
    assert_eq!(cpu.rip, handler(11));
    assert_eq!(stack(&cpu, 4, 1), [0x30 * 8 + 3]);
}

#[test]
fn real_mode_pushes_three_words_and_iret_pops_them() {
    let mut cpu = real();
    set_flags(&mut cpu, FLAGS | 1 << 18);
    cpu.deliver_fault(Fault::new(13, Some(0x55))).unwrap();
    assert_eq!(stack(&cpu, 2, 3), [CODE, 0, (FLAGS | RF) & 0xffff]);
    assert_eq!(
        (cpu.segments[CS].selector, cpu.rip),
        ((HANDLERS / 16) as u16, 13 * 16)
    );
    assert_eq!(cpu.flags.others & (IF | TF | 1 << 18), 0);
    cpu.iret(16, 0).unwrap();
    assert_eq!((cpu.segments[CS].base, cpu.rip), (0, CODE));
    assert_eq!(cpu.flags.rflags() & 0xffff, FLAGS);
    let sp: u64 = cpu.regs.get(SP);
    assert_eq!(sp, STACK0);
}

#[test]
fn an_interrupt_leaves_virtual_8086_mode_and_iretd_returns_to_it() {
    let mut cpu = v86(0);
    let before = signature(&cpu);
    cpu.deliver_interrupt(0x30).unwrap();
    let flags = before.3;
    let frame = [CODE, 0, flags, 0x1000, 0x700, 0x700, 0x700, 0x700, 0x700];
    assert_eq!(stack(&cpu, 4, 9), frame);
    assert_eq!((cpu.cpl, cpu.flags.others & VM), (0, 0));
    assert!(cpu.segments[DS].unusable() && cpu.segments[DS].selector == 0);
    cpu.iret(32, 0).unwrap();
    assert_eq!(signature(&cpu), before);
    assert_eq!(cpu.segments[DS].base, 0x7000);
    // A handler that is not at CPL 0 cannot be entered from there.
    put(&cpu, IDT + 8 * 0x80, gate(14, 3, CODE3, 0xb000, 0));
    cpu.flags.others |= 3 << 12;
    let step = cpu.software_interrupt(0x80, Software::Int, CODE);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0x18))));
}

#[test]
fn iret_in_virtual_8086_mode_needs_iopl_3_and_never_changes_it() {
    let mut cpu = v86(2);
    let step = cpu.iret(16, 0);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0))));
    let mut cpu = v86(3);
    for (i, word) in [0x1234u16, 0x800, 0x0002].into_iter().enumerate() {
        put(&cpu, 0x7000 + 0x1000 + 2 * i as u64, word);
    }
    cpu.iret(16, 0).unwrap();
    assert_eq!((cpu.rip, cpu.segments[CS].base), (0x1234, 0x8000));
    assert_eq!(cpu.flags.others, 2 | VM | 3 << 12);
}

/// An IRET frame, the mode it is popped in, and what comes of it: CPL afterwards or the fault.
struct Return {
    long: bool,
    cpl: u8,
    bits: u32,
    frame: &'static [u64],
    expected: Result<u8, (u8, u32)>,
}

#[test]
fn iret_judges_every_frame() {
    const C0: u64 = CODE0 as u64;
    const C3: u64 = CODE3 as u64;
    const D0: u64 = DATA0 as u64;
    const D3: u64 = DATA3 as u64;
    const HIGH: u64 = 1 << 47;
    let row = |long, cpl, bits, frame, expected| Return {
        long,
        cpl,
        bits,
        frame,
        expected,
    };
    let table = [
        row(false, 0, 32, &[0x100, C0, 2], Ok(0)),
        row(false, 0, 32, &[0x100, C3, 2, 0x200, D3], Ok(3)),
        row(false, 0, 16, &[0x100, C3, 2, 0x200, D3], Ok(3)),
        row(false, 3, 32, &[0x100, C3, 2], Ok(3)),
        row(false, 3, 32, &[0x100, C0, 2], Err((13, 8))),
        row(false, 0, 32, &[0x100, 0, 2], Err((13, 0))),
        row(false, 0, 32, &[0x100, D0, 2], Err((13, 0x10))),
        row(false, 0, 32, &[0x100, 0x80, 2], Err((13, 0x80))),
        row(false, 0, 32, &[0x100, C0 + 3, 2, 0x200, D3], Err((13, 8))),
        row(false, 0, 32, &[0x100, C3, 2, 0x200, 0], Err((13, 0))),
        row(false, 0, 32, &[0x100, C3, 2, 0x200, D0], Err((13, 0x10))),
        row(false, 0, 32, &[0x100, C3, 2, 0x200, C3], Err((13, 0x18))),
        row(true, 0, 64, &[0x100, C0, 2, 0x200, D0], Ok(0)),
        row(true, 0, 64, &[0x100, C0, 2, 0x200, 0], Ok(0)),
        row(true, 0, 64, &[0x100, C3, 2, 0x200, D3], Ok(3)),
        row(true, 0, 32, &[0x100, C3, 2, 0x200, D3], Ok(3)),
        row(true, 0, 64, &[0x100, C3, 2, 0x200, 0], Err((13, 0))),
        row(true, 0, 64, &[0x100, C3, 2, 0x200, 3], Err((13, 0))),
        row(true, 0, 64, &[HIGH, C0, 2, 0x200, D0], Err((13, 0))),
        row(true, 0, 64, &[0x100, C0, 2, 0x200, D3], Err((13, 0x20))),
        row(true, 3, 64, &[0x100, C0, 2, 0x200, D0], Err((13, 8))),
    ];
    for row in table {
        let mut cpu = if row.long {
            long(row.cpl)
        } else {
            protected(row.cpl)
        };
        let bytes = u64::from(row.bits) / 8;
        let sp = cpu.regs.get::<u64>(SP) - 0x80;
        cpu.regs.set(SP, sp);
        for (i, word) in row.frame.iter().enumerate() {
            let at = sp + bytes * i as u64;
            cpu.memory
                .write(at, &word.to_le_bytes()[..bytes as usize])
                .unwrap();
        }
        let before = signature(&cpu);
        let step = cpu.iret(row.bits, 0);
        let what = format!("long {} CPL {} {:x?}", row.long, row.cpl, row.frame);
        match row.expected {
            Ok(cpl) => {
                assert_eq!(fault(&mut cpu, step), None, "{what}");
                assert_eq!((cpu.cpl, cpu.rip), (cpl, 0x100), "{what}");
                if row.frame.len() == 5 {
                    assert_eq!(cpu.regs.get::<u16>(SP), 0x200, "{what}");
                }
            }
            Err((vector, code)) => {
                assert_eq!(fault(&mut cpu, step), Some((vector, Some(code))), "{what}");
                assert_eq!(signature(&cpu), before, "{what}");
            }
        }
    }
}

#[test]
fn iret_changes_only_the_flags_its_privilege_may() {
    const ALL: u64 = 0x0024_7fd7;
    for (cpl, iopl, expected) in [(0, 0, ALL), (3, 3, ALL), (3, 0, ALL & !(IF | 3 << 12))] {
        let mut cpu = protected(cpl);
        set_flags(&mut cpu, 2 | iopl << 12);
        let cs = cpu.segments[CS].selector;
        let sp = cpu.regs.get::<u64>(SP) - 12;
        cpu.regs.set(SP, sp);
        for (i, word) in [CODE as u32, cs.into(), ALL as u32].into_iter().enumerate() {
            put(&cpu, sp + 4 * i as u64, word);
        }
        cpu.iret(32, 0).unwrap();
        assert_eq!(cpu.flags.rflags(), expected, "CPL {cpl} IOPL {iopl}");
    }
}

#[test]
fn nested_task_in_long_mode_faults() {
    let mut cpu = long(0);
    cpu.flags.others |= NT;
    let step = cpu.iret(64, 0);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0))));
}

#[test]
fn an_outer_return_drops_segments_of_the_inner_level_and_the_rpl_of_null() {
    let mut cpu = protected(0);
    cpu.load_segment(5, 3).unwrap();
    assert_eq!(cpu.segments[5].selector, 3);
    let sp = STACK0 - 20;
    cpu.regs.set(SP, sp);
    let frame = [CODE as u32, CODE3.into(), 2, STACK3 as u32, DATA3.into()];
    for (i, word) in frame.into_iter().enumerate() {
        put(&cpu, sp + 4 * i as u64, word);
    }
    cpu.load_segment(4, DATA3).unwrap();
    cpu.iret(32, 0).unwrap();
    let selectors = cpu.segments.map(|s| s.selector);
    assert_eq!(selectors, [0, CODE3, DATA3, 0, DATA3, 0]);
}

#[test]
fn an_nmi_masks_the_next_until_iret() {
    let mut cpu = long(0);
    cpu.halted = true;
    cpu.deliver_nmi().unwrap();
    assert_eq!((cpu.rip, cpu.nmi_masked, cpu.halted), (handler(2), true, false));
    cpu.iret(64, 0).unwrap();
    assert!(!cpu.nmi_masked);
}

#[test]
fn a_debug_exception_opens_the_debug_registers() {
    let mut cpu = protected(0);
    cpu.debug[DR7] |= DR7_GD;
    let step = cpu.read_debug(0);
    assert_eq!(fault(&mut cpu, step), Some((1, None)));
    assert_ne!(cpu.debug[DR6] & 1 << 13, 0);
    cpu.deliver_fault(Fault::new(1, None)).unwrap();
    assert_eq!(cpu.debug[DR7] & DR7_GD, 0);
}

#[test]
fn a_task_gate_switches_and_pushes_the_code_there() {
    let mut cpu = protected(3);
    put(&cpu, IDT + 8 * 8, gate(5, 0, TASK_B, 0, 0));
    for (at, value) in [
        (32, 0xb000u32),
        (36, 2),
        (56, STACK0 as u32),
        (72, DATA0.into()),
        (76, CODE0.into()),
        (80, DATA0.into()),
    ] {
        put(&cpu, TSS_B + at, value);
    }
    cpu.deliver_fault(Fault::new(8, Some(0))).unwrap();
    assert_eq!((cpu.rip, cpu.tr.selector, cpu.cpl), (0xb000, TASK_B, 0));
    assert_eq!(stack(&cpu, 4, 1), [0]);
    assert_eq!(get::<u16>(&cpu, TSS_B), TASK);
    assert_eq!(get::<u32>(&cpu, TSS + 32), CODE as u32);
    assert_ne!(cpu.flags.others & NT, 0);
    // IRET with NT goes back, to the task as it was.
    cpu.iret(32, 0xb001).unwrap();
    assert_eq!((cpu.rip, cpu.tr.selector, cpu.cpl), (CODE, TASK, 3));
    assert_eq!(get::<u8>(&cpu, GDT + u64::from(TASK_B) + 5), 0x89);
    assert_eq!(get::<u32>(&cpu, TSS_B + 36) & NT as u32, 0);
}
