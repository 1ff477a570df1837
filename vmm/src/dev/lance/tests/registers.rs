//! The register file against the data sheet, without a machine.

use super::super::csr::{Mode, Status};
use super::super::registers::{Commit, Direction, Registers};
use super::super::{Lance, fcs};
use super::{MAC, slow_fcs};
use crate::bus::Width;
use crate::dev::chipset::pci::config::{Space, Window};
use proptest::prelude::*;

const RDP: u16 = 0x10;
const RAP: u16 = 0x12;
const RESET: u16 = 0x14;
const BDP: u16 = 0x16;

fn new() -> Registers {
    Registers::new(MAC)
}

fn csr(registers: &mut Registers, number: u32) -> u16 {
    registers.write(RAP, Width::Word, number).unwrap();
    registers.read(RDP, Width::Word).unwrap().0 as u16
}

fn set_csr(registers: &mut Registers, number: u32, value: u16) -> Commit {
    registers.write(RAP, Width::Word, number).unwrap();
    registers.write(RDP, Width::Word, value.into()).unwrap()
}

fn bcr(registers: &mut Registers, number: u32) -> u16 {
    registers.write(RAP, Width::Word, number).unwrap();
    registers.read(BDP, Width::Word).unwrap().0 as u16
}

fn set_bcr(registers: &mut Registers, number: u32, value: u16) {
    registers.write(RAP, Width::Word, number).unwrap();
    registers.write(BDP, Width::Word, value.into()).unwrap();
}

#[test]
fn after_power_on_every_register_is_what_the_data_sheet_says() {
    let mut card = new();
    for (number, value) in [
        (0, 0x0004),
        (3, 0),
        (4, 0x0115),
        (5, 0),
        (12, 0x5452),
        (13, 0x1200),
        (14, 0x5634),
        (15, 0),
        (58, 0x0200),
        (80, 0x1410),
        (88, 0x1003),
        (89, 0x0262),
        (100, 0x0200),
        (112, 0),
        (114, 0),
        (124, 0),
        (127, 0),
    ] {
        assert_eq!(csr(&mut card, number), value, "CSR{number}");
    }
    for (number, value) in [
        (0, 0x0005),
        (1, 0x0005),
        (2, 0x0002),
        (4, 0x00c0),
        (5, 0x0084),
        (6, 0x0088),
        (7, 0x0090),
        (9, 0),
        (18, 0x9001),
        (19, 0x0002),
        (20, 0x0200),
        (22, 0xff06),
        (32, 0),
        (127, 0),
    ] {
        assert_eq!(bcr(&mut card, number), value, "BCR{number}");
    }
}

#[test]
fn the_prom_has_the_address_a_checksum_and_its_mark() {
    let mut card = new();
    let bytes: Vec<u8> = (0..16)
        .map(|at| card.read(at, Width::Byte).unwrap().0 as u8)
        .collect();
    assert_eq!(bytes[..6], MAC);
    assert_eq!(bytes[6..10], [0, 0, 0, 0x11]);
    assert_eq!(bytes[14..], [0x57, 0x57]);
    let sum: u16 = [&bytes[..12], &bytes[14..]]
        .concat()
        .iter()
        .map(|&b| u16::from(b))
        .sum();
    assert_eq!(bytes[12..14], sum.to_le_bytes());
    assert_eq!(card.read(4, Width::Word).unwrap().0, 0x5634);
    assert_eq!(card.read(12, Width::Dword).unwrap().0 >> 16, 0x5757);
    assert_eq!(card.read(14, Width::Dword), None, "across the end");
    card.write(0, Width::Byte, 0xaa).unwrap();
    assert_eq!(card.read(0, Width::Byte).unwrap().0, 0x52, "locked");
    set_bcr(&mut card, 2, 0x0102);
    card.write(0, Width::Word, 0xbbaa).unwrap();
    assert_eq!(card.read(0, Width::Dword).unwrap().0, 0x1200_bbaa);
}

