//! One incarnation of the machine: the shared memory, the doorbells and the two workers, from spawn to reap. The vmm is one
//! process; I/O workers come one after the other, each with the same memory, doorbells and descriptors of the host.

use super::StartError;
use super::host_console::HostConsole;
use super::host_disks::HostDisks;
use super::host_net::HostNets;
use super::stderr::Stderr;
use super::verdict::plain;
use super::watchdog;
use super::worker::Worker;
use crate::config::Config;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use shared::abi::counters::{AppCounter, VmmCounter};
use shared::abi::words::APP_HEARTBEAT;
use shared::mem::Memory;
use shared::msg::fault::Order;
use shared::msg::handover::{FdRole, FromApp, ToApp, ToVmm};
use shared::spec::MachineSpec;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering::Relaxed;
use vmdriver_shim::counters::Counters;
use vmdriver_shim::crossing::Bells;
use vmdriver_shim::handover::{HandoverError, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::Child;

/// Environment variable that names another vmm program: for tests.
const VMM_VARIABLE: &str = "WORLDSWITCH_VMM";

/// The host's end of every device: opened once, lent to each pair in turn.
pub struct HostDevices {
    /// The console.
    pub console: HostConsole,
    /// The network cards' other ends.
    pub nets: HostNets,
    /// The disks' images.
    pub disks: HostDisks,
}

impl HostDevices {
    /// Opens all the config asks for.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            disks: HostDisks::open(&config.host.disks)?,
            nets: HostNets::open(&config.host.nets)?,
            console: HostConsole::open(&config.host)?,
        })
    }

    fn fds(&self) -> impl Iterator<Item = (FdRole, BorrowedFd<'_>)> {
        self.console.fds().chain(self.nets.fds()).chain(self.disks.fds())
    }
}

/// This very program, whatever is at its path by now.
const MYSELF: &str = "/proc/self/exe";

/// Which program the next I/O worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The supervisor's own, which fits for sure.
    Same,
    /// What is at the supervisor's path now: another version, perhaps.
    OnDisk,
}

/// The workers. Dropped, both are dead and reaped.
pub struct Pair {
    /// The privileged one.
    pub vmm: Worker,
    /// The unprivileged one.
    pub app: Worker,
    /// What it said before the vmm was started, if that was waited for.
    pub early: Option<FromApp>,
    memory: SharedMemory,
    bells: Bells,
    spec: MachineSpec,
    heartbeat_ms: Option<u32>,
}

impl Pair {
    /// Starts both workers and hands everything over. From then on only words and deaths come.
    pub fn start(config: &Config, host: &HostDevices, faults: Vec<Order>) -> Result<Self, StartError> {
        let files = boot_files(config)?;
        let mut spec = config.spec.clone();
        host.disks.measure(&mut spec.disks);
        let memory = SharedMemory::create(&spec.channels()).map_err(StartError::crossing)?;
        let bells = Bells::new().map_err(StartError::crossing)?;
        let heartbeat_ms = heartbeat_ms(config);
        let mut app = start_app(
            Path::new(MYSELF),
            &memory,
            &bells,
            &spec,
            heartbeat_ms,
            faults,
            host,
        )?;
        let early = if spec.require_jail {
            Some(jailed(&mut app)?)
        } else {
            None
        };

        let program = match std::env::var_os(VMM_VARIABLE) {
            Some(program) => PathBuf::from(program),
            None => here()?.with_file_name("vmm"),
        };
        let files = files.iter().map(|(role, fd)| (*role, fd.as_fd()));
        let fds = common(&memory, &bells).into_iter().chain(files);
        let vmm = spawn(&program, &[], fds, |fds| ToVmm::Start {
            spec: Box::new(spec.clone()),
            fds,
        })?;
        Ok(Self {
            vmm,
            app,
            early,
            memory,
            bells,
            spec,
            heartbeat_ms,
        })
    }

    /// Starts another I/O worker in the place of one that is dead.
    pub fn replace_app(
        &mut self,
        program: Program,
        host: &HostDevices,
        faults: Vec<Order>,
    ) -> Result<(), StartError> {
        let path = match program {
            Program::Same => PathBuf::from(MYSELF),
            Program::OnDisk => here()?,
        };
        self.app = start_app(
            &path,
            &self.memory,
            &self.bells,
            &self.spec,
            self.heartbeat_ms,
            faults,
            host,
        )?;
        Ok(())
    }

    /// The I/O worker's sign of life: changes as long as its loop turns.
    pub fn heartbeat(&self) -> u64 {
        self.memory.mem().load_u64(APP_HEARTBEAT, Relaxed)
    }

