//! `backend = "tap"`: a network card's cable ends in an interface of the host.
//!
//! [`open`] is the supervisor's: it attaches to the tap while there are rights to; the I/O worker gets the descriptor
//! and drives a [`Tap`]. One frame a system call, as `/dev/net/tun` has it; or one [`Burst`], and the other way one frame of
//! many [`Segments`]. The cable is in while the interface is up: the kernel says so by polling writable (drivers/net/tun.c,
//! `tun_sock_writeable`), which needs no rights.
//!
//! What must never happen here: a blocking call, a frame cut short, a wait for a descriptor of a deleted tap, which is
//! ready for ever.

use super::burst::Burst;
use super::offload::Offload;
use super::segments::Segments;
use super::{FRAME_BYTES, Net, Received, Sent, Waits, Wanted};
use crate::back::{Interest, Interests};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::{readv, writev};
use nix::unistd::{Uid, User, read};
use shared::abi::counters::AppCounter;
use shared::msg::handover::Joins;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};
use thiserror::Error;
use vmdriver_shim::counters::Counters;
use vmdriver_shim::tap::Framing;
use zerocopy::IntoBytes;

/// Where taps come from.
const TUN: &str = "/dev/net/tun";
/// How often the interface is looked at when no frame tells how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest name of an interface (IFNAMSIZ of linux/if.h, less the terminating zero).
pub const MAX_NAME: usize = 15;

/// Why there is no tap. Every text ends in what to type.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TapError {
    /// No interface can be called so.
    #[error(
        "tap {0:?}: an interface's name has 1 to {MAX_NAME} bytes, without spaces, '/', ':' and '%'; \
         write for example tap = \"tap0\""
    )]
    Name(String),
    /// The host has no tun driver.
    #[error("tap {name}: {TUN} does not exist: load the driver with `modprobe tun`")]
    NoDriver {
        /// The tap.
        name: String,
    },
    /// The user may not open `/dev/net/tun`.
    #[error(
        "tap {name}: {TUN}: permission denied: run `chmod 0666 {TUN}` as root (a tap's owner is checked all the same)"
    )]
    NoAccess {
        /// The tap.
        name: String,
    },
    /// There is none, and the user may make none.
    #[error(
        "tap {name}: no such interface, and making one takes root: run as root `{}`",
        make(name, user)
    )]
    Missing {
        /// The tap.
        name: String,
        /// Who would own it.
        user: String,
    },
    /// Somebody else's.
    #[error(
        "tap {name}: it belongs to another user: run as root `ip tuntap del dev {name} mode tap && {}`",
        make(name, user)
    )]
    Foreign {
        /// The tap.
        name: String,
        /// Who is not its owner.
        user: String,
    },
    /// A running VM has it.
    #[error(
        "tap {name}: another process is attached to it: stop that, or run as root `{}` and write tap = {other:?}",
        make(other, user)
    )]
    Busy {
        /// The tap.
        name: String,
        /// A name that is free.
        other: String,
        /// Who would own that.
        user: String,
    },
    /// An interface, and not a tap with one queue.
    #[error(
        "tap {name}: this interface is no tap with one queue (but a tun, a tap with several queues or a card): \
         run as root `{}` and write tap = {other:?}",
        make(other, user)
    )]
    NotTap {
        /// The interface.
        name: String,
        /// A name that is free.
        other: String,
        /// Who would own that.
        user: String,
    },
    /// Something else.
    #[error("tap {name}: {}", .errno.desc())]
    Host {
        /// The tap.
        name: String,
        /// The kernel's word.
        errno: Errno,
    },
}

/// The commands that make a tap for a user.
fn make(name: &str, user: &str) -> String {
    format!("ip tuntap add dev {name} mode tap user {user} && ip link set {name} up")
}

/// Whether this may name a tap: what the kernel takes (dev_valid_name of net/core/dev.c; a `%` would be a pattern), in ASCII,
/// as every tool shows it.
pub fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && !b"/:%".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && ![".", ".."].contains(&name) && name.bytes().all(good)
}

/// Attaches to the tap `name` of this network namespace, or makes it and sets it up if the process may; such a one
/// vanishes with the descriptor. The descriptor does not block. With `gso` frames are taken joined either way: of which kinds
/// from the guest is the other half of the answer.
///
/// The tun-tap crate is not used: it needs a C compiler, cuts names that are too long, does not tell a missing driver
/// from a missing right, and gives no `OwnedFd` without `unsafe` code here.
pub fn open(name: &str, gso: bool) -> Result<(OwnedFd, Joins), TapError> {
    if !is_name(name) {
        return Err(TapError::Name(name.to_owned()));
    }
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(TUN);
    let tun = options.map_err(|error| no_driver(name.to_owned(), &error))?;
    let existed = exists(name);
    let joins = attach(&tun, name, gso).map_err(|errno| refused(name.to_owned(), errno))?;
    if !existed {
        let up = vmdriver_shim::tap::bring_up(name);
        up.map_err(|errno| refused(name.to_owned(), errno))?;
    }
    Ok((tun.into(), joins))
}

fn attach(tun: &File, name: &str, gso: bool) -> Result<Joins, Errno> {
    if !gso {
        vmdriver_shim::tap::attach(tun, name, Framing::Bare)?;
        return Ok(Joins::default());
    }
    vmdriver_shim::tap::attach(tun, name, Framing::Header)?;
    let udp = vmdriver_shim::tap::takes_datagrams_joined(tun)?;
    vmdriver_shim::tap::receive_joined(tun)?;
    Ok(Joins { tcp: true, udp })
}

fn exists(name: &str) -> bool {
    if_nametoindex(name).is_ok()
}

