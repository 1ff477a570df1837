//! The controller and its keyboard against their documentation, as drivers use them and as nobody does.

use super::*;
use crate::bus::Wires;
use proptest::prelude::*;

struct Bench {
    i8042: I8042,
    wires: Wires,
    signals: Signals,
}

impl Bench {
    fn new() -> Self {
        let (wires, signals) = (Wires::default(), Signals::default());
        let line = |gsi| wires.line(gsi).expect("a wire");
        let i8042 = I8042::new(line(1), line(12), signals.clone());
        Self {
            i8042,
            wires,
            signals,
        }
    }

    /// With this command byte, and nothing to read.
    fn with_command_byte(byte: u8) -> Self {
        let mut bench = Self::new();
        bench.out(0x64, 0x60);
        bench.out(0x60, byte);
        bench
    }

    fn out(&mut self, port: u16, value: u8) {
        let done = self.i8042.port_write(Ns(0), port, Width::Byte, value.into());
        assert_eq!(done, Access::Done(()));
    }

    fn inb(&mut self, port: u16) -> u8 {
        match self.i8042.port_read(Ns(0), port, Width::Byte) {
            Access::Done(value) => value as u8,
            other => panic!("port {port:#x}: {other:?}"),
        }
    }

    /// Everything there is to read at 0x60, as a driver would: while OBF.
    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.inb(0x64) & OBF != 0 {
            bytes.push(self.inb(0x60));
            assert!(bytes.len() <= 32, "bounded");
        }
        bytes
    }
}

#[test]
fn controller_commands_answer_as_documented() {
    for (command, answer) in [
        (0x20, &[0x30][..]),
        (0xa4, &[0xf1]),
        (0xa7, &[]),
        (0xa8, &[]),
        (0xa9, &[0x00]),
        (0xaa, &[0x55]),
        (0xab, &[0x00]),
        (0xad, &[]),
        (0xae, &[]),
        (0xc0, &[0xb0]),
        (0xd0, &[0xcf]),
        (0xdf, &[]),
        (0xe0, &[0x02]),
        (0xff, &[]),
        (0x00, &[]),
    ] {
        let mut bench = Bench::new();
        bench.out(0x64, command);
        assert_eq!(bench.drain(), answer, "command {command:#x}");
        assert_eq!(bench.signals.take(), [], "command {command:#x}");
    }
}

#[test]
fn the_whole_controller_memory_can_be_written_and_read() {
    let mut bench = Bench::new();
    for place in 0..32 {
        bench.out(0x64, 0x60 + place);
        bench.out(0x60, 0x40 | place);
    }
    for place in 0..32 {
        bench.out(0x64, 0x20 + place);
        assert_eq!(bench.drain(), [0x40 | place]);
    }
}

#[test]
fn interface_commands_are_bits_of_the_command_byte() {
    let mut bench = Bench::new();
    for (command, byte) in [(0xae, 0x20), (0xa8, 0x00), (0xad, 0x10), (0xa7, 0x30)] {
        bench.out(0x64, command);
        bench.out(0x64, 0x20);
        assert_eq!(bench.drain(), [byte], "after {command:#x}");
    }
}

#[test]
fn status_tells_full_system_command_and_lock() {
    let mut bench = Bench::new();
    assert_eq!(bench.inb(0x64), NOT_LOCKED);
    bench.out(0x64, 0xaa);
    assert_eq!(bench.inb(0x64), NOT_LOCKED | COMMAND_LAST | STATUS_SYS | OBF);
    assert_eq!(bench.inb(0x60), 0x55);
    bench.out(0x60, 0xee);
    assert_eq!(
        bench.inb(0x64),
        NOT_LOCKED | STATUS_SYS | OBF,
        "data was written last"
    );
    assert_eq!(bench.inb(0x60), 0xee);
    assert_eq!(bench.inb(0x64), NOT_LOCKED | STATUS_SYS);
    assert_eq!(bench.inb(0x60), 0xee, "an empty buffer gives what was in it");
}

