//! One side's whole view of the crossing: when to look, when to sleep, whom to wake, and what each wake-up was for.
//!
//! Both workers hold one [`Crossing`]; the vmm's run loop asks [`Crossing::any`] at every exit, vmapp's wait loop lives
//! in [`Crossing::sleep`]. The rings are reached through [`Channel`]s, which ring what is owed.
//!
//! What must never happen here: a lost wake-up (the order announce, fence, look, sleep is
//! [`Attention`]'s), a loop that ends only if the peer behaves, a descriptor starved because the peer keeps us busy, or a
//! core burnt because it signals without end (`storm`).
//!
//! `notify = select` is the older way, kept to be measured: every look is a poll(2) on the own doorbell, every signal
//! rings, and nobody spins. The shared words are kept right all the same, so that the same code serves both.

mod frames;

pub use crate::channel::{CallError, Channel};
use crate::combine::Combiner;
use crate::counters::Counters;
use crate::doorbell::{Doorbell, DoorbellError};
use crate::memory::SharedMemory;
use crate::spin::Spin;
use crate::storm::{SPELL, Storm};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use shared::abi::counters::{AppCounter, VmmCounter};
use shared::abi::words::{APP_HEARTBEAT, Waiting};
use shared::abi::{ChannelKind, Layout};
use shared::mem::{Mapped, Memory};
use shared::ring::{Attention, Owed, RingError, Side};
use shared::spec::{IoSpec, Notify};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Looks between two readings of the clock while spinning: a look is a load and a pause, a clock reading twenty.
const LOOKS_PER_CLOCK: u32 = 16;
/// Returns of [`Crossing::sleep`] with work and without a look at the other descriptors: a peer that keeps us busy
/// delays them by so many rounds and no more.
const ROUNDS_PER_GLANCE: u32 = 16;

/// What goes wrong at the crossing itself.
#[derive(Debug, Error)]
pub enum CrossingError {
    /// The layout has no such channel.
    #[error("there is no channel {0}")]
    NoChannel(u8),
    /// Its rings are in use: each has one producer and one consumer.
    #[error("channel {0} is already taken")]
    ChannelTaken(u8),
    /// The rings were left in an impossible state.
    #[error("channel {channel}: {source}")]
    Ring {
        /// Which.
        channel: u8,
        /// What is wrong with it.
        source: RingError,
    },
    /// A doorbell failed.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// Waiting failed.
    #[error("cannot wait: {0}")]
    Wait(#[source] io::Error),
    /// More descriptors than [`Woken`] has bits.
    #[error("{0} descriptors to wait for, {max} are possible", max = u64::BITS)]
    TooMany(usize),
}

/// The three doorbells of a VM. Each side holds all: one to wait on, the others to ring.
#[derive(Debug)]
pub struct Bells {
    /// Wakes vmapp.
    pub app: Doorbell,
    /// Wakes a vmm that sleeps.
    pub vmm: Doorbell,
    /// Gets a vmm out of guest code; its engine listens to it.
    pub vmm_kick: Doorbell,
}

impl Bells {
    /// Three new doorbells.
    pub fn new() -> Result<Self, DoorbellError> {
        Ok(Self {
            app: Doorbell::new()?,
            vmm: Doorbell::new()?,
            vmm_kick: Doorbell::new()?,
        })
    }

    /// Another handle of each.
    pub fn try_clone(&self) -> Result<Self, DoorbellError> {
        Ok(Self {
            app: self.app.try_clone()?,
            vmm: self.vmm.try_clone()?,
            vmm_kick: self.vmm_kick.try_clone()?,
        })
    }
}

/// A descriptor [`Crossing::sleep_on`] waits for besides the peer.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    fd: BorrowedFd<'a>,
    events: PollFlags,
}

impl<'a> Watch<'a> {
    /// Until it can be read, or is hung up.
    pub fn read(fd: BorrowedFd<'a>) -> Self {
        Self {
            fd,
            events: PollFlags::POLLIN,
        }
    }

    /// Until it can be written, or is hung up.
    pub fn write(fd: BorrowedFd<'a>) -> Self {
        Self {
            fd,
            events: PollFlags::POLLOUT,
        }
    }
}

/// Why a sleep ended. Neither: the time is over, or a signal came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// [`Crossing::look`] may find something.
    pub work: bool,
    /// Bit n: descriptor n of those waited for is ready.
    pub ready: u64,
}

impl Woken {
    /// Whether descriptor `n` of those waited for is ready.
    pub fn is_ready(&self, n: usize) -> bool {
        n < 64 && self.ready >> n & 1 != 0
    }
}

