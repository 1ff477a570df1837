//! What vmapp answers: errors of the host, nonsense, nothing, too late, twice.

use super::*;
use shared::abi::RingOffsets;
use shared::mem::Memory;

const UNC: u8 = 0x40;
const IDNF: u8 = 0x10;
const ABRT: u8 = 0x04;

/// A started DMA read into [`BUFFER`], with room for all of it.
fn dma_read(bench: &mut Bench, lba: u32, count: u8) {
    bench.table(&[(BUFFER, END_OF_TABLE)]);
    bench.aim(true);
    bench.command(0xc8, lba, count);
    bench.start(true);
}

#[test]
fn a_medium_error_is_told_with_its_sector_and_all_before_it_is_there() {
    for good in [0, 5, 15] {
        let mut bench = Bench::new();
        dma_read(&mut bench, 100, 60);
        assert!(bench.host(0).serve());
        bench.host(0).fail(HostStatus::Medium, good);
        bench.settle();
        assert!(bench.irq());
        assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, UNC));
        let lba = 116 + u64::from(good);
        assert_eq!(bench.address(false), lba);
        let len = (lba - 100) as usize * SECTOR;
        assert!(bench.guest_bytes(BUFFER, len) == patterns(100..lba));
        assert_eq!(bench.guest_bytes(BUFFER + len as u32, SECTOR), [0; SECTOR]);
        assert_eq!(bench.counted(VmmCounter::DiskErrors), 1);
        assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
    }
}

#[test]
fn errors_have_their_bits_and_addresses() {
    use HostStatus::{Medium, ReadOnly, Refused};
    // Opcode; whether data must be written first; what vmapp says; Error register; whether the address is told.
    type Case = (u8, bool, HostStatus, u8, bool);
    let cases: [Case; 11] = [
        (0x20, false, Medium, UNC, true),
        (0x24, false, Medium, UNC, true),
        (0x40, false, Medium, UNC, true),
        (0x42, false, Refused, IDNF, true),
        (0xc4, false, Refused, IDNF, true),
        (0x30, true, Medium, IDNF, true),
        (0x34, true, Medium, IDNF, true),
        (0x30, true, ReadOnly, 0x44, true),
        (0xc5, true, Refused, IDNF, true),
        (0xe7, false, Medium, ABRT, false),
        (0xea, false, Refused, ABRT, false),
    ];
    for (opcode, write, status, error, told) in cases {
        let mut bench = Bench::new();
        let ext = [0x24, 0x34, 0x42].contains(&opcode);
        if ext {
            bench.command_ext(opcode, 300, 1);
        } else {
            bench.command(opcode, 300, 1);
        }
        if write {
            bench.write_words(&pattern(0));
        }
        bench.host(0).fail(status, 0);
        bench.settle();
        let name = format!("{opcode:#x} {status:?}");
        assert!(bench.irq(), "{name}");
        assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, error), "{name}");
        if told {
            assert_eq!(bench.address(ext), 300, "{name}");
        }
        assert_eq!(bench.counted(VmmCounter::DiskErrors), 1, "{name}");
        bench.command(0x20, 1, 1);
        bench.settle();
        assert_eq!(
            bench.inb(STATUS),
            DRQ,
            "{name}: the next command is none the worse"
        );
    }
}

#[test]
fn an_error_in_cylinders_and_a_long_address_is_told_in_kind() {
    let mut bench = Bench::new();
    for (register, value) in [
        (COUNT, 8),
        (LOW, 60),
        (MID, 1),
        (HIGH, 0),
        (DEVICE, 0xa2),
        (STATUS, 0x20),
    ] {
        bench.out(register, value);
    }
    // Cylinder 1, head 2, sector 60 and four more: head 3, sector 1.
    bench.host(0).fail(HostStatus::Medium, 4);
    bench.settle();
    for _ in 0..4 {
        assert_eq!(bench.inb(STATUS), DRQ);
        bench.read_words(256);
        bench.settle();
    }
    assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, UNC));
    let place = [LOW, MID, HIGH, DEVICE].map(|register| bench.inb(register));
    assert_eq!(place, [1, 1, 0, 0xa3]);

    let mut bench = Bench::with([Some(1 << 48), None, None, None], SMALL, false);
    bench.command_ext(0x42, 0xa1b2_c3d4_e5f0, 32);
    let first = bench.host(0).take().unwrap();
    assert_eq!(first.request.lba, 0xa1b2_c3d4_e5f0);
    let data = vec![0; 16 * SECTOR];
    bench.host(0).answer(first.header.id, HostStatus::Good, 16, &data);
    bench.host(0).fail(HostStatus::Medium, 0);
    bench.look();
    assert_eq!(bench.inb(STATUS), ERR);
    assert_eq!(bench.address(true), 0xa1b2_c3d4_e600);
}

