//! One test for each row of the list of bug classes that applies, named after it.

use super::*;
use crate::bus::Resettable;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn fill(bench: &Bench, at: u32, len: usize, byte: u8) {
    bench.memory.write(at.into(), &vec![byte; len]).unwrap();
}

#[test]
fn row_6_commands_before_any_set_up_huge_counts_and_a_reset_in_mid_dma() {
    let mut bench = Bench::with([Some(1 << 48), None, None, None], LARGE, false);
    bench.ide.set_bus_master(false);
    for opcode in 0..=255 {
        bench.out(STATUS, opcode);
        bench.port_out(CONTROL, 4);
        bench.port_out(CONTROL, 0);
        bench.ide.reset();
    }
    bench.ide.set_bus_master(true);
    for (lba, count) in [((1 << 48) - 1, 0), ((1 << 48) - 65_536, 0), (0xffff_ffff_ffff, 1)] {
        bench.command_ext(0x25, lba, count);
        bench.start(true);
        bench.ide.reset();
        assert_eq!(bench.status(), IDLE);
        assert_eq!(bench.master_status(), 0);
    }
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
}

#[test]
fn row_7_a_descriptor_is_read_once() {
    let mut bench = Bench::new();
    bench.table(&[(BUFFER, 0x4000 | END_OF_TABLE)]);
    bench.aim(true);
    bench.command(0xc8, 0, 32);
    bench.start(true);
    assert!(bench.host(0).serve());
    bench.look();
    // In the middle of its region: the guest aims it elsewhere, makes it longer, and then impossible.
    bench.table(&[(BUFFER + 0x10_0000, END_OF_TABLE)]);
    assert!(bench.host(0).serve());
    bench.look();
    assert_eq!((bench.master_status(), bench.inb(STATUS)), (4, IDLE));
    assert!(bench.guest_bytes(BUFFER, 0x4000) == patterns(0..32));
    assert_eq!(bench.guest_bytes(BUFFER + 0x10_0000, 512), [0; 512]);
}

#[test]
fn row_7_descriptors_rewritten_by_another_thread_never_move_data_past_either_version() {
    let mut bench = Bench::new();
    let stop = AtomicBool::new(false);
    let memory = Arc::clone(&bench.memory);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One region short and low, one long and high: a mix of base and count would be seen between them.
            let versions = [
                [BUFFER, 0x200 | END_OF_TABLE],
                [BUFFER + 0x8_0000, 0x4000 | END_OF_TABLE],
            ];
            let mut n = 0;
            while !stop.load(Relaxed) {
                memory.write_obj(TABLE.into(), &versions[n % 2]).unwrap();
                n += 1;
            }
        });
        for _ in 0..200 {
            bench.aim(true);
            bench.command(0xc8, 0, 32);
            bench.start(true);
            bench.settle();
            bench.stop();
            bench.port_out(CONTROL, 4);
            bench.port_out(CONTROL, 0);
            bench.settle();
        }
        stop.store(true, Relaxed);
    });
    for (at, len) in [
        (BUFFER - 512, 512),
        (BUFFER + 0x4000, 512),
        (BUFFER + 0x8_4000, 512),
    ] {
        assert_eq!(bench.guest_bytes(at, len), vec![0; len], "{at:#x}");
    }
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
}

#[test]
fn row_10_descriptors_aimed_at_device_registers_reach_none() {
    for to_memory in [true, false] {
        for target in [
            0xa_0000,
            0xb_fffe,
            0xfec0_0000,
            0xfee0_0020,
            0xe000_0000,
            MEMORY as u32,
            u32::MAX,
        ] {
            for (at, descriptors) in [(target, &[][..]), (TABLE, &[(target, 512 | END_OF_TABLE)][..])] {
                let mut bench = Bench::new();
                bench.table(descriptors);
                bench.aim(to_memory);
                bench.master_out(4, Width::Dword, at);
                bench.command(if to_memory { 0xc8 } else { 0xca }, 0, 1);
                bench.start(to_memory);
                bench.settle();
                assert_eq!(bench.master_status(), 2, "{target:#x}");
                assert_eq!((bench.status(), bench.irq()), (BSY, false), "{target:#x}");
                assert_eq!(bench.counted(VmmCounter::DiskWrites), 0, "{target:#x}");
            }
        }
    }
}

