//! String instructions: runs against single elements, interruption, devices, address sizes.

use super::*;
use crate::bus::Width;
use crate::engine::Op as Direction;
use crate::engine::soft::fixture::{self, get, put};
use crate::engine::soft::flags::{DF, TF};

/// Scratch memory: several pages.
const AREA: u64 = 0x10_0000;
const AREA_BYTES: usize = 0x4000;

/// Runs until rip has left the instruction; the number of times it was interrupted.
fn finish(cpu: &mut Cpu, bytes: &[u8]) -> u32 {
    assert_eq!(run(cpu, bytes), Ran::Done);
    let mut interrupted = 0;
    while cpu.rip == CODE {
        cpu.attention = false;
        assert_eq!(step(cpu), Ran::Done);
        interrupted += 1;
        assert!(interrupted < 1 << 20);
    }
    interrupted
}

fn fill_area(cpu: &Cpu) -> Vec<u8> {
    let bytes: Vec<u8> = (0..AREA_BYTES as u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect();
    cpu.memory.write(AREA, &bytes).unwrap();
    bytes
}

fn area(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; AREA_BYTES];
    cpu.memory.read(AREA, &mut bytes).unwrap();
    bytes
}

fn registers(cpu: &mut Cpu, rcx: u64, rsi: u64, rdi: u64) {
    set_reg(cpu, RCX, rcx);
    set_reg(cpu, RSI, rsi);
    set_reg(cpu, RDI, rdi);
    cpu.attention = false;
}

#[test]
fn movs_copies_element_by_element_however_the_operands_overlap() {
    let prefixes: [(&[u8], usize); 4] = [
        (&[0xf3, 0xa4], 1),
        (&[0xf3, 0x66, 0xa5], 2),
        (&[0xf3, 0xa5], 4),
        (&[0xf3, 0x48, 0xa5], 8),
    ];
    for (bytes, width) in prefixes {
        for distance in [
            -4097i64, -9, -8, -3, -1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 100, 4095, 4096, 5000,
        ] {
            for down in [false, true] {
                let mut cpu = fixture::long(3);
                let mut expected = fill_area(&cpu);
                let count = 0x900 / width;
                let first = 0x1800 + if down { (count - 1) * width } else { 0 };
                for i in 0..count {
                    let at = if down {
                        first - i * width
                    } else {
                        first + i * width
                    };
                    let to = (at as i64 + distance) as usize;
                    let value = expected[at..at + width].to_vec();
                    expected[to..to + width].copy_from_slice(&value);
                }
                cpu.flags.others |= if down { DF } else { 0 };
                let rsi = AREA + first as u64;
                registers(&mut cpu, count as u64, rsi, rsi.wrapping_add_signed(distance));
                finish(&mut cpu, bytes);
                assert!(
                    area(&cpu) == expected,
                    "{bytes:x?}, distance {distance}, down {down}"
                );
                let moved = (count * width) as i64 * if down { -1 } else { 1 };
                assert_eq!(reg(&cpu, RCX), 0);
                assert_eq!(reg(&cpu, RSI), rsi.wrapping_add_signed(moved));
                assert_eq!(reg(&cpu, RDI), rsi.wrapping_add_signed(distance + moved));
            }
        }
    }
}

#[test]
fn stos_fills_across_pages_from_any_alignment() {
    for (bytes, width) in [
        (&[0xf3, 0xaa][..], 1),
        (&[0xf3, 0x66, 0xab], 2),
        (&[0xf3, 0xab], 4),
        (&[0xf3, 0x48, 0xab], 8),
    ] {
        for offset in [0, 1, 0xffd] {
            let mut cpu = fixture::long(0);
            let mut expected = fill_area(&cpu);
            let value = 0x1122_3344_5566_7788u64.to_le_bytes();
            let count = 0x2100 / width;
            for chunk in expected[offset..offset + count * width].chunks_mut(width) {
                chunk.copy_from_slice(&value[..width]);
            }
            set_reg(&mut cpu, RAX, 0x1122_3344_5566_7788);
            registers(&mut cpu, count as u64, 0, AREA + offset as u64);
            finish(&mut cpu, bytes);
            assert!(area(&cpu) == expected, "{bytes:x?} at {offset:#x}");
        }
    }
}