#[test]
fn a_write_that_fails_in_the_middle_names_its_sector_and_no_flush_covers_it_up() {
    let mut bench = Bench::new();
    bench.out(ERROR, 0x82);
    bench.command(0xef, 0, 0);
    bench.settle();
    bench.table(&[(BUFFER, END_OF_TABLE)]);
    bench.aim(false);
    bench.command(0xca, 50, 40);
    bench.start(false);
    assert!(bench.host(0).serve());
    bench.host(0).fail(HostStatus::Medium, 7);
    bench.settle();
    assert_eq!(
        (bench.irq(), bench.inb(STATUS), bench.inb(ERROR)),
        (true, ERR, IDNF)
    );
    assert_eq!(bench.address(false), 50 + 16 + 7);
    // The flush fails instead.
    bench.command(0x30, 60, 1);
    bench.write_words(&pattern(1));
    assert!(bench.host(0).serve());
    bench.look();
    bench.host(0).fail(HostStatus::Medium, 0);
    bench.settle();
    assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, IDNF));
    assert_eq!(bench.address(false), 60);
}

#[test]
fn nonsense_is_counted_and_ends_the_command_or_is_ignored() {
    const DONE: u16 = Up::Done as u16;
    // What is sent for the request with id 1 of two sectors: kind, id, status, sectors, bytes of data; and
    // whether the command ends.
    type Case = (&'static str, u16, u64, u32, u32, usize, bool);
    let cases: [Case; 12] = [
        ("an unknown kind", 9, 1, 0, 2, 1024, false),
        ("an id never used", DONE, 77, 0, 2, 1024, false),
        ("id 0", DONE, 0, 0, 2, 1024, false),
        ("the next id", DONE, 2, 0, 2, 1024, false),
        ("too little data", DONE, 1, 0, 2, 1023, true),
        ("no data", DONE, 1, 0, 2, 0, true),
        ("too much data", DONE, 1, 0, 2, 1536, true),
        ("too many sectors", DONE, 1, 0, 3, 1536, true),
        ("too few sectors", DONE, 1, 0, 1, 512, true),
        ("a failure of no sector", DONE, 1, 1, 2, 0, true),
        ("a failure beyond the end", DONE, 1, 1, u32::MAX, 0, true),
        ("a failure with data", DONE, 1, 1, 0, 512, true),
    ];
    for (name, kind, id, status, sectors, bytes, ends) in cases {
        let mut bench = Bench::new();
        bench.command(0x20, 100, 2);
        let asked = bench.host(0).take().unwrap();
        assert_eq!(asked.header.id, 1);
        let data = vec![0xee; bytes];
        bench.host(0).answer_raw(kind, id, status, sectors, &data);
        bench.look();
        assert_eq!(bench.counted(VmmCounter::PeerErrors), 1, "{name}");
        if ends {
            assert_eq!((bench.irq(), bench.status()), (true, ERR), "{name}");
            assert_eq!((bench.inb(ERROR), bench.address(false)), (UNC, 100), "{name}");
        } else {
            assert_eq!((bench.irq(), bench.status()), (false, BSY), "{name}");
            bench.host(0).fulfil(&asked);
            bench.settle();
            assert_eq!(bench.read_words(256), pattern(100), "{name}");
        }
    }
}

#[test]
fn a_status_nobody_knows_is_a_medium_error() {
    let mut bench = Bench::new();
    bench.command(0x20, 100, 2);
    bench.host(0).take().unwrap();
    bench.host(0).answer_raw(Up::Done as u16, 1, 0xdead, 0, &[]);
    bench.look();
    assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, UNC));
}

