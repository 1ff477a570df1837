//! A VM under the witness's load, as the campaign sees it: what the guest says, the stream, the status, the worker.
//!
//! Nothing here panics over what a VM does: a VM that does not go on is a result of the campaign.

use super::heard::Heard;
use super::images::{Images, Knowledge, Verdict, e2fsprogs};
use super::stream::Stream;
use crate::linux::Linux;
use crate::product::{GUESTS, Vm};
use crate::tap::{GUEST, HOST, TAP};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything that must come; a boot on a slow engine takes the longest.
pub const LIMIT: Duration = Duration::from_secs(90);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(4);
/// Time after which a line that was not answered is typed again: a worker may have taken it along.
const TYPE_AGAIN: Duration = Duration::from_millis(150);

/// Lines of the console and of the log that are shown of a VM that failed.
const MOST_WORDS: usize = 20;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The VM's name.
    pub name: String,
    /// The engine.
    pub engine: String,
    /// Whether there is a tap.
    pub net: bool,
    /// Lines of `[io]`.
    pub io: String,
}

/// The guest's initramfs with the witness in it.
pub struct Initrd {
    folder: TempDir,
}

impl Initrd {
    /// Makes it.
    pub fn make(linux: &Linux) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let top = folder.path().join("top");
        std::fs::create_dir_all(top.join("bin"))?;
        let program = top.join("bin/witness");
        std::fs::copy(format!("{GUESTS}/witness"), &program)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        let load = Path::new(env!("CARGO_MANIFEST_DIR")).join("linux/witness/load");
        std::fs::copy(load, top.join("load"))?;
        linux.initrd_with(&top, &folder.path().join("initrd.img"));
        Ok(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("initrd.img")
    }
}

/// Disks that outlive a VM. In memory where there is room for that: a kill leaves the host's kernel alive, so no medium is
/// asked, and the times of one would drown the product's own.
pub struct Disks {
    /// Kept for its drop.
    _folder: TempDir,
    /// The images.
    pub images: Images,
    /// Whether the first has a file system, or why not.
    pub files: Result<(), String>,
}

impl Disks {
    /// Makes them.
    pub fn make() -> io::Result<Self> {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let files = e2fsprogs();
        Ok(Self {
            images: Images::make(folder.path(), files.is_ok())?,
            _folder: folder,
            files,
        })
    }
}

/// What there must be more of for a load to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress([u64; 6]);

/// See the module.
pub struct Machine {
    /// The VM.
    pub vm: Vm,
    /// What the guest has said.
    pub heard: Heard,
    /// The host's end of the stream, if there is a tap.
    pub stream: Option<Stream>,
    /// When the present worker was first seen.
    pub reborn: Instant,
    /// Workers that were to die so far.
    pub deaths: u64,
    /// Errors of the guest that were meant.
    pub forgiven: u64,
    files: bool,
    /// The word last typed.
    word: u64,
}

impl Machine {
    /// Boots one and waits until its load runs. On the thread in whose network the tap is.
    pub fn boot(plan: &Plan, linux: &Linux, initrd: &Initrd, disks: &Disks) -> Result<Self, String> {
        let stream = if plan.net {
            Some(Stream::listen(HOST).map_err(|error| error.to_string())?)
        } else {
            None
        };
        let mut words = "raw=1".to_owned();
        if disks.files.is_ok() {
            words.push_str(" files=0");
        }
        if let Some(stream) = &stream {
            words.push_str(&format!(" peer={HOST}:{} address={GUEST}/24", stream.port));
        }
        let vm = start(plan, linux, initrd, disks, &words);
        let mut machine = Self {
            vm,
            heard: Heard::default(),
            stream,
            reborn: Instant::now(),
            deaths: 0,
            forgiven: 0,
            files: disks.files.is_ok(),
            word: 0,
        };
        let none = machine.progress();
        machine.until("the load", |machine| machine.is_ahead_of(none))?;
        Ok(machine)
    }

    /// Looks at all that may have changed.
    fn look(&mut self) {
        let more = self.vm.output_from(self.heard.read);
        self.heard.hear(&more);
    }

    /// Waits until `condition` holds; the error says what did not come.
    pub fn until(&mut self, what: &str, condition: impl FnMut(&mut Self) -> bool) -> Result<(), String> {
        self.within(LIMIT, what, condition)
    }

