//! System instructions from their bytes: privilege, UMIP, operand forms. With the tests of
//! [`crate::engine::soft`] these cover what Robin and Irvine (USENIX Security 2000) list as sensitive and unprivileged:
//! the seventeen are SGDT, SIDT, SLDT, SMSW, STR, LAR, LSL, VERR, VERW, PUSHF, POPF, POP, PUSH, CALL, JMP, INT n,
//! RET and MOV of segments.

use crate::engine::interp::alone::Alone;
use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::deliver::Software;
use crate::engine::soft::fixture::*;
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::state::{DS, FS, SS};

type Seen = Option<(u8, Option<u32>)>;
const UD: Seen = Some((6, None));
const GP0: Seen = Some((13, Some(0)));
const RAX: RegAt = RegAt::new(0);
const RBX: RegAt = RegAt::new(3);
const RCX: RegAt = RegAt::new(1);
const RDX: RegAt = RegAt::new(2);
/// Where memory operands `[rbx]` lie.
const DATA: u64 = 0x6000;

/// Runs one instruction at rip.
fn run(cpu: &mut Cpu, bytes: &[u8]) -> Seen {
    let linear = cpu.code_address(cpu.rip);
    cpu.memory.write(linear, bytes).unwrap();
    cpu.regs.set(RBX, DATA);
    let mut alone = Alone::default();
    let mut step: Step = Ok(());
    for op in alone.at_rip(cpu).unwrap() {
        step = (op.run)(cpu, op);
        if step.is_err() {
            break;
        }
    }
    match step {
        Err(Leave::Jump) => None,
        other => fault(cpu, other),
    }
}

#[test]
fn instructions_that_read_system_registers_obey_umip() {
    // (bytes with [rbx] or eax, what they show)
    let table: &[(&str, &[u8])] = &[
        ("SGDT [rbx]", &[0x0f, 0x01, 0x03]),
        ("SIDT [rbx]", &[0x0f, 0x01, 0x0b]),
        ("SLDT eax", &[0x0f, 0x00, 0xc0]),
        ("SLDT [rbx]", &[0x0f, 0x00, 0x03]),
        ("STR eax", &[0x0f, 0x00, 0xc8]),
        ("STR [rbx]", &[0x0f, 0x00, 0x0b]),
        ("SMSW eax", &[0x0f, 0x01, 0xe0]),
        ("SMSW [rbx]", &[0x0f, 0x01, 0x23]),
    ];
    for make in [protected, long] {
        for (name, bytes) in table {
            for (cpl, umip, expected) in [
                (0, false, None),
                (0, true, None),
                (3, false, None),
                (3, true, GP0),
            ] {
                let mut cpu = make(cpl);
                cpu.cr4 |= if umip { 1 << 11 } else { 0 };
                assert_eq!(run(&mut cpu, bytes), expected, "{name} CPL {cpl} UMIP {umip}");
            }
        }
    }
    // Virtual-8086 mode is CPL 3; SLDT and STR do not exist there nor in real mode.
    for (name, bytes) in table {
        let exists = !(name.starts_with("SLDT") || name.starts_with("STR"));
        for umip in [false, true] {
            let mut cpu = v86(3);
            cpu.cr4 |= if umip { 1 << 11 } else { 0 };
            let expected = match (exists, umip) {
                (false, _) => UD,
                (true, true) => GP0,
                (true, false) => None,
            };
            assert_eq!(run(&mut cpu, bytes), expected, "{name} v8086 UMIP {umip}");
            let expected = if exists { None } else { UD };
            assert_eq!(run(&mut real(), bytes), expected, "{name} real");
        }
    }
}

#[test]
fn system_registers_read_as_they_are() {
    let mut cpu = long(3);
    cpu.gdtr.base = 0xffff_8000_1234_5678;
    run(&mut cpu, &[0x0f, 0x01, 0x03]);
    assert_eq!(get::<u16>(&cpu, DATA), 0x7f);
    assert_eq!(get::<u64>(&cpu, DATA + 2), 0xffff_8000_1234_5678);
    let mut cpu = protected(3);
    cpu.idtr.base = 0x8765_4321;
    put(&cpu, DATA, u64::MAX);
    // Even with a 16-bit operand size the whole base is stored.
    run(&mut cpu, &[0x66, 0x0f, 0x01, 0x0b]);
    assert_eq!(get::<u64>(&cpu, DATA), 0xffff_8765_4321_07ff);
    let mut cpu = long(3);
    cpu.regs.set(RAX, u64::MAX);
    run(&mut cpu, &[0x0f, 0x01, 0xe0]);
    assert_eq!(cpu.regs.get::<u64>(RAX), cpu.cr0 & 0xffff_ffff);
    cpu.regs.set(RAX, u64::MAX);
    run(&mut cpu, &[0x66, 0x0f, 0x00, 0xc8]);
    assert_eq!(cpu.regs.get::<u64>(RAX), !0xffff | u64::from(TASK));
    run(&mut cpu, &[0x0f, 0x00, 0xc8]);
    assert_eq!(cpu.regs.get::<u64>(RAX), u64::from(TASK));
}

