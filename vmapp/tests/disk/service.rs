//! The disk service over a real crossing, the test being the vmm: hostile requests, failing media, workers that die.

use crate::medium::{PlannedImage, SECTOR};
use shared::abi::counters::AppCounter;
use shared::abi::{ChannelKind, ChannelShape};
use shared::msg::disk::{Completion, Down, Request, Status, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vmapp::back::disk::{DiskError, Image};
use vmapp::serve::disk::DiskService;
use vmapp::serve::service::Service;
use vmdriver_shim::crossing::{Bells, Channel, Crossing, Watch};
use vmdriver_shim::memory::SharedMemory;
use zerocopy::{FromBytes, IntoBytes};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);
pub const SECTORS: u64 = 1000;
pub const DISK: u8 = 1;

/// The shared memory and the vmm's end.
pub struct Stage {
    pub memory: SharedMemory,
    bells: Bells,
    pub vmm: Channel,
    next_id: u64,
}

/// An I/O worker with one disk.
pub struct Worker {
    crossing: Arc<Crossing>,
    pub service: DiskService,
    ready: bool,
}

/// A completion: id, status, good sectors, data.
pub type Done = (u64, Status, u32, Vec<u8>);

impl Stage {
    pub fn new() -> Self {
        let shape = |kind| ChannelShape {
            kind,
            down_slots: 4,
            up_slots: 4,
            slot_bytes: (64 << 10) + 64,
        };
        let memory = SharedMemory::create(&[shape(ChannelKind::Control), shape(ChannelKind::Disk)]).unwrap();
        let bells = Bells::new().unwrap();
        let crossing = Crossing::new(Side::Vmm, &memory, bells.try_clone().unwrap(), IoSpec::default());
        Self {
            vmm: crossing.channel(DISK).unwrap(),
            memory,
            bells,
            next_id: 1,
        }
    }

    pub fn worker(&self, image: impl Image + 'static, read_only: bool) -> Worker {
        let bells = self.bells.try_clone().unwrap();
        let crossing = Crossing::new(Side::App, &self.memory, bells, IoSpec::default());
        let channel = crossing.channel(DISK).unwrap();
        Worker {
            service: DiskService::new(channel, Box::new(image), read_only, "disk 0".into()).unwrap(),
            crossing,
            ready: true,
        }
    }

    /// Publishes a request; its id.
    pub fn ask_raw(&mut self, kind: u16, payload: &[u8]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.vmm.push(kind, id, payload).unwrap();
        self.vmm.flush().unwrap();
        id
    }

    pub fn ask(&mut self, kind: Down, lba: u64, sectors: u32, data: &[u8]) -> u64 {
        let request = Request {
            lba,
            sectors,
            reserved: 0,
        };
        self.ask_raw(kind as u16, &[request.as_bytes(), data].concat())
    }

    /// The next completion, if it is there.
    pub fn done(&mut self) -> Option<Done> {
        let mut payload = Vec::new();
        let header = self.vmm.next(&mut payload).unwrap()?;
        self.vmm.release(1).unwrap();
        assert_eq!(header.kind, Up::Done as u16);
        let (completion, data) = Completion::read_from_prefix(&payload).unwrap();
        let status = Status::from_shared(completion.status);
        Some((header.id, status, completion.sectors, data.to_vec()))
    }
}

impl Worker {
    /// Once round the wait loop: a turn, and a short sleep if there is no more to do.
    pub fn round(&mut self) {
        let more = self.turn();
        self.sleep(more);
    }

    pub fn turn(&mut self) -> bool {
        self.crossing.look();
        self.service.turn(std::mem::take(&mut self.ready)).unwrap()
    }

    fn sleep(&mut self, more: bool) {
        let interests = self.service.interests();
        let watches: Vec<Watch> = interests
            .fds
            .iter()
            .flatten()
            .map(|one| Watch::read(one.fd))
            .collect();
        let limit = if more {
            Duration::ZERO
        } else {
            Duration::from_millis(20)
        };
        let woken = self.crossing.sleep_on(Some(limit), &watches).unwrap();
        self.ready = woken.ready != 0;
    }

