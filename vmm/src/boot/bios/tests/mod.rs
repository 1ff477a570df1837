//! Every service, called by 16-bit code on the interpreter, against what its interface says.

mod rig;

use super::rom;
use crate::boot::e820::{self, MapKind};
use crate::engine::state::{CS, DS, ES, FS, GS, SS};
use proptest::prelude::*;
use rig::{FREE_END, Regs, Rig, UNIX};

fn ax(eax: u32) -> Regs {
    Regs {
        eax,
        ..Regs::default()
    }
}

/// A call with garbage in all registers but those given; what the call changed.
fn changes(rig: &mut Rig, interrupt: u8, given: impl FnOnce(&mut Regs)) -> (Regs, Regs) {
    let mut regs = Regs {
        eax: 0x0101_0000,
        ebx: 0x2222_0202,
        ecx: 0x3333_0303,
        edx: 0x4444_0404,
        esi: 0x5555_0505,
        edi: 0x6666_0606,
        ebp: 0x7777_0707,
        es: 0x4321,
        carry: true,
        zero: false,
    };
    given(&mut regs);
    let after = rig.call(interrupt, regs);
    (regs, after)
}

#[test]
fn the_boot_program_is_entered_as_the_protocol_says() {
    let mut rig = Rig::new();
    let state = rig.state();
    assert_eq!((state.segments.user[CS].selector, state.rip), (0x1020, 1));
    for segment in [DS, ES, FS, GS, SS] {
        assert_eq!(state.segments.user[segment].selector, 0x1000);
    }
    assert_eq!(state.gprs[4], 0xe000);
    assert_eq!(state.rflags & 0x200, 0, "interrupts are off");
}

#[test]
fn power_on_leaves_vectors_and_data_area() {
    let rig = Rig::new();
    for vector in 0..256u64 {
        let far: u32 = rig.memory.read_obj(4 * vector).unwrap();
        assert_eq!(far >> 16, 0xf000, "vector {vector:#x}");
        assert!(far & 0xffff >= rom::ENTRY.into(), "vector {vector:#x}");
    }
    for (offset, value) in [
        (0x00, 0x3f8),
        (0x10, 0x222),
        (0x13, 640),
        (0x49, 0x5003),
        (0x75, 0),
    ] {
        assert_eq!(rig.data(offset), value, "40:{offset:02x}");
    }
    assert_eq!(rig.divisor, 1, "115200 baud");
    let mut end = [0; 16];
    rig.memory.read(0xf_fff0, &mut end).unwrap();
    assert_eq!((end[0], &end[3..5], end[14]), (0xea, &[0, 0xf0][..], 0xfc));
}

#[test]
fn ticks_start_at_the_time_of_day_and_count_through_midnight() {
    let mut rig = Rig::new();
    let now = rig.call(0x1a, ax(0));
    let ticks = u64::from(now.ecx & 0xffff) << 16 | u64::from(now.edx & 0xffff);
    assert_eq!(ticks, (UNIX % 86400) * 1_193_182 / 65536);
    // Two before the end of the day, and a handler of INT 1C that counts.
    rig.call(
        0x1a,
        Regs {
            ecx: 0x18,
            edx: 0xae,
            ..ax(0x100)
        },
    );
    rig.memory
        .write(0x700, &[0x2e, 0xfe, 0x06, 0x10, 0x07, 0xcf])
        .unwrap();
    rig.memory.write_obj(4 * 0x1c, &0x700u32).unwrap();
    for _ in 0..3 {
        rig.start(&[0xf4, 0xeb, 0xfd], Regs::default());
        rig.run_a_tick();
    }
    assert_eq!(rig.memory.read_obj::<u8>(0x710).unwrap(), 3, "INT 1C");
    let after = rig.call(0x1a, ax(0));
    assert_eq!(
        (after.eax & 0xff, after.ecx & 0xffff, after.edx & 0xffff),
        (1, 0, 1)
    );
    assert_eq!(rig.call(0x1a, ax(0)).eax & 0xff, 0, "midnight is told once");
}