#[test]
fn descriptor_probes_set_zf_and_leave_the_rest() {
    // LAR eax, ecx; LSL eax, ecx; VERR cx; VERW cx, against a flat data segment of CPL 0 and of CPL 3.
    let probes: [&[u8]; 4] = [
        &[0x0f, 0x02, 0xc1],
        &[0x0f, 0x03, 0xc1],
        &[0x0f, 0, 0xe1],
        &[0x0f, 0, 0xe9],
    ];
    for (i, bytes) in probes.into_iter().enumerate() {
        for (selector, visible) in [(DATA0, false), (DATA3, true), (0, false)] {
            let mut cpu = long(3);
            cpu.regs.set(RCX, u64::from(selector));
            cpu.regs.set(RAX, 0x77u64);
            cpu.flags.set_cf(true);
            assert_eq!(run(&mut cpu, bytes), None);
            assert_eq!(
                (cpu.flags.zf(), cpu.flags.cf()),
                (visible, true),
                "probe {i} {selector:#x}"
            );
            let value: u64 = cpu.regs.get(RAX);
            let expected = match (i, visible) {
                (0, true) => 0xcf_f300 & 0xf0_ff00 | 0x0f_0000,
                (1, true) => 0xffff_ffff,
                _ => 0x77,
            };
            assert_eq!(value, expected, "probe {i} {selector:#x}");
        }
        assert_eq!(run(&mut real(), bytes), UD);
        assert_eq!(run(&mut v86(3), bytes), UD);
    }
}

#[test]
fn the_other_sensitive_instructions_show_the_real_privilege() {
    // PUSH CS, MOV from Sreg, CALL and the like show CPL in the selector: no lie about it anywhere.
    let mut cpu = protected(3);
    assert_eq!(cpu.segments[1].selector & 3, 3);
    let step = cpu.far_call(CODE0, 0, 32, CODE);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(8))));
    let step = cpu.far_jump(CODE0, 0, 32, CODE);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(8))));
    cpu.push(u32::from(CODE0)).unwrap();
    cpu.push(CODE as u32).unwrap();
    let step = cpu.far_return(32, 0);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(8))));
    let step = cpu.software_interrupt(0x21, Software::Int, CODE);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0x21 * 8 + 2))));
    for (index, selector) in [(DS, DATA0), (SS, DATA0), (FS, DATA0)] {
        let step = cpu.load_segment(index, selector);
        assert_eq!(fault(&mut cpu, step), Some((13, Some(0x10))));
    }
}