#[test]
fn comparisons_stop_where_they_must_and_leave_that_elements_flags() {
    // Bytes, RCX before, elements done, ZF, CF. Source all 5; destination 5 but for one 9 at +0x1005.
    let table: &[(&[u8], u64, u64, bool, bool)] = &[
        (&[0xf3, 0xa6], 0x2000, 0x1006, false, true),
        (&[0xf3, 0xa6], 0x1005, 0x1005, true, false),
        (&[0xf2, 0xa6], 0x2000, 1, true, false),
        (&[0xf3, 0xae], 0x2000, 0x1006, false, true), // AL = 5
        (&[0xf2, 0xae], 0x2000, 1, true, false),
        (&[0xf3, 0x48, 0xa7], 0x400, 0x201, false, true),
        (&[0xf3, 0xa6], 0, 0, false, true), // no element: the flags stay
    ];
    for &(bytes, count, done, zf, cf) in table {
        let mut cpu = fixture::long(3);
        cpu.memory.write(AREA, &[5; AREA_BYTES]).unwrap();
        put(&cpu, AREA + 0x2000 + 0x1005, 9u8);
        set_reg(&mut cpu, RAX, 5);
        cpu.flags.set_rflags(3);
        registers(&mut cpu, count, AREA, AREA + 0x2000);
        finish(&mut cpu, bytes);
        assert_eq!(reg(&cpu, RCX), count - done, "{bytes:x?}");
        assert_eq!((cpu.flags.zf(), cpu.flags.cf()), (zf, cf), "{bytes:x?}");
        let width = if bytes.len() == 3 { 8 } else { 1 };
        assert_eq!(reg(&cpu, RDI), AREA + 0x2000 + done * width);
    }
}

#[test]
fn a_long_repetition_lets_the_engine_look_and_goes_on() {
    for (bytes, count) in [(&[0xf3, 0xaa][..], 0x10_0000u64), (&[0xf3, 0xac], 1000)] {
        let mut cpu = fixture::long(0);
        registers(&mut cpu, count, AREA, AREA);
        assert_eq!(run(&mut cpu, bytes), Ran::Done);
        let left = reg(&cpu, RCX);
        assert_eq!(cpu.rip, CODE);
        assert!(left > 0 && left < count);
        let moved = if bytes[1] == 0xaa {
            reg(&cpu, RDI)
        } else {
            reg(&cpu, RSI)
        };
        assert_eq!(moved, AREA + count - left);
        assert!(finish(&mut cpu, bytes) > 1);
        assert_eq!((cpu.rip, reg(&cpu, RCX)), (CODE + 2, 0));
    }
}

#[test]
fn single_step_stops_after_each_element() {
    let mut cpu = fixture::long(0);
    cpu.flags.others |= TF;
    registers(&mut cpu, 3, AREA, AREA + 64);
    for left in [2, 1] {
        assert_eq!(run(&mut cpu, &[0xf3, 0xa4]), Ran::Done);
        assert_eq!((cpu.rip, reg(&cpu, RCX)), (CODE, left));
    }
    assert_eq!(step(&mut cpu), Ran::Done);
    assert_eq!((cpu.rip, reg(&cpu, RCX)), (CODE + 2, 0));
}