    /// The same with another limit.
    pub fn within(
        &mut self,
        limit: Duration,
        what: &str,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.look();
            if condition(self) {
                return Ok(());
            }
            if let Some(status) = self.vm.ended() {
                return Err(format!("ended before {what}: {status}\n{}", self.words()));
            }
            if began.elapsed() > limit {
                return Err(format!("no {what} within {limit:?}\n{}", self.words()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// How far the load is now.
    pub fn progress(&self) -> Progress {
        let report = &self.heard.report;
        let received = self.stream.as_ref().map_or(0, Stream::received);
        Progress([
            report.raw,
            report.file,
            report.name,
            report.down,
            received,
            self.heard.reports,
        ])
    }

    /// Whether everything has gone on since then: by two, the first of which may have been under way.
    pub fn is_ahead_of(&self, then: Progress) -> bool {
        let runs = [
            true,
            self.files,
            self.files,
            self.stream.is_some(),
            self.stream.is_some(),
            true,
        ];
        let now = self.progress();
        let mut pairs = now.0.iter().zip(then.0).zip(runs);
        pairs.all(|((&now, then), runs)| !runs || now >= then + 2)
    }

    /// Waits until every part of the load has gone on from here.
    pub fn goes_on(&mut self) -> Result<(), String> {
        self.look();
        let then = self.progress();
        self.until("progress of every part of the load", |machine| {
            machine.is_ahead_of(then)
        })
    }

    /// Types a word at the guest, again and again, until it says it back and `condition` holds, too.
    pub fn types(
        &mut self,
        limit: Duration,
        what: &str,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), String> {
        self.word += 1;
        let word = self.word;
        let mut typed: Option<Instant> = None;
        self.within(limit, what, |machine| {
            let done = machine.heard.said == Some(word) && condition(machine);
            if !done && typed.is_none_or(|at| at.elapsed() > TYPE_AGAIN) {
                machine.vm.type_in(&format!("say {word}\n"));
                typed = Some(Instant::now());
            }
            done
        })
    }

    /// The status, if the supervisor answers.
    pub fn status(&self) -> Option<Value> {
        let output = self.vm.vmapp(&["status", &self.vm.name, "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// A number of the status; 0 where it is not there.
    pub fn number(&self, path: &str) -> u64 {
        let status = self.status();
        status
            .and_then(|status| status.pointer(path)?.as_u64())
            .unwrap_or_default()
    }

    /// Arms a fault.
    pub fn fault(&self, spec: &str) -> Result<(), String> {
        self.command(&["fault", &self.vm.name, spec])
    }

    /// Runs a vmapp command.
    pub fn command(&self, args: &[&str]) -> Result<(), String> {
        let output = self.vm.vmapp(args);
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// The I/O worker's process.
    pub fn worker(&self) -> Result<Pid, String> {
        match self.number("/io_worker_pid") {
            0 => Err("no I/O worker".to_owned()),
            pid => Ok(Pid::from_raw(pid as i32)),
        }
    }

    /// Sends the worker a signal, unless it has died by itself meanwhile.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        kill(self.worker()?, signal).or_else(|errno| match errno {
            nix::errno::Errno::ESRCH => Ok(()),
            errno => Err(format!("{signal}: {errno}")),
        })
    }

    /// Ends the load and the VM in good order.
    pub fn power_off(&mut self) -> Result<(), String> {
        let mut typed: Option<Instant> = None;
        self.until("the end of the load", |machine| {
            if typed.is_none_or(|at| at.elapsed() > TYPE_AGAIN) && !machine.heard.ended {
                machine.vm.type_in("stop\n");
                typed = Some(Instant::now());
            }
            machine.heard.ended
        })?;
        self.ends(0)
    }

    /// What is to be said of a VM that does not do as it should: its last report, its console without the reports, what
    /// `vmapp run` said.
    fn words(&self) -> String {
        let console = self.vm.output();
        let console: Vec<&str> = console.lines().filter(|line| !line.contains('@')).collect();
        let console = console[console.len().saturating_sub(MOST_WORDS)..].join("\n");
        let errors = self.vm.errors();
        let errors: Vec<&str> = errors.lines().collect();
        let errors = errors[errors.len().saturating_sub(MOST_WORDS)..].join("\n");
        let state = self.status().unwrap_or_default();
        let state =
            ["state", "io_state", "io_restarts", "io_last_death"].map(|key| format!("{key}: {}", state[key]));
        let state = state.join(", ");
        format!("{:?}; {state}\n{console}\n{errors}", self.heard.report)
    }

    /// Waits for the end of `vmapp run` with this status.
    pub fn ends(&mut self, code: i32) -> Result<(), String> {
        let status = ended(&mut self.vm)?;
        self.look();
        if status.code() == Some(code) {
            Ok(())
        } else {
            Err(format!("{status}, not {code}\n{}", self.words()))
        }
    }

    /// Looks whether all that was acknowledged is on the disks. After the end.
    pub fn verify(&self, disks: &Disks, knowledge: Knowledge) -> Result<Verdict, String> {
        let verdict = disks.images.verify(&self.heard.report, knowledge, self.files);
        verdict.map_err(|error| format!("the images cannot be read: {error}"))
    }
}

/// Waits for the end of a VM.
pub fn ended(vm: &mut Vm) -> Result<ExitStatus, String> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(status) = vm.ended() {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("no end\n{}", vm.errors()))
}

/// Boots once more for nothing but the file system: its journal is replayed, and it is put away. Needed after a VM that was
/// cut off, which must have left disks and tap free.
pub fn mend(plan: &Plan, linux: &Linux, initrd: &Initrd, disks: &Disks) -> Result<(), String> {
    let mut vm = start(plan, linux, initrd, disks, "mend files=0");
    let status = ended(&mut vm)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("mending: {status}\n{}", vm.errors()))
    }
}

/// Starts one. On the thread in whose network the tap is, if it is to have one.
pub fn start(plan: &Plan, linux: &Linux, initrd: &Initrd, disks: &Disks, words: &str) -> Vm {
    let Plan {
        name,
        engine,
        io,
        net,
    } = plan;
    let net = match net {
        true => format!("[[net]]\nbackend = \"tap\"\ntap = {TAP:?}\n"),
        false => String::new(),
    };
    let images = [disks.images.files(), disks.images.raw()];
    let images = images
        .map(|image| format!("[[disk]]\npath = {image:?}\n"))
        .concat();
    let config = format!(
        "name = {name:?}\n[machine]\nmemory = \"128M\"\nengine = {engine:?}\non_reset = \"exit\"\n\
         [boot]\nkernel = {:?}\ninitrd = {:?}\ncmdline = \"console=ttyS0 quiet panic=-1 run=/load {words}\"\n\
         {net}{images}[io]\n{io}\n",
        linux.kernel(),
        initrd.path(),
    );
    Vm::configured(name, &config)
}
