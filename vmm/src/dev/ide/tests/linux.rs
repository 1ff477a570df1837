//! What Linux does with the function, written out: `ata_piix` finds it, libata resets, identifies and sets up the disks,
//! and reads, writes and flushes with them.
//!
//! Source: Linux 6.1, drivers/ata/ata_piix.c and libata-sff.c, by function name.

use super::*;
use crate::bus::Signals;
use crate::dev::chipset::pci::{PciBus, chipset};

/// ATA_DEVCTL_OBS, ATA_NIEN, ATA_SRST.
const CTL: u8 = 0x08;
const NIEN: u8 = 0x02;
const SRST: u8 = 0x04;

/// Configuration space by mechanism 1.
struct Config(PciBus);

impl Config {
    fn select(&mut self, register: u8) -> u16 {
        let (devfn, register) = (1u32 << 3 | 1, u32::from(register));
        let address = 1 << 31 | devfn << 8 | register & 0xfc;
        let done = self.0.port_write(NOW, 0xcf8, Width::Dword, address);
        assert_eq!(done, Access::Done(()));
        0xcfc + (register & 3) as u16
    }

    fn read(&mut self, register: u8, width: Width) -> u32 {
        let port = self.select(register);
        match self.0.port_read(NOW, port, width) {
            Access::Done(value) => value,
            other => panic!("{register:#x}: {other:?}"),
        }
    }

    fn write(&mut self, register: u8, width: Width, value: u32) {
        let port = self.select(register);
        let done = self.0.port_write(NOW, port, width, value);
        assert_eq!(done, Access::Done(()));
    }
}

#[test]
fn ata_piix_finds_the_function_and_turns_it_on() {
    let mut bus = PciBus::new(&Wires::default(), Signals::default()).unwrap();
    bus.plug(chipset::IDE, Ide::config_space()).unwrap();
    let mut config = Config(bus);
    assert_eq!(config.read(0x00, Width::Dword), 0x7010_8086);
    assert_eq!(config.read(0x08, Width::Dword) >> 8, 0x01_0180);
    assert_eq!(config.read(0x3d, Width::Byte), 0, "legacy interrupts, no pin");
    // piix_pata_prereset: piix_enable_bits.
    for enable in [0x41, 0x43] {
        assert_eq!(config.read(enable, Width::Byte) & 0x80, 0x80);
    }
    // pci_read_bases: only base address register 4, sixteen ports.
    for bar in [0x10, 0x14, 0x18, 0x1c, 0x24] {
        config.write(bar, Width::Dword, u32::MAX);
        assert_eq!(config.read(bar, Width::Dword), 0);
    }
    let before = config.read(0x20, Width::Dword);
    config.write(0x20, Width::Dword, u32::MAX);
    assert_eq!(config.read(0x20, Width::Dword), 0xffff_fff1);
    config.write(0x20, Width::Dword, before);
    assert_eq!(before, 0xffa1);
    // pci_enable_device, pci_set_master.
    config.write(0x04, Width::Word, 0x0005);
    let moved = config.0.take_moved();
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].devfn, chipset::IDE);
    assert!(moved[0].decode.bus_master);
    let window = moved[0].decode.windows[Ide::BAR].unwrap();
    assert_eq!((window.base, window.len), (0xffa0, u32::from(Ide::BAR_PORTS)));
    // piix_set_timings.
    for (register, value) in [(0x40, 0xa377), (0x42, 0xb30b)] {
        config.write(register, Width::Word, value);
        assert_eq!(config.read(register, Width::Word), value);
    }
    config.write(0x44, Width::Byte, 0x0b);
    assert_eq!(config.read(0x44, Width::Byte), 0x0b);
}

/// ata_devchk.
fn there(bench: &mut Bench, device: u8) -> bool {
    bench.out(DEVICE, device);
    for (low, count) in [(0xaa, 0x55), (0x55, 0xaa), (0xaa, 0x55)] {
        bench.out(COUNT, count);
        bench.out(LOW, low);
    }
    (bench.inb(COUNT), bench.inb(LOW)) == (0x55, 0xaa)
}

/// ata_sff_dev_classify: whether there is an ATA disk.
fn is_disk(bench: &mut Bench, device: u8) -> bool {
    bench.out(DEVICE, device);
    let error = bench.inb(ERROR);
    let signature = [MID, HIGH].map(|register| bench.inb(register));
    error == 1 && signature == [0, 0] && bench.inb(STATUS) != 0
}

/// ata_sff_softreset. True in the place of each disk found.
fn softreset(bench: &mut Bench) -> [bool; 2] {
    let found = [there(bench, 0xa0), there(bench, 0xb0)];
    bench.out(DEVICE, 0xa0);
    for control in [CTL, CTL | SRST, CTL] {
        bench.port_out(CONTROL, control);
    }
    // ata_sff_wait_ready of the master, whoever answers.
    assert_eq!(bench.status() & BSY, 0);
    if found[1] {
        bench.out(DEVICE, 0xb0);
        assert_eq!((bench.inb(COUNT), bench.inb(LOW)), (1, 1));
        assert_eq!(bench.status() & BSY, 0);
    }
    [is_disk(bench, 0xa0), found[1] && is_disk(bench, 0xb0)]
}