#[test]
fn privileged_instructions_fault_outside_cpl_0() {
    let table: &[(&str, &[u8])] = &[
        ("LGDT", &[0x0f, 0x01, 0x13]),
        ("LIDT", &[0x0f, 0x01, 0x1b]),
        ("LLDT", &[0x0f, 0x00, 0xd0]),
        ("LTR", &[0x0f, 0x00, 0xd8]),
        ("LMSW", &[0x0f, 0x01, 0xf0]),
        ("CLTS", &[0x0f, 0x06]),
        ("MOV from CR0", &[0x0f, 0x20, 0xc0]),
        ("MOV to CR0", &[0x0f, 0x22, 0xc0]),
        ("MOV to CR3", &[0x0f, 0x22, 0xd8]),
        ("MOV from DR7", &[0x0f, 0x21, 0xf8]),
        ("MOV to DR7", &[0x0f, 0x23, 0xf8]),
        ("INVLPG", &[0x0f, 0x01, 0x3b]),
        ("INVPCID", &[0x66, 0x0f, 0x38, 0x82, 0x03]),
        ("WBINVD", &[0x0f, 0x09]),
        ("INVD", &[0x0f, 0x08]),
        ("RDMSR", &[0x0f, 0x32]),
        ("WRMSR", &[0x0f, 0x30]),
    ];
    for (name, bytes) in table {
        assert_eq!(run(&mut long(3), bytes), GP0, "{name}");
        assert_eq!(run(&mut protected(3), bytes), GP0, "{name}");
        if !matches!(*name, "LLDT" | "LTR") {
            assert_eq!(run(&mut v86(3), bytes), GP0, "{name} v8086");
        }
    }
    // These have rules of their own: (bytes, CPL 0, CPL 3).
    let odd: &[(&str, &[u8], Seen, Seen)] = &[
        ("SWAPGS", &[0x0f, 0x01, 0xf8], None, GP0),
        ("STAC", &[0x0f, 0x01, 0xcb], None, UD),
        ("CLAC", &[0x0f, 0x01, 0xca], None, UD),
        ("XGETBV without OSXSAVE", &[0x0f, 0x01, 0xd0], UD, UD),
        ("XSETBV without OSXSAVE", &[0x0f, 0x01, 0xd1], UD, UD),
        ("RDFSBASE without FSGSBASE", &[0xf3, 0x0f, 0xae, 0xc0], UD, UD),
        ("MOV from CR1", &[0x0f, 0x20, 0xc8], UD, UD),
        ("SYSCALL without SCE", &[0x0f, 0x05], UD, UD),
        ("SYSENTER", &[0x0f, 0x34], UD, UD),
        ("RDPMC", &[0x0f, 0x33], GP0, GP0),
        ("RDTSC", &[0x0f, 0x31], None, None),
        ("RDTSCP", &[0x0f, 0x01, 0xf9], None, None),
        ("CPUID", &[0x0f, 0xa2], None, None),
        ("MONITOR", &[0x0f, 0x01, 0xc8], UD, UD),
        ("VMCALL", &[0x0f, 0x01, 0xc1], UD, UD),
        ("VMMCALL", &[0x0f, 0x01, 0xd9], UD, UD),
        ("RSM", &[0x0f, 0xaa], UD, UD),
        ("LOCK MOV CR0", &[0xf0, 0x0f, 0x20, 0xc0], UD, UD),
    ];
    for (name, bytes, kernel, user) in odd {
        assert_eq!(run(&mut long(0), bytes), *kernel, "{name} CPL 0");
        assert_eq!(run(&mut long(3), bytes), *user, "{name} CPL 3");
    }
    let mut cpu = long(3);
    cpu.cr4 |= 1 << 2;
    assert_eq!(run(&mut cpu, &[0x0f, 0x31]), GP0, "RDTSC with CR4.TSD");
}

#[test]
fn tables_load_by_operand_size_and_only_to_canonical_bases() {
    let mut cpu = protected(0);
    put(&cpu, DATA, 0x1234_5678_9abc_0fffu64);
    assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0x13]), None);
    assert_eq!((cpu.gdtr.limit, cpu.gdtr.base), (0xfff, 0x5678_9abc));
    assert_eq!(run(&mut cpu, &[0x66, 0x0f, 0x01, 0x1b]), None);
    assert_eq!((cpu.idtr.limit, cpu.idtr.base), (0xfff, 0x78_9abc));
    let mut cpu = long(0);
    put(&cpu, DATA + 2, 1u64 << 47);
    assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0x13]), GP0);
    assert_eq!(cpu.gdtr.base, GDT);
}

#[test]
fn machine_status_word_sets_protection_but_never_clears_it() {
    let mut cpu = real();
    cpu.regs.set(RAX, 0xffffu64);
    assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0xf0]), None);
    assert_eq!(cpu.cr0 & 0xffff, 0x1f);
    assert!(cpu.mode.contains(Mode::PROTECTED));
    assert_eq!(cpu.rip, CODE + 3);
    cpu.regs.set(RAX, 0u64);
    run(&mut cpu, &[0x0f, 0x01, 0xf0]);
    assert_eq!(cpu.cr0 & 0xf, 1);
}

#[test]
fn control_register_moves_take_the_width_of_the_mode() {
    let mut cpu = long(0);
    cpu.regs.set(RAX, 0xffff_8000_0000_0000u64);
    // MOV CR2, RAX; MOV RCX, CR2.
    run(&mut cpu, &[0x0f, 0x22, 0xd0]);
    run(&mut cpu, &[0x0f, 0x20, 0xd1]);
    assert_eq!(cpu.regs.get::<u64>(RCX), 0xffff_8000_0000_0000);
    let mut cpu = protected(0);
    cpu.regs.set(RAX, u64::MAX);
    run(&mut cpu, &[0x0f, 0x22, 0xd0]);
    assert_eq!(cpu.cr2, 0xffff_ffff);
}