#[test]
fn row_10_a_table_that_is_overwritten_by_what_it_describes_is_followed_as_it_then_stands() {
    let mut bench = Bench::new();
    // The first sector lands on the second descriptor, which becomes one for registers.
    let mut sector = [0; SECTOR];
    sector[..8].copy_from_slice(&[0, 0, 0xe0, 0xfe, 0, 2, 0, 0x80]);
    bench.host(0).image[..SECTOR].copy_from_slice(&sector);
    bench.table(&[(TABLE + 8, 512), (BUFFER, 512 | END_OF_TABLE)]);
    bench.aim(true);
    bench.command(0xc8, 0, 2);
    bench.start(true);
    bench.settle();
    assert_eq!(bench.master_status(), 2);
    assert_eq!(bench.guest_bytes(BUFFER, 8), [0; 8]);
}

#[test]
fn row_11_a_reset_or_stop_with_requests_in_flight_drops_what_comes_late() {
    type End = fn(&mut Bench);
    let ends: [(&str, End); 3] = [
        ("software reset", |bench| {
            bench.port_out(CONTROL, 4);
            bench.port_out(CONTROL, 0);
        }),
        ("machine reset", |bench| {
            bench.ide.reset();
            bench.ide.set_bus_master(true);
        }),
        ("stop, then software reset", |bench| {
            bench.stop();
            bench.look();
            bench.port_out(CONTROL, 4);
            bench.port_out(CONTROL, 0);
        }),
    ];
    for (name, end) in ends {
        for taken in 0..4 {
            let mut bench = Bench::new();
            fill(&bench, BUFFER, 0x1_0000, 0xcc);
            bench.table(&[(BUFFER, END_OF_TABLE)]);
            bench.aim(true);
            bench.command(0xc8, 0, 64);
            bench.start(true);
            let asked: Vec<_> = (0..taken).map(|_| bench.host(0).take().unwrap()).collect();
            end(&mut bench);
            for asked in &asked {
                bench.host(0).fulfil(asked);
            }
            bench.settle();
            assert!(!bench.irq(), "{name}");
            assert_eq!(bench.inb(STATUS), IDLE, "{name}");
            assert_eq!(
                bench.guest_bytes(BUFFER, 0x1_0000),
                vec![0xcc; 0x1_0000],
                "{name}"
            );
            bench.aim(true);
            bench.command(0xc8, 200, 16);
            bench.start(true);
            bench.settle();
            assert!(bench.guest_bytes(BUFFER, 0x2000) == patterns(200..216), "{name}");
            assert_eq!(bench.counted(VmmCounter::PeerErrors), 0, "{name}");
            assert!(!bench.ide.any_pending(), "{name}");
        }
    }
}

#[test]
fn row_12_an_endless_table_of_tiny_regions_ends_in_a_bus_error() {
    let mut bench = Bench::new();
    // No end of table anywhere: 8192 descriptors of two bytes each, and more behind them.
    let table: Vec<_> = (0..9000).map(|n| (BUFFER + 2 * n, 2)).collect();
    bench.table(&table);
    bench.aim(true);
    bench.command(0xc8, 0, 0);
    bench.start(true);
    bench.settle();
    assert_eq!(bench.master_status(), 2);
    let moved = 2 * 8192;
    assert!(bench.guest_bytes(BUFFER, moved) == patterns(0..32));
    assert_eq!(bench.guest_bytes(BUFFER + moved as u32, 512), [0; 512]);
}