#[test]
fn the_clock_is_read_and_set_in_bcd() {
    let mut rig = Rig::new();
    let time = rig.call(0x1a, ax(0x200));
    assert_eq!(
        (time.ecx & 0xffff, time.edx & 0xffff, time.carry),
        (0x1234, 0x5600, false)
    );
    let date = rig.call(0x1a, ax(0x400));
    assert_eq!(
        (date.ecx & 0xffff, date.edx & 0xffff, date.carry),
        (0x2026, 0x1121, false)
    );
    rig.call(
        0x1a,
        Regs {
            ecx: 0x2359,
            edx: 0x5800,
            ..ax(0x300)
        },
    );
    rig.call(
        0x1a,
        Regs {
            ecx: 0x1999,
            edx: 0x1231,
            ..ax(0x500)
        },
    );
    let time = rig.call(0x1a, ax(0x200));
    assert_eq!((time.ecx & 0xffff, time.edx >> 8 & 0xff), (0x2359, 0x58));
    let date = rig.call(0x1a, ax(0x400));
    assert_eq!((date.ecx & 0xffff, date.edx & 0xffff), (0x1999, 0x1231));
    assert!(rig.call(0x1a, ax(0x600)).carry, "no alarm");
}

#[test]
fn text_is_plain_on_the_line_and_the_cursor_follows() {
    let mut rig = Rig::new();
    for byte in b"ab\x08c\r\nd\x07\x80" {
        rig.call(0x10, ax(0x0e00 | u32::from(*byte)));
    }
    assert_eq!(rig.text(), "ab\x08c\r\nd\x07?");
    let cursor = rig.call(0x10, ax(0x300));
    assert_eq!((cursor.edx & 0xffff, cursor.ecx & 0xffff), (0x0102, 0x0607));
    assert_eq!(rig.call(0x10, ax(0xf00)).eax & 0xffff, 0x5003);
    for _ in 0..80 {
        rig.call(0x10, ax(0x0e2d));
    }
    assert_eq!(rig.text(), format!("{}\r\n--", "-".repeat(78)));
    for _ in 0..40 {
        rig.call(0x10, ax(0x0e0a));
    }
    assert_eq!(rig.data(0x50), 24 << 8 | 2, "the last row scrolls");
}

#[test]
fn the_cursor_moves_on_the_line_when_something_is_written() {
    let mut rig = Rig::new();
    let at = |rig: &mut Rig, row: u32, column: u32| {
        rig.call(
            0x10,
            Regs {
                edx: row << 8 | column,
                ..ax(0x200)
            },
        )
    };
    at(&mut rig, 5, 9);
    at(&mut rig, 4, 19);
    assert_eq!(rig.text(), "");
    rig.call(0x10, ax(0x0e41));
    assert_eq!(rig.text(), "^[5;20HA");
    at(&mut rig, 4, 7);
    rig.call(0x10, ax(0x0e42));
    assert_eq!(rig.text(), "\r^[7CB");
    at(&mut rig, 25, 0);
    at(&mut rig, 0, 80);
    assert_eq!(rig.data(0x50), 4 << 8 | 8, "nowhere is not moved to");
}

#[test]
fn a_coloured_character_written_twice_is_sent_once() {
    let mut rig = Rig::new();
    let write = |rig: &mut Rig, cell: u32, attribute: u32, count: u32| {
        rig.call(
            0x10,
            Regs {
                ebx: attribute,
                ecx: count,
                ..ax(0x900 | cell)
            },
        )
    };
    assert_eq!(rig.call(0x10, ax(0x800)).eax & 0xffff, 0x0720);
    write(&mut rig, 0x61, 0x4f, 1);
    rig.call(0x10, ax(0x0e61));
    rig.call(0x10, ax(0x0e62));
    assert_eq!(rig.text(), "^[0;1;41mab");
    assert_eq!(rig.call(0x10, ax(0x800)).eax >> 8 & 0xff, 0x4f);
    write(&mut rig, 0x63, 0x13, 3);
    rig.call(0x10, ax(0x0e63));
    assert_eq!(rig.text(), "^[0;36;44mccc\x08\x08\x08c");
    write(&mut rig, 0x64, 0x13, 0xffff);
    assert_eq!(rig.text(), "", "more than a screen");
}