#[test]
fn the_window_has_two_shapes_and_a_dword_write_to_rdp_selects_the_second() {
    let mut card = new();
    for (offset, width, there) in [
        (0x10, Width::Word, true),
        (0x12, Width::Word, true),
        (0x16, Width::Word, true),
        (0x11, Width::Word, false),
        (0x18, Width::Word, false),
        (0x10, Width::Byte, false),
        (0x10, Width::Dword, false),
        (0x1e, Width::Dword, false),
        (0x20, Width::Word, false),
        (0xffff, Width::Word, false),
    ] {
        assert_eq!(card.read(offset, width).is_some(), there, "{offset:#x} {width:?}");
    }
    card.write(RDP, Width::Dword, 0).unwrap();
    for (offset, width, there) in [
        (0x10, Width::Dword, true),
        (0x14, Width::Dword, true),
        (0x1c, Width::Dword, true),
        (0x12, Width::Dword, false),
        (0x10, Width::Word, false),
        (0x14, Width::Word, false),
        (0x0c, Width::Dword, true),
        (0x05, Width::Byte, true),
    ] {
        assert_eq!(card.read(offset, width).is_some(), there, "{offset:#x} {width:?}");
    }
    card.write(0x14, Width::Dword, 18).unwrap();
    assert_eq!(card.read(0x1c, Width::Dword).unwrap().0, 0x9081, "BCR18 shows it");
    card.write(0x1c, Width::Dword, 0).unwrap();
    assert_eq!(
        card.read(0x1c, Width::Dword).unwrap().0,
        0x0080,
        "and is not cleared"
    );
    let (_, commit) = card.read(0x18, Width::Dword).unwrap();
    assert_eq!(commit, Commit::HALT);
    assert!(card.read(0x14, Width::Dword).is_some(), "S_RESET keeps the shape");
    card.hard_reset();
    assert!(card.read(RAP, Width::Word).is_some(), "H_RESET does not");
}

#[test]
fn rap_is_a_latch_of_seven_bits() {
    let mut card = new();
    assert_eq!(card.write(RAP, Width::Word, 0xffd8), Some(Commit::empty()));
    assert_eq!(card.read(RAP, Width::Word).unwrap().0, 0x58);
}

/// Each step: CSR0 written, CSR0 then read, and what is committed.
#[test]
fn csr0_obeys_its_bits() {
    let touched = Commit::TOUCHED;
    let mut card = new();
    for (write, read, commit) in [
        (0x0040, 0x0044, touched),
        (0x0000, 0x0004, touched),
        (0x0005, 0x0004, touched | Commit::HALT),
        (0x0006, 0x0004, touched | Commit::HALT),
        (0x0008, 0x0004, touched | Commit::DEMAND),
        (0x0001, 0x0001, touched | Commit::INITIALISE),
        (0x0001, 0x0001, touched),
        (0x0042, 0x0043, touched | Commit::START),
        (0x0042, 0x0043, touched),
        (0x0048, 0x0043, touched | Commit::DEMAND),
        (0x8080, 0x0003, touched),
        (0x0004, 0x0004, touched | Commit::HALT),
        (0x0003, 0x0003, touched | Commit::INITIALISE | Commit::START),
    ] {
        assert_eq!(set_csr(&mut card, 0, write), commit, "write {write:#06x}");
        assert_eq!(csr(&mut card, 0), read, "after {write:#06x}");
    }
}

#[test]
fn flags_of_csr0_are_cleared_by_ones_and_err_is_an_or() {
    let mut card = new();
    card.raise(Status::CLEARABLE);
    assert_eq!(csr(&mut card, 0), 0xff84);
    for (bit, err) in [
        (14, true),
        (13, true),
        (12, true),
        (11, false),
        (10, false),
        (9, false),
    ] {
        set_csr(&mut card, 0, 1 << bit);
        let read = csr(&mut card, 0);
        assert_eq!(read >> bit & 1, 0, "bit {bit}");
        assert_eq!(read >> 15 != 0, err, "ERR after bit {bit}");
    }
    assert_eq!(csr(&mut card, 0), 0x0184);
}

/// Which flags interrupt, under which masks.
#[test]
fn the_pin_is_a_cause_not_masked_and_inea() {
    let flags = [
        (Status::IDON, 0x0100),
        (Status::TINT, 0x0200),
        (Status::RINT, 0x0400),
        (Status::MERR, 0x0800),
        (Status::MISS, 0x1000),
        (Status::BABL, 0x4000),
    ];
    for (flag, mask) in flags {
        let mut card = new();
        card.raise(flag);
        assert!(!card.interrupt(), "INEA is clear");
        assert_ne!(csr(&mut card, 0) & 0x0080, 0, "INTR does not ask for INEA");
        set_csr(&mut card, 0, 0x0040);
        assert!(card.interrupt(), "{flag:?}");
        set_csr(&mut card, 3, mask);
        assert!(!card.interrupt(), "{flag:?} masked");
        assert_eq!(csr(&mut card, 0) & 0x0080, 0);
        set_csr(&mut card, 3, !mask);
        assert!(card.interrupt(), "{flag:?} alone unmasked");
        set_csr(&mut card, 0, mask);
        assert!(
            !card.interrupt(),
            "acknowledged, and INEA cleared by the same write"
        );
    }
    let mut card = new();
    card.raise(Status::CERR);
    set_csr(&mut card, 0, 0x0040);
    assert!(!card.interrupt(), "CERR never interrupts");
}

