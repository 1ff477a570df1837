//! The pair of 8259As against the data sheet, and against a model written apart from it.

use super::*;
use proptest::prelude::*;

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;

fn out(pic: &mut PicPair, port: u16, value: u8) {
    assert_eq!(
        pic.port_write(Ns(0), port, Width::Byte, value.into()),
        Access::Done(())
    );
}

fn inb(pic: &mut PicPair, port: u16) -> u8 {
    match pic.port_read(Ns(0), port, Width::Byte) {
        Access::Done(value) => value as u8,
        other => panic!("port {port:#x}: {other:?}"),
    }
}

fn irr(pic: &mut PicPair, chip: u16) -> u8 {
    out(pic, chip, 0x0a);
    inb(pic, chip)
}

fn isr(pic: &mut PicPair, chip: u16) -> u8 {
    out(pic, chip, 0x0b);
    inb(pic, chip)
}

/// As a PC's firmware does it: vectors 0x20 and 0x28, edges, nothing masked.
fn initialised_with(icw4_master: u8, icw4_slave: u8) -> PicPair {
    let mut pic = PicPair::new();
    for (chip, base, icw3, icw4) in [(MASTER, 0x20, 0x04, icw4_master), (SLAVE, 0x28, 0x02, icw4_slave)] {
        out(&mut pic, chip, 0x11);
        out(&mut pic, chip + 1, base);
        out(&mut pic, chip + 1, icw3);
        out(&mut pic, chip + 1, icw4);
    }
    pic
}

fn initialised() -> PicPair {
    initialised_with(0x01, 0x01)
}

#[test]
fn nothing_is_delivered_before_the_initialisation_is_complete() {
    let mut pic = PicPair::new();
    pic.set_irq(1, true);
    assert!(!pic.output(), "after power-on");
    out(&mut pic, MASTER + 1, 0xfb);
    assert_eq!(
        inb(&mut pic, MASTER + 1),
        0xfb,
        "the mask can be probed before ICW1"
    );
    for (port, value) in [
        (MASTER, 0x11),
        (MASTER + 1, 0x20),
        (MASTER + 1, 0x04),
        (MASTER + 1, 0x01),
    ] {
        out(&mut pic, port, value);
        pic.pulse(1);
        assert_eq!(pic.output(), value == 0x01, "after {value:#x} to {port:#x}");
    }
    assert_eq!(inb(&mut pic, MASTER + 1), 0, "ICW1 clears the mask");
}

#[test]
fn icw1_chooses_how_many_words_follow() {
    // (ICW1, words after it); the write after them must land in the mask.
    for (icw1, follow) in [(0x10, 2), (0x11, 3), (0x12, 1), (0x13, 2)] {
        let mut pic = PicPair::new();
        out(&mut pic, MASTER, icw1);
        for _ in 0..follow {
            out(&mut pic, MASTER + 1, 0x08);
            assert_eq!(inb(&mut pic, MASTER + 1), 0, "ICW1 {icw1:#x}: no mask yet");
        }
        out(&mut pic, MASTER + 1, 0x5a);
        assert_eq!(inb(&mut pic, MASTER + 1), 0x5a, "ICW1 {icw1:#x}");
    }
}

#[test]
fn icw1_drops_latched_edges_service_and_modes() {
    let mut pic = initialised_with(0x03, 0x01); // AEOI
    out(&mut pic, MASTER, 0xc3); // IRQ 3 lowest
    out(&mut pic, MASTER, 0x6b); // special mask, read ISR
    pic.set_irq(5, true);
    for (port, value) in [(MASTER, 0x10), (MASTER + 1, 0x40), (MASTER + 1, 0x04)] {
        out(&mut pic, port, value);
    }
    assert!(
        !pic.output(),
        "an edge before ICW1 is forgotten although the input is still up"
    );
    assert_eq!(inb(&mut pic, MASTER), 0, "status read is back on IRR");
    pic.set_irq(0, true);
    assert_eq!(pic.acknowledge(), 0x40);
    assert_eq!(isr(&mut pic, MASTER), 1, "without ICW4 there is no AEOI");
}

