//! The product as a user runs it: the real `vmapp`, the real `vmm`, a guest from this tree.
//!
//! Tests wait for conditions with [`Vm::wait_for`]; a condition that never comes fails the test after [`LIMIT`]. A VM
//! dropped by a failing test is ended.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Longest wait for anything. Guests run at a few million instructions a second on the slowest host known.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Where the guests were built.
pub const GUESTS: &str = env!("GUESTS_DIR");

/// Says why a test did not run; the line is repeated at the end of `make test`.
pub fn skip(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
}

/// Whether KVM can be opened, and if not why.
pub fn kvm() -> Result<(), String> {
    let open = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    open.map(drop).map_err(|error| format!("/dev/kvm: {error}"))
}

/// Path of a program of the product, built if need be.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let mut folder = std::env::current_exe().expect("a test knows its own path");
        folder.pop();
        folder.pop();
        // Up to date already after `cargo test --workspace`; not after `cargo test -p tests`.
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "-p", "vmapp", "-p", "vmm", "--bins"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().expect("cargo runs").success(),
            "the product does not build"
        );
        folder
    });
    folder.join(name)
}

/// A VM under test: `vmapp run` and everything it prints.
pub struct Vm {
    /// The name in its config.
    pub name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Mutex<String>>,
    errors: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    runtime: tempfile::TempDir,
}

impl Vm {
    /// Starts a guest. `boot` is the config's boot section; `machine` more lines of `[machine]`.
    pub fn start(name: &str, boot: &str, machine: &str) -> Self {
        Self::configured(
            name,
            &format!("name = \"{name}\"\n[machine]\nmemory = \"64M\"\n{machine}\n[boot]\n{boot}\n"),
        )
    }

    /// Starts the machine of a whole configuration file, whose name is `name`.
    pub fn configured(name: &str, text: &str) -> Self {
        Self::prepared(name, text, |_, _| {})
    }

    /// The same, `prepare`d: with the command about to be run, and the folder that holds the configuration file and the
    /// control socket.
    pub fn prepared(name: &str, text: &str, prepare: impl FnOnce(&mut Command, &Path)) -> Self {
        let runtime = tempfile::tempdir().expect("a temporary folder");
        let config = runtime.path().join("vm.toml");
        std::fs::write(&config, text).expect("a config file");
        let mut command = command(runtime.path());
        command.arg("run").arg(&config);
        prepare(&mut command, runtime.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("vmapp starts");
        let mut readers = Vec::new();
        let mut collect = |pipe: Box<dyn Read + Send>| {
            let text = Arc::new(Mutex::new(String::new()));
            let kept = Arc::clone(&text);
            readers.push(std::thread::spawn(move || keep(pipe, &kept)));
            text
        };
        let output = collect(Box::new(child.stdout.take().expect("piped")));
        let errors = collect(Box::new(child.stderr.take().expect("piped")));
        Self {
            name: name.into(),
            stdin: child.stdin.take(),
            child,
            output,
            errors,
            readers,
            runtime,
        }
    }

    /// A guest of this tree with its command line.
    pub fn guest(name: &str, file: &str, words: &str, machine: &str) -> Self {
        Self::start(
            name,
            &format!("kernel = \"{GUESTS}/{file}\"\ncmdline = \"{file} {words}\""),
            machine,
        )
    }

    /// Console output so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("no reader panicked").clone()
    }

    /// Standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().expect("no reader panicked").clone()
    }

    /// Process id of the supervisor.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Process ids of the workers: programs whose parent is the supervisor.
    pub fn workers(&self) -> Vec<(u32, String)> {
        children(self.pid())
    }

    /// Types at the console.
    pub fn type_in(&mut self, text: &str) {
        self.stdin
            .as_mut()
            .expect("standard input is open")
            .write_all(text.as_bytes())
            .expect("vmapp reads");
    }

    /// Runs another vmapp command that sees this VM.
    pub fn vmapp(&self, args: &[&str]) -> std::process::Output {
        command(self.runtime.path())
            .args(args)
            .output()
            .expect("vmapp starts")
    }

    /// Waits for the line that names the engine; it is the error if no engine here gets through the boot of a kernel
    /// within [`LIMIT`].
    pub fn fast_engine(&mut self) -> Result<(), String> {
        self.wait_for("the engine's line", |vm| vm.errors().contains('\n'));
        let line = self.errors().lines().next().unwrap_or_default().to_owned();
        if line.contains("no engine works here") || line.contains("engine kvm: present, but interprets") {
            return Err(line);
        }
        Ok(())
    }

    /// Waits until `condition` holds.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.read_to_the_end();
                if condition(self) {
                    return;
                }
                panic!(
                    "ended before {what}: {status:?}\n{}\n{}",
                    self.output(),
                    self.errors()
                );
            }
            assert!(
                began.elapsed() < LIMIT,
                "no {what} in time:\n{}\n{}",
                self.output(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Collects what an ended VM still had to say.
    fn read_to_the_end(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("no reader panicked");
        }
    }

    /// Waits for the end.
    pub fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.read_to_the_end();
                return status;
            }
            assert!(
                began.elapsed() < LIMIT,
                "no end in time:\n{}\n{}",
                self.output(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep(mut pipe: Box<dyn Read + Send>, text: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = pipe.read(&mut buffer) {
        text.lock()
            .expect("the test lives")
            .push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
}

fn command(runtime: &Path) -> Command {
    let mut command = Command::new(program("vmapp"));
    command.env("XDG_RUNTIME_DIR", runtime);
    command
}

/// Processes whose parent is `parent`: id and name.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((head, tail)) = stat.rsplit_once(')') else {
            continue;
        };
        let name = head.split_once('(').map_or("", |(_, name)| name);
        let mut fields = tail.split_whitespace();
        let state = fields.next();
        if fields.next() == Some(&parent.to_string()) && state != Some("Z") {
            found.push((pid, name.to_owned()));
        }
    }
    found
}

/// Whether a process is there and not a zombie.
pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, tail)| !tail.trim_start().starts_with('Z'))
    })
}
