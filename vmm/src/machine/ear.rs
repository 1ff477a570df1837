//! The ear: a thread that listens where the vCPU thread cannot.
//!
//! It waits for two things: the kick doorbell, which vmapp rings while the vCPU runs guest code that does not look at
//! the IRQ bitmap, and the supervisor's socket. What the supervisor says becomes a flag in [`Orders`]; then the vCPU
//! is got out of the engine (kick) or out of its sleep (the wake doorbell). The supervisor's death is an order to stop.

use crate::engine::Kick;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::msg::handover::ToVmm;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::jail::{self, Thread};

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
    /// Starts listening. `socket` is the supervisor's, past its first record.
    pub fn listen(socket: Arc<Socket>, kick_bell: Doorbell, kick: Arc<dyn Kick>) -> io::Result<Self> {
        let wake = Doorbell::new().map_err(io::Error::other)?;
        let orders = Arc::new(Orders::default());
        let listener = Listener {
            socket,
            kick_bell,
            kick,
            orders: Arc::clone(&orders),
            wake: wake.try_clone().map_err(io::Error::other)?,
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
    kick_bell: Doorbell,
    kick: Arc<dyn Kick>,
    orders: Arc<Orders>,
    wake: Doorbell,
}

impl Listener {
    fn listen(self) {
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.kick_bell.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return self.stop(&format!("cannot listen: {error}")),
            }
            let [socket, bell] = fds.map(|fd| fd.any().unwrap_or(true));
            if bell {
                self.kick_bell.drain();
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
