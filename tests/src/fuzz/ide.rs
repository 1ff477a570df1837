//! The IDE controller between a guest and a vmapp that are both made of the fuzzer's bytes, over real shared memory.
//!
//! The peer serves requests as a disk does; from some byte on it may answer what it likes or write anywhere in the
//! rings. Asserted of the controller as long as nobody wrote into its ring: every request lies on the disk, is no longer
//! than a slot, carries its data, and has an id above the one before. Of an honest peer: no error is counted, and a disk
//! that is not busy has nothing left with vmapp. Of a hostile one: what [`super::rig`] asserts of every device.

use super::input::Input;
use super::rig::Rig;
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape, RingLayout, RingOffsets, SlotHeader};
use shared::mem::Memory;
use shared::msg::disk::{Completion, Down, HEADER_BYTES, Request, SECTOR, Status, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;
use vmm::bus::{PortIo, Timed, Width, Wires};
use vmm::dev::ide::{Drive, Ide};
use vmm::mem::GuestMemory;
use vmm::time::Ns;
use zerocopy::{FromBytes, IntoBytes};

/// The primary master is to be written, its slave is read-only; the secondary channel is empty.
const SIZES: [u64; 2] = [300, 70];
const SLOTS: u32 = 4;
const MOST_SECTORS: u32 = 4;
const SLOT_BYTES: u32 = MOST_SECTORS * SECTOR as u32 + 64;
const GUEST_BYTES: u64 = 1 << 20;
const TABLE: u64 = 0x1000;
/// 300 sectors are 75 requests, and a few more are left of the command before.
const MOST_ROUNDS: usize = 64;
const CONTROL: u16 = 0x3f6;
/// Commands that do something, in place of a random byte that mostly does not.
const COMMANDS: [u8; 24] = [
    0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40, 0x42, 0x90, 0x91, 0xc4, 0xc5, 0xc6, 0xc8, 0xca,
    0xe0, 0xe6, 0xe7, 0xea, 0xec, 0xef, 0xf8,
];

pub fn ide(bytes: &[u8]) -> u64 {
    let (ide, mut vmapp) = machine();
    Rig::new(ide)
        .ports(&Ide::PORTS)
        .timed()
        .resettable()
        .also(move |ide, now, input| vmapp.act(ide, now, input))
        .run(bytes)
}

/// The other end of one disk.
struct Disk {
    number: u8,
    sectors: u64,
    channel: Channel,
    rings: [RingLayout; 2],
    last_id: u64,
}

/// The other end, and the guest's memory.
struct VmApp {
    shared: SharedMemory,
    disks: Vec<Disk>,
    memory: Arc<GuestMemory>,
    vmm: Arc<Crossing>,
    /// Answers what was asked.
    honest: bool,
    /// Nobody but the controller wrote into the down rings.
    intact: bool,
}

fn machine() -> (Ide, VmApp) {
    let shape = |kind| ChannelShape {
        kind,
        down_slots: SLOTS,
        up_slots: SLOTS,
        slot_bytes: SLOT_BYTES,
    };
    let shapes = [ChannelKind::Control, ChannelKind::Disk, ChannelKind::Disk].map(shape);
    let shared = SharedMemory::create(&shapes).expect("shared memory");
    let bells = Bells::new().expect("doorbells");
    let io = IoSpec::default;
    let app = Crossing::new(Side::App, &shared, bells.try_clone().expect("descriptors"), io());
    let vmm = Crossing::new(Side::Vmm, &shared, bells, io());
    let memory = Arc::new(GuestMemory::new(GUEST_BYTES).expect("guest memory"));
    let drive = |number: u8| Drive {
        sectors: SIZES[usize::from(number) - 1],
        read_only: number == 2,
        serial: "FUZZ".to_owned(),
        channel: vmm.channel(number).expect("a channel of the layout"),
    };
    let wires = Wires::default();
    let irqs = Ide::GSIS.map(|gsi| wires.line(gsi).expect("a wire of the board"));
    let mut ide = Ide::new(
        [Some(drive(1)), Some(drive(2)), None, None],
        irqs,
        Arc::clone(&memory),
    );
    ide.set_bus_master(true);
    let disks = [1, 2].map(|number| {
        let layout = shared.layout().channels()[usize::from(number)];
        Disk {
            number,
            sectors: SIZES[usize::from(number) - 1],
            channel: app.channel(number).expect("a channel of the layout"),
            rings: [layout.down, layout.up],
            last_id: 0,
        }
    });
    let vmapp = VmApp {
        shared,
        disks: disks.into(),
        memory,
        vmm,
        honest: true,
        intact: true,
    };
    (ide, vmapp)
}

impl VmApp {
    fn act(&mut self, ide: &mut Ide, now: Ns, input: &mut Input<'_>) -> String {
        match input.byte() % 11 {
            0 => self.look(ide, now),
            1 | 2 => command(ide, now, input),
            3 => return bus_master(ide, now, input),
            4 => self.descriptor(input),
            5 => start(ide, now, input),
            6 => return format!("{:?}", self.serve_some(input)),
            7 => return self.settle(ide, now),
            8 => ide.set_bus_master(input.flag()),
            9 => self.misanswer(input),
            _ => self.scribble(input),
        }
        format!("{}", ide.any_pending())
    }

    /// The run loop's part.
    fn look(&mut self, ide: &mut Ide, now: Ns) {
        let bits = self.vmm.look();
        for disk in &self.disks {
            if bits >> disk.number & 1 != 0 {
                ide.pull(disk.number, now);
            }
        }
    }

    /// A region in or across the end of memory, over the table itself, or where devices are.
    fn descriptor(&mut self, input: &mut Input<'_>) {
        let base = input.choose(&[0x2000, TABLE as u32, 0xf_fe00, 0x9_ff00, 0xfee0_0000]);
        let base = base + (input.number(2) as u32 & 0x1ffe);
        let count = input.number(2) as u32 & 0x1fff | u32::from(input.byte()) << 24;
        let at = TABLE + 8 * u64::from(input.byte() % 16);
        self.memory
            .write_obj(at, &[base, count])
            .expect("the table is memory");
    }

    fn serve_some(&mut self, input: &mut Input<'_>) -> usize {
        let disk = usize::from(input.flag());
        let most = usize::from(input.byte() % 8);
        (0..most).take_while(|_| self.serve(disk)).count()
    }

    /// One request of a disk, whose sectors all hold their number.
    fn serve(&mut self, at: usize) -> bool {
        let Some((header, request, data)) = self.take(at) else {
            return false;
        };
        if self.intact {
            self.disks[at].judge(header, request, &data);
        }
        let mut payload = Completion {
            status: Status::Good as u32,
            sectors: request.sectors,
        }
        .as_bytes()
        .to_vec();
        if header.kind == Down::Read as u16 {
            let sectors = request.sectors.min(MOST_SECTORS) as usize;
            payload.resize(payload.len() + sectors * SECTOR, request.lba as u8);
        }
        self.disks[at].answer(header.id, &payload);
        true
    }

    fn take(&mut self, at: usize) -> Option<(SlotHeader, Request, Vec<u8>)> {
        let channel = &mut self.disks[at].channel;
        if !channel.credit().is_ok_and(|credit| credit > 0) {
            assert!(!self.honest || channel.credit().is_ok());
            return None;
        }
        let mut payload = Vec::new();
        let next = channel.next(&mut payload);
        assert!(next.is_ok() || !self.intact, "{next:?}");
        let header = next.ok()??;
        let (request, data) = Request::read_from_prefix(&payload).ok()?;
        Some((header, request, data.to_vec()))
    }

    /// Serves and looks until neither side has anything to do.
    fn settle(&mut self, ide: &mut Ide, now: Ns) -> String {
        for _ in 0..MOST_ROUNDS {
            for disk in 0..self.disks.len() {
                for _ in 0..SLOTS {
                    self.serve(disk);
                }
            }
            self.look(ide, now);
            if ide.deadline().is_some() {
                ide.advance(now);
            }
        }
        let (status, pending) = (ide.port_read(now, CONTROL, Width::Byte), ide.any_pending());
        if self.honest {
            let vmm::bus::Access::Done(value) = status else {
                panic!("{status:?}");
            };
            assert!(value & 0x88 != 0 || !pending, "{value:#x} and still pending");
            assert_eq!(self.vmm.vmm_counters().get(VmmCounter::PeerErrors), 0);
        }
        format!("{status:?} {pending}")
    }

    /// An answer of any kind, id, status, count and length, to a request or to none.
    fn misanswer(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        let at = usize::from(input.flag());
        let asked = if input.flag() { self.take(at) } else { None };
        let id = asked.map_or(u64::from(input.byte()), |(header, ..)| header.id);
        let mut payload = Completion {
            status: u32::from(input.byte() % 5),
            sectors: u32::from(input.byte() % 8),
        }
        .as_bytes()
        .to_vec();
        let extra = input.number(2) as usize % (SLOT_BYTES as usize - 64);
        payload.resize(usize::from(input.byte() % 9).min(8) + extra, 0x5a);
        self.disks[at].answer(id, &payload);
    }

    /// An index, or up to eight bytes of a slot's header and what follows it.
    fn scribble(&mut self, input: &mut Input<'_>) {
        (self.honest, self.intact) = (false, false);
        let at = usize::from(input.flag());
        let ring = input.choose(&self.disks[at].rings);
        let memory = self.shared.mem();
        if input.flag() {
            let word = input.choose(&[RingOffsets::HEAD, RingOffsets::TAIL, RingOffsets::WANTED]);
            memory.store_u32(ring.at + word, input.number(2) as u32, Relaxed);
        } else {
            let at = usize::from(input.byte()) % 40;
            let bytes = input.number(8).to_le_bytes();
            memory.write(ring.slot_at(u32::from(input.byte())) + at, &bytes);
        }
    }
}

impl Disk {
    /// What the contract says of requests.
    fn judge(&mut self, header: SlotHeader, request: Request, data: &[u8]) {
        assert!(
            header.id > self.last_id,
            "id {} after {}",
            header.id,
            self.last_id
        );
        self.last_id = header.id;
        let what = Down::try_from(header.kind).expect("a kind of request");
        let bytes = request.sectors as usize * SECTOR;
        if what == Down::Flush {
            assert_eq!((request.lba, request.sectors, data.len()), (0, 0, 0));
            return;
        }
        assert!((1..=MOST_SECTORS).contains(&request.sectors), "{request:?}");
        assert!(
            request.lba + u64::from(request.sectors) <= self.sectors,
            "{request:?}"
        );
        assert_eq!(data.len(), if what == Down::Write { bytes } else { 0 });
        assert!(
            what == Down::Read || self.number == 1,
            "a write of a read-only disk"
        );
        assert!(bytes + HEADER_BYTES <= self.channel.payload_max());
    }

    fn answer(&mut self, id: u64, payload: &[u8]) {
        let _no_room = self.channel.push(Up::Done as u16, id, payload);
        self.channel.flush().expect("a doorbell can be rung");
        self.channel.release(1).expect("a doorbell can be rung");
    }
}

/// Registers and a command, as a driver writes them.
fn command(ide: &mut Ide, now: Ns, input: &mut Input<'_>) {
    let opcode = input.choose(&COMMANDS);
    let device = 0xe0 | input.byte() & 0x10;
    for (port, value) in [
        (0x1f1, input.byte()),
        (0x1f2, 0),
        (0x1f2, input.byte()),
        (0x1f3, 0),
        (0x1f3, input.byte()),
        (0x1f4, 0),
        (0x1f4, input.byte() & 1),
        (0x1f5, 0),
        (0x1f5, 0),
        (0x1f6, device),
        (0x1f7, opcode),
    ] {
        let _lost_while_busy = ide.port_write(now, port, Width::Byte, value.into());
    }
}

/// Any access to the bus masters.
fn bus_master(ide: &mut Ide, now: Ns, input: &mut Input<'_>) -> String {
    let width = input.choose(&[Width::Byte, Width::Word, Width::Dword]);
    let offset = u16::from(input.byte() % 20);
    if input.flag() {
        let done = ide.bus_master_write(now, offset, width, input.number(4) as u32);
        format!("{done:?}")
    } else {
        format!("{:?}", ide.bus_master_read(offset, width))
    }
}

/// The primary bus master from the beginning of the table, in either direction.
fn start(ide: &mut Ide, now: Ns, input: &mut Input<'_>) {
    let direction = u32::from(input.flag()) << 3;
    for (offset, width, value) in [
        (0, Width::Byte, direction),
        (4, Width::Dword, TABLE as u32),
        (0, Width::Byte, direction | 1),
    ] {
        let _done = ide.bus_master_write(now, offset, width, value);
    }
}
