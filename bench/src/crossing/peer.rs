//! The two ends of a measured connection, and the other process.
//!
//! The measuring process makes everything, starts itself once more as the peer, and passes a job and descriptors over
//! the product's own hand-over socket. The peer serves until it is killed, which the drop of its handle does.

use super::{Cores, bind};
use crate::Outcome;
use nix::unistd::{read, write};
use serde::{Deserialize, Serialize};
use shared::abi::{ChannelKind, ChannelShape};
use shared::ring::{PushError, Side};
use shared::spec::{IoSpec, Notify};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;
use vmdriver_shim::channel::Channel;
use vmdriver_shim::crossing::{Bells, Crossing};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::{self, Child};

/// Bytes of a message, unless a case says otherwise: a short control message.
pub const PAYLOAD: usize = 64;
/// The channel of everything but synchronous calls.
const STREAM: u8 = 1;
/// The control channel.
const CONTROL: u8 = 0;
/// Longer than any hand-over takes; then the peer is dead.
const LIMIT: Duration = Duration::from_secs(10);

/// How the sides of a ring wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// Looking all the time, never sleeping: no doorbell is ever rung.
    Spin,
    /// The product's way, with this longest spin.
    Sleep {
        /// In microseconds.
        spin_us: u32,
    },
    /// The product's way with `notify = select`.
    Select,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Medium {
    /// A channel of the product.
    Ring(Waiting),
    /// The product's synchronous call, peer's side.
    Calls(Waiting),
    /// Two descriptors read and written in messages of this many bytes.
    Bytes(usize),
}

/// What the peer does with them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Answers each.
    Echo,
    /// Answers one in so many, the last.
    Drain(u64),
}

#[derive(Serialize, Deserialize)]
struct Job {
    cores: Cores,
    medium: Medium,
    task: Task,
}

/// A peer at work. Dropped, it is killed.
pub struct Peer {
    _child: Child,
    _socket: Socket,
}

impl Peer {
    fn start(cores: Cores, medium: Medium, task: Task, fds: &[BorrowedFd]) -> Outcome<Self> {
        let (ours, theirs) = Socket::pair()?;
        let child = Child::spawn(std::env::current_exe()?, ["peer"], theirs, Stdio::inherit())?;
        let job = Job { cores, medium, task };
        ours.send(&job, fds)?;
        if !ours.wait(LIMIT)? || !matches!(ours.recv::<()>()?, Received::Message(..)) {
            return Err("the peer did not start".into());
        }
        Ok(Self {
            _child: child,
            _socket: ours,
        })
    }
}

/// Our end of a ring.
pub struct RingEnd {
    /// The channel measured.
    pub channel: Channel,
    waiting: Waiting,
    buffer: Vec<u8>,
}

impl RingEnd {
    /// A side spins only where its affinity leaves its peer a core to run on, so it sees the cores of both first.
    fn new(
        side: Side,
        cores: Cores,
        memory: &SharedMemory,
        bells: Bells,
        number: u8,
        waiting: Waiting,
    ) -> Outcome<Self> {
        let (notify, spin_us) = match waiting {
            Waiting::Spin => (Notify::Bitmap, 0),
            Waiting::Sleep { spin_us } => (Notify::Bitmap, spin_us),
            Waiting::Select => (Notify::Select, 0),
        };
        bind(&[cores.ours, cores.theirs])?;
        let crossing = Crossing::new(
            side,
            memory,
            bells,
            IoSpec {
                notify,
                spin_us,
                ..IoSpec::default()
            },
        );
        bind(&[if side == Side::Vmm {
            cores.ours
        } else {
            cores.theirs
        }])?;
        Ok(Self {
            channel: crossing.channel(number)?,
            waiting,
            buffer: Vec::new(),
        })
    }

    /// A new ring and a peer at its other end.
    pub fn with_peer(cores: Cores, number: u8, waiting: Waiting, task: Task) -> Outcome<(Self, Peer)> {
        let shape = |kind, slots, slot_bytes| ChannelShape {
            kind,
            down_slots: slots,
            up_slots: slots,
            slot_bytes,
        };
        let memory = SharedMemory::create(&[
            shape(ChannelKind::Control, 16, 256),
            shape(ChannelKind::Net, 256, 2048),
        ])?;
        let bells = Bells::new()?;
        let medium = if number == CONTROL {
            Medium::Calls(waiting)
        } else {
            Medium::Ring(waiting)
        };
        let fds = [
            memory.fd(),
            bells.app.as_fd(),
            bells.vmm.as_fd(),
            bells.vmm_kick.as_fd(),
        ];
        let peer = Peer::start(cores, medium, task, &fds)?;
        Ok((
            Self::new(Side::Vmm, cores, &memory, bells.try_clone()?, number, waiting)?,
            peer,
        ))
    }

    /// On the channel streams go over.
    pub fn stream(cores: Cores, waiting: Waiting, task: Task) -> Outcome<(Self, Peer)> {
        Self::with_peer(cores, STREAM, waiting, task)
    }

    /// On the control channel, for calls.
    pub fn control(cores: Cores, waiting: Waiting) -> Outcome<(Self, Peer)> {
        Self::with_peer(cores, CONTROL, waiting, Task::Echo)
    }

