//! The network card between a guest and a vmapp that are both made of the fuzzer's bytes: register accesses by the rig,
//! and here descriptors, initialization blocks and any other guest memory, frames, credit, the bus master bit, and from
//! some byte on a peer that may write whatever it likes anywhere in the rings.
//!
//! Asserted of an honest peer: what crosses is a frame, with an id of its own, and as many as were counted; no more are
//! received than were sent; and whatever happened before, a reset and a proper start give a card that sends and
//! receives. Of a hostile one: what [`super::rig`] asserts of every device.

use super::input::Input;
use super::rig::Rig;
use super::rings;
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape, RingLayout};
use shared::msg::net::{Down, MAX_FRAME, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;
use vmm::bus::{Access, Channelled, PortIo, Resettable, Width, Wires};
use vmm::dev::lance::Lance;
use vmm::mem::GuestMemory;
use vmm::time::Ns;

/// Number of the card's channel.
const NET: u8 = 1;
/// Small, so that rings are full and slots are used again after a few steps.
const SLOTS: u32 = 4;
const SLOT_BYTES: u32 = 1536;
const GSI: u8 = 16;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

/// Guest memory ends here.
const RAM: u64 = 0x2_0000;
// Where `start` puts its structures, and the fuzzer is led to write.
const INIT_BLOCK: u32 = 0x1000;
const RX_RING: u32 = 0x2000;
const TX_RING: u32 = 0x3000;
const BUFFERS: u32 = 0x8000;
/// Descriptors of each ring, as a power of two.
const LOG2: u32 = 3;

pub fn lance(bytes: &[u8]) -> u64 {
    let (lance, mut world) = pair();
    Rig::new(lance)
        .ports(&[0..=Lance::WINDOW - 1])
        .mmio(Lance::WINDOW.into())
        .timed()
        .resettable()
        .also(move |lance, now, input| world.act(lance, now, input))
        .run(bytes)
}

/// All that surrounds the card.
struct World {
    guest: Arc<GuestMemory>,
    wires: Wires,
    shared: SharedMemory,
    rings: [RingLayout; 2],
    channel: Channel,
    /// The vmm's side of the crossing, for what its run loop does: look, and read the counters.
    vmm: Arc<Crossing>,
    honest: bool,
    arrived: u64,
    last_id: u64,
    sent: u64,
}

fn pair() -> (Lance, World) {
    let shape = |kind, slot_bytes| ChannelShape {
        kind,
        down_slots: SLOTS,
        up_slots: SLOTS,
        slot_bytes,
    };
    let shapes = [
        shape(ChannelKind::Control, 64),
        shape(ChannelKind::Net, SLOT_BYTES),
    ];
    let shared = SharedMemory::create(&shapes).expect("shared memory");
    let bells = Bells::new().expect("doorbells");
    let io = IoSpec::default;
    let app = Crossing::new(Side::App, &shared, bells.try_clone().expect("descriptors"), io());
    let vmm = Crossing::new(Side::Vmm, &shared, bells, io());
    let wires = Wires::default();
    let guest = Arc::new(GuestMemory::new(RAM).expect("guest memory"));
    let channel = vmm.channel(NET).expect("a channel of the layout");
    let irq = wires.line(GSI).expect("a wire of the board");
    let mut lance = Lance::new(MAC, irq, Arc::clone(&guest), channel);
    lance.set_bus_master(true);
    let layout = shared.layout().channels()[usize::from(NET)];
    let world = World {
        guest,
        wires,
        rings: [layout.down, layout.up],
        channel: app.channel(NET).expect("a channel of the layout"),
        shared,
        vmm,
        honest: true,
        arrived: 0,
        last_id: 0,
        sent: 0,
    };
    (lance, world)
}

/// A frame to the card.
fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; len.clamp(14, MAX_FRAME)];
    frame[..6].copy_from_slice(&MAC);
    frame
}

impl World {
    fn act(&mut self, lance: &mut Lance, now: Ns, input: &mut Input<'_>) -> String {
        match input.byte() % 16 {
            0..=2 => self.send(input),
            3 => self.look(lance, now),
            4 => return format!("{:?}", self.drain()),
            5..=7 => self.write_descriptor(input),
            8 => self.write_anywhere(input),
            9 => lance.set_bus_master(!input.byte().is_multiple_of(4)),
            10 => self.start(lance, now, input.number(2) as u16, input.byte()),
            11 | 12 => csr(lance, now, 0, 0x0048),
            13 => self.revive(lance, now),
            14 => self.scribble_index(input),
            _ => self.scribble_slot(input),
        }
        format!("{}", self.wires.level(GSI))
    }

    /// The run loop's part: the device is called if its bit is set.
    fn look(&mut self, lance: &mut Lance, now: Ns) {
        if self.vmm.look() >> NET & 1 != 0 {
            lance.pull(now);
        }
    }

    /// A frame or a link message of any length, to anybody.
    fn send(&mut self, input: &mut Input<'_>) {
        let kind = input.choose(&[Up::Frame as u16, Up::Frame as u16, Up::Link as u16]);
        let len = usize::from(input.number(2) as u16) % (self.channel.payload_max() + 1);
        let mut payload = vec![input.byte(); if kind == Up::Link as u16 { 1 } else { len }];
        for (byte, own) in payload.iter_mut().zip(MAC) {
            *byte = if len & 1 == 0 && kind == Up::Frame as u16 {
                own
            } else {
                *byte
            };
        }
        if self.channel.push(kind, 0, &payload).is_ok() {
            self.sent += 1;
        }
        self.channel.flush().expect("a doorbell can be rung");
    }

