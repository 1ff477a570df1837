//! The jail of the real workers, read from /proc while a guest runs: as root and as a plain user, with every kind of back
//! end, on every engine. What the jail refuses from inside is tried in vmdriver-shim's own test of the same name.
//!
//! The facts that are asserted are also printed, as the table of README's security section
//! (`cargo test -p tests --test jail -- --show-output the_table`).

#[path = "../../vmdriver-shim/tests/walls/mod.rs"]
mod walls;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, ttyname};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tests::cell::{Mapping, Process};
use tests::network::enter_namespace;
use tests::product::{GUESTS, LIMIT, Vm, children, kvm, program, skip, until};
use vmdriver_shim::jail::allow::{Row, lists};
use vmdriver_shim::jail::{Io, Role, Thread};

/// A plain user.
const USER: u32 = 1000;
/// The guest's memory, far above all that the I/O worker maps.
const MEMORY: u64 = 512 << 20;
/// Everything the I/O worker may map without being suspected to see the guest: itself, its libraries, its heaps, the
/// rings (a few MiB).
const APP_MAPS_MOST: u64 = 64 << 20;
/// The overlay of a disk of 1 MiB: its maps, and the disk.
const OVERLAY_BYTES: &str = "1114112";
/// Everything a worker may map or reserve that is not private data: programs, libraries, rings, code of the interpreter;
/// for its threads (two disks' at most, here) stacks, and malloc's heaps as long as they are empty.
const RESERVED_MOST: u64 = 448 << 20;
const NAMESPACES: [&str; 4] = ["net", "ipc", "uts", "mnt"];
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// A machine to look at.
struct Machine {
    name: &'static str,
    engine: &'static str,
    /// What it is, but for disks and memory: sections of its file. FOLDER is where its files are, ADDRESS one to
    /// listen on.
    sections: String,
    user: Option<u32>,
}

/// A running one and its two workers.
struct Running {
    machine: Machine,
    vm: Vm,
    vmm: Process,
    app: Process,
    folder: tempfile::TempDir,
}

impl Machine {
    fn has(&self, word: &str) -> bool {
        self.sections.contains(word)
    }

