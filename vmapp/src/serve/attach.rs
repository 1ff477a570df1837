//! From the supervisor's `Start` to a worker that can serve: descriptors by role, memory, console, rights given up.

use super::ServeError;
use crate::back::console::host_fd::HostFd;
use crate::back::console::pty::Pty;
use crate::back::console::socket::Socket as SocketConsole;
use crate::back::console::stdio::{Stream, Terminal};
use crate::back::console::{Console, Nowhere};
use nix::sys::signal::{SigSet, Signal};
use shared::abi::ChannelKind;
use shared::msg::handover::{ConsoleSpec, FdRole, ToApp};
use shared::ring::Side;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use vmdriver_shim::crossing::{Bells, Crossing};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::{Descriptors, Received, Socket};
use vmdriver_shim::jail::{self, Role};
use vmdriver_shim::memory::SharedMemory;

/// How long the supervisor may take to say `Start`.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A worker's means.
pub struct Attached {
    pub crossing: Arc<Crossing>,
    pub console: Box<dyn Console>,
    pub console_channel: u8,
    /// What could not be given up, in words.
    pub shortcomings: Vec<String>,
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
            console,
            nets: _,
            disks: _,
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
    let on_terminal = matches!(console, ConsoleSpec::Terminal { .. });
    let console = open_console(console, &mut given)?;
    given.finish()?;

    let shortcomings = jail::drop_privileges(Role::App)?;
    if on_terminal {
        // The supervisor's vanishing shows as a hang-up of the socket, and then the terminal must be put back first:
        // SIGKILL would leave it raw.
        nix::sys::prctl::set_pdeathsig(None).map_err(ServeError::Signals)?;
    }
    let console_channel = (0..)
        .zip(memory.layout().channels())
        .find(|(_, channel)| channel.kind == ChannelKind::Console)
        .map(|(number, _)| number)
        .ok_or(ServeError::NoChannel("console"))?;
    Ok(Attached {
        crossing: Crossing::new(Side::App, &memory, bells, spec.io),
        console,
        console_channel,
        shortcomings,
    })
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
            let listener = given.take(FdRole::ConsoleListen)?;
            let client = given.take_optional(FdRole::ConsoleIn).map(host).transpose()?;
            Box::new(SocketConsole::new(listener, client).map_err(ServeError::Console)?)
        }
    })
}
