//! The 8254 against the waveforms of its data sheet, and against a model that goes tick by tick.

use super::*;
use crate::bus::Wires;
use proptest::prelude::*;

/// What happens to a counter between two ticks.
#[derive(Clone, Debug)]
enum Event {
    Count(u8),
    Gate(bool),
}
use Event::{Count, Gate};

/// A waveform of the data sheet: name, control word (LSB only), events before the tick of that index, the counts
/// seen after each tick and OUT after each tick.
type Figure = (
    &'static str,
    u8,
    &'static [(usize, Event)],
    &'static [u8],
    &'static str,
);

/// The waveforms of "Mode Definitions", each with the variations the sheet draws. 0xff is the element after it ran through zero.
const FIGURES: &[Figure] = &[
    (
        "mode 0",
        0x10,
        &[(0, Count(4))],
        &[4, 3, 2, 1, 0, 0xff, 0xfe],
        "LLLLHHH",
    ),
    (
        "mode 0, gate",
        0x10,
        &[(0, Count(3)), (2, Gate(false)), (4, Gate(true))],
        &[3, 2, 2, 2, 1, 0, 0xff],
        "LLLLLHH",
    ),
    (
        "mode 0, new count",
        0x10,
        &[(0, Count(3)), (3, Count(2))],
        &[3, 2, 1, 2, 1, 0, 0xff],
        "LLLLLHH",
    ),
    (
        "mode 1",
        0x12,
        &[(0, Gate(false)), (0, Count(3)), (0, Gate(true))],
        &[3, 2, 1, 0, 0xff],
        "LLLHH",
    ),
    (
        "mode 1, retrigger",
        0x12,
        &[
            (0, Gate(false)),
            (0, Count(3)),
            (0, Gate(true)),
            (1, Gate(false)),
            (3, Gate(true)),
        ],
        &[3, 2, 1, 3, 2, 1, 0],
        "LLLLLLH",
    ),
    (
        "mode 1, new count",
        0x12,
        &[
            (0, Gate(false)),
            (0, Count(2)),
            (0, Gate(true)),
            (1, Count(4)),
            (3, Gate(false)),
            (5, Gate(true)),
        ],
        &[2, 1, 0, 0xff, 0xfe, 4, 3],
        "LLHHHLL",
    ),
    (
        "mode 2",
        0x14,
        &[(0, Count(3))],
        &[3, 2, 1, 3, 2, 1, 3],
        "HHLHHLH",
    ),
    (
        "mode 2, gate",
        0x14,
        &[(0, Count(3)), (2, Gate(false)), (3, Gate(true))],
        &[3, 2, 2, 3, 2, 1, 3],
        "HHHHHLH",
    ),
    (
        "mode 2, new count",
        0x14,
        &[(0, Count(4)), (2, Count(5))],
        &[4, 3, 2, 1, 5, 4, 3],
        "HHHLHHH",
    ),
    (
        "mode 3, even",
        0x16,
        &[(0, Count(4))],
        &[4, 2, 4, 2, 4, 2, 4, 2, 4, 2],
        "HHLLHHLLHH",
    ),
    (
        "mode 3, odd",
        0x16,
        &[(0, Count(5))],
        &[4, 2, 0, 4, 2, 4, 2, 0, 4, 2],
        "HHHLLHHHLL",
    ),
    (
        "mode 3, gate",
        0x16,
        &[(0, Count(4)), (4, Gate(false)), (6, Gate(true))],
        &[4, 2, 4, 2, 2, 2, 4, 2, 4, 2],
        "HHLLHHHHLL",
    ),
    (
        "mode 4",
        0x18,
        &[(0, Count(3))],
        &[3, 2, 1, 0, 0xff, 0xfe, 0xfd],
        "HHHLHHH",
    ),
    (
        "mode 4, gate",
        0x18,
        &[(0, Gate(false)), (0, Count(3)), (3, Gate(true))],
        &[3, 3, 3, 2, 1, 0, 0xff],
        "HHHHHLH",
    ),
    (
        "mode 4, new count",
        0x18,
        &[(0, Count(3)), (3, Count(2))],
        &[3, 2, 1, 2, 1, 0, 0xff],
        "HHHHHLH",
    ),
    (
        "mode 5",
        0x1a,
        &[(0, Gate(false)), (0, Count(3)), (0, Gate(true))],
        &[3, 2, 1, 0, 0xff],
        "HHHLH",
    ),
    (
        "mode 5, retrigger",
        0x1a,
        &[
            (0, Gate(false)),
            (0, Count(3)),
            (0, Gate(true)),
            (1, Gate(false)),
            (2, Gate(true)),
        ],
        &[3, 2, 3, 2, 1, 0, 0xff, 0xfe],
        "HHHHHLHH",
    ),
];

