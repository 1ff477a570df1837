//! The controller over real rings, with the test as guest and as vmapp.
//!
//! | module | about |
//! |---|---|
//! | `registers` | addresses, geometry, IDENTIFY DEVICE, commands without data, absent devices, resets |
//! | `transfers` | data through the Data register and by the bus master, in both directions |
//! | `master` | the bus master against its data sheet |
//! | `host` | what vmapp answers, or does not |
//! | `bug_classes` | what went wrong in other devices, by row of the list |
//! | `linux` | what libata and ata_piix do, written out |

mod bug_classes;
mod host;
mod linux;
mod master;
mod registers;
mod transfers;

use super::{Drive, Ide};
use crate::bus::{Access, PortIo, Timed, Width, Wires};
use crate::mem::GuestMemory;
use crate::time::Ns;
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape, SlotHeader};
use shared::msg::disk::{Completion, Down, Request, SECTOR, Status as HostStatus, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;
use zerocopy::{FromBytes, IntoBytes};

const NOW: Ns = Ns(1000);
const PRIMARY: u16 = 0x1f0;
const CONTROL: u16 = 0x3f6;
/// Offsets of registers.
const DATA: u16 = 0;
const ERROR: u16 = 1;
const COUNT: u16 = 2;
const LOW: u16 = 3;
const MID: u16 = 4;
const HIGH: u16 = 5;
const DEVICE: u16 = 6;
const STATUS: u16 = 7;

const BSY: u8 = 0x80;
const IDLE: u8 = 0x50;
const DRQ: u8 = 0x58;
const ERR: u8 = 0x51;

/// Requests of at most 16 sectors: a command of some size is several.
const SMALL: u32 = 16;
/// Requests of 128 sectors, as the product has them.
const LARGE: u32 = 128;
const SLOTS: u32 = 4;

/// Where tests put descriptors and data.
const TABLE: u32 = 0x1_0000;
const BUFFER: u32 = 0x10_0000;
const MEMORY: u64 = 8 << 20;
const END_OF_TABLE: u32 = 1 << 31;

/// vmapp's end of one disk.
struct Host {
    channel: Channel,
    image: Vec<u8>,
    /// Requests taken and answered or not.
    log: Vec<(Down, u64, u32)>,
}

struct Bench {
    ide: Ide,
    memory: Arc<GuestMemory>,
    wires: Wires,
    crossing: Arc<Crossing>,
    /// By place; those without a disk have no channel.
    hosts: Vec<Option<Host>>,
    _shared: SharedMemory,
}

/// A request as vmapp sees it.
struct Asked {
    header: SlotHeader,
    what: Down,
    request: Request,
    data: Vec<u8>,
}

/// What sector `lba` holds at first.
fn pattern(lba: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    for (at, byte) in sector.iter_mut().enumerate() {
        *byte = (lba as u8).wrapping_mul(31).wrapping_add(at as u8) | 1;
    }
    sector[..8].copy_from_slice(&lba.to_le_bytes());
    sector
}

fn patterns(range: std::ops::Range<u64>) -> Vec<u8> {
    range.flat_map(pattern).collect()
}

impl Bench {
    /// One disk of 4096 sectors on the primary channel.
    fn new() -> Self {
        Self::with([Some(4096), None, None, None], SMALL, false)
    }

    /// Disks by size in sectors; the image is only as long as memory allows.
    fn with(sizes: [Option<u64>; 4], request: u32, read_only: bool) -> Self {
        Self::with_rings(sizes, request, read_only, SLOTS)
    }

    fn with_rings(sizes: [Option<u64>; 4], request: u32, read_only: bool, slots: u32) -> Self {
        let slot_bytes = request * SECTOR as u32 + 64;
        let shape = |kind| ChannelShape {
            kind,
            down_slots: slots,
            up_slots: slots,
            slot_bytes,
        };
        let mut shapes = vec![shape(ChannelKind::Control)];
        shapes.extend(sizes.iter().flatten().map(|_| shape(ChannelKind::Disk)));
        let shared = SharedMemory::create(&shapes).unwrap();
        let bells = Bells::new().unwrap();
        let app = Crossing::new(Side::App, &shared, bells.try_clone().unwrap(), IoSpec::default());
        let crossing = Crossing::new(Side::Vmm, &shared, bells, IoSpec::default());
        let wires = Wires::default();
        let memory = Arc::new(GuestMemory::new(MEMORY).unwrap());
        let mut number = 0;
        let mut hosts = Vec::new();
        let drives = sizes.map(|size| {
            let sectors = size?;
            number += 1;
            hosts.push(Some(Host {
                channel: app.channel(number).unwrap(),
                image: patterns(0..sectors.min(8192)),
                log: Vec::new(),
            }));
            Some(Drive {
                sectors,
                read_only,
                serial: format!("WS{number}"),
                channel: crossing.channel(number).unwrap(),
            })
        });
        let mut found = hosts.into_iter();
        let hosts = sizes
            .iter()
            .map(|size| size.and_then(|_| found.next().flatten()))
            .collect();
        let irqs = Ide::GSIS.map(|gsi| wires.line(gsi).unwrap());
        let mut ide = Ide::new(drives, irqs, Arc::clone(&memory));
        ide.set_bus_master(true);
        Self {
            ide,
            memory,
            wires,
            crossing,
            hosts,
            _shared: shared,
        }
    }

    fn out(&mut self, offset: u16, value: u8) {
        self.port_out(PRIMARY + offset, value);
    }

    fn port_out(&mut self, port: u16, value: u8) {
        let done = self.ide.port_write(NOW, port, Width::Byte, value.into());
        assert_eq!(done, Access::Done(()));
    }

    fn inb(&mut self, offset: u16) -> u8 {
        self.port_in(PRIMARY + offset)
    }

    fn port_in(&mut self, port: u16) -> u8 {
        match self.ide.port_read(NOW, port, Width::Byte) {
            Access::Done(value) => value as u8,
            other => panic!("{port:#x}: {other:?}"),
        }
    }

    /// Status, without touching the interrupt.
    fn status(&mut self) -> u8 {
        self.port_in(CONTROL)
    }

    /// A command with a 28-bit address, to the master.
    fn command(&mut self, opcode: u8, lba: u32, count: u8) {
        let [low, mid, high, top] = lba.to_le_bytes();
        self.out(COUNT, count);
        self.out(LOW, low);
        self.out(MID, mid);
        self.out(HIGH, high);
        self.out(DEVICE, 0xe0 | top);
        self.out(STATUS, opcode);
    }

    /// A command with a 48-bit address, to the master.
    fn command_ext(&mut self, opcode: u8, lba: u64, count: u16) {
        let bytes = lba.to_le_bytes();
        let [few, many] = count.to_le_bytes();
        for (register, first, second) in [
            (COUNT, many, few),
            (LOW, bytes[3], bytes[0]),
            (MID, bytes[4], bytes[1]),
            (HIGH, bytes[5], bytes[2]),
        ] {
            self.out(register, first);
            self.out(register, second);
        }
        self.out(DEVICE, 0xe0);
        self.out(STATUS, opcode);
    }

    /// The address in the task file, as a 28-bit or 48-bit one.
    fn address(&mut self, ext: bool) -> u64 {
        let mut lba = 0;
        for (shift, register) in [(0, LOW), (8, MID), (16, HIGH)] {
            lba |= u64::from(self.inb(register)) << shift;
        }
        if ext {
            self.port_out(CONTROL, 0x80);
            for (shift, register) in [(24, LOW), (32, MID), (40, HIGH)] {
                lba |= u64::from(self.inb(register)) << shift;
            }
            self.port_out(CONTROL, 0);
        } else {
            lba |= u64::from(self.inb(DEVICE) & 15) << 24;
        }
        lba
    }

    fn read_words(&mut self, words: usize) -> Vec<u8> {
        (0..words)
            .flat_map(|_| match self.ide.port_read(NOW, PRIMARY + DATA, Width::Word) {
                Access::Done(value) => (value as u16).to_le_bytes(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn write_words(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(2) {
            let word = u16::from_le_bytes([pair[0], pair[1]]);
            let done = self.ide.port_write(NOW, PRIMARY + DATA, Width::Word, word.into());
            assert_eq!(done, Access::Done(()));
        }
    }

    /// Whether the primary channel interrupts now.
    fn irq(&self) -> bool {
        self.wires.level(Ide::GSIS[0])
    }

    fn host(&mut self, place: usize) -> &mut Host {
        self.hosts[place].as_mut().unwrap()
    }

    /// As the run loop does: pulls if a channel's bit is set, and lets time pass.
    fn look(&mut self) {
        let bits = self.crossing.look();
        for channel in 1..=4 {
            if bits >> channel & 1 != 0 {
                self.ide.pull(channel, NOW);
            }
        }
        if let Some(at) = self.ide.deadline() {
            self.ide.advance(at.max(NOW));
        }
    }

    /// An honest vmapp does all that is asked, until nothing more comes of it.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..200 {
            let mut served = false;
            for host in self.hosts.iter_mut().flatten() {
                while host.serve() {
                    served = true;
                }
            }
            self.look();
            // What was looked at may have been answered with more requests.
            idle = if served { 0 } else { idle + 1 };
            if idle > 1 && self.ide.deadline().is_none() {
                return;
            }
        }
        panic!("never settles");
    }

    fn counted(&self, counter: VmmCounter) -> u64 {
        self.crossing.vmm_counters().get(counter)
    }

    /// Writes descriptors to [`TABLE`]: base and count with flags.
    fn table(&mut self, descriptors: &[(u32, u32)]) {
        for (at, &(base, count)) in descriptors.iter().enumerate() {
            self.memory
                .write_obj(u64::from(TABLE) + 8 * at as u64, &[base, count])
                .unwrap();
        }
    }

    /// Sets the primary bus master up for [`TABLE`]; `to_memory` is a read of the disk.
    fn aim(&mut self, to_memory: bool) {
        self.master_out(0, Width::Byte, if to_memory { 8 } else { 0 });
        self.master_out(2, Width::Byte, 6);
        self.master_out(4, Width::Dword, TABLE);
    }

    fn start(&mut self, to_memory: bool) {
        self.master_out(0, Width::Byte, if to_memory { 9 } else { 1 });
    }

    fn stop(&mut self) {
        self.master_out(0, Width::Byte, 0);
    }

    fn master_out(&mut self, offset: u16, width: Width, value: u32) {
        let done = self.ide.bus_master_write(NOW, offset, width, value);
        assert_eq!(done, Access::Done(()));
    }

    fn master_in(&mut self, offset: u16, width: Width) -> u32 {
        match self.ide.bus_master_read(offset, width) {
            Access::Done(value) => value,
            other => panic!("{offset}: {other:?}"),
        }
    }

    /// Active, error and interrupt of the primary bus master.
    fn master_status(&mut self) -> u32 {
        self.master_in(2, Width::Byte)
    }

    fn guest_bytes(&self, at: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(at.into(), &mut bytes).unwrap();
        bytes
    }
}

impl Host {
    /// The next request, which stays in the ring.
    fn take(&mut self) -> Option<Asked> {
        let mut payload = Vec::new();
        let header = self.channel.next(&mut payload).unwrap()?;
        let what = Down::try_from(header.kind).unwrap();
        let (request, data) = Request::read_from_prefix(&payload).unwrap();
        self.log.push((what, request.lba, request.sectors));
        Some(Asked {
            header,
            what,
            request,
            data: data.to_vec(),
        })
    }

    /// Answers anything, and gives a slot back.
    fn answer(&mut self, id: u64, status: HostStatus, sectors: u32, data: &[u8]) {
        self.answer_raw(Up::Done as u16, id, status as u32, sectors, data);
        self.channel.release(1).unwrap();
    }

    fn answer_raw(&mut self, kind: u16, id: u64, status: u32, sectors: u32, data: &[u8]) {
        let mut payload = Completion { status, sectors }.as_bytes().to_vec();
        payload.extend_from_slice(data);
        self.channel.push(kind, id, &payload).unwrap();
        self.channel.flush().unwrap();
    }

    /// Does what was asked.
    fn fulfil(&mut self, asked: &Asked) {
        let at = asked.request.lba as usize * SECTOR;
        let len = asked.request.sectors as usize * SECTOR;
        let data = match asked.what {
            Down::Read => self.image[at..at + len].to_vec(),
            Down::Write => {
                assert_eq!(asked.data.len(), len);
                self.image[at..at + len].copy_from_slice(&asked.data);
                Vec::new()
            }
            Down::Flush => Vec::new(),
        };
        self.answer(asked.header.id, HostStatus::Good, asked.request.sectors, &data);
    }

    /// Serves one request; false if there is none, or no room for the answer.
    fn serve(&mut self) -> bool {
        if self.channel.credit().unwrap() == 0 {
            return false;
        }
        let Some(asked) = self.take() else {
            return false;
        };
        self.fulfil(&asked);
        true
    }

    /// Fails the next request after so many good sectors.
    fn fail(&mut self, status: HostStatus, good: u32) {
        let asked = self.take().unwrap();
        self.answer(asked.header.id, status, good, &[]);
    }
}