#[test]
fn windows_are_cleared_and_scrolled() {
    let mut rig = Rig::new();
    let window = |function: u32, from: u32, to: u32| Regs {
        ebx: 0x0700,
        ecx: from,
        edx: to,
        ..ax(function)
    };
    for (regs, text) in [
        (window(0x600, 0, 0x184f), "^[2J"),
        (window(0x600, 0, 0xffff), "^[2J"),
        (window(0x600, 0x0102, 0x0205), "^[2;3H^[4X^[3;3H^[4X"),
        (window(0x602, 0x0300, 0x0a4f), "^[4;11r^[2S^[r"),
        (window(0x701, 0, 0x184f), "^[1;25r^[1T^[r"),
        (window(0x600, 0x0500, 0x0400), ""),
    ] {
        rig.call(0x10, regs);
        assert_eq!(rig.text(), text, "{regs:x?}");
    }
    rig.call(0x10, ax(0x0003));
    assert_eq!(rig.text(), "^[0m^[2J^[H");
    rig.memory.write(0x4_0010, b"H\x0ai\x0a").unwrap();
    let text = Regs {
        ebx: 7,
        ecx: 2,
        edx: 0x0203,
        ebp: 0x10,
        ..ax(0x1302)
    };
    rig.call(0x10, text);
    assert_eq!(rig.text(), "^[0;1;32m^[3;4HHi");
    assert_eq!(rig.data(0x50), 0, "the cursor stays");
}

#[test]
fn keys_come_from_the_serial_port_by_interrupt_and_on_demand() {
    let mut rig = Rig::new();
    let none = rig.call(0x16, ax(0x100));
    assert!(none.zero);
    rig.typed.extend(b"b\x02\n\x7f\x1b");
    for (key, what) in [
        (0x3062, "a letter"),
        (0x3002, "Ctrl-B"),
        (0x1c0d, "LF is Enter"),
        (0x0e08, "DEL is Backspace"),
        (0x011b, "Esc"),
    ] {
        let peeked = rig.call(0x16, ax(0x100));
        assert_eq!((peeked.zero, peeked.eax & 0xffff), (false, key), "{what}");
        assert_eq!(rig.call(0x16, ax(0)).eax & 0xffff, key, "{what}");
    }
    assert_eq!(rig.halts, 0);
    rig.typed_later = b"x".to_vec();
    assert_eq!(rig.call(0x16, ax(0x1000)).eax & 0xffff, 0x2d78);
    assert_eq!(rig.halts, 1, "who waits, waits asleep");
    assert_eq!(rig.call(0x16, ax(0x1234)).eax & 0xffff, 0, "no shifts");
}

#[test]
fn a_full_ring_leaves_the_rest_in_the_port() {
    let mut rig = Rig::new();
    let typed: Vec<u8> = (b'a'..=b'z').collect();
    rig.typed.extend(&typed);
    rig.start(&[0xf4], Regs::default());
    rig.run(0x601);
    assert_eq!(rig.typed.len(), 26 - 15);
    assert_eq!(
        rig.call(
            0x16,
            Regs {
                ecx: 0x1234,
                ..ax(0x500)
            }
        )
        .eax & 0xff,
        1,
        "no room"
    );
    let read: Vec<u8> = (0..26).map(|_| rig.call(0x16, ax(0)).eax as u8).collect();
    assert_eq!(read, typed);
    assert_eq!(
        rig.call(
            0x16,
            Regs {
                ecx: 0x1234,
                ..ax(0x500)
            }
        )
        .eax & 0xff,
        0
    );
    assert_eq!(rig.call(0x16, ax(0)).eax & 0xffff, 0x1234);
}

