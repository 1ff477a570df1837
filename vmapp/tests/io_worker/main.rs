//! The I/O worker as a real process with network cards and disks, the test being its supervisor and the vmm.

mod armed;
mod console;
mod faults;
mod nat;
mod points;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shared::msg::disk::{Completion, Down, Request, Status};
use shared::msg::fault::Order;
use shared::msg::handover::{ConsoleSpec, DiskBackSpec, FdRole, FromApp, Joins, NetBackSpec, ToApp};
use shared::msg::net;
use shared::ring::Side;
use shared::spec::{BootSpec, DiskSpec, EngineChoice, IoSpec, MachineSpec, NetSpec, OnReset};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmapp::back::disk::command::{CommandError, commit};
use vmapp::back::disk::open::{DiskOpenError, open, open_overlay, overlay_path};
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::Child;
use zerocopy::{FromBytes, IntoBytes};

const LONG: Duration = Duration::from_secs(30);
const SECTOR: usize = 512;
const SECTORS: u64 = 128;

fn spec() -> MachineSpec {
    let disk = |read_only| DiskSpec {
        sectors: SECTORS,
        read_only,
        serial: "1".into(),
    };
    MachineSpec {
        name: "demo".into(),
        memory_bytes: 16 << 20,
        cpus: 1,
        engine: EngineChoice::Auto,
        boot: BootSpec::Image,
        on_reset: OnReset::Exit,
        debug_exit: None,
        test_device: false,
        require_jail: false,
        io: IoSpec::default(),
        nets: vec![NetSpec {
            mac: [2, 0, 0, 0, 0, 1],
        }],
        disks: vec![disk(false), disk(false), disk(true)],
    }
}

/// What the supervisor keeps over the workers' lives.
struct Supervisor {
    memory: SharedMemory,
    bells: Bells,
    crossing: Arc<Crossing>,
    console: ConsoleSpec,
    heartbeat_ms: Option<u32>,
    fds: Vec<(FdRole, OwnedFd)>,
}

impl Supervisor {
    fn new(folder: &Path) -> Self {
        let memory = SharedMemory::create(&spec().channels()).unwrap();
        let bells = Bells::new().unwrap();
        let image = |name: &str| {
            let path = folder.join(name);
            File::create(&path)
                .unwrap()
                .set_len(SECTORS * SECTOR as u64)
                .unwrap();
            path
        };
        let (raw, base, fixed) = (image("raw"), image("base"), image("fixed"));
        let (base_fd, sectors) = open(&base, false).unwrap();
        let pcap = OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join("pcap"));
        let fds = vec![
            (FdRole::Disk(0), open(&raw, true).unwrap().0),
            (
                FdRole::Overlay(1),
                open_overlay(&overlay_path(&base), &base, &base_fd, sectors).unwrap(),
            ),
            (FdRole::Disk(1), base_fd),
            (FdRole::Disk(2), open(&fixed, false).unwrap().0),
            (FdRole::Pcap(0), pcap.unwrap().into()),
        ];
        Self {
            crossing: Crossing::new(Side::Vmm, &memory, bells.try_clone().unwrap(), IoSpec::default()),
            memory,
            bells,
            console: ConsoleSpec::None,
            heartbeat_ms: None,
            fds,
        }
    }

    /// Starts a worker and hands everything over; it has said Ready.
    fn start(&self, nets: Vec<NetBackSpec>) -> (Child, Socket, Option<FromApp>) {
        let (child, socket) = self.spawn(nets, Vec::new());
        let word = hear(&socket);
        (child, socket, word)
    }

    /// Starts a worker with faults armed, and hands everything over.
    fn spawn(&self, nets: Vec<NetBackSpec>, faults: Vec<Order>) -> (Child, Socket) {
        let (ours, theirs) = Socket::pair().unwrap();
        let child = Child::spawn(
            env!("CARGO_BIN_EXE_vmapp"),
            ["io-worker"],
            theirs,
            Stdio::inherit(),
        )
        .unwrap();
        let common = [
            (FdRole::Memory, self.memory.fd()),
            (FdRole::AppDoorbell, self.bells.app.as_fd()),
            (FdRole::VmmDoorbell, self.bells.vmm.as_fd()),
            (FdRole::VmmKick, self.bells.vmm_kick.as_fd()),
        ];
        let own = self.fds.iter().map(|(role, fd)| (*role, fd.as_fd()));
        let (roles, fds): (Vec<FdRole>, Vec<BorrowedFd>) = common.into_iter().chain(own).unzip();
        let start = ToApp::Start {
            spec: Box::new(spec()),
            heartbeat_ms: self.heartbeat_ms,
            console: self.console.clone(),
            nets,
            disks: vec![DiskBackSpec::Raw, DiskBackSpec::Overlay, DiskBackSpec::Raw],
            faults,
            fds: roles,
        };
        ours.send(&start, &fds).unwrap();
        (child, ours)
    }

    fn channel(&self, number: u8) -> Channel {
        self.crossing.channel(number).unwrap()
    }
}

/// The worker's next word but warnings; `None`: it hung up.
fn hear(socket: &Socket) -> Option<FromApp> {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < LONG, "the worker says nothing");
        socket.wait(Duration::from_secs(1)).unwrap();
        match socket.recv().unwrap() {
            Received::Message(FromApp::Warning(_), _) | Received::Nothing => {}
            Received::Message(word, _) => return Some(word),
            Received::HungUp => return None,
        }
    }
}