#[test]
fn every_input_has_its_vector() {
    for irq in (0..16).filter(|&irq| irq != 2) {
        let mut pic = initialised();
        pic.set_irq(irq, true);
        assert!(pic.output(), "IRQ {irq}");
        assert_eq!(pic.acknowledge(), 0x20 + irq, "IRQ {irq}");
        let expected = if irq < 8 {
            (1 << irq, 0)
        } else {
            (4, 1 << (irq - 8))
        };
        assert_eq!(
            (isr(&mut pic, MASTER), isr(&mut pic, SLAVE)),
            expected,
            "IRQ {irq}"
        );
        assert_eq!((irr(&mut pic, MASTER), irr(&mut pic, SLAVE)), (0, 0), "IRQ {irq}");
        assert!(!pic.output(), "IRQ {irq}: one edge is one interrupt");
    }
    let mut pic = initialised();
    for irq in [2, 16, 23, 255] {
        pic.set_irq(irq, true);
        pic.wire(irq, true, true);
        pic.pulse(irq);
        assert!(!pic.output(), "wire {irq} is not wired");
    }
}

/// Every pair of inputs, for every setting of the lowest priority: which one comes first.
#[test]
fn fixed_and_set_priority_decide_every_pair() {
    let inputs: Vec<u8> = (0..8).filter(|&ir| ir != CASCADE).collect();
    for lowest in 0..8u8 {
        for &a in &inputs {
            for &b in inputs.iter().filter(|&&b| b != a) {
                let mut pic = initialised();
                out(&mut pic, MASTER, 0xc0 | lowest);
                pic.set_irq(a, true);
                pic.set_irq(b, true);
                let order = |ir: u8| (ir + 7 - lowest) % 8;
                let (first, second) = if order(a) < order(b) { (a, b) } else { (b, a) };
                assert_eq!(pic.acknowledge(), 0x20 + first, "lowest {lowest}: {a}, {b}");
                assert!(!pic.output(), "{second} waits for {first}");
                out(&mut pic, MASTER, 0x20);
                assert_eq!(pic.acknowledge(), 0x20 + second);
            }
        }
    }
}

/// The eight commands of OCW2: command, ISR after it and the input that is lowest after it, with ISR = 3 and 5 before.
#[test]
fn ocw2_does_what_its_table_says() {
    for (ocw2, isr_after, lowest_after) in [
        (0x20, 0x20, 7), // non-specific EOI: the higher of the two, 3
        (0x65, 0x08, 7), // specific EOI 5
        (0xa0, 0x20, 3), // rotate on non-specific EOI
        (0xe5, 0x08, 5), // rotate on specific EOI 5
        (0xc4, 0x28, 4), // set priority, no EOI
        (0x40, 0x28, 7), // no operation
        (0x00, 0x28, 7), // rotation in AEOI off
        (0x80, 0x28, 7), // rotation in AEOI on
    ] {
        let mut pic = initialised();
        pic.set_irq(5, true);
        pic.acknowledge();
        pic.set_irq(3, true);
        pic.acknowledge();
        out(&mut pic, MASTER, ocw2);
        assert_eq!(isr(&mut pic, MASTER), isr_after, "OCW2 {ocw2:#x}");
        out(&mut pic, MASTER, 0x63);
        out(&mut pic, MASTER, 0x65);
        for irq in (0..8).filter(|&irq| irq != CASCADE) {
            pic.pulse(irq);
        }
        let highest = match (lowest_after + 1) % 8 {
            CASCADE => 3,
            ir => ir,
        };
        assert_eq!(pic.acknowledge(), 0x20 + highest, "OCW2 {ocw2:#x}: lowest");
    }
}

#[test]
fn automatic_eoi_leaves_nothing_in_service_and_may_rotate() {
    let mut pic = initialised_with(0x03, 0x01);
    pic.pulse(4);
    pic.pulse(6);
    assert_eq!([pic.acknowledge(), pic.acknowledge()], [0x24, 0x26]);
    assert_eq!(isr(&mut pic, MASTER), 0);
    out(&mut pic, MASTER, 0x80);
    for irq in [0, 1, 0] {
        pic.pulse(0);
        pic.pulse(1);
        assert_eq!(
            pic.acknowledge(),
            0x20 + irq,
            "each goes to the end of the queue once served"
        );
    }
}

#[test]
fn an_edge_that_falls_before_the_acknowledge_takes_its_request_back() {
    let mut pic = initialised();
    pic.set_irq(4, true);
    assert_eq!(irr(&mut pic, MASTER), 0x10);
    pic.set_irq(4, false);
    assert_eq!(irr(&mut pic, MASTER), 0);
    assert!(!pic.output());
    assert_eq!(pic.acknowledge(), 0x27, "a CPU that had seen INTR gets level 7");
    assert_eq!(isr(&mut pic, MASTER), 0, "of which no trace is in service");
    pic.set_irq(4, true);
    assert_eq!(pic.acknowledge(), 0x24);
}

