//! A disk's service: requests from its ring to the thread that owns the image, and completions back, in order.
//!
//! The thread may wait for the medium; the wait loop never does: it passes a request over, and hears by a doorbell that
//! one is done. A request's slot is given back only when its completion is published, so that whatever a dying worker
//! leaves undone is done by the next. What the vmm asks is checked here: range, count and length. Buffers go round.
//!
//! What must never happen here: an answer out of order, a request never answered or answered twice by one worker (the next
//! may, and the vmm passes over what it knows), a sector outside the disk, a flush answered before the image's.

use super::ServeError;
use super::service::Service;
use crate::back::disk::{DiskError, Image};
use crate::back::{Interest, Interests};
use crate::fault::disk::Failing;
use crate::fault::lane::Lane;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use nix::poll::PollFlags;
use shared::abi::SlotHeader;
use shared::abi::counters::AppCounter;
use shared::msg::disk::{Completion, Down, HEADER_BYTES, MAX_SECTORS, Request, SECTOR, Status, Up};
use shared::msg::fault::{DiskOp, Point};
use shared::ring::{PushError, RingError};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::jail::{self, Thread};
use vmdriver_shim::nowait;
use zerocopy::{FromBytes, IntoBytes};

/// Most requests taken from the ring and not yet completed, whatever the ring holds.
const IN_HAND: usize = 8;
/// Most requests taken, and completions pushed, in one turn.
const PER_TURN: usize = 16;
/// Least time between two words about errors.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the thread is asked, and what it answers in the same place.
struct Job {
    kind: Down,
    lba: u64,
    sectors: u32,
    /// Of a write, the slot's payload: a [`Request`] and the data. Of a read, the data are answered in front.
    buffer: Vec<u8>,
    done: Result<(), DiskError>,
    /// Sectors that are surely right, from the first on.
    good: u32,
}

impl Job {
    /// Where the sectors of a read go.
    fn data(&mut self) -> &mut [u8] {
        let bytes = self.sectors as usize * SECTOR;
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        self.buffer.get_mut(..bytes).unwrap_or_default()
    }
}

/// A slot in hand, in the order of the ring.
#[derive(Clone, Copy, Debug)]
enum Slot {
    /// With the thread.
    Asked { id: u64 },
    /// Answered without it.
    Answered { id: u64, status: Status },
    /// Nothing that can be answered.
    Silent,
}

/// How far the flush at the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    Wanted,
    Flushing,
    Done,
}

/// The service.
pub struct DiskService {
    lane: Lane,
    name: String,
    sectors: u64,
    read_only: bool,
    asks: Sender<Job>,
    answers: Receiver<Job>,
    bell: Arc<Doorbell>,
    /// For reads that need no wait.
    plain: Option<File>,
    slots: VecDeque<Slot>,
    /// Buffers nobody uses.
    buffers: Vec<Vec<u8>>,
    /// The last slot's payload.
    payload: Vec<u8>,
    /// The answer to the first slot in hand, waiting for credit.
    answer: Option<Job>,
    end: End,
    troubles: Troubles,
}

impl DiskService {
    /// Joins a channel and `image`, which gets a thread of its own; `name` is the disk's. Fails when the host has no
    /// more threads or descriptors.
    pub fn new(
        lane: impl Into<Lane>,
        image: Box<dyn Image>,
        read_only: bool,
        name: String,
    ) -> io::Result<Self> {
        let lane = lane.into();
        let bell = Arc::new(Doorbell::new().map_err(io::Error::other)?);
        let sectors = image.sectors();
        // The flush at the end is one more.
        let (asks, asked) = bounded(IN_HAND + 1);
        let (answering, answers) = bounded(IN_HAND + 1);
        let ring = bell.clone();
        let plain = image.plain();
        let image = Failing::new(image, lane.target(), lane.faults().clone());
        jail::spawn(name.replace(' ', "-"), Thread::Disk, move || {
            work(image, &asked, answering, &ring)
        })?;
        let largest = HEADER_BYTES + MAX_SECTORS as usize * SECTOR;
        Ok(Self {
            payload: Vec::with_capacity(lane.payload_max()),
            lane,
            name,
            sectors,
            read_only,
            asks,
            answers,
            bell,
            plain,
            slots: VecDeque::with_capacity(IN_HAND),
            buffers: (0..=IN_HAND).map(|_| vec![0; largest]).collect(),
            answer: None,
            end: End::NotYet,
            troubles: Troubles::default(),
        })
    }

