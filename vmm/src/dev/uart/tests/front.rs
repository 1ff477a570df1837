//! The front end over a real channel, with the test as vmapp.

use super::super::{HOLD_NS, MOST_REFUSED, Uart};
use crate::bus::{Access, Channelled, PortIo, Resettable, Timed, Width, Wires};
use crate::time::Ns;
use proptest::prelude::*;
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape};
use shared::msg::console::{Down, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;

const DATA: u16 = 0x3f8;
const IER: u16 = 0x3f9;
const IIR: u16 = 0x3fa;
const FCR: u16 = 0x3fa;
const MCR: u16 = 0x3fc;
const LSR: u16 = 0x3fd;

/// A slot of 64 bytes carries 48.
const SLOT: usize = 48;
const SLOTS: u32 = 2;
const NOW: Ns = Ns(1000);

struct Bench {
    uart: Uart,
    wires: Wires,
    crossing: Arc<Crossing>,
    peer: Channel,
    _memory: SharedMemory,
}

impl Bench {
    fn new() -> Self {
        let shape = |kind| ChannelShape {
            kind,
            down_slots: SLOTS,
            up_slots: SLOTS,
            slot_bytes: 64,
        };
        let memory =
            SharedMemory::create(&[shape(ChannelKind::Control), shape(ChannelKind::Console)]).unwrap();
        let bells = Bells::new().unwrap();
        let peer = Crossing::new(Side::App, &memory, bells.try_clone().unwrap(), IoSpec::default());
        let crossing = Crossing::new(Side::Vmm, &memory, bells, IoSpec::default());
        let wires = Wires::default();
        let mut uart = Uart::new(wires.line(Uart::GSI).unwrap(), crossing.channel(1).unwrap());
        // As a driver sets it up: FIFOs with trigger 1, RX and THRE interrupts, OUT2.
        for (port, value) in [(FCR, 0x01), (MCR, 0x0b), (IER, 0x03)] {
            write(&mut uart, port, value);
        }
        assert_eq!(read(&mut uart, IIR), 0xc2);
        Self {
            uart,
            wires,
            peer: peer.channel(1).unwrap(),
            crossing,
            _memory: memory,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            write(&mut self.uart, DATA, byte);
        }
    }

    /// What vmapp finds in the next slot.
    fn drain_slot(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        let header = self.peer.next(&mut payload).unwrap()?;
        assert_eq!(Down::try_from(header.kind), Ok(Down::Output));
        self.peer.release(1).unwrap();
        Some(payload)
    }

    fn drain(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.drain_slot()).flatten().collect()
    }

    fn input(&mut self, bytes: &[u8]) {
        self.peer.push(Up::Input as u16, 0, bytes).unwrap();
        self.peer.flush().unwrap();
    }

    /// As the run loop does: pulls if the channel's bit is set.
    fn look(&mut self) {
        if self.crossing.look() >> 1 & 1 != 0 {
            self.uart.pull(NOW);
        }
    }

    fn counted(&self, counter: VmmCounter) -> u64 {
        self.crossing.vmm_counters().get(counter)
    }

    fn irq(&self) -> bool {
        self.wires.level(Uart::GSI)
    }
}

fn write(uart: &mut Uart, port: u16, value: u8) {
    assert_eq!(
        uart.port_write(NOW, port, Width::Byte, value.into()),
        Access::Done(())
    );
}