#[test]
fn a_slave_that_lost_its_request_leaves_the_cascade_in_service() {
    let mut pic = initialised();
    pic.set_irq(12, true);
    // The fall that the master has not seen yet: between the two INTA pulses.
    pic.slave.set(4, false);
    assert_eq!(pic.acknowledge(), 0x2f);
    assert_eq!((isr(&mut pic, MASTER), isr(&mut pic, SLAVE)), (0x04, 0));
    pic.set_irq(9, true);
    assert!(!pic.output(), "the master is owed an EOI");
    out(&mut pic, MASTER, 0x20);
    assert_eq!(pic.acknowledge(), 0x29);
}

#[test]
fn a_pulse_between_two_drains_is_one_interrupt() {
    let mut pic = initialised();
    for (rose, level) in [(true, false), (true, false), (false, false)] {
        pic.wire(8, rose, level);
    }
    assert_eq!(pic.acknowledge(), 0x28);
    out(&mut pic, SLAVE, 0x20);
    out(&mut pic, MASTER, 0x20);
    assert!(!pic.output());
    // Up, served, and a fall and rise in one drain: a second edge.
    for _ in 0..2 {
        pic.wire(0, true, true);
        assert_eq!(pic.acknowledge(), 0x20);
        out(&mut pic, MASTER, 0x20);
    }
    assert!(!pic.output(), "but a level that stays is none");
}

#[test]
fn level_mode_asks_as_long_as_the_input_is_up() {
    let mut pic = initialised();
    out(&mut pic, 0x4d1, 0x08); // IRQ 11
    pic.set_irq(11, true);
    for _ in 0..3 {
        assert_eq!(pic.acknowledge(), 0x2b);
        assert_eq!(irr(&mut pic, SLAVE), 0x08, "the level shows through IRR");
        assert!(!pic.output());
        out(&mut pic, SLAVE, 0x20);
        out(&mut pic, MASTER, 0x20);
        assert!(pic.output());
    }
    pic.set_irq(11, false);
    assert!(!pic.output());
    pic.pulse(11);
    assert!(!pic.output(), "an edge means nothing in level mode");
}

#[test]
fn elcr_keeps_the_fixed_inputs_on_edges() {
    let mut pic = initialised();
    for (port, readback) in [(0x4d0, 0xf8), (0x4d1, 0xde)] {
        assert_eq!(inb(&mut pic, port), 0);
        out(&mut pic, port, 0xff);
        assert_eq!(inb(&mut pic, port), readback);
        out(&mut pic, if port == 0x4d0 { MASTER } else { SLAVE }, 0x11);
        assert_eq!(inb(&mut pic, port), readback, "ICW1 does not touch it");
    }
    pic.reset();
    assert_eq!((inb(&mut pic, 0x4d0), inb(&mut pic, 0x4d1)), (0, 0));
}

#[test]
fn masked_edges_wait_for_the_mask_to_go() {
    let mut pic = initialised();
    out(&mut pic, SLAVE + 1, 0x40);
    pic.set_irq(14, true);
    assert!(!pic.output());
    assert_eq!(irr(&mut pic, SLAVE), 0x40);
    out(&mut pic, SLAVE + 1, 0);
    assert_eq!(pic.acknowledge(), 0x2e);
}

#[test]
fn special_mask_mode_lets_lower_levels_through_a_masked_service() {
    let mut pic = initialised();
    pic.set_irq(3, true);
    pic.acknowledge();
    pic.set_irq(6, true);
    out(&mut pic, MASTER + 1, 0x08);
    assert!(!pic.output());
    out(&mut pic, MASTER, 0x68);
    assert_eq!(pic.acknowledge(), 0x26);
    out(&mut pic, MASTER, 0x20);
    out(&mut pic, MASTER, 0x20);
    assert_eq!(
        isr(&mut pic, MASTER),
        0x08,
        "a non-specific EOI passes over the masked level"
    );
    out(&mut pic, MASTER, 0x48);
    out(&mut pic, MASTER, 0x20);
    assert_eq!(isr(&mut pic, MASTER), 0, "out of the mode it does not");
}

