//! Sending: what leaves the card, and what its descriptors and flags say then.

use super::*;
use crate::dev::lance::wire::PATIENCE_NS;

#[test]
fn a_burst_of_descriptors_crosses_with_one_demand_and_one_interrupt() {
    let mut bench = Bench::started(0, 8);
    bench.write_csr(0, 0x0140);
    let irqs = bench.counted(VmmCounter::NetIrqs);
    for n in 0..5 {
        bench.give_tx(n, &frame(100 + n as usize), WHOLE);
    }
    bench.demand();
    for n in 0..5 {
        assert_eq!(bench.sent(), Some((n + 1, frame(100 + n as usize))));
        assert_eq!(bench.tx_state(n as u32), (0x0300, 0));
    }
    assert_eq!(bench.sent(), None);
    assert_eq!(bench.csr(0) & 0xff00, TINT);
    assert_eq!(bench.counted(VmmCounter::NetIrqs), irqs + 1);
    assert_eq!(bench.counted(VmmCounter::NetTx), 5);
    assert_eq!(bench.counted(VmmCounter::NetTxBytes), 510);
}

#[test]
fn a_chain_becomes_one_frame_and_the_ring_goes_round() {
    let mut bench = Bench::started(0, 4);
    let whole = frame(300);
    for round in 0..5u32 {
        let place = |n: u32| (3 * round + n) % 4;
        bench.give_tx(place(2), &whole[250..], OWN | ENP);
        bench.give_tx(place(1), &whole[14..250], OWN);
        bench.give_tx(place(0), &whole[..14], OWN | STP);
        bench.demand();
        assert_eq!(bench.all_sent(), std::slice::from_ref(&whole), "round {round}");
        assert_eq!([0, 1, 2].map(|n| bench.tx_state(place(n)).0), [STP, 0, ENP]);
    }
}

/// Sends a frame of its own demand, `apart` after the one before, and takes the interrupt if one came; whether it did.
fn send_one(bench: &mut Bench, n: u32, entries: u32, apart: u64) -> bool {
    bench.pass(apart);
    bench.give_tx(n % entries, &frame(60), WHOLE);
    bench.write_csr(0, 0x0048);
    assert_eq!(bench.all_sent().len(), 1, "the frame itself never waits");
    assert_eq!(bench.tx_state(n % entries).0 & OWN, 0, "nor does its descriptor");
    let irq = bench.irq();
    if irq {
        bench.write_csr(0, 0x0240);
        assert!(!bench.irq());
    }
    irq
}

/// A card that has sent so often that interrupts for it are put together, none of them owed; and its next descriptor.
fn busy() -> (Bench, u32) {
    let mut bench = Bench::started(0, 16);
    bench.write_csr(0, 0x0140);
    let told = (0..).filter(|&n| send_one(&mut bench, n, 16, 50_000) && n >= 4);
    let last = told.take(1).last().unwrap();
    (bench, last + 1)
}

#[test]
fn frequent_frames_share_an_interrupt_and_rare_ones_have_each_its_own() {
    for (entries, apart, expected) in [
        (16, 50_000, 5),
        (16, 5_000_000, 40),
        (4, 50_000, 20),
        (2, 50_000, 40),
    ] {
        let mut bench = Bench::started(0, entries);
        bench.write_csr(0, 0x0140);
        for n in 0..48 {
            send_one(&mut bench, n, entries, apart);
        }
        let before = bench.counted(VmmCounter::NetIrqs);
        for n in 48..88 {
            send_one(&mut bench, n, entries, apart);
        }
        let irqs = bench.counted(VmmCounter::NetIrqs) - before;
        assert_eq!(irqs, expected, "a ring of {entries}, a frame each {apart} ns");
    }
}