fn ask(channel: &mut Channel, id: u64, kind: Down, lba: u64, data: &[u8]) {
    let sectors = match kind {
        Down::Flush => 0,
        Down::Read | Down::Write => 1,
    };
    let request = Request {
        lba,
        sectors,
        reserved: 0,
    };
    channel
        .push(kind as u16, id, &[request.as_bytes(), data].concat())
        .unwrap();
    channel.flush().unwrap();
}

/// The next slot of `channel`: kind, id, payload.
fn next(channel: &mut Channel) -> (u16, u64, Vec<u8>) {
    let begun = Instant::now();
    let mut payload = Vec::new();
    loop {
        if let Some(header) = channel.next(&mut payload).unwrap() {
            channel.release(1).unwrap();
            return (header.kind, header.id, payload);
        }
        assert!(begun.elapsed() < LONG, "nothing comes");
        channel.crossing().look();
        channel
            .crossing()
            .sleep(Some(Duration::from_millis(100)), &[])
            .unwrap();
    }
}

/// The completion of request `id`. One that a worker was killed after, before it gave the slot back, comes again from the
/// next worker: what was answered is passed over, as the machine's disks do.
fn done_at_last(channel: &mut Channel, id: u64) -> (u64, Status, Vec<u8>) {
    loop {
        let end = done(channel);
        if end.0 >= id {
            return end;
        }
    }
}

/// The next completion: id, status, data.
fn done(channel: &mut Channel) -> (u64, Status, Vec<u8>) {
    let (_, id, payload) = next(channel);
    let (completion, data) = Completion::read_from_prefix(&payload).unwrap();
    (id, Status::from_shared(completion.status), data.to_vec())
}

#[test]
fn a_worker_serves_every_device_dies_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let spec = spec();
    let mut disks = [0, 1, 2].map(|n| supervisor.channel(spec.disk_channel(n)));
    let mut net = supervisor.channel(spec.net_channel(0));
    let mut id = 0;
    for life in 1..=3u8 {
        let (child, socket, word) = supervisor.start(vec![NetBackSpec::None]);
        assert_eq!(word, Some(FromApp::Ready));
        // What the one before left behind, or nobody has seen yet.
        if life > 1 {
            for disk in disks.iter_mut().take(2) {
                assert_eq!(done_at_last(disk, id), (id, Status::Good, vec![]));
            }
        }
        assert_eq!(
            next(&mut net),
            (net::Up::Link as u16, 0, vec![0]),
            "backend = none"
        );
        net.push(net::Down::Frame as u16, 1, &[0; 60]).unwrap();
        net.flush().unwrap();
        id += 1;
        for disk in &mut disks {
            ask(disk, id, Down::Write, u64::from(life), &[life; SECTOR]);
        }
        let ends = disks.each_mut().map(|disk| done_at_last(disk, id));
        assert_eq!(
            ends.map(|end| (end.0, end.1)),
            [(id, Status::Good), (id, Status::Good), (id, Status::ReadOnly)]
        );
        id += 1;
        for disk in &mut disks {
            ask(disk, id, Down::Read, u64::from(life), &[]);
        }
        let ends = disks.each_mut().map(done);
        assert_eq!(ends.map(|end| end.2[0]), [life, life, 0]);
        if life == 3 {
            socket.send(&ToApp::Finish, &[]).unwrap();
            assert_eq!(hear(&socket), Some(FromApp::Finished));
            break;
        }
        // Stopped, it is killed with requests published that it has not seen.
        let process = Pid::from_raw(child.pid().cast_signed());
        kill(process, Signal::SIGSTOP).unwrap();
        id += 1;
        for disk in disks.iter_mut().take(2) {
            ask(disk, id, Down::Write, 100 + u64::from(life), &[life; SECTOR]);
        }
        drop(child);
    }
    let byte = |name: &str, lba: u64| {
        let mut byte = [0];
        let file = File::open(folder.path().join(name)).unwrap();
        file.read_exact_at(&mut byte, lba * SECTOR as u64).unwrap();
        byte[0]
    };
    assert_eq!([1, 2, 3, 101, 102].map(|lba| byte("raw", lba)), [1, 2, 3, 1, 2]);
    assert_eq!([1, 2, 3, 101, 102].map(|lba| byte("base", lba)), [0; 5]);
    drop(supervisor);
    let begun = Instant::now();
    let committed = loop {
        // A worker the other test is about to start may hold the lock up to its exec.
        match commit(&folder.path().join("base"), None) {
            Err(CommandError::Open(DiskOpenError::InUse { .. })) if begun.elapsed() < LONG => {}
            done => break done.unwrap(),
        }
    };
    assert!(committed.ends_with("5 sectors written to it\n"), "{committed}");
    assert_eq!([1, 2, 3, 101, 102].map(|lba| byte("base", lba)), [1, 2, 3, 1, 2]);
    assert!(folder.path().join("pcap").metadata().unwrap().len() > 0);
}

#[test]
fn a_start_with_other_back_ends_than_devices_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let (_child, _socket, word) = supervisor.start(vec![]);
    let Some(FromApp::Failed(words)) = word else {
        panic!("{word:?}");
    };
    assert_eq!(words, "0 back ends for 1 network cards");
    let (_child, _socket, word) = supervisor.start(vec![NetBackSpec::Tap {
        joins: Joins::default(),
    }]);
    assert!(
        matches!(word, Some(FromApp::Failed(_))),
        "no descriptor for it: {word:?}"
    );
}
