//! What the registers say, command by command, against ATA/ATAPI-6.

use super::*;
use crate::bus::Resettable;
use crate::dev::ide::geometry::Geometry;
use proptest::prelude::*;

/// IDENTIFY DEVICE of the device selected by `device`, as words.
fn identify(bench: &mut Bench, device: u8) -> Vec<u16> {
    bench.out(DEVICE, device);
    bench.out(STATUS, 0xec);
    assert_eq!(bench.status(), DRQ);
    let bytes = bench.read_words(256);
    assert_eq!(bench.status(), IDLE);
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    assert_eq!(sum, 0, "integrity word");
    bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

fn words_text(words: &[u16]) -> String {
    words
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .map(char::from)
        .collect()
}

#[test]
fn the_signature_of_an_ata_disk_stands_after_power_on_reset_and_diagnostics() {
    type Cause = fn(&mut Bench);
    let causes: [(&str, Cause); 4] = [
        ("power-on", |_| {}),
        ("software reset", |bench| {
            bench.port_out(CONTROL, 4);
            assert_eq!(bench.status(), BSY);
            bench.port_out(CONTROL, 0);
        }),
        ("machine reset", |bench| bench.ide.reset()),
        ("diagnostics", |bench| bench.out(STATUS, 0x90)),
    ];
    for (name, cause) in causes {
        let mut bench = Bench::with([Some(100), Some(200), None, None], SMALL, false);
        if name != "power-on" {
            bench.command(0x40, 99, 77);
            bench.settle();
            bench.out(DEVICE, 0xf3);
        }
        cause(&mut bench);
        assert_eq!(bench.irq(), name == "diagnostics", "{name}");
        for device in [0xa0, 0xb0] {
            bench.out(DEVICE, device);
            let seen = [COUNT, LOW, MID, HIGH, ERROR, STATUS].map(|register| bench.inb(register));
            assert_eq!(seen, [1, 1, 0, 0, 1, IDLE], "{name} {device:#x}");
        }
    }
}

#[test]
fn identify_device_says_what_libata_asks_for() {
    let mut bench = Bench::with([Some(5_000_000_000), Some(4096), None, None], LARGE, false);
    let words = identify(&mut bench, 0xa0);
    let capacity = 16_383 * 16 * 63;
    let expected = [
        (0, 0x0040),
        (1, 16_383),
        (3, 16),
        (6, 63),
        (47, 0x8010),
        (49, 0x2f00),
        (53, 7),
        (54, 16_383),
        (55, 16),
        (56, 63),
        (57, capacity as u16),
        (58, (capacity >> 16) as u16),
        (59, 0x0110),
        (60, 0xffff),
        (61, 0x0fff),
        (63, 0x0007),
        (64, 0x0003),
        (65, 120),
        (68, 120),
        (80, 0x0078),
        (82, 0x4068),
        (83, 0x7400),
        (84, 0x4000),
        (85, 0x4068),
        (86, 0x3400),
        (87, 0x4000),
        (88, 0x003f),
        (93, 0x600b),
        (100, 5_000_000_000u64 as u16),
        (101, (5_000_000_000u64 >> 16) as u16),
        (102, 1),
        (103, 0),
    ];
    for (at, value) in expected {
        assert_eq!(words[at], value, "word {at}");
    }
    assert_eq!(words_text(&words[10..20]), "WS1                 ");
    assert_eq!(words_text(&words[23..27]), "1.0     ");
    assert_eq!(words_text(&words[27..47]), format!("{:40}", "WORLDSWITCH DISK"));
    // libata: an 80-conductor cable, by either device.
    let second = identify(&mut bench, 0xb0);
    assert_eq!((words[93] & 0xe000, second[93]), (0x6000, 0x6b00));
    assert_eq!((second[60], second[61], second[100]), (4096, 0, 4096));
}

#[test]
fn identify_device_follows_what_was_set() {
    let mut bench = Bench::new();
    type Case = (&'static str, u8, u8, u8, usize, u16);
    let cases: [Case; 8] = [
        ("multiword 2", 0xef, 0x03, 0x22, 63, 0x0407),
        ("ultra 5", 0xef, 0x03, 0x45, 88, 0x203f),
        ("and no multiword", 0xef, 0x03, 0x45, 63, 0x0007),
        ("look-ahead off", 0xef, 0x55, 0, 85, 0x4028),
        ("look-ahead on", 0xef, 0xaa, 0, 85, 0x4068),
        ("multiple 4", 0xc6, 0, 4, 59, 0x0104),
        ("multiple off", 0xc6, 0, 0, 59, 0x0000),
        ("write cache off", 0xef, 0x82, 0, 85, 0x4048),
    ];
    for (name, opcode, features, count, word, value) in cases {
        bench.out(ERROR, features);
        bench.command(opcode, 0, count);
        bench.settle();
        assert_eq!(bench.inb(STATUS), IDLE, "{name}");
        assert_eq!(identify(&mut bench, 0xa0)[word], value, "{name}");
    }
    // 8 heads, 32 sectors.
    bench.out(COUNT, 32);
    bench.out(DEVICE, 0xa7);
    bench.out(STATUS, 0x91);
    assert_eq!(bench.inb(STATUS), IDLE);
    let words = identify(&mut bench, 0xa0);
    assert_eq!(words[54..59], [16, 8, 32, 4096, 0]);
    assert_eq!((words[1], words[3], words[6]), (4, 16, 63), "the default stays");
    bench.ide.reset();
    let words = identify(&mut bench, 0xa0);
    assert_eq!(
        (words[54], words[59], words[63], words[85], words[88]),
        (4, 0x0110, 7, 0x4068, 0x3f)
    );
}

#[test]
fn commands_without_data_end_at_once_as_the_standard_says() {
    // Opcode, features, count, address; status and error.
    type Case = (u8, u8, u8, u32, u8, u8);
    let cases: &[Case] = &[
        (0x00, 0, 0, 0, ERR, 4),     // NOP
        (0x08, 0, 0, 0, ERR, 4),     // DEVICE RESET: packet devices
        (0x10, 0, 0, 0, IDLE, 0),    // RECALIBRATE
        (0x70, 0, 0, 4095, IDLE, 0), // SEEK
        (0x70, 0, 0, 4096, ERR, 0x10),
        (0xa1, 0, 0, 0, ERR, 4), // IDENTIFY PACKET DEVICE
        (0x91, 0, 63, 0, IDLE, 0),
        (0x91, 0, 0, 0, ERR, 4),
        (0xc6, 0, 16, 0, IDLE, 0),
        (0xc6, 0, 3, 0, ERR, 4),
        (0xc6, 0, 32, 0, ERR, 4),
        (0xe1, 0, 0, 0, IDLE, 0),
        (0xe3, 0, 9, 0, IDLE, 0),
        (0x95, 0, 0, 0, IDLE, 0),
        (0xef, 0x02, 0, 0, IDLE, 0),
        (0xef, 0x03, 0x00, 0, IDLE, 0),
        (0xef, 0x03, 0x0c, 0, IDLE, 0),
        (0xef, 0x03, 0x0d, 0, ERR, 4),
        (0xef, 0x03, 0x23, 0, ERR, 4),
        (0xef, 0x03, 0x46, 0, ERR, 4),
        (0xef, 0x66, 0, 0, IDLE, 0),
        (0xef, 0xcc, 0, 0, ERR, 4),
        (0xff, 0, 0, 0, ERR, 4),
        (0xb0, 0xd0, 0, 0, ERR, 4), // SMART
        (0x3d, 0, 1, 0, ERR, 4),    // WRITE DMA FUA EXT
    ];
    let mut bench = Bench::new();
    for &(opcode, features, count, lba, status, error) in cases {
        bench.out(ERROR, features);
        bench.command(opcode, lba, count);
        let name = format!("{opcode:#x} {features:#x} {count:#x} {lba}");
        assert!(bench.irq(), "{name}");
        assert_eq!(bench.status(), status, "{name}");
        assert!(bench.irq(), "{name}: Alternate Status leaves the interrupt");
        assert_eq!(bench.inb(ERROR), error, "{name}");
        assert_eq!(bench.inb(STATUS), status, "{name}");
        assert!(!bench.irq(), "{name}");
    }
    assert_eq!(bench.counted(VmmCounter::DiskReads), 0);
}

#[test]
fn power_modes_are_told_and_sleep_hears_only_a_reset() {
    let mut bench = Bench::new();
    let power = |bench: &mut Bench| {
        bench.command(0xe5, 0, 0x33);
        assert_eq!(bench.inb(STATUS), IDLE);
        bench.inb(COUNT)
    };
    assert_eq!(power(&mut bench), 0xff);
    bench.command(0xe0, 0, 0);
    assert_eq!(bench.status(), BSY, "first what was written goes to the medium");
    bench.settle();
    assert_eq!(bench.host(0).log, [(Down::Flush, 0, 0)]);
    assert_eq!(bench.inb(STATUS), IDLE);
    assert_eq!(power(&mut bench), 0x00);
    bench.command(0x40, 0, 1);
    bench.settle();
    assert_eq!(power(&mut bench), 0xff);
    bench.command(0xe6, 0, 0);
    bench.settle();
    assert_eq!(bench.inb(STATUS), IDLE);
    bench.command(0xec, 0, 0);
    assert_eq!(bench.status(), IDLE);
    assert!(!bench.irq());
    bench.port_out(CONTROL, 4);
    bench.port_out(CONTROL, 0);
    assert_eq!(power(&mut bench), 0xff);
}

#[test]
fn the_last_address_is_told_in_both_widths() {
    for (sectors, short, ext) in [
        (4096, 4095, 4095),
        (1 << 28, 0x0fff_ffff, 0x0fff_ffff),
        (1 << 48, 0x0fff_ffff, (1 << 48) - 1),
        (1, 0, 0),
    ] {
        let mut bench = Bench::with([Some(sectors), None, None, None], SMALL, false);
        bench.command(0xf8, 0, 0);
        assert_eq!(bench.address(false), short, "{sectors}");
        bench.command_ext(0x27, 0, 0);
        assert_eq!(bench.address(true), ext, "{sectors}");
    }
}

#[test]
fn registers_are_two_deep_and_a_write_ends_the_look_at_the_older() {
    let mut bench = Bench::new();
    for register in [COUNT, LOW, MID, HIGH] {
        bench.out(register, 0x11);
        bench.out(register, 0x22);
        assert_eq!(bench.inb(register), 0x22);
        bench.port_out(CONTROL, 0x80);
        assert_eq!(bench.inb(register), 0x11);
        bench.out(ERROR, 0);
        assert_eq!(bench.inb(register), 0x22);
    }
}

#[test]
fn who_is_not_there_floats_or_is_answered_for() {
    let registers = [ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS];
    let mut empty = Bench::with([None, None, Some(100), None], SMALL, false);
    for device in [0xa0, 0xb0] {
        empty.out(DEVICE, device);
        empty.out(COUNT, 0x55);
        empty.out(STATUS, 0xec);
        for register in registers {
            assert_eq!(empty.inb(register), 0x7f);
        }
        assert_eq!(empty.status(), 0x7f, "BSY is pulled down");
        assert_eq!(empty.read_words(1), [0xff, 0xff]);
    }
    assert_eq!(empty.port_in(0x177), IDLE, "the other channel is another");

    let mut single = Bench::new();
    single.out(DEVICE, 0xb0);
    single.out(COUNT, 0x55);
    assert_eq!((single.inb(STATUS), single.status()), (0, 0));
    assert_eq!(single.inb(COUNT), 0x55, "device 0's register");
    single.out(STATUS, 0xec);
    assert_eq!((single.status(), single.irq()), (0, false));

    let mut second = Bench::with([None, Some(100), None, None], SMALL, false);
    assert_eq!(second.inb(STATUS), 0x7f);
    second.out(DEVICE, 0xb0);
    assert_eq!(second.inb(STATUS), IDLE);
}

#[test]
fn the_interrupt_is_the_selected_devices_and_nien_lets_go_of_the_wire() {
    let mut bench = Bench::with([Some(100), Some(100), None, None], SMALL, false);
    bench.port_out(CONTROL, 2);
    bench.command(0x10, 0, 0);
    assert!(!bench.irq());
    assert_eq!(bench.master_status() & 4, 0);
    bench.port_out(CONTROL, 0);
    assert!(bench.irq(), "it was pending");
    assert_eq!(bench.master_status() & 4, 4);
    bench.out(DEVICE, 0xb0);
    assert!(!bench.irq());
    assert_eq!(bench.inb(STATUS), IDLE);
    bench.out(DEVICE, 0xa0);
    assert!(bench.irq(), "the other's status did not end it");
    bench.out(STATUS, 0x10);
    assert!(bench.irq());
    assert_eq!(bench.inb(STATUS), IDLE);
    assert!(!bench.irq());
}

#[test]
fn while_a_command_runs_the_registers_are_the_devices() {
    let mut bench = Bench::with([Some(100), Some(100), None, None], SMALL, false);
    bench.command(0x20, 5, 1);
    bench.out(LOW, 77);
    bench.out(DEVICE, 0xf0);
    bench.out(STATUS, 0x30);
    assert_eq!(bench.status(), BSY);
    assert_eq!((bench.inb(LOW), bench.inb(DEVICE)), (5, 0xe0));
    bench.settle();
    assert_eq!(bench.read_words(256), pattern(5));
    assert_eq!(bench.host(0).log, [(Down::Read, 5, 1)]);
}

#[test]
fn wide_accesses_of_byte_registers_are_byte_accesses() {
    let mut bench = Bench::new();
    let done = bench
        .ide
        .port_write(NOW, PRIMARY + COUNT, Width::Dword, 0x0302_0155);
    assert_eq!(done, Access::Done(()));
    assert_eq!([COUNT, LOW, MID, HIGH].map(|r| bench.inb(r)), [0x55, 1, 2, 3]);
    assert_eq!(
        bench.ide.port_read(NOW, PRIMARY + COUNT, Width::Word),
        Access::Done(0x0155)
    );
    assert_eq!(bench.ide.port_read(NOW, CONTROL, Width::Word), Access::Bad);
    assert_eq!(bench.ide.port_read(NOW, 0x1ef, Width::Byte), Access::Bad);
}

#[test]
fn no_geometry_reaches_beyond_the_disk() {
    for sectors in (1..3000).chain([16_514_064, 16_514_065, 1 << 48]) {
        let geometry = Geometry::native(sectors);
        assert!(
            u64::from(geometry.capacity()) <= sectors,
            "{sectors}: {geometry:?}"
        );
        assert!(geometry.capacity() > 0);
    }
    assert_eq!(Geometry::translated(100, 16, 63), None, "not one cylinder");
    assert_eq!(Geometry::translated(100, 1, 0), None);
}

proptest! {
    #[test]
    fn places_and_addresses_are_each_others_inverse(sectors in 1u64..20_000_000, at in any::<u32>()) {
        let geometry = Geometry::native(sectors);
        let lba = u64::from(at % geometry.capacity());
        let (cylinder, head, sector) = geometry.place(lba);
        prop_assert_eq!(geometry.lba(cylinder, head, sector), Some(lba));
        prop_assert_eq!(geometry.lba(cylinder, head, 0), None);
        prop_assert_eq!(geometry.lba(geometry.cylinders, 0, 1), None);
        prop_assert_eq!(geometry.lba(0, geometry.heads, 1), None);
        prop_assert_eq!(geometry.lba(0, 0, geometry.per_track + 1), None);
    }
}