    /// Takes requests from the ring; true: there may be more.
    fn take(&mut self) -> Result<bool, ServeError> {
        for _ in 0..PER_TURN {
            if self.slots.len() >= IN_HAND {
                // The next completion makes room, and a turn.
                return Ok(false);
            }
            let slot = match self.lane.next(&mut self.payload) {
                Ok(None) => return Ok(false),
                Ok(Some(header)) => self.request(header)?,
                Err(RingError::Length { .. }) => Slot::Silent,
                // The ring is broken until its peer mends it.
                Err(_) => return Ok(false),
            };
            self.slots.push_back(slot);
            if self.end != End::NotYet {
                self.end = End::Wanted;
            }
        }
        Ok(true)
    }

    /// Checks a request, and passes it to the thread if it is one.
    fn request(&mut self, header: SlotHeader) -> Result<Slot, ServeError> {
        let id = header.id;
        let (kind, request) = match self.check(header.kind) {
            Ok(checked) => checked,
            Err(status) => {
                if status == Status::Refused {
                    self.lane.crossing().count_peer_error();
                }
                return Ok(Slot::Answered { id, status });
            }
        };
        let mut buffer = self.buffers.pop().unwrap_or_default();
        if kind == Down::Write {
            std::mem::swap(&mut buffer, &mut self.payload);
        }
        let mut job = Job {
            kind,
            lba: request.lba,
            sectors: request.sectors,
            buffer,
            done: Ok(()),
            good: 0,
        };
        if self.is_at_hand(&mut job) {
            self.answer = Some(job);
        } else {
            self.ask(job)?;
            self.lane.point(Point::DiskAsked);
        }
        Ok(Slot::Asked { id })
    }

    /// Whether a read has been done without a wait: nothing is before it, and the host has all of it in its cache. That saves
    /// the way to the disk's thread and back, which costs more than the read.
    fn is_at_hand(&self, job: &mut Job) -> bool {
        let first = self.slots.is_empty() && self.answer.is_none();
        let (Some(plain), true) = (
            &self.plain,
            first && job.kind == Down::Read && self.lane.is_plain(),
        ) else {
            return false;
        };
        let wanted = job.data().len();
        let at = job.lba.saturating_mul(SECTOR as u64);
        let done = nowait::read(plain.as_fd(), Some(at), job.data()).is_ok_and(|read| read == wanted);
        if done {
            job.good = job.sectors;
        }
        done
    }

    /// A request in the ranges its message has, inside the disk.
    fn check(&self, kind: u16) -> Result<(Down, Request), Status> {
        let kind = Down::try_from(kind).map_err(|_| Status::Refused)?;
        let (request, data) = Request::read_from_prefix(&self.payload).map_err(|_| Status::Refused)?;
        let expected = if kind == Down::Write {
            u64::from(request.sectors).saturating_mul(SECTOR as u64)
        } else {
            0
        };
        let ordered = match kind {
            Down::Flush => request.lba == 0 && request.sectors == 0,
            Down::Read | Down::Write => {
                (1..=MAX_SECTORS).contains(&request.sectors)
                    && request
                        .lba
                        .checked_add(request.sectors.into())
                        .is_some_and(|end| end <= self.sectors)
            }
        };
        if !ordered || request.reserved != 0 || data.len() as u64 != expected {
            return Err(Status::Refused);
        }
        if kind == Down::Write && self.read_only {
            return Err(Status::ReadOnly);
        }
        Ok((kind, request))
    }

    fn ask(&self, job: Job) -> Result<(), ServeError> {
        // There is room: more than are in hand were never asked. Gone is the thread only if the image panicked.
        let asked = self.asks.try_send(job);
        asked.map_err(|_| ServeError::DiskThread(self.name.clone()))
    }

