//! What guests and hosts did to other models of this card and its kin: a regression test for each row of the project's
//! table of bug classes that applies, named by its row or its CVE. Row 18 is where sending and receiving are; row 15
//! has no saved state to mutate.

use super::*;
use crate::bus::{Mmio, Resettable};
use crate::dev::lance::MOST_STEPS;
use crate::mem::{LOW_END, VGA_END};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Nothing is RAM there: the VGA window, the hole, device registers, the end of the address space.
const NOT_RAM: [u32; 8] = [
    LOW_END as u32,
    VGA_END as u32 - 4,
    RAM as u32,
    RAM as u32 - 2,
    0xc000_0000,
    0xfec0_0000,
    0xfee0_0000,
    0xffff_fffc,
];

/// Row 1: fragments without an end overran the buffer they were collected in.
#[test]
fn cve_2015_3209_an_endless_chain_is_capped_and_dropped() {
    let mut bench = Bench::started(0, 512);
    for n in 0..511 {
        bench.descriptor(
            TX_RING + 16 * n,
            TX_BUFFERS,
            4096,
            OWN | if n == 0 { STP } else { 0 },
        );
    }
    bench.give_tx(511, &frame(60), OWN | ENP);
    bench.demand();
    bench.pass(100_000);
    assert!(bench.all_sent().is_empty());
    assert_eq!(bench.counted(VmmCounter::NetTxDropped), 1);
    assert_eq!(bench.tx_state(511).0, ENP, "all of it went back to the guest");
    assert_eq!(bench.csr(0) & (BABL | TXON), BABL | TXON);
    bench.give_tx(0, &frame(99), WHOLE);
    bench.demand();
    assert_eq!(
        bench.all_sent(),
        [frame(99)],
        "and the next frame is untouched by it"
    );
}

/// Row 2: the sequence was appended behind a full buffer.
#[test]
fn cve_2015_7504_a_full_looped_frame_has_no_room_for_its_sequence() {
    for len in [1517, 1518, 1519, 1521, 1522, 1523, 4095, 4096] {
        for mode in [0x0044, 0x004c] {
            let mut bench = Bench::started(mode, 4);
            bench.write_csr(4, 0x0115);
            bench.poke(RX_BUFFERS, &[0xcc; 4096]);
            bench.descriptor(TX_RING, TX_BUFFERS, len, WHOLE);
            bench.poke(TX_BUFFERS, &frame(len as usize));
            bench.demand();
            let fits = len + if mode == 0x0044 { 4 } else { 0 } <= 1522;
            assert_eq!(bench.rx_state(0).0 & OWN == 0, fits, "{len} {mode:#x}");
            assert_eq!(bench.peek(RX_BUFFERS + 1522, 16), [0xcc; 16]);
            assert_eq!(bench.tx_state(0).0 & OWN, 0);
        }
    }
}

/// Rows 3 and 4: a frame of the host longer than any buffer; every length the ring can carry.
#[test]
fn cve_2015_7512_no_length_of_a_received_frame_leaves_its_buffer() {
    for len in (0..=1520)
        .step_by(7)
        .chain([13, 14, 15, 59, 60, 61, 1517, 1518, 1519])
    {
        for buffer in [1, 64, 1517, 4096] {
            let mut bench = Bench::started(0, 2);
            bench.fill_rx(2, buffer);
            let end = RX_BUFFERS + STRIDE + buffer;
            bench.poke(RX_BUFFERS + buffer, &[0xcc; 8]);
            bench.poke(end, &[0xcc; 8]);
            let mut payload = vec![0xaa; len];
            payload.splice(..6.min(len), MAC.into_iter().take(len));
            bench.peer.push(Up::Frame as u16, 0, &payload).unwrap();
            bench.deliver();
            let taken = (14..=1518).contains(&len);
            assert_eq!(bench.rx_state(0).0 & OWN == 0, taken, "{len}");
            assert_eq!(bench.peek(end, 8), [0xcc; 8], "{len} into {buffer}");
            if buffer < STRIDE {
                assert_eq!(
                    bench.peek(RX_BUFFERS + buffer, 8),
                    [0xcc; 8],
                    "{len} into {buffer}"
                );
            }
        }
    }
}

