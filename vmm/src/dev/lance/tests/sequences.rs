//! What real drivers do, access by access: whole sequences as tables, values included.

use super::{Bench, INIT_BLOCK, MAC, OWN, RX_BUFFERS, RX_RING, STRIDE, TX_BUFFERS, TX_RING, WHOLE, frame};
use crate::bus::{Access, Width};
use Step::{InB, InD, InW, NoW, OutD, OutW};

/// One access, and what a read must give.
#[derive(Clone, Copy, Debug)]
enum Step {
    OutW(u16, u16),
    InW(u16, u16),
    OutD(u16, u32),
    InD(u16, u32),
    InB(u16, u8),
    /// A read that reaches nothing.
    NoW(u16),
}

fn play(bench: &mut Bench, steps: &[Step]) {
    for (number, step) in steps.iter().enumerate() {
        let (seen, wanted) = match *step {
            OutW(at, value) => (bench.out(at, Width::Word, value.into()).map_value(|()| 0), 0),
            OutD(at, value) => (bench.out(at, Width::Dword, value).map_value(|()| 0), 0),
            InW(at, value) => (bench.inp(at, Width::Word), value.into()),
            InD(at, value) => (bench.inp(at, Width::Dword), value),
            InB(at, value) => (bench.inp(at, Width::Byte), value.into()),
            NoW(at) => {
                assert_eq!(bench.inp(at, Width::Word), Access::Bad, "{number}: {step:?}");
                continue;
            }
        };
        assert_eq!(seen, Access::Done(wanted), "{number}: {step:?}");
    }
}

const RDP: u16 = 0x10;
const RAP: u16 = 0x12;
const RESET: u16 = 0x14;
const BDP: u16 = 0x16;

/// Linux pcnet32: pcnet32_probe1 of a card it finds in its first shape.
const LINUX_PROBE: &[Step] = &[
    InW(RESET, 0),
    OutW(RAP, 0),
    InW(RDP, 0x0004),
    OutW(RAP, 88),
    InW(RAP, 88),
    OutW(RAP, 88),
    InW(RDP, 0x1003),
    OutW(RAP, 89),
    InW(RDP, 0x0262),
    OutW(RAP, 12),
    InW(RDP, 0x5452),
    OutW(RAP, 13),
    InW(RDP, 0x1200),
    OutW(RAP, 14),
    InW(RDP, 0x5634),
    InB(0, 0x52),
    InB(1, 0x54),
    InB(2, 0x00),
    InB(3, 0x12),
    InB(4, 0x34),
    InB(5, 0x56),
    OutW(RAP, 20),
    OutW(BDP, 2),
    OutW(RAP, 1),
    OutW(RDP, INIT_BLOCK as u16),
    OutW(RAP, 2),
    OutW(RDP, (INIT_BLOCK >> 16) as u16),
    OutW(RAP, 2),
    InW(BDP, 0x0002),
    OutW(RAP, 2),
    OutW(BDP, 0x1002),
];

/// Linux pcnet32: pcnet32_open, automatic port selection.
const LINUX_OPEN: &[Step] = &[
    InW(RESET, 0),
    OutW(RAP, 20),
    OutW(BDP, 2),
    OutW(RAP, 2),
    InW(BDP, 0x1002),
    OutW(RAP, 2),
    OutW(BDP, 0x1002),
    OutW(RAP, 9),
    InW(BDP, 0),
    OutW(RAP, 9),
    OutW(BDP, 0),
    OutW(RAP, 124),
    InW(RDP, 0),
    OutW(RAP, 124),
    OutW(RDP, 0),
    OutW(RAP, 32),
    InW(BDP, 0),
    OutW(RAP, 32),
    OutW(BDP, 0x0020),
    // The multicast filter: stopped, so it takes.
    OutW(RAP, 8),
    OutW(RDP, 0),
    OutW(RAP, 1),
    OutW(RDP, INIT_BLOCK as u16),
    OutW(RAP, 2),
    OutW(RDP, (INIT_BLOCK >> 16) as u16),
    OutW(RAP, 4),
    OutW(RDP, 0x0915),
    OutW(RAP, 0),
    OutW(RDP, 0x0001),
    // The link, then IDON, which it never clears.
    OutW(RAP, 4),
    InW(BDP, 0x80c0),
    OutW(RAP, 0),
    InW(RDP, 0x0181),
    OutW(RAP, 0),
    OutW(RDP, 0x0042),
    OutW(RAP, 0),
    InW(RDP, 0x01f3),
];