#[test]
fn memory_is_told_in_every_form() {
    let mut rig = Rig::new();
    let map = e820::map(&rig.memory);
    let mut next = 0;
    for (n, entry) in map.iter().enumerate() {
        let (asked, told) = changes(&mut rig, 0x15, |regs| {
            *regs = Regs {
                eax: 0xe820,
                ebx: next,
                ecx: 100,
                edx: 0x534d_4150,
                edi: 0x30,
                es: 0x5000,
                ..*regs
            };
        });
        let read = |at: u64| rig.memory.read_obj::<u64>(0x5_0030 + at).unwrap();
        assert_eq!(
            (read(0), read(8), read(16) as u32),
            (entry.base, entry.len, entry.kind as u32)
        );
        next = if n + 1 == map.len() { 0 } else { n as u32 + 1 };
        let expected = Regs {
            eax: 0x534d_4150,
            ebx: next,
            ecx: 20,
            carry: false,
            ..asked
        };
        assert_eq!(told, expected);
    }
    assert!(map.iter().any(|entry| entry.kind == MapKind::Reserved));
    for wrong in [
        Regs {
            ebx: map.len() as u32,
            ecx: 20,
            edx: 0x534d_4150,
            ..ax(0xe820)
        },
        Regs {
            ebx: 0x1_0000,
            ecx: 20,
            edx: 0x534d_4150,
            ..ax(0xe820)
        },
        Regs {
            ecx: 19,
            edx: 0x534d_4150,
            ..ax(0xe820)
        },
        Regs {
            ecx: 20,
            edx: 0x534d_4151,
            ..ax(0xe820)
        },
    ] {
        let told = rig.call(0x15, wrong);
        assert_eq!((told.carry, told.eax >> 8), (true, 0x86), "{wrong:x?}");
    }
    let told = rig.call(0x15, ax(0xe801));
    let words = [told.eax, told.ebx, told.ecx, told.edx].map(|word| word & 0xffff);
    assert_eq!(words, [15 << 10, 256, 15 << 10, 256]);
    assert_eq!(
        u64::from(rig.call(0x15, ax(0x8800)).eax & 0xffff),
        FREE_END / 1024 - 1024
    );
    assert_eq!(rig.call(0x12, ax(0)).eax, 640);
    assert_eq!(rig.call(0x11, ax(0)).eax, 0x222);
}

#[test]
fn a20_is_opened_closed_and_told() {
    let mut rig = Rig::new();
    for (function, a20, answer) in [
        (0x2401, 2, 1),
        (0x2402, 2, 1),
        (0x2400, 0, 0),
        (0x2402, 0, 0),
        (0x2403, 0, 3),
    ] {
        let told = rig.call(0x15, ax(function));
        assert_eq!(
            (rig.a20, told.carry, told.eax >> 8),
            (a20, false, 0),
            "{function:x}"
        );
        assert_eq!(told.eax & 0xff, answer, "{function:x}");
    }
    assert_eq!(rig.call(0x15, ax(0x2403)).ebx, 2);
    assert!(rig.call(0x15, ax(0x2404)).carry);
}

#[test]
fn a_wait_lasts_what_it_says_and_sleeps_through_most_of_it() {
    let mut rig = Rig::new();
    for (micros, halts) in [
        (0u32, 0),
        (100, 0),
        (50_000, 0),
        (1_000_000, 18),
        (30_000_000, 546),
    ] {
        let (before, slept) = (rig.now, rig.halts);
        let told = rig.call(
            0x15,
            Regs {
                ecx: micros >> 16,
                edx: micros & 0xffff,
                ..ax(0x8600)
            },
        );
        assert!(!told.carry);
        let took = rig.now.since(before) / 1000;
        assert!(
            (u64::from(micros)..u64::from(micros) + 100).contains(&took),
            "{micros} us took {took}"
        );
        assert_eq!(rig.halts - slept, halts, "{micros}");
    }
}

#[test]
fn who_waits_without_timer_interrupts_is_not_left_asleep() {
    let mut rig = Rig::new();
    // mov al, 0ffh; out 21h, al; hlt
    rig.start(&[0xb0, 0xff, 0xe6, 0x21, 0xf4], Regs::default());
    rig.run(0x605);
    let before = rig.now;
    let wait = Regs {
        ecx: 1,
        edx: 0,
        ..ax(0x8600)
    };
    rig.call(0x15, wait);
    assert!(rig.now.since(before) >= 65_536_000);
    assert_eq!(rig.halts, 0);
}