#[test]
fn arpl_raises_the_rpl_only() {
    // ARPL cx, ax; ARPL [ebx], ax.
    for (selector, least, raised) in [(0x10u64, 3u64, true), (0x13, 0, false), (0x12, 2, false)] {
        let mut cpu = protected(3);
        cpu.regs.set(RCX, selector);
        cpu.regs.set(RAX, least);
        put(&cpu, DATA, selector as u16);
        assert_eq!(run(&mut cpu, &[0x63, 0xc1]), None);
        let expected = if raised { selector & !3 | least } else { selector };
        assert_eq!((cpu.regs.get::<u64>(RCX), cpu.flags.zf()), (expected, raised));
        run(&mut cpu, &[0x63, 0x03]);
        assert_eq!(u64::from(get::<u16>(&cpu, DATA)), expected);
    }
    assert_eq!(run(&mut real(), &[0x63, 0xc1]), UD);
}

#[test]
fn base_instructions_swap_read_and_write() {
    let mut cpu = long(0);
    cpu.cr4 |= 1 << 16;
    cpu.regs.set(RAX, 0x1234_5678_9abcu64);
    // WRGSBASE RAX; SWAPGS; RDGSBASE RCX; SWAPGS; RDGSBASE RDX.
    run(&mut cpu, &[0xf3, 0x48, 0x0f, 0xae, 0xd8]);
    run(&mut cpu, &[0x0f, 0x01, 0xf8]);
    run(&mut cpu, &[0xf3, 0x48, 0x0f, 0xae, 0xc9]);
    run(&mut cpu, &[0x0f, 0x01, 0xf8]);
    run(&mut cpu, &[0xf3, 0x48, 0x0f, 0xae, 0xca]);
    let (rcx, rdx): (u64, u64) = (cpu.regs.get(RCX), cpu.regs.get(RDX));
    assert_eq!((rcx, rdx), (0, 0x1234_5678_9abc));
    cpu.regs.set(RAX, 1u64 << 47);
    assert_eq!(run(&mut cpu, &[0xf3, 0x48, 0x0f, 0xae, 0xd0]), GP0);
}

#[test]
fn invpcid_knows_four_kinds_and_without_pcids_one_context() {
    const PCIDE: u64 = 1 << 17;
    for (cr4, kind, pcid, address, expected) in [
        (0, 0u64, 0u64, 0x1000u64, None),
        (0, 0, 1, 0x1000, GP0),
        (0, 0, 0, 1 << 47, GP0),
        (0, 1, 0, 1 << 47, None),
        (0, 1, 1, 0, GP0),
        (0, 2, 5, 0, None),
        (0, 3, 0, 0, None),
        (0, 4, 0, 0, GP0),
        (PCIDE, 0, 0xfff, 0x1000, None),
        (PCIDE, 0, 0x1000, 0x1000, GP0),
        (PCIDE, 1, 0xfff, 0, None),
        (PCIDE, 1, 0x1000, 0, GP0),
    ] {
        let mut cpu = long(0);
        cpu.cr4 |= cr4;
        cpu.regs.set(RAX, kind);
        put(&cpu, DATA, [pcid, address]);
        let seen = run(&mut cpu, &[0x66, 0x0f, 0x38, 0x82, 0x03]);
        assert_eq!(seen, expected, "kind {kind} PCID {pcid} {address:#x}");
    }
}

#[test]
fn cpuid_speaks_for_the_model() {
    let mut cpu = long(3);
    cpu.regs.set(RAX, 0u64);
    run(&mut cpu, &[0x0f, 0xa2]);
    let vendor = [RBX, RDX, RCX]
        .map(|at| cpu.regs.get::<u32>(at).to_le_bytes())
        .concat();
    assert_eq!(vendor, b"AuthenticAMD");
    cpu.regs.set(RAX, 1u64);
    run(&mut cpu, &[0x0f, 0xa2]);
    assert_eq!(cpu.regs.get::<u32>(RDX) >> 1 & 1, 0, "VME is hidden");
}

#[test]
fn smap_override_takes_effect_at_once() {
    let mut cpu = long(0);
    cpu.cr4 |= 1 << 21;
    cpu.update_mode();
    let step = cpu.load::<u8>(DATA);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(1))));
    // The test writes instructions by physical address; fetching from user pages is SMEP's matter, not SMAP's.
    run(&mut cpu, &[0x0f, 0x01, 0xcb]);
    assert!(cpu.load::<u8>(DATA).is_ok());
    run(&mut cpu, &[0x0f, 0x01, 0xca]);
    let step = cpu.load::<u8>(DATA);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(1))));
}

#[test]
fn a_cache_line_flush_faults_as_a_load() {
    let clflush = [0x0f, 0xae, 0x38]; // CLFLUSH [rax]
    for (address, expected) in [(DATA, None), (1 << 47, GP0), (1 << 46, Some((14, Some(0))))] {
        let mut cpu = long(0);
        cpu.regs.set(RAX, address);
        assert_eq!(run(&mut cpu, &clflush), expected, "{address:#x}");
    }
}