/// Bytes to the keyboard, its answers untranslated.
#[test]
fn the_keyboard_answers_every_command() {
    for (bytes, answers) in [
        (&[0xff][..], &[0xfa, 0xaa][..]),
        (&[0xf2], &[0xfa, 0xab, 0x83]),
        (&[0xee], &[0xee]),
        (&[0xed, 0x07], &[0xfa, 0xfa]),
        (&[0xf3, 0x20], &[0xfa, 0xfa]),
        (&[0xf4], &[0xfa]),
        (&[0xf5], &[0xfa]),
        (&[0xf6], &[0xfa]),
        (&[0xf8], &[0xfa]),
        (&[0xfc, 0x10], &[0xfa, 0xfa]),
        (&[0xf0, 0x00], &[0xfa, 0xfa, 0x02]),
        (&[0xf0, 0x03, 0xf0, 0x00], &[0xfa, 0xfa, 0xfa, 0xfa, 0x03]),
        (
            &[0xf0, 0x03, 0xf6, 0xf0, 0x00],
            &[0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0x02],
        ),
        (&[0xf0, 0x04], &[0xfa, 0xfe]),
        (&[0xed, 0xf4, 0x07], &[0xfa, 0xfa, 0xfe]), // a command in place of the option
        (&[0xee, 0xfe], &[0xee, 0xee]),
        (&[0x00], &[0xfe]),
        (&[0xef], &[0xfe]),
    ] {
        let mut bench = Bench::new();
        let mut seen = Vec::new();
        for &byte in bytes {
            bench.out(0x60, byte);
            seen.extend(bench.drain());
        }
        assert_eq!(seen, answers, "{bytes:x?}");
    }
}

#[test]
fn translation_changes_the_bytes_it_should() {
    for (bytes, answers) in [
        (&[0xf2][..], &[0xfa, 0xab, 0x41][..]),
        (&[0xff], &[0xfa, 0xaa]),
        (&[0xf0, 0x01, 0xf0, 0x00], &[0xfa, 0xfa, 0xfa, 0xfa, 0x43]),
        (&[0xf0, 0x00], &[0xfa, 0xfa, 0x41]),
        (&[0xf0, 0x03, 0xf0, 0x00], &[0xfa, 0xfa, 0xfa, 0xfa, 0x3f]),
    ] {
        let mut bench = Bench::with_command_byte(TRANSLATE);
        let mut seen = Vec::new();
        for &byte in bytes {
            bench.out(0x60, byte);
            seen.extend(bench.drain());
        }
        assert_eq!(seen, answers, "{bytes:x?}");
    }
    let mut bench = Bench::with_command_byte(TRANSLATE);
    bench.out(0x64, 0xd2);
    bench.out(0x60, 0x02);
    assert_eq!(bench.drain(), [0x02], "D2 puts the byte there as it is");
}

#[test]
fn a_keyboard_turned_off_keeps_its_bytes() {
    let mut bench = Bench::new();
    bench.out(0x60, 0xf2);
    bench.out(0x64, 0xad);
    assert_eq!(bench.drain(), [0xfa], "what was in the buffer already");
    bench.out(0x64, 0xae);
    assert_eq!(bench.drain(), [0xab, 0x83]);
    bench.out(0x64, 0xad);
    bench.out(0x60, 0xee);
    assert_eq!(bench.drain(), [0xee], "sending to it turns it on");
}

#[test]
fn every_byte_is_one_edge_of_the_enabled_line() {
    let mut bench = Bench::with_command_byte(INT1 | INT12);
    assert_eq!(bench.wires.take().count(), 0);
    bench.out(0x60, 0xf2);
    for _ in 0..3 {
        let changes: Vec<_> = bench.wires.take().collect();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].rose && changes[0].level && changes[0].gsi == 1);
        bench.inb(0x60);
    }
    assert!(!bench.wires.level(1));
    assert!(bench.wires.take().all(|change| !change.rose));
    bench.out(0x64, 0xd3);
    bench.out(0x60, 0xa5);
    assert!(bench.wires.level(12) && !bench.wires.level(1));
    assert_eq!(bench.inb(0x64) & (OBF | AUX_OBF | TIMEOUT), OBF | AUX_OBF);
    assert_eq!(bench.drain(), [0xa5]);
    assert!(!bench.wires.level(12));
}

