//! The register core, by the data sheet and by what the drivers of guests do to it.

use super::super::Registers;
use proptest::prelude::*;

const DATA: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

/// One line of a script: what is done, and what must be seen.
enum Step {
    Write(u16, u8),
    /// Register, mask, value under the mask.
    Read(u16, u8, u8),
    Receive(u8),
    Break,
    Transmit(Option<u8>),
    Irq(bool),
}
use Step::{Break, Irq, Read, Receive, Transmit, Write};

fn play(steps: impl IntoIterator<Item = Step>) {
    let mut uart = Registers::default();
    play_on(&mut uart, steps);
}

fn play_on(uart: &mut Registers, steps: impl IntoIterator<Item = Step>) {
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Write(register, value) => uart.write(register, value),
            Read(register, mask, expected) => {
                let value = uart.read(register);
                assert_eq!(
                    value & mask,
                    expected,
                    "step {number}: register {register} reads {value:#04x}"
                );
            }
            Receive(byte) => uart.receive(byte),
            Break => uart.receive_break(),
            Transmit(expected) => assert_eq!(uart.transmit(), expected, "step {number}"),
            Irq(expected) => assert_eq!(uart.interrupt(), expected, "step {number}"),
        }
    }
}

#[test]
fn power_on_values_are_the_data_sheets() {
    play([
        Read(IER, 0xff, 0x00),
        Read(IIR, 0xff, 0x01),
        Read(LCR, 0xff, 0x00),
        Read(MCR, 0xff, 0x00),
        Read(LSR, 0xff, 0x60),
        Read(MSR, 0xff, 0xb0),
        Irq(false),
    ]);
}

#[test]
fn the_divisor_hides_data_and_ier_while_dlab_is_set() {
    play([
        Write(LCR, 0x83),
        Write(DATA, 0x34),
        Write(IER, 0x12),
        Read(DATA, 0xff, 0x34),
        Read(IER, 0xff, 0x12),
        Write(LCR, 0x03),
        Read(IER, 0xff, 0x00),
        Read(LSR, 0xff, 0x60),
        Transmit(None),
    ]);
}

#[test]
fn the_scratch_register_keeps_every_value() {
    play((0..=255).flat_map(|value| [Write(SCR, value), Read(SCR, 0xff, value)]));
}

#[test]
fn the_receiver_interrupts_at_its_trigger_level_and_by_timeout_below() {
    for (bits, level) in [(0x00u8, 1usize), (0x40, 4), (0x80, 8), (0xc0, 14)] {
        let mut uart = Registers::default();
        play_on(
            &mut uart,
            [
                Write(FCR, bits | 1),
                Write(IER, 0x01),
                Write(MCR, 0x08),
                Irq(false),
            ],
        );
        for count in 1..=16 {
            let cause = if count >= level { 0xc4 } else { 0xcc };
            play_on(
                &mut uart,
                [Receive(count as u8), Irq(true), Read(IIR, 0xff, cause)],
            );
        }
        for count in 1..=16u8 {
            let left = 16 - usize::from(count);
            let cause = match left {
                0 => 0xc1,
                _ if left >= level => 0xc4,
                _ => 0xcc,
            };
            play_on(
                &mut uart,
                [Read(DATA, 0xff, count), Read(IIR, 0xff, cause), Irq(left > 0)],
            );
        }
    }
}

#[test]
fn a_full_fifo_keeps_what_it_has_and_reports_the_overrun_once() {
    let fill = (0..17).map(Receive);
    let after = [Read(LSR, 0xff, 0x63), Read(LSR, 0xff, 0x61), Read(DATA, 0xff, 0)];
    play([Write(FCR, 1)].into_iter().chain(fill).chain(after));
}

#[test]
fn without_fifos_the_newer_byte_wins_and_the_overrun_shows() {
    play([
        Receive(1),
        Receive(2),
        Read(IIR, 0xff, 0x01),
        Read(LSR, 0xff, 0x63),
        Read(DATA, 0xff, 2),
        Read(LSR, 0xff, 0x60),
    ]);
}

#[test]
fn a_break_shows_when_its_byte_is_next_and_marks_the_fifo_before() {
    play([
        Write(FCR, 1),
        Write(IER, 0x04),
        Write(MCR, 0x08),
        Receive(b'a'),
        Break,
        Irq(false),
        Read(LSR, 0xff, 0xe1),
        Read(DATA, 0xff, b'a'),
        Irq(true),
        Read(IIR, 0xff, 0xc6),
        Read(LSR, 0xff, 0xf1),
        Irq(false),
        Read(LSR, 0xff, 0x61),
        Read(DATA, 0xff, 0),
    ]);
}

