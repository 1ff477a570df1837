//! The I/O worker's services against a vmm made of the fuzzer's bytes: requests, frames, output and calls of any kind and
//! length, every index, slot and word of the shared memory changed at any time, rings drained or left full.
//!
//! Back ends are in memory. Asserted: no panic and no error of a service, which only the host can cause; a back end is given
//! nothing outside its range (frames of Ethernet's lengths, sectors of the disk, no write of a read-only one); no step takes
//! long; what is taken from the rings and not answered stays bounded. The disk has a thread of its own, so what it answers
//! when is no part of the digest.

use super::bound::bounded;
use super::input::Input;
use super::rings::{scribble_index, scribble_slot};
use shared::abi::{ChannelKind, ChannelShape, RingLayout, WORDS_AT};
use shared::mem::Memory;
use shared::msg::disk::{Request, SECTOR};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use vmapp::back::Interests;
use vmapp::back::console::{Console, Wanted as ConsoleWanted, Wrote};
use vmapp::back::disk::{DiskError, Image};
use vmapp::back::net::{FRAME_BYTES, Net, Received, Sent, Wanted};
use vmapp::serve::console::ConsoleService;
use vmapp::serve::control::ControlService;
use vmapp::serve::disk::DiskService;
use vmapp::serve::net::NetService;
use vmapp::serve::service::Service;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;
use zerocopy::IntoBytes;

const MOST_STEPS: usize = 2048;
const SLOTS: u32 = 4;
const MOST_SECTORS: usize = 4;
/// Sectors of the disk to be written, and of the read-only one.
const SIZES: [u64; 2] = [64, 16];
/// A sector no medium gives.
const BAD: u64 = 13;
/// Most frames the other end of the cable keeps.
const QUEUE: usize = 8;
const KINDS: [ChannelKind; 5] = [
    ChannelKind::Control,
    ChannelKind::Console,
    ChannelKind::Net,
    ChannelKind::Disk,
    ChannelKind::Disk,
];

/// What was seen of the host's side.
type Seen = Rc<RefCell<DefaultHasher>>;

pub fn peer_app(bytes: &[u8]) -> u64 {
    let mut world = World::new();
    let mut input = Input::new(bytes);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        bounded(|| world.step(&mut input));
    }
    world.seen.borrow().finish()
}

struct World {
    shared: SharedMemory,
    rings: Vec<RingLayout>,
    app: Arc<Crossing>,
    services: Vec<Box<dyn Service>>,
    /// The vmm's ends.
    channels: Vec<Channel>,
    id: u64,
    seen: Seen,
}

impl World {
    fn new() -> Self {
        let shape = |kind| ChannelShape {
            kind,
            down_slots: SLOTS,
            up_slots: SLOTS,
            slot_bytes: match kind {
                ChannelKind::Disk => (MOST_SECTORS * SECTOR) as u32 + 64,
                ChannelKind::Net => 1536,
                ChannelKind::Control | ChannelKind::Console => 64,
            },
        };
        let shared = SharedMemory::create(&KINDS.map(shape)).expect("shared memory");
        let bells = Bells::new().expect("doorbells");
        let io = IoSpec::default;
        let vmm = Crossing::new(Side::Vmm, &shared, bells.try_clone().expect("descriptors"), io());
        let app = Crossing::new(Side::App, &shared, bells, io());
        let seen = Seen::default();
        let channel = |number| app.channel(number).expect("a channel of the layout");
        let disk = |number: u8, at: usize| {
            let image = Sheet {
                sectors: vec![0; SIZES[at] as usize * SECTOR],
                read_only: at == 1,
            };
            DiskService::new(channel(number), Box::new(image), at == 1, format!("disk {at}"))
                .expect("a thread")
        };
        let services: Vec<Box<dyn Service>> = vec![
            Box::new(ControlService::new(channel(0))),
            Box::new(ConsoleService::new(
                channel(1),
                Box::new(Paper(Rc::clone(&seen), 0)),
            )),
            Box::new(NetService::new(
                channel(2),
                Box::new(Cable {
                    seen: Rc::clone(&seen),
                    frames: VecDeque::new(),
                }),
                "net 0".into(),
            )),
            Box::new(disk(3, 0)),
            Box::new(disk(4, 1)),
        ];
        Self {
            rings: (shared.layout().channels().iter())
                .flat_map(|channel| [channel.down, channel.up])
                .collect(),
            channels: (0..KINDS.len() as u8)
                .map(|number| vmm.channel(number).expect("a channel of the layout"))
                .collect(),
            shared,
            services,
            app,
            id: 0,
            seen,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => self.request(input),
            2 | 3 => self.push(input),
            4..=8 => self.turn(input),
            9 => self.drain(input),
            10 | 11 => scribble_index(&self.shared, &self.rings, input),
            12 => scribble_slot(&self.shared, &self.rings, 40, input),
            13 => self.scribble_word(input),
            14 => self.sleep(),
            _ => self.finish(input),
        }
    }

