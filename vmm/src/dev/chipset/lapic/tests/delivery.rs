//! Priorities, nesting, EOI, pins and commands (SDM volume 3, sections 11.5 to 11.8).

use super::*;

#[test]
fn requests_are_taken_highest_first_and_nest_by_class() {
    let mut bench = Bench::enabled();
    for vector in [0x31, 0x45, 0x42, 0x91] {
        assert!(bench.lapic.accept(vector, false));
    }
    assert_eq!(bench.lapic.acknowledge(), Some(0x91));
    assert_eq!(bench.lapic.pending(), None, "lower classes wait for the EOI");
    assert!(bench.lapic.accept(0x9f, false));
    assert_eq!(bench.lapic.pending(), None, "the same class does not nest");
    assert!(bench.lapic.accept(0xa0, false));
    assert_eq!(bench.lapic.acknowledge(), Some(0xa0), "a higher class does");
    assert!(bench.shows(ISR, 0x91) && bench.shows(ISR, 0xa0) && bench.shows(IRR, 0x9f));
    bench.write(EOI, 0);
    assert!(
        !bench.shows(ISR, 0xa0) && bench.shows(ISR, 0x91),
        "EOI ends the highest in service"
    );
    bench.write(EOI, 0);
    assert_eq!(bench.drain(), [0x9f, 0x45, 0x42, 0x31]);
}

#[test]
fn one_vector_can_be_requested_once_more_while_in_service() {
    let mut bench = Bench::enabled();
    bench.lapic.accept(0x50, false);
    assert_eq!(bench.lapic.acknowledge(), Some(0x50));
    bench.lapic.accept(0x50, false);
    bench.lapic.accept(0x50, false);
    bench.write(EOI, 0);
    assert_eq!(bench.drain(), [0x50], "two requests merge into the one IRR bit");
}

#[test]
fn processor_priority_follows_the_manual() {
    // TPR, vector in service, PPR: SDM section 11.8.3.1.
    for (tpr, serving, ppr) in [
        (0x00, None, 0x00),
        (0x35, None, 0x35),
        (0x35, Some(0x31), 0x35),
        (0x35, Some(0x48), 0x40),
        (0x4f, Some(0x48), 0x4f),
        (0xff, Some(0xf1), 0xff),
    ] {
        let mut bench = Bench::enabled();
        if let Some(vector) = serving {
            bench.lapic.accept(vector, false);
            assert_eq!(bench.lapic.acknowledge(), Some(vector));
        }
        bench.write(TPR, tpr);
        assert_eq!(bench.read(PPR), ppr, "TPR {tpr:#x}, in service {serving:x?}");
    }
}

#[test]
fn arbitration_priority_follows_the_manual() {
    let mut bench = Bench::enabled();
    bench.write(TPR, 0x35);
    assert_eq!(bench.read(APR), 0x35);
    bench.lapic.accept(0x62, false);
    assert_eq!(bench.read(APR), 0x60, "a request above the task priority");
}

#[test]
fn task_priority_holds_back_its_class_and_those_below() {
    for (tpr, taken) in [
        (0x00, true),
        (0x40, true),
        (0x4f, true),
        (0x50, false),
        (0xf0, false),
    ] {
        let mut bench = Bench::enabled();
        bench.lapic.accept(0x51, false);
        bench.write(TPR, tpr);
        assert_eq!(bench.lapic.pending().is_some(), taken, "TPR {tpr:#x}");
    }
}

#[test]
fn cr8_is_the_high_half_of_the_task_priority() {
    let mut bench = Bench::enabled();
    bench.write(TPR, 0x5a);
    assert_eq!(bench.lapic.cr8(), 5);
    bench.lapic.set_cr8(5);
    assert_eq!(bench.read(TPR), 0x5a, "an unchanged CR8 keeps the low half");
    bench.lapic.set_cr8(7);
    assert_eq!(bench.read(TPR), 0x70);
    bench.lapic.accept(0x75, false);
    assert_eq!(bench.lapic.pending(), None);
    bench.lapic.set_cr8(6);
    assert_eq!(bench.lapic.pending(), Some(0x75));
}

#[test]
fn eoi_reports_level_triggered_vectors_only() {
    let mut bench = Bench::enabled();
    bench.write(EOI, 0);
    assert_eq!(bench.lapic.take_ended(), None, "nothing was in service");
    bench.lapic.accept(0x60, false);
    bench.lapic.acknowledge();
    bench.write(EOI, 0);
    assert_eq!(bench.lapic.take_ended(), None, "edge");
    bench.lapic.accept(0x60, true);
    assert!(bench.shows(TMR, 0x60));
    bench.lapic.acknowledge();
    bench.write(EOI, 0);
    assert_eq!(bench.lapic.take_ended(), Some(0x60));
    assert_eq!(bench.lapic.take_ended(), None, "told once");
    bench.lapic.accept(0x60, false);
    assert!(!bench.shows(TMR, 0x60), "an edge clears the trigger mode bit");
}

