//! Workers as processes: what they inherit, what they can still do after giving up their rights, and how they end.
//!
//! Not under the test harness: a worker must have one thread when it gives up its rights, and this program is its own
//! worker, started again with a part to play.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::jail::{self, Cell, Role, Room, UID_BASE, UID_PAIRS};
use vmdriver_shim::spawn::{self, Child, Death};

const LIMIT: Duration = Duration::from_secs(20);

/// What a worker tells of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    kept: Vec<String>,
    descriptors: Vec<String>,
    environment: Vec<String>,
    refused: Vec<String>,
    child: u32,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "--part") {
        return part(&args[2]);
    }
    let tests: [(&str, fn()); 8] = [
        (
            "a_worker_inherits_its_socket_and_nothing_else",
            a_worker_inherits_its_socket_and_nothing_else,
        ),
        (
            "a_jailed_worker_has_no_rights_left",
            a_jailed_worker_has_no_rights_left,
        ),
        (
            "rights_are_not_given_up_by_halves",
            rights_are_not_given_up_by_halves,
        ),
        (
            "the_way_a_worker_ends_is_reported",
            the_way_a_worker_ends_is_reported,
        ),
        (
            "a_dropped_child_is_dead_and_reaped",
            a_dropped_child_is_dead_and_reaped,
        ),
        (
            "keys_at_the_terminal_do_not_end_a_worker",
            keys_at_the_terminal_do_not_end_a_worker,
        ),
        (
            "a_worker_dies_with_its_supervisor",
            a_worker_dies_with_its_supervisor,
        ),
        (
            "the_two_workers_never_share_a_user",
            the_two_workers_never_share_a_user,
        ),
    ];
    // As the harness does: a name on the command line selects, options are not for us.
    let filter = args.get(1).filter(|arg| !arg.starts_with('-'));
    for (name, test) in tests {
        if filter.is_none_or(|filter| name.contains(filter.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn start(part: &str) -> (Child, Socket) {
    let (ours, theirs) = Socket::pair().unwrap();
    let program = std::env::current_exe().unwrap();
    let child = Child::spawn(program, ["--part", part], theirs, Stdio::inherit()).unwrap();
    (child, ours)
}

fn report(socket: &Socket) -> Report {
    assert!(socket.wait(LIMIT).unwrap(), "no report");
    match socket.recv().unwrap() {
        Received::Message(report, _) => report,
        other => panic!("{other:?}"),
    }
}

/// Waits for the worker's end, as a supervisor does: by its pidfd.
fn end(child: &mut Child) -> Death {
    let mut fds = [nix::poll::PollFd::new(
        child.pidfd(),
        nix::poll::PollFlags::POLLIN,
    )];
    let limit = nix::poll::PollTimeout::try_from(LIMIT).unwrap();
    assert_eq!(nix::poll::poll(&mut fds, limit), Ok(1), "still alive");
    child.try_wait().expect("the pidfd says it is dead")
}

/// The worker's side.
fn part(name: &str) {
    if name == "exit" {
        std::process::exit(7);
    }
    spawn::die_with_parent().unwrap();
    spawn::leave_signals_to_supervisor().unwrap();
    let socket = spawn::inherited_socket().unwrap();
    let mut child = 0;
    let mut kept = Vec::new();
    let mut grandchild = None;
    match name {
        "vmm" => kept = jail::enter(&cell(Role::Vmm)).unwrap(),
        "app" | "deaf" => kept = jail::enter(&cell(Role::App)).unwrap(),
        "threads" => {
            let (hold, held) = std::sync::mpsc::channel::<()>();
            let other = std::thread::spawn(move || held.recv());
            let error = jail::enter(&cell(Role::Vmm)).unwrap_err();
            kept.push(error.to_string());
            drop(hold);
            assert!(other.join().unwrap().is_err());
        }
        "supervisor" => {
            let (worker, its_socket) = start("deaf");
            report(&its_socket);
            child = worker.pid();
            grandchild = Some((worker, its_socket));
        }
        _ => {}
    }
    let report = Report {
        kept,
        descriptors: descriptors(),
        environment: std::env::vars().map(|(name, _)| name).collect(),
        refused: refused(),
        child,
    };
    socket.send(&report, &[]).unwrap();
    if name == "deaf" {
        std::thread::sleep(LIMIT);
    }
    socket.wait(LIMIT).unwrap();
    // The supervisor has closed its end, or sent something: the end either way, and for a supervisor a sudden one.
    if grandchild.is_some() {
        kill(Pid::this(), Signal::SIGKILL).unwrap();
    }
}

/// What each descriptor is, in order; a process whose /proc is not its own any more cannot say.
fn descriptors() -> Vec<String> {
    (0..64)
        .filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

/// A file of its folder in /proc, read from here: a jailed worker has no /proc.
fn proc(child: &Child, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", child.pid())).unwrap()
}

fn limit(child: &Child, name: &str) -> String {
    let limits = proc(child, "limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Things only a privileged process can do, tried: those that were refused.
fn refused() -> Vec<String> {
    let attempts: [(&str, bool); 3] = [
        ("become root", nix::unistd::setuid(Uid::from_raw(0)).is_err()),
        ("read shadow", fs::read("/etc/shadow").is_err()),
        ("signal init", kill(Pid::from_raw(1), None).is_err()),
    ];
    let refused = attempts.into_iter().filter(|(_, refused)| *refused);
    refused.map(|(what, _)| what.to_owned()).collect()
}

/// A cell for this role on a host that need not be able to build every wall.
fn cell(role: Role) -> Cell {
    Cell {
        role,
        network: false,
        room: Room {
            descriptors: 8,
            memory: 64 << 20,
            threads: 0,
            largest_file: None,
        },
        required: false,
    }
}

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find(|line| line.split(':').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}"))
        .split_whitespace()
        .skip(1)
        .collect()
}

fn a_worker_inherits_its_socket_and_nothing_else() {
    // A descriptor as a careless shell leaves it: open across exec.
    let (_read, write) = nix::unistd::pipe().unwrap();
    let leaky = nix::unistd::dup(write.as_fd()).unwrap();
    nix::fcntl::fcntl(&leaky, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let (mut child, socket) = start("plain");
    let got = report(&socket);
    let [stdin, stdout, _stderr, socket_link] = &got.descriptors[..] else {
        panic!("{:?}", got.descriptors);
    };
    assert_eq!((stdin.as_str(), stdout.as_str()), ("/dev/null", "/dev/null"));
    assert!(socket_link.starts_with("socket:"), "{socket_link}");
    let allowed =
        |name: &String| name.starts_with("RUST_") || name.starts_with("WORLDSWITCH_") || name == "NO_COLOR";
    assert!(got.environment.iter().all(allowed), "{:?}", got.environment);
    drop(socket);
    assert_eq!(end(&mut child), Death::Exited(0));
}

fn a_jailed_worker_has_no_rights_left() {
    for role in ["vmm", "app"] {
        let (mut child, socket) = start(role);
        let got = report(&socket);
        let status = proc(&child, "status");
        assert_eq!(field(&status, "NoNewPrivs"), ["1"], "{role}");
        let core_limit = limit(&child, "Max core file size");
        assert_eq!(core_limit, "Max core file size 0 0 bytes", "{role}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&status, set), ["0000000000000000"], "{role} {set}");
        }
        if Uid::effective().is_root() {
            jailed_from_root(role, &status, &got);
        } else {
            println!(
                "skipped: jail of {role}: not started as root: user, group and bounding set are not checked"
            );
        }
        // Not dumpable: its /proc belongs to root, whoever it runs as.
        if role == "vmm" && Uid::effective().is_root() {
            use std::os::unix::fs::MetadataExt;
            let owner =
                fs::metadata(Path::new("/proc").join(child.pid().to_string()).join("environ")).unwrap();
            assert_eq!(owner.uid(), 0, "dumpable");
        }
        drop(socket);
        assert_eq!(end(&mut child), Death::Exited(0), "{role}");
    }
}

fn jailed_from_root(role: &str, status: &str, got: &Report) {
    assert_eq!(got.kept, Vec::<String>::new(), "{role}");
    let which = if role == "vmm" { Role::Vmm } else { Role::App };
    let id = which.id(std::process::id()).to_string();
    assert_eq!(field(status, "Uid"), [id.as_str(); 4], "{role}");
    assert_eq!(field(status, "Gid"), [id.as_str(); 4], "{role}");
    assert_eq!(field(status, "Groups"), [""; 0], "{role}");
    assert_eq!(field(status, "CapBnd"), ["0000000000000000"], "{role}");
    assert_eq!(
        got.refused,
        ["become root", "read shadow", "signal init"],
        "{role}"
    );
}

fn rights_are_not_given_up_by_halves() {
    let (_child, socket) = start("threads");
    let got = report(&socket);
    assert!(got.kept[0].contains("before threads"), "{:?}", got.kept);
}

fn the_way_a_worker_ends_is_reported() {
    let (mut child, _socket) = start("exit");
    assert_eq!(end(&mut child), Death::Exited(7));
    assert_eq!(child.wait(), Death::Exited(7), "and stays so");
    let (mut child, socket) = start("plain");
    report(&socket);
    assert_eq!(child.try_wait(), None);
    child.kill();
    assert_eq!(end(&mut child), Death::Signalled(Signal::SIGKILL as i32));
    child.kill();
    assert_eq!(child.wait().to_string(), "killed by SIGKILL");
    let (_ours, theirs) = Socket::pair().unwrap();
    let missing = Child::spawn("/nonexistent/program", [""; 0], theirs, Stdio::inherit());
    assert!(missing.unwrap_err().to_string().contains("/nonexistent/program"));
}

fn a_dropped_child_is_dead_and_reaped() {
    let (child, socket) = start("plain");
    report(&socket);
    let pid = child.pid();
    drop(child);
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
}

fn keys_at_the_terminal_do_not_end_a_worker() {
    let (mut child, socket) = start("plain");
    report(&socket);
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGTSTP,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        kill(Pid::from_raw(child.pid() as i32), signal).unwrap();
    }
    // It still hears us, and ends when told: by the closed socket.
    assert_eq!(child.try_wait(), None);
    drop(socket);
    assert_eq!(end(&mut child), Death::Exited(0));
}

/// Even one that does not look at its socket. The tie must also survive the change of user id, which cuts it: the
/// worker is jailed.
fn a_worker_dies_with_its_supervisor() {
    let (mut supervisor, socket) = start("supervisor");
    let worker = report(&socket).child;
    let alive = || fs::read_to_string(format!("/proc/{worker}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
    assert!(alive());
    supervisor.kill();
    end(&mut supervisor);
    let start = Instant::now();
    while alive() {
        assert!(start.elapsed() < LIMIT / 2, "left behind");
        std::thread::yield_now();
    }
}

fn the_two_workers_never_share_a_user() {
    let last = UID_BASE + 2 * UID_PAIRS - 1;
    for supervisor in (0..70_000).chain([4_194_304, u32::MAX]) {
        let (vmm, app) = (Role::Vmm.id(supervisor), Role::App.id(supervisor));
        assert_ne!(vmm, app);
        assert!((UID_BASE..=last).contains(&vmm) && (UID_BASE..=last).contains(&app));
    }
    assert!(UID_BASE > u32::from(u16::MAX) && last < 100_000);
}