#[test]
fn softreset_finds_the_disks_that_are_there_and_waits_for_none_that_is_not() {
    for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
        let size = |there: bool| there.then_some(4096);
        let mut bench = Bench::with([size(first), size(second), None, None], SMALL, false);
        assert_eq!(softreset(&mut bench), [first, second]);
        assert!(!bench.irq());
    }
}

/// A polled command of ata_exec_internal: interrupts off, and back on.
fn polled(bench: &mut Bench, features: u8, count: u8, opcode: u8) {
    bench.port_out(CONTROL, CTL | NIEN);
    bench.out(ERROR, features);
    for (register, value) in [(COUNT, count), (LOW, 0), (MID, 0), (HIGH, 0), (DEVICE, 0xa0)] {
        bench.out(register, value);
    }
    bench.out(STATUS, opcode);
    bench.settle();
    assert!(!bench.irq());
    assert_eq!(bench.inb(STATUS) & (BSY | 1), 0);
}

fn identify(bench: &mut Bench) -> Vec<u8> {
    polled(bench, 0, 0, 0xec);
    let words = bench.read_words(256);
    assert_eq!(bench.inb(STATUS), IDLE);
    bench.port_out(CONTROL, CTL);
    assert!(!bench.irq(), "the status was read");
    words
}

/// ata_bmdma_irq_clear.
fn irq_clear(bench: &mut Bench) {
    let host_status = bench.master_status();
    bench.master_out(2, Width::Byte, host_status | 6);
    assert_eq!(bench.master_status(), 0);
}

/// ata_bmdma_qc_issue and ata_bmdma_port_intr.
fn dma(bench: &mut Bench, opcode: u8, lba: u64, sectors: u16, write: bool) {
    bench.table(&[(BUFFER, (u32::from(sectors) * 512) | END_OF_TABLE)]);
    bench.master_out(4, Width::Dword, TABLE);
    let direction = if write { 0 } else { 8 };
    bench.master_out(0, Width::Byte, direction);
    bench.command_ext(opcode, lba, sectors);
    let control = bench.master_in(0, Width::Byte);
    bench.master_out(0, Width::Byte, control | 1);
    assert_eq!(bench.master_status() & 4, 0, "not our interrupt yet");
    bench.settle();
    assert!(bench.irq());
    let host_status = bench.master_status();
    assert_eq!(host_status & 6, 4);
    // ata_bmdma_stop, then the device's status, then the host's.
    let control = bench.master_in(0, Width::Byte);
    bench.master_out(0, Width::Byte, control & !1);
    assert_eq!(bench.status() & BSY, 0);
    assert_eq!(bench.inb(STATUS), IDLE);
    irq_clear(bench);
    assert!(!bench.irq());
}

#[test]
fn libata_identifies_sets_up_reads_writes_and_flushes() {
    let mut bench = Bench::with([Some(4096), None, None, None], LARGE, false);
    assert_eq!(softreset(&mut bench), [true, false]);
    let before = identify(&mut bench);
    // ata_dev_set_xfermode: MWDMA2, as ata_piix gives a PIIX3; then again, to see it took.
    polled(&mut bench, 0x03, 0x22, 0xef);
    bench.port_out(CONTROL, CTL);
    let after = identify(&mut bench);
    assert_eq!((before[127], after[127]), (0x00, 0x04));
    assert_eq!(before[..126], after[..126], "the same disk after the reset");

    dma(&mut bench, 0x25, 0, 8, false);
    assert!(bench.guest_bytes(BUFFER, 8 * SECTOR) == patterns(0..8));
    let data = patterns(3000..3100);
    bench.memory.write(BUFFER.into(), &data).unwrap();
    dma(&mut bench, 0x35, 2000, 100, true);
    assert!(bench.host(0).image[2000 * SECTOR..2100 * SECTOR] == data);
    bench.command_ext(0xea, 0, 0);
    bench.settle();
    assert_eq!((bench.irq(), bench.inb(STATUS)), (true, IDLE));
    assert_eq!(bench.host(0).log.last(), Some(&(Down::Flush, 0, 0)));
    irq_clear(&mut bench);
    // ata_eh: after a timeout the port is frozen, reset and thawed.
    bench.command_ext(0x25, 0, 8);
    bench.port_out(CONTROL, CTL | NIEN);
    bench.stop();
    assert_eq!(softreset_frozen(&mut bench), [true, false]);
    bench.settle();
    assert!(!bench.irq());
    dma(&mut bench, 0x25, 2000, 100, false);
    assert!(bench.guest_bytes(BUFFER, data.len()) == data);
    polled(&mut bench, 0, 0, 0xe0);
    assert_eq!(bench.counted(VmmCounter::DiskErrors), 0);
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 0);
}

/// The reset of a disk that is busy: ata_devchk cannot tell who is there, and libata resets all the same.
fn softreset_frozen(bench: &mut Bench) -> [bool; 2] {
    assert!(!there(bench, 0xa0), "the registers are the device's");
    for control in [CTL, CTL | SRST, CTL] {
        bench.port_out(CONTROL, control);
    }
    softreset(bench)
}