#[test]
fn a_fault_keeps_what_was_done() {
    let mut cpu = fixture::long(3);
    // The page behind the first 2 MiB is missing.
    put(&cpu, fixture::PML4 + 0x1000, (fixture::PML4 + 0x2000) | 7);
    put(&cpu, fixture::PML4 + 0x2000, 0x87u64);
    cpu.tlb.flush();
    for (bytes, rsi, rdi, code) in [
        (&[0xf3, 0xa4][..], 0x1f_fff0u64, AREA, 4),
        (&[0xf3, 0xa4], AREA, 0x1f_fff0, 6),
        (&[0xf3, 0xaa], 0, 0x1f_fff0, 6),
    ] {
        registers(&mut cpu, 0x40, rsi, rdi);
        assert_eq!(run(&mut cpu, bytes), Ran::Fault(14, Some(code)), "{bytes:x?}");
        assert_eq!(
            (cpu.rip, reg(&cpu, RCX), reg(&cpu, RDI)),
            (CODE, 0x30, rdi + 0x10)
        );
        assert_eq!(reg(&cpu, RSI), if bytes[1] == 0xa4 { rsi + 0x10 } else { rsi });
    }
}

#[test]
fn stores_over_decoded_code_stop_the_repetition_at_once() {
    let mut cpu = fixture::long(0);
    cpu.code_pages.add(AREA + 0x40, 16);
    cpu.tlb.protect(AREA);
    registers(&mut cpu, 0x100, 0, AREA);
    assert_eq!(run(&mut cpu, &[0xf3, 0xaa]), Ran::Done);
    // The element that hit is done, no further one.
    while !cpu.attention {
        assert_eq!(step(&mut cpu), Ran::Done);
    }
    assert_eq!((cpu.rip, reg(&cpu, RDI)), (CODE, AREA + 0x41));
    assert_eq!(cpu.stale_code, [AREA + 0x40]);
}

#[test]
fn a_repetition_that_would_change_itself_restarts_at_that_element() {
    let mut cpu = fixture::long(0);
    cpu.memory.write(CODE, &[0xf3, 0xaa]).unwrap();
    cpu.code_pages.add(CODE, 64);
    registers(&mut cpu, 0x20, 0, CODE - 0x10);
    assert_eq!(step(&mut cpu), Ran::Restart);
    assert_eq!((cpu.rip, reg(&cpu, RCX), reg(&cpu, RDI)), (CODE, 0x10, CODE));
}

#[test]
fn each_element_at_a_device_is_an_exit_of_its_own() {
    let read = |at| {
        Ran::Asked(Exit::Mmio {
            at,
            width: Width::Word,
            op: Direction::Read,
        })
    };
    let mut cpu = fixture::long(0);
    registers(&mut cpu, 3, DEVICE, AREA);
    assert_eq!(run(&mut cpu, &[0xf3, 0x66, 0xa5]), read(DEVICE));
    for element in 0..3u64 {
        assert_eq!(reg(&cpu, RCX), 3 - element);
        cpu.replay.answer(0x1111 * (element + 1));
        // Each answered element ends the step, so that answers never reach another element.
        assert_eq!(step(&mut cpu), Ran::Done);
        if element < 2 {
            assert_eq!(cpu.rip, CODE);
            assert_eq!(step(&mut cpu), read(DEVICE + 2 * (element + 1)));
        }
    }
    assert_eq!((cpu.rip, reg(&cpu, RCX)), (CODE + 3, 0));
    assert_eq!(get::<[u16; 3]>(&cpu, AREA), [0x1111, 0x2222, 0x3333]);
}