    /// Starts it with a plain disk and an overlay, and waits until its guest runs. `None`, and said so: not here. Where
    /// the host can build the jail, one that is not whole is an error.
    fn start(self) -> Option<Running> {
        if let Some(why) = why_not(self.user) {
            skip(self.name, &why);
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own = |path: &Path| chown(path, self.user, self.user).expect("a file for the user");
        for disk in ["raw.img", "base.img"] {
            let path = folder.path().join(disk);
            let file = std::fs::File::create(&path).expect("a disk image");
            file.set_len(1 << 20).expect("a sparse file");
            own(&path);
        }
        own(folder.path());
        let sections = self
            .sections
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("ADDRESS", &address());
        let text = format!(
            "name = {:?}\n[machine]\nmemory = \"512M\"\nrequire_jail = true\nengine = {:?}\n\
             [boot]\nkernel = \"{GUESTS}/hello.elf\"\ncmdline = \"hello.elf forever\"\n[[disk]]\npath = {:?}\n[[disk]]\npath = {:?}\nmode = \"overlay\"\n{sections}",
            self.name,
            self.engine,
            folder.path().join("raw.img"),
            folder.path().join("base.img"),
        );
        let mut vm = Vm::prepared(self.name, &text, |command, runtime| {
            if let Some(user) = self.user {
                for path in [runtime, &runtime.join("vm.toml")] {
                    chown(path, Some(user), Some(user)).expect("a folder for the user");
                }
                command.uid(user).gid(user);
            }
        });
        let heard = folder.path().join("console");
        vm.wait_for("the guest's first words", |vm| {
            vm.output().contains("second 1") || heard.exists() && hears_the_guest(&heard)
        });
        let worker = |name: &str| {
            let workers = vm.workers();
            let found = workers.iter().find(|(_, worker)| worker == name);
            Process::new(found.unwrap_or_else(|| panic!("no {name} among {workers:?}")).0)
        };
        let (vmm, app) = (worker("vmm"), worker("vmapp-io"));
        if self.has("socket:") {
            vm.wait_for("the end of the client that heard the guest", |_| {
                app.descriptors().get("unix socket") == Some(&1)
            });
        }
        Some(Running {
            machine: self,
            vm,
            vmm,
            app,
            folder,
        })
    }
}

/// Why the jail of workers started by this user (`None`: by root) cannot be whole here, or not be looked into: told by the
/// host, not by the product.
fn why_not(user: Option<u32>) -> Option<String> {
    /// CAP_SYS_PTRACE (linux/capability.h): sees the descriptors and mappings of other users' processes.
    const SEES_ALL: u64 = 1 << 19;
    if !Uid::effective().is_root() {
        return Some("only root sees what another process may and holds".to_owned());
    }
    let rights = Process::new(std::process::id()).status("CapEff");
    let rights = rights.first().and_then(|set| u64::from_str_radix(set, 16).ok());
    if rights.is_none_or(|rights| rights & SEES_ALL == 0) {
        return Some("this root may not look into other processes".to_owned());
    }
    walls::missing(user)
}

/// Whether a client of the console's socket hears the guest.
fn hears_the_guest(socket: &Path) -> bool {
    let Ok(client) = UnixStream::connect(socket) else {
        return false;
    };
    client.set_read_timeout(Some(LIMIT)).expect("a limit");
    let lines = BufReader::new(client).lines().map_while(Result::ok);
    lines.take(100).any(|line| line.starts_with("second"))
}

impl Running {
    /// Asserts all that holds for both workers of every machine.
    fn is_jailed(&self) {
        let roles = [(Role::Vmm, &self.vmm), (Role::App, &self.app)];
        for (role, process) in roles {
            self.has_no_rights(role, process);
            self.is_alone(role, process);
            self.is_bounded(role, process);
            has_no_standard_streams_of_the_user(process, self.vm.pid());
            for mapping in process.mappings() {
                let rights = &mapping.rights;
                assert!(
                    !(rights.contains('w') && rights.contains('x')),
                    "{role:?}: {mapping:?}"
                );
            }
        }
        let mut threads = self.vmm.threads("Seccomp_filters");
        // A thread of the kernel's, which KVM starts in the first KVM_RUN.
        threads.retain(|name, _| !name.starts_with("kvm-"));
        assert_eq!(threads, counts(&[("vmm", "1"), ("ear", "1")]));
        // The main thread and the disks' threads began under the wider filter of the start.
        let threads = [("vmapp-io", "2"), ("disk-0", "2"), ("disk-1", "2")];
        assert_eq!(self.app.threads("Seccomp_filters"), counts(&threads));
        assert_eq!(self.vmm.descriptors(), self.descriptors(Role::Vmm));
        // Of a client that has hung up, the test's own, it hears in its time.
        let began = Instant::now();
        let expected = self.descriptors(Role::App);
        while self.app.descriptors() != expected && began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.app.descriptors(), expected);
        self.only_the_vmm_maps_guest_memory();
    }

    fn has_no_rights(&self, role: Role, process: &Process) {
        let id = match self.machine.user {
            Some(user) => user,
            None => role.id(self.vm.pid()),
        };
        for ids in ["Uid", "Gid"] {
            assert_eq!(process.status(ids), vec![id.to_string(); 4], "{role:?} {ids}");
        }
        assert_eq!(process.status("Groups"), Vec::<String>::new(), "{role:?}");
        for set in CAPABILITIES {
            assert_eq!(process.status(set), ["0000000000000000"], "{role:?} {set}");
        }
        assert_eq!(process.status("NoNewPrivs"), ["1"], "{role:?}");
        for (thread, mode) in process.threads("Seccomp") {
            assert_eq!(mode, "2", "{role:?}: thread {thread} has no filter");
        }
    }