/// Row 4 and 12: a ring without a descriptor was searched for ever.
#[test]
fn cve_2016_7909_a_ring_of_no_length_ends_in_nothing() {
    for length in [0, 0xffff, 0x0001] {
        let mut bench = Bench::started(0, 4);
        bench.write_csr(5, 1);
        for csr in [76, 78] {
            bench.write_csr(csr, length);
            bench.write_csr(csr - 4, 0x7777);
        }
        bench.write_csr(5, 0);
        bench.demand();
        bench.arrive(&frame(60));
        bench.pass(Ns::SECOND);
        // A counter outside the ring is its start; inside the longest ring, it is memory with no descriptor in it.
        let taken = bench.rx_state(0).0 & OWN == 0;
        assert_eq!(taken, length == 0xffff, "CSR76 and 78 {length:#x}");
        bench.arrive(&frame(60));
    }
}

/// Row 6: work before there is anything to work with.
#[test]
fn row_6_nothing_happens_before_initialization_and_start() {
    let mut bench = Bench::new();
    bench.write_bcr(20, 2);
    for value in [0x0048, 0x0008, 0x0068] {
        bench.write_csr(0, value);
        bench.arrive(&frame(60));
        assert_eq!(bench.csr(0) & (TXON | RXON | MERR), 0);
    }
    // Started without a block: rings of no length at address 0.
    let before = bench.peek(0, 4096);
    bench.write_csr(0, 0x0042);
    bench.demand();
    bench.arrive(&frame(60));
    bench.pass(Ns::SECOND);
    assert_eq!(bench.peek(0, 4096), before);
    assert!(bench.all_sent().is_empty());
}

/// Rows 5 and 6: the largest rings and counts there are, at the end of memory.
#[test]
fn row_6_huge_rings_and_counts_do_bounded_work() {
    let mut bench = Bench::started(0, 4);
    bench.write_csr(5, 1);
    for (csr, value) in [
        (76, 1),
        (78, 1),
        (72, 1),
        (74, 1),
        (30, 0xfff0),
        (31, 0xffff),
        (24, 0),
        (25, 0),
    ] {
        bench.write_csr(csr, value);
    }
    bench.write_csr(5, 0);
    bench.demand();
    assert_eq!(bench.csr(0) & (MERR | TXON), MERR, "the ring is not memory");
    // All of memory is a ring, every descriptor the card's: one demand does its share and no more.
    let mut bench = Bench::started(0, 4);
    bench.write_csr(5, 1);
    for (csr, value) in [(78, 1), (74, 1)] {
        bench.write_csr(csr, value);
    }
    for n in 0..4 * MOST_STEPS {
        bench.descriptor(TX_RING + 16 * n, TX_BUFFERS, 1, OWN);
    }
    bench.write_csr(5, 0);
    let given_back = |bench: &Bench| {
        (0..4 * MOST_STEPS)
            .filter(|&n| bench.tx_state(n).0 & OWN == 0)
            .count()
    };
    assert_eq!(given_back(&bench), MOST_STEPS as usize);
    bench.pass(10_000);
    assert_eq!(given_back(&bench), 4 * MOST_STEPS as usize, "the rest soon after");
}