fn read(uart: &mut Uart, port: u16) -> u8 {
    match uart.port_read(NOW, port, Width::Byte) {
        Access::Done(value) => value as u8,
        other => panic!("{port:#x}: {other:?}"),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn bytes_wait_for_company_and_cross_at_a_flush_in_one_slot() {
    let mut bench = Bench::new();
    bench.send(b"hello");
    assert!(bench.uart.holds());
    assert_eq!(bench.drain_slot(), None);
    bench.uart.flush(NOW);
    assert_eq!(bench.drain_slot().as_deref(), Some(&b"hello"[..]));
    assert!(!bench.uart.holds());
    assert_eq!(bench.uart.deadline(), None);
    bench.uart.flush(NOW);
    assert_eq!(bench.drain_slot(), None, "nothing held, nothing sent");
    assert_eq!(bench.counted(VmmCounter::ConsoleOut), 5);
}

#[test]
fn a_full_slot_crosses_by_itself() {
    let mut bench = Bench::new();
    let bytes = pattern(SLOT + 1);
    bench.send(&bytes);
    assert_eq!(bench.drain_slot().as_deref(), Some(&bytes[..SLOT]));
    assert_eq!(bench.drain_slot(), None);
    assert!(bench.uart.holds(), "the byte after the slot waits");
}

#[test]
fn a_held_byte_crosses_a_millisecond_after_the_first_at_the_latest() {
    let mut bench = Bench::new();
    bench.send(b"a");
    let due = bench.uart.deadline().unwrap();
    assert_eq!(due, NOW.after(HOLD_NS));
    let later = NOW.after(HOLD_NS / 2);
    assert_eq!(
        bench.uart.port_write(later, DATA, Width::Byte, b'b'.into()),
        Access::Done(())
    );
    assert_eq!(bench.uart.deadline(), Some(due), "more bytes do not postpone it");
    bench.uart.advance(Ns(due.0 - 1));
    assert_eq!(bench.drain(), b"");
    bench.uart.advance(due);
    assert_eq!(bench.drain(), b"ab");
    assert_eq!(bench.uart.deadline(), None);
}

#[test]
fn an_idle_transmitter_interrupts_after_every_byte() {
    let mut bench = Bench::new();
    for byte in 0..40 {
        bench.send(&[byte]);
        assert!(bench.irq(), "byte {byte}");
        assert_eq!(read(&mut bench.uart, IIR), 0xc2);
        assert!(!bench.irq());
    }
}

#[test]
fn a_ring_nobody_drains_stalls_the_guest_and_loses_nothing() {
    let mut bench = Bench::new();
    let ring = SLOTS as usize * SLOT;
    let bytes = pattern(ring + SLOT + 16);
    // The ring, the burst, and the FIFO behind it.
    bench.send(&bytes[..ring + SLOT]);
    assert_eq!(read(&mut bench.uart, LSR) & 0x60, 0x60);
    assert_eq!(bench.counted(VmmCounter::ConsoleStalls), 1);
    bench.send(&bytes[ring + SLOT..]);
    assert_eq!(read(&mut bench.uart, LSR) & 0x60, 0, "the guest sees a slow line");
    assert!(!bench.irq());
    assert_eq!(bench.uart.deadline(), None, "credit comes by signal, not by time");
    bench.uart.flush(NOW);
    bench.look();
    assert_eq!(
        bench.counted(VmmCounter::ConsoleStalls),
        1,
        "one stall is one stall"
    );

    let mut seen = bench.drain_slot().unwrap();
    bench.look();
    assert!(bench.irq(), "the transmitter went empty");
    assert_eq!(read(&mut bench.uart, IIR), 0xc2);
    bench.uart.flush(NOW);
    for _ in 0..4 {
        seen.extend(bench.drain());
        bench.look();
        bench.uart.flush(NOW);
    }
    assert_eq!(seen, bytes);
    assert_eq!(bench.counted(VmmCounter::ConsoleOut), bytes.len() as u64);
}

#[test]
fn input_waits_for_room_and_is_given_back_when_used_up() {
    let mut bench = Bench::new();
    let bytes = pattern(2 * SLOT);
    bench.input(&bytes[..SLOT]);
    bench.input(&bytes[SLOT..]);
    bench.look();
    assert!(bench.irq());
    assert_eq!(bench.counted(VmmCounter::ConsoleIn), 16);
    assert_eq!(bench.peer.credit().unwrap(), 0, "a half used slot is still ours");
    let (mut seen, mut now) = (Vec::new(), NOW);
    while seen.len() < bytes.len() {
        assert!(bench.irq(), "an edge for each filling of the FIFO");
        while read(&mut bench.uart, LSR) & 1 != 0 {
            seen.push(read(&mut bench.uart, DATA));
        }
        assert!(!bench.irq(), "the FIFO runs empty before it is filled again");
        now = bench.uart.deadline().unwrap_or(now);
        bench.uart.advance(now);
    }
    assert_eq!(seen, bytes);
    assert_eq!(bench.uart.deadline(), None, "nothing more is waited for");
    assert_eq!(bench.peer.credit().unwrap(), SLOTS);
    assert!(!bench.irq());
    assert_eq!(read(&mut bench.uart, LSR) & 2, 0, "no overrun");
    assert_eq!(bench.counted(VmmCounter::ConsoleIn), bytes.len() as u64);
}

#[test]
fn input_that_comes_during_loopback_waits_for_its_end() {
    let mut bench = Bench::new();
    write(&mut bench.uart, MCR, 0x1b);
    bench.input(b"later");
    bench.look();
    assert_eq!(read(&mut bench.uart, LSR) & 1, 0);
    write(&mut bench.uart, MCR, 0x0b);
    assert!(bench.irq());
    assert_eq!(read(&mut bench.uart, DATA), b'l');
}

#[test]
fn slots_without_a_usable_byte_are_counted_and_passed_over() {
    let mut bench = Bench::new();
    bench.peer.push(77, 0, b"what").unwrap();
    bench.peer.push(Up::Input as u16, 0, b"").unwrap();
    bench.peer.flush().unwrap();
    bench.look();
    assert_eq!(bench.counted(VmmCounter::PeerErrors), 2);
    assert_eq!(read(&mut bench.uart, LSR) & 1, 0);
    bench.input(b"ok");
    bench.look();
    assert_eq!(read(&mut bench.uart, DATA), b'o');
    const { assert!(MOST_REFUSED > SLOTS) };
}

#[test]
fn a_reset_sends_what_left_the_transmitter_and_drops_the_interrupt() {
    let mut bench = Bench::new();
    bench.send(b"bye");
    assert!(bench.irq());
    bench.uart.reset();
    assert!(!bench.irq());
    assert_eq!(read(&mut bench.uart, IER), 0);
    bench.uart.flush(NOW);
    assert_eq!(bench.drain(), b"bye");
}

#[test]
fn wide_accesses_are_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.uart.port_read(NOW, DATA, Width::Word), Access::Bad);
    assert_eq!(bench.uart.port_write(NOW, DATA, Width::Dword, 0), Access::Bad);
}