    /// Pushes, waiting for credit where needed. Not published.
    pub fn push(&mut self, payload: &[u8]) -> Outcome<()> {
        loop {
            match self.channel.push(1, 0, payload) {
                Ok(()) => return Ok(()),
                Err(PushError::Full) => {
                    if self.waiting == Waiting::Spin {
                        self.channel.flush()?;
                        std::hint::spin_loop();
                    } else if self.channel.want_credit()? {
                        self.wait()?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Pushes and publishes.
    pub fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        self.push(payload)?;
        self.channel.flush()?;
        Ok(())
    }

    /// Takes the next message, and gives its slot back with those before it in batches of `batch`.
    pub fn recv(&mut self, batch: u32) -> Outcome<&[u8]> {
        while self.channel.next(&mut self.buffer)?.is_none() {
            self.channel.release(batch)?;
            self.wait()?;
        }
        if self.channel.held() >= batch {
            self.channel.release(batch)?;
        }
        Ok(&self.buffer)
    }

    /// Until the peer may have done something.
    fn wait(&mut self) -> Outcome<()> {
        let crossing = self.channel.crossing();
        if self.waiting == Waiting::Spin {
            std::hint::spin_loop();
        } else if crossing.look() == 0 {
            crossing.sleep(Some(LIMIT), &[])?;
        }
        Ok(())
    }
}

/// Our end of a pair of descriptors.
pub struct BytesEnd {
    input: OwnedFd,
    output: OwnedFd,
    buffer: Vec<u8>,
    len: usize,
}

impl BytesEnd {
    /// Reads `input` and writes `output`, the peer the other two.
    pub fn with_peer(
        cores: Cores,
        (input, output): (OwnedFd, OwnedFd),
        (their_input, their_output): (OwnedFd, OwnedFd),
        len: usize,
        task: Task,
    ) -> Outcome<(Self, Peer)> {
        bind(&[cores.ours])?;
        let fds = [their_input.as_fd(), their_output.as_fd()];
        let peer = Peer::start(cores, Medium::Bytes(len), task, &fds)?;
        Ok((Self::new(input, output, len), peer))
    }

    fn new(input: OwnedFd, output: OwnedFd, len: usize) -> Self {
        Self {
            input,
            output,
            // A stream may be read in larger pieces than it was written.
            buffer: vec![0; len.max(1 << 16)],
            len,
        }
    }

    /// Sends one message.
    pub fn send(&mut self) -> Outcome<()> {
        // An eventfd adds up what is written; anything else carries the bytes.
        let mut message = [0u8; 2048];
        message[0] = 1;
        write(&self.output, message.get(..self.len).ok_or("message too long")?)?;
        Ok(())
    }

    /// Takes what is there; returns how many messages that was.
    pub fn recv(&mut self, most: usize) -> Outcome<u64> {
        // Whole messages only: what is written at once is read at once or not at all.
        let room = (self.buffer.len() / self.len).min(most) * self.len;
        match read(&self.input, &mut self.buffer[..room])? {
            0 => Err("the peer is gone".into()),
            n => Ok((n / self.len) as u64),
        }
    }
}

/// The other process.
pub fn serve() -> Outcome<()> {
    spawn::die_with_parent()?;
    let socket = spawn::inherited_socket()?;
    socket.wait(LIMIT)?;
    let Received::Message(job, fds) = socket.recv::<Job>()? else {
        return Err("no job".into());
    };
    match job.medium {
        Medium::Ring(waiting) => serve_ring(attach(job.cores, fds, STREAM, waiting)?, job.task, &socket),
        Medium::Calls(waiting) => serve_ring(attach(job.cores, fds, CONTROL, waiting)?, job.task, &socket),
        Medium::Bytes(len) => {
            bind(&[job.cores.theirs])?;
            let [input, output] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| "two descriptors are needed")?;
            serve_bytes(BytesEnd::new(input, output, len), job.task, &socket)
        }
    }
}

fn attach(cores: Cores, fds: Vec<OwnedFd>, number: u8, waiting: Waiting) -> Outcome<RingEnd> {
    let [memory, app, vmm, vmm_kick] =
        <[OwnedFd; 4]>::try_from(fds).map_err(|_| "four descriptors are needed")?;
    let bells = Bells {
        app: Doorbell::from_fd(app)?,
        vmm: Doorbell::from_fd(vmm)?,
        vmm_kick: Doorbell::from_fd(vmm_kick)?,
    };
    let memory = SharedMemory::attach(memory)?;
    RingEnd::new(Side::App, cores, &memory, bells, number, waiting)
}

fn serve_ring(mut end: RingEnd, task: Task, socket: &Socket) -> Outcome<()> {
    socket.send(&(), &[])?;
    let mut payload = Vec::new();
    loop {
        match task {
            Task::Echo => {
                let request = loop {
                    match end.channel.next(&mut payload)? {
                        Some(request) => break request,
                        None => end.wait()?,
                    }
                };
                end.channel.release(1)?;
                // A call is answered under its id.
                end.channel.push(1, request.id, &payload)?;
                end.channel.flush()?;
            }
            Task::Drain(messages) => {
                for _ in 0..messages {
                    end.recv(16)?;
                }
                end.channel.release(16)?;
                end.send(&[1])?;
            }
        }
    }
}

fn serve_bytes(mut end: BytesEnd, task: Task, socket: &Socket) -> Outcome<()> {
    socket.send(&(), &[])?;
    loop {
        match task {
            Task::Echo => {
                end.recv(1)?;
            }
            Task::Drain(messages) => {
                let mut left = messages;
                while left > 0 {
                    left = left.saturating_sub(end.recv(usize::MAX)?);
                }
            }
        }
        end.send()?;
    }
}
