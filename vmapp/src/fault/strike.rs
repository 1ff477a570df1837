//! The worker's one handle on what is armed, shared by its loop, its lanes and its disks' threads.
//!
//! With nothing armed every question is one load and one branch. What was struck is told the supervisor once a turn; who
//! is to die or to stop here tells it first, so that the injection is known whatever becomes of this process.

use super::arm::{Armed, Chance, Hit};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use shared::msg::fault::{Action, Injection, Order, Point, Target};
use shared::msg::handover::FromApp;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vmdriver_shim::handover::{HandoverError, Socket};

/// How long a worker about to die waits for a supervisor that does not read.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// The handle.
pub struct Faults {
    live: AtomicBool,
    armed: Mutex<Armed>,
    /// All was taken off so often, and who waits for that.
    taken_off: (Mutex<u64>, Condvar),
    /// Held by a thread that stops the process: a second stop would be taken for this one's end.
    stopping: Mutex<()>,
    /// The supervisor's ear; none in tests of a single service.
    socket: Option<Arc<Socket>>,
}

impl Faults {
    /// `orders` are armed; what they do is told over `socket`.
    pub fn new(orders: Vec<Order>, socket: Option<Arc<Socket>>) -> Arc<Self> {
        let faults = Self {
            live: AtomicBool::new(false),
            armed: Mutex::default(),
            taken_off: Default::default(),
            stopping: Mutex::default(),
            socket,
        };
        faults.set(orders);
        Arc::new(faults)
    }

    /// Nothing armed, and nobody to tell.
    pub fn none() -> Arc<Self> {
        Self::new(Vec::new(), None)
    }

    /// These are armed from now on.
    pub fn set(&self, orders: Vec<Order>) {
        let off = orders.is_empty();
        let mut armed = self.armed();
        armed.set(orders);
        self.live.store(armed.is_live(), Relaxed);
        drop(armed);
        if off {
            let mut times = self.taken_off.0.lock().unwrap_or_else(PoisonError::into_inner);
            *times = times.wrapping_add(1);
            self.taken_off.1.notify_all();
        }
    }

    /// Holds this thread up, until all is taken off at the latest.
    pub fn pause(&self, time: Duration) {
        let times = self.taken_off.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *times;
        let waited = self
            .taken_off
            .1
            .wait_timeout_while(times, time, |times| *times == before);
        drop(waited);
    }

    /// Whether anything can strike.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// Takes a chance.
    pub fn chance(&self, chance: Chance) -> Vec<Hit> {
        if !self.is_live() {
            return Vec::new();
        }
        let mut armed = self.armed();
        let hits = armed.chance(chance);
        if !hits.is_empty() {
            self.live.store(armed.is_live(), Relaxed);
        }
        hits
    }

    /// Whether somebody waits for this point.
    pub fn awaits(&self, point: Point) -> bool {
        self.is_live() && self.armed().awaits(point)
    }

    /// Passes a point: does not return if it is struck to kill, and later if it is struck to stop.
    #[inline]
    pub fn point(&self, point: Point, target: Option<Target>) {
        if self.is_live() {
            self.pass(point, target);
        }
    }

    #[cold]
    fn pass(&self, point: Point, target: Option<Target>) {
        for hit in self.chance(Chance::Point(point, target)) {
            match hit.action {
                Action::Kill { .. } => self.die(),
                Action::Stop { ms, .. } => self.stop(ms),
                _ => {}
            }
        }
    }

    /// Tells the supervisor what was struck since it was last told. One too busy hears it the next time.
    pub fn tell(&self) {
        let mut armed = self.armed();
        if !armed.news().is_empty() {
            self.tell_of(&mut armed);
        }
    }

    /// Tells the supervisor how far every order is: that it is armed, above all.
    pub fn acknowledge(&self) {
        self.tell_of(&mut self.armed());
    }

    fn tell_of(&self, armed: &mut Armed) {
        let Some(socket) = &self.socket else {
            return armed.told();
        };
        let word = FromApp::Injected {
            injections: armed.news().to_vec(),
            progress: armed.progress(),
        };
        if socket.send(&word, &[]).is_ok() {
            armed.told();
        }
    }

    /// What was struck and not told, taken: for tests of a single service.
    pub fn take_news(&self) -> Vec<Injection> {
        let mut armed = self.armed();
        let news = armed.news().to_vec();
        armed.told();
        news
    }

    fn die(&self) -> ! {
        self.tell_for_sure();
        loop {
            // It ends the process, all threads of it, before it returns.
            raise(Signal::SIGKILL).ok();
        }
    }

    fn stop(&self, ms: u32) {
        let _stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell_for_sure();
        self.say_for_sure(&FromApp::Stopping { ms });
        // Stops the process, all threads of it, until SIGCONT.
        raise(Signal::SIGSTOP).ok();
        self.say_for_sure(&FromApp::Continued);
    }

    fn tell_for_sure(&self) {
        let end = Instant::now() + TELL_LIMIT;
        loop {
            self.tell();
            if self.armed().news().is_empty() || !self.wait_writable(end) {
                return;
            }
        }
    }

    fn say_for_sure(&self, word: &FromApp) {
        let Some(socket) = &self.socket else { return };
        let end = Instant::now() + TELL_LIMIT;
        while let Err(HandoverError::Busy) = socket.send(word, &[]) {
            if !self.wait_writable(end) {
                return;
            }
        }
    }

    /// Waits until the supervisor has read something. False: the time is over.
    fn wait_writable(&self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if let Some(socket) = &self.socket {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).ok();
        }
        !left.is_zero()
    }

    fn armed(&self) -> MutexGuard<'_, Armed> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