#[test]
fn tint_that_is_put_off_comes_with_the_tick_the_halt_or_another_cause() {
    let owed = |what: &str| {
        let (mut bench, next) = busy();
        bench.give_tx(next, &frame(60), WHOLE);
        bench.write_csr(0, 0x0048);
        assert!(!bench.irq(), "{what}");
        bench
    };
    let mut bench = owed("the tick");
    bench.pass(999_999);
    assert!(!bench.irq());
    bench.pass(1);
    assert!(bench.irq());

    let mut bench = owed("a halt");
    assert!(bench.lance.idle());
    assert!(bench.irq());
    assert!(!bench.lance.idle(), "told once");

    let mut bench = owed("a frame received");
    assert!(bench.arrive(&frame(64)));
    assert_eq!(bench.csr(0) & (TINT | RINT), TINT | RINT);

    let mut bench = owed("a look at CSR0");
    assert_eq!(bench.csr(0) & TINT, TINT);
    assert!(bench.irq());

    let mut bench = owed("STOP");
    bench.write_csr(0, 0x0004);
    bench.pass(2_000_000);
    assert_eq!(bench.csr(0) & TINT, 0, "forgotten with all the rest");

    let (mut bench, next) = busy();
    bench.write_csr(0, 0);
    bench.give_tx(next, &frame(60), WHOLE);
    bench.write_csr(0, 0x0008);
    bench.write_csr(0, 0x0040);
    assert!(bench.irq(), "a driver that polls has it at once");
}

/// CSR4, MODE, descriptor, bytes given: bytes that cross.
#[test]
fn padding_and_the_sequence_follow_the_switches() {
    const APAD: u16 = 0x0915;
    const PLAIN: u16 = 0x0115;
    const DXMTFCS: u16 = 1 << 3;
    const ADD_FCS: u16 = 1 << 13;
    let with_fcs = |len| [&frame(len)[..], &slow_fcs(&frame(len))].concat();
    let padded = |len| [&frame(len)[..], &vec![0; 60 - len]].concat();
    let bad = |len| [&frame(len)[..], &[0; 4]].concat();
    for (csr4, mode, status, given, crosses) in [
        (APAD, 0, 0, frame(42), Some(padded(42))),
        (APAD, 0, 0, frame(60), Some(frame(60))),
        (APAD, DXMTFCS, 0, frame(42), Some(padded(42))),
        (APAD, DXMTFCS, 0, frame(100), Some(frame(100))),
        (PLAIN, 0, 0, frame(42), Some(frame(42))),
        (PLAIN, 0, 0, frame(14), Some(frame(14))),
        (PLAIN, 0, 0, frame(14)[..13].to_vec(), None),
        (PLAIN, DXMTFCS, 0, with_fcs(100), Some(frame(100))),
        (PLAIN, DXMTFCS, 0, bad(100), None),
        (PLAIN, DXMTFCS, ADD_FCS, frame(100), Some(frame(100))),
        (PLAIN, 0, 0, frame(1518), Some(frame(1518))),
        (PLAIN, DXMTFCS, 0, with_fcs(1518), Some(frame(1518))),
        (PLAIN, 0, 0, frame(1519), None),
    ] {
        let mut bench = Bench::started(mode, 4);
        bench.write_csr(4, csr4);
        bench.give_tx(0, &given, WHOLE | status);
        bench.demand();
        let what = format!("{csr4:#x} {mode:#x} {status:#x} {}", given.len());
        let lost = u64::from(crosses.is_none());
        assert_eq!(bench.all_sent(), Vec::from_iter(crosses), "{what}");
        assert_eq!(bench.tx_state(0).0, 0x0300 | status, "{what}: given back");
        assert_eq!(bench.counted(VmmCounter::NetTxDropped), lost, "{what}");
        assert_ne!(bench.csr(0) & TINT, 0);
    }
}

#[test]
fn a_frame_longer_than_ieee_allows_is_a_babble_though_it_crosses() {
    for (len, babble) in [(1514, 0), (1515, BABL), (1518, BABL), (2000, BABL)] {
        let mut bench = Bench::started(0, 4);
        bench.give_tx(0, &frame(len), WHOLE);
        bench.demand();
        assert_eq!(bench.csr(0) & BABL, babble, "{len}");
        assert_eq!(bench.all_sent().len(), usize::from(len <= 1518), "{len}");
    }
}

#[test]
fn a_chain_into_a_descriptor_of_the_guests_underflows_and_stops_the_transmitter() {
    for (csr3, on) in [(0, 0), (0x0040, TXON)] {
        let mut bench = Bench::started(0, 4);
        bench.write_csr(3, csr3);
        bench.give_tx(0, &frame(100), OWN | STP);
        bench.give_tx(1, &frame(100), 0);
        bench.demand();
        assert_eq!(bench.tx_state(0), (0x4200, 0xc000_0000), "BUFF and UFLO");
        assert_eq!(bench.csr(0) & (TXON | TINT), on | TINT);
        assert!(bench.all_sent().is_empty());
        bench.give_tx(1, &frame(77), WHOLE);
        bench.demand();
        assert_eq!(bench.all_sent().len(), usize::from(on != 0));
    }
}

