//! Written expectations: far jumps and calls through every descriptor, returns, task switches, SYSCALL and SYSENTER.

use crate::engine::soft::cpu::{Cpu, Event};
use crate::engine::soft::debug::DR6_BT;
use crate::engine::soft::fixture::*;
use crate::engine::soft::flags::{IF, NT, TF, VM};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::stack::SP;
use crate::engine::soft::transfer::SyscallWidth;
use crate::engine::state::{CS, SS};

type Seen = Option<(u8, Option<u32>)>;

fn gp(code: u16) -> Seen {
    Some((13, Some(u32::from(code))))
}
fn np(code: u16) -> Seen {
    Some((11, Some(u32::from(code))))
}

#[test]
fn a_far_jump_to_code_obeys_cpl_rpl_and_dpl() {
    for kind in 8..16u32 {
        for cpl in [0u8, 3] {
            for rpl in 0..4u16 {
                for dpl in 0..4u8 {
                    let mut cpu = protected(cpl);
                    let attributes = 0xc090 | kind | u32::from(dpl) << 5;
                    set_gdt(&cpu, FREE, segment(0, 0xf_ffff, attributes));
                    // SDM volume 3, section 5.8.1.
                    let conforming = kind & 4 != 0;
                    let allowed = if conforming {
                        dpl <= cpl
                    } else {
                        dpl == cpl && rpl <= u16::from(cpl)
                    };
                    let step = cpu.far_jump(FREE | rpl, 0x1234, 32, 0);
                    let seen = fault(&mut cpu, step);
                    let what = format!("type {kind} CPL {cpl} RPL {rpl} DPL {dpl}");
                    assert_eq!(seen, if allowed { None } else { gp(FREE) }, "{what}");
                    if allowed {
                        assert_eq!((cpu.rip, cpu.cpl), (0x1234, cpl), "{what}");
                        assert_eq!(cpu.segments[CS].selector, FREE | u16::from(cpl));
                    }
                }
            }
        }
    }
}

#[test]
fn a_far_transfer_finds_each_defect_of_its_target() {
    let flat = |attributes| segment(0, 0xf_ffff, attributes);
    // (descriptor in FREE, selector, offset, protected mode, long mode)
    let table: &[(u64, u16, u64, Seen, Seen)] = &[
        (0, 0, 0, gp(0), gp(0)),
        (0, 3, 0, gp(0), gp(0)),
        (0, FREE, 0, gp(FREE), gp(FREE)),
        (0, 0x80, 0, gp(0x80), gp(0x80)),
        (0, 0x84, 0, gp(0x84), gp(0x84)),
        (flat(FLAT_DATA), FREE, 0, gp(FREE), gp(FREE)),
        (flat(0xc01b), FREE, 0, np(FREE), np(FREE)),
        (flat(0xe09b), FREE, 0, None, gp(FREE)),
        (segment(0, 0xff, 0x409b), FREE, 0x100, gp(0), gp(0)),
        (segment(0, 0xff, 0x409b), FREE, 0xff, None, None),
        (flat(LONG_CODE), FREE, 0x100, None, None),
    ];
    for (i, &(descriptor, selector, offset, legacy, long_mode)) in table.iter().enumerate() {
        for (mut cpu, expected) in [(protected(0), legacy), (long(0), long_mode)] {
            cpu.ldtr.attributes |= crate::engine::soft::segment::UNUSABLE;
            set_gdt(&cpu, FREE, descriptor);
            for call in [false, true] {
                let before = signature(&cpu);
                let step = if call {
                    cpu.far_call(selector, offset, 32, CODE)
                } else {
                    cpu.far_jump(selector, offset, 32, CODE)
                };
                assert_eq!(fault(&mut cpu, step), expected, "row {i} call {call}");
                if expected.is_some() {
                    assert_eq!(signature(&cpu), before, "row {i} call {call}");
                }
            }
        }
    }
}