    /// A disk request, mostly one.
    fn request(&mut self, input: &mut Input<'_>) {
        let channel = &mut self.channels[3 + usize::from(input.flag())];
        let kind = u16::from(input.byte() % 5);
        let wild = input.byte().is_multiple_of(8);
        let request = Request {
            lba: input.number(if wild { 8 } else { 1 }) % if wild { u64::MAX } else { 70 },
            sectors: if wild {
                input.number(4) as u32
            } else {
                u32::from(input.byte() % 6)
            },
            reserved: if wild { input.byte().into() } else { 0 },
        };
        let data = if kind == 2 {
            request.sectors as usize % 8 * SECTOR
        } else {
            0
        };
        let payload = [request.as_bytes(), &vec![input.byte(); data]].concat();
        self.id += 1;
        channel.push(kind, self.id, &payload).ok();
        channel.flush().expect("a doorbell can be rung");
    }

    /// A slot of any channel, kind, id and length.
    fn push(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % KINDS.len();
        let channel = &mut self.channels[which];
        let len = input.number(2) as usize % (channel.payload_max() + 1);
        let payload = vec![input.byte(); len];
        channel
            .push(u16::from(input.byte() % 4), input.byte().into(), &payload)
            .ok();
        channel.flush().expect("a doorbell can be rung");
    }

    /// A service's turn, as the wait loop gives it.
    fn turn(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % KINDS.len();
        let ready = input.flag();
        let service = &mut self.services[which];
        self.app.look();
        service.turn(ready).unwrap_or_else(|error| panic!("{error}"));
        service.trouble();
        let _what_to_wait_for = service.interests();
        // Its own count, which nobody can scribble on.
        let held = service.lane().held();
        assert!(held <= SLOTS, "{held} slots in hand");
    }

    /// The vmm takes what there is, or gives it back unread.
    fn drain(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % KINDS.len();
        let channel = &mut self.channels[which];
        let mut payload = Vec::new();
        for _ in 0..input.byte() % 8 {
            let _whatever = channel.next(&mut payload);
            channel.release(1).expect("a doorbell can be rung");
        }
    }

    fn scribble_word(&mut self, input: &mut Input<'_>) {
        let at = WORDS_AT + 8 * (input.number(2) as usize % 0x600);
        self.shared.mem().store_u64(at, input.number(8), Relaxed);
    }

    fn sleep(&mut self) {
        let slept = self.app.sleep(Some(Duration::ZERO), &[]);
        slept.unwrap_or_else(|error| panic!("{error}"));
    }

    fn finish(&mut self, input: &mut Input<'_>) {
        if input.byte() == 0xff {
            self.services.iter_mut().for_each(|service| service.finish());
        }
    }
}

/// The other end of the cable: what goes out comes back.
struct Cable {
    seen: Seen,
    frames: VecDeque<Vec<u8>>,
}

impl Net for Cable {
    fn send(&mut self, frame: &[u8]) -> Sent {
        assert!(FRAME_BYTES.contains(&frame.len()), "{} bytes", frame.len());
        frame.hash(&mut *self.seen.borrow_mut());
        if self.frames.len() >= QUEUE {
            return Sent::Dropped;
        }
        self.frames.push_back(frame.to_vec());
        Sent::Out
    }

    fn receive(&mut self, into: &mut [u8]) -> Received {
        let Some(frame) = self.frames.pop_front() else {
            return Received::Nothing;
        };
        into[..frame.len()].copy_from_slice(&frame);
        Received::Frame(frame.len())
    }

    fn link(&mut self) -> bool {
        self.frames.len() < QUEUE
    }

    fn interests(&self, _wanted: Wanted) -> Interests<'_> {
        Interests::default()
    }
}

/// A console that takes a little, or nothing, at a time, and types now and then.
struct Paper(Seen, u32);

impl Paper {
    fn beat(&mut self) -> u32 {
        self.1 = self.1.wrapping_add(1);
        self.1 % 5
    }
}

impl Console for Paper {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        assert!(!bytes.is_empty());
        match self.beat() {
            0 => Wrote::Blocked,
            1 => Wrote::Dropped(1),
            count => {
                let count = bytes.len().min(count as usize * 9);
                bytes[..count].hash(&mut *self.0.borrow_mut());
                Wrote::Out(count)
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.beat() as usize);
        into[..count].fill(b'i');
        count
    }

    fn interests(&self, _wanted: ConsoleWanted) -> Interests<'_> {
        Interests {
            fds: [None, None],
            within: Some(Duration::ZERO),
        }
    }
}

/// A disk in memory, with one bad sector.
struct Sheet {
    sectors: Vec<u8>,
    read_only: bool,
}

impl Sheet {
    fn range(&mut self, lba: u64, len: usize) -> Result<&mut [u8], DiskError> {
        assert!(len > 0 && len.is_multiple_of(SECTOR), "{len} bytes");
        let at = usize::try_from(lba).expect("a sector of the disk") * SECTOR;
        let last = lba + (len / SECTOR) as u64;
        assert!(at + len <= self.sectors.len(), "sectors {lba} to {last}");
        if (lba..last).contains(&BAD) {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO).into());
        }
        Ok(&mut self.sectors[at..at + len])
    }
}

impl Image for Sheet {
    fn sectors(&self) -> u64 {
        (self.sectors.len() / SECTOR) as u64
    }

    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let len = into.len();
        into.copy_from_slice(self.range(lba, len)?);
        Ok(())
    }

    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        assert!(!self.read_only, "a write of a read-only disk");
        self.range(lba, from.len())?.copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}
