//! What the supervisor and its two workers say over their sockets: the start, with descriptors, and a few rare words
//! after it. Not a data path.
//!
//! Every message is one JSON text in one `SOCK_SEQPACKET` record of at most [`MAX_BYTES`]; descriptors travel beside
//! it, in the order of the message's `fds`. The receiver refuses a record whose descriptors are more, fewer or of
//! other roles than the message needs.

use crate::spec::MachineSpec;
use serde::{Deserialize, Serialize};

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
    /// Listening socket of a `socket:` console.
    ConsoleListen,
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
        /// What the console's descriptors are.
        console: ConsoleSpec,
        /// Roles of the descriptors, in order.
        fds: Vec<FdRole>,
    },
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
    /// Something the user should know (a peer that breaks the rules, a full disk). The worker limits their rate.
    Warning(String),
    /// Cannot go on; the process ends after this.
    Failed(String),
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
    /// A listening Unix socket as `ConsoleListen`.
    Socket,
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
