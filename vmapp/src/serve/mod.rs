//! The I/O worker process (`vmapp io-worker`): everything the host can see, behind one wait loop.
//!
//! Started by the supervisor, never by hand. It attaches the shared memory, gives up its rights and then serves: bits
//! of the pending word to the channels' services, the host's descriptors to the back ends, the supervisor's few words.
//! What belongs to a channel is behind [`Service`]; the console has more to tell the supervisor, and is known by name.
//!
//! What must never happen here: a call that blocks outside [`Crossing::sleep_on`], unbounded work for one look at a
//! ring, a mapping of guest memory, or a life longer than the supervisor's. The vmm is hostile: what it does wrong is
//! counted, told now and then, and changes nothing else.

mod attach;
mod complaints;
pub mod console;
pub mod control;
pub mod disk;
pub mod net;
pub mod service;

use crate::back::disk::overlay::OverlayError;
use crate::fault::lane::Lane;
use crate::fault::strike::Faults;
use attach::{Attached, attach};
use complaints::Complaints;
use console::ConsoleService;
use control::ControlService;
use disk::DiskService;
use net::NetService;
use service::Service;
use shared::abi::CONTROL_CHANNEL;
use shared::abi::counters::AppCounter;
use shared::msg::fault::{Order, Point, Target};
use shared::msg::handover::{FdRole, FromApp, ToApp};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use vmdriver_shim::crossing::{Crossing, CrossingError, Watch};
use vmdriver_shim::handover::{Descriptors, HandoverError, Received, Socket};
use vmdriver_shim::jail::{self, JailError, Thread};
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
    /// `Start` has other back ends than the machine has devices.
    #[error("{given} back ends for {wanted} {what}")]
    BackEnds {
        /// Which devices.
        what: &'static str,
        /// How many the machine has.
        wanted: usize,
        /// How many were given.
        given: usize,
    },
    /// A network card's back end cannot start.
    #[error("net {0}: {1}")]
    Net(u8, std::io::Error),
    /// A disk's descriptor is no use, or the host has no thread for it.
    #[error("disk {0}: {1}")]
    Disk(u8, std::io::Error),
    /// A disk's overlay is no use.
    #[error("disk {0}: {1}")]
    Overlay(u8, OverlayError),
    /// A disk's thread ended by itself.
    #[error("the thread of {0} is gone")]
    DiskThread(String),
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
        Ok(socket) => Arc::new(socket),
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
    // What ps and top show; without it, the name of the link we were started by.
    nix::sys::prctl::set_name(c"vmapp-io").map_err(ServeError::Signals)?;
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
    faults: Arc<Faults>,
    crossing: Arc<Crossing>,
    console: ConsoleService,
    /// All but the console's.
    others: Vec<Box<dyn Service>>,
    /// Most time between two turns.
    heartbeat: Option<Duration>,
    complaints: Complaints,
}

impl<'a> Worker<'a> {
    fn new(attached: Attached, socket: &'a Arc<Socket>) -> Result<Self, ServeError> {
        let crossing = attached.crossing;
        let faults = Faults::new(attached.faults, Some(socket.clone()));
        let lane = |channel, target| {
            let channel = crossing.channel(channel)?;
            Ok::<_, CrossingError>(Lane::new(channel, target, faults.clone(), attached.heartbeat))
        };
        count_lost_frames(&crossing);
        let console = ConsoleService::new(lane(attached.console_channel, Target::Console)?, attached.console);
        let control = ControlService::new(lane(CONTROL_CHANNEL, Target::Control)?);
        let mut others: Vec<Box<dyn Service>> = vec![Box::new(control)];
        for (number, net) in (0..).zip(attached.nets) {
            let lane = lane(net.channel, Target::Net(number))?;
            let name = format!("net {number}");
            others.push(Box::new(NetService::new(lane, net.back_end, name)));
        }
        for (number, disk) in (0..).zip(attached.disks) {
            let lane = lane(disk.channel, Target::Disk(number))?;
            let name = format!("disk {number}");
            let service = DiskService::new(lane, disk.image, disk.read_only, name);
            others.push(Box::new(
                service.map_err(|error| ServeError::Disk(number, error))?,
            ));
        }
        // All threads are there.
        jail::confine(Thread::WaitLoop(attached.io))?;
        faults.point(Point::Attached, None);
        socket.send(&FromApp::Ready, &[])?;
        faults.point(Point::Ready, None);
        for shortcoming in &attached.shortcomings {
            socket.send(&FromApp::Warning(format!("I/O worker: {shortcoming}")), &[])?;
        }
        Ok(Self {
            socket,
            faults,
            crossing,
            console,
            others,
            heartbeat: attached.heartbeat,
            complaints: Complaints::default(),
        })
    }

    /// The console's service is number 0.
    fn services(&mut self) -> impl Iterator<Item = &mut dyn Service> {
        let others = self
            .others
            .iter_mut()
            .map(|service| &mut **service as &mut dyn Service);
        std::iter::once(&mut self.console as &mut dyn Service).chain(others)
    }