#[test]
fn the_rest_of_a_broken_chain_is_given_back_unsent() {
    let mut bench = Bench::started(0, 4);
    bench.give_tx(0, &frame(100), OWN);
    bench.give_tx(1, &frame(100), OWN | ENP);
    bench.give_tx(2, &frame(80), WHOLE);
    bench.demand();
    assert_eq!(bench.all_sent(), [frame(80)]);
    assert_eq!([0, 1, 2].map(|n| bench.tx_state(n).0), [0, ENP, 0x0300]);
}

#[test]
fn tint_can_be_asked_for_or_kept_for_failures() {
    const LTINT: u16 = 1 << 12;
    for (csr5, status, link, tint) in [
        (0, 0, true, true),
        (1 << 14, 0, true, false),
        (1 << 14, LTINT, true, true),
        (1 << 15, 0, true, false),
        (1 << 15, 0, false, true),
    ] {
        let mut bench = Bench::started(0, 4);
        bench.write_csr(5, csr5);
        bench.link(link);
        bench.give_tx(0, &frame(60), WHOLE | status);
        bench.demand();
        assert_eq!(bench.csr(0) & TINT != 0, tint, "{csr5:#x} {status:#x} {link}");
        let kept = if csr5 == 1 << 14 { status } else { 0 };
        assert_eq!(
            bench.tx_state(0).0 & LTINT,
            kept,
            "LTINT is the guest's bit only if asked for"
        );
    }
}

#[test]
fn with_the_cable_out_a_frame_is_lost_with_loss_of_carrier() {
    let mut bench = Bench::started(0, 4);
    bench.link(false);
    bench.give_tx(0, &frame(60), WHOLE);
    bench.demand();
    assert_eq!(bench.tx_state(0), (0x4300, 1 << 27));
    assert_eq!(bench.csr(0) & CERR, CERR);
    assert!(bench.all_sent().is_empty());
    assert_eq!(bench.counted(VmmCounter::NetTxDropped), 1);
    bench.link(true);
    bench.give_tx(1, &frame(60), WHOLE);
    bench.demand();
    assert_eq!(bench.tx_state(1), (0x0300, 0));
}

/// Row 18: a full ring stalls the card, the signal of room starts it again, nothing is lost or sent twice.
#[test]
fn row_18_a_full_ring_stalls_and_room_starts_the_card_again() {
    let mut bench = Bench::started(0, 64);
    let count = SLOTS + 8;
    for n in 0..count {
        bench.give_tx(n, &frame(60 + n as usize), WHOLE);
    }
    bench.demand();
    assert_eq!(bench.tx_state(SLOTS - 1).0 & OWN, 0);
    assert_eq!(
        bench.tx_state(SLOTS).0 & OWN,
        OWN,
        "the frame without room stays the card's"
    );
    bench.demand();
    let mut seen = bench.all_sent();
    assert_eq!(seen.len(), SLOTS as usize);
    bench.look();
    seen.extend(bench.all_sent());
    let wanted: Vec<_> = (0..count).map(|n| frame(60 + n as usize)).collect();
    assert_eq!(seen, wanted);
    assert_eq!(bench.tx_state(count - 1).0 & OWN, 0);
    assert_eq!(bench.counted(VmmCounter::NetTxDropped), 0);
}

/// Row 18: a host that never makes room stalls the guest for a second, not for ever.
#[test]
fn row_18_a_host_that_is_gone_is_a_cable_nobody_listens_to() {
    let mut bench = Bench::started(0, 64);
    for n in 0..SLOTS + 8 {
        bench.give_tx(n, &frame(60), WHOLE);
    }
    bench.demand();
    bench.pass(PATIENCE_NS / 2);
    assert_eq!(bench.tx_state(SLOTS).0 & OWN, OWN);
    bench.pass(PATIENCE_NS);
    assert_eq!(bench.tx_state(SLOTS + 7).0 & OWN, 0);
    assert_eq!(bench.counted(VmmCounter::NetTxDropped), 8);
    bench.all_sent();
    bench.look();
    bench.give_tx(SLOTS + 8, &frame(99), WHOLE);
    bench.demand();
    assert_eq!(bench.all_sent(), [frame(99)], "and back it is");
}

