//! Written expectations: control registers, MSRs, ports, LLDT and LTR, and the instructions that probe descriptors.

use super::Probe;
use crate::engine::Exit;
use crate::engine::Op;
use crate::engine::soft::cpu::{Cpu, Leave};
use crate::engine::soft::fixture::*;
use crate::engine::soft::mode::Mode;
use crate::engine::state::CS;

type Seen = Option<(u8, Option<u32>)>;
const GP0: Seen = Some((13, Some(0)));
const PG: u64 = 1 << 31;

#[test]
fn control_registers_refuse_what_cannot_be() {
    type Row = (fn(u8) -> Cpu, u8, fn(&Cpu) -> u64, Seen);
    let table: &[Row] = &[
        (protected, 0, |c| c.cr0 | 1 << 32, GP0),
        (protected, 0, |_| PG, GP0),
        (protected, 0, |c| c.cr0 | 1 << 29, GP0),
        (protected, 0, |c| c.cr0 | 3 << 29, None),
        (protected, 0, |c| c.cr0 | 1 << 6, None),
        (long, 0, |c| c.cr0 & !PG, GP0),
        (long, 0, |c| c.cr0 | 1 << 16, None),
        (long, 3, |c| c.cr3 | 1 << 52, GP0),
        (long, 3, |c| c.cr3 | 1 << 51, GP0),
        (long, 3, |c| c.cr3 | 1 << 3, None),
        (long, 4, |c| c.cr4 & !(1 << 5), GP0),
        (long, 4, |c| c.cr4 | 1 << 0, GP0),
        (long, 4, |c| c.cr4 | 1 << 1, GP0),
        (long, 4, |c| c.cr4 | 1 << 12, GP0),
        (long, 4, |c| c.cr4 | 1 << 13, GP0),
        (long, 4, |c| c.cr4 | 1 << 22, GP0),
        (long, 4, |c| c.cr4 | 0x37_0ffc, None),
        (protected, 4, |c| c.cr4 | 1 << 17, GP0),
        (long, 8, |_| 16, GP0),
        (long, 8, |_| 15, None),
        (long, 1, |_| 0, Some((6, None))),
        (long, 5, |_| 0, Some((6, None))),
    ];
    for (i, (make, number, value, expected)) in table.iter().enumerate() {
        let mut cpu = make(0);
        let value = value(&cpu);
        let before = (cpu.cr0, cpu.cr3, cpu.cr4, cpu.cr8);
        let step = cpu.write_control(*number, value);
        assert_eq!(fault(&mut cpu, step), *expected, "row {i}");
        if expected.is_some() {
            assert_eq!((cpu.cr0, cpu.cr3, cpu.cr4, cpu.cr8), before, "row {i}");
        }
    }
}

#[test]
fn pcids_begin_with_number_0_and_end_before_paging_does() {
    const PCIDE: u64 = 1 << 17;
    let mut cpu = long(0);
    cpu.cr3 |= 1;
    let step = cpu.write_control(4, cpu.cr4 | PCIDE);
    assert_eq!(fault(&mut cpu, step), GP0, "PCID 1 before there are any");
    let step = cpu.write_control(3, cpu.cr3 | 1 << 63);
    assert_eq!(fault(&mut cpu, step), GP0, "bit 63 is reserved without PCIDs");
    cpu.cr3 &= !1;
    cpu.write_control(4, cpu.cr4 | PCIDE).unwrap();
    let table = cpu.cr3;
    cpu.write_control(3, table | 1 << 63 | 5).unwrap();
    assert_eq!(cpu.cr3, table | 5, "what may be kept is no part of CR3");
    let mut cpu = long(0);
    cpu.cr4 |= PCIDE;
    cpu.segments[CS].attributes &= !(1 << 13);
    cpu.update_mode();
    let step = cpu.write_control(0, cpu.cr0 & !PG);
    assert_eq!(fault(&mut cpu, step), GP0, "paging goes last");
}

