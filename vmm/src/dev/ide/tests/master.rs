//! The bus master against the 82371SB data sheet.

use super::*;

const ACTIVE: u32 = 1;
const MASTER_ERROR: u32 = 2;
const INTERRUPT: u32 = 4;

#[test]
fn registers_keep_what_the_data_sheet_says() {
    let mut bench = Bench::new();
    for base in [0, 8] {
        bench.master_out(base + 4, Width::Dword, 0x1234_5677);
        assert_eq!(bench.master_in(base + 4, Width::Dword), 0x1234_5674);
        bench.master_out(base + 5, Width::Byte, 0xab);
        bench.master_out(base + 6, Width::Word, 0xfedc);
        assert_eq!(bench.master_in(base + 4, Width::Dword), 0xfedc_ab74);
        assert_eq!(bench.master_in(base + 7, Width::Byte), 0xfe);
        bench.master_out(base + 2, Width::Byte, 0xff);
        assert_eq!(
            bench.master_in(base + 2, Width::Byte),
            0x60,
            "not simplex; the rest is read only"
        );
        bench.master_out(base, Width::Byte, 0xf8);
        assert_eq!(bench.master_in(base, Width::Dword), 0x60_0008);
        assert_eq!(bench.ide.bus_master_read(base + 6, Width::Dword), Access::Bad);
    }
    assert_eq!(bench.ide.bus_master_read(16, Width::Byte), Access::Bad);
    assert_eq!(
        bench.ide.bus_master_write(NOW, u16::MAX, Width::Dword, 0),
        Access::Bad
    );
}

#[test]
fn interrupt_and_error_are_cleared_by_ones() {
    let mut bench = Bench::new();
    bench.command(0x10, 0, 0);
    assert_eq!(bench.master_status(), INTERRUPT, "any edge of the wire");
    bench.master_out(2, Width::Byte, 0);
    assert_eq!(bench.master_status(), INTERRUPT);
    bench.master_out(2, Width::Byte, 4);
    assert_eq!(bench.master_status(), 0);
    assert!(bench.irq(), "the wire is the device's");
}

#[test]
fn a_stop_forgets_the_place_in_the_table_and_the_direction_holds_while_active() {
    let mut bench = Bench::new();
    bench.table(&[(BUFFER, 0x2000), (BUFFER + 0x2000, 0x2000 | END_OF_TABLE)]);
    bench.aim(true);
    bench.command(0xc8, 0, 32);
    bench.start(true);
    bench.master_out(0, Width::Byte, 1);
    assert_eq!(bench.master_in(0, Width::Byte), 9);
    assert!(bench.host(0).serve());
    bench.look();
    assert_eq!(bench.master_status(), ACTIVE);
    bench.stop();
    assert_eq!((bench.master_status(), bench.status()), (0, BSY));
    bench.settle();
    assert_eq!(
        (bench.status(), bench.irq()),
        (BSY, false),
        "nothing moves a stopped master's data"
    );
    bench.start(true);
    assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
    assert_eq!(
        bench.master_status(),
        INTERRUPT | ACTIVE,
        "half of the table is left"
    );
    assert!(bench.guest_bytes(BUFFER, 0x2000) == patterns(16..32));
}

#[test]
fn a_table_longer_than_the_transfer_leaves_the_master_active() {
    for to_memory in [true, false] {
        let mut bench = Bench::new();
        bench.table(&[(BUFFER, END_OF_TABLE)]);
        bench.aim(to_memory);
        bench.command(if to_memory { 0xc8 } else { 0xca }, 0, 1);
        bench.start(to_memory);
        bench.settle();
        assert_eq!(bench.master_status(), INTERRUPT | ACTIVE);
        assert_eq!(bench.inb(STATUS), IDLE);
        bench.stop();
        assert_eq!(bench.master_status(), INTERRUPT);
    }
}

