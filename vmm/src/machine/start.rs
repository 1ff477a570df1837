//! The start of a vmm: from the supervisor's hand-over to a machine that runs.
//!
//! Order matters. What needs a right (the engine's device) happens first; then the jail closes, around the process and then
//! around each of its two threads; only then is the first byte of the guest's files read (they came open), and the first
//! guest instruction run. A refused hand-over or a guest that does not fit ends in [`Outcome::Failed`] with the reason in
//! words, told to the supervisor.

use super::run_loop::tsc_scale;
use super::{Board, BoardConfig, BoardError, Ear, Machine, voice};
use crate::boot::{self, Boot, BootError};
use crate::engine::EngineError;
use crate::engine::cpu_model::CpuModel;
use crate::engine::kvm;
use crate::engine::select::{Selected, select};
use crate::mem::{GuestMemory, MemoryError};
use crate::time::Clock;
use shared::msg::handover::{FdRole, FromVmm, Outcome, ToVmm};
use shared::ring::Side;
use shared::spec::{BootSpec, MachineSpec, SpecError};
use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use vmdriver_shim::crossing::{Bells, Crossing, CrossingError};
use vmdriver_shim::doorbell::{Doorbell, DoorbellError};
use vmdriver_shim::handover::{Descriptors, HandoverError, Received, Socket};
use vmdriver_shim::jail::{self, Cell, JailError, Role, Room, Thread};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::{self, SpawnError};

/// How long a supervisor may take to say what to run.
const HANDOVER_LIMIT: Duration = Duration::from_secs(10);
/// Beyond what is there when the jail closes, guest memory included: the ear's doorbell, twice; the interpreter's traces
/// (at most some 200 MiB), the devices, two heaps.
const ROOM: Room = Room {
    descriptors: 8,
    memory: 512 << 20,
    // The ear.
    threads: 1,
    // It writes none: what it says goes through its socket.
    largest_file: Some(0),
};