#[test]
fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
    for (icw4, nested) in [(0x01, false), (0x11, true)] {
        let mut pic = initialised_with(icw4, 0x01);
        pic.set_irq(14, true);
        assert_eq!(pic.acknowledge(), 0x2e);
        pic.set_irq(9, true);
        pic.set_irq(5, true);
        assert_eq!(pic.output(), nested, "higher on the slave, ICW4 {icw4:#x}");
        if nested {
            assert_eq!(pic.acknowledge(), 0x29);
            assert!(!pic.output(), "5 is below the cascade all the same");
        }
    }
}

#[test]
fn poll_is_one_acknowledge_by_read() {
    let mut pic = initialised();
    out(&mut pic, MASTER, 0x0c);
    assert_eq!(inb(&mut pic, MASTER), 0, "nobody asked");
    pic.set_irq(10, true);
    out(&mut pic, MASTER, 0x0c);
    assert_eq!(
        inb(&mut pic, MASTER + 1),
        0x82,
        "either address reads the poll word"
    );
    out(&mut pic, SLAVE, 0x0c);
    assert_eq!(inb(&mut pic, SLAVE), 0x82);
    assert_eq!((isr(&mut pic, MASTER), isr(&mut pic, SLAVE)), (0x04, 0x04));
    assert_eq!(inb(&mut pic, SLAVE), 0x04, "and only the first read is one");
}

#[test]
fn a_single_master_answers_for_its_input_2_itself() {
    let mut pic = initialised();
    for (port, value) in [(MASTER, 0x13), (MASTER + 1, 0x20), (MASTER + 1, 0x01)] {
        out(&mut pic, port, value);
    }
    pic.set_irq(8, true);
    assert_eq!(pic.acknowledge(), 0x22);
    assert_eq!(isr(&mut pic, SLAVE), 0);
}

#[test]
fn only_byte_accesses_of_its_own_ports_reach_a_register() {
    let mut pic = initialised();
    for (port, width) in [(0x20, Width::Word), (0x4d0, Width::Dword), (0x22, Width::Byte)] {
        assert_eq!(pic.port_read(Ns(0), port, width), Access::Bad);
        assert_eq!(pic.port_write(Ns(0), port, width, 0), Access::Bad);
    }
}

/// The pair written as the data sheet tells it, with lists: who asks, who is served, who goes first.
#[derive(Default)]
struct Paper {
    chips: [PaperChip; 2],
}

#[derive(Default)]
struct PaperChip {
    up: [bool; 8],
    asks: [bool; 8],
    served: [bool; 8],
    masked: [bool; 8],
    /// From highest to lowest.
    order: Vec<usize>,
    special: bool,
}

impl PaperChip {
    fn next(&self, nested: bool) -> Option<usize> {
        for &ir in &self.order {
            let blocks = self.served[ir] && !(self.special && self.masked[ir]);
            if blocks && !(nested && ir == 2) {
                return None;
            }
            if self.asks[ir] && !self.masked[ir] {
                return Some(ir);
            }
            if blocks {
                return None;
            }
        }
        None
    }

    fn take(&mut self, nested: bool) -> Option<usize> {
        let ir = self.next(nested)?;
        self.asks[ir] = false;
        self.served[ir] = true;
        Some(ir)
    }

    fn lower(&mut self, ir: usize) {
        while *self.order.last().expect("eight") != ir {
            self.order.rotate_left(1);
        }
    }

    fn level(&mut self, ir: usize, up: bool) {
        self.asks[ir] = up && (self.asks[ir] || !self.up[ir]);
        self.up[ir] = up;
    }

    fn eoi(&mut self) -> Option<usize> {
        let ir = *self
            .order
            .iter()
            .find(|&&ir| self.served[ir] && !(self.special && self.masked[ir]))?;
        self.served[ir] = false;
        Some(ir)
    }
}

impl Paper {
    fn new() -> Self {
        let mut paper = Self::default();
        for chip in &mut paper.chips {
            chip.order = (0..8).collect();
        }
        paper
    }

    fn cascade(&mut self) {
        let asks = self.chips[1].next(false).is_some();
        self.chips[0].level(2, asks);
    }