    /// Goes round until `there` has something.
    pub fn until<T>(&mut self, mut there: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let more = self.turn();
            if let Some(found) = there() {
                return found;
            }
            assert!(begun.elapsed() < LONG, "never happened");
            self.sleep(more);
        }
    }

    fn count(&self, counter: AppCounter) -> u64 {
        self.crossing.app_counters().get(counter)
    }
}

#[test]
fn requests_are_done_and_completed_in_their_order() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let mut worker = stage.worker(image.clone(), false);
    let data: Vec<u8> = (0..128 * SECTOR).map(|n| (n * 7) as u8).collect();
    for _ in 0..5 {
        let ids = [
            stage.ask(Down::Write, 872, 128, &data),
            stage.ask(Down::Flush, 0, 0, &[]),
            stage.ask(Down::Read, 871, 2, &[]),
            stage.ask(Down::Read, 872, 128, &[]),
        ];
        let done = ids.map(|_| worker.until(|| stage.done()));
        assert_eq!(done.each_ref().map(|done| done.0), ids);
        assert_eq!(done[0].1, Status::Good);
        assert_eq!((done[0].2, done[0].3.len()), (128, 0));
        assert_eq!((done[1].1, done[1].2), (Status::Good, 0));
        assert_eq!(done[2].3.len(), 2 * SECTOR);
        assert_eq!(done[2].3[SECTOR..], data[..SECTOR]);
        assert!(done[3].3 == data);
    }
    let asked = &image.0.lock().unwrap().asked;
    assert_eq!(
        asked[..4],
        ["write 872+128", "flush", "read 871+2", "read 872+128"]
    );
    assert_eq!(worker.count(AppCounter::DiskRequests), 20);
    assert_eq!(worker.count(AppCounter::PeerErrors), 0);
}

/// A defect of ours.
struct Panicking;

impl Image for Panicking {
    fn sectors(&self) -> u64 {
        SECTORS
    }

    fn read(&mut self, _lba: u64, _into: &mut [u8]) -> Result<(), DiskError> {
        panic!("on purpose");
    }

    fn write(&mut self, _lba: u64, _from: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[test]
fn a_disks_thread_that_panics_is_heard_of_at_once_and_ends_the_worker() {
    let mut stage = Stage::new();
    let mut worker = stage.worker(Panicking, false);
    stage.ask(Down::Read, 0, 1, &[]);
    worker.crossing.look();
    let error = loop {
        match worker.service.turn(true) {
            Err(error) => break error,
            Ok(true) => {}
            Ok(false) => {
                let interests = worker.service.interests();
                let watches = interests.fds.iter().flatten().map(|one| Watch::read(one.fd));
                let watches: Vec<Watch> = watches.collect();
                let woken = worker.crossing.sleep_on(Some(LONG), &watches).unwrap();
                assert!(woken.work || woken.ready != 0, "nobody rang");
            }
        }
    };
    assert_eq!(error.to_string(), "the thread of disk 0 is gone");
}

/// Bug class 17: bounds checked against the disk, whatever the vmm says; and 6: sizes that overflow.
#[test]
fn what_is_no_request_is_refused_counted_and_never_reaches_the_image() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let mut worker = stage.worker(image.clone(), false);
    let request = |lba, sectors, reserved| Request {
        lba,
        sectors,
        reserved,
    };
    let sector = [0; SECTOR];
    let cases: &[(u16, Request, &[u8])] = &[
        (1, request(SECTORS, 1, 0), &[]),
        (1, request(SECTORS - 1, 2, 0), &[]),
        (1, request(u64::MAX, 1, 0), &[]),
        (1, request(u64::MAX - 63, 64, 0), &[]),
        (1, request(1 << 55, 1, 0), &[]),
        (1, request(0, 0, 0), &[]),
        (1, request(0, 129, 0), &[]),
        (1, request(0, u32::MAX, 0), &[]),
        (1, request(0, 1, 1), &[]),
        (1, request(0, 1, 0), &sector),
        (2, request(SECTORS, 1, 0), &sector),
        (2, request(0, 2, 0), &sector),
        (2, request(0, 1, 0), &sector[1..]),
        (2, request(0, 0, 0), &[]),
        (2, request(0, 0x0080_0001, 0), &sector),
        (3, request(1, 0, 0), &[]),
        (3, request(0, 1, 0), &[]),
        (3, request(0, 0, 0), &sector),
        (0, request(0, 1, 0), &[]),
        (4, request(0, 1, 0), &[]),
        (u16::MAX, request(0, 1, 0), &[]),
    ];
    for (n, (kind, request, data)) in (1..).zip(cases) {
        let id = stage.ask_raw(*kind, &[request.as_bytes(), data].concat());
        let done = worker.until(|| stage.done());
        assert_eq!(done, (id, Status::Refused, 0, vec![]), "{kind} {request:?}");
        assert_eq!(worker.count(AppCounter::PeerErrors), n);
    }
    let id = stage.ask_raw(1, &[0; 15]);
    assert_eq!(worker.until(|| stage.done()), (id, Status::Refused, 0, vec![]));
    assert_eq!(image.0.lock().unwrap().asked, [""; 0]);
    let id = stage.ask(Down::Read, SECTORS - 1, 1, &[]);
    assert_eq!(worker.until(|| stage.done()).0, id);
}

#[test]
fn a_read_only_disk_refuses_writes_by_name() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let mut worker = stage.worker(image.clone(), true);
    let id = stage.ask(Down::Write, 0, 1, &[1; SECTOR]);
    assert_eq!(worker.until(|| stage.done()), (id, Status::ReadOnly, 0, vec![]));
    assert_eq!(image.0.lock().unwrap().asked, [""; 0]);
    assert_eq!(worker.count(AppCounter::PeerErrors), 0);
}