#[test]
fn long_mode_comes_and_goes_with_paging() {
    let mut cpu = protected(0);
    cpu.write_msr(0xc000_0080, 1 << 8).unwrap();
    assert!(!cpu.mode.contains(Mode::LONG));
    let step = cpu.write_control(0, cpu.cr0 | PG);
    assert_eq!(fault(&mut cpu, step), GP0, "without PAE");
    cpu.write_control(4, 1 << 5).unwrap();
    cpu.write_control(0, cpu.cr0 | PG).unwrap();
    assert!(cpu.mode.contains(Mode::LONG | Mode::CODE32));
    assert_eq!(cpu.efer, 1 << 8 | 1 << 10);
    let step = cpu.write_msr(0xc000_0080, 0);
    assert_eq!(fault(&mut cpu, step), GP0, "LME while paging");
    cpu.write_control(0, cpu.cr0 & !PG).unwrap();
    assert_eq!((cpu.efer, cpu.mode.contains(Mode::LONG)), (1 << 8, false));
}

#[test]
fn a_task_priority_write_asks_the_engine_to_look() {
    let mut cpu = long(0);
    cpu.attention = false;
    cpu.write_control(8, 7).unwrap();
    assert_eq!((cpu.cr8, cpu.cr8_written, cpu.attention), (7, true, true));
}

#[test]
fn model_specific_registers_answer_by_the_table() {
    let canonical_hole = 1u64 << 47;
    // (index, value written, fault of the write, value read back)
    let table: &[(u32, u64, Seen, u64)] = &[
        (0xc000_0082, 0xffff_8000_0000_1234, None, 0xffff_8000_0000_1234),
        (0xc000_0082, canonical_hole, GP0, 0),
        (0xc000_0100, 0x1234, None, 0x1234),
        (0xc000_0101, canonical_hole, GP0, 0),
        (0xc000_0102, 0x5678, None, 0x5678),
        (0xc000_0084, u64::MAX, None, 0xffff_ffff),
        (0xc000_0103, 7, None, 7),
        (0x277, 0x0007_0406_0007_0406, None, 0x0007_0406_0007_0406),
        (0x277, 2, GP0, 0x0007_0406_0007_0406),
        (0x200, 6, None, 6),
        (0xfe, 1, GP0, 0x508),
        (0x17a, 1, None, 0),
        // Kernels and kvm-unit-tests read back what they wrote.
        (0x1a0, 0x4_00c5_0809, None, 0x4_00c5_0809),
        // The counters of a K7, which count nothing.
        (0xc001_0000, 1 << 22, None, 0),
        (0xc001_0007, 5, None, 0),
        (0xc000_0080, 0x501, None, 0x501),
        (0xc000_0080, 1 << 12, GP0, 0x500),
    ];
    for &(index, value, refused, read) in table {
        let mut cpu = long(0);
        let step = cpu.write_msr(index, value);
        assert_eq!(fault(&mut cpu, step), refused, "{index:#x}");
        assert_eq!(cpu.read_msr(index), Ok(read), "{index:#x}");
    }
    let mut cpu = long(0);
    let step = cpu.read_msr(0xdead);
    assert_eq!(fault(&mut cpu, step), GP0);
    // The chipset's registers come out, and go on with the answer.
    assert_eq!(cpu.read_msr(0x1b), Err(Leave::Exit));
    assert_eq!(
        cpu.exit.take(),
        Some(Exit::Msr {
            index: 0x1b,
            op: Op::Read
        })
    );
    cpu.replay.rewind();
    cpu.replay.answer(0xfee0_0900);
    assert_eq!(cpu.read_msr(0x1b), Ok(0xfee0_0900));
}

#[test]
fn writing_the_time_shows_in_its_adjustment() {
    let mut cpu = long(0);
    cpu.write_msr(0x10, 1 << 40).unwrap();
    let now = cpu.read_msr(0x10).unwrap();
    assert!((1 << 40..(1 << 40) + (1 << 38)).contains(&now));
    let adjust = cpu.read_msr(0x3b).unwrap();
    assert_eq!(adjust, cpu.tsc_offset);
    cpu.write_msr(0x3b, adjust.wrapping_add(1 << 50)).unwrap();
    assert!(cpu.read_msr(0x10).unwrap() >= 1 << 50);
}