#[test]
fn system_descriptors_a_far_jump_takes() {
    for kind in 0..16u32 {
        for (mut cpu, long_mode) in [(protected(0), false), (long(0), true)] {
            // All-zero body: a gate leads to the null selector (#GP(0)), a TSS is too small (#TS).
            set_gdt(&cpu, FREE, segment(0, 0, 0x80 | kind));
            put(&cpu, GDT + u64::from(FREE) + 8, 0u64);
            let expected = match (kind, long_mode) {
                (12, _) | (4 | 5, false) => gp(0),
                (1 | 9, false) => Some((10, Some(FREE.into()))),
                _ => gp(FREE),
            };
            let step = cpu.far_jump(FREE, 0, 32, 0);
            assert_eq!(fault(&mut cpu, step), expected, "type {kind} long {long_mode}");
        }
    }
}

#[test]
fn real_mode_far_call_and_return_move_the_base() {
    for mut cpu in [real(), v86(0)] {
        let before = signature(&cpu);
        cpu.far_call(0x1234, 0x10, 16, CODE + 5).unwrap();
        assert_eq!((cpu.segments[CS].base, cpu.rip), (0x12340, 0x10));
        assert_eq!(stack(&cpu, 2, 2), [CODE + 5, 0]);
        cpu.far_return(16, 0).unwrap();
        assert_eq!((cpu.segments[CS].base, cpu.rip), (0, CODE + 5));
        let sp: u64 = cpu.regs.get(SP);
        assert_eq!(sp, before.2);
        let step = cpu.far_jump(0, 0x1_0000, 32, 0);
        assert_eq!(fault(&mut cpu, step), gp(0));
    }
}

#[test]
fn call_gates_switch_stacks_and_copy_parameters() {
    // (gate type, bytes per word)
    for (kind, bytes) in [(4u8, 2u64), (12, 4)] {
        let mut cpu = protected(3);
        set_gdt(&cpu, FREE, gate(kind, 3, CODE0, 0xb000, 3));
        for i in 0..3 {
            put(&cpu, STACK3 + i * bytes, 0x1111 * (i as u16 + 1));
        }
        cpu.far_call(FREE | 3, 0xffff_ffff, 32, CODE + 7).unwrap();
        let parameters = [0x1111, 0x2222, 0x3333];
        let seen = stack(&cpu, bytes, 7);
        assert_eq!(seen[..2], [CODE + 7, u64::from(CODE3)]);
        assert_eq!(seen[2..5], parameters);
        assert_eq!(seen[5..], [STACK3, u64::from(DATA3)]);
        assert_eq!((cpu.rip, cpu.cpl), (0xb000, 0));
        cpu.far_return(8 * bytes as u32, 3 * bytes as u16).unwrap();
        let sp: u64 = cpu.regs.get(SP);
        assert_eq!((cpu.rip, cpu.cpl, sp), (CODE + 7, 3, STACK3 + 3 * bytes));
    }
}

#[test]
fn a_64_bit_call_gate_takes_the_stack_of_the_tss() {
    for cpl in [0, 3] {
        let mut cpu = long(cpl);
        let (cs, ss) = (cpu.segments[CS].selector, cpu.segments[SS].selector);
        let sp: u64 = cpu.regs.get(SP);
        set_gdt(&cpu, FREE, gate(12, 3, CODE0, 0x8000_b000, 0));
        put(&cpu, GDT + u64::from(FREE) + 8, 0xffff_ffffu64);
        cpu.far_call(FREE, 0, 32, CODE + 7).unwrap();
        assert_eq!((cpu.rip, cpu.cpl), (0xffff_ffff_8000_b000, 0));
        if cpl == 0 {
            assert_eq!(stack(&cpu, 8, 2), [CODE + 7, cs.into()]);
        } else {
            assert_eq!(stack(&cpu, 8, 4), [CODE + 7, cs.into(), sp, ss.into()]);
            assert_eq!(
                (cpu.segments[SS].selector, cpu.segments[SS].unusable()),
                (0, true)
            );
        }
        cpu.far_return(64, 0).unwrap();
        assert_eq!((cpu.rip, cpu.cpl, cpu.regs.get::<u64>(SP)), (CODE + 7, cpl, sp));
    }
}