    /// Namespaces of its own, and nothing in its root folder.
    fn is_alone(&self, role: Role, process: &Process) {
        let supervisor = Process::new(self.vm.pid());
        for kind in NAMESPACES {
            let own = process.namespace(kind) != supervisor.namespace(kind);
            let keeps_network = kind == "net" && role == Role::App && self.machine.has("\"nat\"");
            assert_eq!(own, !keeps_network, "{role:?}: namespace {kind}");
        }
        let own_user = process.namespace("user") != supervisor.namespace("user");
        assert_eq!(own_user, self.machine.user.is_some(), "{role:?}: user namespace");
        assert_eq!(process.mounts(), 1, "{role:?}");
        assert_eq!(process.root(), Vec::<PathBuf>::new(), "{role:?}");
    }

    fn is_bounded(&self, role: Role, process: &Process) {
        let number = |limit: &str| -> u64 {
            let [soft, hard] = process.limit(limit);
            assert_eq!(soft, hard, "{role:?}: {limit}");
            soft.parse()
                .unwrap_or_else(|_| panic!("{role:?}: {limit}: {soft}"))
        };
        assert_eq!(number("Max core file size"), 0, "{role:?}");
        let largest_file = match role {
            Role::Vmm => ["0", "0"].map(str::to_owned),
            // A capture has no end but the user's own.
            Role::App if self.machine.has("pcap") => Process::new(self.vm.pid()).limit("Max file size"),
            Role::App => [OVERLAY_BYTES; 2].map(str::to_owned),
        };
        assert_eq!(process.limit("Max file size"), largest_file, "{role:?}");
        let kvm = role == Role::Vmm && self.machine.engine == "kvm";
        if !kvm {
            assert_eq!(number("Max processes"), 0, "{role:?}");
        }
        let nat = role == Role::App && self.machine.has("\"nat\"");
        assert!(
            number("Max open files") <= if nat { 1024 } else { 64 },
            "{role:?}"
        );
        let memory = if role == Role::Vmm {
            MEMORY + (700 << 20)
        } else {
            600 << 20
        };
        let data = number("Max data size");
        assert!(data <= memory, "{role:?}");
        // What is mapped and reserved beside the data, the threads' among it.
        assert!(number("Max address space") <= data + RESERVED_MOST, "{role:?}");
        assert!(number("Max stack size") <= 8 << 20, "{role:?}");
    }

    /// What each worker holds, and nothing else.
    fn descriptors(&self, role: Role) -> BTreeMap<String, usize> {
        let mut expected = BTreeMap::new();
        let mut add = |kind: &str, count: usize| *expected.entry(kind.to_owned()).or_default() += count;
        // Standard input and output; standard error; the supervisor.
        add("/dev/null", 2);
        add("pipe", 1);
        add("unix socket", 1);
        if role == Role::Vmm {
            // Its doorbell, vmapp's, the kick; the wake, from both ends, for the ear.
            add("eventfd", 5);
            if self.machine.engine == "kvm" {
                // The kick again: the ear hears it where guest code does not look by itself.
                add("eventfd", 1);
                add("kvm-vm", 1);
                add("kvm-vcpu:0", 1);
            }
            return expected;
        }
        // The three, and one for each disk's thread, from both ends in one.
        add("eventfd", 5);
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        // For its thread, and for reads that need no wait.
        add(&file("raw.img"), 2);
        add(&file("base.img"), 1);
        add(&file("base.img.overlay"), 1);
        if self.machine.has("stdio") {
            add("pipe", 2);
        }
        // Of a console's socket nothing: the supervisor listens, and its client has gone.
        if self.machine.has("pcap") {
            add(&file("trace.pcapng"), 1);
        }
        if self.machine.has("\"nat\"") {
            add("eventpoll", 1);
            add("inet socket", 1);
        }
        if self.machine.has("\"tap\"") {
            add("/dev/net/tun", 1);
        }
        expected
    }