#[test]
fn csr4_and_csr5_have_causes_of_their_own() {
    let mut card = new();
    set_csr(&mut card, 0, 0x0040);
    set_csr(&mut card, 4, 0x0195);
    assert_eq!(csr(&mut card, 4), 0x0155, "UINTCMD became UINT");
    assert!(card.interrupt());
    set_csr(&mut card, 4, 0x0155);
    assert_eq!(csr(&mut card, 4), 0x0115);
    assert!(!card.interrupt());
    card.transmit_begun();
    assert!(!card.interrupt(), "TXSTRT is masked after reset");
    set_csr(&mut card, 4, 0x0111);
    assert!(card.interrupt(), "and now is not");
    set_csr(&mut card, 4, 0x0119);
    assert!(!card.interrupt());
    for _ in 0..0x1_0000 {
        card.missed();
    }
    set_csr(&mut card, 0, 0x1040);
    assert_eq!(csr(&mut card, 4) & 0x0200, 0x0200, "MFCO: the counter went round");
    assert!(!card.interrupt());
    set_csr(&mut card, 4, 0x0015);
    assert!(card.interrupt(), "MFCO unmasked");
}

/// Register, value written, value then read: stopped, and running.
#[test]
fn most_registers_are_locked_while_the_card_runs() {
    for (number, written, stopped, running) in [
        (1, 0x1234, 0x1234, 0),
        (2, 0x5678, 0x5678, 0),
        (16, 0x1234, 0x1234, 0),
        (3, 0xffff, 0x5f78, 0x5f78),
        (4, 0xffff, 0xfd55, 0xfd55),
        (5, 0xfffe, 0xc56e, 0xc56e),
        (8, 0xffff, 0xffff, 0),
        (14, 0xffff, 0xffff, 0x5634),
        (15, 0xffff, 0xffff, 0),
        (76, 0xffe0, 0xffe0, 0),
        (80, 0xffff, 0x3fff, 0x1410),
        (88, 0, 0x1003, 0x1003),
        (112, 7, 7, 0),
        (124, 0x0018, 0, 0),
    ] {
        let mut card = new();
        set_csr(&mut card, number, written);
        assert_eq!(csr(&mut card, number), stopped, "CSR{number} stopped");
        let mut card = new();
        set_csr(&mut card, 0, 0x0002);
        set_csr(&mut card, number, written);
        assert_eq!(csr(&mut card, number), running, "CSR{number} running");
        let mut card = new();
        set_csr(&mut card, 0, 0x0002);
        set_csr(&mut card, 5, 0x0001);
        set_csr(&mut card, number, written);
        if number != 5 {
            assert_eq!(csr(&mut card, number), stopped, "CSR{number} suspended");
        }
    }
    let mut card = new();
    set_csr(&mut card, 4, 0x8000);
    set_csr(&mut card, 124, 0xffff);
    assert_eq!(csr(&mut card, 124), 0x0018, "EN124 unlocks the test register");
}

#[test]
fn software_style_tells_its_size_and_is_locked_while_the_card_runs() {
    for (written, read) in [
        (0, 0x0200),
        (1, 0x0101),
        (2, 0x0302),
        (3, 0x0303),
        (4, 0x0200),
        (0xff, 0x0200),
        (0x0302, 0x0302),
    ] {
        let mut card = new();
        set_bcr(&mut card, 20, written);
        assert_eq!(bcr(&mut card, 20), read, "BCR20 {written:#x}");
        assert_eq!(csr(&mut card, 58), read, "CSR58");
        set_csr(&mut card, 0, 0x0002);
        set_bcr(&mut card, 20, 3);
        assert_eq!(bcr(&mut card, 20), read, "running");
    }
}

#[test]
fn suspension_reads_back_at_once_and_its_end_looks_at_the_rings() {
    let mut card = new();
    set_csr(&mut card, 0, 0x0002);
    card.start();
    assert!(card.is_running(Direction::Rx));
    set_csr(&mut card, 5, 0x0001);
    assert_eq!(csr(&mut card, 5), 1);
    assert!(!card.is_running(Direction::Rx) && card.is_on(Direction::Rx));
    let commit = set_csr(&mut card, 5, 0);
    assert_eq!(commit, Commit::DEMAND | Commit::TOUCHED);
    set_csr(&mut card, 5, 0x0001);
    set_csr(&mut card, 0, 0x0004);
    assert_eq!(csr(&mut card, 5), 0, "STOP ends it");
}

