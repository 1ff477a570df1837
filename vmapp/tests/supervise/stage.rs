//! A folder with a configuration, the vmapp processes started from it, and the ways to watch them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for any condition. Far beyond what any takes on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Longest life of a stage: then its processes are killed, so that no test hangs in a read.
const STAGE_LIMIT: Duration = Duration::from_secs(90);

/// The stage. Dropped, everything started from it is dead.
pub struct Stage {
    folder: tempfile::TempDir,
    /// Dropped with the stage, which ends the watchdog.
    _alive: mpsc::Sender<()>,
}

impl Stage {
    /// A VM named `demo` whose vmm plays `play`, with `config` (TOML) on top of the least.
    pub fn new(play: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (alive, watched) = mpsc::channel();
        let place = folder.path().to_owned();
        std::thread::spawn(move || {
            if watched.recv_timeout(STAGE_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                kill_all(&place);
            }
        });
        let stage = Self {
            folder,
            _alive: alive,
        };
        std::fs::create_dir(stage.path("run")).unwrap();
        std::fs::write(stage.path("guest.bin"), [0xf4; 512]).unwrap();
        let toml = format!("name = \"demo\"\n{config}\n[boot]\nimage = \"guest.bin\"\n");
        std::fs::write(stage.path("vm.toml"), toml).unwrap();
        let me = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nWORLDSWITCH_PLAY='{play}' exec '{}' --exact fake_vmm::fake_vmm --ignored --nocapture\n",
            me.display()
        );
        std::fs::write(stage.path("vmm"), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(stage.path("vmm"), mode).unwrap();
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives `command` this stage's environment.
    pub fn dress(&self, command: &mut Command) {
        command
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("WORLDSWITCH_VMM", self.path("vmm"))
            .env("WORLDSWITCH_MARK", self.folder.path())
            .current_dir(self.folder.path());
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmapp"));
        self.dress(&mut command);
        command.args(args);
        command
    }

    /// `vmapp run`, with nothing on standard input.
    pub fn run(&self) -> Run {
        self.run_with(Stdio::null(), Stdio::piped(), &[])
    }

    pub fn run_with(&self, stdin: Stdio, stdout: Stdio, more: &[&str]) -> Run {
        let mut args = vec!["run", "vm.toml"];
        args.extend(more);
        let errors = std::fs::File::create(self.path("stderr")).unwrap();
        let child = self
            .command(&args)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(errors)
            .spawn()
            .unwrap();
        Run { child }
    }

    /// `vmapp run` of a program of this stage's own, which [`upgrade`](Self::upgrade) can replace. Its worker serves.
    pub fn run_installed(&self, stdin: Stdio) -> Run {
        self.install(Path::new(env!("CARGO_BIN_EXE_vmapp")));
        let mut command = Command::new(self.path("vmapp"));
        self.dress(&mut command);
        let errors = std::fs::File::create(self.path("stderr")).unwrap();
        command.args(["run", "vm.toml"]).stdin(stdin);
        let child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        eventually("the first worker", || {
            (self.status()["io_state"] == "serving").then_some(())
        });
        Run { child }
    }

    /// Replaces the I/O worker by one that plays `work`. Those after it are the program's own again.
    pub fn upgrade(&self, work: &str) {
        let me = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nWORLDSWITCH_WORK='{work}' exec '{}' --exact fake_io_worker::fake_io_worker --ignored --nocapture\n",
            me.display()
        );
        std::fs::write(self.path("script"), script).unwrap();
        self.install(&self.path("script"));
        // Whether one serves in the end is the test's to say.
        let mut asking = self.command(&["restart-io", "demo"]);
        std::thread::spawn(move || asking.stdin(Stdio::null()).output());
        eventually("the fake worker", || {
            (self.status()["io_restarts"].as_u64() >= Some(1)).then_some(())
        });
    }

    /// By another process: a file that this one had open for writing while another thread forks could not be run.
    fn install(&self, program: &Path) {
        let script = "cp \"$0\" new && chmod 755 new && mv new vmapp";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(program)
            .current_dir(self.folder.path());
        assert!(command.status().unwrap().success());
    }

    /// Another vmapp command, to its end.
    pub fn ask(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// The parsed `status --json`, once the VM answers.
    pub fn status(&self) -> serde_json::Value {
        eventually("a status", || {
            let output = self.ask(&["status", "demo", "--json"]);
            serde_json::from_slice(&output.stdout).ok()
        })
    }

    /// Waits for a text on the supervisor's standard error.
    pub fn wait_log(&self, text: &str) {
        eventually(&format!("log {text:?} in {:?}", self.path("stderr")), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Waits until the worker has written so many console bytes.
    pub fn wait_written(&self, bytes: u64) {
        eventually("console output", || {
            (self.status()["io_worker"]["console"]["bytes_out"].as_u64()? >= bytes).then_some(())
        });
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Waits for a file and gives its content.
    pub fn wait_file(&self, name: &str) -> String {
        eventually(name, || {
            std::fs::read_to_string(self.path(name))
                .ok()
                .filter(|text| !text.is_empty())
        })
    }

    /// Waits until a file is there.
    pub fn wait_file_made(&self, name: &str) {
        eventually(name, || self.path(name).exists().then_some(()));
    }

    /// Processes of this stage whose command line contains `word`.
    pub fn processes(&self, word: &str) -> Vec<Pid> {
        processes(self.folder.path(), word)
    }

    pub fn worker(&self) -> Pid {
        self.one("io-worker")
    }

    pub fn vmm(&self) -> Pid {
        self.one("fake_vmm")
    }

    fn one(&self, word: &str) -> Pid {
        eventually(word, || self.processes(word).first().copied())
    }

    /// Waits until none of its processes is left, nor a file of theirs in the runtime folder.
    pub fn is_empty(&self) {
        eventually("the end of all processes", || {
            self.processes("").is_empty().then_some(())
        });
    }

    /// Nothing left in the runtime folder.
    pub fn is_clean(&self) {
        self.is_empty();
        let folder = self.path("run").join("worldswitch");
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        kill_all(self.folder.path());
    }
}

/// Processes that carry the mark of the stage at `place`, and whose command line contains `word`. Dead ones carry none.
fn processes(place: &Path, word: &str) -> Vec<Pid> {
    let mark = format!("WORLDSWITCH_MARK={}", place.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let has = |file: &str, text: &str| {
            std::fs::read(entry.path().join(file))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        };
        if has("environ", &mark) && has("cmdline", word) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

fn kill_all(place: &Path) {
    for pid in processes(place, "") {
        kill(pid, Signal::SIGKILL).ok();
    }
}

/// A `vmapp run` under way.
pub struct Run {
    pub child: Child,
}

impl Run {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its exit status.
    pub fn status(&mut self) -> i32 {
        eventually("the end of vmapp run", || self.child.try_wait().unwrap())
            .code()
            .expect("an exit status")
    }

    /// Reads its standard output to the end, and waits.
    pub fn output(&mut self) -> (i32, Vec<u8>) {
        let mut bytes = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        (self.status(), bytes)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Most memory a process ever had, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// A file's content when it has become `wanted` bytes long.
pub fn grown(path: &Path, wanted: usize) -> Vec<u8> {
    eventually("a file to grow", || {
        std::fs::read(path).ok().filter(|bytes| bytes.len() >= wanted)
    })
}
