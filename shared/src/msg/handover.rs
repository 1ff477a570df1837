//! What the supervisor and its two workers say over their sockets: the start, with descriptors, and a few rare words
//! after it. Not a data path.
//!
//! Every message is one JSON text in one `SOCK_SEQPACKET` record of at most [`MAX_BYTES`]; descriptors travel beside
//! it, in the order of the message's `fds`, and only from the supervisor to a worker: no worker can pass any. The receiver
//! refuses a record whose descriptors are more, fewer or of other roles than the message needs.

use super::fault::{Injection, Order, Progress};
use crate::spec::MachineSpec;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// Longest record, in bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Most descriptors with one record.
pub const MAX_FDS: usize = 64;

/// What a passed descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdRole {
    /// The sealed shared memory.
    Memory,
    /// eventfd: wakes vmapp.
    AppDoorbell,
    /// eventfd: wakes a vmm that sleeps.
    VmmDoorbell,
    /// eventfd: gets a vmm out of guest code.
    VmmKick,
    /// Kernel, flat image or firmware, read-only.
    Kernel,
    /// Initial RAM disk, read-only.
    Initrd,
    /// Multiboot module n, read-only.
    Module(u8),
    /// Console input of the host (terminal, pty master, file or connected socket).
    ConsoleIn,
    /// Console output of the host.
    ConsoleOut,
    /// The tap of network card n, open and attached, non-blocking.
    Tap(u8),
    /// The capture file of network card n, open for appending.
    Pcap(u8),
    /// A bound socket of network card n that host clients reach: its forward rule m, listening if it is TCP.
    Forward {
        /// Network card.
        net: u8,
        /// Index in [`NetBackSpec::Nat`]'s `forwards`.
        rule: u8,
    },
    /// The image of disk n, locked, open for what its mode allows: for an overlay, the base, read-only.
    Disk(u8),
    /// The overlay file of disk n, locked, open for reading and writing.
    Overlay(u8),
}

/// Supervisor to vmm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToVmm {
    /// First record: everything needed to run.
    Start {
        /// The machine, to be checked again.
        spec: Box<MachineSpec>,
        /// Roles of the descriptors, in order.
        fds: Vec<FdRole>,
    },
    /// Press the power button.
    PowerButton,
    /// End now, as if the power were cut; answered with [`Outcome::Stopped`].
    Stop,
}

/// vmm to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromVmm {
    /// The guest is about to run its first instruction.
    Started {
        /// Which engine runs.
        engine: String,
        /// Why that one: the loud engine line.
        why: String,
    },
    /// Something the user should know (a register KVM refuses, a right that could not be given up).
    Warning(String),
    /// The VM is over; the process ends after this.
    Ended(Outcome),
}

/// Supervisor to I/O worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToApp {
    /// First record.
    Start {
        /// The machine, as the vmm has it.
        spec: Box<MachineSpec>,
        /// How often it must show that its loop turns, in milliseconds, if anybody looks.
        heartbeat_ms: Option<u32>,
        /// What the console's descriptors are.
        console: ConsoleSpec,
        /// The back end of each network card, as many as `spec.nets`.
        nets: Vec<NetBackSpec>,
        /// The back end of each disk, as many as `spec.disks`.
        disks: Vec<DiskBackSpec>,
        /// Faults that are armed from the first moment on.
        faults: Vec<Order>,
        /// Roles of the descriptors, in order.
        fds: Vec<FdRole>,
    },
    /// The faults that are armed from now on: those not among them are off, and those known go on where they are. Answered
    /// with [`FromApp::Injected`].
    Faults(Vec<Order>),
    /// A client of a `socket:` console, with its connection beside it as [`FdRole::ConsoleIn`]. Only while there is none:
    /// before the first, and after [`FromApp::ConsoleClientGone`]. A worker's start has the client there is already.
    ConsoleClient,
    /// Drain what is in the rings (console output above all) to the host and exit.
    Finish,
}