    fn only_the_vmm_maps_guest_memory(&self) {
        let guest = |mapping: &Mapping| mapping.rights == "rw-p" && mapping.len >= MEMORY / 2;
        assert!(
            self.vmm.mappings().iter().any(guest),
            "the test knows guest memory when it sees it"
        );
        let app = self.app.mappings();
        let readable = app.iter().filter(|mapping| mapping.rights.starts_with('r'));
        let total: u64 = readable.map(|mapping| mapping.len).sum();
        assert!(total < APP_MAPS_MOST, "the I/O worker maps {total} bytes");
        for process in [&self.vmm, &self.app] {
            let mappings = process.mappings();
            let shared = mappings.iter().filter(|mapping| mapping.rights.ends_with('s'));
            for mapping in shared {
                let rings = mapping.name == "/memfd:worldswitch (deleted)" && mapping.len < 16 << 20;
                let code = mapping.name == "/memfd:thunks (deleted)";
                let vcpu = mapping.name.starts_with("anon_inode:kvm-vcpu");
                let vmm = std::ptr::eq(process, &raw const self.vmm);
                assert!(rings || vmm && (code || vcpu), "shared: {mapping:?}");
            }
        }
    }
}

/// Nothing to read, nowhere to write but to the supervisor.
fn has_no_standard_streams_of_the_user(process: &Process, supervisor: u32) {
    for number in [0, 1] {
        assert_eq!(
            process.descriptor(number),
            Path::new("/dev/null"),
            "descriptor {number}"
        );
    }
    let own = process.descriptor(2);
    assert!(own.to_string_lossy().starts_with("pipe:["), "{own:?}");
    let supervisor = Process::new(supervisor);
    for number in 0..3 {
        assert_ne!(
            own,
            supervisor.descriptor(number),
            "its standard error is the user's"
        );
    }
}

fn counts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(name, count)| ((*name).to_owned(), (*count).to_owned()));
    owned.collect()
}

/// A card on `nat` with a way in and a capture, the console on pipes.
fn nat() -> String {
    "[[net]]\nbackend = \"nat\"\nforward = [\"ADDRESS:2222 -> 22\"]\npcap = \"FOLDER/trace.pcapng\"\n\
     [console]\nserial = \"stdio\"\n"
        .to_owned()
}

/// An address of this host's own that no other machine of any test listens on, not even one that is just going.
fn address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let next = NEXT.fetch_add(1, Relaxed);
    format!("127.{}.{high}.{}", 100 + next, low.clamp(1, 254))
}

/// No network; the console on a socket.
fn quiet() -> String {
    "[console]\nserial = \"socket:FOLDER/console\"\n".to_owned()
}

/// Looks at a machine, as root and as a plain user.
fn look(name: &'static str, engine: &'static str, sections: &str, users: &[Option<u32>]) {
    for &user in users {
        let machine = Machine {
            name,
            engine,
            sections: sections.to_owned(),
            user,
        };
        if let Some(running) = machine.start() {
            running.is_jailed();
        }
    }
}

#[test]
fn workers_with_a_nat_card_are_jailed() {
    look("jail-nat", "interp", &nat(), &[None, Some(USER)]);
}

#[test]
fn workers_without_a_network_are_jailed() {
    look("jail-quiet", "interp", &quiet(), &[None, Some(USER)]);
}

#[test]
fn workers_with_a_tap_are_jailed() {
    const TAP: &str = "wsjail0";
    let looking = std::thread::spawn(|| {
        let name = "jail-tap";
        match enter_namespace(TAP, [10, 78, 0, 1].into()) {
            Ok(()) => {
                let sections = format!("[[net]]\nbackend = \"tap\"\ntap = {TAP:?}\n{}", quiet());
                look(name, "interp", &sections, &[None]);
            }
            Err(why) => skip(name, &why),
        }
    });
    if let Err(failure) = looking.join() {
        std::panic::resume_unwind(failure);
    }
}