#[test]
fn row_12_a_command_gives_the_vcpu_its_turns_while_vmapp_keeps_pace() {
    // Eight answers are there at a look: more than a turn's worth of steps.
    let mut bench = Bench::with_rings([Some(4096), None, None, None], SMALL, false, 8);
    bench.command_ext(0x42, 0, 4096);
    let mut turns = 0;
    while bench.status() == BSY {
        while bench.host(0).serve() {}
        bench.ide.pull(1, NOW);
        turns += 1;
        let at = bench.ide.deadline();
        assert!(
            bench.status() != BSY || at.is_some_and(|at| at > NOW),
            "turn {turns}"
        );
        bench.ide.advance(NOW.after(1_000_000));
    }
    assert_eq!((turns, bench.inb(STATUS)), (4096 / 16 / 8, IDLE));
}

#[test]
fn row_13_a_table_that_leaves_memory_at_any_descriptor_is_an_error_there_and_nothing_uninitialised_moves() {
    for whole in 0..6u32 {
        let mut bench = Bench::new();
        let at = MEMORY as u32 - 8 * whole;
        for n in 0..whole {
            bench
                .memory
                .write_obj(u64::from(at + 8 * n), &[BUFFER + 0x200 * n, 0x200])
                .unwrap();
        }
        for to_memory in [true, false] {
            bench.aim(to_memory);
            bench.master_out(4, Width::Dword, at);
            bench.command(if to_memory { 0xc8 } else { 0xca }, 0, 16);
            bench.start(to_memory);
            bench.settle();
            assert_eq!(bench.master_status(), 2, "{whole}");
            bench.stop();
            bench.port_out(CONTROL, 4);
            bench.port_out(CONTROL, 0);
        }
        assert!(bench.guest_bytes(BUFFER, (whole * 0x200) as usize) == patterns(0..whole.into()));
        assert_eq!(bench.guest_bytes(BUFFER + whole * 0x200, 512), [0; 512]);
        assert_eq!(bench.counted(VmmCounter::DiskWrites), 0);
    }
}

#[test]
fn row_14_short_data_of_the_host_show_no_byte_of_anything_else() {
    for bytes in [0, 1, 511, 512, 1023] {
        let mut bench = Bench::new();
        // What went through the buffers before must not be seen again.
        bench.command(0x30, 0, 2);
        bench.write_words(&[0x5e; SECTOR]);
        assert_eq!(bench.inb(STATUS), DRQ);
        bench.write_words(&[0x5e; SECTOR]);
        bench.settle();
        fill(&bench, BUFFER, 1024, 0xcc);
        bench.table(&[(BUFFER, 1024 | END_OF_TABLE)]);
        bench.aim(true);
        bench.command(0xc8, 10, 2);
        bench.start(true);
        let asked = bench.host(0).take().unwrap();
        let data = vec![0x11; bytes];
        bench.host(0).answer(asked.header.id, HostStatus::Good, 2, &data);
        bench.settle();
        assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, 0x40), "{bytes}");
        assert_eq!(bench.guest_bytes(BUFFER, 1024), [0xcc; 1024], "{bytes}");
        assert_eq!(bench.read_words(256), [0xff; SECTOR], "{bytes}");
    }
}

#[test]
fn row_17_sectors_at_the_edges_of_the_disk() {
    const SIZE: u64 = 4096;
    // 28 bits: address, count as written, whether it is all on the disk.
    for (lba, count, inside) in [
        (4095, 1, true),
        (4095, 2, false),
        (4096, 1, false),
        (3840, 0, true),
        (3841, 0, false),
        (0x0fff_ffff, 1, false),
        (0x0fff_ffff, 0, false),
    ] {
        for opcode in [0x20, 0x30, 0x40, 0xc4, 0xc5, 0xc8, 0xca] {
            let mut bench = Bench::new();
            bench.command(opcode, lba, count);
            let refused = bench.status() == ERR;
            assert_eq!(refused, !inside, "{opcode:#x} {lba} {count}");
            if refused {
                assert_eq!((bench.inb(ERROR), bench.irq()), (0x10, true));
            }
            while let Some(asked) = bench.host(0).take() {
                assert!(asked.request.lba + u64::from(asked.request.sectors) <= SIZE);
            }
        }
    }
    for (lba, count, inside) in [
        (4095, 1, true),
        (4096, 1, false),
        (0, 4096, true),
        (0, 4097, false),
        (0, 0, false),
        (0xffff_ffff_ffff, 1, false),
        (0xffff_ffff_ffff, 0, false),
    ] {
        for opcode in [0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x42] {
            let mut bench = Bench::new();
            bench.command_ext(opcode, lba, count);
            assert_eq!(bench.status() != ERR, inside, "{opcode:#x} {lba} {count}");
        }
    }
    let mut bench = Bench::with([Some(1 << 48), None, None, None], SMALL, false);
    bench.command_ext(0x25, (1 << 48) - 1, 1);
    assert_eq!(bench.status(), BSY);
    assert_eq!(bench.host(0).take().unwrap().request.lba, (1 << 48) - 1);
}