    fn acknowledge(&mut self, nested: bool) -> u8 {
        match self.chips[0].take(nested) {
            None => 0x27,
            Some(2) => {
                let ir = self.chips[1].take(false).unwrap_or(7);
                self.chips[0].level(2, false);
                self.cascade();
                0x28 + ir as u8
            }
            Some(ir) => 0x20 + ir as u8,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Level(u8, bool),
    Acknowledge,
    Mask(usize, u8),
    Special(usize, bool),
    Eoi(usize),
    RotateEoi(usize),
    SpecificEoi(usize, u8),
    RotateSpecific(usize, u8),
    Lowest(usize, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let chip = 0..2usize;
    prop_oneof![
        6 => (0..16u8, any::<bool>()).prop_map(|(irq, up)| Op::Level(irq, up)),
        4 => Just(Op::Acknowledge),
        1 => (chip.clone(), any::<u8>()).prop_map(|(c, m)| Op::Mask(c, m)),
        1 => (chip.clone(), any::<bool>()).prop_map(|(c, on)| Op::Special(c, on)),
        2 => chip.clone().prop_map(Op::Eoi),
        1 => chip.clone().prop_map(Op::RotateEoi),
        1 => (chip.clone(), 0..8u8).prop_map(|(c, l)| Op::SpecificEoi(c, l)),
        1 => (chip.clone(), 0..8u8).prop_map(|(c, l)| Op::RotateSpecific(c, l)),
        1 => (chip, 0..8u8).prop_map(|(c, l)| Op::Lowest(c, l)),
    ]
}

fn apply(pic: &mut PicPair, paper: &mut Paper, op: &Op, nested: bool) -> Result<(), TestCaseError> {
    let base = |chip: usize| if chip == 0 { MASTER } else { SLAVE };
    match *op {
        Op::Level(irq, up) => {
            pic.set_irq(irq, up);
            if irq != 2 {
                paper.chips[usize::from(irq / 8)].level(usize::from(irq % 8), up);
            }
        }
        Op::Acknowledge => prop_assert_eq!(pic.acknowledge(), paper.acknowledge(nested)),
        Op::Mask(c, mask) => {
            out(pic, base(c) + 1, mask);
            paper.chips[c].masked = std::array::from_fn(|ir| mask >> ir & 1 != 0);
        }
        Op::Special(c, on) => {
            out(pic, base(c), if on { 0x68 } else { 0x48 });
            paper.chips[c].special = on;
        }
        Op::Eoi(c) => {
            out(pic, base(c), 0x20);
            paper.chips[c].eoi();
        }
        Op::RotateEoi(c) => {
            out(pic, base(c), 0xa0);
            if let Some(ir) = paper.chips[c].eoi() {
                paper.chips[c].lower(ir);
            }
        }
        Op::SpecificEoi(c, level) => {
            out(pic, base(c), 0x60 | level);
            paper.chips[c].served[usize::from(level)] = false;
        }
        Op::RotateSpecific(c, level) => {
            out(pic, base(c), 0xe0 | level);
            paper.chips[c].served[usize::from(level)] = false;
            paper.chips[c].lower(level.into());
        }
        Op::Lowest(c, level) => {
            out(pic, base(c), 0xc0 | level);
            paper.chips[c].lower(level.into());
        }
    }
    paper.cascade();
    prop_assert_eq!(
        pic.output(),
        paper.chips[0].next(nested).is_some(),
        "after {:?}",
        op
    );
    for (c, chip) in paper.chips.iter().enumerate() {
        let bits = |set: &[bool; 8]| (0..8).fold(0, |bits, ir| bits | u8::from(set[ir]) << ir);
        prop_assert_eq!(irr(pic, base(c)), bits(&chip.asks), "IRR {} after {:?}", c, op);
        prop_assert_eq!(isr(pic, base(c)), bits(&chip.served), "ISR {} after {:?}", c, op);
    }
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_the_written_model(nested: bool, ops in proptest::collection::vec(op(), 1..200)) {
        let mut pic = initialised_with(if nested { 0x11 } else { 0x01 }, 0x01);
        let mut paper = Paper::new();
        for op in &ops {
            apply(&mut pic, &mut paper, op, nested)?;
        }
    }

    #[test]
    fn survives_any_port_stream(ops in proptest::collection::vec((0..8u8, any::<u8>(), any::<bool>()), 0..300)) {
        let ports: Vec<u16> = PicPair::PORTS.into_iter().flatten().collect();
        let mut pic = PicPair::new();
        for (what, value, flag) in ops {
            match ports.get(usize::from(what)) {
                Some(&port) if flag => out(&mut pic, port, value),
                Some(&port) => { inb(&mut pic, port); }
                None if flag => pic.wire(value % 32, value & 0x80 != 0, value & 0x40 != 0),
                None => {
                    let asked = pic.output();
                    let vector = pic.acknowledge();
                    prop_assert!(asked || vector & 7 == 7, "nobody asked: spurious");
                }
            }
        }
        pic.reset();
        prop_assert!(!pic.output());
    }
}