#[test]
fn workers_on_kvm_are_jailed() {
    match kvm() {
        Ok(()) => look("jail-kvm", "kvm", &quiet(), &[None]),
        Err(why) => skip("jail-kvm", &why),
    }
}

#[test]
fn the_table_of_the_two_workers() {
    let machine = Machine {
        name: "jail-table",
        engine: "interp",
        sections: nat(),
        user: None,
    };
    let Some(running) = machine.start() else {
        return;
    };
    running.is_jailed();
    println!("{}", table(&running));
}

/// No more is allowed than users are told.
#[test]
fn readme_tells_every_system_call_of_every_thread() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    for line in system_calls().lines() {
        assert!(readme.lines().any(|there| there == line), "not in README: {line}");
    }
}

/// The table of README: what was asserted just before, read again for people.
fn table(running: &Running) -> String {
    let (vmm, app) = (&running.vmm, &running.app);
    let supervisor = Process::new(running.vm.pid());
    let both =
        |what: &str, of: &dyn Fn(&Process) -> String| format!("| {what} | {} | {} |\n", of(vmm), of(app));
    let mut text = "| | vmm | I/O worker |\n|---|---|---|\n".to_owned();
    text += &both("user and group", &|process| process.status("Uid")[0].clone());
    text += &both("capabilities", &|process| {
        let empty = CAPABILITIES
            .iter()
            .all(|set| process.status(set) == ["0000000000000000"]);
        if empty { "none, in any set" } else { "some" }.to_owned()
    });
    text += &both("own namespaces", &|process| {
        let own = NAMESPACES
            .iter()
            .filter(|kind| process.namespace(kind) != supervisor.namespace(kind));
        own.copied().collect::<Vec<_>>().join(", ")
    });
    text += &both("files in its root", &|process| process.root().len().to_string());
    text += &both("descriptors", &held);
    text += &both("shared mappings", &shared);
    text += &both("private mappings", &|process| {
        let readable = process
            .mappings()
            .into_iter()
            .filter(|mapping| mapping.rights.starts_with('r'));
        let private = readable
            .filter(|mapping| mapping.rights.ends_with('p'))
            .map(|mapping| mapping.len);
        format!("{} MiB", private.sum::<u64>() >> 20)
    });
    text += &both("limits", &|process| {
        let number = |name: &str| -> u64 { process.limit(name)[0].parse().expect("a number") };
        let mib = |name| number(name) >> 20;
        format!(
            "{} descriptors, files of {} bytes, {} MiB of data, {} of stack, {} of address space",
            number("Max open files"),
            process.limit("Max file size")[0],
            mib("Max data size"),
            mib("Max stack size"),
            mib("Max address space"),
        )
    });
    text + &system_calls()
}

/// The last row, and the lists below the table.
fn system_calls() -> String {
    let io = Io {
        network: true,
        terminal: true,
    };
    let [vcpu, kvm, ear, disk] = [
        Thread::Vcpu { kvm: false },
        Thread::Vcpu { kvm: true },
        Thread::Ear,
        Thread::Disk,
    ]
    .map(calls);
    let [plain, all] = [Io::default(), io].map(|io| calls(Thread::WaitLoop(io)));
    let mut text = format!(
        "| system calls | vCPU {}, with `kvm` {}; ear {} | wait loop {}, with `nat` and a terminal {}; disk {} |\n\n",
        vcpu.len(),
        kvm.len(),
        ear.len(),
        plain.len(),
        all.len(),
        disk.len()
    );
    let every: Vec<_> = ear.iter().filter(|call| disk.contains(call)).cloned().collect();
    let told =
        |name: &str, calls: &[String]| format!("- *{name}*: {}.\n", calls.join(", ").replace('*', "\\*"));
    text += &told("Every thread", &every);
    for (name, list) in [("vCPU", kvm), ("ear", ear), ("wait loop", all), ("disk", disk)] {
        let more: Vec<_> = list.into_iter().filter(|call| !every.contains(call)).collect();
        text += &told(name, &more);
    }
    text
}