#[test]
fn the_three_resets_differ() {
    let dirty = || {
        let mut card = new();
        set_bcr(&mut card, 20, 2);
        set_bcr(&mut card, 9, 1);
        set_csr(&mut card, 1, 0x1111);
        set_csr(&mut card, 12, 0x2222);
        set_csr(&mut card, 15, 0x8000);
        set_csr(&mut card, 3, 0x0400);
        set_csr(&mut card, 4, 0x0915);
        set_csr(&mut card, 0, 0x0042);
        card.start();
        card.raise(Status::CLEARABLE);
        card.missed();
        card
    };
    // CSR, after STOP, after S_RESET, after H_RESET.
    let table = [
        (0, 0x0004, 0x0004, 0x0004),
        (1, 0x1111, 0x1111, 0),
        (3, 0x0400, 0, 0),
        (4, 0x0915, 0x0115, 0x0115),
        (12, 0x2222, 0x2222, 0x5452),
        (15, 0x8000, 0, 0),
        (112, 0, 0, 0),
    ];
    let (mut stopped, mut soft, mut hard) = (dirty(), dirty(), dirty());
    set_csr(&mut stopped, 0, 0x0004);
    soft.read(RESET, Width::Word).unwrap();
    assert_eq!(soft.read(RAP, Width::Word).unwrap().0, 0);
    hard.hard_reset();
    for (number, stop, s_reset, h_reset) in table {
        assert_eq!(csr(&mut stopped, number), stop, "CSR{number} after STOP");
        assert_eq!(csr(&mut soft, number), s_reset, "CSR{number} after S_RESET");
        assert_eq!(csr(&mut hard, number), h_reset, "CSR{number} after H_RESET");
    }
    for (number, kept, gone) in [(20, 0x0302, 0x0200), (9, 1, 0)] {
        assert_eq!(bcr(&mut stopped, number), kept, "BCR{number} after STOP");
        assert_eq!(bcr(&mut soft, number), kept, "BCR{number} after S_RESET");
        assert_eq!(bcr(&mut hard, number), gone, "BCR{number} after H_RESET");
    }
}

#[test]
fn the_first_led_shows_the_link() {
    let mut card = new();
    assert_eq!(bcr(&mut card, 4), 0x00c0, "what Linux takes for no link");
    card.set_link(true);
    assert_eq!(bcr(&mut card, 4), 0x80c0);
    assert_eq!(bcr(&mut card, 5), 0x0084, "activity does not last");
    set_bcr(&mut card, 4, 0x0000);
    assert_eq!(bcr(&mut card, 4), 0x80c0, "locked by LEDPE");
    set_bcr(&mut card, 2, 0x1002);
    set_bcr(&mut card, 4, 0x40c0);
    assert_eq!(bcr(&mut card, 4), 0xc0c0, "polarity does not change what is read");
    set_bcr(&mut card, 5, 0x0100);
    assert_eq!(bcr(&mut card, 5), 0x0100, "full duplex link, half duplex");
    set_bcr(&mut card, 9, 1);
    assert_eq!(bcr(&mut card, 5), 0x8100);
    card.set_link(false);
    assert_eq!(bcr(&mut card, 4), 0x40c0);
    set_csr(&mut card, 15, Mode::DLNKTST.bits());
    assert_eq!(bcr(&mut card, 4), 0xc0c0, "link test off: always passed");
}

#[test]
fn the_poll_interval_is_a_twos_complement_of_clocks() {
    let mut card = new();
    for (written, ns) in [(0, 1_966_080), (0xffff, 30), (0x8000, 983_040)] {
        set_csr(&mut card, 47, written);
        assert_eq!(card.poll_interval_ns(), ns);
    }
}

#[test]
fn the_card_is_a_pci_function_drivers_know() {
    let mut config = Lance::config_space();
    for (offset, width, value) in [
        (0x00, Width::Dword, 0x2000_1022),
        (0x08, Width::Dword, 0x0200_0010),
        (0x10, Width::Dword, 0x0000_0001),
        (0x14, Width::Dword, 0x0000_0000),
        (0x3d, Width::Byte, 0x01),
        (0x3e, Width::Word, 0xff06),
    ] {
        assert_eq!(config.read(offset, width), value, "{offset:#x}");
    }
    config.write(0x10, Width::Dword, 0xffff_ffff);
    config.write(0x14, Width::Dword, 0xffff_ffff);
    assert_eq!(config.read(0x10, Width::Dword), 0xffff_ffe1);
    assert_eq!(config.read(0x14, Width::Dword), 0xffff_ffe0);
    config.write(0x10, Width::Dword, 0xc000);
    config.write(0x04, Width::Word, 0x0005);
    let decode = config.decode();
    assert!(decode.bus_master);
    let io = Window {
        space: Space::Io,
        base: 0xc000,
        len: 32,
    };
    assert_eq!(decode.windows[0], Some(io));
}

proptest! {
    #[test]
    fn the_frame_check_sequence_is_the_books(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(fcs::sequence(&bytes), slow_fcs(&bytes));
        let image = [&bytes[..], &slow_fcs(&bytes)].concat();
        prop_assert!(fcs::holds(&image));
        let mut wrong = image.clone();
        wrong[bytes.len() / 2] ^= 0x10;
        prop_assert!(!fcs::holds(&wrong));
    }
}