#[test]
fn call_gates_are_judged_gate_first_then_target() {
    let absent = |entry: u64| entry & !(1 << 47);
    // (CPL, gate, RPL, JMP, CALL)
    let table: &[(u8, u64, u16, Seen, Seen)] = &[
        (3, gate(12, 0, CODE0, 0, 0), 3, gp(FREE), gp(FREE)),
        (0, gate(12, 0, CODE0, 0, 0), 1, gp(FREE), gp(FREE)),
        (3, absent(gate(12, 3, CODE0, 0, 0)), 3, np(FREE), np(FREE)),
        (3, gate(12, 3, 0, 0, 0), 3, gp(0), gp(0)),
        (3, gate(12, 3, DATA0, 0, 0), 3, gp(DATA0), gp(DATA0)),
        (3, gate(12, 3, CODE0, 0, 0), 3, gp(CODE0), None),
        (0, gate(12, 3, CODE3, 0, 0), 0, gp(CODE3 & !3), gp(CODE3 & !3)),
        (3, gate(12, 3, CODE3, 0, 0), 3, None, None),
        (0, gate(12, 0, CODE0, 0, 0), 0, None, None),
    ];
    for (i, &(cpl, entry, rpl, jump, call)) in table.iter().enumerate() {
        for make in [protected, long] {
            let mut cpu = make(cpl);
            set_gdt(&cpu, FREE, entry);
            let step = cpu.far_jump(FREE | rpl, 0, 32, 0);
            assert_eq!(fault(&mut cpu, step), jump, "row {i} JMP");
            let mut cpu = make(cpl);
            set_gdt(&cpu, FREE, entry);
            let step = cpu.far_call(FREE | rpl, 0, 32, 0);
            assert_eq!(fault(&mut cpu, step), call, "row {i} CALL");
        }
    }
    // Long mode: 64-bit code only, and the upper half's type must be 0.
    let mut cpu = long(0);
    set_gdt(&cpu, CODE0, segment(0, 0xf_ffff, FLAT_CODE));
    set_gdt(&cpu, FREE, gate(12, 0, CODE0, 0, 0));
    let step = cpu.far_call(FREE, 0, 32, 0);
    assert_eq!(fault(&mut cpu, step), gp(CODE0));
    put(&cpu, GDT + u64::from(FREE) + 8, 1u64 << 40);
    let step = cpu.far_call(FREE, 0, 32, 0);
    assert_eq!(fault(&mut cpu, step), gp(FREE));
}

fn second_task(cpu: &Cpu) {
    for (at, value) in [
        (32, 0xb000u32),
        (36, 2 | IF as u32),
        (40, 0xa0),
        (56, STACK0 as u32 - 0x100),
        (68, 0xd1),
        (72, DATA0.into()),
        (76, CODE0.into()),
        (80, DATA0.into()),
        (84, DATA0.into()),
    ] {
        put(cpu, TSS_B + at, value);
    }
}

#[test]
fn task_switches_move_busy_bits_links_and_registers() {
    let access = |cpu: &Cpu, task: u16| get::<u8>(cpu, GDT + u64::from(task) + 5);
    for call in [false, true] {
        let mut cpu = protected(0);
        second_task(&cpu);
        cpu.regs.set(RegAt::new(0), 0x1234u64);
        if call {
            cpu.far_call(TASK_B, 0, 32, CODE + 7).unwrap();
        } else {
            cpu.far_jump(TASK_B, 0, 32, CODE + 7).unwrap();
        }
        assert_eq!((cpu.rip, cpu.tr.selector, cpu.cr0 & 8), (0xb000, TASK_B, 8));
        let (eax, edi): (u64, u64) = (cpu.regs.get(RegAt::new(0)), cpu.regs.get(RegAt::new(7)));
        assert_eq!((eax, edi), (0xa0, 0xd1));
        assert_eq!(get::<u32>(&cpu, TSS + 32), CODE as u32 + 7);
        assert_eq!(get::<u32>(&cpu, TSS + 40), 0x1234);
        assert_eq!(get::<u16>(&cpu, TSS + 76), CODE0);
        assert_eq!(access(&cpu, TASK_B), 0x8b);
        assert_eq!(access(&cpu, TASK), if call { 0x8b } else { 0x89 });
        assert_eq!(cpu.flags.others & NT != 0, call);
        assert_eq!(cpu.pending, None);
        if call {
            cpu.iret(32, 0xb005).unwrap();
            assert_eq!((cpu.rip, access(&cpu, TASK_B)), (CODE + 7, 0x89));
            assert_eq!(get::<u32>(&cpu, TSS_B + 32), 0xb005);
        }
    }
}