#[test]
fn row_18_full_rings_and_interrupted_commands_never_leave_the_disk_deaf() {
    let mut bench = Bench::with([Some(4096), Some(4096), None, None], SMALL, false);
    for round in 0..300u32 {
        bench.table(&[(BUFFER, END_OF_TABLE)]);
        bench.aim(true);
        bench.command(0xc8, round, 100);
        bench.start(true);
        // Some of it is done, some answered and not looked at, and the driver loses patience.
        for _ in 0..round % 7 {
            bench.host(0).serve();
        }
        if round % 3 == 0 {
            bench.look();
        }
        bench.stop();
        bench.port_out(CONTROL, 4);
        bench.port_out(CONTROL, 0);
        if round % 2 == 0 {
            bench.settle();
        }
        bench.aim(true);
        bench.command(0xc8, round, 16);
        bench.start(true);
        bench.settle();
        assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE), "round {round}");
        let first = u64::from(round);
        assert!(bench.guest_bytes(BUFFER, 0x2000) == patterns(first..first + 16));
        bench.stop();
    }
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
}

#[test]
fn row_18_room_that_comes_after_every_answer_was_seen_wakes_the_disk() {
    let mut bench = Bench::new();
    bench.command(0x20, 0, 0);
    let slots: Vec<_> = (0..SLOTS).map(|_| bench.host(0).take().unwrap()).collect();
    bench.port_out(CONTROL, 4);
    bench.port_out(CONTROL, 0);
    for asked in &slots {
        let data = vec![0; asked.request.sectors as usize * SECTOR];
        bench
            .host(0)
            .answer_raw(Up::Done as u16, asked.header.id, 0, asked.request.sectors, &data);
    }
    bench.look();
    bench.command(0x20, 9, 1);
    assert!(bench.host(0).take().is_none(), "the slots are not given back yet");
    bench.look();
    bench.host(0).channel.release(SLOTS).unwrap();
    bench.look();
    bench.settle();
    assert_eq!(bench.inb(STATUS), DRQ);
    assert_eq!(bench.read_words(256), pattern(9));
}

#[test]
fn row_20_the_data_register_moves_nothing_past_its_block() {
    let mut bench = Bench::new();
    bench.command(0xec, 0, 0);
    let first = bench.read_words(256);
    assert_eq!(bench.status(), IDLE);
    assert_eq!(bench.read_words(1000), [0xff; 2000]);
    bench.write_words(&[0xaa; 4096]);
    bench.command(0xec, 0, 0);
    bench.write_words(&[0xaa; 4096]);
    assert_eq!(bench.read_words(256), first, "a block to be read is not written");
    bench.command(0x30, 7, 1);
    assert_eq!(bench.read_words(4), [0xff; 8], "nor one to be written read");
    bench.write_words(&[[0x77; SECTOR], [0x99; SECTOR]].concat());
    bench.settle();
    assert_eq!(bench.host(0).image[7 * SECTOR..8 * SECTOR], [0x77; SECTOR]);
    assert_eq!(bench.host(0).image[8 * SECTOR..9 * SECTOR], pattern(8));
    // While vmapp is busy there is no block, either.
    bench.command(0x20, 7, 1);
    assert_eq!(bench.read_words(4), [0xff; 8]);
    bench.settle();
    assert_eq!(bench.read_words(256), [0x77; SECTOR]);
}