#[test]
fn ports_are_open_by_iopl_or_by_the_bitmap() {
    const BITMAP: u64 = TSS + 0x68;
    let with_bitmap = |cpl: u8, iopl: u64| {
        let mut cpu = protected(cpl);
        cpu.flags.others |= iopl << 12;
        cpu.tr.limit = 0x68 + 0x20;
        put(&cpu, TSS + 0x66, 0x68u16);
        put(&cpu, BITMAP + 0x0c, 0x7fu8); // Ports 0x60 to 0x66 closed.
        put(&cpu, BITMAP + 0x0d, 0x01u8); // 0x68 closed.
        cpu
    };
    // (CPL, IOPL, port, bytes, refused)
    for (cpl, iopl, port, bytes, refused) in [
        (0, 0, 0x60, 1, false),
        (3, 3, 0x60, 1, false),
        (3, 2, 0x60, 1, true),
        (3, 0, 0x67, 1, false),
        (3, 0, 0x67, 2, true),
        (3, 0, 0x69, 4, false),
        (3, 0, 0x5d, 4, true),
        (3, 0, 0x5c, 4, false),
        // The byte behind the bitmap's last must lie inside the limit, too.
        (3, 0, 0xf8, 1, false),
        (3, 0, 0x100, 1, true),
        (3, 0, 0xffff, 1, true),
    ] {
        let mut cpu = with_bitmap(cpl, iopl);
        let step = cpu.check_io(port, bytes);
        let seen = fault(&mut cpu, step);
        assert_eq!(
            seen.is_some(),
            refused,
            "CPL {cpl} IOPL {iopl} port {port:#x} x{bytes}"
        );
    }
    let mut cpu = with_bitmap(3, 0);
    cpu.tr.limit = 0x66;
    let step = cpu.check_io(0x67, 1);
    assert_eq!(fault(&mut cpu, step), GP0, "no bitmap");
    let mut cpu = v86(3);
    put(&cpu, TSS + 0x66, 0x68u16);
    let step = cpu.check_io(0x67, 1);
    assert_eq!(
        fault(&mut cpu, step),
        GP0,
        "IOPL does not count in virtual-8086 mode"
    );
    assert_eq!(real().check_io(0x60, 4), Ok(()));
}

#[test]
fn ldtr_and_tr_take_their_own_descriptors_only() {
    for kind in 0..16u32 {
        for (make, long_mode) in [(protected as fn(u8) -> Cpu, false), (long, true)] {
            let mut cpu = make(0);
            set_gdt(&cpu, FREE, segment(0x1_2345, 0x67, 0x80 | kind));
            put(&cpu, GDT + u64::from(FREE) + 8, 0xffff_8000u64);
            let expect = |fits: bool| if fits { None } else { Some((13, Some(FREE.into()))) };
            let step = cpu.load_ldt(FREE);
            assert_eq!(fault(&mut cpu, step), expect(kind == 2), "LLDT type {kind}");
            let step = cpu.load_task_register(FREE);
            let fits = kind == 9 || (kind == 1 && !long_mode);
            assert_eq!(fault(&mut cpu, step), expect(fits), "LTR type {kind}");
            if fits {
                let upper = if long_mode { 0xffff_8000 << 32 } else { 0 };
                assert_eq!(cpu.tr.base, 0x1_2345 | upper);
                assert_eq!(get::<u8>(&cpu, GDT + u64::from(FREE) + 5) & 15, kind as u8 | 2);
            }
        }
    }
    let mut cpu = protected(0);
    cpu.load_ldt(0).unwrap();
    assert!(cpu.ldtr.unusable());
    let step = cpu.load_task_register(0);
    assert_eq!(fault(&mut cpu, step), GP0);
    let step = cpu.load_ldt(4);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(4))));
    set_gdt(&cpu, FREE, segment(0, 0x67, 0x02));
    let step = cpu.load_ldt(FREE);
    assert_eq!(fault(&mut cpu, step), Some((11, Some(FREE.into()))));
    let mut cpu = long(0);
    set_gdt(&cpu, FREE, segment(0, 0x67, 0x89));
    put(&cpu, GDT + u64::from(FREE) + 8, 0x1_0000u64);
    let step = cpu.load_task_register(FREE);
    assert_eq!(
        fault(&mut cpu, step),
        Some((13, Some(FREE.into()))),
        "base not canonical"
    );
}

