//! From the supervisor's `Start` to a worker that can serve: descriptors by role, memory, the jail, back ends.
//!
//! The jail closes as soon as everything is there that has a path. What follows reads what others wrote: the shared memory,
//! the files of overlays.

use super::ServeError;
use crate::back::console::host_fd::HostFd;
use crate::back::console::pty::Pty;
use crate::back::console::socket::Socket as SocketConsole;
use crate::back::console::stdio::{Stream, Terminal};
use crate::back::console::{Console, Nowhere};
use crate::back::disk::Image;
use crate::back::disk::medium::HostFile;
use crate::back::disk::open::identity;
use crate::back::disk::overlay::{BootId, Layout, Overlay};
use crate::back::disk::raw::Raw;
use crate::back::net::Net;
use crate::back::net::nat::{self, Nat};
use crate::back::net::none::Unplugged;
use crate::back::net::pcap::Capture;
use crate::back::net::tap::Tap;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{SFlag, fstat};
use shared::abi::ChannelKind;
use shared::msg::disk::SECTOR;
use shared::msg::fault::Order;
use shared::msg::handover::{ConsoleSpec, DiskBackSpec, FdRole, NetBackSpec, ToApp};
use shared::ring::Side;
use shared::spec::MachineSpec;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vmdriver_shim::crossing::{Bells, Crossing};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::{Descriptors, HandoverError, Received, Socket};
use vmdriver_shim::jail::{self, Cell, Io, Role, Room, Thread};
use vmdriver_shim::memory::SharedMemory;

/// How long the supervisor may take to say `Start`.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Descriptors beyond those there are when the jail closes: doorbells of disks, a console's client.
const DESCRIPTORS: u64 = 16;
/// And memory.
const MEMORY: u64 = 256 << 20;

/// A worker's means.
pub struct Attached {
    pub crossing: Arc<Crossing>,
    pub console: Box<dyn Console>,
    pub console_channel: u8,
    /// Network cards, in order.
    pub nets: Vec<NetBack>,
    /// Disks, in order.
    pub disks: Vec<DiskBack>,
    /// Faults armed from the start.
    pub faults: Vec<Order>,
    /// Most time between two turns of the wait loop, if the supervisor looks.
    pub heartbeat: Option<Duration>,
    /// Which back ends need system calls of their own.
    pub io: Io,
    /// What the jail lacks, in words.
    pub shortcomings: Vec<String>,
}

/// A network card's back end and its channel.
pub struct NetBack {
    pub channel: u8,
    pub back_end: Box<dyn Net>,
}

/// A disk's image and its channel.
pub struct DiskBack {
    pub channel: u8,
    pub image: Box<dyn Image>,
    pub read_only: bool,
}

/// Blocks the signals that would stop us for using a terminal in the background: the calls fail instead.
pub fn refuse_job_control() -> nix::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTIN);
    set.add(Signal::SIGTTOU);
    set.thread_block()
}

/// Takes `Start`.
pub fn attach(socket: &Socket) -> Result<Attached, ServeError> {
    if !socket.wait(START_LIMIT)? {
        return Err(ServeError::NoStart);
    }
    let Received::Message(
        ToApp::Start {
            spec,
            heartbeat_ms,
            console,
            nets,
            disks,
            faults,
            fds: roles,
        },
        fds,
    ) = socket.recv()?
    else {
        return Err(ServeError::NoStart);
    };
    spec.check()?;
    let mut given = Descriptors::new(roles, fds)?;
    let memory = SharedMemory::attach(given.take(FdRole::Memory)?)?;
    let bells = Bells {
        app: Doorbell::from_fd(given.take(FdRole::AppDoorbell)?)?,
        vmm: Doorbell::from_fd(given.take(FdRole::VmmDoorbell)?)?,
        vmm_kick: Doorbell::from_fd(given.take(FdRole::VmmKick)?)?,
    };
    let boot = BootId::current();

    let io = Io {
        network: nets.iter().any(|net| matches!(net, NetBackSpec::Nat { .. })),
        terminal: matches!(console, ConsoleSpec::Terminal { .. }),
    };
    let shortcomings = jail::enter(&Cell {
        role: Role::App,
        network: io.network,
        room: room(&spec, &nets, &disks, &given),
        required: spec.require_jail,
    })?;
    if io.terminal {
        // The supervisor's vanishing shows as a hang-up of the socket, and then the terminal must be put back first:
        // SIGKILL would leave it raw.
        nix::sys::prctl::set_pdeathsig(None).map_err(ServeError::Signals)?;
    }
    jail::confine(Thread::Attach(io))?;

    let console = open_console(console, &mut given)?;
    let nets = open_nets(&spec, nets, &mut given)?;
    let disks = open_disks(&spec, &disks, &boot, &mut given)?;
    given.finish()?;
    let console_channel = (0..)
        .zip(memory.layout().channels())
        .find(|(_, channel)| channel.kind == ChannelKind::Console)
        .map(|(number, _)| number)
        .ok_or(ServeError::NoChannel("console"))?;
    Ok(Attached {
        crossing: Crossing::new(Side::App, &memory, bells, spec.io),
        console,
        console_channel,
        nets,
        disks,
        faults,
        heartbeat: heartbeat_ms.map(|ms| Duration::from_millis(ms.into())),
        io,
        shortcomings,
    })
}

/// What the jail must leave a worker with these back ends.
fn room(spec: &MachineSpec, nets: &[NetBackSpec], disks: &[DiskBackSpec], given: &Descriptors) -> Room {
    let nats = nets.iter().filter(|net| matches!(net, NetBackSpec::Nat { .. }));
    let nats = nats.count() as u64;
    Room {
        // A socket for each of a card's flows, and the buffers of its connections.
        descriptors: DESCRIPTORS + nats * nat::MOST_SOCKETS,
        memory: MEMORY + nats * nat::MOST_BYTES,
        threads: disks.len() as u64,
        largest_file: largest_file(spec, disks, given),
    }
}