#[test]
fn a_host_error_is_a_medium_error_at_the_bad_sector_and_told_at_a_bounded_rate() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    image.0.lock().unwrap().bad_sectors.push(77);
    let mut worker = stage.worker(image.clone(), false);
    for round in 0..50 {
        let id = stage.ask(Down::Read, 70, 20, &[]);
        assert_eq!(worker.until(|| stage.done()), (id, Status::Medium, 7, vec![]));
        let id = stage.ask(Down::Write, 76, 2, &[1; 2 * SECTOR]);
        assert_eq!(worker.until(|| stage.done()), (id, Status::Medium, 1, vec![]));
        let trouble = worker.service.trouble();
        match round {
            0 => assert_eq!(
                trouble.unwrap(),
                "disk 0: read of sector 77: I/O error (and 1 more errors)"
            ),
            _ => assert_eq!(trouble, None),
        }
    }
    assert_eq!(worker.count(AppCounter::DiskErrors), 100);
    image.0.lock().unwrap().flush_fails = true;
    let id = stage.ask(Down::Flush, 0, 0, &[]);
    assert_eq!(worker.until(|| stage.done()), (id, Status::Medium, 0, vec![]));
}

/// An image that waits for a word before each request, and says when it has begun.
struct Gated {
    image: PlannedImage,
    begun: Sender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

fn gated(image: &PlannedImage) -> (Gated, Receiver<()>, Sender<()>) {
    let (begun, has_begun) = channel();
    let (go, gate) = channel();
    let gated = Gated {
        image: image.clone(),
        begun,
        go: Arc::new(Mutex::new(gate)),
    };
    (gated, has_begun, go)
}

impl Gated {
    fn wait(&self) {
        self.begun.send(()).ok();
        self.go.lock().unwrap().recv().ok();
    }
}

impl Image for Gated {
    fn sectors(&self) -> u64 {
        self.image.sectors()
    }
    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.wait();
        self.image.read(lba, into)
    }
    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        self.wait();
        self.image.write(lba, from)
    }
    fn flush(&mut self) -> Result<(), DiskError> {
        self.wait();
        self.image.flush()
    }
}