/// Row 7: a guest that rewrites a descriptor which the card has read changes nothing of what becomes of it.
#[test]
fn row_7_a_lance_descriptor_is_read_once() {
    let elsewhere =
        |bench: &mut Bench, n: u32| bench.descriptor(TX_RING + 16 * n, TX_BUFFERS - 4096, 900, OWN);
    // The last of a frame that waits for room in the ring to the host.
    let mut bench = Bench::started(0, 64);
    for n in 0..=SLOTS {
        bench.give_tx(n, &frame(60 + n as usize), WHOLE);
    }
    bench.demand();
    assert_eq!(bench.tx_state(SLOTS).0, WHOLE, "it waits");
    elsewhere(&mut bench, SLOTS);
    bench.all_sent();
    bench.look();
    assert_eq!(bench.all_sent(), [frame(60 + SLOTS as usize)]);
    assert_eq!(bench.tx_state(SLOTS).0, STP | ENP);
    // The next of a chain, read with the one before it, when a demand has done its share.
    let mut bench = Bench::started(0, 4);
    bench.write_csr(5, 1);
    for (csr, value) in [(78, 1), (74, 1)] {
        bench.write_csr(csr, value);
    }
    let whole = frame(MOST_STEPS as usize + 1);
    bench.poke(TX_BUFFERS, &whole);
    for n in 0..=MOST_STEPS {
        let first = if n == 0 { STP } else { 0 };
        let last = if n == MOST_STEPS { ENP } else { 0 };
        bench.descriptor(TX_RING + 16 * n, TX_BUFFERS + n, 1, OWN | first | last);
    }
    bench.write_csr(5, 0);
    assert_eq!(
        bench.tx_state(MOST_STEPS - 1).0 & OWN,
        0,
        "it is the next one's turn"
    );
    assert_eq!(bench.tx_state(MOST_STEPS).0 & OWN, OWN);
    elsewhere(&mut bench, MOST_STEPS);
    bench.pass(10_000);
    assert!(bench.all_sent() == [whole], "as it was read");
    assert_eq!(bench.tx_state(MOST_STEPS).0, ENP);
}

/// Row 7: everything of a descriptor is read once, then judged, whatever another thread makes of it meanwhile.
#[test]
fn cve_2015_8550_a_guest_that_rewrites_descriptors_meanwhile_gains_nothing() {
    /// A short buffer, and behind it what no descriptor ever names; and a long one.
    const SHORT: (u32, u32) = (0x18_0000, 64);
    const LONG: (u32, u32) = (0x1a_0000, BUFFER);
    let mut bench = Bench::started(0x0044, 8);
    let memory = Arc::clone(&bench.memory);
    let stop = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&stop);
    let mutator = std::thread::spawn(move || {
        let mut n = 0u32;
        while !until.load(Relaxed) {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = u64::from((n >> 13 & 7) * 16);
            let count = [0xffff_f9f8u32, 0xf000, 0xf001, 0xffff_ffff][(n >> 8 & 3) as usize];
            let buffer = [TX_BUFFERS, RX_BUFFERS, RAM as u32 - 8, 0xfee0_0000][(n >> 20 & 3) as usize];
            memory
                .write(u64::from(TX_RING) + at + 4, &count.to_le_bytes())
                .unwrap();
            memory
                .write(u64::from(TX_RING) + at, &buffer.to_le_bytes())
                .unwrap();
            // In one store: the base of one with the length of the other is seen only by who reads twice.
            let (buffer, len) = if n >> 16 & 1 == 0 { SHORT } else { LONG };
            let words = [buffer, u32::from(OWN) << 16 | 0xf000 | (4096 - len)];
            memory.write_obj(u64::from(RX_RING) + at, &words).unwrap();
        }
    });
    let canary = vec![0xcc; BUFFER as usize];
    bench.poke(SHORT.0 + SHORT.1, &canary);
    for n in 0..3000u32 {
        bench.give_tx(n % 8, &frame(60), WHOLE);
        bench.demand();
        bench.arrive(&frame(1514));
        if bench.csr(0) & MERR != 0 {
            bench.write_csr(0, 0x0004);
            bench.fill_rx(8, BUFFER);
            bench.init_block(0x0044, 3, 3);
            bench.start();
        }
    }
    stop.store(true, Relaxed);
    mutator.join().unwrap();
    assert_eq!(bench.peek(SHORT.0 + SHORT.1, canary.len()), canary);
    assert_ne!(bench.peek(SHORT.0, 1), [0], "the short buffer was used");
    assert_eq!(bench.peer.credit().unwrap(), SLOTS);
}

