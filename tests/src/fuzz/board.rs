//! The whole board, as a run loop would drive it, between a guest and a vmapp that are both made of the fuzzer's bytes.
//!
//! `board` is a hostile guest: any port, any address, any MSR, configuration space, structures in memory that DMA reads and
//! writes, some of them aimed at devices, with a vmapp that serves honestly and time that leaps. `peer_vmm` is a hostile
//! vmapp: the guest uses its devices as drivers do, and every word, index and slot of the shared memory may hold anything at
//! any time.
//!
//! Asserted of both: no panic, a value fits the width it was read with, [`Board::advance`] leaves no deadline in the
//! past, and no step takes long, in this thread's own time. Of an honest vmapp: not one word of it counted as an error.

use super::bound::bounded;
use super::input::Input;
use super::rig::SCALES;
use super::rings::{scribble_index, scribble_slot};
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape, RingLayout, WORDS_AT};
use shared::mem::Memory;
use shared::msg::disk::{Completion, Down, Request, SECTOR, Status};
use shared::ring::Side;
use shared::spec::{
    BootSpec, CONSOLE_CHANNEL, DiskSpec, EngineChoice, IoSpec, MachineSpec, NetSpec, OnReset,
};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;
use vmm::bus::Width;
use vmm::dev::chipset::lapic::{self, TscScale};
use vmm::engine::Op;
use vmm::machine::{Board, BoardConfig};
use vmm::mem::GuestMemory;
use vmm::time::Ns;
use zerocopy::{FromBytes, IntoBytes};

/// Most steps of one input.
const MOST_STEPS: usize = 2048;
/// The clock goes no further, so that adding to it cannot saturate.
const MOST_NS: u64 = 1 << 62;

const RAM: u64 = 2 << 20;
const SLOTS: u32 = 4;
const MOST_SECTORS: u32 = 4;
const SIZES: [u64; 3] = [300, 70, 64];
const CARDS: u8 = 2;
// Where the macros put their structures, and the fuzzer is led to write.
const TABLE: u32 = 0x1000;
const INIT_BLOCK: u32 = 0x2000;
const RX_RING: u32 = 0x3000;
const TX_RING: u32 = 0x4000;
const BUFFERS: u32 = 0x8000;

/// Ports of devices where the board puts them: first and how many.
const PORTS: [(u16, u16); 20] = [
    (0x1f0, 8),
    (0x3f6, 1),
    (0x170, 8),
    (0x376, 1),
    (0xc000, 16),
    (0xc100, 32),
    (0xc120, 32),
    (0x3f8, 8),
    (0xcf8, 8),
    (0x20, 2),
    (0xa0, 2),
    (0x4d0, 2),
    (0x40, 4),
    (0x61, 1),
    (0x60, 5),
    (0x70, 2),
    (0x80, 1),
    (0x92, 1),
    (0x600, 16),
    (0xe0, 32),
];
/// The local and I/O APIC, the cards' windows, the test device's, a hole, and what no memory has.
const REGISTERS: [u64; 8] = [
    0xfee0_0000,
    0xfec0_0000,
    0xfebf_0000,
    0xfebf_1000,
    vmm::dev::testdev::TestDevice::MEMORY,
    0xa_0000,
    RAM,
    0xffff_ffff_ffff_f000,
];
/// Where DMA may be aimed: at memory, at its end, over its own structures, at devices, at nothing.
const AIMS: [u32; 10] = [
    BUFFERS,
    TABLE,
    INIT_BLOCK,
    RX_RING,
    TX_RING,
    RAM as u32 - 16,
    0x9_fff8,
    0xfee0_0000,
    0xfebf_0000,
    0xffff_fff0,
];

pub fn board(bytes: &[u8]) -> u64 {
    World::new().run(bytes, |world, input| match input.byte() % 20 {
        0..=13 => world.guest(input),
        14..=16 => world.serve(input),
        17 => world.look(),
        _ => world.pass(input),
    })
}