#[test]
fn an_answer_out_of_order_costs_the_one_passed_over() {
    let mut bench = Bench::new();
    dma_read(&mut bench, 100, 48);
    let first = bench.host(0).take().unwrap();
    assert!(bench.host(0).serve());
    bench.look();
    assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, UNC));
    assert_eq!(bench.address(false), 100);
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 1);
    assert_eq!(bench.guest_bytes(BUFFER, SECTOR), [0; SECTOR]);
    bench.host(0).fulfil(&first);
    bench.settle();
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 1, "late, not wrong");
    assert_eq!(bench.guest_bytes(BUFFER, SECTOR), [0; SECTOR]);
}

#[test]
fn a_slot_of_impossible_length_ends_the_command() {
    let mut bench = Bench::new();
    bench.command(0x20, 100, 1);
    let asked = bench.host(0).take().unwrap();
    let ring = bench._shared.layout().channels()[1].up;
    bench.host(0).fulfil(&asked);
    // The first field of the slot's header.
    bench
        ._shared
        .mem()
        .write(ring.slot_at(0), &u32::MAX.to_le_bytes());
    bench.look();
    assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, UNC));
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 1);
    // A head that jumps is counted, and nothing is read.
    bench.command(0x20, 100, 1);
    let head = ring.at + RingOffsets::HEAD;
    let memory = bench._shared.mem();
    memory.store_u32(head, 4000, std::sync::atomic::Ordering::Relaxed);
    bench.ide.pull(1, NOW);
    assert_eq!(bench.status(), BSY);
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 2);
}

#[test]
fn a_silent_vmapp_is_a_busy_disk_until_the_driver_resets_it_and_answers_come_again() {
    let mut bench = Bench::new();
    dma_read(&mut bench, 0, 200);
    for _ in 0..3 {
        bench.look();
        assert_eq!((bench.status(), bench.irq()), (BSY, false));
    }
    for attempt in 0..20 {
        bench.stop();
        bench.port_out(CONTROL, 4);
        bench.port_out(CONTROL, 0);
        assert_eq!(bench.inb(STATUS), IDLE, "attempt {attempt}");
        bench.command(0x20, 100 + attempt, 1);
        assert_eq!(bench.status(), BSY, "attempt {attempt}");
    }
    assert!(bench.ide.any_pending());
    assert_eq!(
        bench.counted(VmmCounter::DiskReads),
        u64::from(SLOTS),
        "the ring holds no more"
    );
    bench.settle();
    assert!(bench.irq());
    assert_eq!(bench.read_words(256), pattern(119));
    assert_eq!(
        bench.guest_bytes(BUFFER, SECTOR),
        [0; SECTOR],
        "nothing late got there"
    );
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
    assert!(!bench.ide.any_pending());
}

#[test]
fn a_reset_clears_away_answers_nobody_looked_at() {
    let mut bench = Bench::new();
    bench.command(0x20, 0, 0);
    // The first is being read by the guest, and the ring is full of the next.
    bench.settle();
    assert_eq!(bench.status(), DRQ);
    assert!(!bench.host(0).serve());
    bench.port_out(CONTROL, 4);
    bench.port_out(CONTROL, 0);
    bench.settle();
    assert!(!bench.ide.any_pending());
}

#[test]
fn a_new_worker_that_answers_again_is_not_misunderstood() {
    let mut bench = Bench::new();
    bench.command(0x30, 5, 1);
    bench.write_words(&pattern(500));
    let asked = bench.host(0).take().unwrap();
    // It died between answering and giving back.
    bench.host(0).answer_raw(Up::Done as u16, 1, 0, 1, &[]);
    bench.look();
    assert_eq!(bench.inb(STATUS), IDLE);
    bench.command(0x20, 6, 1);
    let next = bench.host(0).take().unwrap();
    bench.host(0).fulfil(&asked);
    bench.look();
    assert_eq!((bench.status(), bench.irq()), (BSY, false));
    bench.host(0).fulfil(&next);
    bench.look();
    assert_eq!(bench.read_words(256), pattern(6));
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
}

#[test]
fn a_failing_host_that_never_gets_further_is_asked_a_bounded_number_of_times() {
    let mut bench = Bench::new();
    dma_read(&mut bench, 0, 16);
    let mut asked = 0;
    while bench.status() == BSY {
        let request = bench.host(0).take().unwrap().request;
        let id = asked + 1;
        bench
            .host(0)
            .answer(id, HostStatus::Medium, request.sectors - 1, &[]);
        bench.look();
        asked += 1;
    }
    assert_eq!(asked, 16);
    assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, UNC));
    assert_eq!(bench.address(false), 0);
}
