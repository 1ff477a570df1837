//! The fixed registers as an ACPI operating system uses them, and the timer by arithmetic done another way.

use super::*;
use crate::bus::Wires;
use proptest::prelude::*;

/// Nanoseconds in 2^23 ticks, rounded up: half a period of the 24-bit timer.
const HALF: u64 = (1u64 << 23) * 17_600 / 63 + 1;

struct Bench {
    pm: Pm,
    wires: Wires,
    signals: Signals,
    now: Ns,
}

impl Bench {
    fn new() -> Self {
        let (wires, signals) = (Wires::default(), Signals::default());
        Self {
            pm: Pm::new(wires.line(Pm::SCI_GSI).unwrap(), signals.clone()),
            wires,
            signals,
            now: Ns(0),
        }
    }

    fn write(&mut self, port: u16, width: Width, value: u32) {
        assert_eq!(self.pm.port_write(self.now, port, width, value), Access::Done(()));
    }

    fn read(&mut self, port: u16, width: Width) -> u32 {
        match self.pm.port_read(self.now, port, width) {
            Access::Done(value) => value,
            other => panic!("{port:#x}: {other:?}"),
        }
    }

    fn sci(&self) -> bool {
        self.wires.level(Pm::SCI_GSI)
    }

    fn timer(&mut self) -> u32 {
        self.read(Pm::TIMER, Width::Dword)
    }
}

const STATUS: u16 = Pm::EVENT;
const ENABLE: u16 = Pm::EVENT + 2;

#[test]
fn the_machine_is_always_in_acpi_mode() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(Pm::CONTROL, Width::Word), 1);
    bench.write(Pm::CONTROL, Width::Word, 0);
    assert_eq!(bench.read(Pm::CONTROL, Width::Word), 1);
}

#[test]
fn the_power_button_holds_the_sci_until_the_guest_acknowledges_it() {
    let mut bench = Bench::new();
    bench.write(ENABLE, Width::Word, 0x0100);
    assert!(!bench.sci());
    bench.pm.press_power_button();
    assert!(bench.sci());
    assert_eq!(bench.read(STATUS, Width::Word), 0x0100);
    bench.write(STATUS, Width::Word, 0xfeff);
    assert!(bench.sci(), "other bits acknowledge nothing");
    bench.pm.press_power_button();
    bench.write(STATUS, Width::Word, 0x0100);
    assert!(!bench.sci(), "two presses before the acknowledgement are one");
    assert_eq!(bench.read(STATUS, Width::Word), 0);
    bench.pm.press_power_button();
    assert!(bench.sci());
}

#[test]
fn a_button_pressed_early_interrupts_when_it_is_enabled() {
    let mut bench = Bench::new();
    bench.pm.press_power_button();
    assert!(!bench.sci());
    bench.write(ENABLE, Width::Word, 0x0100);
    assert!(bench.sci());
    bench.write(ENABLE, Width::Word, 0);
    assert!(!bench.sci(), "masking lets the wire go");
    assert_eq!(bench.read(STATUS, Width::Word), 0x0100);
}

#[test]
fn every_width_writes_only_its_own_lanes() {
    let mut bench = Bench::new();
    bench.write(Pm::EVENT, Width::Dword, 0x0521_0000);
    assert_eq!(bench.read(Pm::EVENT, Width::Dword), 0x0521_0000);
    bench.write(ENABLE, Width::Byte, 0x01);
    assert_eq!(bench.read(ENABLE, Width::Word), 0x0501);
    bench.write(ENABLE + 1, Width::Byte, 0xff);
    assert_eq!(
        bench.read(ENABLE, Width::Word),
        0x0501,
        "bits that do not exist read zero"
    );
    bench.pm.press_power_button();
    bench.write(STATUS, Width::Byte, 0xff);
    assert_eq!(bench.read(STATUS + 1, Width::Byte), 0x01);
    bench.write(STATUS + 1, Width::Byte, 0x01);
    assert_eq!(bench.read(STATUS, Width::Word), 0);
    for (port, width) in [
        (Pm::EVENT + 3, Width::Word),
        (Pm::EVENT + 1, Width::Dword),
        (Pm::TIMER, Width::Qword),
    ] {
        assert_eq!(bench.pm.port_read(bench.now, port, width), Access::Bad);
        assert_eq!(bench.pm.port_write(bench.now, port, width, 0), Access::Bad);
    }
    assert_eq!(bench.read(Pm::FIRST + 0x3f, Width::Byte), 0);
}