/// Row 10: DMA aimed at the card itself or any other device reaches nothing, and rings that overlap are the guest's loss.
#[test]
fn cve_2021_3929_dma_aimed_at_device_registers_is_a_memory_error() {
    for at in NOT_RAM {
        let mut bench = Bench::new();
        bench.write_bcr(20, 2);
        bench.write_csr(1, at as u16);
        bench.write_csr(2, (at >> 16) as u16);
        bench.write_csr(0, 0x0043);
        assert_eq!(
            bench.csr(0) & (IDON | MERR | TXON | RXON),
            MERR,
            "block at {at:#x}"
        );
        assert!(bench.irq());
    }
    // The block, both rings and all buffers at one place.
    let mut bench = Bench::new();
    bench.write_bcr(20, 2);
    bench.init_block(0x0044, 2, 2);
    bench.poke(
        INIT_BLOCK + 20,
        &[INIT_BLOCK.to_le_bytes(), INIT_BLOCK.to_le_bytes()].concat(),
    );
    bench.poke(INIT_BLOCK + 4, &[0x00, 0x00, 0xc4, 0xff, 0x00, 0x83]);
    bench.start();
    for _ in 0..100 {
        bench.poke(INIT_BLOCK + 4, &[0x00, 0xf0, 0x00, 0x83]);
        bench.demand();
        bench.arrive(&frame(1514));
        bench.pass(10_000_000);
    }
}

/// Row 11: no frame, signal or timer that was under way touches guest memory after a reset, whichever it is.
#[test]
fn cve_2021_3748_a_reset_in_flight_leaves_nothing_to_be_written() {
    type Reset = fn(&mut Bench);
    let resets: [(&str, Reset); 5] = [
        ("RESET register", |bench| {
            bench.word(0x14);
        }),
        ("STOP", |bench| bench.write_csr(0, 0x0004)),
        ("machine reset", |bench| bench.lance.reset()),
        ("bus master off", |bench| bench.lance.set_bus_master(false)),
        ("STOP and INIT", |bench| {
            bench.write_csr(0, 0x0004);
            bench.init_block(3, 2, 2);
            bench.write_csr(0, 0x0003);
        }),
    ];
    for (what, reset) in resets {
        let mut bench = Bench::started(0, 64);
        // Frames that wait for room, a chain half gathered, and frames that wait for descriptors.
        for n in 0..SLOTS + 2 {
            bench.give_tx(n, &frame(60), WHOLE);
        }
        bench.demand();
        for n in 0..64 {
            bench.descriptor(RX_RING + 16 * n, RX_BUFFERS, BUFFER, 0);
        }
        for _ in 0..4 {
            assert!(bench.arrive(&frame(60)));
        }
        assert!(bench.lance.wire.is_stalled() && bench.lance.intake.is_holding());
        reset(&mut bench);
        bench.fill_rx(64, BUFFER);
        let before = bench.peek(0, LOW_END as usize);
        bench.all_sent();
        bench.look();
        bench.arrive(&frame(99));
        bench.pass(10 * Ns::SECOND);
        assert!(
            bench.peek(0, before.len()) == before,
            "{what}: guest memory written"
        );
        assert!(bench.all_sent().is_empty(), "{what}: a frame of before");
        assert_eq!(bench.peer.credit().unwrap(), SLOTS, "{what}: slots given back");
    }
}

/// Row 11: a start without a new block goes on with the ring, not with the frame that was under way.
#[test]
fn row_11_a_frame_that_waited_at_stop_is_not_sent_after_the_next_start() {
    let mut bench = Bench::started(0, 64);
    for n in 0..=SLOTS {
        bench.give_tx(n, &frame(60), WHOLE);
    }
    bench.demand();
    assert!(bench.lance.wire.is_stalled());
    bench.write_csr(0, 0x0004);
    assert_eq!(bench.all_sent().len(), SLOTS as usize);
    bench.write_csr(0, 0x0042);
    bench.demand();
    assert!(bench.all_sent().is_empty());
    assert_eq!(bench.tx_state(SLOTS).0, WHOLE, "its descriptor was not touched");
}

