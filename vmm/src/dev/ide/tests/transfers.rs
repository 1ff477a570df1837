//! Sectors in both directions, by every command that moves some.

use super::*;

/// Reads blocks of so many sectors as a driver does, an interrupt for each.
fn fetch(bench: &mut Bench, sectors: usize, block: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < sectors * SECTOR {
        bench.settle();
        assert!(bench.irq(), "after {} bytes", seen.len());
        assert_eq!(bench.inb(STATUS), DRQ);
        assert!(!bench.irq());
        let left = sectors - seen.len() / SECTOR;
        seen.extend(bench.read_words(block.min(left) * SECTOR / 2));
    }
    assert_eq!(bench.status(), IDLE);
    assert!(
        !bench.irq(),
        "the last word ends the command, without an interrupt"
    );
    seen
}

/// Writes blocks of so many sectors as a driver does.
fn store(bench: &mut Bench, data: &[u8], block: usize) {
    for (n, piece) in data.chunks(block * SECTOR).enumerate() {
        bench.settle();
        assert_eq!(bench.irq(), n > 0, "the first block is not announced");
        assert_eq!(bench.inb(STATUS), DRQ);
        bench.write_words(piece);
    }
    assert_eq!(bench.status(), BSY, "until vmapp has them");
    assert!(!bench.irq());
    bench.settle();
    assert!(bench.irq());
    assert_eq!(bench.inb(STATUS), IDLE);
}

#[test]
fn every_read_through_the_data_register_brings_its_sectors() {
    for (opcode, ext, count, block) in [
        (0x20, false, 1, 1),
        (0x21, false, 3, 1),
        (0x20, false, 256, 1),
        (0xc4, false, 40, 16),
        (0x24, true, 100, 1),
        (0x29, true, 300, 16),
    ] {
        for request in [SMALL, LARGE] {
            let mut bench = Bench::with([Some(4096), None, None, None], request, false);
            if ext {
                bench.command_ext(opcode, 1000, count);
            } else {
                bench.command(opcode, 1000, count as u8);
            }
            assert_eq!(bench.status(), BSY);
            let seen = fetch(&mut bench, count.into(), block);
            assert!(
                seen == patterns(1000..1000 + u64::from(count)),
                "{opcode:#x} {count}"
            );
            assert_eq!(bench.counted(VmmCounter::DiskSectors), u64::from(count));
            assert!(!bench.ide.any_pending());
        }
    }
}

#[test]
fn every_write_through_the_data_register_stores_its_sectors() {
    for (opcode, ext, count, block) in [
        (0x30, false, 1, 1),
        (0x31, false, 7, 1),
        (0x30, false, 256, 1),
        (0xc5, false, 40, 16),
        (0x34, true, 100, 1),
        (0x39, true, 300, 16),
    ] {
        let mut bench = Bench::new();
        if ext {
            bench.command_ext(opcode, 100, count);
        } else {
            bench.command(opcode, 100, count as u8);
        }
        let data = patterns(7000..7000 + u64::from(count));
        store(&mut bench, &data, block);
        let image = &bench.host(0).image;
        assert!(image[100 * SECTOR..][..data.len()] == data, "{opcode:#x} {count}");
        assert_eq!(image[99 * SECTOR..100 * SECTOR], pattern(99));
        let after = 100 + usize::from(count);
        assert_eq!(image[after * SECTOR..][..SECTOR], pattern(after as u64));
    }
}

#[test]
fn the_data_register_takes_every_width() {
    let mut bench = Bench::new();
    bench.command(0x20, 9, 1);
    bench.settle();
    let expected = pattern(9);
    let mut seen = Vec::new();
    while seen.len() < SECTOR {
        let Access::Done(value) = bench.ide.port_read(NOW, PRIMARY, Width::Dword) else {
            panic!("refused");
        };
        seen.extend(value.to_le_bytes());
    }
    assert_eq!(seen, expected);
    bench.command(0x20, 9, 1);
    bench.settle();
    let bytes: Vec<u8> = (0..256).map(|_| bench.inb(DATA)).collect();
    assert!(bytes.iter().eq(expected.iter().step_by(2)));
    assert_eq!(bench.status(), IDLE);
    bench.command(0x30, 9, 1);
    for dword in pattern(700).chunks_exact(4) {
        let value = u32::from_le_bytes(dword.try_into().unwrap());
        let done = bench.ide.port_write(NOW, PRIMARY, Width::Dword, value);
        assert_eq!(done, Access::Done(()));
    }
    bench.settle();
    assert_eq!(bench.host(0).image[9 * SECTOR..10 * SECTOR], pattern(700));
}