/// Bug class 11: the service goes away with requests at the medium.
#[test]
fn a_worker_that_dies_loses_no_request_and_the_next_one_does_them() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let (slow, begun, go) = gated(&image);
    let mut worker = stage.worker(slow, false);
    let first = stage.ask(Down::Write, 1, 1, &[1; SECTOR]);
    let rest = [
        stage.ask(Down::Write, 2, 1, &[2; SECTOR]),
        stage.ask(Down::Flush, 0, 0, &[]),
        stage.ask(Down::Read, 2, 1, &[]),
    ];
    worker.until(|| begun.try_recv().ok());
    go.send(()).unwrap();
    assert_eq!(worker.until(|| stage.done()).0, first);
    worker.until(|| begun.try_recv().ok());
    assert_eq!(stage.vmm.credit(), Ok(1), "what is not completed keeps its slot");
    drop(worker);
    drop(go);

    let mut worker = stage.worker(image.clone(), false);
    let done = rest.map(|_| worker.until(|| stage.done()));
    assert_eq!(
        done.each_ref().map(|done| (done.0, done.1)),
        rest.map(|id| (id, Status::Good))
    );
    assert_eq!(done[2].3, [2; SECTOR]);
    assert_eq!(stage.vmm.credit(), Ok(4));
}

#[test]
fn a_slow_medium_stops_neither_the_turn_nor_a_flush_from_being_last() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let (slow, begun, go) = gated(&image);
    let mut worker = stage.worker(slow, false);
    let ids = [
        stage.ask(Down::Write, 1, 1, &[1; SECTOR]),
        stage.ask(Down::Flush, 0, 0, &[]),
    ];
    worker.until(|| begun.try_recv().ok());
    for _ in 0..3 {
        worker.round();
    }
    assert_eq!(stage.done(), None, "nothing is done, and nothing stands still");
    go.send(()).unwrap();
    assert_eq!(worker.until(|| stage.done()).0, ids[0]);
    worker.until(|| begun.try_recv().ok());
    assert_eq!(stage.done(), None, "not before the image has flushed");
    go.send(()).unwrap();
    assert_eq!(worker.until(|| stage.done()).0, ids[1]);
}

#[test]
fn at_the_end_all_requests_are_done_and_then_flushed() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let (slow, begun, go) = gated(&image);
    let mut worker = stage.worker(slow, false);
    for lba in 0..3 {
        stage.ask(Down::Write, lba, 1, &[1; SECTOR]);
    }
    worker.turn();
    worker.service.finish();
    for _ in 0..4 {
        worker.until(|| begun.try_recv().ok());
        worker.turn();
        assert!(!worker.service.is_drained(), "something is at the medium");
        go.send(()).unwrap();
    }
    let begun = Instant::now();
    while !worker.service.is_drained() {
        assert!(begun.elapsed() < LONG);
        worker.round();
    }
    assert_eq!(
        image.0.lock().unwrap().asked,
        ["write 0+1", "write 1+1", "write 2+1", "flush"]
    );
    assert_eq!([1, 2, 3].map(|_| stage.done().unwrap().0), [1, 2, 3]);
}

/// Bug class 18: no credit in one ring, no room in the other, and still nothing is forgotten.
#[test]
fn a_vmm_that_reads_no_completions_gets_them_all_when_it_does() {
    let mut stage = Stage::new();
    let mut worker = stage.worker(PlannedImage::of_sectors(SECTORS as usize), false);
    let mut next = 1;
    for _ in 0..20 {
        // Four completions fill the ring; the requests behind them wait.
        for _ in 0..8 {
            if stage.vmm.credit().unwrap() != 0 {
                stage.ask(Down::Read, 5, 1, &[]);
            }
            worker.round();
        }
        assert_eq!(stage.vmm.credit(), Ok(0), "the ring is full");
        while next < stage.next_id {
            let (id, status, ..) = worker.until(|| stage.done());
            assert_eq!((id, status), (next, Status::Good));
            next += 1;
        }
    }
    assert_eq!(worker.count(AppCounter::PeerErrors), 0);
}