#[test]
fn every_mode_draws_the_waveforms_of_the_data_sheet() {
    for &(name, control, events, counts, outs) in FIGURES {
        let mut counter = Counter::new(true);
        counter.program(control);
        assert_eq!(
            counter.out(),
            control >> 1 & 7 != 0,
            "{name}: OUT after the control word"
        );
        for (tick, (&count, out)) in counts.iter().zip(outs.chars()).enumerate() {
            for (_, event) in events.iter().filter(|(at, _)| *at == tick) {
                match *event {
                    Count(count) => counter.write(count),
                    Gate(gate) => counter.set_gate(gate),
                }
            }
            counter.run(1);
            assert_eq!(counter.read(), count, "{name}: count after tick {tick}");
            assert_eq!(counter.out(), out == 'H', "{name}: OUT after tick {tick}");
        }
    }
}

/// One tick after another, each as the data sheet tells it; nothing here is closed form.
struct Slow {
    mode: u8,
    modulus: u32,
    gate: bool,
    out: bool,
    count: Option<u32>,
    /// The number the processor sees.
    element: Option<u32>,
    load: bool,
    null: bool,
    /// Terminal count still has a meaning.
    waiting: bool,
    strobe: bool,
    /// Mode 3: whether this half began with an odd count.
    odd: bool,
}

impl Slow {
    fn program(gate: bool, mode: u8, bcd: bool) -> Self {
        Self {
            mode,
            modulus: if bcd { 10_000 } else { 65_536 },
            gate,
            out: mode != 0,
            count: None,
            element: None,
            load: false,
            null: true,
            waiting: false,
            strobe: false,
            odd: false,
        }
    }

    fn write(&mut self, count: u32) {
        let first = self.count.replace(count).is_none();
        self.null = true;
        match self.mode {
            0 => {
                self.out = false;
                self.load = true;
            }
            4 => self.load = true,
            2 | 3 if first => self.load = true,
            _ => {}
        }
    }

    fn set_gate(&mut self, gate: bool) {
        let rising = gate && !self.gate;
        self.gate = gate;
        if matches!(self.mode, 1 | 2 | 3 | 5) && rising && self.count.is_some() {
            self.load = true;
        }
        if matches!(self.mode, 2 | 3) && !gate {
            self.out = true;
        }
    }

    fn fill(&mut self) {
        let count = self.count.expect("written");
        self.null = false;
        self.odd = count % 2 == 1;
        self.element = Some(if self.mode == 3 { count - count % 2 } else { count });
    }

    fn tick(&mut self) {
        if std::mem::take(&mut self.strobe) {
            self.out = true;
        }
        if std::mem::take(&mut self.load) {
            self.out = match self.mode {
                0 => self.out,
                1 => false,
                _ => true,
            };
            self.waiting = true;
            return self.fill();
        }
        let Some(element) = self.element else {
            return;
        };
        if !self.gate && matches!(self.mode, 0 | 2 | 3 | 4) {
            return;
        }
        let less = |by: u32| Some((element + self.modulus - by) % self.modulus);
        match self.mode {
            2 if element == 1 => {
                self.out = true;
                self.fill();
            }
            2 => {
                self.element = less(1);
                self.out = self.element != Some(1);
            }
            3 if element == (if self.odd && self.out { 0 } else { 2 }) => {
                self.out = !self.out;
                self.fill();
            }
            3 => self.element = Some(element - 2),
            _ => {
                self.element = less(1);
                if self.element == Some(0) && std::mem::take(&mut self.waiting) {
                    self.out = self.mode < 2;
                    self.strobe = self.mode >= 4;
                }
            }
        }
    }
}

fn bcd(value: u32) -> u16 {
    let digits = format!("{:04}", value % 10_000);
    u16::from_str_radix(&digits, 16).expect("four digits")
}