#[test]
fn cylinders_heads_and_sectors_find_their_place() {
    let mut bench = Bench::new();
    // 4 cylinders of 16 heads of 63 sectors.
    for (cylinder, head, sector, lba) in [(0u16, 0, 1, 0u64), (1, 2, 3, 1008 + 126 + 2), (3, 15, 63, 4031)] {
        let [mid, high] = cylinder.to_le_bytes();
        for (register, value) in [
            (COUNT, 1),
            (LOW, sector),
            (MID, mid),
            (HIGH, high),
            (DEVICE, 0xa0 | head),
            (STATUS, 0x20),
        ] {
            bench.out(register, value);
        }
        assert_eq!(fetch(&mut bench, 1, 1), pattern(lba));
    }
    for (cylinder, head, sector) in [(4, 0, 1), (0, 0, 0), (0, 0, 64)] {
        for (register, value) in [(LOW, sector), (MID, cylinder), (HIGH, 0), (DEVICE, 0xa0 | head)] {
            bench.out(register, value);
        }
        bench.out(STATUS, 0x20);
        assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, 0x10));
    }
}

#[test]
fn a_dma_read_lands_in_its_regions_and_then_interrupts() {
    for (opcode, ext, count) in [(0xc8, false, 256), (0xc9, false, 3), (0x25, true, 1000)] {
        for request in [SMALL, LARGE] {
            let mut bench = Bench::with([Some(4096), None, None, None], request, false);
            let bytes = u32::from(count) * SECTOR as u32;
            // Uneven pieces, out of order.
            let mut table = vec![(BUFFER + 0x20_0000, 2), (BUFFER + 0x20_0010, 510)];
            let mut at = 512;
            while at < bytes {
                let len = (bytes - at).min(0x1_0000);
                table.push((BUFFER + at, len & 0xffff));
                at += len;
            }
            table.last_mut().unwrap().1 |= END_OF_TABLE;
            bench.table(&table);
            bench.aim(true);
            if ext {
                bench.command_ext(opcode, 77, count);
            } else {
                bench.command(opcode, 77, count as u8);
            }
            bench.start(true);
            assert_eq!((bench.status(), bench.master_status()), (BSY, 1));
            bench.settle();
            assert!(bench.irq());
            assert_eq!(bench.master_status(), 4, "done, exactly at the table's end");
            assert_eq!(bench.inb(STATUS), IDLE);
            bench.stop();
            let mut seen = bench.guest_bytes(BUFFER + 0x20_0000, 2);
            seen.extend(bench.guest_bytes(BUFFER + 0x20_0010, 510));
            seen.extend(bench.guest_bytes(BUFFER + 512, bytes as usize - 512));
            assert!(seen == patterns(77..77 + u64::from(count)), "{opcode:#x}");
        }
    }
}

#[test]
fn a_dma_write_is_gathered_from_its_regions() {
    for (opcode, ext, count) in [(0xca, false, 256u16), (0xcb, false, 3), (0x35, true, 1000)] {
        for request in [SMALL, LARGE] {
            let mut bench = Bench::with([Some(4096), None, None, None], request, false);
            let data = patterns(5000..5000 + u64::from(count));
            bench.memory.write(BUFFER.into(), &data).unwrap();
            let mut table = vec![(BUFFER, 6)];
            let mut at = 6;
            while at < data.len() as u32 {
                let len = (data.len() as u32 - at).min(0xfffe);
                table.push((BUFFER + at, len));
                at += len;
            }
            table.last_mut().unwrap().1 |= END_OF_TABLE;
            bench.table(&table);
            bench.aim(false);
            if ext {
                bench.command_ext(opcode, 77, count);
            } else {
                bench.command(opcode, 77, count as u8);
            }
            assert_eq!(bench.counted(VmmCounter::DiskWrites), 0);
            bench.start(false);
            bench.settle();
            assert_eq!((bench.master_status(), bench.inb(STATUS)), (4, IDLE));
            assert!(bench.host(0).image[77 * SECTOR..][..data.len()] == data);
            assert_eq!(bench.counted(VmmCounter::DiskFlushes), 0, "the write cache is on");
        }
    }
}