    fn drain(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        let next = self.channel.next(&mut payload);
        self.channel.release(1).expect("a doorbell can be rung");
        assert!(next.is_ok() || !self.honest, "{next:?}");
        let header = next.ok()??;
        if self.honest {
            assert_eq!(Down::try_from(header.kind), Ok(Down::Frame));
            assert!(
                (14..=MAX_FRAME).contains(&payload.len()),
                "{} bytes",
                payload.len()
            );
            assert_eq!(header.id, self.last_id + 1);
        }
        self.last_id = header.id;
        self.arrived += 1;
        Some(payload)
    }

    /// A descriptor of either ring with anything in it, most often owned by the card.
    fn write_descriptor(&mut self, input: &mut Input<'_>) {
        let ring = input.choose(&[RX_RING, TX_RING]);
        let at = ring + u32::from(input.byte() % 16) * 8;
        let buffer = match input.byte() {
            near @ 0..=199 => BUFFERS + 0x100 * u32::from(near),
            _ => input.number(4) as u32,
        };
        let flags = u32::from(input.byte()) << 24;
        let count = 0xf000 | u32::from(input.number(2) as u16);
        let words = [buffer, flags | count, 0, buffer].map(u32::to_le_bytes).concat();
        self.guest.write(at.into(), &words).expect("RAM");
    }

    fn write_anywhere(&mut self, input: &mut Input<'_>) {
        let at = input.number(3) % (RAM - 8);
        let count = usize::from(input.byte() % 8) + 1;
        let bytes = input.number(count).to_le_bytes();
        self.guest.write(at, &bytes[..count]).expect("RAM");
    }

    /// As a driver does it, in the style and mode given.
    fn start(&mut self, lance: &mut Lance, now: Ns, mode: u16, style: u8) {
        let rings = if style & 3 < 2 {
            [RX_RING | LOG2 << 29, TX_RING | LOG2 << 29, 0]
        } else {
            [0, RX_RING, TX_RING]
        };
        let lengths = if style & 3 < 2 { MAC[0] } else { (LOG2 as u8) << 4 };
        let mut block = vec![mode as u8, (mode >> 8) as u8, lengths, lengths];
        block.extend(MAC);
        block.resize(16, 0);
        block.extend(rings.map(u32::to_le_bytes).concat());
        self.guest.write(INIT_BLOCK.into(), &block).expect("RAM");
        csr(lance, now, 0, 0x0004);
        csr(lance, now, 58, style.into());
        csr(lance, now, 1, INIT_BLOCK as u16);
        csr(lance, now, 2, 0);
        csr(lance, now, 0, 0x0043);
    }

    /// Whatever was before: a reset, a driver that does it right, and the card sends and receives.
    fn revive(&mut self, lance: &mut Lance, now: Ns) {
        lance.reset();
        for _ in 0..=SLOTS {
            self.look(lance, now);
            lance.pull(now);
            self.drain();
        }
        lance.set_bus_master(true);
        if !self.honest {
            return;
        }
        let counters = self.vmm.vmm_counters();
        assert_eq!(
            self.arrived,
            counters.get(VmmCounter::NetTx),
            "frames that crossed"
        );
        let seen = [
            VmmCounter::NetRx,
            VmmCounter::NetRxFiltered,
            VmmCounter::NetRxMissed,
        ];
        let seen: u64 = seen.iter().map(|&counter| counters.get(counter)).sum();
        assert!(seen <= self.sent, "{seen} frames seen of {} sent", self.sent);
        let descriptor = |status: u32, len: u32| {
            [BUFFERS, status << 16 | 0xf000 | (4096 - len), 0, 0]
                .map(u32::to_le_bytes)
                .concat()
        };
        assert_eq!(self.channel.credit().ok(), Some(SLOTS), "a slot was kept");
        self.guest.write(TX_RING.into(), &[0; 128]).expect("RAM");
        self.guest
            .write(RX_RING.into(), &descriptor(0x8000, 1536))
            .expect("RAM");
        self.start(lance, now, 0, 2);
        let len = 300;
        for (kind, payload) in [(Up::Link, vec![1]), (Up::Frame, frame(len))] {
            self.channel.push(kind as u16, 0, &payload).expect("room");
            self.sent += 1;
        }
        self.channel.flush().expect("a doorbell can be rung");
        self.look(lance, now);
        let mut received = [0; 16];
        self.guest.read(RX_RING.into(), &mut received).expect("RAM");
        assert_eq!(received[6..8], [0x40, 0x03], "a deaf card");
        assert_eq!(received[8..10], (len as u16 + 4).to_le_bytes());
        assert!(self.wires.level(GSI), "a silent card");
        self.guest.write(BUFFERS.into(), &frame(len)).expect("RAM");
        self.guest
            .write(TX_RING.into(), &descriptor(0x8300, len as u32))
            .expect("RAM");
        csr(lance, now, 0, 0x0048);
        assert_eq!(self.drain(), Some(frame(len)), "a dumb card");
    }

    /// An index or the wish for credit, of either ring.
    fn scribble_index(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        rings::scribble_index(&self.shared, &self.rings, input);
    }

    /// Up to eight bytes at the beginning of a slot, where its header is.
    fn scribble_slot(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        rings::scribble_slot(&self.shared, &self.rings, 32, input);
    }
}

/// Writes a CSR in whichever shape the window has.
fn csr(lance: &mut Lance, now: Ns, number: u16, value: u16) {
    let word = lance.port_write(now, 0x12, Width::Word, number.into()) == Access::Done(());
    let (rap, width) = if word {
        (0x12, Width::Word)
    } else {
        (0x14, Width::Dword)
    };
    for (port, value) in [(rap, number), (0x10, value)] {
        let done = lance.port_write(now, port, width, value.into());
        assert_eq!(done, Access::Done(()), "one of the two shapes is there");
    }
}