fn no_driver(name: String, error: &io::Error) -> TapError {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    match (error.kind(), errno) {
        (ErrorKind::NotFound, _) | (_, Errno::ENODEV | Errno::ENXIO) => TapError::NoDriver { name },
        (ErrorKind::PermissionDenied, _) => TapError::NoAccess { name },
        _ => TapError::Host { name, errno },
    }
}

fn refused(name: String, errno: Errno) -> TapError {
    let user = user();
    let other = (0..100)
        .map(|n| format!("tap{n}"))
        .find(|other| !exists(other))
        .unwrap_or_else(|| "mytap".to_owned());
    match errno {
        Errno::EPERM if exists(&name) => TapError::Foreign { name, user },
        Errno::EPERM => TapError::Missing { name, user },
        Errno::EBUSY => TapError::Busy { name, other, user },
        Errno::EINVAL => TapError::NotTap { name, other, user },
        errno => TapError::Host { name, errno },
    }
}

/// The user's name, or number where nobody knows a name.
fn user() -> String {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// How the interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down,
    /// Deleted: the descriptor is of no more use.
    Gone,
}

/// A tap, attached.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    joins: Joins,
    /// With an [`Offload`] in front of each frame.
    segments: Option<Segments>,
    /// Reads that gave something since the counters were told.
    reads: u64,
    state: State,
    looked: Instant,
    trouble: Option<&'static str>,
}

impl Tap {
    /// Both are what [`open`] gave.
    pub fn new(fd: OwnedFd, joins: Joins) -> Self {
        let mut tap = Self {
            fd,
            joins,
            segments: joins.any().then(Segments::default),
            reads: 0,
            state: State::Down,
            looked: Instant::now(),
            trouble: None,
        };
        tap.look();
        tap
    }

    /// Asks the kernel how the interface is.
    fn look(&mut self) {
        self.looked = Instant::now();
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        let seen = match poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => fds[0].revents().unwrap_or(PollFlags::empty()),
            Err(_) => return,
        };
        self.is_now(if seen.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) {
            State::Gone
        } else if seen.contains(PollFlags::POLLOUT) {
            State::Up
        } else {
            State::Down
        });
    }

    fn is_now(&mut self, state: State) {
        if self.state != State::Gone {
            self.state = state;
            if state == State::Gone {
                self.trouble = Some("the tap was deleted; the cable stays out until the VM is started again");
            }
        }
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> Sent {
        if self.state == State::Gone {
            return Sent::Dropped;
        }
        match writev(&self.fd, parts) {
            Ok(_) => Sent::Out,
            Err(errno) => {
                self.judge(errno);
                Sent::Dropped
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<Received, Errno> {
        if let Some(segments) = &mut self.segments {
            let octets = read(&self.fd, segments.room())?;
            return Ok(segments.first(octets, into));
        }
        // The byte too many shows a frame too long, which the kernel would cut without a word.
        let mut too_many = [0];
        let mut parts = [IoSliceMut::new(into), IoSliceMut::new(&mut too_many)];
        let bytes = readv(&self.fd, &mut parts)?;
        let good = FRAME_BYTES.contains(&bytes);
        Ok(if good {
            Received::Frame(bytes)
        } else {
            Received::Dropped
        })
    }

    /// What an error says of the interface.
    fn judge(&mut self, errno: Errno) {
        match errno {
            Errno::EIO => self.is_now(State::Down),
            Errno::EBADFD | Errno::ENODEV => self.is_now(State::Gone),
            _ => {}
        }
    }
}

impl Net for Tap {
    fn send(&mut self, frame: &[u8]) -> Sent {
        if !FRAME_BYTES.contains(&frame.len()) {
            return Sent::Dropped;
        }
        let header = self.segments.is_some().then(|| Offload::NONE.as_bytes());
        self.write(&[IoSlice::new(header.unwrap_or_default()), IoSlice::new(frame)])
    }

    fn joins(&self) -> Joins {
        self.joins
    }

    fn send_burst(&mut self, burst: &Burst<'_>) -> Sent {
        match (burst.joined(), burst.frames().first()) {
            (Some(parts), _) => self.write(&parts),
            (None, frame) => frame.map_or(Sent::Dropped, |frame| self.send(frame)),
        }
    }

    fn receive(&mut self, into: &mut [u8]) -> Received {
        let waiting = self.segments.as_mut().map(|segments| segments.next(into));
        if let Some(next @ (Received::Frame(_) | Received::Dropped)) = waiting {
            return next;
        }
        if self.state == State::Gone {
            return Received::Nothing;
        }
        match self.read(into) {
            Ok(received) => {
                self.reads += 1;
                received
            }
            Err(errno) => {
                self.judge(errno);
                Received::Nothing
            }
        }
    }

    fn link(&mut self) -> bool {
        if self.state == State::Down || self.looked.elapsed() >= LOOK_EVERY {
            self.look();
        }
        self.state == State::Up
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, wanted.frames);
        // Becomes writable when it comes up.
        events.set(PollFlags::POLLOUT, self.state == State::Down);
        let fd = self.fd.as_fd();
        match self.state {
            State::Gone => Interests::default(),
            State::Up | State::Down => Interests {
                fds: [(!events.is_empty()).then_some(Interest { fd, events }), None],
                within: Some(LOOK_EVERY),
            },
        }
    }

    fn waits(&self) -> Waits {
        Waits::OnHost
    }

    fn end_turn(&mut self, counters: &Counters<AppCounter>) {
        if self.reads != 0 {
            counters.add(AppCounter::NetRxReads, mem::take(&mut self.reads));
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take().map(str::to_owned)
    }
}