    /// Publishes the answers that are there, in order; true: there may be more.
    fn complete(&mut self) -> Result<bool, ServeError> {
        // Then nobody takes an answer any more, and one without room is let go: what it answers is done.
        let over = self.end != End::NotYet;
        for _ in 0..PER_TURN {
            let pushed = match self.slots.front().copied() {
                None => {
                    self.finish_flush()?;
                    return Ok(false);
                }
                Some(Slot::Silent) => Ok(()),
                Some(Slot::Answered { id, status }) => self.push(id, completion(status, 0), &[]),
                Some(Slot::Asked { id }) => {
                    if self.answer.is_none() {
                        self.answer = self.answered()?;
                    }
                    let Some(job) = self.answer.take() else {
                        return Ok(false);
                    };
                    let pushed = self.push_job(id, &job);
                    match pushed {
                        Err(_) if !over => self.answer = Some(job),
                        Ok(()) | Err(_) => self.done(job),
                    }
                    pushed
                }
            };
            match pushed {
                Ok(()) => {}
                Err(_) if over => {}
                Err(PushError::Full) if matches!(self.lane.want_credit(), Ok(false)) => continue,
                // Credit comes with a signal; a broken ring waits for its peer to mend it.
                Err(_) => return Ok(false),
            }
            // Published first, given back then: between the two it is done twice at worst.
            self.lane.flush()?;
            self.lane.release(1)?;
            self.slots.pop_front();
        }
        Ok(true)
    }

    /// The thread's next answer, if it has one.
    fn answered(&mut self) -> Result<Option<Job>, ServeError> {
        match self.answers.try_recv() {
            Ok(job) => Ok(Some(job)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ServeError::DiskThread(self.name.clone())),
        }
    }

    fn push_job(&mut self, id: u64, job: &Job) -> Result<(), PushError> {
        let status = match &job.done {
            Ok(()) => Status::Good,
            Err(DiskError::ReadOnly) => Status::ReadOnly,
            Err(_) => Status::Medium,
        };
        let data = match job.kind {
            Down::Read if job.done.is_ok() => job.buffer.get(..job.sectors as usize * SECTOR),
            Down::Read | Down::Write | Down::Flush => None,
        };
        self.push(id, completion(status, job.good), data.unwrap_or_default())
    }

    fn push(&mut self, id: u64, completion: Completion, data: &[u8]) -> Result<(), PushError> {
        self.lane
            .push(Up::Done as u16, id, &[completion.as_bytes(), data])
    }

    /// Counts and notes a job's end, and takes its buffer back.
    fn done(&mut self, job: Job) {
        let counters = self.lane.crossing().app_counters();
        counters.add(AppCounter::DiskRequests, 1);
        if let Err(error) = &job.done {
            counters.add(AppCounter::DiskErrors, 1);
            let sector = job.lba.saturating_add(job.good.into());
            self.troubles.note(job.kind, sector, error);
        }
        self.buffers.push(job.buffer);
    }

    /// With nothing in hand at the end: makes it last.
    fn finish_flush(&mut self) -> Result<(), ServeError> {
        match self.end {
            End::Wanted => {
                let buffer = self.buffers.pop().unwrap_or_default();
                self.ask(Job {
                    kind: Down::Flush,
                    lba: 0,
                    sectors: 0,
                    buffer,
                    done: Ok(()),
                    good: 0,
                })?;
                self.end = End::Flushing;
            }
            End::Flushing => {
                if let Some(job) = self.answered()? {
                    if let Err(error) = &job.done {
                        self.troubles.note(Down::Flush, 0, error);
                    }
                    self.buffers.push(job.buffer);
                    self.end = End::Done;
                }
            }
            End::NotYet | End::Done => {}
        }
        Ok(())
    }
}

impl Service for DiskService {
    fn turn(&mut self, ready: bool) -> Result<bool, ServeError> {
        if ready {
            // Before the look at the answers: one that comes after it rings again.
            self.bell.drain();
        }
        // While the end's flush is away its answer would be taken for a request's.
        let flushing = self.end == End::Flushing;
        let mut more = !flushing && self.take()?;
        let full = self.slots.len() >= IN_HAND;
        more |= self.complete()?;
        // What was left in the ring for one of these reasons rings no more.
        more |= flushing && self.end != End::Flushing;
        more |= full && self.slots.len() < IN_HAND;
        Ok(more)
    }