#[test]
fn the_ring_is_polled_ever_more_rarely_unless_somebody_relies_on_it() {
    const INTERVAL: u64 = 1_966_080;
    let mut bench = Bench::started(0, 8);
    let mut looks = 0;
    let end = bench.now.after(Ns::SECOND);
    while bench.now < end {
        let due = bench.lance.deadline().unwrap();
        bench.pass(due.since(bench.now));
        looks += 1;
    }
    assert!((10..40).contains(&looks), "{looks} looks in an idle second");
    bench.give_tx(0, &frame(60), WHOLE);
    bench.pass(40 * INTERVAL);
    assert_eq!(bench.all_sent(), [frame(60)]);
    bench.give_tx(1, &frame(61), WHOLE);
    bench.pass(INTERVAL);
    assert_eq!(bench.all_sent(), [frame(61)], "at the data sheet's pace");
    bench.write_csr(4, 0x1915);
    bench.pass(INTERVAL);
    assert_eq!(bench.lance.deadline(), None, "DPOLL");
    bench.give_tx(2, &frame(62), WHOLE);
    bench.pass(Ns::SECOND);
    assert!(bench.all_sent().is_empty());
    bench.demand();
    assert_eq!(bench.all_sent(), [frame(62)]);
    bench.give_tx(3, &frame(63), WHOLE);
    bench.write_csr(4, 0x0915);
    assert_eq!(bench.all_sent(), [frame(63)], "the end of DPOLL looks at once");
}

#[test]
fn a_demand_does_not_move_the_timer() {
    let mut bench = Bench::started(0, 8);
    let due = bench.lance.deadline();
    bench.now = bench.now.after(1000);
    bench.give_tx(0, &frame(60), WHOLE);
    bench.demand();
    assert_eq!(bench.lance.deadline(), due, "an alarm is a system call");
}

#[test]
fn suspension_and_the_command_register_hold_frames_back() {
    let mut bench = Bench::started(0, 8);
    bench.write_csr(5, 0x0001);
    bench.give_tx(0, &frame(60), WHOLE);
    bench.demand();
    assert!(bench.all_sent().is_empty());
    bench.write_csr(5, 0x0000);
    assert_eq!(bench.all_sent(), [frame(60)]);
    bench.lance.set_bus_master(false);
    bench.give_tx(1, &frame(61), WHOLE);
    bench.demand();
    bench.pass(Ns::SECOND);
    assert!(bench.all_sent().is_empty());
    assert_eq!(bench.tx_state(1).0 & OWN, OWN);
    bench.lance.set_bus_master(true);
    bench.pass(0);
    assert_eq!(bench.all_sent(), [frame(61)]);
    bench.write_csr(0, 0x0004);
    bench.lance.set_bus_master(false);
    bench.write_csr(0, 0x0003);
    assert_eq!(
        bench.csr(0) & (IDON | MERR | TXON | RXON),
        MERR,
        "no block without the bus"
    );
}

#[test]
fn external_loopback_sends_and_receives_and_checks_a_given_sequence() {
    const EXTERNAL: u16 = 0x0004;
    const INTERNAL: u16 = 0x0044;
    const DXMTFCS: u16 = 0x0008;
    let good = [&frame(64)[..], &slow_fcs(&frame(64))].concat();
    let bad = [&frame(64)[..], &[1, 2, 3, 4]].concat();
    for (mode, given, crosses, status) in [
        (EXTERNAL, frame(64), 1, 0x0340),
        (INTERNAL, frame(64), 0, 0x0340),
        (INTERNAL | DXMTFCS, good.clone(), 0, 0x0340),
        (INTERNAL | DXMTFCS, bad, 0, 0x4b40),
    ] {
        let mut bench = Bench::started(mode, 4);
        bench.write_csr(4, 0x0115);
        bench.give_tx(0, &given, WHOLE);
        bench.demand();
        assert_eq!(bench.all_sent().len(), crosses, "{mode:#x}");
        assert_eq!(bench.rx_state(0), (status, 68), "{mode:#x}");
        if status == 0x0340 {
            assert_eq!(bench.peek(RX_BUFFERS, 68), good, "{mode:#x}");
        }
    }
}