pub fn peer_vmm(bytes: &[u8]) -> u64 {
    World::new().run(bytes, |world, input| match input.byte() % 16 {
        0 => world.ide_command(input),
        1 => world.dma(input),
        2 => world.start_card(input),
        3 => world.touch_card(input),
        4 => world.uart(input),
        5 | 6 => world.look(),
        7 => world.pass(input),
        8 => world.serve(input),
        9..=11 => world.scribble(input),
        12 => world.scribble_word(input),
        13 => world.misanswer(input),
        _ => world.port(input),
    })
}

/// The board and all around it.
struct World {
    board: Board,
    memory: Arc<GuestMemory>,
    shared: SharedMemory,
    rings: Vec<RingLayout>,
    spec: MachineSpec,
    vmm: Arc<Crossing>,
    /// vmapp's ends, by number; the first is the console's.
    channels: Vec<Channel>,
    now: Ns,
    honest: bool,
    seen: DefaultHasher,
}

fn spec() -> MachineSpec {
    MachineSpec {
        name: "fuzz".into(),
        memory_bytes: RAM,
        cpus: 1,
        engine: EngineChoice::Interp,
        boot: BootSpec::Image,
        on_reset: OnReset::Exit,
        debug_exit: Some(0xf4),
        test_device: true,
        require_jail: false,
        io: IoSpec::default(),
        nets: (0..CARDS)
            .map(|n| NetSpec {
                mac: [2, 0, 0, 0, 0, n + 1],
            })
            .collect(),
        disks: (SIZES.iter().zip([false, true, false]))
            .map(|(&sectors, read_only)| DiskSpec {
                sectors,
                read_only,
                serial: "FUZZ".into(),
            })
            .collect(),
    }
}

/// The machine's channels, small, so that rings are full and slots are used again after a few steps.
fn shapes(spec: &MachineSpec) -> Vec<ChannelShape> {
    let small = |shape: ChannelShape| ChannelShape {
        down_slots: SLOTS,
        up_slots: SLOTS,
        slot_bytes: match shape.kind {
            ChannelKind::Disk => MOST_SECTORS * SECTOR as u32 + 64,
            ChannelKind::Net => 1536,
            ChannelKind::Control | ChannelKind::Console => 64,
        },
        ..shape
    };
    spec.channels().into_iter().map(small).collect()
}

impl World {
    fn new() -> Self {
        let spec = spec();
        let shared = SharedMemory::create(&shapes(&spec)).expect("shared memory");
        let bells = Bells::new().expect("doorbells");
        let app = Crossing::new(
            Side::App,
            &shared,
            bells.try_clone().expect("descriptors"),
            spec.io,
        );
        let vmm = Crossing::new(Side::Vmm, &shared, bells, spec.io);
        let memory = Arc::new(GuestMemory::new(RAM).expect("guest memory"));
        let board = Board::new(BoardConfig {
            memory: Arc::clone(&memory),
            crossing: Arc::clone(&vmm),
            tsc: TscScale {
                tsc: 0,
                at: Ns(0),
                khz: 2_000_000,
            },
            unix_ns: 1_000_000_000_000_000_000,
            phys_bits: 40,
            spec: spec.clone(),
        });
        let layout = shared.layout().channels();
        let last = layout.len() as u8;
        Self {
            board: board.expect("a board"),
            rings: layout
                .iter()
                .flat_map(|channel| [channel.down, channel.up])
                .collect(),
            channels: (CONSOLE_CHANNEL..last)
                .map(|n| app.channel(n).expect("a channel of the layout"))
                .collect(),
            memory,
            shared,
            spec,
            vmm,
            now: Ns(0),
            honest: true,
            seen: DefaultHasher::new(),
        }
    }

    fn run(mut self, bytes: &[u8], step: impl Fn(&mut Self, &mut Input<'_>)) -> u64 {
        let mut input = Input::new(bytes);
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            bounded(|| {
                step(&mut self, &mut input);
                self.after();
            });
        }
        if self.honest {
            assert_eq!(self.vmm.vmm_counters().get(VmmCounter::PeerErrors), 0);
        }
        self.seen.finish()
    }