#[test]
fn thre_is_raised_by_emptying_and_ended_by_iir_or_thr() {
    play([
        Write(FCR, 1),
        Write(MCR, 0x08),
        Write(DATA, b'x'),
        Read(LSR, 0x60, 0x00),
        Write(IER, 0x02),
        Irq(false),
        Transmit(Some(b'x')),
        Irq(true),
        Read(LSR, 0x60, 0x60),
        Read(IIR, 0xff, 0xc2),
        Irq(false),
        Read(IIR, 0xff, 0xc1),
        Write(DATA, b'y'),
        Write(DATA, b'z'),
        Transmit(Some(b'y')),
        Irq(false),
        Transmit(Some(b'z')),
        Irq(true),
        Write(DATA, b'w'),
        Irq(false),
    ]);
}

#[test]
fn an_iir_read_that_reports_something_else_leaves_thre_pending() {
    play([
        Write(IER, 0x03),
        Receive(b'a'),
        Read(IIR, 0xff, 0x04),
        Read(DATA, 0xff, b'a'),
        Read(IIR, 0xff, 0x02),
        Read(IIR, 0xff, 0x01),
    ]);
}

#[test]
fn causes_are_reported_in_the_data_sheets_order() {
    play([
        Write(IER, 0x0f),
        Write(FCR, 0x41),
        Write(MCR, 0x1f),
        Write(MCR, 0x08),
        Break,
        Read(IIR, 0xff, 0xc6),
        Read(LSR, 0x10, 0x10),
        Read(IIR, 0xff, 0xcc),
        Read(DATA, 0xff, 0),
        Read(IIR, 0xff, 0xc2),
        Read(IIR, 0xff, 0xc0),
        Read(MSR, 0xf0, 0xb0),
        Read(IIR, 0xff, 0xc1),
    ]);
}

#[test]
fn out2_gates_the_interrupt_line() {
    play([
        Write(IER, 0x01),
        Receive(1),
        Irq(false),
        Write(MCR, 0x08),
        Irq(true),
        Write(MCR, 0x07),
        Irq(false),
    ]);
}

#[test]
fn loopback_routes_each_output_to_its_input_and_reports_changes() {
    // MCR while looped, MSR status.
    let routes = [
        (0x10, 0x00),
        (0x11, 0x20),
        (0x12, 0x10),
        (0x14, 0x40),
        (0x18, 0x80),
        (0x1f, 0xf0),
    ];
    play(
        routes
            .into_iter()
            .flat_map(|(mcr, msr)| [Write(MCR, mcr), Read(MSR, 0xf0, msr)]),
    );
    // From, to, deltas: CTS, DSR and DCD report both edges, RI its falling one.
    let deltas = [
        (0x10, 0x12, 0x01),
        (0x12, 0x10, 0x01),
        (0x10, 0x11, 0x02),
        (0x10, 0x14, 0x00),
        (0x14, 0x10, 0x04),
        (0x10, 0x18, 0x08),
        (0x1f, 0x10, 0x0f),
        (0x00, 0x1b, 0x00),
        (0x00, 0x10, 0x0b),
    ];
    for (from, to, expected) in deltas {
        play([
            Write(MCR, from),
            Read(MSR, 0x00, 0),
            Write(MCR, to),
            Read(MSR, 0x0f, expected),
            Read(MSR, 0x0f, 0),
        ]);
    }
}

#[test]
fn loopback_turns_bytes_round_and_cuts_the_line_off() {
    let mut uart = Registers::default();
    play_on(
        &mut uart,
        [
            Write(FCR, 1),
            Write(DATA, b'o'),
            Write(MCR, 0x10),
            Receive(b'!'),
            Break,
            Write(DATA, b'l'),
            Read(LSR, 0x01, 1),
            Read(DATA, 0xff, b'l'),
            Read(LSR, 0x01, 0),
            Transmit(Some(b'o')),
            Transmit(None),
        ],
    );
    assert_eq!(uart.room(), 0, "the line is cut off");
    uart.write(MCR, 0);
    assert_eq!(uart.room(), 16);
}

#[test]
fn fifo_resets_empty_one_side_and_switching_empties_both() {
    // FCR, bytes left to receive, THRE.
    for (fcr, received, thre) in [
        (0x03, 0, 0x00),
        (0x05, 1, 0x20),
        (0x07, 0, 0x20),
        (0x00, 0, 0x20),
        (0x06, 0, 0x20),
    ] {
        play([
            Write(FCR, 1),
            Receive(1),
            Write(DATA, 2),
            Write(FCR, fcr),
            Read(LSR, 0x21, received | thre),
        ]);
    }
}

#[test]
fn resetting_a_waiting_transmitter_raises_thre() {
    play([
        Write(FCR, 1),
        Write(IER, 2),
        Write(DATA, 1),
        Read(IIR, 0x0f, 1),
        Write(FCR, 5),
        Read(IIR, 0x0f, 2),
    ]);
}

