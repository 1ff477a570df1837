//! Receiving: what the guest finds in its buffers, descriptors and flags.

use super::*;
use crate::dev::lance::intake::{PATIENCE_NS, RETRY_NS};

/// A group address, and its bit of the hash filter by the book: the top six bits of the remainder.
const GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01];

fn hash(address: [u8; 6]) -> u32 {
    !u32::from_le_bytes(slow_fcs(&address)) >> 26
}

#[test]
fn a_frame_arrives_padded_with_its_sequence_and_an_interrupt() {
    for len in [14, 42, 59, 60, 61, 1514, 1518] {
        let mut bench = Bench::started(0, 4);
        bench.write_csr(0, 0x0140);
        bench.poke(RX_BUFFERS, &[0xcc; 1544]);
        assert!(bench.arrive(&frame(len)));
        let mut wanted = frame(len);
        wanted.resize(len.max(60), 0);
        wanted.extend(slow_fcs(&wanted));
        assert_eq!(bench.rx_state(0), (0x0340, wanted.len() as u32), "{len}");
        assert_eq!(bench.peek(RX_BUFFERS, wanted.len()), wanted, "{len}");
        assert_eq!(
            bench.peek(RX_BUFFERS + wanted.len() as u32, 4),
            [0xcc; 4],
            "and no more"
        );
        assert_eq!(bench.csr(0) & 0xff00, RINT);
        assert!(bench.irq());
        assert_eq!(bench.counted(VmmCounter::NetRx), 1);
        assert_eq!(bench.counted(VmmCounter::NetRxBytes), len as u64);
    }
}

/// MODE, whether the hash bit of the group is set, destination: status byte if it is taken.
#[test]
fn the_filters_take_what_the_mode_says() {
    const OTHER: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x57];
    const ALL: [u8; 6] = [0xff; 6];
    const PROM: u16 = 1 << 15;
    const DRCVBC: u16 = 1 << 14;
    const DRCVPA: u16 = 1 << 13;
    for (mode, hashed, destination, how) in [
        (0, None, MAC, Some(0x40)),
        (0, None, OTHER, None),
        (0, None, ALL, Some(0x10)),
        (0, None, GROUP, None),
        (0, Some(GROUP), GROUP, Some(0x20)),
        (0, Some(ALL), GROUP, None),
        (0, Some(ALL), ALL, Some(0x10)),
        (DRCVBC, None, ALL, None),
        (DRCVBC, Some(ALL), ALL, Some(0x20)),
        (DRCVPA, None, MAC, None),
        (PROM, None, OTHER, Some(0)),
        (PROM, None, MAC, Some(0x40)),
        (PROM | DRCVPA | DRCVBC, None, ALL, Some(0)),
        (0x0001, None, MAC, None),
    ] {
        let mut bench = Bench::started(mode, 4);
        bench.write_csr(5, 1);
        if let Some(address) = hashed {
            let bit = hash(address);
            bench.write_csr(8 + (bit / 16) as u16, 1 << (bit % 16));
        }
        bench.write_csr(5, 0);
        bench.arrive(&frame_to(destination, 64));
        let wanted = how.map_or((OWN, 0xdead_beef), |how| (0x0300 | how, 68));
        assert_eq!(bench.rx_state(0), wanted, "{mode:#x} {hashed:?} {destination:x?}");
        assert_eq!(bench.counted(VmmCounter::NetRxFiltered), u64::from(how.is_none()));
    }
}

#[test]
fn a_long_frame_fills_a_chain_of_buffers() {
    let mut bench = Bench::started(0, 8);
    bench.fill_rx(8, 128);
    assert!(bench.arrive(&frame(300)));
    assert_eq!(bench.rx_state(0), (0x0200, 0xdead_beef));
    assert_eq!(bench.rx_state(1), (0x0000, 0xdead_beef));
    assert_eq!(bench.rx_state(2), (0x0140, 304));
    let seen = [0, 1, 2]
        .map(|n| bench.peek(RX_BUFFERS + STRIDE * n, 128))
        .concat();
    assert_eq!(seen[..300], frame(300));
    assert_eq!(bench.rx_state(3).0, OWN);
}

#[test]
fn a_chain_that_ends_in_a_descriptor_of_the_guests_is_a_buffer_error() {
    let mut bench = Bench::started(0, 8);
    bench.fill_rx(8, 128);
    bench.descriptor(RX_RING + 16, RX_BUFFERS, 128, 0);
    assert!(bench.arrive(&frame(300)));
    assert_eq!(bench.rx_state(0).0, 0x5600, "ERR, OFLO, BUFF, STP; no end");
    assert_eq!(bench.counted(VmmCounter::NetRxMissed), 1);
    bench.give_rx(1, BUFFER);
    assert!(bench.arrive(&frame(300)));
    assert_eq!(bench.rx_state(1), (0x0340, 304), "the next frame is whole");
}

#[test]
fn short_802_3_frames_are_stripped_if_asked_for() {
    let mut bench = Bench::started(0, 4);
    bench.write_csr(4, 0x0515);
    let mut padded = frame(60);
    padded[12..14].copy_from_slice(&[0, 10]);
    assert!(bench.arrive(&padded));
    assert_eq!(bench.rx_state(0), (0x0340, 24));
    padded[12..14].copy_from_slice(&[0, 46]);
    assert!(bench.arrive(&padded));
    assert_eq!(bench.rx_state(1), (0x0340, 64));
}