fn held(process: &Process) -> String {
    let held = process.descriptors().into_iter().map(|(kind, count)| {
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        if count == 1 {
            kind
        } else {
            format!("{count} {kind}")
        }
    });
    held.collect::<Vec<_>>().join(", ")
}

fn shared(process: &Process) -> String {
    let mappings = process.mappings().into_iter();
    let shared = mappings
        .filter(|mapping| mapping.rights.ends_with('s'))
        .map(|mapping| {
            let name = mapping
                .name
                .trim_start_matches("/memfd:")
                .trim_end_matches(" (deleted)")
                .to_owned();
            format!("{name} {} {} KiB", mapping.rights, mapping.len >> 10)
        });
    shared.collect::<Vec<_>>().join(", ")
}

/// Names of the calls on a thread's list; with an asterisk, those whose arguments matter.
fn calls(thread: Thread) -> Vec<String> {
    let rows: BTreeMap<&str, &Row> = lists(thread)
        .into_iter()
        .flatten()
        .map(|row| (row.name, row))
        .collect();
    let named = rows.into_iter().map(|(name, row)| match row.when {
        [] => name.to_owned(),
        _ => format!("{name}*"),
    });
    named.collect()
}

/// A namespace is what can be taken away here: by a limit of none, in a user namespace around the whole product.
#[test]
fn a_jail_that_is_not_whole_is_told_and_with_require_jail_an_error() {
    let name = "jail-required";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("vm.toml");
    let text = format!(
        "name = {name:?}\n[machine]\nmemory = \"64M\"\nengine = \"interp\"\n[boot]\nkernel = \"{GUESTS}/hello.elf\"\n\
         [console]\nserial = \"stdio\"\n"
    );
    std::fs::write(&config, text).expect("a config file");
    let run = |setting: &str, option: &str| {
        let script = format!("{setting} exec \"$0\" run \"$1\" {option}");
        let done = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .args([&program("vmapp"), &config])
            .env("XDG_RUNTIME_DIR", folder.path())
            .output()
            .ok()?;
        let [output, errors] =
            [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Some((done.status.code(), output, errors))
    };
    let without = "echo 0 >/proc/sys/user/max_net_namespaces &&";
    let Some((status, output, errors)) = run(without, "") else {
        return skip(name, "no unshare(1) here");
    };
    if errors.contains("unshare:") || errors.contains("sh:") {
        return skip(name, &errors);
    }
    assert_eq!(status, Some(0), "{errors}");
    assert!(output.contains("hello"), "{output}");
    for who in ["vmm", "I/O worker"] {
        let told = format!("{who}: shares the host's network");
        assert!(errors.contains(&told), "no {told:?} in: {errors}");
    }
    let (status, output, errors) = run(without, "--require-jail").expect("as before");
    assert_eq!(status, Some(1), "{errors}");
    assert_eq!(output, "", "the guest ran");
    for word in ["--require-jail", "namespaces", "max_*_namespaces"] {
        assert!(errors.contains(word), "no {word} in: {errors}");
    }
}

#[test]
fn where_nothing_is_missing_require_jail_changes_nothing() {
    let name = "jail-whole";
    if let Some(why) = walls::missing(None) {
        return skip(name, &why);
    }
    let mut vm = Vm::guest(name, "hello.elf", "", "engine = \"interp\"\nrequire_jail = true");
    let ended = vm.end();
    assert_eq!(ended.code(), Some(0), "{}", vm.errors());
    assert!(!vm.errors().contains("warning"), "{}", vm.errors());
}

/// As the kernel ends a worker that makes a call outside its list.
#[test]
fn a_worker_killed_by_its_filter_is_named_so() {
    let mut vm = Vm::guest("jail-sigsys", "hello.elf", "forever", "engine = \"interp\"");
    vm.wait_for("ticks", |vm| vm.output().contains("second 1"));
    end(&vm, "vmapp-io");
    let told = "killed by SIGSYS: a system call outside its list";
    vm.wait_for("the word about the I/O worker", |vm| {
        vm.errors().contains(&format!("I/O worker died: {told}"))
    });
    let before = vm.output().len();
    vm.wait_for("the next one's work", |vm| vm.output().len() > before + 20);
    end(&vm, "vmm");
    assert_eq!(vm.end().code(), Some(3));
    assert!(
        vm.errors().contains(&format!("vmm died: {told}")),
        "{}",
        vm.errors()
    );
}

fn end(vm: &Vm, name: &str) {
    let workers = vm.workers();
    let (pid, _) = workers
        .iter()
        .find(|(_, worker)| worker == name)
        .expect("a worker");
    let pid = i32::try_from(*pid).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGSYS).expect("it can be killed");
}