#[test]
fn eoi_broadcasts_can_be_suppressed() {
    let mut bench = Bench::enabled();
    assert_ne!(bench.read(VERSION) & 1 << 24, 0, "the version register offers it");
    bench.write(SVR, 0x11ff);
    bench.lapic.accept(0x60, true);
    bench.lapic.acknowledge();
    bench.write(EOI, 0);
    assert!(!bench.shows(ISR, 0x60));
    assert_eq!(bench.lapic.take_ended(), None);
}

#[test]
fn an_apic_switched_off_by_software_accepts_nothing_and_gives_what_it_has() {
    let mut bench = Bench::enabled();
    bench.lapic.accept(0x60, false);
    bench.write(SVR, 0xff);
    assert!(!bench.lapic.accept(0x70, false));
    assert_eq!(bench.lapic.acknowledge(), Some(0x60));
    assert!(!bench.shows(IRR, 0x70));
}

#[test]
fn illegal_vectors_are_errors() {
    for vector in 0..=16u8 {
        let mut bench = Bench::enabled();
        assert!(bench.lapic.accept(vector, false), "taken, if only to complain");
        bench.write(ESR, 0);
        let expected = if vector < 16 { 0x40 } else { 0 };
        assert_eq!(bench.read(ESR), expected, "received vector {vector}");

        let mut bench = Bench::enabled();
        bench.write(ICR_LOW, 0x4_4000 | u32::from(vector));
        bench.write(ESR, 0);
        let expected = if vector < 16 { 0x20 } else { 0 };
        assert_eq!(bench.read(ESR), expected, "sent vector {vector}");
        assert_eq!(bench.drain().is_empty(), vector < 16);
    }
}

#[test]
fn the_error_interrupt_is_armed_by_writing_the_esr() {
    let mut bench = Bench::enabled();
    bench.write(LVT_ERROR, 0xe0);
    bench.lapic.accept(3, false);
    assert_eq!(bench.read(ESR), 0, "the ESR shows errors only once written");
    assert_eq!(bench.drain(), [0xe0]);
    bench.write(ICR_LOW, 0x4_4005);
    assert_eq!(
        bench.drain(),
        [0u8; 0],
        "the first since the write signals, the others gather"
    );
    bench.write(ESR, 0);
    assert_eq!(bench.read(ESR), 0x60);
    bench.write(ESR, 0);
    assert_eq!(bench.read(ESR), 0);
    bench.lapic.accept(3, false);
    assert_eq!(bench.drain(), [0xe0], "armed again");
    bench.write(LVT_ERROR, 0x05);
    bench.write(ESR, 0);
    bench.lapic.accept(3, false);
    assert_eq!(bench.drain(), [0u8; 0], "an illegal error vector ends there");
}

/// ICR low half, high half, vectors taken, and signals; APIC id 0, logical id 1 in the flat model.
type Command = (u32, u32, &'static [u8], &'static [Signal]);

const COMMANDS: &[Command] = &[
    (0x0000_4041, 0x0000_0000, &[0x41], &[]), // fixed, physical, to id 0
    (0x0000_4041, 0x0100_0000, &[], &[]),     // to id 1: absent
    (0x0000_4041, 0xff00_0000, &[0x41], &[]), // physical broadcast
    (0x0000_4841, 0x0100_0000, &[0x41], &[]), // logical
    (0x0000_4841, 0x0300_0000, &[0x41], &[]),
    (0x0000_4841, 0x0200_0000, &[], &[]),
    (0x0000_4841, 0xff00_0000, &[0x41], &[]),
    (0x0000_4141, 0x0000_0000, &[0x41], &[]), // lowest priority of one
    (0x0004_4041, 0x0500_0000, &[0x41], &[]), // self, whatever the destination
    (0x0008_4041, 0x0500_0000, &[0x41], &[]), // all including self
    (0x000c_4041, 0x0000_0000, &[], &[]),     // all excluding self
    (0x0000_4400, 0x0000_0000, &[], &[Signal::Nmi]),
    (0x0004_4400, 0x0000_0000, &[], &[Signal::Nmi]),
    (0x0000_4400, 0x0100_0000, &[], &[]),
    (0x000c_4500, 0x0000_0000, &[], &[]), // INIT to all others
    (0x0000_4500, 0x0100_0000, &[], &[]), // INIT to an absent CPU
    (0x0000_4500, 0x0000_0000, &[], &[Signal::Reset]),
    (0x0008_8500, 0x0000_0000, &[], &[]), // INIT level de-assert
    (0x000c_4608, 0x0000_0000, &[], &[]), // start-up
    (0x0000_4608, 0x0000_0000, &[], &[]),
    (0x0000_4200, 0x0000_0000, &[], &[]), // SMI
    (0x0000_4300, 0x0000_0000, &[], &[]), // reserved
    (0x0000_4741, 0x0000_0000, &[], &[]), // ExtINT cannot be sent
];

