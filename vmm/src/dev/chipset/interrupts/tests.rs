//! The fabric with all its controllers: the ways an operating system runs it.

use super::*;
use crate::bus::{Line, Signal, Signals, Wires};
use crate::dev::chipset::lapic::{DEFAULT_BASE, MSR_APIC_BASE};

struct Board {
    fabric: Interrupts,
    wires: Wires,
    signals: Signals,
}

impl Board {
    /// After power-on, and the PICs initialised: vectors 20h and up, automatic EOI, everything open.
    fn without_firmware() -> Self {
        let signals = Signals::default();
        let tsc = TscScale {
            at: Ns(0),
            tsc: 0,
            khz: 1_000_000,
        };
        let lapic = LocalApic::new(signals.clone(), tsc, 40);
        let mut board = Self {
            fabric: Interrupts::new(PicPair::new(), IoApic::default(), lapic),
            wires: Wires::default(),
            signals,
        };
        for (port, cascade, vectors) in [(0x20, 4, 0x20), (0xa0, 2, 0x28)] {
            board.port(port, 0x11);
            for word in [vectors, cascade, 0x03, 0x00] {
                board.port(port + 1, word);
            }
        }
        board
    }

    /// As firmware hands it over.
    fn new() -> Self {
        let mut board = Self::without_firmware();
        board.fabric.virtual_wire();
        board
    }

    /// As an operating system has it that uses the APICs: PIC and LINT0 masked.
    fn symmetric() -> Self {
        let mut board = Self::new();
        board.mask_pics(0xffff);
        board.lapic(0x350, 0x1_0700);
        board
    }

    fn line(&self, gsi: u8) -> Line {
        self.wires.line(gsi).expect("a wire")
    }

    fn settle(&mut self) {
        self.fabric.wires(self.wires.take());
    }

    fn pulse(&mut self, gsi: u8) {
        self.line(gsi).pulse();
        self.settle();
    }

    fn lapic(&mut self, offset: u64, value: u32) {
        let done = self.fabric.lapic_write(Ns(0), offset, Width::Dword, value.into());
        assert_eq!(done, Access::Done(()));
    }

    fn port(&mut self, port: u16, value: u8) {
        let done = self.fabric.port_write(Ns(0), port, Width::Byte, value.into());
        assert_eq!(done, Access::Done(()));
    }

    fn mask_pics(&mut self, mask: u16) {
        let [master, slave] = mask.to_le_bytes();
        self.port(0x21, master);
        self.port(0xa1, slave);
    }

    /// Redirects a pin to APIC 0.
    fn route(&mut self, pin: u8, low: u32) {
        for (offset, value) in [(0x00, u32::from(0x10 + 2 * pin)), (0x10, low)] {
            let done = self
                .fabric
                .ioapic_write(Ns(0), offset, Width::Dword, value.into());
            assert_eq!(done, Access::Done(()));
        }
    }

    /// Takes what is pending; both questions must agree.
    fn take(&mut self) -> Option<u8> {
        let pending = self.fabric.pending();
        let taken = self.fabric.take();
        assert_eq!(taken.is_some(), pending);
        taken
    }

    fn eoi(&mut self) {
        self.lapic(0xb0, 0);
    }
}

#[test]
fn at_boot_the_pic_reaches_the_cpu_through_lint0() {
    let mut board = Board::new();
    for (gsi, vector) in [(2, 0x20), (1, 0x21), (4, 0x24), (15, 0x2f)] {
        board.pulse(gsi);
        assert_eq!(board.take(), Some(vector), "wire {gsi}");
        assert_eq!(board.take(), None);
    }
    for gsi in [0, 16, 23] {
        board.pulse(gsi);
        assert_eq!(board.take(), None, "wire {gsi} is none of the PIC's");
    }
}

#[test]
fn without_firmware_nothing_passes_lint0() {
    let mut board = Board::without_firmware();
    board.pulse(4);
    assert_eq!(board.take(), None);
    board.fabric.virtual_wire();
    assert_eq!(board.take(), Some(0x24));
}

#[test]
fn nolapic_the_pic_reaches_the_cpu_with_the_apic_switched_off() {
    let mut board = Board::new();
    board
        .fabric
        .msr_write(Ns(0), MSR_APIC_BASE, DEFAULT_BASE | 0x100)
        .unwrap();
    board.fabric.set_cr8(15);
    board.pulse(2);
    assert_eq!(board.take(), Some(0x20), "and CR8 has no say in it");
}

