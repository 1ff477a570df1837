//! A real I/O worker whose supervisor and vmm are this test.

use crate::vmm::heard;
use shared::mem::Mapped;
use shared::msg::disk::{Completion, Down, Request, Status};
use shared::msg::handover::{ConsoleSpec, DiskBackSpec, FdRole, FromApp, NetBackSpec, ToApp};
use shared::ring::Side;
use shared::spec::{CONSOLE_CHANNEL, IoSpec, MachineSpec, Notify};
use std::fs::File;
use std::io::{Read, pipe};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tests::product::{LIMIT, program};
use vmapp::back::disk::open::open;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::handover::Socket;
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::{Child, Death};
use zerocopy::{FromBytes, IntoBytes};

/// How long a worker may take to finish.
const OBEYS: Duration = Duration::from_secs(5);
pub const SECTOR: usize = 512;
/// The guest's address in the private network, and its router's.
pub const GUEST_IP: [u8; 4] = [10, 0, 2, 15];
pub const ROUTER_IP: [u8; 4] = [10, 0, 2, 2];

pub fn spec() -> MachineSpec {
    crate::vmm::spec("", Notify::Bitmap)
}

/// A worker that has been told nothing yet.
pub struct Spawned {
    pub child: Child,
    pub socket: Socket,
}

impl Spawned {
    pub fn new() -> Self {
        let (socket, theirs) = Socket::pair().expect("a socket");
        let child = Child::spawn(program("vmapp"), ["io-worker"], theirs, Stdio::inherit())
            .expect("the worker starts");
        Self { child, socket }
    }

    /// The next word that is no warning; `None`: it hung up.
    pub fn word(&self) -> Option<FromApp> {
        heard(&self.socket, |word| matches!(word, FromApp::Warning(_)))
    }

    /// Asks it to finish, which it does in time.
    pub fn finish(&mut self, what: &str) {
        let asked = Instant::now();
        self.socket.send(&ToApp::Finish, &[]).expect("the worker listens");
        assert_eq!(self.word(), Some(FromApp::Finished), "{what}");
        assert_eq!(self.child.wait(), Death::Exited(0), "{what}");
        assert!(asked.elapsed() < OBEYS, "{what}: {:?}", asked.elapsed());
    }
}

/// The means of a worker: memory, doorbells, a private network, a disk, and pipes for a console.
pub struct Means {
    pub memory: SharedMemory,
    pub bells: Bells,
    _folder: tempfile::TempDir,
    disk: OwnedFd,
    input: OwnedFd,
    output: OwnedFd,
    /// The host's ends.
    typed: Option<OwnedFd>,
    printed: Option<OwnedFd>,
}

impl Means {
    pub fn new() -> Self {
        // In memory where there is such a folder: how long a host's disk takes for a flush is not what is tested.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a folder");
        let path = folder.path().join("disk");
        let bytes = crate::vmm::SECTORS * SECTOR as u64;
        File::create(&path)
            .and_then(|file| file.set_len(bytes))
            .expect("a file");
        let (input, typed) = pipe().expect("a pipe");
        let (printed, output) = pipe().expect("a pipe");
        Self {
            memory: SharedMemory::create(&spec().channels()).expect("shared memory"),
            bells: Bells::new().expect("doorbells"),
            disk: open(&path, true).expect("an image").0,
            _folder: folder,
            input: input.into(),
            output: output.into(),
            typed: Some(typed.into()),
            printed: Some(printed.into()),
        }
    }

    /// What the host finds in a sector of the disk.
    pub fn sector(&self, lba: u64) -> Vec<u8> {
        let mut sector = vec![0; SECTOR];
        let file = File::from(self.disk.try_clone().expect("a descriptor"));
        file.read_exact_at(&mut sector, lba * SECTOR as u64)
            .expect("a sector");
        sector
    }

    /// All that a worker of [`spec`] needs.
    pub fn descriptors(&self) -> Vec<(FdRole, BorrowedFd<'_>)> {
        vec![
            (FdRole::Memory, self.memory.fd()),
            (FdRole::AppDoorbell, self.bells.app.as_fd()),
            (FdRole::VmmDoorbell, self.bells.vmm.as_fd()),
            (FdRole::VmmKick, self.bells.vmm_kick.as_fd()),
            (FdRole::Disk(0), self.disk.as_fd()),
            (FdRole::ConsoleIn, self.input.as_fd()),
            (FdRole::ConsoleOut, self.output.as_fd()),
        ]
    }
}

/// The `Start` for these descriptors.
pub fn start(roles: Vec<FdRole>) -> ToApp {
    ToApp::Start {
        spec: Box::new(spec()),
        console: ConsoleSpec::Stream,
        nets: vec![NetBackSpec::Nat {
            network: (Ipv4Addr::new(10, 0, 2, 0), 24),
            dns: Vec::new(),
            forwards: Vec::new(),
        }],
        disks: vec![DiskBackSpec::Raw],
        heartbeat_ms: None,
        faults: Vec::new(),
        fds: roles,
    }
}