/// Row 12: one descriptor is not a chain, though it looks owned until it is given back.
#[test]
fn row_12_a_ring_of_one_is_never_chained_to_itself() {
    let mut bench = Bench::started(0x0044, 1);
    bench.fill_rx(1, 128);
    bench.give_tx(0, &frame(300), OWN | STP);
    bench.demand();
    assert_eq!(bench.tx_state(0), (0x4200, 0xc000_0000));
    bench.write_csr(0, 0x0004);
    bench.init_block(0, 0, 0);
    bench.start();
    bench.arrive(&frame(300));
    assert_eq!(bench.rx_state(0).0, 0x5600);
    assert_eq!(
        bench.peek(RX_BUFFERS, 128),
        frame(128),
        "the beginning, not the end"
    );
}

/// Row 12: a peer that signals without end gets one turn per signal.
#[test]
fn row_12_a_host_that_sends_nothing_but_nonsense_does_not_hold_the_card() {
    let mut bench = Bench::started(0, 4);
    for _ in 0..100 {
        while bench.peer.push(99, 0, &[]).is_ok() {}
        bench.deliver();
        assert_eq!(bench.peer.credit().unwrap(), SLOTS);
    }
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 100 * u64::from(SLOTS));
}

/// Row 13: every read and write of guest memory fails once, wherever it is.
#[test]
fn cve_2021_29631_every_failed_access_to_guest_memory_is_an_error_told_and_no_more() {
    for at in NOT_RAM {
        // The transmit ring, a transmit buffer, the second buffer of a chain.
        let mut bench = Bench::started(0, 4);
        bench.write_csr(5, 1);
        bench.write_csr(30, at as u16);
        bench.write_csr(31, (at >> 16) as u16);
        bench.write_csr(5, 0);
        bench.demand();
        let ring = at & !15;
        if !bench.memory.is_ram(ring.into(), 16) {
            assert_eq!(
                bench.csr(0) & (MERR | TXON | RXON),
                MERR | RXON,
                "ring at {at:#x}"
            );
        }
        for first in [true, false] {
            let mut bench = Bench::started(0, 4);
            bench.give_tx(0, &frame(100), OWN | STP);
            bench.give_tx(1, &frame(100), OWN | ENP);
            let n = u32::from(!first);
            let status = if first { STP } else { ENP };
            bench.descriptor(TX_RING + 16 * n, at, 100, OWN | status);
            bench.demand();
            assert_eq!(
                bench.csr(0) & (MERR | TXON | RXON),
                MERR | RXON,
                "buffer at {at:#x}"
            );
            assert!(bench.all_sent().is_empty(), "nothing of it crosses");
            // Other work goes on, and a restart cures it.
            assert!(bench.arrive(&frame(60)));
            assert_eq!(bench.rx_state(0).0, 0x0340);
            bench.write_csr(0, 0x0004);
            bench.poke(TX_RING, &[0; 32]);
            bench.start();
            bench.give_tx(0, &frame(61), WHOLE);
            bench.demand();
            assert_eq!(bench.all_sent(), [frame(61)]);
        }
        // The receive ring's second descriptor and the buffers.
        for n in 0..2 {
            let mut bench = Bench::started(0, 4);
            bench.fill_rx(4, 64);
            bench.descriptor(RX_RING + 16 * n, at, 64, OWN);
            bench.arrive(&frame(100));
            assert_eq!(
                bench.csr(0) & (MERR | TXON | RXON),
                MERR | TXON,
                "buffer at {at:#x}"
            );
            assert_eq!(bench.rx_state(n).0, OWN, "not given back as if it were good");
            assert_eq!(bench.counted(VmmCounter::NetRxMissed), 1);
            assert_eq!(bench.peer.credit().unwrap(), SLOTS);
            assert!(bench.arrive(&frame(60)), "and nobody waits for it");
        }
    }
}

