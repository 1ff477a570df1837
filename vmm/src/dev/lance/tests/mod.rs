//! The card, part by part and whole: [`Bench`] is a machine with nothing but guest memory, the card and, at the other end
//! of the rings, the test as vmapp.

mod front;
mod hostile;
mod receive;
mod registers;
mod sequences;
mod transmit;

use super::Lance;
use crate::bus::{Access, Channelled, PortIo, Timed, Width, Wires};
use crate::mem::GuestMemory;
use crate::time::Ns;
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape};
use shared::msg::net::{Down, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;

pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
pub const SLOTS: u32 = 16;
const GSI: u8 = 16;
/// Guest memory: nothing is RAM from here on.
pub const RAM: u64 = 2 << 20;

// Where the test's driver keeps its structures.
pub const INIT_BLOCK: u32 = 0x1_0000;
pub const RX_RING: u32 = 0x1_1000;
pub const TX_RING: u32 = 0x1_4000;
pub const RX_BUFFERS: u32 = 0x4_0000;
pub const TX_BUFFERS: u32 = 0x8_0000;
/// Bytes of a buffer, as Linux has them.
pub const BUFFER: u32 = 1544;
/// Distance of buffers.
pub const STRIDE: u32 = 0x800;

pub const OWN: u16 = 0x8000;
pub const STP: u16 = 0x0200;
pub const ENP: u16 = 0x0100;
pub const WHOLE: u16 = OWN | STP | ENP;

pub const IDON: u16 = 0x0100;
pub const TINT: u16 = 0x0200;
pub const RINT: u16 = 0x0400;
pub const MERR: u16 = 0x0800;
pub const MISS: u16 = 0x1000;
pub const CERR: u16 = 0x2000;
pub const BABL: u16 = 0x4000;
pub const TXON: u16 = 0x0010;
pub const RXON: u16 = 0x0020;

pub struct Bench {
    pub lance: Lance,
    pub memory: Arc<GuestMemory>,
    pub wires: Wires,
    pub crossing: Arc<Crossing>,
    pub peer: Channel,
    pub now: Ns,
    _shared: SharedMemory,
}

impl Bench {
    /// A card after power-on, mastering the bus, its cable in.
    pub fn new() -> Self {
        let shape = |kind, slot_bytes| ChannelShape {
            kind,
            down_slots: SLOTS,
            up_slots: SLOTS,
            slot_bytes,
        };
        let shapes = [shape(ChannelKind::Control, 64), shape(ChannelKind::Net, 1536)];
        let shared = SharedMemory::create(&shapes).unwrap();
        let bells = Bells::new().unwrap();
        let peer = Crossing::new(Side::App, &shared, bells.try_clone().unwrap(), IoSpec::default());
        let crossing = Crossing::new(Side::Vmm, &shared, bells, IoSpec::default());
        let wires = Wires::default();
        let memory = Arc::new(GuestMemory::new(RAM).unwrap());
        let irq = wires.line(GSI).unwrap();
        let mut lance = Lance::new(MAC, irq, Arc::clone(&memory), crossing.channel(1).unwrap());
        lance.set_bus_master(true);
        let mut bench = Self {
            lance,
            memory,
            wires,
            peer: peer.channel(1).unwrap(),
            crossing,
            now: Ns(1_000_000),
            _shared: shared,
        };
        bench.link(true);
        bench
    }

    /// As a driver leaves it: style 2, `count` descriptors each way, receive descriptors given to the card, started
    /// with this mode.
    pub fn started(mode: u16, count: u32) -> Self {
        let mut bench = Self::new();
        bench.write_bcr(20, 2);
        bench.fill_rx(count, BUFFER);
        bench.init_block(mode, count.trailing_zeros() as u8, count.trailing_zeros() as u8);
        bench.write_csr(4, 0x0915);
        bench.start();
        bench
    }

    pub fn start(&mut self) {
        self.write_csr(1, INIT_BLOCK as u16);
        self.write_csr(2, (INIT_BLOCK >> 16) as u16);
        self.write_csr(0, 0x0001);
        assert_ne!(self.csr(0) & IDON, 0, "initialised");
        self.write_csr(0, 0x0142);
    }

    /// The block in its 32-bit layout, filters closed.
    pub fn init_block(&mut self, mode: u16, rx_log2: u8, tx_log2: u8) {
        let mut block = Vec::new();
        block.extend(mode.to_le_bytes());
        block.extend([rx_log2 << 4, tx_log2 << 4]);
        block.extend(MAC);
        block.extend([0; 10]);
        block.extend(RX_RING.to_le_bytes());
        block.extend(TX_RING.to_le_bytes());
        self.poke(INIT_BLOCK, &block);
    }

    /// Gives the card `count` receive descriptors of style 2 with buffers of `len` bytes.
    pub fn fill_rx(&mut self, count: u32, len: u32) {
        for n in 0..count {
            self.give_rx(n, len);
        }
    }

    pub fn give_rx(&mut self, n: u32, len: u32) {
        let at = RX_RING + 16 * n;
        self.descriptor(at, RX_BUFFERS + STRIDE * n, len, OWN);
    }

    /// A descriptor of style 2.
    pub fn descriptor(&mut self, at: u32, buffer: u32, len: u32, status: u16) {
        let words = [
            buffer,
            u32::from(status) << 16 | 0xf000 | (4096 - len) & 0xfff,
            0xdead_beef,
            0,
        ];
        self.poke(at, &words.map(u32::to_le_bytes).concat());
    }

    /// Descriptor `n` of the transmit ring, with these bytes in its buffer.
    pub fn give_tx(&mut self, n: u32, bytes: &[u8], status: u16) {
        let buffer = TX_BUFFERS + STRIDE * n;
        self.poke(buffer, bytes);
        self.descriptor(TX_RING + 16 * n, buffer, bytes.len() as u32, status);
    }

    pub fn demand(&mut self) {
        self.write_csr(0, 0x0048);
    }

    pub fn poke(&mut self, at: u32, bytes: &[u8]) {
        self.memory.write(at.into(), bytes).unwrap();
    }

    pub fn peek(&self, at: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(at.into(), &mut bytes).unwrap();
        bytes
    }

    /// Status and report word of a descriptor of style 2.
    pub fn state(&self, at: u32) -> (u16, u32) {
        let words: [u32; 4] = self.memory.read_obj(at.into()).unwrap();
        ((words[1] >> 16) as u16, words[2])
    }

    pub fn tx_state(&self, n: u32) -> (u16, u32) {
        self.state(TX_RING + 16 * n)
    }

    pub fn rx_state(&self, n: u32) -> (u16, u32) {
        self.state(RX_RING + 16 * n)
    }

    pub fn out(&mut self, offset: u16, width: Width, value: u32) -> Access {
        self.lance.port_write(self.now, offset, width, value)
    }

    pub fn inp(&mut self, offset: u16, width: Width) -> Access<u32> {
        self.lance.port_read(self.now, offset, width)
    }

    pub fn csr(&mut self, csr: u16) -> u16 {
        assert_eq!(self.out(0x12, Width::Word, csr.into()), Access::Done(()));
        self.word(0x10)
    }

    pub fn write_csr(&mut self, csr: u16, value: u16) {
        assert_eq!(self.out(0x12, Width::Word, csr.into()), Access::Done(()));
        assert_eq!(self.out(0x10, Width::Word, value.into()), Access::Done(()));
    }

    pub fn bcr(&mut self, bcr: u16) -> u16 {
        assert_eq!(self.out(0x12, Width::Word, bcr.into()), Access::Done(()));
        self.word(0x16)
    }

    pub fn write_bcr(&mut self, bcr: u16, value: u16) {
        assert_eq!(self.out(0x12, Width::Word, bcr.into()), Access::Done(()));
        assert_eq!(self.out(0x16, Width::Word, value.into()), Access::Done(()));
    }

    pub fn word(&mut self, offset: u16) -> u16 {
        match self.inp(offset, Width::Word) {
            Access::Done(value) => value as u16,
            other => panic!("{offset:#x}: {other:?}"),
        }
    }

    pub fn link(&mut self, up: bool) {
        self.peer.push(Up::Link as u16, 0, &[up.into()]).unwrap();
        self.deliver();
    }

    /// vmapp has a frame for the guest; false if there is no credit.
    pub fn arrive(&mut self, frame: &[u8]) -> bool {
        let pushed = self.peer.push(Up::Frame as u16, 0, frame).is_ok();
        self.deliver();
        pushed
    }

    /// As the run loop does: pulls if the channel's bit is set.
    pub fn deliver(&mut self) {
        self.peer.flush().unwrap();
        self.look();
    }

    pub fn look(&mut self) {
        if self.crossing.look() >> 1 & 1 != 0 {
            self.lance.pull(self.now);
        }
    }

    /// The next frame vmapp finds.
    pub fn sent(&mut self) -> Option<(u64, Vec<u8>)> {
        let mut payload = Vec::new();
        let header = self.peer.next(&mut payload).unwrap()?;
        assert_eq!(Down::try_from(header.kind), Ok(Down::Frame));
        self.peer.release(1).unwrap();
        Some((header.id, payload))
    }

    pub fn all_sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.sent())
            .map(|(_, frame)| frame)
            .collect()
    }

    /// Lets time pass, as the run loop does: every deadline on the way is kept.
    pub fn pass(&mut self, ns: u64) {
        let end = self.now.after(ns);
        while let Some(due) = self.lance.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.lance.advance(self.now);
        }
        self.now = end;
    }

    pub fn counted(&self, counter: VmmCounter) -> u64 {
        self.crossing.vmm_counters().get(counter)
    }

    pub fn irq(&self) -> bool {
        self.wires.level(GSI)
    }
}

/// A frame of `len` bytes, sequence not included, to `destination`; its bytes tell their place.
pub fn frame_to(destination: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|at| (at % 251) as u8 | 1).collect();
    frame[..6].copy_from_slice(&destination);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame
}

/// A frame to the card.
pub fn frame(len: usize) -> Vec<u8> {
    frame_to(MAC, len)
}

/// The frame check sequence bit by bit, by the book.
pub fn slow_fcs(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    });
    (!crc).to_le_bytes()
}