#[test]
fn noapic_pic_and_local_timer_work_side_by_side() {
    let mut board = Board::new();
    board.lapic(0x3e0, 0xb);
    board.lapic(0x320, 0xec);
    board.lapic(0x380, 100);
    assert_eq!(board.fabric.deadline(), Some(Ns(100)));
    board.fabric.advance(Ns(100));
    board.pulse(2);
    assert_eq!(board.take(), Some(0xec), "the local APIC's first");
    assert_eq!(board.take(), Some(0x20), "no class holds the PIC's back");
}

#[test]
fn the_timer_check_of_linux_finds_the_pit_on_pin_2() {
    let mut board = Board::symmetric();
    board.route(2, 0x30);
    let pit = board.line(PIT_WIRE);
    for _ in 0..5 {
        pit.set(true);
        board.settle();
        assert_eq!(board.take(), Some(0x30));
        assert_eq!(board.take(), None, "the PIC is masked");
        board.eoi();
        pit.set(false);
        board.settle();
        assert_eq!(board.take(), None);
    }
}

#[test]
fn the_timer_check_of_linux_can_fall_back_on_the_pic() {
    let mut board = Board::symmetric();
    board.mask_pics(0xfffe);
    board.lapic(0x350, 0x31); // LINT0 fixed
    let pit = board.line(PIT_WIRE);
    pit.set(true);
    for _ in 0..5 {
        board.settle();
        assert_eq!(
            board.take(),
            Some(0x31),
            "nobody acknowledges the PIC, yet every rise counts"
        );
        assert_eq!(board.take(), None);
        board.eoi();
        pit.set(false);
        pit.set(true);
    }
    board.lapic(0x350, 0x700); // LINT0 ExtINT
    assert_eq!(board.take(), Some(0x20));
    board.lapic(0x350, 0x1_0700);
    board.route(0, 0x700); // pin 0 ExtINT
    board.pulse(2);
    assert_eq!(board.take(), Some(0x20), "through the I/O APIC");
    board.route(0, 0x1_0700);
    board.pulse(2);
    assert_eq!(board.take(), None);
}

#[test]
fn reset_takes_everything_back() {
    let mut board = Board::symmetric();
    board.route(4, 0x44);
    board.pulse(4);
    board.fabric.set_cr8(5);
    board.fabric.reset();
    board.fabric.virtual_wire();
    assert_eq!((board.take(), board.fabric.cr8()), (None, 0));
    for gsi in [2, 4, 16] {
        board.pulse(gsi);
        assert_eq!(
            board.take(),
            None,
            "neither PIC nor I/O APIC know wire {gsi} any more"
        );
    }
}

#[test]
fn a_level_comes_back_after_its_eoi_until_the_device_lets_go() {
    let mut board = Board::symmetric();
    board.route(10, 0x8055);
    let line = board.line(10);
    line.set(true);
    board.settle();
    for _ in 0..3 {
        assert_eq!(board.take(), Some(0x55));
        assert_eq!(board.take(), None);
        board.eoi();
    }
    assert_eq!(board.take(), Some(0x55));
    line.set(false);
    board.settle();
    board.eoi();
    assert_eq!(board.take(), None);
}

#[test]
fn two_levels_with_one_vector_both_come() {
    let mut board = Board::symmetric();
    board.route(16, 0x8055);
    board.route(17, 0x8055);
    let (first, second) = (board.line(16), board.line(17));
    first.set(true);
    second.set(true);
    board.settle();
    assert_eq!(board.take(), Some(0x55), "merged");
    first.set(false);
    board.settle();
    board.eoi();
    assert_eq!(board.take(), Some(0x55), "the second is still there");
    second.set(false);
    board.settle();
    board.eoi();
    assert_eq!(board.take(), None);
}

#[test]
fn a_message_to_a_sleeping_apic_is_taken_when_it_wakes() {
    let mut board = Board::symmetric();
    board.lapic(0xf0, 0xff);
    board.route(4, 0x44);
    board.pulse(4);
    assert_eq!(board.take(), None);
    board.lapic(0xf0, 0x1ff);
    assert_eq!(board.take(), Some(0x44));
}

#[test]
fn cr8_holds_back_the_apic() {
    let mut board = Board::symmetric();
    board.route(4, 0x44);
    board.fabric.set_cr8(4);
    board.pulse(4);
    assert_eq!(board.take(), None);
    board.fabric.set_cr8(3);
    assert_eq!(board.take(), Some(0x44));
    board.lapic(0x80, 0x70);
    assert_eq!(board.fabric.cr8(), 7);
}

#[test]
fn non_maskable_interrupts_come_from_lint1_and_from_pins() {
    let mut board = Board::new();
    board.fabric.nmi();
    assert_eq!(board.signals.take(), [Signal::Nmi]);
    board.route(9, 0x0400);
    board.pulse(9);
    assert_eq!(board.signals.take(), [Signal::Nmi]);
}