/// Why no machine came to be.
#[derive(Debug, Error)]
pub enum StartError {
    /// Not started by a supervisor, or it died.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The hand-over was not as agreed.
    #[error("hand-over: {0}")]
    Handover(#[from] HandoverError),
    /// No start came.
    #[error("the supervisor sent no start within {} s", HANDOVER_LIMIT.as_secs())]
    NoStart,
    /// The specification is refused.
    #[error("machine specification: {0}")]
    Spec(#[from] SpecError),
    /// The shared memory is refused.
    #[error("shared memory: {0}")]
    Shared(#[from] vmdriver_shim::memory::MemoryError),
    /// A doorbell is none.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The board.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The kernel or image.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Rights could not be given up.
    #[error("cannot give up rights: {0}")]
    Jail(#[from] JailError),
    /// The control channel.
    #[error(transparent)]
    Crossing(#[from] CrossingError),
    /// The ear.
    #[error("cannot start listening to the supervisor: {0}")]
    Ear(#[source] std::io::Error),
}

/// The whole life of the vmm process.
pub fn main() -> ExitCode {
    let socket = match introduce() {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            eprintln!("vmm: {error}; it is started by `vmapp run`, never by hand");
            return ExitCode::from(2);
        }
    };
    voice::speak_through(&socket);
    let mut shortcomings = Vec::new();
    let made = start(&socket, &mut shortcomings);
    if let Ok((_, started)) = &made {
        tell(&socket, started);
    }
    // After the engine line, which is the first a user sees.
    for shortcoming in shortcomings {
        tracing::warn!("{shortcoming}");
    }
    let outcome = match made {
        Ok((mut machine, _)) => machine.run(),
        Err(error) => Outcome::Failed(error.to_string()),
    };
    let failed = matches!(outcome, Outcome::Failed(_));
    tell(&socket, &FromVmm::Ended(outcome));
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A supervisor that does not hear any more is dead, and so are we soon: nothing to be done about an error.
fn tell(socket: &Socket, message: &FromVmm) {
    socket.send(message, &[]).ok();
}

fn introduce() -> Result<Socket, StartError> {
    spawn::die_with_parent()?;
    spawn::leave_signals_to_supervisor()?;
    Ok(spawn::inherited_socket()?)
}

/// Makes the machine and the word that it starts. What the host could not give goes into `shortcomings`, also where
/// nothing comes of it.
fn start(socket: &Arc<Socket>, shortcomings: &mut Vec<String>) -> Result<(Machine, FromVmm), StartError> {
    let (spec, mut fds) = receive(socket)?;
    spec.check()?;
    let shared = SharedMemory::attach(fds.take(FdRole::Memory)?)?;
    let bells = Bells {
        app: Doorbell::from_fd(fds.take(FdRole::AppDoorbell)?)?,
        vmm: Doorbell::from_fd(fds.take(FdRole::VmmDoorbell)?)?,
        vmm_kick: Doorbell::from_fd(fds.take(FdRole::VmmKick)?)?,
    };
    let rung = bells.vmm_kick.try_clone()?;
    let boot = boot_files(&spec.boot, &mut fds)?;
    fds.finish()?;

    let memory = Arc::new(GuestMemory::new(spec.memory_bytes)?);
    let Selected {
        mut engine,
        model,
        why,
        warnings,
    } = select(spec.engine, &memory, &CpuModel::default_level())?;
    shortcomings.extend(warnings);
    // The last right that needs root is used: /dev/kvm is open. What follows reads the guest's files.
    let lacking = jail::enter(&Cell {
        role: Role::Vmm,
        network: false,
        room: ROOM,
        required: spec.require_jail,
    })?;
    shortcomings.extend(lacking.into_iter().map(|wall| format!("vmm: {wall}")));
    let kick_bell = (!engine.polls()).then_some(rung);
    let ear = Ear::listen(Arc::clone(socket), kick_bell, engine.kick_handle()).map_err(StartError::Ear)?;
    jail::confine(Thread::Vcpu {
        kvm: engine.name() == kvm::NAME,
    })?;

    let crossing = Crossing::new(Side::Vmm, &shared, bells, spec.io);
    let clock = Clock::start();
    let board = Board::new(BoardConfig {
        memory: Arc::clone(&memory),
        crossing: Arc::clone(&crossing),
        tsc: tsc_scale(&*engine, &clock),
        unix_ns: unix_ns(),
        phys_bits: model.physical_bits(),
        spec: spec.clone(),
    })?;
    let loaded = boot::load(&boot, &memory, Some(board.rsdp_at()))?;
    drop(boot);
    engine.load(&loaded.state)?;
    let started = FromVmm::Started {
        engine: engine.name().into(),
        why,
    };
    let machine = Machine::new(engine, board, crossing, ear, clock);
    Ok((machine.with_ports(spec.io.ports)?, started))
}

fn receive(socket: &Socket) -> Result<(MachineSpec, Descriptors), StartError> {
    if !socket.wait(HANDOVER_LIMIT)? {
        return Err(StartError::NoStart);
    }
    match socket.recv::<ToVmm>()? {
        Received::Message(ToVmm::Start { spec, fds }, received) => {
            Ok((*spec, Descriptors::new(fds, received)?))
        }
        Received::Message(..) | Received::HungUp | Received::Nothing => Err(StartError::NoStart),
    }
}

fn boot_files(spec: &BootSpec, fds: &mut Descriptors) -> Result<Boot, StartError> {
    let kernel = File::from(fds.take(FdRole::Kernel)?);
    let BootSpec::Kernel {
        cmdline,
        initrd,
        modules,
        entry,
    } = spec
    else {
        return Ok(Boot::Image(kernel));
    };
    let initrd = if *initrd {
        Some(File::from(fds.take(FdRole::Initrd)?))
    } else {
        None
    };
    let modules = (0u8..)
        .zip(modules)
        .map(|(n, line)| Ok((File::from(fds.take(FdRole::Module(n))?), line.clone())))
        .collect::<Result<_, HandoverError>>()?;
    Ok(Boot::Kernel {
        kernel,
        cmdline: cmdline.clone(),
        initrd,
        modules,
        entry: *entry,
    })
}

/// Wall time now, in nanoseconds since 1970; a host clock before that reads as 1970.
fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