#[test]
fn a_long_command_keeps_the_ring_full() {
    let mut bench = Bench::with([Some(4096), None, None, None], LARGE, false);
    bench.command_ext(0x25, 0, 1024);
    assert_eq!(bench.counted(VmmCounter::DiskReads), u64::from(SLOTS));
    bench.table(&[(BUFFER, 0), (BUFFER + 0x1_0000, END_OF_TABLE)]);
    bench.aim(true);
    bench.start(true);
    assert!(bench.host(0).serve());
    bench.look();
    assert_eq!(bench.counted(VmmCounter::DiskReads), u64::from(SLOTS) + 1);
    // 65536 sectors are 512 requests, and the bound of them all.
    let mut bench = Bench::with([Some(1 << 20), None, None, None], LARGE, false);
    bench.command_ext(0x42, 0, 0);
    assert_eq!(bench.counted(VmmCounter::DiskReads), u64::from(SLOTS));
    for n in 0..512 {
        let asked = bench.host(0).take().unwrap();
        assert_eq!((asked.request.lba, asked.request.sectors), (n * 128, 128));
        let data = vec![0; 128 * SECTOR];
        bench
            .host(0)
            .answer(asked.header.id, HostStatus::Good, 128, &data);
        bench.look();
    }
    assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
    assert_eq!(bench.counted(VmmCounter::DiskSectors), 65_536);
}

#[test]
fn verify_reads_on_the_host_and_moves_nothing() {
    for ext in [false, true] {
        let mut bench = Bench::new();
        if ext {
            bench.command_ext(0x42, 3, 50);
        } else {
            bench.command(0x40, 3, 50);
        }
        assert_eq!(bench.status(), BSY);
        bench.settle();
        assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
        assert_eq!(bench.counted(VmmCounter::DiskSectors), 50);
    }
}

#[test]
fn a_flush_is_over_only_when_vmapp_says_so() {
    for opcode in [0xe7, 0xea] {
        let mut bench = Bench::new();
        bench.command(opcode, 0, 0);
        let asked = bench.host(0).take().unwrap();
        assert_eq!(asked.what, Down::Flush);
        for _ in 0..3 {
            bench.look();
            assert_eq!((bench.status(), bench.irq()), (BSY, false));
        }
        bench.host(0).answer(asked.header.id, HostStatus::Good, 0, &[]);
        bench.look();
        assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
        assert_eq!(bench.counted(VmmCounter::DiskFlushes), 1);
    }
}

#[test]
fn without_a_write_cache_a_write_ends_with_a_flush() {
    let mut bench = Bench::new();
    bench.out(ERROR, 0x82);
    bench.command(0xef, 0, 0);
    assert_eq!(bench.status(), BSY, "turning it off is a flush, too");
    bench.settle();
    bench.host(0).log.clear();
    bench.command(0xc5, 8, 20);
    let data = patterns(6000..6020);
    bench.write_words(&data[..16 * SECTOR]);
    assert_eq!(bench.inb(STATUS), DRQ);
    bench.write_words(&data[16 * SECTOR..]);
    while bench.host(0).log.len() < 2 {
        assert!(bench.host(0).serve());
        bench.look();
    }
    assert_eq!(
        (bench.status(), bench.irq()),
        (BSY, false),
        "written, not flushed"
    );
    assert!(bench.host(0).serve());
    bench.look();
    assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
    let expected = [(Down::Write, 8, 16), (Down::Write, 24, 4), (Down::Flush, 0, 0)];
    assert_eq!(bench.host(0).log, expected);
}

#[test]
fn both_channels_work_at_a_time() {
    let mut bench = Bench::with([Some(4096), None, Some(4096), Some(100)], SMALL, false);
    bench.command(0x20, 1, 1);
    for (register, value) in [
        (COUNT, 1),
        (LOW, 2),
        (MID, 0),
        (HIGH, 0),
        (DEVICE, 0xf0),
        (STATUS, 0x20),
    ] {
        bench.port_out(0x170 + register, value);
    }
    assert_eq!((bench.status(), bench.port_in(0x376)), (BSY, BSY));
    assert!(bench.host(3).serve());
    bench.look();
    assert_eq!((bench.status(), bench.port_in(0x376)), (BSY, DRQ));
    assert!(bench.wires.level(15) && !bench.irq());
    bench.settle();
    assert!(bench.irq());
    assert_eq!(bench.read_words(256), pattern(1));
}

#[test]
fn a_read_only_disk_refuses_every_write_before_any_data() {
    let mut bench = Bench::with([Some(4096), None, None, None], SMALL, true);
    for opcode in [0x30, 0xc5, 0xca] {
        bench.command(opcode, 44, 2);
        assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, 0x44), "{opcode:#x}");
        assert_eq!(bench.address(false), 44);
    }
    for opcode in [0x34, 0x39, 0x35] {
        bench.command_ext(opcode, 44, 2);
        assert_eq!((bench.inb(STATUS), bench.inb(ERROR)), (ERR, 0x44), "{opcode:#x}");
    }
    assert_eq!(bench.counted(VmmCounter::DiskWrites), 0);
    assert_eq!(bench.counted(VmmCounter::DiskErrors), 6);
    bench.command(0x20, 44, 1);
    assert_eq!(fetch(&mut bench, 1, 1), pattern(44));
}