#[derive(Clone, Debug)]
enum Op {
    Program(u8, bool),
    Write(u32),
    SetGate(bool),
    Run(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..6u8, any::<bool>()).prop_map(|(mode, bcd)| Op::Program(mode, bcd)),
        6 => (2..20u32).prop_map(Op::Write),
        1 => (2..=10_000u32).prop_map(Op::Write),
        4 => any::<bool>().prop_map(Op::SetGate),
        12 => (0..60u64).prop_map(Op::Run),
        1 => (0..70_000u64).prop_map(Op::Run),
    ]
}

fn compare(fast: &mut Counter, slow: &Slow, bcd_digits: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(fast.out(), slow.out);
    fast.latch_status();
    prop_assert_eq!(fast.read() >> 6, u8::from(slow.out) << 1 | u8::from(slow.null));
    fast.latch_count();
    let seen = u16::from_le_bytes([fast.read(), fast.read()]);
    if let Some(element) = slow.element {
        let shown = if bcd_digits { bcd(element) } else { element as u16 };
        prop_assert_eq!(seen, shown);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_stretch_of_ticks_equals_as_many_single_ones(
        mode in 0..6u8,
        in_bcd: bool,
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        let first = [Op::Program(mode, in_bcd), Op::Write(5), Op::SetGate(false), Op::SetGate(true)];
        let mut in_bcd = false;
        let mut fast = Counter::new(true);
        let mut slow = Slow::program(true, 0, false);
        for op in first.into_iter().chain(ops) {
            match op {
                Op::Program(mode, digits) => {
                    in_bcd = digits;
                    fast.program(0x30 | mode << 1 | u8::from(digits));
                    slow = Slow::program(slow.gate, mode, digits);
                }
                Op::Write(count) => {
                    let [low, high] = if in_bcd { bcd(count) } else { count as u16 }.to_le_bytes();
                    fast.write(low);
                    fast.write(high);
                    slow.write(count);
                }
                Op::SetGate(gate) => {
                    fast.set_gate(gate);
                    slow.set_gate(gate);
                }
                Op::Run(ticks) => {
                    let promised = fast.next_rise();
                    let mut seen = None;
                    for tick in 1..=ticks {
                        let before = slow.out;
                        slow.tick();
                        if !before && slow.out && seen.is_none() {
                            seen = Some(tick);
                        }
                    }
                    fast.run(ticks);
                    prop_assert_eq!(promised.filter(|&tick| tick <= ticks), seen, "next rise");
                }
            }
            compare(&mut fast, &slow, in_bcd)?;
        }
    }
}

fn pit() -> (Pit, Wires) {
    let wires = Wires::default();
    let line = wires.line(2).expect("wire 2");
    (Pit::new(line), wires)
}

fn out(pit: &mut Pit, now: Ns, port: u16, value: u8) {
    assert_eq!(
        pit.port_write(now, port, Width::Byte, value.into()),
        Access::Done(())
    );
}

fn inb(pit: &mut Pit, now: Ns, port: u16) -> u8 {
    match pit.port_read(now, port, Width::Byte) {
        Access::Done(value) => value as u8,
        other => panic!("port {port:#x}: {other:?}"),
    }
}

fn at_tick(ticks: u64) -> Ns {
    time_of(ticks).expect("in range")
}

#[test]
fn the_clock_is_exactly_105_88ths_of_a_megahertz() {
    assert_eq!(ticks_at(Ns(88 * Ns::SECOND)), 105_000_000);
    for ticks in [0, 1, 2, 20, 21, 22, 1_193_182, 1 << 40] {
        let at = at_tick(ticks);
        assert_eq!(ticks_at(at), ticks);
        assert!(
            at.0 == 0 || ticks_at(Ns(at.0 - 1)) < ticks,
            "{ticks}: the first such instant"
        );
    }
}

/// Read/write modes 1, 2, 3: what is written, what count results, how a latched read gives it back.
#[test]
fn counts_move_as_the_access_bits_say() {
    for (rw, writes, count, reads) in [
        (1, &[0x34][..], 0x0034, &[0x34, 0x34][..]),
        (2, &[0x12], 0x1200, &[0x12, 0x12]),
        (3, &[0x34, 0x12], 0x1234, &[0x34, 0x12, 0x34, 0x12]),
    ] {
        let (mut pit, _) = pit();
        out(&mut pit, Ns(0), 0x43, 0x40 | rw << 4 | 4 << 1);
        for &byte in writes {
            out(&mut pit, Ns(0), 0x41, byte);
        }
        // Loaded by the first tick, out N + 1 ticks after the write.
        let end = at_tick(count + 1);
        for (i, &byte) in reads.iter().enumerate() {
            assert_eq!(inb(&mut pit, at_tick(1), 0x41), byte, "RW {rw}, read {i}");
        }
        out(&mut pit, end, 0x43, 0xe4); // read back: status of counter 1
        assert_eq!(inb(&mut pit, end, 0x41) >> 7, 0, "RW {rw}: the strobe");
    }
}

#[test]
fn a_latched_count_stays_until_read() {
    let (mut pit, _) = pit();
    out(&mut pit, Ns(0), 0x43, 0x34);
    out(&mut pit, Ns(0), 0x40, 0x00);
    out(&mut pit, Ns(0), 0x40, 0x10);
    out(&mut pit, at_tick(1), 0x43, 0x00);
    out(&mut pit, at_tick(100), 0x43, 0x00); // ignored: not read yet
    assert_eq!(inb(&mut pit, at_tick(200), 0x40), 0x00);
    assert_eq!(inb(&mut pit, at_tick(200), 0x40), 0x10);
    assert_eq!(inb(&mut pit, at_tick(0x101), 0x40), 0x00, "free again");
    assert_eq!(inb(&mut pit, at_tick(0x101), 0x40), 0x0f);
    out(&mut pit, at_tick(0x101), 0x43, 0x00);
    out(&mut pit, at_tick(0x101), 0x43, 0x30);
    out(&mut pit, at_tick(0x101), 0x40, 0x07);
    out(&mut pit, at_tick(0x101), 0x40, 0x00);
    assert_eq!(
        inb(&mut pit, at_tick(0x102), 0x40),
        0x07,
        "a control word frees it too"
    );
}

#[test]
fn read_back_latches_status_before_count_of_the_chosen_counters() {
    let (mut pit, _) = pit();
    for counter in 0..3u8 {
        out(&mut pit, Ns(0), 0x43, counter << 6 | 0x3d); // two bytes, mode 6 (2), BCD
        out(&mut pit, Ns(0), 0x40 + u16::from(counter), 0x00);
        out(&mut pit, Ns(0), 0x40 + u16::from(counter), 0x50);
    }
    out(&mut pit, Ns(0), 0x61, 1);
    out(&mut pit, Ns(0), 0x43, 0xe2); // status of counter 0
    assert_eq!(
        inb(&mut pit, Ns(0), 0x40),
        0xfd,
        "OUT high, null count, as programmed"
    );
    out(&mut pit, at_tick(2), 0x43, 0xca); // count and status of 0 and 2
    for (port, expected) in [(0x40, [0xbd, 0x99, 0x49]), (0x42, [0xbd, 0x99, 0x49])] {
        let seen = [(); 3].map(|()| inb(&mut pit, at_tick(9), port));
        assert_eq!(seen, expected, "port {port:#x}");
    }
    assert_eq!(inb(&mut pit, at_tick(9), 0x41), 0x92, "counter 1 was not latched");
}

#[test]
fn port_61_gates_counter_2_and_shows_its_output_and_the_refresh() {
    let (mut pit, _) = pit();
    assert_eq!(inb(&mut pit, Ns(0), 0x61) & !REFRESH, 0);
    out(&mut pit, Ns(0), 0x43, 0xb0); // counter 2, mode 0
    out(&mut pit, Ns(0), 0x42, 100);
    out(&mut pit, Ns(0), 0x42, 0);
    assert_eq!(inb(&mut pit, at_tick(5000), 0x61) & OUT2, 0, "the gate is closed");
    out(&mut pit, at_tick(5000), 0x61, 0xff);
    assert_eq!(inb(&mut pit, at_tick(5099), 0x61) & !REFRESH, 0x0f);
    assert_eq!(inb(&mut pit, at_tick(5100), 0x61) & !REFRESH, 0x2f);
    let changes = (0..1000)
        .map(|us| inb(&mut pit, Ns(10_000_000 + us * 1000), 0x61) & REFRESH)
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count();
    assert!((65..=67).contains(&changes), "{changes} changes in a millisecond");
}

#[test]
fn a_late_advance_is_one_edge_and_keeps_the_phase() {
    let (mut pit, wires) = pit();
    out(&mut pit, Ns(0), 0x43, 0x34);
    out(&mut pit, Ns(0), 0x40, 0xa9);
    out(&mut pit, Ns(0), 0x40, 0x04); // 1193 ticks, about a millisecond
    assert_eq!(
        wires.take().filter(|change| change.rose).count(),
        1,
        "the control word raises OUT"
    );
    assert_eq!(pit.deadline(), Some(at_tick(1194)));
    pit.advance(at_tick(1193));
    assert_eq!(
        wires.take().map(|change| change.level).collect::<Vec<_>>(),
        [false],
        "OUT is low for the tick of count 1"
    );
    pit.advance(at_tick(1194));
    assert!(wires.take().all(|change| change.rose && change.level));
    pit.advance(at_tick(1194 + 50 * 1193 + 7));
    let changes: Vec<_> = wires.take().collect();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].rose && changes[0].level && changes[0].gsi == 2);
    assert_eq!(pit.deadline(), Some(at_tick(1194 + 51 * 1193)));
}

