//! The machines that are measured by an agent in them: Worldswitch, QEMU, and the host itself in a network of its own.
//!
//! All three run the same agent; the guests boot the same kernel and initramfs. A [`Running`] one is ended when it goes.

pub mod media;
mod native;
mod ours;
mod qemu;

use crate::Outcome;
use crate::agent::{Agent, Reception};
use crate::process::Part;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub use native::start as start_native;
pub use ours::{Engine, engines};
pub use qemu::program as qemu_program;

/// Longest boot. A loaded host boots slowly.
const BOOT: Duration = Duration::from_secs(240);
/// Longest orderly end.
const END: Duration = Duration::from_secs(15);

/// What a guest's network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cable {
    /// A tap of this network namespace. The host has the first address.
    Tap {
        /// Its name.
        name: String,
        /// The host's address on it.
        host: Ipv4Addr,
        /// The guest's.
        guest: Ipv4Addr,
    },
    /// The machine's own address translation, behind which the host is 10.0.2.2 (QEMU's and ours alike).
    Nat,
}

impl Cable {
    /// Where the host listens.
    pub fn host(&self) -> Ipv4Addr {
        match self {
            Self::Tap { host, .. } => *host,
            Self::Nat => Ipv4Addr::LOCALHOST,
        }
    }

    /// Where the guest finds that.
    pub fn seen(&self) -> Ipv4Addr {
        match self {
            Self::Tap { host, .. } => *host,
            Self::Nat => Ipv4Addr::new(10, 0, 2, 2),
        }
    }
}

/// A guest to be started.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its network.
    pub cable: Cable,
    /// What our `vmapp run --set` gets.
    pub settings: Vec<String>,
    /// Image of its first disk.
    pub disk: Option<PathBuf>,
}

/// Who runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    /// This tree, on one of its engines.
    Ours(Engine),
    /// QEMU's TCG.
    Qemu,
}

/// Everybody who can run it here, and why the others cannot.
pub fn makers(media: &media::Media) -> Outcome<(Vec<Maker>, Vec<String>)> {
    let (engines, mut left_out) = engines(media)?;
    let mut makers: Vec<Maker> = engines.into_iter().map(Maker::Ours).collect();
    match qemu_program() {
        Ok(_) => makers.push(Maker::Qemu),
        Err(why) => left_out.push(why),
    }
    Ok((makers, left_out))
}

impl Maker {
    /// The machine's name in records, and its engine's.
    pub fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Ours(engine) => ("worldswitch", engine.name()),
            Self::Qemu => ("qemu", "tcg"),
        }
    }

    /// Version of the program.
    pub fn version(&self) -> String {
        match self {
            Self::Ours(_) => env!("CARGO_PKG_VERSION").into(),
            Self::Qemu => qemu::version(),
        }
    }

    /// Boots it; its agent is connected then.
    pub fn start(&self, guest: &Guest, media: &media::Media) -> Outcome<Running> {
        let reception = Reception::new(guest.cable.host())?;
        let mut words = format!(
            "console=ttyS0 quiet panic=-1 run=/bench agent={}:{}",
            guest.cable.seen(),
            reception.port
        );
        if let Cable::Tap { guest, .. } = guest.cable {
            words.push_str(&format!(" address={guest}/24"));
        }
        let work = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let (command, vm) = match self {
            Self::Ours(engine) => ours::command(*engine, guest, media, &words, work.path())?,
            Self::Qemu => (qemu::command(guest, media, &words, work.path())?, None),
        };
        Running::start(
            command,
            work,
            vm,
            &reception,
            match self {
                Self::Ours(_) => ours::parts,
                Self::Qemu => qemu::parts,
            },
        )
    }
}

/// How `vmapp status` finds a VM.
#[derive(Clone, Debug)]
pub struct Named {
    program: PathBuf,
    runtime: PathBuf,
    name: String,
}

/// A machine whose agent is connected.
pub struct Running {
    /// The way to its agent.
    pub agent: Agent,
    /// Whose processor time is told apart. The first is the one that runs the guest's code.
    pub parts: Vec<Part>,
    child: Child,
    vm: Option<Named>,
    _work: tempfile::TempDir,
}

impl Running {
    fn start(
        mut command: Command,
        work: tempfile::TempDir,
        vm: Option<Named>,
        reception: &Reception,
        parts: fn(u32) -> Outcome<Vec<Part>>,
    ) -> Outcome<Self> {
        let log = work.path().join("log");
        let said = fs::File::create(&log)?;
        command
            .stdin(std::process::Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let name = command.get_program().display().to_string();
        let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let connected = reception.accept(BOOT, || match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{name} ended: {status}").into()),
        });
        let ready = connected.and_then(|control| Ok((Agent::new(control)?, parts(child.id())?)));
        match ready {
            Ok((agent, parts)) => Ok(Self {
                agent,
                parts,
                child,
                vm,
                _work: work,
            }),
            Err(error) => {
                end(&mut child, Duration::ZERO);
                Err(format!("{error}\n{}", last_lines(&log, work.path())).into())
            }
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The VM's counters, as `vmapp status --json` prints them; `None` of a machine that is not ours.
    pub fn status(&self) -> Outcome<Option<Value>> {
        let Some(vm) = &self.vm else {
            return Ok(None);
        };
        let output = Command::new(&vm.program)
            .args(["status", &vm.name, "--json"])
            .env("XDG_RUNTIME_DIR", &vm.runtime)
            .output()?;
        if !output.status.success() {
            return Err(format!("vmapp status: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(Some(serde_json::from_slice(&output.stdout)?))
    }

    /// Lets the guest power itself off: its agent ends when nobody commands it.
    pub fn stop(self) {
        let Self {
            agent,
            mut child,
            _work,
            ..
        } = self;
        drop(agent);
        end(&mut child, END);
    }
}

/// Waits so long for a process to end by itself, then makes it: twice politely (vmapp's second SIGTERM does not wait for the
/// guest), then not.
fn end(child: &mut Child, patience: Duration) {
    let mut gone = |limit: Duration| {
        let began = Instant::now();
        loop {
            if !matches!(child.try_wait(), Ok(None)) {
                return true;
            }
            if began.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    if gone(patience) {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
        // It may have ended by itself; it is not reaped yet, so the number is still its own.
        i32::try_from(child.id())
            .map(|id| kill(Pid::from_raw(id), signal))
            .ok();
        if (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !matches!(child.try_wait(), Ok(None))
        }) {
            return;
        }
    }
}

/// The last of what the machine and its guest said.
fn last_lines(log: &Path, work: &Path) -> String {
    let mut text = String::new();
    for file in [log, &work.join("console")] {
        let said = fs::read(file).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let from = lines.len().saturating_sub(12);
        text.extend(lines[from..].iter().map(|line| format!("  {line}\n")));
    }
    text
}