#[test]
fn a_table_shorter_than_the_transfer_ends_without_interrupt_and_another_goes_on() {
    for to_memory in [true, false] {
        let mut bench = Bench::new();
        bench.memory.write(BUFFER.into(), &patterns(900..902)).unwrap();
        bench.table(&[(BUFFER, 600 | END_OF_TABLE)]);
        bench.aim(to_memory);
        bench.command(if to_memory { 0xc8 } else { 0xca }, 40, 2);
        bench.start(to_memory);
        bench.settle();
        assert_eq!(bench.master_status(), 0);
        assert_eq!((bench.status(), bench.irq()), (BSY, false));
        bench.stop();
        bench.table(&[(BUFFER + 600, 424 | END_OF_TABLE)]);
        bench.start(to_memory);
        bench.settle();
        assert_eq!((bench.master_status(), bench.inb(STATUS)), (INTERRUPT, IDLE));
        if to_memory {
            assert!(bench.guest_bytes(BUFFER, 1024) == patterns(40..42));
        } else {
            assert!(bench.host(0).image[40 * SECTOR..42 * SECTOR] == patterns(900..902));
        }
    }
}

#[test]
fn data_that_come_before_the_start_wait_in_the_ring() {
    let mut bench = Bench::new();
    bench.table(&[(BUFFER, 512 | END_OF_TABLE)]);
    bench.aim(true);
    bench.command(0xc8, 3, 1);
    bench.settle();
    assert_eq!((bench.status(), bench.irq()), (BSY, false));
    assert_eq!(bench.guest_bytes(BUFFER, 4), [0; 4]);
    bench.start(true);
    assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
    assert_eq!(bench.guest_bytes(BUFFER, SECTOR), pattern(3));
}

#[test]
fn nothing_moves_without_the_right_to_master_or_against_the_direction() {
    let mut bench = Bench::new();
    bench.table(&[(BUFFER, 512 | END_OF_TABLE)]);
    bench.aim(true);
    bench.ide.set_bus_master(false);
    bench.command(0xc8, 3, 1);
    bench.start(true);
    bench.settle();
    assert_eq!(
        (bench.status(), bench.master_status(), bench.irq()),
        (BSY, ACTIVE, false)
    );
    bench.ide.set_bus_master(true);
    bench.settle();
    assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
    bench.stop();

    bench.start(true);
    bench.command(0xca, 3, 1);
    bench.settle();
    assert_eq!((bench.status(), bench.counted(VmmCounter::DiskWrites)), (BSY, 0));
}

#[test]
fn a_region_may_be_64_kib_and_cross_a_boundary_of_it() {
    let mut bench = Bench::with([Some(4096), None, None, None], LARGE, false);
    bench.table(&[(BUFFER + 0x8000, END_OF_TABLE)]);
    bench.aim(true);
    bench.command(0xc8, 0, 128);
    bench.start(true);
    bench.settle();
    assert_eq!((bench.master_status(), bench.inb(STATUS)), (INTERRUPT, IDLE));
    assert!(bench.guest_bytes(BUFFER + 0x8000, 0x1_0000) == patterns(0..128));
}

#[test]
fn a_bus_error_stops_the_master_and_a_software_reset_recovers_the_drive() {
    for to_memory in [true, false] {
        let mut bench = Bench::new();
        bench.table(&[(BUFFER, 512), (0xfee0_0000, 512 | END_OF_TABLE)]);
        bench.aim(to_memory);
        bench.command(if to_memory { 0xc8 } else { 0xca }, 0, 2);
        bench.start(to_memory);
        bench.settle();
        assert_eq!(bench.master_status(), MASTER_ERROR, "not active, no interrupt");
        assert_eq!((bench.status(), bench.irq()), (BSY, false));
        assert_eq!(bench.counted(VmmCounter::DiskWrites), 0, "half a request is none");
        bench.stop();
        bench.master_out(2, Width::Byte, 2);
        assert_eq!(bench.master_status(), 0);
        bench.port_out(CONTROL, 4);
        bench.port_out(CONTROL, 0);
        bench.command(0x20, 8, 1);
        bench.settle();
        assert_eq!(bench.read_words(256), pattern(8));
    }
}