    fn interests(&self) -> Interests<'_> {
        Interests {
            fds: [
                Some(Interest {
                    fd: self.bell.as_fd(),
                    events: PollFlags::POLLIN,
                }),
                None,
            ],
            within: None,
        }
    }

    fn is_drained(&self) -> bool {
        self.slots.is_empty() && matches!(self.end, End::NotYet | End::Done)
    }

    fn lane(&mut self) -> &mut Lane {
        &mut self.lane
    }

    fn finish(&mut self) {
        if self.end == End::NotYet {
            self.end = End::Wanted;
        }
    }

    fn trouble(&mut self) -> Option<String> {
        let text = self.troubles.due(Instant::now())?;
        Some(format!("{}: {text}", self.name))
    }
}

fn completion(status: Status, sectors: u32) -> Completion {
    Completion {
        status: status as u32,
        sectors,
    }
}

/// Rings when it goes.
struct LastRing<'a>(&'a Doorbell);

impl Drop for LastRing<'_> {
    fn drop(&mut self) {
        // A loop that cannot be rung looks a heartbeat later.
        self.0.ring().ok();
    }
}

/// The image's thread: ends with the service.
fn work(mut image: Failing, asked: &Receiver<Job>, answering: Sender<Job>, bell: &Doorbell) {
    // Should it panic, the loop hears at once: it rings after the answers' end is gone.
    let _rings = LastRing(bell);
    let answering = answering;
    for mut job in asked {
        do_job(&mut image, &mut job);
        if answering.send(job).is_err() || bell.ring().is_err() {
            return;
        }
    }
}

fn do_job(image: &mut Failing, job: &mut Job) {
    let op = match job.kind {
        Down::Read => DiskOp::Read,
        Down::Write => DiskOp::Write,
        Down::Flush => DiskOp::Flush,
    };
    image.begin(op, job.lba, job.sectors);
    job.done = match job.kind {
        Down::Flush => image.flush(),
        Down::Read => image.read(job.lba, job.data()),
        Down::Write => {
            let data = job.buffer.get(HEADER_BYTES..).unwrap_or_default();
            image.write(job.lba, data)
        }
    };
    job.good = job.sectors;
    if job.done.is_err() && job.kind != Down::Flush {
        find_bad_sector(image, job);
    }
    image.end(op);
}

/// Does a failed request again, a sector at a time up to the bad one, which the guest is told.
fn find_bad_sector(image: &mut dyn Image, job: &mut Job) {
    job.good = 0;
    let data = match job.kind {
        Down::Write => job.buffer.get_mut(HEADER_BYTES..),
        Down::Read | Down::Flush => job.buffer.get_mut(..),
    };
    let sectors = data.unwrap_or_default().chunks_exact_mut(SECTOR);
    for (lba, sector) in (job.lba..).zip(sectors).take(job.sectors as usize) {
        let done = match job.kind {
            Down::Write => image.write(lba, sector),
            Down::Read | Down::Flush => image.read(lba, sector),
        };
        if let Err(error) = done {
            job.done = Err(error);
            return;
        }
        job.good += 1;
    }
    // The medium has changed its mind.
    job.done = Ok(());
}

/// What went wrong, told at once and then at most every so often.
#[derive(Debug, Default)]
struct Troubles {
    /// The first one not told, and how many there are.
    first: Option<String>,
    count: u64,
    told: Option<Instant>,
}

impl Troubles {
    fn note(&mut self, kind: Down, sector: u64, error: &DiskError) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(match kind {
                Down::Read => format!("read of sector {sector}: {error}"),
                Down::Write => format!("write of sector {sector}: {error}"),
                Down::Flush => format!("flush: {error}"),
            });
        }
    }

    fn due(&mut self, now: Instant) -> Option<String> {
        if self.told.is_some_and(|at| now.duration_since(at) < TELL_EVERY) {
            return None;
        }
        let first = self.first.take()?;
        self.told = Some(now);
        Some(match std::mem::take(&mut self.count) {
            1 => first,
            count => format!("{first} (and {} more errors)", count - 1),
        })
    }
}