/// The most bytes a file has that these disks write to; a process has one such limit. None where the guest or the network
/// makes a file as long as it likes: a capture, a console's output.
fn largest_file(spec: &MachineSpec, disks: &[DiskBackSpec], given: &Descriptors) -> Option<u64> {
    let has_an_end = |(role, fd): (FdRole, BorrowedFd<'_>)| {
        let kind = fstat(fd).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        matches!(role, FdRole::Disk(_) | FdRole::Overlay(_)) || kind.is_ok_and(|kind| kind != SFlag::S_IFREG)
    };
    let written = disks.iter().zip(&spec.disks).map(|(back, disk)| match back {
        DiskBackSpec::Raw if disk.read_only => 0,
        DiskBackSpec::Raw => disk.sectors.saturating_mul(SECTOR as u64),
        DiskBackSpec::Overlay => Layout::new(disk.sectors).end,
    });
    let most = written.max().unwrap_or(0);
    given.left().all(has_an_end).then_some(most)
}

fn open_console(spec: ConsoleSpec, given: &mut Descriptors) -> Result<Box<dyn Console>, ServeError> {
    let host = |fd: OwnedFd| HostFd::new(fd).map_err(|errno| ServeError::Console(errno.into()));
    Ok(match spec {
        ConsoleSpec::None => Box::new(Nowhere),
        ConsoleSpec::Stream => {
            let input = given.take_optional(FdRole::ConsoleIn).map(host).transpose()?;
            let output = given.take_optional(FdRole::ConsoleOut).map(host).transpose()?;
            Box::new(Stream::new(input, output))
        }
        ConsoleSpec::Terminal { escape, restore } => {
            let input = host(given.take(FdRole::ConsoleIn)?)?;
            let output = host(given.take(FdRole::ConsoleOut)?)?;
            Box::new(Terminal::new(input, Some(output), escape, restore))
        }
        ConsoleSpec::Pty => Box::new(Pty::new(host(given.take(FdRole::ConsoleIn)?)?)),
        ConsoleSpec::Socket => {
            let client = given.take_optional(FdRole::ConsoleIn).map(host).transpose()?;
            Box::new(SocketConsole::new(client))
        }
    })
}

fn open_nets(
    spec: &MachineSpec,
    backs: Vec<NetBackSpec>,
    given: &mut Descriptors,
) -> Result<Vec<NetBack>, ServeError> {
    as_many("network cards", spec.nets.len(), backs.len())?;
    let mut cables = Vec::new();
    for ((number, back), card) in (0..).zip(backs).zip(&spec.nets) {
        let back_end = open_net(number, back, card.mac, given)?;
        let back_end = match given.take_optional(FdRole::Pcap(number)) {
            Some(file) => Box::new(Capture::new(back_end, file, &format!("net {number}"))),
            None => back_end,
        };
        let channel = spec.net_channel(number);
        cables.push(NetBack { channel, back_end });
    }
    Ok(cables)
}

fn open_net(
    number: u8,
    back: NetBackSpec,
    mac: [u8; 6],
    given: &mut Descriptors,
) -> Result<Box<dyn Net>, ServeError> {
    Ok(match back {
        NetBackSpec::None => Box::new(Unplugged),
        NetBackSpec::Tap { joins } => Box::new(Tap::new(given.take(FdRole::Tap(number))?, joins)),
        NetBackSpec::Nat {
            network,
            dns,
            forwards,
        } => {
            let forwards = (0..)
                .zip(forwards)
                .map(|(rule, forward)| Ok((forward, given.take(FdRole::Forward { net: number, rule })?)))
                .collect::<Result<_, HandoverError>>()?;
            let nat = Nat::new(network, mac, dns, forwards);
            Box::new(nat.map_err(|error| ServeError::Net(number, error))?)
        }
    })
}

fn open_disks(
    spec: &MachineSpec,
    backs: &[DiskBackSpec],
    boot: &io::Result<BootId>,
    given: &mut Descriptors,
) -> Result<Vec<DiskBack>, ServeError> {
    as_many("disks", spec.disks.len(), backs.len())?;
    let mut media = Vec::new();
    for ((number, back), disk) in (0..).zip(backs).zip(&spec.disks) {
        let bad = |error| ServeError::Disk(number, error);
        let file = HostFile::new(given.take(FdRole::Disk(number))?).map_err(bad)?;
        let image: Box<dyn Image> = match back {
            DiskBackSpec::Raw => Box::new(Raw::new(file, disk.sectors, disk.read_only)),
            DiskBackSpec::Overlay => {
                let identity = identity(&file, disk.sectors).map_err(bad)?;
                let base = Raw::new(file, disk.sectors, true);
                let file = HostFile::new(given.take(FdRole::Overlay(number))?).map_err(bad)?;
                let boot = boot.as_ref().map_err(|error| bad(error.kind().into()))?;
                let opened = Overlay::open(base, file, identity, *boot);
                Box::new(opened.map_err(|error| ServeError::Overlay(number, error))?)
            }
        };
        media.push(DiskBack {
            channel: spec.disk_channel(number),
            image,
            read_only: disk.read_only,
        });
    }
    Ok(media)
}

fn as_many(what: &'static str, wanted: usize, given: usize) -> Result<(), ServeError> {
    if wanted == given {
        return Ok(());
    }
    Err(ServeError::BackEnds { what, wanted, given })
}