#[test]
fn a_fault_before_the_switch_is_the_old_tasks_and_behind_it_the_new_ones() {
    let mut cpu = protected(0);
    second_task(&cpu);
    set_gdt(&cpu, TASK_B, segment(TSS_B as u32, 0x66, 0x89));
    let before = signature(&cpu);
    let step = cpu.far_jump(TASK_B, 0, 32, 0);
    assert_eq!(fault(&mut cpu, step), Some((10, Some(TASK_B.into()))));
    assert_eq!(signature(&cpu), before);
    // (TSS field, value, the new task's fault)
    for (at, value, vector, code) in [
        (76, 0u32, 10, 0),
        (76, u32::from(DATA0), 10, DATA0),
        (76, u32::from(CODE3) & !3, 10, 0x18),
        (80, u32::from(CODE0), 10, CODE0),
        (84, u32::from(0x80u16), 10, 0x80),
        (96, u32::from(DATA0), 10, DATA0),
        (96, 0x0c, 10, 0x0c),
    ] {
        let mut cpu = protected(0);
        second_task(&cpu);
        put(&cpu, TSS_B + at, value);
        cpu.far_jump(TASK_B, 0, 32, 0).unwrap();
        assert_eq!((cpu.tr.selector, cpu.rip), (TASK_B, 0xb000));
        let Some(Event::Fault(pending)) = cpu.pending else {
            panic!("field {at}: {:?}", cpu.pending);
        };
        assert_eq!(
            (pending.vector, pending.code),
            (vector, Some(code.into())),
            "field {at}"
        );
    }
}

#[test]
fn a_task_may_be_in_virtual_8086_mode_and_may_ask_for_a_debug_trap() {
    let mut cpu = protected(0);
    second_task(&cpu);
    put(&cpu, TSS_B + 36, 2 | VM as u32);
    put(&cpu, TSS_B + 76, 0x0b00u32);
    put(&cpu, TSS_B + 32, 0x10u32);
    put(&cpu, TSS_B + 100, 1u16);
    cpu.far_jump(TASK_B, 0, 32, 0).unwrap();
    assert!(cpu.mode.contains(Mode::V86));
    assert_eq!((cpu.code_address(cpu.rip), cpu.cpl), (0xb010, 3));
    assert_eq!(cpu.debug_hits, DR6_BT);
    let trap = cpu.debug_trap(false).unwrap();
    assert_eq!((trap.vector, cpu.debug[4] & DR6_BT), (1, DR6_BT));
}

#[test]
fn sixteen_bit_tasks_exchange_words() {
    let mut cpu = protected(0);
    set_gdt(&cpu, TASK_B, segment(TSS_B as u32, 0x2b, 0x81));
    for (at, value) in [
        (14, 0xb000u16),
        (16, 2),
        (18, 0xa0),
        (26, 0x7f00),
        (34, DATA0),
        (36, CODE0),
        (38, DATA0),
        (40, DATA0),
    ] {
        put(&cpu, TSS_B + at, value);
    }
    cpu.far_jump(TASK_B, 0, 32, CODE).unwrap();
    assert_eq!((cpu.rip, cpu.pending, cpu.tr.attributes & 15), (0xb000, None, 3));
    assert_eq!(
        (cpu.regs.get::<u16>(SP), cpu.regs.get::<u16>(RegAt::new(0))),
        (0x7f00, 0xa0)
    );
    let selectors = cpu.segments.map(|s| s.selector);
    assert_eq!(selectors, [DATA0, CODE0, DATA0, DATA0, 0, 0]);
}