#[test]
fn only_a_count_that_raises_out_again_has_a_deadline() {
    // Control word, count, ticks from the write to the first rise.
    for (control, count, rise) in [
        (0x30, 50, Some(51)),
        (0x32, 50, None), // nobody moves GATE of counter 0
        (0x34, 50, Some(51)),
        (0x36, 50, Some(51)),
        (0x38, 50, Some(52)),
        (0x3a, 50, None),
        (0x34, 1, None), // forbidden counts
        (0x36, 1, None),
        (0x36, 3, Some(4)),
        (0x34, 0, Some(65_537)),
        (0x35, 0, Some(10_001)),
    ] {
        let (mut pit, wires) = pit();
        out(&mut pit, Ns(0), 0x43, control);
        assert_eq!(pit.deadline(), None, "no count yet");
        out(&mut pit, Ns(0), 0x40, count);
        out(&mut pit, Ns(0), 0x40, 0);
        assert_eq!(pit.deadline(), rise.map(at_tick), "{control:#x} {count}");
        assert_eq!(wires.take().any(|change| change.rose), control != 0x30);
        if let Some(rise) = rise {
            pit.advance(at_tick(rise - 1));
            assert!(
                wires.take().all(|change| !change.rose),
                "{control:#x}: not before"
            );
            pit.advance(at_tick(rise));
            assert!(wires.take().any(|change| change.rose), "{control:#x}: then");
        }
    }
}