#[test]
fn commands_reach_whom_they_name() {
    for &(low, high, vectors, signals) in COMMANDS {
        let mut bench = Bench::enabled();
        bench.write(LDR, 0x0100_0000);
        bench.write(ICR_HIGH, high);
        bench.write(ICR_LOW, low);
        assert_eq!(bench.drain(), vectors, "command {high:08x}:{low:08x}");
        assert_eq!(bench.signals.take(), signals, "command {high:08x}:{low:08x}");
        assert_eq!(bench.read(ICR_LOW) & 0x1000, 0, "delivery is never pending");
    }
}

#[test]
fn logical_destinations_follow_the_destination_format() {
    // DFR, LDR, message destination, reached: SDM section 11.6.2.2.
    for (dfr, ldr, mda, reached) in [
        (0xffff_ffff, 0x04, 0x04, true),
        (0xffff_ffff, 0x04, 0x0c, true),
        (0xffff_ffff, 0x04, 0x08, false),
        (0xffff_ffff, 0x00, 0x01, false),
        (0xffff_ffff, 0x00, 0xff, true),
        (0x0fff_ffff, 0x24, 0x24, true),
        (0x0fff_ffff, 0x24, 0x2c, true),
        (0x0fff_ffff, 0x24, 0x28, false),
        (0x0fff_ffff, 0x24, 0x14, false),
        (0x0fff_ffff, 0x24, 0xf4, true),
        (0x0fff_ffff, 0x24, 0xff, true),
    ] {
        let mut bench = Bench::enabled();
        bench.write(DFR, dfr);
        bench.write(LDR, ldr << 24);
        let found = bench.lapic.is_for(Destination::of_byte(true, mda));
        assert_eq!(found, reached, "DFR {dfr:#x} LDR {ldr:#x} to {mda:#x}");
    }
}

#[test]
fn lint0_passes_the_pic_on_as_its_entry_says() {
    let mut bench = Bench::reset();
    assert!(!bench.lapic.lint0_extint(), "masked after reset");
    bench.lapic.virtual_wire();
    assert!(bench.lapic.lint0_extint());
    bench.lapic.set_lint0(true);
    assert_eq!(bench.lapic.pending(), None, "ExtINT is no vector of the APIC's");
    bench.write(LVT_LINT0, 0x1_0700);
    assert!(!bench.lapic.lint0_extint());
    bench.lapic.set_lint0(false);
    bench.write(LVT_LINT0, 0x0_0031);
    bench.lapic.set_lint0(true);
    bench.lapic.set_lint0(true);
    assert_eq!(bench.drain(), [0x31], "fixed, edge: one per rise");
    bench.lapic.set_lint0(false);
    bench.write(LVT_LINT0, 0x0_0400);
    bench.lapic.set_lint0(true);
    assert_eq!(
        bench.signals.take(),
        [Signal::Nmi],
        "as Linux's NMI watchdog wires it"
    );
}

#[test]
fn a_level_on_lint0_comes_again_after_its_eoi() {
    let mut bench = Bench::enabled();
    bench.write(LVT_LINT0, 0x0_8031);
    bench.lapic.set_lint0(true);
    bench.lapic.set_lint0(true);
    assert_eq!(bench.read(LVT_LINT0), 0xc031, "remote IRR");
    assert_eq!(bench.lapic.acknowledge(), Some(0x31));
    bench.write(EOI, 0);
    assert_eq!(bench.lapic.acknowledge(), Some(0x31), "still high");
    bench.lapic.set_lint0(false);
    bench.write(EOI, 0);
    assert_eq!(bench.read(LVT_LINT0), 0x8031);
    assert_eq!(bench.lapic.pending(), None);
}

#[test]
fn the_boards_nmi_goes_through_lint1() {
    let mut bench = Bench::reset();
    bench.lapic.pulse_lint1();
    assert_eq!(bench.signals.take(), [], "masked after reset");
    bench.lapic.virtual_wire();
    bench.lapic.pulse_lint1();
    assert_eq!(bench.signals.take(), [Signal::Nmi]);
    bench.write(LVT_LINT1, 0x0_0077);
    bench.lapic.pulse_lint1();
    assert_eq!(bench.drain(), [0x77]);
    bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | 0x100).unwrap();
    bench.lapic.pulse_lint1();
    assert_eq!(
        bench.signals.take(),
        [Signal::Nmi],
        "the CPU's own pin while the APIC is off"
    );
}