#[derive(Clone, Debug)]
enum Deed {
    Write(u16, u8),
    Read(u16),
    Flush,
    Advance(u64),
    Input(Vec<u8>),
    Drain,
    Look,
    Reset,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (0u16..8, any::<u8>()).prop_map(|(r, v)| Deed::Write(0x3f8 + r, v)),
        8 => any::<u8>().prop_map(|v| Deed::Write(DATA, v)),
        8 => (0u16..8).prop_map(|r| Deed::Read(0x3f8 + r)),
        2 => Just(Deed::Flush),
        2 => (0u64..5_000_000).prop_map(Deed::Advance),
        2 => proptest::collection::vec(any::<u8>(), 0..SLOT).prop_map(Deed::Input),
        2 => Just(Deed::Drain),
        4 => Just(Deed::Look),
        1 => Just(Deed::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever guest and peer do in whatever order: every byte that left the transmitter is seen by vmapp, once.
    #[test]
    fn what_is_counted_out_arrives(deeds in proptest::collection::vec(deed(), 0..300)) {
        let mut bench = Bench::new();
        let mut seen = 0;
        for deed in deeds {
            match deed {
                Deed::Write(port, value) => write(&mut bench.uart, port, value),
                Deed::Read(port) => _ = read(&mut bench.uart, port),
                Deed::Flush => bench.uart.flush(NOW),
                Deed::Advance(ns) => bench.uart.advance(Ns(ns)),
                Deed::Input(bytes) => {
                    if bench.peer.credit().unwrap() > 0 {
                        bench.input(&bytes);
                    }
                }
                Deed::Drain => seen += bench.drain().len(),
                Deed::Look => bench.look(),
                Deed::Reset => bench.uart.reset(),
            }
        }
        while bench.uart.holds() || bench.peer.crossing().any() {
            bench.uart.flush(NOW);
            seen += bench.drain().len();
            bench.peer.crossing().look();
            bench.look();
        }
        bench.look();
        bench.uart.flush(NOW);
        seen += bench.drain().len();
        prop_assert_eq!(seen as u64, bench.counted(VmmCounter::ConsoleOut));
    }
}