/// One side of the crossing.
pub struct Crossing {
    side: Side,
    mem: Mapped,
    layout: Layout,
    attention: Attention<Mapped>,
    bells: Bells,
    io: IoSpec,
    spin: Mutex<Spin>,
    storm: Mutex<Storm>,
    /// Slots read and written by our channels, for [`Storm`]: in this process's own memory.
    moved: AtomicU64,
    /// The vmm's; never used on the other side.
    combiner: Mutex<Combiner>,
    /// One bit per channel of the layout.
    known: u64,
    /// One bit per channel handed out.
    taken: AtomicU64,
    rounds: AtomicU32,
    vmm_counters: Counters<VmmCounter>,
    app_counters: Counters<AppCounter>,
}

impl Crossing {
    /// Takes up one side. All channels are marked as having something, for a predecessor may have died between taking
    /// a bit and doing the work.
    pub fn new(side: Side, memory: &SharedMemory, bells: Bells, io: IoSpec) -> Arc<Self> {
        let mem = memory.mem();
        let attention = Attention::new(mem.clone(), side);
        let channels = memory.layout().channels().len();
        let known = u64::MAX >> (64 - channels.clamp(1, 64));
        attention.awake();
        attention.remind(known);
        let spinning = io.notify == Notify::Bitmap && several_cores();
        let full = if spinning {
            io.spin_us.min(IoSpec::MAX_SPIN_US)
        } else {
            0
        };
        Arc::new(Self {
            side,
            layout: memory.layout().clone(),
            attention,
            bells,
            io,
            spin: Mutex::new(Spin::new(Duration::from_micros(full.into()), Instant::now())),
            storm: Mutex::default(),
            moved: AtomicU64::new(0),
            combiner: Mutex::new(Combiner::new(&io, Instant::now())),
            known,
            taken: AtomicU64::new(0),
            rounds: AtomicU32::new(0),
            vmm_counters: Counters::new(mem.clone()),
            app_counters: Counters::new(mem.clone()),
            mem,
        })
    }

    /// The rings of a channel, in this side's directions; once for each. The peer is told, in case a predecessor died
    /// between publishing and telling.
    pub fn channel(self: &Arc<Self>, number: u8) -> Result<Channel, CrossingError> {
        let layout = *self
            .layout
            .channels()
            .get(usize::from(number))
            .ok_or(CrossingError::NoChannel(number))?;
        let channel = Channel::attach(self, number, layout).map_err(|source| CrossingError::Ring {
            channel: number,
            source,
        })?;
        if self.taken.fetch_or(1 << number, Relaxed) >> number & 1 != 0 {
            return Err(CrossingError::ChannelTaken(number));
        }
        self.tell(number)?;
        Ok(channel)
    }

    /// Which side this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The `[io]` section.
    pub fn io(&self) -> &IoSpec {
        &self.io
    }

    /// The doorbells; the vmm's engine listens to `vmm_kick` itself.
    pub fn bells(&self) -> &Bells {
        &self.bells
    }

    /// The words behind [`any`](Self::any), for an engine whose guest code looks by itself.
    pub fn attention(&self) -> &Attention<Mapped> {
        &self.attention
    }

    /// The channels that have something for us, taken: bit n is channel n.
    pub fn look(&self) -> u64 {
        if self.io.notify == Notify::Select && self.bell_rings() {
            self.own_bell().drain();
        }
        let bits = self.attention.take();
        if bits & !self.known != 0 {
            self.count_peer_error();
        }
        bits & self.known
    }

    /// Whether [`look`](Self::look) would find something: one plain load (`select`: one poll(2)).
    #[inline]
    pub fn any(&self) -> bool {
        if self.io.notify == Notify::Select && self.bell_rings() {
            return true;
        }
        self.attention.any()
    }

    /// Sleeps until the peer has something, one of `also` can be read, or `limit` is over; spins a little first.
    /// May return early with nothing.
    pub fn sleep(&self, limit: Option<Duration>, also: &[BorrowedFd]) -> Result<Woken, CrossingError> {
        let watched: Vec<Watch> = also.iter().map(|&fd| Watch::read(fd)).collect();
        self.sleep_on(limit, &watched)
    }