#[test]
fn slots_go_back_in_one_batch_and_interrupt_once() {
    let mut bench = Bench::started(0, 32);
    bench.write_csr(0, 0x0140);
    let irqs = bench.counted(VmmCounter::NetIrqs);
    for _ in 0..SLOTS {
        bench.peer.push(Up::Frame as u16, 0, &frame(60)).unwrap();
    }
    bench.deliver();
    assert_eq!(bench.counted(VmmCounter::NetRx), u64::from(SLOTS));
    assert_eq!(bench.counted(VmmCounter::NetIrqs), irqs + 1);
    assert_eq!(bench.peer.credit().unwrap(), SLOTS);
}

/// Row 18, and what QEMU's model does not survive: more frames than descriptors, in every order of giving them back.
#[test]
fn row_18_a_flood_never_leaves_the_card_deaf() {
    // How the driver gives descriptors back: with a write to CSR0, or without a word.
    for writes in [true, false] {
        let mut bench = Bench::started(0, 4);
        let mut sent = 0u32;
        let mut received = 0u32;
        for _ in 0..200 {
            while bench.arrive(&frame(60 + sent as usize % 1000)) {
                sent += 1;
            }
            while bench.rx_state(received % 4).0 & OWN == 0 {
                let len = 64 + received as usize % 1000;
                assert_eq!(bench.rx_state(received % 4).1, len as u32, "in order");
                bench.give_rx(received % 4, BUFFER);
                received += 1;
            }
            if writes {
                bench.write_csr(0, 0x0440);
            } else {
                bench.pass(RETRY_NS);
            }
        }
        assert!(received > 500, "{received} frames");
        assert_eq!(bench.csr(112), 0, "the driver was never late for long");
        // Quiet again: a single frame comes through at once, and with an interrupt.
        while bench.rx_state(received % 4).0 & OWN == 0 || bench.lance.intake.is_holding() {
            bench.give_rx(received % 4, BUFFER);
            received += 1;
            bench.write_csr(0, 0x0440);
        }
        bench.write_csr(0, 0x0440);
        assert!(bench.arrive(&frame(777)));
        assert!(bench.irq());
        assert_eq!(bench.rx_state(received % 4), (0x0340, 781));
    }
}

#[test]
fn frames_wait_for_a_late_guest_and_are_missed_for_a_dead_one() {
    let mut bench = Bench::started(0, 2);
    for n in 0..6 {
        assert!(bench.arrive(&frame(60 + n)));
    }
    assert_eq!(bench.csr(0) & MISS, 0);
    assert_eq!(bench.peer.credit().unwrap(), SLOTS - 4, "credit is kept back");
    bench.pass(PATIENCE_NS / 2);
    bench.give_rx(0, BUFFER);
    bench.pass(RETRY_NS);
    assert_eq!(bench.rx_state(0), (0x0340, 66), "the third, late");
    assert_eq!(bench.csr(112), 0);
    bench.pass(2 * PATIENCE_NS);
    assert_eq!(bench.csr(112), 3, "all the others");
    assert_eq!(bench.csr(0) & MISS, MISS);
    assert_eq!(bench.counted(VmmCounter::NetRxMissed), 3);
    assert_eq!(bench.peer.credit().unwrap(), SLOTS);
    bench.arrive(&frame(100));
    assert_eq!(bench.csr(112), 4, "a dead guest's frames do not wait");
    bench.give_rx(1, BUFFER);
    assert!(bench.arrive(&frame(200)));
    assert_eq!(
        bench.rx_state(1),
        (0x0340, 204),
        "a guest that is back has the next one"
    );
    assert_eq!(bench.csr(112), 4);
}

#[test]
fn a_card_that_does_not_receive_lets_frames_pass_by() {
    let mut bench = Bench::started(0, 4);
    bench.write_csr(0, 0x0004);
    for _ in 0..3 * SLOTS {
        assert!(bench.arrive(&frame(60)), "the ring never fills");
    }
    assert_eq!(bench.counted(VmmCounter::NetRxFiltered), u64::from(3 * SLOTS));
    bench.start();
    assert_eq!(bench.rx_state(0).0, OWN, "nothing stale");
    bench.write_csr(5, 1);
    assert!(bench.arrive(&frame(60)));
    assert_eq!(bench.rx_state(0).0, OWN, "suspended");
    bench.write_csr(5, 0);
    assert_eq!(bench.rx_state(0).0, 0x0340, "and resumed");
}

#[test]
fn what_vmapp_may_not_send_is_counted_and_passed_over() {
    let mut bench = Bench::started(0, 8);
    for (kind, payload) in [
        (Up::Frame as u16, vec![0; 13]),
        (Up::Frame as u16, vec![0; 1519]),
        (Up::Frame as u16, vec![]),
        (Up::Link as u16, vec![]),
        (Up::Link as u16, vec![2]),
        (Up::Link as u16, vec![1, 0]),
        (9, vec![0; 64]),
    ] {
        let errors = bench.counted(VmmCounter::PeerErrors);
        bench.peer.push(kind, 0, &payload).unwrap();
        bench.deliver();
        assert_eq!(
            bench.counted(VmmCounter::PeerErrors),
            errors + 1,
            "{kind} {}",
            payload.len()
        );
    }
    assert_eq!(bench.rx_state(0).0, OWN);
    assert_eq!(bench.peer.credit().unwrap(), SLOTS);
    assert!(bench.arrive(&frame(60)));
    assert_eq!(bench.rx_state(0).0, 0x0340);
}