#[test]
fn probes_see_what_the_privilege_may_know() {
    use Probe::{Limit, Read, Rights, Write};
    // System types LAR and LSL know: legacy LAR, legacy LSL, long LAR, long LSL.
    const SYSTEM: [(bool, bool, bool, bool); 16] = {
        const NO: (bool, bool, bool, bool) = (false, false, false, false);
        const TSS16: (bool, bool, bool, bool) = (true, true, false, false);
        const GATE16: (bool, bool, bool, bool) = (true, false, false, false);
        const ALL: (bool, bool, bool, bool) = (true, true, true, true);
        const CALL: (bool, bool, bool, bool) = (true, false, true, false);
        [
            NO, TSS16, ALL, TSS16, GATE16, GATE16, NO, NO, NO, ALL, NO, ALL, CALL, NO, NO, NO,
        ]
    };
    for kind in 0..16u32 {
        for (make, in_long) in [(protected as fn(u8) -> Cpu, false), (long, true)] {
            let mut cpu = make(0);
            set_gdt(&cpu, FREE, segment(0, 0x1234, 0x80 | kind));
            let (lar, lsl, long_lar, long_lsl) = SYSTEM[kind as usize];
            let (lar, lsl) = if in_long { (long_lar, long_lsl) } else { (lar, lsl) };
            let rights = cpu.probe_descriptor(FREE, Rights);
            assert_eq!(rights, Ok(lar.then_some((0x80 | kind) << 8)), "LAR type {kind}");
            assert_eq!(cpu.probe_descriptor(FREE, Limit), Ok(lsl.then_some(0x1234)));
            assert_eq!(cpu.probe_descriptor(FREE, Read), Ok(None));
            // Code and data.
            let attributes = 0xc090 | kind;
            set_gdt(&cpu, FREE, segment(0, 0x1234, attributes));
            let readable = kind < 8 || kind & 2 != 0;
            let writable = kind < 8 && kind & 2 != 0;
            let answer = cpu.probe_descriptor(FREE, Read).map(|a| a.is_some());
            assert_eq!(answer, Ok(readable), "VERR type {kind}");
            let answer = cpu.probe_descriptor(FREE, Write).map(|a| a.is_some());
            assert_eq!(answer, Ok(writable), "VERW type {kind}");
            assert_eq!(cpu.probe_descriptor(FREE, Limit), Ok(Some(0x123_4fff)));
            let rights = (0xc0_0000 | (0x90 | kind) << 8) & 0xff_ff00;
            assert_eq!(cpu.probe_descriptor(FREE, Rights), Ok(Some(rights)));
        }
    }
    // (CPL, RPL, DPL, visible): conforming code always is.
    for (cpl, rpl, dpl, visible) in [
        (0u8, 0u16, 0u32, true),
        (3, 3, 3, true),
        (3, 0, 0, false),
        (0, 3, 0, false),
        (0, 3, 2, false),
        (0, 2, 2, true),
    ] {
        let mut cpu = protected(cpl);
        for (kind, expected) in [(0x93, visible), (0x9b, visible), (0x9f, true)] {
            set_gdt(&cpu, FREE, segment(0, 0, kind | dpl << 5));
            let seen = cpu.probe_descriptor(FREE | rpl, Read).map(|a| a.is_some());
            assert_eq!(seen, Ok(expected), "CPL {cpl} RPL {rpl} DPL {dpl} {kind:#x}");
        }
    }
    let mut cpu = protected(0);
    for selector in [0, 3, 0x80, 0x84, 0xfff8] {
        assert_eq!(cpu.probe_descriptor(selector, Rights), Ok(None), "{selector:#x}");
    }
}
