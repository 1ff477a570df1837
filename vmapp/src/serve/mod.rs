//! The I/O worker process (`vmapp io-worker`): everything the host can see, behind one wait loop.
//!
//! Started by the supervisor, never by hand. It attaches the shared memory, gives up its rights and then serves: bits of
//! the pending word to the channels' services, the host's descriptors to the back ends, the supervisor's few words.
//!
//! What must never happen here: a call that blocks outside [`Crossing::sleep_on`], unbounded work for one look at a ring,
//! a mapping of guest memory, or a life longer than the supervisor's. The vmm is hostile: what it does wrong is counted,
//! told now and then, and changes nothing else.

mod attach;
mod complaints;
mod console;
mod control;

use attach::{Attached, attach};
use complaints::Complaints;
use console::ConsoleService;
use control::ControlService;
use shared::abi::CONTROL_CHANNEL;
use shared::abi::counters::AppCounter;
use shared::msg::handover::{FromApp, ToApp};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use vmdriver_shim::crossing::{Crossing, CrossingError, Watch, Woken};
use vmdriver_shim::handover::{HandoverError, Received, Socket};
use vmdriver_shim::jail::JailError;
use vmdriver_shim::memory::MemoryError;
use vmdriver_shim::spawn::{self, SpawnError};

/// Why the worker cannot start or go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Tying itself to the supervisor.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The supervisor's record.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The supervisor said nothing, or something else than `Start`.
    #[error("the supervisor did not say Start")]
    NoStart,
    /// The machine is none.
    #[error(transparent)]
    Spec(#[from] shared::spec::SpecError),
    /// The shared memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A doorbell.
    #[error(transparent)]
    Doorbell(#[from] vmdriver_shim::doorbell::DoorbellError),
    /// A channel or the waiting.
    #[error(transparent)]
    Crossing(#[from] CrossingError),
    /// The shared memory has no channel for it.
    #[error("the shared memory has no {0} channel")]
    NoChannel(&'static str),
    /// A console descriptor is no use.
    #[error("console: {0}")]
    Console(std::io::Error),
    /// Rights could not be given up.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// Signals could not be blocked.
    #[error("signals: {}", .0.desc())]
    Signals(nix::errno::Errno),
}

/// The hidden subcommand `vmapp io-worker`: the process's exit status.
pub fn worker() -> u8 {
    let socket = match enter() {
        Ok(socket) => socket,
        Err(error) => {
            // No supervisor to tell: somebody started us by hand.
            eprintln!("worldswitch: io-worker: {error}");
            return 2;
        }
    };
    let served = attach(&socket).and_then(|attached| Worker::new(attached, &socket)?.serve());
    match served {
        Ok(()) => 0,
        Err(error) => {
            // A supervisor that is gone cannot be told, and does not need to be.
            socket.send(&FromApp::Failed(error.to_string()), &[]).ok();
            1
        }
    }
}

/// First of all: die with the supervisor, leave the terminal's signals to it.
fn enter() -> Result<Socket, ServeError> {
    spawn::die_with_parent()?;
    spawn::leave_signals_to_supervisor()?;
    attach::refuse_job_control().map_err(ServeError::Signals)?;
    Ok(spawn::inherited_socket()?)
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Finish,
    Abandoned,
}

struct Worker<'a> {
    socket: &'a Socket,
    crossing: Arc<Crossing>,
    control: ControlService,
    console: ConsoleService,
    complaints: Complaints,
}

impl<'a> Worker<'a> {
    fn new(attached: Attached, socket: &'a Socket) -> Result<Self, ServeError> {
        let crossing = attached.crossing;
        let control = ControlService::new(crossing.channel(CONTROL_CHANNEL)?);
        let console = ConsoleService::new(crossing.channel(attached.console_channel)?, attached.console);
        socket.send(&FromApp::Ready, &[])?;
        for shortcoming in &attached.shortcomings {
            socket.send(&FromApp::Warning(format!("I/O worker: {shortcoming}")), &[])?;
        }
        Ok(Self {
            socket,
            crossing,
            control,
            console,
            complaints: Complaints::default(),
        })
    }

    /// The one wait loop.
    fn serve(mut self) -> Result<(), ServeError> {
        let mut finishing = false;
        loop {
            self.crossing.heartbeat();
            let bits = self.crossing.look();
            let mut more = false;
            if bits >> self.control.number() & 1 != 0 {
                more |= self.control.turn()?;
            }
            more |= self.console.turn()?;
            self.report();
            if finishing && !more && self.console.is_drained() {
                return self.finished();
            }
            let woken = self.sleep(more)?;
            if woken.is_ready(SUPERVISOR) {
                match self.hear()? {
                    Told::Nothing => {}
                    Told::Finish => finishing = true,
                    Told::Abandoned => {
                        self.console.back_end().abandoned();
                        return Ok(());
                    }
                }
            }
        }
    }

    fn sleep(&mut self, more: bool) -> Result<Woken, ServeError> {
        let interests = self.console.interests();
        let mut watches = vec![Watch::read(self.socket.as_fd())];
        for interest in interests.fds.iter().flatten() {
            watches.extend(watch(interest.fd, interest.events));
        }
        let limit = if more {
            Some(Duration::ZERO)
        } else {
            interests.within
        };
        Ok(self.crossing.sleep_on(limit, &watches)?)
    }

    /// What the supervisor says.
    fn hear(&mut self) -> Result<Told, ServeError> {
        Ok(match self.socket.recv::<ToApp>()? {
            Received::Message(ToApp::Finish, _) => Told::Finish,
            Received::Message(ToApp::Start { .. }, _) => return Err(ServeError::NoStart),
            Received::HungUp => Told::Abandoned,
            Received::Nothing => Told::Nothing,
        })
    }

    /// Tells the supervisor what the user asked for and should know.
    fn report(&mut self) {
        // A supervisor too busy for a word loses it: waiting for it would stall the guest.
        while let Some(asked) = self.console.back_end().asked() {
            self.socket.send(&FromApp::Escape(asked), &[]).ok();
        }
        let peer_errors = self.crossing.app_counters().get(AppCounter::PeerErrors);
        let complaint = self.complaints.about(peer_errors, Instant::now());
        for text in complaint.into_iter().chain(self.console.back_end().trouble()) {
            self.socket.send(&FromApp::Warning(text), &[]).ok();
        }
    }

    /// All output is out. A connected client goes back to the supervisor, for the worker after a reset.
    fn finished(mut self) -> Result<(), ServeError> {
        let client = self.console.back_end().detach();
        let fds: Vec<BorrowedFd> = client.iter().map(AsFd::as_fd).collect();
        Ok(self.socket.send(&FromApp::Finished, &fds)?)
    }
}

/// Place of the supervisor's socket among the watched descriptors.
const SUPERVISOR: usize = 0;

fn watch(fd: BorrowedFd<'_>, events: nix::poll::PollFlags) -> impl Iterator<Item = Watch<'_>> {
    use nix::poll::PollFlags;
    let read = events.contains(PollFlags::POLLIN).then(|| Watch::read(fd));
    let write = events.contains(PollFlags::POLLOUT).then(|| Watch::write(fd));
    read.into_iter().chain(write)
}