    /// [`sleep`](Self::sleep) for descriptors that are to be read or to be written.
    pub fn sleep_on(&self, limit: Option<Duration>, also: &[Watch]) -> Result<Woken, CrossingError> {
        if also.len() > u64::BITS as usize {
            return Err(CrossingError::TooMany(also.len()));
        }
        if self.side == Side::App {
            self.app_counters.add(AppCounter::Wakeups, 1);
        }
        self.flush_for_sleep()?;
        if self.storm().rages(self.moved.load(Relaxed)) {
            return self.sit_out(limit, also);
        }
        let start = Instant::now();
        if self.any() || self.spin(start, limit) || !self.attention.announce(Waiting::Asleep) {
            return self.glance(also);
        }
        let asleep = Instant::now();
        let left = limit.map(|limit| limit.saturating_sub(asleep - start));
        let polled = self.poll(left, also);
        self.attention.awake();
        self.count_sleep(asleep.elapsed());
        let (rung, ready) = polled?;
        if rung {
            self.own_bell().drain();
        }
        let work = rung || self.attention.any();
        if work {
            self.policy().woken(start.elapsed());
            self.storm().woken();
        }
        Ok(Woken { work, ready })
    }

    /// Makes [`any`](Self::any) and an engine that looks by itself find nothing for a while, whatever vmapp signals. Who
    /// says so looks again by itself.
    pub fn set_deaf(&self, deaf: bool) {
        self.attention.set_deaf(deaf);
    }

    /// Announces that guest code is about to run which cannot look. True: go. False: there is work, look first. One that is
    /// deaf goes without a word, and is not kicked.
    pub fn enter_guest(&self) -> bool {
        self.attention.deaf() || self.attention.announce(Waiting::InGuest)
    }

    /// Withdraws what [`enter_guest`](Self::enter_guest) announced.
    pub fn left_guest(&self) {
        self.attention.awake();
    }

    /// The vmm's counters.
    pub fn vmm_counters(&self) -> &Counters<VmmCounter> {
        &self.vmm_counters
    }

    /// The I/O worker's counters.
    pub fn app_counters(&self) -> &Counters<AppCounter> {
        &self.app_counters
    }

    /// Shows the supervisor's watchdog that the wait loop turns. vmapp only.
    pub fn heartbeat(&self) {
        let beat = self.mem.load_u64(APP_HEARTBEAT, Relaxed).wrapping_add(1);
        self.mem.store_u64(APP_HEARTBEAT, beat, Relaxed);
    }

    /// Counts something the peer did wrong.
    pub fn count_peer_error(&self) {
        match self.side {
            Side::Vmm => self.vmm_counters.add(VmmCounter::PeerErrors, 1),
            Side::App => self.app_counters.add(AppCounter::PeerErrors, 1),
        }
    }

    pub(crate) fn mem(&self) -> Mapped {
        self.mem.clone()
    }

    /// A slot was read or written.
    pub(crate) fn moved(&self) {
        // A load and a store: were two threads to share a side, a wake-up might count for nothing.
        self.moved
            .store(self.moved.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Puts back bits that were taken by someone who does not serve them.
    pub(crate) fn remind(&self, bits: u64) {
        if bits != 0 {
            self.attention.remind(bits);
        }
    }

    /// Signals the peer and counts: a world switch of this kind, if a doorbell had to be rung.
    pub(crate) fn signal(&self, number: u8, kind: ChannelKind) -> Result<bool, CrossingError> {
        let rung = self.tell(number)?;
        if self.side == Side::Vmm && rung {
            self.vmm_counters.add(switch_counter(kind), 1);
        }
        Ok(rung)
    }

    /// Signals the peer; returns whether a doorbell had to be rung.
    pub(crate) fn tell(&self, number: u8) -> Result<bool, CrossingError> {
        let owed = self.attention.signal(number);
        let always = self.io.notify == Notify::Select;
        let rung = always || owed != Owed::Nothing;
        if self.side == Side::Vmm {
            self.frames_carried(rung);
        }
        match self.side {
            Side::Vmm if rung => self.bells.app.ring()?,
            Side::Vmm => self.vmm_counters.add(VmmCounter::DoorbellsSaved, 1),
            Side::App => {
                if owed == Owed::Kick {
                    self.bells.vmm_kick.ring()?;
                    self.app_counters.add(AppCounter::KicksRung, 1);
                }
                if always || owed == Owed::Doorbell {
                    self.bells.vmm.ring()?;
                    self.app_counters.add(AppCounter::DoorbellsRung, 1);
                }
                if !rung {
                    self.app_counters.add(AppCounter::DoorbellsSaved, 1);
                }
            }
        }
        Ok(rung)
    }

    fn own_bell(&self) -> &Doorbell {
        match self.side {
            Side::Vmm => &self.bells.vmm,
            Side::App => &self.bells.app,
        }
    }

    /// `select`'s look: one system call on the own doorbell. An error shows at the next sleep.
    fn bell_rings(&self) -> bool {
        matches!(self.poll(Some(Duration::ZERO), &[]), Ok((true, _)))
    }

    fn policy(&self) -> std::sync::MutexGuard<'_, Spin> {
        self.spin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storm(&self) -> std::sync::MutexGuard<'_, Storm> {
        self.storm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sleep with the peer's signals left out: what they were is looked at after it. Nothing is announced, so nobody rings.
    fn sit_out(&self, limit: Option<Duration>, also: &[Watch]) -> Result<Woken, CrossingError> {
        let spell = limit.map_or(SPELL, |limit| limit.min(SPELL));
        let begun = Instant::now();
        let ready = wait(None, Some(spell), also)?.1;
        self.count_sleep(begun.elapsed());
        self.storm().woken();
        Ok(Woken { work: true, ready })
    }

    /// Looks for a short time; returns whether work came.
    fn spin(&self, start: Instant, limit: Option<Duration>) -> bool {
        let budget = self.policy().budget(start).min(limit.unwrap_or(Duration::MAX));
        if budget.is_zero() {
            return false;
        }
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.attention.any() {
                    self.policy().hit();
                    self.count_spin(VmmCounter::SpinHits);
                    return true;
                }
                std::hint::spin_loop();
            }
            let spent = start.elapsed();
            if spent >= budget {
                self.policy().missed(spent);
                self.count_spin(VmmCounter::SpinMisses);
                return false;
            }
        }
    }