    /// What a run loop does after every exit.
    fn after(&mut self) {
        self.board.settle();
        let signals = self.board.take_signals();
        let pending = self.board.interrupts().pending();
        self.note(&(signals, pending, self.board.deadline()));
    }

    fn note(&mut self, what: &impl Debug) {
        format!("{what:?}").hash(&mut self.seen);
    }

    fn guest(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=3 => self.port(input),
            4 | 5 => self.register(input),
            6 => self.msr(input),
            7 | 8 => self.config(input),
            9 => self.write_memory(input),
            10 => self.interrupt(input),
            11 => self.ide_command(input),
            12 => self.dma(input),
            13 => self.start_card(input),
            14 => self.touch_card(input),
            _ => self.uart(input),
        }
    }

    fn port(&mut self, input: &mut Input<'_>) {
        let width = input.choose(&[Width::Byte, Width::Word, Width::Dword]);
        let port = match input.byte() {
            0xff => input.number(2) as u16,
            which => {
                let (first, count) = PORTS[usize::from(which) % PORTS.len()];
                first + u16::from(input.byte()) % count
            }
        };
        self.access_port(port, width, input);
    }

    fn access_port(&mut self, port: u16, width: Width, input: &mut Input<'_>) {
        let op = op(input, width);
        let value = self.board.port(self.now, port, width, op);
        self.judge(value, width);
    }

    fn out(&mut self, port: u16, width: Width, value: u64) {
        self.board.port(self.now, port, width, Op::Write(value));
    }

    fn judge(&mut self, value: u64, width: Width) {
        assert_eq!(value & !width.ones(), 0, "{width:?} gave {value:#x}");
        self.note(&value);
    }

    fn register(&mut self, input: &mut Input<'_>) {
        let width = input.choose(&[Width::Byte, Width::Word, Width::Dword, Width::Qword]);
        let at = match input.byte() {
            0xff => input.number(8),
            which => REGISTERS[usize::from(which) % REGISTERS.len()].wrapping_add(input.number(2) & 0xfff),
        };
        let op = op(input, width);
        let value = self.board.mmio(self.now, at, width, op);
        self.judge(value, width);
    }

    fn msr(&mut self, input: &mut Input<'_>) {
        let index = match input.byte() {
            0xff => lapic::MSR_APIC_BASE,
            0xfe => lapic::MSR_TSC_DEADLINE,
            0xfd => input.number(4) as u32,
            index => lapic::MSR_X2APIC_FIRST + u32::from(index),
        };
        let op = op(input, Width::Qword);
        let reply = self.board.msr(self.now, index, op);
        self.note(&reply);
    }

    /// A register of a function of bus 0: base addresses and the command register, mostly.
    fn config(&mut self, input: &mut Input<'_>) {
        let device = input.choose(&[0, 1, 3, 4, 31]);
        let function = u32::from(device == 1 && input.flag());
        let register = input.choose(&[0x04, 0x10, 0x14, 0x20, 0x3c, 0x40, 0x60, 0xfc]);
        let address = 1 << 31 | device << 11 | function << 8 | register;
        self.out(0xcf8, Width::Dword, address.into());
        self.access_port(0xcfc, Width::Dword, input);
    }

    fn write_memory(&mut self, input: &mut Input<'_>) {
        let base = input.choose(&[TABLE, INIT_BLOCK, RX_RING, TX_RING, BUFFERS]);
        let at = base + u32::from(input.byte());
        let value = if input.flag() {
            input.number(4) as u32
        } else {
            input.choose(&AIMS)
        };
        self.memory.write(at.into(), &value.to_le_bytes()).expect("RAM");
    }

    fn interrupt(&mut self, input: &mut Input<'_>) {
        match input.byte() % 4 {
            0 => self.board.interrupts().set_cr8(input.byte() & 15),
            1 => self.board.press_power_button(),
            2 => self.board.interrupts().nmi(),
            _ => {
                let taken = self.board.interrupts().take();
                self.note(&taken);
            }
        }
    }

    /// Task file and command, as a driver writes them, mostly inside the disk.
    fn ide_command(&mut self, input: &mut Input<'_>) {
        const COMMANDS: [u8; 16] = [
            0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xe7, 0xec, 0xef,
        ];
        let base = input.choose(&[0x1f0, 0x170]);
        let device = 0xe0 | u64::from(input.byte() & 0x10);
        let count = input.byte();
        let registers = [
            (6, device),
            (1, input.byte().into()),
            (2, 0),
            (2, count.into()),
            (3, input.byte().into()),
            (4, u64::from(input.byte() & 1)),
            (5, 0),
            (7, input.choose(&COMMANDS).into()),
        ];
        for (register, value) in registers {
            self.out(base + register, Width::Byte, value);
        }
    }

    /// A table of one or more regions, and a bus master that begins with it.
    fn dma(&mut self, input: &mut Input<'_>) {
        self.bus_master(true);
        for entry in 0..u64::from(input.byte() % 3) + 1 {
            let aim = input.choose(&AIMS);
            let count = input.number(2) as u32 & 0x1fff | u32::from(input.byte()) << 24;
            let at = u64::from(TABLE) + 8 * entry;
            self.memory.write_obj(at, &[aim, count]).expect("RAM");
        }
        let base = input.choose(&[0xc000, 0xc008]);
        let direction = u64::from(input.flag()) << 3;
        self.out(base + 4, Width::Dword, TABLE.into());
        self.out(base, Width::Byte, direction);
        self.out(base, Width::Byte, direction | 1);
    }

    /// Switches bus mastering on for the disks and the cards.
    fn bus_master(&mut self, on: bool) {
        for (device, function) in [(1u64, 1u64), (3, 0), (4, 0)] {
            let address = 1 << 31 | device << 11 | function << 8 | 4;
            self.out(0xcf8, Width::Dword, address);
            self.out(0xcfc, Width::Word, if on { 7 } else { 3 });
        }
    }

    /// Initializes a card with rings of eight in a style and a mode, some descriptors its own.
    fn start_card(&mut self, input: &mut Input<'_>) {
        self.bus_master(true);
        let mode = input.number(2) as u16;
        let mut block = mode.to_le_bytes().to_vec();
        block.extend([0x30, 0x30, 2, 0, 0, 0, 0, 1]);
        block.resize(20, 0);
        block.extend([RX_RING, TX_RING].map(u32::to_le_bytes).concat());
        self.memory.write(INIT_BLOCK.into(), &block).expect("RAM");
        for (ring, status) in [(RX_RING, 0x8000_f000u32), (TX_RING, 0x8300_f000)] {
            for n in 0..u32::from(input.byte() % 9) {
                let aim = input.choose(&AIMS);
                let len = 0x1000 - (u32::from(input.byte()) * 8).min(0xfff);
                let words = [aim, status | len, 0, aim];
                let at = ring + 16 * (n % 8);
                self.memory.write_obj(at.into(), &words).expect("RAM");
            }
        }
        let card = 0xc100 + 0x20 * u16::from(input.byte() % CARDS);
        for (csr, value) in [(0, 4), (58, 2), (1, INIT_BLOCK), (2, 0), (0, 0x43)] {
            self.csr(card, csr, value.into());
        }
    }

    fn touch_card(&mut self, input: &mut Input<'_>) {
        let card = 0xc100 + 0x20 * u16::from(input.byte() % CARDS);
        let (csr, value) = match input.byte() {
            0..=127 => (0, 0x48),
            128..=191 => (0, input.number(2)),
            _ => (input.byte().into(), input.number(2)),
        };
        self.csr(card, csr, value);
    }

    /// In the window's shape of words.
    fn csr(&mut self, card: u16, number: u64, value: u64) {
        self.out(card + 0x12, Width::Word, number);
        self.out(card + 0x10, Width::Word, value);
    }

    fn uart(&mut self, input: &mut Input<'_>) {
        for _ in 0..input.byte() % 40 {
            self.out(0x3f8, Width::Byte, input.byte().into());
        }
        self.board.flush_console(self.now);
    }

    /// The run loop's look at the bitmap.
    fn look(&mut self) {
        let bits = self.vmm.look();
        self.board.pull(bits, self.now);
    }

    fn pass(&mut self, input: &mut Input<'_>) {
        let to = match SCALES.get(usize::from(input.byte() % 7)) {
            Some(scale) => self.now.after(scale * u64::from(input.byte())),
            None => self.board.deadline().unwrap_or(self.now).max(self.now),
        };
        self.now = to.min(Ns(MOST_NS));
        self.board.advance(self.now);
        let next = self.board.deadline();
        assert!(
            next.is_none_or(|next| next > self.now || self.now.0 == MOST_NS),
            "deadline {next:?} after advance to {:?}",
            self.now
        );
    }

    /// vmapp does what it should: frames come back, what is printed is typed, requests are done.
    fn serve(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % self.channels.len();
        for _ in 0..=SLOTS {
            let channel = &mut self.channels[which];
            if channel.credit().ok().is_none_or(|credit| credit == 0) {
                break;
            }
            let mut payload = Vec::new();
            let Ok(Some(header)) = channel.next(&mut payload) else {
                break;
            };
            match channel.kind() {
                ChannelKind::Disk => payload = done(header.kind, &payload),
                ChannelKind::Net if input.flag() => {
                    payload.iter_mut().take(6).for_each(|byte| *byte = 0xff);
                }
                ChannelKind::Net | ChannelKind::Console | ChannelKind::Control => {}
            }
            let pushed = channel.push(1, header.id, &payload);
            assert!(pushed.is_ok() || !self.honest, "{pushed:?}");
            channel.flush().expect("a doorbell can be rung");
            channel.release(1).expect("a doorbell can be rung");
        }
        if self.channels[which].kind() == ChannelKind::Net && input.flag() {
            let link = [u8::from(input.flag())];
            self.channels[which].push(2, 0, &link).ok();
            self.channels[which].flush().expect("a doorbell can be rung");
        }
    }

    /// An answer of any kind, id, length and content.
    fn misanswer(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        let which = usize::from(input.byte()) % self.channels.len();
        let channel = &mut self.channels[which];
        let (kind, id) = (input.byte() % 4, input.byte());
        let mut payload = input.number(8).to_le_bytes().to_vec();
        let len = [0, 1, 7, 8, 14, 60, 520, 1514, 2056][usize::from(input.byte() % 9)];
        payload.resize(len.min(channel.payload_max()), input.byte());
        channel.push(kind.into(), id.into(), &payload).ok();
        channel.flush().expect("a doorbell can be rung");
        if input.flag() {
            let mut taken = Vec::new();
            let _whatever = channel.next(&mut taken);
            channel.release(1).expect("a doorbell can be rung");
        }
    }

    /// An index, or up to eight bytes at the beginning of a slot.
    fn scribble(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        if input.flag() {
            return scribble_index(&self.shared, &self.rings, input);
        }
        scribble_slot(&self.shared, &self.rings, 40, input);
    }

    /// One of the words the sides watch each other through, or of the counters.
    fn scribble_word(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        let at = WORDS_AT + 8 * (input.number(2) as usize % 0x400);
        self.shared.mem().store_u64(at, input.number(8), Relaxed);
        if input.flag() {
            let all = self.spec.channels().len();
            self.board.pull(u64::MAX >> (64 - all), self.now);
        }
    }
}

/// A disk's answer to a request; of no sense where the request has none.
fn done(kind: u16, payload: &[u8]) -> Vec<u8> {
    let (request, _) = Request::read_from_prefix(payload).unwrap_or_default();
    let completion = Completion {
        status: Status::Good as u32,
        sectors: request.sectors,
    };
    let mut answer = completion.as_bytes().to_vec();
    if kind == Down::Read as u16 {
        let sectors = request.sectors.min(MOST_SECTORS) as usize;
        answer.resize(answer.len() + sectors * SECTOR, request.lba as u8);
    }
    answer
}

fn op(input: &mut Input<'_>, width: Width) -> Op {
    if input.flag() {
        Op::Write(input.number(width.bytes().into()))
    } else {
        Op::Read
    }
}