#[test]
fn the_configuration_table_says_what_there_is() {
    let mut rig = Rig::new();
    let told = rig.call(0x15, ax(0xc000));
    assert_eq!((told.carry, told.es), (false, 0xf000));
    let mut table = [0; 6];
    rig.memory
        .read(0xf_0000 + u64::from(told.ebx & 0xffff), &mut table)
        .unwrap();
    assert_eq!(table, [8, 0, 0xfc, 0, 0, 0x60]);
}

#[test]
fn pci_functions_are_found_and_their_registers_reached() {
    let mut rig = Rig::new();
    let present = rig.call(0x1a, ax(0xb101));
    assert_eq!(
        (present.carry, present.edx, present.eax & 0xffff),
        (false, 0x2049_4350, 1)
    );
    assert_eq!((present.ebx & 0xffff, present.ecx & 0xff), (0x0210, 0));
    let find = |rig: &mut Rig, device: u32, vendor: u32, index: u32| {
        let told = rig.call(
            0x1a,
            Regs {
                ecx: device,
                edx: vendor,
                esi: index,
                ..ax(0xb102)
            },
        );
        (told.eax >> 8 & 0xff, told.ebx & 0xffff)
    };
    assert_eq!(find(&mut rig, 0x1237, 0x8086, 0), (0, 0x00));
    assert_eq!(find(&mut rig, 0x7000, 0x8086, 0), (0, 0x08));
    assert_eq!(find(&mut rig, 0x7113, 0x8086, 0), (0, 0x0b));
    assert_eq!(find(&mut rig, 0x7113, 0x8086, 1).0, 0x86);
    assert_eq!(find(&mut rig, 0x7113, 0x8086, 0x100).0, 0x86);
    assert_eq!(find(&mut rig, 0x7113, 0xffff, 0).0, 0x83);
    let class = |rig: &mut Rig, class: u32| {
        let told = rig.call(
            0x1a,
            Regs {
                ecx: class,
                ..ax(0xb103)
            },
        );
        (told.eax >> 8 & 0xff, told.ebx & 0xffff)
    };
    assert_eq!(class(&mut rig, 0x06_0100), (0, 0x08));
    assert_eq!(
        class(&mut rig, 0xff_ffff).0,
        0x86,
        "who is not there has no class"
    );
    let register = |rig: &mut Rig, function: u32, register: u32, value: u32| {
        let told = rig.call(
            0x1a,
            Regs {
                ebx: 0x08,
                ecx: value,
                edi: register,
                ..ax(function)
            },
        );
        (told.eax >> 8 & 0xff, told.ecx)
    };
    assert_eq!(register(&mut rig, 0xb10a, 0, 0), (0, 0x7000_8086));
    assert_eq!(register(&mut rig, 0xb109, 2, 0xaaaa_0000), (0, 0xaaaa_7000));
    assert_eq!(register(&mut rig, 0xb108, 0x60, 0xffff_ff00), (0, 0xffff_ff0a));
    assert_eq!(register(&mut rig, 0xb10b, 0x61, 0x05), (0, 0x05));
    assert_eq!(register(&mut rig, 0xb10c, 0x62, 0x8007), (0, 0x8007));
    assert_eq!(register(&mut rig, 0xb10a, 0x60, 0), (0, 0x8007_050a));
    assert_eq!(register(&mut rig, 0xb10d, 0x60, 0x0b0a_0b0a), (0, 0x0b0a_0b0a));
    assert_eq!(register(&mut rig, 0xb10a, 0x60, 0), (0, 0x0b0a_0b0a));
    for (function, wrong) in [
        (0xb109, 1),
        (0xb10a, 2),
        (0xb10d, 0x61),
        (0xb108, 0x100),
        (0xb10c, 0xffff),
    ] {
        assert_eq!(
            register(&mut rig, function, wrong, 7),
            (0x87, 7),
            "{function:x} {wrong:x}"
        );
    }
    for function in [0xb100, 0xb106, 0xb107, 0xb10e, 0xb1ff] {
        let told = rig.call(0x1a, ax(function));
        assert_eq!((told.carry, told.eax >> 8 & 0xff), (true, 0x81), "{function:x}");
    }
}

