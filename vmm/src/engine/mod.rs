//! vCPU engines: how guest instructions are executed, never what the guest sees.
//!
//! An engine is `run(Entry) -> Exit`, both plain data. It does no I/O and owns no device: a port access comes out as
//! [`Exit::Port`], and the answer goes in with the next [`Entry`]. All engines share one CPU model
//! ([`cpu_model`]), one architectural state ([`state`]) and one guest memory, so any engine can load what another saved.
//!
//! | engine | module | what it is |
//! |---|---|---|
//! | `kvm` | [`kvm`] | hardware virtualization through kvm-ioctls; the chipset stays ours |
//! | `interp` | [`interp`] | decodes guest code once and interprets it: every mode, any host |
//! | `scripted` | [`scripted`] | plays a list of exits: device and loop tests with no CPU |
//!
//! [`select`] chooses one. [`entry_state`] makes the states boot loaders start from; `check` accepts states from outside.

mod check;
pub mod cpu_model;
pub mod entry_state;
pub mod interp;
pub mod kvm;
pub mod scripted;
pub mod select;
pub mod soft;
pub mod state;

use crate::bus::Width;
use shared::mem::Mapped;
use shared::ring::Attention;
use state::CpuState;
use thiserror::Error;

/// What goes into the vCPU with the next run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The answer to the last exit, where it asked for one.
    pub reply: Reply,
    /// An event to inject. Only given when [`Engine::view`] said it can be taken ([`View::interruptible`]; an NMI:
    /// [`View::nmi_ready`]).
    pub inject: Option<Inject>,
    /// Come out with [`Exit::Window`] as soon as an external interrupt could be injected.
    pub want_window: bool,
    /// With `want_window`: an NMI waits too. Come out as soon as that could be injected, interrupts on or off.
    pub nmi_waits: bool,
    /// Task priority of the local APIC (CR8, 0..=15).
    pub cr8: u8,
}

/// Answer to an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reply {
    /// The exit asked for none, or was a write.
    #[default]
    None,
    /// Value of a port, memory or MSR read.
    Value(u64),
    /// The access faults: #GP(0). MSR accesses only.
    Fault,
}

/// An event to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inject {
    /// External interrupt with this vector.
    Interrupt(u8),
    /// Non-maskable interrupt.
    Nmi,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The guest reads; a [`Reply::Value`] is owed.
    Read,
    /// The guest writes this.
    Write(u64),
}

/// Why the vCPU came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// IN, OUT, or one element of INS, OUTS (an engine hands out repeated ones singly). Width at most Dword.
    Port {
        /// Port number.
        port: u16,
        /// Operand width.
        width: Width,
        /// Direction and data.
        op: Op,
    },
    /// Access to a guest-physical address that is not RAM. At most 8 bytes, naturally split by the engine.
    Mmio {
        /// Guest-physical address.
        at: u64,
        /// Access width.
        width: Width,
        /// Direction and data.
        op: Op,
    },
    /// RDMSR or WRMSR of a register the chipset owns (APIC base, x2APIC, TSC deadline).
    Msr {
        /// Register number (ECX).
        index: u32,
        /// Direction and data.
        op: Op,
    },
    /// HLT with interrupts possible or not; see [`View`]. A run that injects nothing comes out with it again.
    Halt,
    /// The window asked for is open.
    Window,
    /// Told to look up: kick, signal, or CR8 written (the new value is in [`View::cr8`]).
    Kicked,
    /// Triple fault.
    Shutdown,
    /// Debug exception for an outside debugger.
    Debug,
    /// The engine cannot go on; the machine ends with this message.
    Failed(String),
}

impl Exit {
    /// Whether [`Engine::save`] gives a complete state right after this exit: true where no answer is owed.
    pub fn savable(&self) -> bool {
        match self {
            Self::Port { op, .. } | Self::Mmio { op, .. } => *op != Op::Read,
            // A write may still be answered with Reply::Fault.
            Self::Msr { .. } | Self::Failed(_) => false,
            Self::Halt | Self::Window | Self::Kicked | Self::Shutdown | Self::Debug => true,
        }
    }
}

/// What the run loop needs to know of the vCPU after each exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// An external interrupt would be taken now: IF set, no STI or MOV SS shadow, nothing being injected, no answer
    /// owed (a read may still fault when it is answered).
    pub interruptible: bool,
    /// EFLAGS.IF.
    pub interrupts_on: bool,
    /// An NMI can be given now; the vCPU itself holds it back while another is handled.
    pub nmi_ready: bool,
    /// CR8: what the guest thinks its task priority is.
    pub cr8: u8,
}

/// Gets a running vCPU out, from any thread, soon: its `run` returns [`Exit::Kicked`], also when it had not started yet.
pub trait Kick: Send + Sync {
    /// Kicks. Cheap when the vCPU is not running.
    fn kick(&self);
}

/// An engine failed to be made, to load or to save.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The engine cannot run here.
    #[error("{engine}: {why}")]
    Unavailable {
        /// Which.
        engine: &'static str,
        /// Why, and what would help.
        why: String,
    },
    /// A host call failed.
    #[error("{what}: {source}")]
    Host {
        /// Which call, on what.
        what: &'static str,
        /// The host's error.
        source: std::io::Error,
    },
    /// The state asks for what this engine or CPU model does not have.
    #[error("cannot load vCPU state: {0}")]
    BadState(String),
    /// In the middle of an instruction that needs further exits (a page-crossing MMIO write, a string of port
    /// writes): run on and save at the next savable exit.
    #[error("cannot save vCPU state: an instruction is half done")]
    NotSavable,
}

/// One vCPU.
pub trait Engine {
    /// `kvm`, `interp`, `bt`, `scripted`.
    fn name(&self) -> &'static str;
    /// Runs until the next exit.
    fn run(&mut self, entry: Entry) -> Exit;
    /// The vCPU as the last exit left it.
    fn view(&self) -> View;
    /// Whether guest code looks at the IRQ bitmap by itself while it runs (software engines), so that nobody has to
    /// kick it.
    fn polls(&self) -> bool;
    /// Gives the engine the words it looks at while guest code runs, if it is one that [`polls`](Self::polls).
    fn watch(&mut self, _attention: Attention<Mapped>) {}
    /// Opens or closes address line 20. Engines on silicon cannot mask it and do nothing.
    fn set_a20(&mut self, _open: bool) {}
    /// A handle that kicks this vCPU.
    fn kick_handle(&self) -> std::sync::Arc<dyn Kick>;
    /// Asks to be kicked by the clock at `after` from now at the latest (replaces an earlier request); `None` cancels.
    fn alarm(&mut self, after: Option<std::time::Duration>);
    /// The guest's time stamp counter now.
    fn tsc(&self) -> u64;
    /// Frequency of the guest's time stamp counter in kHz.
    fn tsc_khz(&self) -> u32;
    /// Guest instructions run since the engine was made, to within those of one trace; `None`: it does not count them.
    fn instructions(&self) -> Option<u64> {
        None
    }
    /// The whole architectural state; only right after a savable exit.
    fn save(&mut self) -> Result<CpuState, EngineError>;
    /// Replaces the whole architectural state.
    fn load(&mut self, state: &CpuState) -> Result<(), EngineError>;
}