    /// Work without sleep. The other descriptors get their look now and then, lest a busy peer starve them.
    fn glance(&self, also: &[Watch]) -> Result<Woken, CrossingError> {
        self.storm().woken();
        let round = self.rounds.fetch_add(1, Relaxed);
        let ready = if !also.is_empty() && round.is_multiple_of(ROUNDS_PER_GLANCE) {
            self.poll(Some(Duration::ZERO), also)?.1
        } else {
            0
        };
        Ok(Woken { work: true, ready })
    }

    /// Waits for the own doorbell and `also`: whether it rings, and which of those are ready.
    fn poll(&self, limit: Option<Duration>, also: &[Watch]) -> Result<(bool, u64), CrossingError> {
        wait(Some(self.own_bell()), limit, also)
    }

    fn count_sleep(&self, slept: Duration) {
        match self.side {
            Side::Vmm => {
                self.vmm_counters.add(VmmCounter::Sleeps, 1);
                let nanos = u64::try_from(slept.as_nanos()).unwrap_or(u64::MAX);
                self.vmm_counters.add(VmmCounter::SleepNs, nanos);
            }
            Side::App => self.app_counters.add(AppCounter::Sleeps, 1),
        }
    }

    fn count_spin(&self, outcome: VmmCounter) {
        if self.side == Side::Vmm {
            self.vmm_counters.add(outcome, 1);
        }
    }
}

/// Waits for `bell`, if given, and `also`: whether it rings, and which of those are ready.
fn wait(
    bell: Option<&Doorbell>,
    limit: Option<Duration>,
    also: &[Watch],
) -> Result<(bool, u64), CrossingError> {
    let mut fds = Vec::with_capacity(also.len() + 1);
    fds.extend(bell.map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
    fds.extend(also.iter().map(|watch| PollFd::new(watch.fd, watch.events)));
    match ppoll(&mut fds, limit.map(TimeSpec::from_duration), None) {
        Ok(0) | Err(Errno::EINTR) => return Ok((false, 0)),
        Ok(_) => {}
        Err(e) => return Err(CrossingError::Wait(e.into())),
    }
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
    let rung = bell.is_some() && ready.next().unwrap_or(false);
    let others = ready
        .zip(0..)
        .fold(0, |mask, (ready, n)| mask | u64::from(ready) << n);
    Ok((rung, others))
}

/// The counter of world switches a doorbell rung for this kind of channel goes to.
fn switch_counter(kind: ChannelKind) -> VmmCounter {
    match kind {
        ChannelKind::Control => VmmCounter::SwitchControl,
        ChannelKind::Console => VmmCounter::SwitchConsole,
        ChannelKind::Net => VmmCounter::SwitchNet,
        ChannelKind::Disk => VmmCounter::SwitchDisk,
    }
}

/// Whether this thread may run on more than one core: on a single one, spinning keeps the peer from running.
fn several_cores() -> bool {
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_or(1, |set| {
        (0..CpuSet::count())
            .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
            .count()
    });
    allowed > 1
}
