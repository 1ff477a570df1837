//! The ear: a thread that listens where the vCPU thread cannot.
//!
//! It waits for two things: the kick doorbell, which vmapp rings while the vCPU runs guest code that does not look at
//! the IRQ bitmap, and the supervisor's socket. What the supervisor says becomes a flag in [`Orders`]; then the vCPU
//! is got out of the engine (kick) or out of its sleep (the wake doorbell). The supervisor's death is an order to stop.
//!
//! What must never happen here: a bell that rings without end takes the vCPU's time, or this thread from the supervisor.
//! [`Pace`] bounds the kicks of a while, the last of which comes late and is not lost.

use crate::engine::Kick;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use shared::msg::handover::ToVmm;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::time::{Duration, Instant};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::jail::{self, Thread};

/// Most kicks in one [`WINDOW`]: as many as a thread that is woken for each gets through in a third of it.
const MOST_KICKS: u32 = 32;
/// See [`MOST_KICKS`].
const WINDOW: Duration = Duration::from_millis(1);

/// What the supervisor wants, until the run loop takes it.
#[derive(Default)]
pub struct Orders {
    any: AtomicBool,
    power_button: AtomicBool,
    stop: AtomicBool,
}

impl Orders {
    /// Whether there is any order: one load, for the hot path.
    pub fn any(&self) -> bool {
        self.any.load(Acquire)
    }

    /// Forgets that there are orders; call before taking them one by one.
    pub fn seen(&self) {
        self.any.store(false, Release);
    }

    /// Takes a press of the power button.
    pub fn take_power_button(&self) -> bool {
        self.power_button.swap(false, AcqRel)
    }

    /// Whether the machine is to stop now. Never taken back.
    pub fn stop(&self) -> bool {
        self.stop.load(Acquire)
    }

    fn give(&self, order: &AtomicBool) {
        order.store(true, Release);
        self.any.store(true, Release);
    }
}

/// The run loop's end of the ear.
pub struct Ear {
    /// What was heard.
    pub orders: Arc<Orders>,
    wake: Doorbell,
}

impl Ear {
    /// Starts listening. `socket` is the supervisor's, past its first record; `kick_bell` is of no use, and not given,
    /// where guest code looks at the IRQ bitmap by itself.
    pub fn listen(socket: Arc<Socket>, kick_bell: Option<Doorbell>, kick: Arc<dyn Kick>) -> io::Result<Self> {
        let wake = Doorbell::new().map_err(io::Error::other)?;
        let orders = Arc::new(Orders::default());
        let listener = Listener {
            socket,
            kick_bell,
            kick,
            orders: Arc::clone(&orders),
            wake: wake.try_clone().map_err(io::Error::other)?,
            pace: Pace::new(Instant::now()),
        };
        jail::spawn("ear".into(), Thread::Ear, move || listener.listen())?;
        Ok(Self { orders, wake })
    }

    /// Readable when an order has come: to be slept on.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Quiets [`wake_fd`](Self::wake_fd) after a wake-up.
    pub fn woken(&self) {
        self.wake.drain();
    }
}

struct Listener {
    socket: Arc<Socket>,
    kick_bell: Option<Doorbell>,
    kick: Arc<dyn Kick>,
    orders: Arc<Orders>,
    wake: Doorbell,
    pace: Pace,
}

/// How many kicks there were lately.
struct Pace {
    begun: Instant,
    kicks: u32,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { begun: now, kicks: 0 }
    }

    /// One more.
    fn kicked(&mut self, now: Instant) {
        if now.saturating_duration_since(self.begun) >= WINDOW {
            *self = Self::new(now);
        }
        self.kicks += 1;
    }

    /// How long the bell is not listened to, if there were too many.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let left = WINDOW.checked_sub(now.saturating_duration_since(self.begun))?;
        (self.kicks >= MOST_KICKS && !left.is_zero()).then_some(left)
    }
}