#[test]
fn enabling_an_interrupt_with_the_buffer_full_interrupts() {
    for (enable, source, gsi) in [(INT1, 0xd2, 1), (INT12, 0xd3, 12)] {
        let mut bench = Bench::with_command_byte(0);
        bench.out(0x64, source);
        bench.out(0x60, 0x11);
        assert!(!bench.wires.level(gsi));
        bench.out(0x64, 0x60);
        bench.out(0x60, enable);
        assert!(bench.wires.level(gsi));
    }
}

#[test]
fn a_byte_for_the_absent_mouse_times_out_at_once() {
    let mut bench = Bench::with_command_byte(INT12);
    for byte in [0xff, 0xf2, 0xf4] {
        bench.out(0x64, 0xd4);
        bench.out(0x60, byte);
        assert!(bench.wires.level(12));
        assert_eq!(
            bench.inb(0x64) & (OBF | AUX_OBF | TIMEOUT),
            OBF | AUX_OBF | TIMEOUT
        );
        assert_eq!(bench.drain(), [0xfe]);
        assert_eq!(bench.inb(0x64) & TIMEOUT, 0);
    }
    bench.out(0x60, 0xee);
    assert_eq!(bench.drain(), [0xee], "D4 is for one byte");
}

/// What the Linux driver does to find controller and ports (`i8042_controller_init`, `i8042_check_aux`,
/// `i8042_set_mux_mode`): no step may need its time-out.
#[test]
fn the_probe_of_linux_finds_its_answers_without_waiting() {
    let mut bench = Bench::new();
    assert!(bench.drain().is_empty(), "flush");
    let ask = |bench: &mut Bench, command: u8, byte: Option<u8>| {
        bench.out(0x64, command);
        if let Some(byte) = byte {
            bench.out(0x60, byte);
        }
        bench.drain()
    };
    assert_eq!(ask(&mut bench, 0xaa, None), [0x55]);
    assert_eq!(ask(&mut bench, 0x20, None).len(), 1);
    assert!(ask(&mut bench, 0x60, Some(0x30)).is_empty());
    assert_eq!(ask(&mut bench, 0xd3, Some(0x5a)), [0x5a], "loop-back");
    assert_eq!(ask(&mut bench, 0xa9, None), [0x00]);
    for echo in [0xf0, 0x56, 0xa4] {
        assert_eq!(ask(&mut bench, 0xd3, Some(echo)), [echo], "no multiplexer");
    }
    for (toggle, bit) in [(0xa7, AUX_OFF), (0xa8, 0)] {
        ask(&mut bench, toggle, None);
        assert_eq!(ask(&mut bench, 0x20, None)[0] & AUX_OFF, bit);
    }
    assert_eq!(ask(&mut bench, 0xd4, Some(0xf2)), [0xfe], "no mouse");
    bench.out(0x60, 0xf2);
    assert_eq!(bench.drain(), [0xfa, 0xab, 0x83], "a keyboard");
}

#[test]
fn every_way_to_the_a20_gate_moves_the_same_gate() {
    type Way = &'static [(u16, u8)];
    let ways: [(Way, Way); 3] = [
        (&[(0x64, 0xd1), (0x60, 0xdd)], &[(0x64, 0xd1), (0x60, 0xdf)]),
        (&[(0x64, 0xdd)], &[(0x64, 0xdf)]),
        (&[(0x92, 0x00)], &[(0x92, 0x02)]),
    ];
    for (close, _) in ways {
        for (_, open) in ways {
            let mut bench = Bench::new();
            for (way, a20) in [(close, false), (open, true), (open, true)] {
                for &(port, value) in way {
                    bench.out(port, value);
                }
                assert_eq!(bench.inb(0x92), if a20 { A20 } else { 0 });
                bench.out(0x64, 0xd0);
                assert_eq!(bench.drain()[0] & A20 != 0, a20);
            }
            let told = bench.signals.take();
            assert_eq!(told, [Signal::A20(false), Signal::A20(true)], "changes only");
        }
    }
}