#[test]
fn syscall_and_sysret_go_by_star_and_fmask() {
    let mut cpu = long(3);
    cpu.efer |= 1;
    cpu.msrs.star = 0x0013_0008 << 32;
    cpu.msrs.lstar = 0xffff_ffff_8000_0000;
    cpu.msrs.fmask = IF | TF;
    cpu.flags.set_rflags(2 | IF | TF | 1);
    cpu.syscall(CODE + 2).unwrap();
    assert_eq!((cpu.rip, cpu.cpl), (0xffff_ffff_8000_0000, 0));
    let (rcx, r11): (u64, u64) = (cpu.regs.get(RegAt::new(1)), cpu.regs.get(RegAt::new(11)));
    assert_eq!((rcx, r11), (CODE + 2, 2 | IF | TF | 1));
    assert_eq!(cpu.flags.rflags(), 3);
    assert_eq!((cpu.segments[CS].selector, cpu.segments[SS].selector), (8, 16));
    cpu.sysret(SyscallWidth::Bits64).unwrap();
    assert_eq!(
        (cpu.rip, cpu.cpl, cpu.flags.rflags()),
        (CODE + 2, 3, 2 | IF | TF | 1)
    );
    assert_eq!(
        (cpu.segments[CS].selector, cpu.segments[SS].selector),
        (0x23, 0x1b)
    );
    assert!(cpu.mode.contains(Mode::CODE64));
    let step = cpu.sysret(SyscallWidth::Bits64);
    assert_eq!(fault(&mut cpu, step), gp(0));
    // AMD: SYSRET takes any RCX; the fetch faults in user mode.
    let mut cpu = long(0);
    cpu.efer |= 1;
    cpu.regs.set(RegAt::new(1), 1u64 << 47);
    cpu.sysret(SyscallWidth::Bits64).unwrap();
    let step = cpu.fetch_address(cpu.rip);
    assert_eq!((fault(&mut cpu, step), cpu.cpl), (gp(0), 3));
    // To 32-bit code, and from there through CSTAR.
    let mut cpu = long(0);
    cpu.efer |= 1;
    cpu.msrs.star = 0x0013_0008 << 32;
    cpu.msrs.cstar = 0x1234_5678;
    cpu.sysret(SyscallWidth::Bits32).unwrap();
    assert!(cpu.mode.contains(Mode::CODE32 | Mode::LONG));
    cpu.syscall(CODE).unwrap();
    assert_eq!((cpu.rip, cpu.mode.contains(Mode::CODE64)), (0x1234_5678, true));
    let mut cpu = long(3);
    let step = cpu.syscall(CODE);
    assert_eq!(fault(&mut cpu, step), Some((6, None)), "EFER.SCE clear");
}

#[test]
fn sysenter_exists_outside_long_mode_only() {
    let mut cpu = protected(3);
    cpu.msrs.sysenter_cs = 8;
    cpu.msrs.sysenter_esp = 0x7000;
    cpu.msrs.sysenter_eip = 0xb000;
    cpu.flags.others |= IF;
    cpu.sysenter().unwrap();
    assert_eq!((cpu.rip, cpu.cpl, cpu.regs.get::<u64>(SP)), (0xb000, 0, 0x7000));
    assert_eq!(cpu.flags.others & IF, 0);
    cpu.regs.set(RegAt::new(1), STACK3);
    cpu.regs.set(RegAt::new(2), CODE);
    cpu.sysexit().unwrap();
    assert_eq!((cpu.rip, cpu.cpl, cpu.segments[CS].selector), (CODE, 3, 0x1b));
    let step = cpu.sysexit();
    assert_eq!(fault(&mut cpu, step), gp(0));
    cpu.msrs.sysenter_cs = 3;
    let step = cpu.sysenter();
    assert_eq!(fault(&mut cpu, step), gp(0));
    let mut cpu = long(0);
    let step = cpu.sysenter();
    assert_eq!(fault(&mut cpu, step), Some((6, None)));
    let step = cpu.sysexit();
    assert_eq!(fault(&mut cpu, step), Some((6, None)));
}

mod arbitrary {
    //! Whatever a guest puts into its tables and onto its stack: nothing panics, a failure changes nothing, and a success
    //! gives a state hardware could be in.