/// Row 14: padding is zeros, never what an earlier frame left in the buffer.
#[test]
fn cve_2010_1138_padding_carries_nothing_of_earlier_frames() {
    let mut bench = Bench::started(0, 4);
    bench.give_tx(0, &[0xee; 1514], WHOLE);
    bench.give_tx(1, &frame(14), WHOLE);
    bench.demand();
    let sent = bench.all_sent();
    assert_eq!(sent[1][14..], [0; 46]);
    let mut long = frame(1514);
    long[14..].fill(0xee);
    assert!(bench.arrive(&long) && bench.arrive(&frame(14)));
    assert_eq!(bench.peek(RX_BUFFERS + STRIDE + 14, 46), [0; 46]);
}

/// Row 17: accesses at and over the edges of the window, in every width, by ports and by memory.
#[test]
fn cve_2019_18960_accesses_at_the_edge_of_the_window_reach_nothing_else() {
    let mut bench = Bench::started(0, 4);
    for offset in (0..40).chain([0xfff0, 0xffff]) {
        for width in [Width::Byte, Width::Word, Width::Dword] {
            let end = u32::from(offset) + u32::from(width.bytes());
            let read = bench.inp(offset, width);
            if end > 32 {
                assert_eq!(read, Access::Bad, "{offset:#x} {width:?}");
                assert_eq!(bench.out(offset, width, u32::MAX), Access::Bad);
            }
        }
    }
    for offset in [0, 0x10, 0x1f, 0x20, 0xffff, 0x1_0000, 0x1_0010, u64::MAX] {
        let read = bench.lance.mmio_read(bench.now, offset, Width::Qword);
        assert_eq!(read, Access::Bad, "{offset:#x}");
        assert_eq!(
            bench.lance.mmio_write(bench.now, offset, Width::Qword, 4),
            Access::Bad
        );
    }
}

/// Row 17: rings cannot be moved under a card that uses them.
#[test]
fn cve_2026_5747_rings_are_locked_once_the_card_runs() {
    let mut bench = Bench::started(0, 4);
    for csr in [1, 2, 24, 25, 30, 31, 72, 74, 76, 78, 12, 15] {
        let before = bench.csr(csr);
        bench.write_csr(csr, !before);
        assert_eq!(bench.csr(csr), before, "CSR{csr}");
    }
    bench.write_bcr(20, 0);
    assert_eq!(bench.bcr(20), 0x0302);
    assert!(bench.arrive(&frame(60)));
    assert_eq!(bench.rx_state(0).0, 0x0340);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    /// Rows 5 and 20: any order of register writes, frames and time, with rings full of anything; afterwards a reset and
    /// a proper start always give a card that works.
    #[test]
    fn row_20_no_history_of_writes_survives_a_reset(
        steps in proptest::collection::vec((0u8..6, 0u16..128, any::<u16>(), any::<u8>()), 0..80),
        ring in proptest::collection::vec(any::<u8>(), 512),
    ) {
        let mut bench = Bench::started(0, 8);
        bench.poke(RX_RING, &ring[..256]);
        bench.poke(TX_RING, &ring[256..]);
        for (what, register, value, byte) in steps {
            match what {
                0 | 1 => bench.write_csr(register % 16, value),
                2 => bench.write_csr(register, value),
                3 => bench.write_bcr(register, value),
                4 => { bench.arrive(&frame(14 + usize::from(value) % 1500)); }
                _ => bench.pass(1 << (byte % 30)),
            }
            bench.demand();
        }
        bench.all_sent();
        bench.lance.reset();
        bench.look();
        bench.lance.set_bus_master(true);
        prop_assert!(!bench.irq());
        bench.write_bcr(20, 2);
        bench.fill_rx(8, BUFFER);
        bench.poke(TX_RING, &[0; 128]);
        bench.init_block(0, 3, 3);
        bench.start();
        bench.give_tx(0, &frame(100), WHOLE);
        bench.demand();
        prop_assert_eq!(bench.all_sent(), [frame(100)]);
        prop_assert!(bench.arrive(&frame(100)));
        prop_assert_eq!(bench.rx_state(0), (0x0340, 104));
        prop_assert!(bench.irq());
    }
}