/// `vmapp run` with the three standard streams on these, and its workers: the vmm, the I/O worker.
fn run_on(streams: [OwnedFd; 3], console: &str, folder: &Path) -> (std::process::Child, [Process; 2]) {
    let config = folder.join("vm.toml");
    let text = format!(
        "name = \"jail-streams\"\n[machine]\nmemory = \"64M\"\nengine = \"interp\"\n[boot]\nkernel = \"{GUESTS}/hello.elf\"\n\
         cmdline = \"hello.elf forever\"\n[console]\nserial = {console:?}\n"
    );
    std::fs::write(&config, text).expect("a config file");
    let [stdin, stdout, stderr] = streams;
    let mut vmapp = Command::new(program("vmapp"));
    vmapp.arg("run").arg(&config).env("XDG_RUNTIME_DIR", folder);
    let vmapp = vmapp
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("vmapp starts");
    let jailed = |pid| Process::new(pid).status("Seccomp") == ["2"];
    let workers = || {
        ["vmm", "vmapp-io"].map(|name| {
            children(vmapp.id())
                .into_iter()
                .find(|(_, worker)| worker == name)
        })
    };
    until("two workers in their jails", || {
        workers()
            .iter()
            .all(|worker| worker.as_ref().is_some_and(|(pid, _)| jailed(*pid)))
    });
    let workers = workers().map(|worker| Process::new(worker.expect("it is there").0));
    (vmapp, workers)
}

/// The user's terminal, and a file of the user's, can be reached by no worker: but the terminal that is the console, by the I/O worker.
#[test]
fn no_worker_holds_the_users_standard_error() {
    let name = "jail-streams";
    if !Uid::effective().is_root() {
        return skip(name, "only root sees what another process holds");
    }
    let null = || {
        OwnedFd::from(
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .expect("/dev/null"),
        )
    };
    for (console, on_terminal, held) in [("stdio", true, 2), ("none", true, 0), ("none", false, 0)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pty = openpty(None, None).expect("a terminal");
        let terminal = || pty.slave.try_clone().expect("a descriptor");
        let log = folder.path().join("log");
        let (streams, users) = if on_terminal {
            let path = ttyname(&pty.slave).expect("its path");
            ([terminal(), terminal(), terminal()], path)
        } else {
            let file = File::create(&log).expect("a file");
            ([null(), null(), file.into()], log)
        };
        let (mut vmapp, [vmm, app]) = run_on(streams, console, folder.path());
        let users = users.display().to_string();
        for (process, held) in [(&vmm, 0), (&app, held)] {
            has_no_standard_streams_of_the_user(process, vmapp.id());
            let descriptors = process.descriptors();
            assert_eq!(
                descriptors.get(&users).copied().unwrap_or(0),
                held,
                "{users}: {descriptors:?}"
            );
            let others = descriptors.keys().filter(|kind| kind.starts_with("/dev/"));
            let others: Vec<_> = others
                .filter(|kind| **kind != users && *kind != "/dev/null")
                .collect();
            assert!(others.is_empty(), "{others:?}");
            let reopened = process.open(2).expect("root may");
            assert!(!reopened.is_terminal());
        }
        vmapp.kill().expect("it can be killed");
        vmapp.wait().expect("it was started");
    }
}