    /// The vmm's counters.
    pub fn vmm_counters(&self) -> Counters<VmmCounter> {
        Counters::new(self.memory.mem())
    }

    /// The I/O worker's counters.
    pub fn app_counters(&self) -> Counters<AppCounter> {
        Counters::new(self.memory.mem())
    }
}

/// Where this program is, or was before it was replaced by another version.
fn here() -> Result<PathBuf, StartError> {
    const REPLACED: &[u8] = b" (deleted)";
    let path = std::env::current_exe().map_err(StartError::Myself)?;
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_suffix(REPLACED) {
        Some(before) if !path.exists() => Ok(PathBuf::from(OsStr::from_bytes(before))),
        _ => Ok(path),
    }
}

/// Waits until the I/O worker serves, in a whole jail: with `require_jail` no guest starts before. (The vmm refuses by
/// itself, before its guest's first instruction.)
fn jailed(app: &mut Worker) -> Result<FromApp, StartError> {
    match app.first_word(watchdog::START_LIMIT) {
        Some(FromApp::Failed(why)) => Err(StartError::Jail(plain(&why))),
        Some(word) => Ok(word),
        None => {
            let lines = app.last_lines().join("; ");
            let said = if lines.is_empty() { "nothing" } else { &lines };
            Err(StartError::Jail(plain(&format!(
                "it did not get ready, and said: {said}"
            ))))
        }
    }
}

fn heartbeat_ms(config: &Config) -> Option<u32> {
    let pace = watchdog::pace(config.host.watchdog_ms)?;
    u32::try_from(pace.as_millis()).ok()
}

/// What both workers get.
fn common<'a>(memory: &'a SharedMemory, bells: &'a Bells) -> [(FdRole, BorrowedFd<'a>); 4] {
    [
        (FdRole::Memory, memory.fd()),
        (FdRole::AppDoorbell, bells.app.as_fd()),
        (FdRole::VmmDoorbell, bells.vmm.as_fd()),
        (FdRole::VmmKick, bells.vmm_kick.as_fd()),
    ]
}

fn start_app(
    program: &Path,
    memory: &SharedMemory,
    bells: &Bells,
    spec: &MachineSpec,
    heartbeat_ms: Option<u32>,
    faults: Vec<Order>,
    host: &HostDevices,
) -> Result<Worker, StartError> {
    let fds = common(memory, bells).into_iter().chain(host.fds());
    spawn(program, &["io-worker"], fds, |fds| ToApp::Start {
        spec: Box::new(spec.clone()),
        heartbeat_ms,
        console: host.console.spec().clone(),
        nets: host.nets.specs().to_vec(),
        disks: host.disks.specs().to_vec(),
        faults,
        fds,
    })
}

fn spawn<'a, M: serde::Serialize>(
    program: &Path,
    args: &[&str],
    fds: impl Iterator<Item = (FdRole, BorrowedFd<'a>)>,
    start: impl FnOnce(Vec<FdRole>) -> M,
) -> Result<Worker, StartError> {
    let (ours, theirs) = Socket::pair().map_err(StartError::crossing)?;
    let ours = ours.words_only();
    let (stderr, its_stderr) = Stderr::pipe().map_err(StartError::crossing)?;
    let child = Child::spawn(program, args, theirs, Stdio::from(its_stderr)).map_err(StartError::crossing)?;
    let (roles, fds): (Vec<FdRole>, Vec<BorrowedFd>) = fds.unzip();
    match ours.send(&start(roles), &fds) {
        // It died before it listened: how, is heard as of any other.
        Err(HandoverError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {}
        sent => sent.map_err(StartError::crossing)?,
    }
    Ok(Worker::new(child, ours, stderr))
}

/// Opens what the guest starts from, read-only, anew for each start as a machine would.
fn boot_files(config: &Config) -> Result<Vec<(FdRole, OwnedFd)>, StartError> {
    let host = &config.host;
    let modules = (0..).map(FdRole::Module).zip(&host.modules);
    let kernel = host
        .kernel
        .iter()
        .chain(&host.image)
        .map(|path| (FdRole::Kernel, path));
    let initrd = host.initrd.iter().map(|path| (FdRole::Initrd, path));
    kernel
        .chain(initrd)
        .chain(modules)
        .map(|(role, path)| {
            let fd = open_file(path).map_err(|source| StartError::BootFile {
                path: path.clone(),
                source,
            })?;
            Ok((role, fd))
        })
        .collect()
}

/// A regular file; the open itself must not wait for a FIFO's writer or claim a terminal. Symlinks are the user's own and are
/// followed.
fn open_file(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let fd = open(path, flags, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(std::io::Error::other("not a regular file"));
    }
    Ok(fd)
}