/// A worker that serves.
pub struct Worker {
    pub process: Spawned,
    pub means: Means,
    /// The vmm's end.
    pub vmm: Arc<Crossing>,
}

impl Worker {
    pub fn start() -> Self {
        let means = Means::new();
        let process = Spawned::new();
        let (roles, fds): (Vec<_>, Vec<_>) = means.descriptors().into_iter().unzip();
        process
            .socket
            .send(&start(roles), &fds)
            .expect("the worker listens");
        assert_eq!(process.word(), Some(FromApp::Ready));
        let bells = means.bells.try_clone().expect("descriptors");
        Self {
            vmm: Crossing::new(Side::Vmm, &means.memory, bells, IoSpec::default()),
            process,
            means,
        }
    }

    pub fn mem(&self) -> Mapped {
        self.means.memory.mem()
    }

    pub fn pid(&self) -> u32 {
        self.process.child.pid()
    }

    /// Fails if it is gone.
    pub fn lives(&mut self, what: &str) {
        assert_eq!(self.process.child.try_wait(), None, "{what}: the worker is gone");
    }

    pub fn channel(&self, number: u8) -> Channel {
        self.vmm.channel(number).expect("a channel of the layout")
    }

    pub fn disk(&self) -> Disk {
        Disk {
            channel: self.channel(spec().disk_channel(0)),
            id: 0,
        }
    }

    pub fn net(&self) -> Channel {
        self.channel(spec().net_channel(0))
    }

    pub fn console(&self) -> Channel {
        self.channel(CONSOLE_CHANNEL)
    }

    /// What the console prints, piece by piece, read by a thread.
    pub fn printed(&mut self) -> Receiver<Vec<u8>> {
        let mut pipe = File::from(self.means.printed.take().expect("asked for once"));
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        told
    }

    /// Where the console's input is typed.
    pub fn typed(&mut self) -> File {
        File::from(self.means.typed.take().expect("asked for once"))
    }
}

/// An honest machine's disk.
pub struct Disk {
    pub channel: Channel,
    pub id: u64,
}

impl Disk {
    /// Publishes a request; false: there is no room.
    pub fn ask(&mut self, kind: u16, request: Request, data: &[u8]) -> bool {
        let payload = [request.as_bytes(), data].concat();
        let sent = self.channel.push(kind, self.id + 1, &payload).is_ok();
        if sent {
            self.id += 1;
            self.channel.flush().expect("a doorbell");
        }
        sent
    }

    pub fn write(&mut self, lba: u64, byte: u8) -> bool {
        self.ask(Down::Write as u16, one(lba), &[byte; SECTOR])
    }

    pub fn read(&mut self, lba: u64) -> bool {
        self.ask(Down::Read as u16, one(lba), &[])
    }

    /// The next completion, if it is there: id, status, data.
    pub fn done(&mut self) -> Option<(u64, Status, Vec<u8>)> {
        let mut payload = Vec::new();
        let header = self.channel.next(&mut payload).expect("an honest worker")?;
        self.channel.release(1).expect("a doorbell");
        let (completion, data) = Completion::read_from_prefix(&payload).expect("a completion");
        Some((header.id, Status::from_shared(completion.status), data.to_vec()))
    }

    /// Waits for the completion of the last request.
    pub fn last(&mut self) -> (Status, Vec<u8>) {
        loop {
            if let Some((id, status, data)) = wait(&self.channel.crossing().clone(), || self.done())
                && id == self.id
            {
                return (status, data);
            }
        }
    }

    /// Writes and reads a sector, as any disk should.
    pub fn works(&mut self, byte: u8) {
        assert!(self.write(3, byte) && self.last().0 == Status::Good);
        assert!(self.read(3));
        assert_eq!(self.last(), (Status::Good, vec![byte; SECTOR]));
    }
}

/// A request for one sector.
pub fn one(lba: u64) -> Request {
    Request {
        lba,
        sectors: 1,
        reserved: 0,
    }
}

/// Waits until `look` finds something; `None` never comes.
pub fn wait<T>(crossing: &Crossing, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        crossing.look();
        let found = look();
        if found.is_some() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "nothing comes");
        crossing
            .sleep(Some(Duration::from_millis(20)), &[])
            .expect("sleep");
    }
}

/// An Ethernet frame from the guest to everybody: who has the router's address?
pub fn who_has_router() -> Vec<u8> {
    const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let mut frame = vec![0xff; 6];
    frame.extend(GUEST);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(GUEST);
    frame.extend(GUEST_IP);
    frame.extend([0; 6]);
    frame.extend(ROUTER_IP);
    frame.resize(60, 0);
    frame
}