/// I/O worker to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromApp {
    /// Attached and serving.
    Ready,
    /// The user typed the escape key and then this.
    Escape(Escape),
    /// The client of the `socket:` console is gone: there may be another.
    ConsoleClientGone,
    /// Something the user should know (a peer that breaks the rules, a full disk). The worker limits their rate.
    Warning(String),
    /// Cannot go on; the process ends after this.
    Failed(String),
    /// Scripted faults struck, and how far every order is.
    Injected {
        /// The strikes, in order.
        injections: Vec<Injection>,
        /// Every order armed.
        progress: Vec<Progress>,
    },
    /// It stops now, by a scripted fault: to be continued (SIGCONT) after so many milliseconds, and until it says
    /// [`Continued`](Self::Continued).
    Stopping {
        /// How long.
        ms: u32,
    },
    /// It goes on after [`Stopping`](Self::Stopping).
    Continued,
    /// Answer to [`ToApp::Finish`]: all output is out.
    Finished,
}

/// Which back end the console's descriptors belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleSpec {
    /// Nowhere: output is dropped, there is no input. No descriptors.
    #[default]
    None,
    /// Pipes or files as they are: `ConsoleIn` and `ConsoleOut`, each optional.
    Stream,
    /// The user's terminal: `ConsoleIn` and `ConsoleOut`.
    Terminal {
        /// The escape key's byte, if there is one.
        escape: Option<u8>,
        /// What the terminal must be set back to should the supervisor vanish.
        restore: TerminalModes,
    },
    /// The master of a pseudo-terminal as `ConsoleIn`, for both directions.
    Pty,
    /// A Unix socket on which the supervisor listens: its client as `ConsoleIn`, if there is one, and the later ones each
    /// with a [`ToApp::ConsoleClient`].
    Socket,
}

/// Which frames of one flow a tap takes joined. If any, each frame on its descriptor has a `struct virtio_net_hdr` of 10
/// octets in front (`IFF_VNET_HDR`), either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joins {
    /// Segments of TCP.
    pub tcp: bool,
    /// Datagrams of UDP.
    pub udp: bool,
}

impl Joins {
    /// Whether there are any.
    pub fn any(self) -> bool {
        self.tcp || self.udp
    }
}

/// What is at the other end of a network card's cable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetBackSpec {
    /// Nothing: the cable is out.
    #[default]
    None,
    /// A tap of the host, as [`FdRole::Tap`].
    Tap {
        /// What it takes.
        joins: Joins,
    },
    /// A small private network with a router that translates to the host's sockets.
    Nat {
        /// The network's address and prefix length (8 to 27): the router, which serves DHCP, DNS and ping, has the second
        /// address of it, the DNS server the third, the guest gets the fifteenth, as users of QEMU and VMware know it.
        network: (Ipv4Addr, u8),
        /// Name servers of the host that questions are passed to, in order.
        dns: Vec<IpAddr>,
        /// Ways in from the host, one [`FdRole::Forward`] each.
        forwards: Vec<ForwardSpec>,
    },
}

/// One way in: what arrives on a socket of the host goes to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardSpec {
    /// UDP; else TCP.
    pub udp: bool,
    /// Port of the guest.
    pub guest_port: u16,
}

/// What holds a disk's sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBackSpec {
    /// A file or block device as it is: [`FdRole::Disk`].
    Raw,
    /// Writes kept apart: [`FdRole::Overlay`] in front of [`FdRole::Disk`].
    Overlay,
}

/// A terminal's modes, as termios(3) names them. Speeds are left as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalModes {
    /// `c_iflag`.
    pub input: u32,
    /// `c_oflag`.
    pub output: u32,
    /// `c_cflag`.
    pub control: u32,
    /// `c_lflag`.
    pub local: u32,
    /// `c_cc`.
    pub chars: Vec<u8>,
}

/// What the user asked for on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escape {
    /// Power button.
    PowerButton,
    /// End the VM now.
    End,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The guest powered off.
    PoweredOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest triple-faulted.
    TripleFault,
    /// The guest wrote this to the debug-exit port.
    DebugExit(u8),
    /// Ended on the supervisor's word.
    Stopped,
    /// The VM could not go on.
    Failed(String),
}