/// Linux pcnet32: an interrupt, up to the NAPI poll.
const LINUX_INTERRUPT: &[Step] = &[
    OutW(RAP, 0),
    InW(RDP, 0x07f3),
    OutW(RAP, 0),
    OutW(RDP, 0x07f3 & !0x004f),
    OutW(RAP, 3),
    InW(RDP, 0),
    OutW(RAP, 3),
    OutW(RDP, 0x5f00),
];

/// Linux pcnet32: a send in the middle of the poll.
const LINUX_SEND: &[Step] = &[OutW(RAP, 0), OutW(RDP, 0x0048)];

/// Linux pcnet32: the end of the NAPI poll.
const LINUX_POLL_END: &[Step] = &[
    OutW(RAP, 3),
    InW(RDP, 0x5f00),
    OutW(RAP, 3),
    OutW(RDP, 0x0000),
    OutW(RAP, 0),
    OutW(RDP, 0x0040),
];

/// Linux pcnet32: pcnet32_set_multicast_list while running, promiscuous.
const LINUX_PROMISCUOUS: &[Step] = &[
    OutW(RAP, 5),
    InW(RDP, 0),
    OutW(RAP, 5),
    OutW(RDP, 0x0001),
    OutW(RAP, 5),
    InW(RDP, 0x0001),
    OutW(RAP, 15),
    InW(RDP, 0),
    OutW(RAP, 15),
    OutW(RDP, 0x8000),
    OutW(RAP, 5),
    InW(RDP, 0x0001),
    OutW(RAP, 5),
    OutW(RDP, 0x0000),
];

/// Linux pcnet32: pcnet32_close.
const LINUX_CLOSE: &[Step] = &[
    OutW(RAP, 112),
    InW(RDP, 0),
    OutW(RAP, 0),
    OutW(RDP, 0x0004),
    OutW(RAP, 20),
    OutW(BDP, 4),
    OutW(RAP, 20),
    InW(BDP, 0x0200),
];

#[test]
fn linux_probes_opens_sends_receives_and_closes() {
    let mut bench = Bench::new();
    bench.init_block(0, 5, 4);
    bench.fill_rx(32, super::BUFFER);
    play(&mut bench, LINUX_PROBE);
    play(&mut bench, LINUX_OPEN);
    assert!(bench.irq(), "IDON, unmasked");
    bench.give_tx(0, &frame(60), WHOLE);
    play(&mut bench, LINUX_SEND);
    assert_eq!(bench.all_sent(), [frame(60)]);
    assert!(bench.arrive(&frame(98)));
    play(&mut bench, LINUX_INTERRUPT);
    assert!(!bench.irq());
    assert_eq!(bench.tx_state(0), (0x0300, 0));
    assert_eq!(
        bench.rx_state(0).0 >> 8,
        0x03,
        "what Linux takes for a good frame"
    );
    assert_eq!(bench.rx_state(0).1, 102, "the sequence counts");
    bench.give_tx(1, &frame(1514), WHOLE);
    play(&mut bench, LINUX_SEND);
    assert_eq!(bench.all_sent(), [frame(1514)]);
    assert!(!bench.irq(), "INEA is back, but CSR3 masks it all");
    bench.give_rx(0, super::BUFFER);
    play(&mut bench, LINUX_POLL_END);
    assert!(
        !bench.irq(),
        "the second frame at the same moment waits for others"
    );
    bench.pass(1_000_000);
    assert!(bench.irq(), "the frame sent meanwhile");
    play(&mut bench, LINUX_PROMISCUOUS);
    assert!(bench.arrive(&super::frame_to([2, 0, 0, 0, 0, 9], 64)));
    assert_eq!(bench.rx_state(1).0 & OWN, 0);
    play(&mut bench, LINUX_CLOSE);
    assert!(!bench.irq());
}

#[test]
fn linux_finds_no_link_with_the_cable_out() {
    let mut bench = Bench::new();
    bench.link(false);
    bench.init_block(0, 5, 4);
    play(&mut bench, &[OutW(RAP, 4), InW(BDP, 0x00c0)]);
    bench.link(true);
    play(&mut bench, &[OutW(RAP, 4), InW(BDP, 0x80c0)]);
}