    use super::*;
    use crate::engine::soft::cpu::{Fault, Leave, Step};
    use crate::engine::soft::deliver::Software;
    use proptest::prelude::*;

    /// Descriptors near to valid ones: any type, privilege and flags, small or flat.
    fn descriptor() -> impl Strategy<Value = u64> {
        let small = (
            any::<u16>(),
            any::<u8>(),
            0..16u64,
            prop_oneof![Just(0u32), Just(0xb000), any::<u32>()],
        );
        prop_oneof![
            small.prop_map(|(limit, access, flags, base)| {
                segment(
                    base,
                    limit.into(),
                    0x80 | u32::from(access) | (flags as u32) << 12,
                )
            }),
            (0..16u8, 0..4u8, 0..16u16, any::<u32>(), any::<u8>())
                .prop_map(|(kind, dpl, slot, offset, low)| gate(kind, dpl, slot * 8, offset & 0xffff, low)),
            Just(segment(0, 0xf_ffff, FLAT_CODE)),
            Just(segment(0, 0xf_ffff, LONG_CODE)),
            any::<u64>(),
        ]
    }

    fn selector() -> impl Strategy<Value = u16> {
        prop_oneof![0..0x90u16, any::<u16>()]
    }

    fn step(cpu: &mut Cpu, what: u8, selector: u16, offset: u64, bits: u32) -> Step {
        match what {
            0 => cpu.far_jump(selector, offset, bits, CODE),
            1 => cpu.far_call(selector, offset, bits, CODE),
            2 => cpu.far_return(bits, selector),
            3 => cpu.iret(bits, CODE),
            4 => cpu.software_interrupt(selector as u8, Software::Int, CODE),
            5 => cpu.load_segment(usize::from(selector & 1) * 2, selector),
            6 => cpu.load_ldt(selector),
            7 => cpu.load_task_register(selector),
            _ => {
                let _shut_down = cpu.deliver_fault(Fault::new((selector & 31) as u8, Some(0)));
                Ok(())
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn tables_never_break_the_processor(
            descriptors in prop::collection::vec(descriptor(), 16),
            gates in prop::collection::vec(descriptor(), 64),
            words in prop::collection::vec(prop_oneof![any::<u32>(), 0..0x90u32], 32),
            tss in prop::collection::vec(prop_oneof![any::<u32>(), 0..0x90u32], 26),
            (what, selector, offset, bits) in (0..9u8, selector(), any::<u32>(), 1..4u32),
            (mode, user, nested) in (0..3u8, any::<bool>(), any::<bool>()),
        ) {
            let cpl = if user { 3 } else { 0 };
            let mut cpu = match mode {
                0 => protected(cpl),
                1 => long(cpl),
                _ => v86(u64::from(cpl)),
            };
            for (i, word) in words.iter().enumerate() {
                for base in [STACK0, STACK3, 0x7000 + 0x1000] {
                    put(&cpu, base + 4 * i as u64, *word);
                }
            }
            for (i, word) in tss.iter().enumerate() {
                put(&cpu, TSS + 4 * i as u64, *word);
                put(&cpu, TSS_B + 4 * i as u64, *word);
            }
            for (i, raw) in descriptors.iter().enumerate().skip(1) {
                put(&cpu, GDT + 8 * i as u64, *raw);
            }
            for (i, raw) in gates.iter().enumerate() {
                put(&cpu, IDT + 8 * i as u64, *raw);
            }
            if nested {
                cpu.flags.others |= NT;
            }
            let bits = if mode == 1 { 8 << bits } else { 8 << bits.min(2) };
            let before = cpu.save_state();
            let result = step(&mut cpu, what, selector, offset.into(), bits);
            let mut after = cpu.save_state();
            if let Err(leave) = result {
                prop_assert!(matches!(leave, Leave::Fault | Leave::Exit));
                after.msrs.clone_from(&before.msrs);
                prop_assert_eq!(&after, &before);
            }
            let checked = after.check().map_err(|e| e.to_string());
            prop_assert_eq!(checked, Ok(()));
        }
    }
}