/// The probes of Linux 6 `drivers/tty/serial/8250/8250_port.c`, in its order: an 8250 at all, its FIFOs, and the
/// makers whose extras this chip must not show.
#[test]
fn linux_autoconfig_finds_a_16550a_and_no_relative() {
    play([
        // IER exists and has four bits.
        Write(IER, 0x00),
        Read(IER, 0x0f, 0x00),
        Write(IER, 0x0f),
        Read(IER, 0xff, 0x0f),
        Write(IER, 0x00),
        // Loopback with OUT2 and RTS gives DCD and CTS.
        Write(MCR, 0x1a),
        Read(MSR, 0xf0, 0x90),
        Write(MCR, 0x00),
        // EFR of a 16650 is written where FCR is; then FIFOs on: both FIFO bits.
        Write(LCR, 0xbf),
        Write(FCR, 0x00),
        Write(LCR, 0x00),
        Write(FCR, 0x01),
        Read(IIR, 0xc0, 0xc0),
        // No EFR in either register bank: IIR is read, and not zero.
        Write(LCR, 0x80),
        Read(IIR, 0xff, 0xc1),
        Write(LCR, 0xbf),
        Read(IIR, 0xff, 0xc1),
        // National SuperIO: EXCR1 would follow MCR's loop bit in bank 2.
        Write(LCR, 0x00),
        Read(MCR, 0x10, 0x00),
        Write(LCR, 0xe0),
        Read(IIR, 0x10, 0x00),
        Write(LCR, 0x00),
        Write(MCR, 0x10),
        Write(LCR, 0xe0),
        Read(IIR, 0x10, 0x00),
        Write(LCR, 0x00),
        Write(MCR, 0x00),
        // TI 16750: FCR bit 5 sticks with DLAB set.
        Write(FCR, 0x21),
        Read(IIR, 0xe0, 0xc0),
        Write(FCR, 0x01),
        Write(LCR, 0x80),
        Write(FCR, 0x21),
        Read(IIR, 0xe0, 0xc0),
        Write(FCR, 0x01),
        Write(LCR, 0x00),
        // Intel XScale: IER bit 6 (UUE).
        Write(IER, 0x40),
        Read(IER, 0x40, 0x00),
        Write(IER, 0x00),
        // Exar XR17: scratch is a plain register; DLD (offset 2 in DLAB) is not there.
        Write(SCR, 0x55),
        Read(SCR, 0xff, 0x55),
    ]);
}

/// The same file, `size_fifo`: 256 bytes into loopback leave exactly the FIFO's depth.
#[test]
fn linux_size_fifo_counts_sixteen() {
    let mut uart = Registers::default();
    play_on(&mut uart, [Write(FCR, 0x07), Write(MCR, 0x10), Write(LCR, 0x03)]);
    (0..=255).for_each(|byte| uart.write(DATA, byte));
    let count = (0..256).take_while(|_| {
        let ready = uart.read(LSR) & 1 != 0;
        uart.read(DATA);
        ready
    });
    assert_eq!(count.count(), 16);
}

/// The same file, `serial8250_THRE_test` and the TXEN test of `serial8250_initialize`: the interrupt must come every
/// time it is enabled over an empty transmitter, or the driver falls back to a timer.
#[test]
fn linux_thre_and_txen_tests_find_no_bug() {
    play([
        Write(FCR, 0x01),
        Write(MCR, 0x08),
        Write(IER, 0x02),
        Read(IIR, 0x0f, 0x02),
        Write(IER, 0x00),
        Write(IER, 0x02),
        Read(IIR, 0x0f, 0x02),
        Write(IER, 0x00),
        Irq(false),
        Write(IER, 0x02),
        Irq(true),
        Read(LSR, 0x40, 0x40),
        Read(IIR, 0x0f, 0x02),
        // Writing the same value again is no new enabling.
        Write(IER, 0x02),
        Read(IIR, 0x0f, 0x01),
    ]);
}

#[test]
fn a_transmitter_nobody_drains_keeps_the_oldest_sixteen_bytes() {
    let mut uart = Registers::default();
    uart.write(FCR, 1);
    (0..20).for_each(|byte| uart.write(DATA, byte));
    assert!((0..16).all(|byte| uart.transmit() == Some(byte)));
    assert_eq!(uart.transmit(), None);
}

proptest! {
    #[test]
    fn no_stream_of_accesses_breaks_it(stream in proptest::collection::vec((0u8..5, any::<u16>(), any::<u8>()), 0..400)) {
        let mut uart = Registers::default();
        for (what, register, value) in stream {
            match what {
                0 | 1 => uart.write(register, value),
                2 => _ = uart.read(register),
                3 => uart.receive(value),
                _ => _ = uart.transmit(),
            }
            prop_assert!(uart.room() <= 16);
            // The line and IIR agree: with OUT2 set, an interrupt is pending exactly if IIR says so.
            let out2 = uart.read(MCR) & 8 != 0;
            let line = uart.interrupt();
            prop_assert_eq!(line, out2 && uart.read(IIR) & 1 == 0);
        }
    }
}