/// Linux after a transmitter that broke off: reset, and a restart that does not set the software style again.
#[test]
fn linux_restarts_after_a_soft_reset_without_setting_the_style() {
    let mut bench = Bench::started(0, 4);
    play(&mut bench, &[InW(RESET, 0), OutW(RAP, 4), OutW(RDP, 0x0915)]);
    bench.fill_rx(4, super::BUFFER);
    let restart = [
        OutW(RAP, 0),
        InW(RDP, 0x0004),
        OutW(RAP, 0),
        OutW(RDP, 0x0001),
        OutW(RAP, 0),
        InW(RDP, 0x0181),
        OutW(RAP, 0),
        OutW(RDP, 0x0002),
    ];
    play(&mut bench, &restart);
    assert!(bench.arrive(&frame(64)));
    assert_eq!(bench.rx_state(0).0 & OWN, 0);
}

/// Linux `ethtool -t`: frames of 75 bytes to itself through internal loopback.
#[test]
fn linux_passes_its_loopback_test() {
    let mut bench = Bench::started(0x0003, 4);
    bench.write_csr(0, 0x0004);
    for n in 0..4 {
        bench.give_tx(n, &frame(75), 0x8300);
    }
    let steps = [
        OutW(RAP, 15),
        InW(RDP, 0x0003),
        OutW(RAP, 15),
        OutW(RDP, 0x0044),
        OutW(RAP, 0),
        OutW(RDP, 0x0002),
    ];
    play(&mut bench, &steps);
    for n in 0..4 {
        assert_eq!(bench.rx_state(n), (0x0340, 79), "descriptor {n}");
        assert_eq!(bench.peek(RX_BUFFERS + STRIDE * n, 75), frame(75));
    }
    assert!(bench.all_sent().is_empty(), "nothing left the card");
}

/// iPXE's pcnet32: a ring of one transmit descriptor and four for receiving, everything masked, all polled.
#[test]
fn ipxe_resets_sends_and_polls() {
    let mut bench = Bench::new();
    bench.init_block(0, 2, 0);
    // It opens the hash filter.
    bench.poke(INIT_BLOCK + 12, &[0xff; 8]);
    bench.fill_rx(4, super::BUFFER);
    let reset = [
        InW(RESET, 0),
        OutW(RAP, 20),
        OutW(BDP, 2),
        OutW(RAP, 2),
        InW(BDP, 0x0002),
        OutW(RAP, 2),
        OutW(BDP, 0x0002),
        OutW(RAP, 124),
        InW(RDP, 0),
        OutW(RAP, 124),
        OutW(RDP, 0),
        OutW(RAP, 3),
        InW(RDP, 0),
        OutW(RAP, 3),
        OutW(RDP, 0x5700),
        OutW(RAP, 1),
        OutW(RDP, INIT_BLOCK as u16),
        OutW(RAP, 2),
        OutW(RDP, (INIT_BLOCK >> 16) as u16),
        OutW(RAP, 4),
        OutW(RDP, 0x0915),
        OutW(RAP, 0),
        OutW(RDP, 0x0001),
        OutW(RAP, 0),
        InW(RDP, 0x0101),
        OutW(RAP, 0),
        OutW(RDP, 0x0042),
    ];
    play(&mut bench, &reset);
    for round in 0..3 {
        bench.give_tx(0, &frame(42), WHOLE);
        play(&mut bench, LINUX_SEND);
        let mut padded = frame(42);
        padded.resize(60, 0);
        assert_eq!(bench.all_sent(), [padded], "round {round}");
        assert_eq!(bench.tx_state(0).0 & OWN, 0);
    }
    assert!(bench.arrive(&super::frame_to([0xff; 6], 300)));
    assert_eq!(bench.rx_state(0), (0x0310, 304));
    assert!(!bench.irq());
}