#[test]
fn reset_stops_everything() {
    let (mut pit, wires) = pit();
    out(&mut pit, Ns(0), 0x43, 0x34);
    out(&mut pit, Ns(0), 0x40, 10);
    out(&mut pit, Ns(0), 0x40, 0);
    out(&mut pit, Ns(0), 0x61, 3);
    pit.advance(at_tick(3));
    pit.reset();
    assert_eq!(pit.deadline(), None);
    assert!(!wires.level(2));
    assert_eq!(inb(&mut pit, at_tick(3), 0x61) & !REFRESH, 0);
}

#[test]
fn the_control_register_cannot_be_read_and_wide_accesses_reach_nothing() {
    let (mut pit, _) = pit();
    assert_eq!(pit.port_read(Ns(0), 0x43, Width::Byte), Access::Bad);
    assert_eq!(pit.port_read(Ns(0), 0x40, Width::Word), Access::Bad);
    assert_eq!(pit.port_write(Ns(0), 0x60, Width::Byte, 0), Access::Bad);
    assert_eq!(pit.port_write(Ns(0), 0x40, Width::Dword, 0), Access::Bad);
}

proptest! {
    #[test]
    fn survives_any_port_stream(
        ops in proptest::collection::vec((0..6usize, any::<u8>(), 0..64u32, any::<u64>()), 0..300)
    ) {
        let ports: Vec<u16> = Pit::PORTS.into_iter().flatten().collect();
        let (mut pit, wires) = pit();
        let mut now = Ns(0);
        for (what, value, shift, step) in ops {
            now = now.after(step >> shift);
            match ports.get(what) {
                Some(&port) if value & 1 != 0 => out(&mut pit, now, port, value),
                Some(&port) => drop(pit.port_read(now, port, Width::Byte)),
                None => pit.advance(now),
            }
            if let Some(deadline) = pit.deadline() {
                prop_assert!(deadline > now);
            }
            prop_assert!(wires.take().count() <= 1);
        }
    }
}