    /// The one wait loop.
    fn serve(mut self) -> Result<(), ServeError> {
        let mut finishing = false;
        // Nobody has looked at any descriptor yet.
        let mut ready = u64::MAX;
        loop {
            self.crossing.heartbeat();
            self.faults.point(Point::Turn, None);
            // A turn looks at its ring whoever has rung: a look is a load, and a doorbell that was lost costs a heartbeat.
            let rung = self.crossing.look();
            let mut more = false;
            for (number, service) in self.services().enumerate() {
                let lane = service.lane();
                lane.begin_turn(rung >> lane.number() & 1 != 0)?;
                more |= service.turn(ready >> number & 1 != 0)?;
            }
            self.report();
            if finishing && !more && self.is_drained() {
                return Ok(self.socket.send(&FromApp::Finished, &[])?);
            }
            let told;
            (ready, told) = self.sleep(more)?;
            match told {
                Told::Nothing => {}
                Told::Finish => {
                    finishing = true;
                    self.arm(Vec::new());
                    self.services().for_each(Service::finish);
                }
                Told::Abandoned => {
                    self.console.back_end().abandoned();
                    return Ok(());
                }
            }
        }
    }

    fn is_drained(&mut self) -> bool {
        self.services()
            .all(|service| service.is_drained() && service.lane().is_drained())
    }

    /// Waits: which services have a descriptor that is ready, and what the supervisor says.
    fn sleep(&mut self, more: bool) -> Result<(u64, Told), ServeError> {
        let lanes = self
            .services()
            .filter_map(|service| service.lane().within())
            .min();
        let now = more.then_some(Duration::ZERO);
        let mut limit = [now, lanes, self.heartbeat].into_iter().flatten().min();
        let mut watches = vec![Watch::read(self.socket.as_fd())];
        // The bit of the service each watch is for; the supervisor's is for none.
        let mut bits = vec![0];
        let others = self.others.iter().map(|service| &**service);
        let services = std::iter::once(&self.console as &dyn Service).chain(others);
        for (number, service) in services.enumerate() {
            let interests = service.interests();
            limit = [limit, interests.within].into_iter().flatten().min();
            for interest in interests.fds.into_iter().flatten() {
                watches.extend(watch(interest.fd, interest.events));
                bits.resize(watches.len(), 1 << number);
            }
        }
        self.faults.point(Point::Sleep, None);
        let woken = self.crossing.sleep_on(limit, &watches)?;
        self.faults.point(Point::Woken, None);
        let ready = bits
            .iter()
            .enumerate()
            .filter(|&(place, _)| woken.is_ready(place));
        let ready = ready.fold(0, |ready, (_, bit)| ready | bit);
        let told = if woken.is_ready(SUPERVISOR) {
            self.hear()?
        } else {
            Told::Nothing
        };
        Ok((ready, told))
    }

    /// These faults are armed from now on. With none left, what is held up goes on.
    fn arm(&mut self, orders: Vec<Order>) {
        let off = orders.is_empty();
        self.faults.set(orders);
        if off {
            self.services().for_each(|service| service.lane().let_go());
        }
    }

    /// What the supervisor says.
    fn hear(&mut self) -> Result<Told, ServeError> {
        Ok(match self.socket.recv::<ToApp>()? {
            Received::Message(ToApp::Finish, _) => Told::Finish,
            Received::Message(ToApp::Faults(orders), _) => {
                self.arm(orders);
                self.faults.acknowledge();
                Told::Nothing
            }
            Received::Message(ToApp::ConsoleClient, fds) => {
                let client = Descriptors::new(vec![FdRole::ConsoleIn], fds)?.take(FdRole::ConsoleIn)?;
                self.console.back_end().take_client(client);
                Told::Nothing
            }
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
        // But not this one: without it there would never be another client.
        if self.console.back_end().owes_gone() && self.socket.send(&FromApp::ConsoleClientGone, &[]).is_ok() {
            self.console.back_end().told_gone();
        }
        self.faults.tell();
        let peer_errors = self.crossing.app_counters().get(AppCounter::PeerErrors);
        let complaint = self.complaints.about(peer_errors, Instant::now());
        let socket = self.socket;
        for text in complaint
            .into_iter()
            .chain(self.services().filter_map(Service::trouble))
        {
            socket.send(&FromApp::Warning(text), &[]).ok();
        }
    }
}

/// A frame is sent once at most: what a worker that died had taken and neither sent nor dropped may be lost.
fn count_lost_frames(crossing: &Crossing) {
    let counters = crossing.app_counters();
    let missing = [
        AppCounter::NetTx,
        AppCounter::NetTxDropped,
        AppCounter::NetTxPossiblyLost,
    ]
    .map(|counter| counters.get(counter))
    .into_iter()
    .fold(counters.get(AppCounter::NetTxTaken), u64::saturating_sub);
    counters.add(AppCounter::NetTxPossiblyLost, missing);
}

/// Place of the supervisor's socket among the watched descriptors.
const SUPERVISOR: usize = 0;

fn watch(fd: BorrowedFd<'_>, events: nix::poll::PollFlags) -> impl Iterator<Item = Watch<'_>> {
    use nix::poll::PollFlags;
    let read = events.contains(PollFlags::POLLIN).then(|| Watch::read(fd));
    let write = events.contains(PollFlags::POLLOUT).then(|| Watch::write(fd));
    read.into_iter().chain(write)
}