#[test]
fn what_is_not_there_says_so_and_changes_nothing_else() {
    let mut rig = Rig::new();
    for (interrupt, function, status) in [
        (0x13, 0x00, 0x01),
        (0x13, 0x02, 0x01),
        (0x13, 0x08, 0x01),
        (0x13, 0x15, 0x01),
        (0x13, 0x41, 0x01),
        (0x13, 0x4b, 0x01),
        (0x15, 0x41, 0x86),
        (0x15, 0x53, 0x86),
        (0x15, 0x87, 0x86),
        (0x15, 0xec, 0x86),
        (0x1a, 0x80, 0x86),
    ] {
        let (asked, told) = changes(&mut rig, interrupt, |regs| regs.eax |= function << 8);
        let eax = asked.eax & 0xffff_00ff | status << 8;
        assert_eq!(
            told,
            Regs {
                eax,
                carry: true,
                ..asked
            },
            "INT {interrupt:x} AH={function:x}"
        );
    }
    for (interrupt, function) in [
        (0x10, 0x12),
        (0x10, 0x1a),
        (0x10, 0x4f),
        (0x16, 0x92),
        (0x05, 0),
        (0x1c, 0),
        (0x60, 0),
    ] {
        let (asked, told) = changes(&mut rig, interrupt, |regs| regs.eax |= function << 8);
        assert_eq!(told.eax, asked.eax, "INT {interrupt:x} AH={function:x}");
        assert_eq!((told.ebx, told.ecx, told.edx), (asked.ebx, asked.ecx, asked.edx));
    }
    assert_eq!(rig.text(), "");
}

#[test]
fn the_end_of_the_boot_program_is_said_and_powers_off() {
    for interrupt in [0x18, 0x19] {
        let mut rig = Rig::new();
        rig.start(&[0xcd, interrupt, 0xf4], Regs::default());
        assert!(rig.run_to_its_end() && rig.off);
        assert_eq!(
            rig.text(),
            "\r\nBIOS: the boot program has ended and there is nothing else to boot; powering off\r\n"
        );
    }
}

#[test]
fn a_jump_to_the_reset_vector_resets() {
    let mut rig = Rig::new();
    rig.start(&[0xea, 0xf0, 0xff, 0x00, 0xf0], Regs::default());
    assert!(rig.run_to_its_end() && rig.reset);
}

#[test]
fn a_fault_nobody_handles_is_named_and_ends_the_machine() {
    for (code, text) in [
        (
            &[0x0f, 0x0b][..],
            "\r\nBIOS: undefined instruction in real mode that the program does not handle, at 0000:0600\r\n",
        ),
        (
            &[0x31, 0xdb, 0xf7, 0xf3],
            "\r\nBIOS: division error in real mode that the program does not handle, at 0000:0602\r\n",
        ),
    ] {
        let mut rig = Rig::new();
        rig.start(code, Regs::default());
        assert!(rig.run_to_its_end() && !rig.off && !rig.reset);
        assert_eq!(rig.text(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a caller passes, every service comes back to it with its stack and segments.
    #[test]
    fn every_service_returns_whatever_it_is_given(
        calls in prop::collection::vec(
            (
                prop::sample::select(vec![0x10u8, 0x11, 0x12, 0x13, 0x15, 0x16, 0x1a]),
                prop_oneof![0u8..0x20, any::<u8>(), Just(0xb1), Just(0xe8)],
                any::<[u32; 7]>(),
            ),
            1..20,
        ),
    ) {
        let mut rig = Rig::new();
        for (interrupt, function, [eax, ebx, ecx, edx, esi, edi, ebp]) in calls {
            if (interrupt, function) == (0x15, 0x86) {
                continue;
            }
            rig.typed.extend(b"key");
            let eax = eax & !0xff00 | u32::from(function) << 8;
            rig.call(interrupt, Regs { eax, ebx, ecx, edx, esi, edi, ebp, es: 0x5000, carry: false, zero: true });
        }
    }
}