#[test]
fn only_soft_off_turns_the_power_off() {
    // PM1a_CNT as written; whether the power goes.
    for (value, off) in [
        (0x2000, true),
        (0x2001, true),
        (0x2003, true),
        (0x0000, false),
        (0x1c00, false),
        (0x2400, false),
        (0x3c00, false),
    ] {
        let mut bench = Bench::new();
        bench.write(Pm::CONTROL, Width::Word, value);
        let expected = if off { vec![Signal::PowerOff] } else { vec![] };
        assert_eq!(bench.signals.take(), expected, "{value:#x}");
        assert_eq!(bench.pm.refused_sleeps(), u64::from(value & 0x2000 != 0 && !off));
        let read = bench.read(Pm::CONTROL, Width::Word);
        assert_eq!(read & 0x2000, 0, "SLP_EN is write-only");
        assert_eq!(read & 0x1c00, value & 0x1c00);
    }
    // Linux writes SLP_TYP first and then with SLP_EN; a byte write does as well.
    let mut bench = Bench::new();
    bench.write(Pm::CONTROL + 1, Width::Byte, 0x20);
    assert_eq!(bench.signals.take(), [Signal::PowerOff]);
}

#[test]
fn the_timer_counts_at_its_rate_and_wraps_at_24_bits() {
    let mut bench = Bench::new();
    // 88 seconds are 315 million ticks.
    for (seconds, ticks) in [
        (0, 0),
        (88, 315_000_000u64),
        (88 * 1_000_000, 315_000_000_000_000),
    ] {
        bench.now = Ns(seconds * Ns::SECOND);
        assert_eq!(u64::from(bench.timer()), ticks % (1 << 24));
    }
    bench.now = Ns(2 * HALF - 300);
    assert_eq!(bench.timer(), 0xff_fffe);
    bench.now = Ns(2 * HALF);
    assert_eq!(bench.timer(), 0);
    bench.now = Ns(u64::MAX);
    assert!(bench.timer() < 1 << 24);
}

#[test]
fn the_timer_interrupts_when_its_top_bit_changes_either_way() {
    let mut bench = Bench::new();
    assert_eq!(bench.pm.deadline(), None);
    bench.write(ENABLE, Width::Word, 1);
    for half in 1..=4 {
        let due = bench.pm.deadline().unwrap();
        assert_eq!(ticks_at(due), half << 23);
        assert_eq!(ticks_at(Ns(due.0 - 1)), (half << 23) - 1);
        bench.pm.advance(Ns(due.0 - 1));
        assert!(!bench.sci());
        bench.pm.advance(due);
        assert!(bench.sci());
        assert_eq!(bench.pm.deadline(), None, "already pending");
        bench.now = due;
        bench.write(STATUS, Width::Word, 1);
        assert!(!bench.sci());
    }
}

#[test]
fn however_late_the_timer_interrupts_once() {
    let mut bench = Bench::new();
    bench.write(ENABLE, Width::Word, 1);
    bench.now = Ns(HALF * 1001 + HALF / 2);
    bench.pm.advance(bench.now);
    assert!(bench.sci());
    bench.write(STATUS, Width::Word, 1);
    assert!(!bench.sci());
    assert_eq!(ticks_at(bench.pm.deadline().unwrap()), 1002 << 23);
    bench.now = Ns(u64::MAX);
    bench.pm.advance(bench.now);
    bench.write(STATUS, Width::Word, 1);
    assert_eq!(bench.pm.deadline(), None, "beyond what can be told");
}

#[test]
fn a_reset_lets_the_sci_go_and_forgets_the_button() {
    let mut bench = Bench::new();
    bench.write(ENABLE, Width::Word, 0x0100);
    bench.pm.press_power_button();
    bench.pm.reset();
    assert!(!bench.sci());
    assert_eq!(bench.read(Pm::EVENT, Width::Dword), 0);
}

proptest! {
    #[test]
    fn the_sci_is_the_level_of_enabled_status_whatever_is_done(
        stream in proptest::collection::vec((0u16..64, 0u8..3, any::<u32>(), 0u64..HALF, 0u8..4), 0..200),
    ) {
        let mut bench = Bench::new();
        let mut ticks = 0;
        for (offset, width, value, step, kind) in stream {
            let width = [Width::Byte, Width::Word, Width::Dword][usize::from(width)];
            bench.now = bench.now.after(step);
            let port = Pm::FIRST + offset;
            match kind {
                0 => _ = bench.pm.port_read(bench.now, port, width),
                1 => _ = bench.pm.port_write(bench.now, port & !0x38, width, value),
                2 => bench.pm.advance(bench.now),
                _ => bench.pm.press_power_button(),
            }
            let event = bench.read(Pm::EVENT, Width::Dword);
            prop_assert_eq!(bench.sci(), event & event >> 16 & 0xffff != 0);
            let timer = u64::from(bench.timer());
            // Monotonic: less than one period passed since the last look.
            ticks += (timer.wrapping_sub(ticks)) & 0xff_ffff;
            prop_assert_eq!(ticks, ticks_at(bench.now));
            if let Some(due) = bench.pm.deadline() {
                prop_assert!(due > bench.now);
            }
        }
    }
}