#[test]
fn ins_and_outs_go_through_ports_one_element_at_a_time() {
    let port = |op| {
        Ran::Asked(Exit::Port {
            port: 0x1f0,
            width: Width::Word,
            op,
        })
    };
    let mut cpu = fixture::long(0);
    set_reg(&mut cpu, RDX, 0x1f0);
    registers(&mut cpu, 2, 0, AREA + 0xfff);
    assert_eq!(run(&mut cpu, &[0xf3, 0x66, 0x6d]), port(Direction::Read));
    for value in [0xaaaa, 0xbbbb] {
        cpu.replay.answer(value);
        assert_eq!(step(&mut cpu), Ran::Done);
        if cpu.rip == CODE {
            assert_eq!(step(&mut cpu), port(Direction::Read));
        }
    }
    assert_eq!(get::<u32>(&cpu, AREA + 0xfff), 0xbbbb_aaaa);
    registers(&mut cpu, 2, AREA + 0xfff, 0);
    assert_eq!(run(&mut cpu, &[0xf3, 0x66, 0x6f]), port(Direction::Write(0xaaaa)));
    cpu.replay.answer(0);
    assert_eq!(step(&mut cpu), Ran::Done);
    assert_eq!(step(&mut cpu), port(Direction::Write(0xbbbb)));
    cpu.replay.answer(0);
    assert_eq!(step(&mut cpu), Ran::Done);
    assert_eq!(
        (cpu.rip, reg(&cpu, RSI), reg(&cpu, RCX)),
        (CODE + 3, AREA + 0x1003, 0)
    );
    // A store that cannot be made reads no port; a forbidden port is #GP before anything.
    registers(&mut cpu, 1, 0, UNMAPPED);
    assert_eq!(run(&mut cpu, &[0xf3, 0x6c]), Ran::Fault(14, Some(2)));
    let mut cpu = fixture::long(3);
    put(&cpu, fixture::TSS + 0x66, 0x68u16);
    registers(&mut cpu, 1, UNMAPPED, UNMAPPED);
    assert_eq!(run(&mut cpu, &[0xf3, 0x6c]), GP);
    assert_eq!(run(&mut cpu, &[0x6e]), GP);
}

#[test]
fn the_address_size_says_how_much_of_the_registers_counts() {
    // 64-bit code with 67, as a Zen 4 does: no element, no change; else the upper halves go.
    let mut cpu = fixture::long(0);
    let high = 0xffff_ffff_0000_0000u64;
    registers(&mut cpu, high, high | AREA, high | AREA);
    finish(&mut cpu, &[0x67, 0xf3, 0xa4]);
    assert_eq!((reg(&cpu, RCX), reg(&cpu, RSI)), (high, high | AREA));
    registers(&mut cpu, high | 2, high | AREA, high | (AREA + 64));
    finish(&mut cpu, &[0x67, 0xf3, 0xa4]);
    assert_eq!(
        (reg(&cpu, RCX), reg(&cpu, RSI), reg(&cpu, RDI)),
        (0, AREA + 2, AREA + 66)
    );
    registers(&mut cpu, high | 2, high | AREA, high | (AREA + 64));
    finish(&mut cpu, &[0x67, 0xa4]);
    assert_eq!((reg(&cpu, RCX), reg(&cpu, RSI)), (high | 2, AREA + 1));
    // Real mode: SI and DI wrap at 64 KiB; a word across the end is outside the limit.
    let mut cpu = fixture::real();
    put(&cpu, 0xffff, 0x5au8);
    registers(&mut cpu, 0x7_0002, 0x3_ffff, 0x4_4000);
    finish(&mut cpu, &[0xf3, 0xa4]);
    assert_eq!(
        (reg(&cpu, RCX), reg(&cpu, RSI), reg(&cpu, RDI)),
        (0x7_0000, 0x3_0000 + 1, 0x4_4002)
    );
    assert_eq!(get::<u8>(&cpu, 0x4000), 0x5a);
    registers(&mut cpu, 1, 0xffff, 0x4000);
    assert_eq!(run(&mut cpu, &[0xa5]), GP);
    assert_eq!(run(&mut cpu, &[0x36, 0xa5]), SS0);
}

#[test]
fn a_segment_override_moves_the_source_only() {
    let mut cpu = fixture::long(0);
    cpu.segments[4].base = 0x1000;
    put(&cpu, AREA + 0x1000, 0x77u8);
    put(&cpu, AREA, 0x11u8);
    registers(&mut cpu, 1, AREA, AREA + 0x2000);
    finish(&mut cpu, &[0x64, 0xf3, 0xa4]);
    assert_eq!(get::<u8>(&cpu, AREA + 0x2000), 0x77);
    registers(&mut cpu, 1, AREA, AREA + 0x2000);
    finish(&mut cpu, &[0x36, 0xf3, 0xa4]); // SS says nothing in 64-bit code
    assert_eq!(get::<u8>(&cpu, AREA + 0x2000), 0x11);
}