#[test]
fn every_way_to_reset_pulls_the_line_once() {
    for (way, resets) in [
        (&[(0x64, 0xfe)][..], 1),
        (&[(0x64, 0xf0)], 1),
        (&[(0x64, 0xff)], 0),
        (&[(0x64, 0xfd)], 0),
        (&[(0x64, 0xd1), (0x60, 0xde)], 1),
        (&[(0x64, 0xd1), (0x60, 0xdf)], 0),
        (&[(0x92, 0x03)], 1),
        (&[(0x92, 0x03), (0x92, 0x03)], 1),
        (&[(0x92, 0x03), (0x92, 0x02), (0x92, 0x03)], 2),
    ] {
        let mut bench = Bench::new();
        for &(port, value) in way {
            bench.out(port, value);
        }
        assert_eq!(bench.signals.take(), vec![Signal::Reset; resets], "{way:x?}");
    }
}

#[test]
fn the_output_port_shows_who_fills_the_buffer() {
    for (source, bit) in [(0xd2, OUT_KEYBOARD), (0xd3, OUT_AUX)] {
        let mut bench = Bench::new();
        bench.out(0x64, source);
        bench.out(0x60, 0x77);
        bench.out(0x64, 0xd0);
        assert_eq!(bench.drain(), [0x77, 0xcf | bit]);
    }
}

#[test]
fn a_guest_that_never_reads_fills_no_more_than_the_queue() {
    let mut bench = Bench::new();
    for n in 0..1000u32 {
        bench.out(0x64, 0xd2);
        bench.out(0x60, n as u8);
        bench.out(0x60, 0xf2);
    }
    assert_eq!(bench.i8042.replies.len(), I8042::MOST_REPLIES);
    let expected: Vec<u8> = (0..=I8042::MOST_REPLIES as u8)
        .chain([0xfa, 0xab, 0x83])
        .collect();
    assert_eq!(bench.drain(), expected, "the first ones, in order");
}

#[test]
fn reset_puts_everything_back() {
    let mut bench = Bench::with_command_byte(INT1 | INT12 | SYS | TRANSLATE);
    bench.out(0x92, 0x01);
    bench.out(0x60, 0xf2);
    bench.out(0x64, 0xd1);
    bench.signals.take();
    bench.i8042.reset();
    assert_eq!(bench.signals.take(), [Signal::A20(true)]);
    assert!(!bench.wires.level(1));
    assert_eq!(bench.inb(0x64), NOT_LOCKED);
    assert_eq!(bench.inb(0x92), A20);
    bench.out(0x64, 0x20);
    assert_eq!(bench.drain(), [KEYBOARD_OFF | AUX_OFF]);
}

#[test]
fn only_byte_accesses_of_its_own_ports_reach_a_register() {
    let mut bench = Bench::new();
    for (port, width) in [(0x60, Width::Word), (0x92, Width::Dword), (0x61, Width::Byte)] {
        assert_eq!(bench.i8042.port_read(Ns(0), port, width), Access::Bad);
        assert_eq!(bench.i8042.port_write(Ns(0), port, width, 0), Access::Bad);
    }
}

proptest! {
    #[test]
    fn survives_any_port_stream(ops in proptest::collection::vec((0..3usize, any::<u8>(), any::<bool>()), 0..400)) {
        let mut bench = Bench::new();
        for (which, value, read) in ops {
            let port = [0x60, 0x64, 0x92][which];
            if read {
                bench.inb(port);
            } else {
                bench.out(port, value);
            }
            let status = bench.inb(0x64);
            let (full, aux) = (status & OBF != 0, status & AUX_OBF != 0);
            prop_assert!(full || status & (AUX_OBF | TIMEOUT) == 0);
            let command_byte = bench.i8042.command_byte();
            prop_assert_eq!(bench.wires.level(1), full && !aux && command_byte & INT1 != 0);
            prop_assert_eq!(bench.wires.level(12), full && aux && command_byte & INT12 != 0);
            prop_assert!(bench.i8042.replies.len() <= I8042::MOST_REPLIES);
        }
        bench.drain();
    }
}