impl Listener {
    fn listen(mut self) {
        loop {
            let pause = self.pace.pause(Instant::now());
            let bell = self.kick_bell.as_ref().filter(|_| pause.is_none());
            // A bell not looked at stays rung.
            let mut fds = Vec::with_capacity(2);
            fds.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
            fds.extend(bell.map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
            match ppoll(&mut fds, pause.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return self.stop(&format!("cannot listen: {error}")),
            }
            let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
            let (socket, rung) = (ready.next() == Some(true), ready.next() == Some(true));
            if rung && let Some(bell) = bell {
                bell.drain();
                self.pace.kicked(Instant::now());
                self.kick.kick();
            }
            if socket && !self.hear() {
                return;
            }
        }
    }

    /// Takes one record from the supervisor; false when there will be no more.
    fn hear(&self) -> bool {
        match self.socket.recv::<ToVmm>() {
            Ok(Received::Message(ToVmm::PowerButton, _)) => self.obey(&self.orders.power_button),
            Ok(Received::Message(ToVmm::Stop, _)) => self.obey(&self.orders.stop),
            Ok(Received::Message(ToVmm::Start { .. }, _)) => {
                tracing::warn!("supervisor sent a second start; ignored")
            }
            Ok(Received::Nothing) => {}
            Ok(Received::HungUp) => {
                self.stop("supervisor is gone");
                return false;
            }
            Err(error) => {
                self.stop(&format!("supervisor's record not understood: {error}"));
                return false;
            }
        }
        true
    }

    fn obey(&self, order: &AtomicBool) {
        self.orders.give(order);
        if let Err(error) = self.wake.ring() {
            tracing::error!("cannot wake the vCPU thread: {error}");
        }
        self.kick.kick();
    }

    fn stop(&self, why: &str) {
        tracing::warn!("{why}; stopping");
        self.obey(&self.orders.stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Kick for Counted {
        fn kick(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_bell_that_rings_without_end_kicks_at_a_bounded_pace_and_drowns_no_order() {
        let (supervisor, ours) = Socket::pair().unwrap();
        let (bell, kicks) = (Doorbell::new().unwrap(), Arc::new(Counted::default()));
        let kick = Arc::<Counted>::clone(&kicks);
        let heard = bell.try_clone().unwrap();
        let ear = Ear::listen(Arc::new(ours), Some(heard), kick).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < WINDOW * 100 {
            bell.ring().unwrap();
        }
        supervisor.send(&ToVmm::Stop, &[]).unwrap();
        while !ear.orders.stop() {
            bell.ring().unwrap();
        }
        let windows = begun.elapsed().as_millis() as u64 + 2;
        let kicked = kicks.0.load(Relaxed);
        assert!(
            kicked > 0 && kicked <= windows * u64::from(MOST_KICKS) + 2,
            "{kicked} in {windows} ms"
        );
    }

    #[test]
    fn the_last_kick_of_a_burst_comes() {
        let (_supervisor, ours) = Socket::pair().unwrap();
        let (bell, kicks) = (Doorbell::new().unwrap(), Arc::new(Counted::default()));
        let kick = Arc::<Counted>::clone(&kicks);
        let heard = bell.try_clone().unwrap();
        let _ear = Ear::listen(Arc::new(ours), Some(heard), kick).unwrap();
        for _ in 0..10 * MOST_KICKS {
            let before = kicks.0.load(Relaxed);
            bell.ring().unwrap();
            while kicks.0.load(Relaxed) == before {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn without_a_bell_orders_are_heard() {
        let (supervisor, ours) = Socket::pair().unwrap();
        let ear = Ear::listen(Arc::new(ours), None, Arc::new(Counted::default())).unwrap();
        supervisor.send(&ToVmm::Stop, &[]).unwrap();
        while !ear.orders.stop() {
            std::thread::yield_now();
        }
    }
}