/// The 16-bit LANCE driver of an ISA card: style 0, an upper address byte of none, 24-byte block.
#[test]
fn a_lance_driver_works_with_16_bit_structures() {
    let mut bench = Bench::new();
    let mut block = vec![0, 0];
    block.extend(MAC);
    block.extend([0; 8]);
    block.extend((RX_RING | 2 << 29).to_le_bytes());
    block.extend((TX_RING | 1 << 29).to_le_bytes());
    bench.poke(INIT_BLOCK, &block);
    let lance = |address: u32, high: u8, len: u16| {
        let [a, b, c, _] = address.to_le_bytes();
        let [d, e] = (0u16.wrapping_sub(len)).to_le_bytes();
        [a, b, c, high, d, e, 0xee, 0xee]
    };
    for n in 0..4u32 {
        bench.poke(RX_RING + 8 * n, &lance(RX_BUFFERS + STRIDE * n, 0x80, 1544));
    }
    bench.poke(TX_BUFFERS, &frame(60));
    bench.poke(TX_RING, &lance(TX_BUFFERS, 0x83, 60));
    let steps = [
        InW(RESET, 0),
        OutW(RAP, 0),
        OutW(RDP, 0x0004),
        OutW(RAP, 1),
        OutW(RDP, INIT_BLOCK as u16),
        OutW(RAP, 2),
        OutW(RDP, (INIT_BLOCK >> 16) as u16),
        OutW(RAP, 3),
        OutW(RDP, 0),
        OutW(RAP, 0),
        OutW(RDP, 0x0041),
        InW(RDP, 0x01c1),
        OutW(RDP, 0x0142),
        OutW(RDP, 0x0048),
        InW(RDP, 0x02f3),
    ];
    play(&mut bench, &steps);
    assert_eq!(bench.all_sent(), [frame(60)]);
    assert_eq!(bench.peek(TX_RING, 8), [0x00, 0x00, 0x08, 0x03, 0xc4, 0xff, 0, 0]);
    assert!(bench.arrive(&frame(100)));
    assert_eq!(
        bench.peek(RX_RING, 8),
        [0x00, 0x00, 0x04, 0x03, 0xf8, 0xf9, 104, 0]
    );
    assert_eq!(bench.peek(RX_BUFFERS, 100), frame(100));
}

/// NetBSD's and FreeBSD's pcn: reset in both shapes, then DWIO by a write of zero, and style 3.
#[test]
fn a_bsd_driver_resets_blindly_and_goes_on_in_dwio_with_style_3() {
    let mut bench = Bench::new();
    let mut block = vec![0, 0, 0x20, 0x10];
    block.extend(MAC);
    block.extend([0; 10]);
    block.extend(RX_RING.to_le_bytes());
    block.extend(TX_RING.to_le_bytes());
    bench.poke(INIT_BLOCK, &block);
    let burst = |address: u32, status: u32, len: u32| {
        [0, status << 16 | 0xf000 | (4096 - len), address, 0x1234_5678]
            .map(u32::to_le_bytes)
            .concat()
    };
    for n in 0..4 {
        bench.poke(RX_RING + 16 * n, &burst(RX_BUFFERS + STRIDE * n, 0x8000, 1536));
    }
    bench.poke(TX_BUFFERS, &frame(200));
    bench.poke(TX_RING, &burst(TX_BUFFERS, 0x8300, 200));
    assert_eq!(bench.inp(0x18, Width::Dword), Access::Bad, "there is no DWIO yet");
    let csr = |number, value| [OutD(0x14, number), OutD(RDP, value)];
    let start = [
        &[InW(RESET, 0), OutD(RDP, 0), OutD(0x14, 20), OutD(0x1c, 3)][..],
        &csr(1, INIT_BLOCK & 0xffff),
        &csr(2, INIT_BLOCK >> 16),
        &csr(0, 0x0001),
        &[InD(RDP, 0x0181)],
        &csr(0, 0x0042),
        &csr(0, 0x0048),
        &[InD(RDP, 0x03f3), NoW(RDP), NoW(RESET)],
    ]
    .concat();
    play(&mut bench, &start);
    assert_eq!(bench.all_sent(), [frame(200)]);
    assert!(bench.arrive(&frame(1514)));
    let rx: Vec<u8> = bench.peek(RX_RING, 16);
    assert_eq!(rx[..4], 1518u32.to_le_bytes());
    assert_eq!(rx[6..8], [0x40, 0x03]);
    assert_eq!(rx[12..], 0x1234_5678u32.to_le_bytes(), "user space is the user's");
    // A warm restart: the driver of the next system finds it in DWIO and resets it there.
    play(
        &mut bench,
        &[NoW(RESET), InD(0x18, 0), OutD(0x14, 0), InD(RDP, 0x0004)],
    );
}
