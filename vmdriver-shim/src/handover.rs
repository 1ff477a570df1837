//! The sockets between the supervisor and its workers: one JSON text and some descriptors per record.
//!
//! Used at start and for a few rare words after it, never for data. Both ends treat the other as hostile: a record too
//! long, cut, with too many descriptors or of another shape is a typed error, and every descriptor that came with it is
//! closed. Nothing here blocks except [`Socket::wait`], and that for a bounded time.
//!
//! Limits and shapes are in [`shared::msg::handover`].
#![allow(
    unsafe_code,
    reason = "takes ownership of the raw descriptors a control message carries"
)]

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt, recvmsg,
    sendmsg, socketpair, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::msg::handover::{FdRole, MAX_BYTES, MAX_FDS};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use thiserror::Error;

/// Most descriptors Linux passes with one record (SCM_MAX_FD, net/scm.h). The receive buffer has room for all of them,
/// so that what a hostile sender adds arrives, is counted and is closed.
const KERNEL_MAX_FDS: usize = 253;

/// What went wrong between supervisor and worker.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// The kernel's word.
    #[error("hand-over socket: {0}")]
    Io(#[from] io::Error),
    /// Not a Unix SOCK_SEQPACKET socket.
    #[error("the descriptor is not a Unix sequenced-packet socket")]
    NotSeqpacket,
    /// Our message is larger than a record may be.
    #[error("a record of {0} bytes: at most {MAX_BYTES} may be sent")]
    TooLarge(usize),
    /// More descriptors than a record may carry.
    #[error("a record with {0} descriptors: at most {MAX_FDS} may travel")]
    TooManyFds(usize),
    /// The peer does not read: its socket is full.
    #[error("the peer does not read its hand-over socket")]
    Busy,
    /// The peer sent a record longer than allowed; what did not fit is lost.
    #[error("the peer sent a record longer than {MAX_BYTES} bytes")]
    Truncated,
    /// Descriptors were lost on the way in: we have no free ones.
    #[error("descriptors of a record were lost: this process can open no more")]
    FdsLost,
    /// Not the JSON of the message expected here.
    #[error("a record does not say what it must: {0}")]
    Json(#[from] serde_json::Error),
    /// Roles and descriptors do not pair up.
    #[error("{roles} roles named, {fds} descriptors received")]
    Count {
        /// Roles the message names.
        roles: usize,
        /// Descriptors that came.
        fds: usize,
    },
    /// A role twice.
    #[error("descriptor {0:?} came twice")]
    Duplicate(FdRole),
    /// A needed role is absent.
    #[error("descriptor {0:?} is missing")]
    Missing(FdRole),
    /// A descriptor nobody asked for.
    #[error("descriptor {0:?} is not expected here")]
    Unexpected(FdRole),
}

impl From<Errno> for HandoverError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What a look at the socket found.
#[derive(Debug)]
pub enum Received<T> {
    /// A message and the descriptors beside it, in order.
    Message(T, Vec<OwnedFd>),
    /// The peer closed its end or died.
    HungUp,
    /// Nothing now.
    Nothing,
}

/// One end of a hand-over connection.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// A connected pair; both ends close on exec.
    pub fn pair() -> Result<(Self, Self), HandoverError> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self { fd: ours }, Self { fd: theirs }))
    }

    /// Accepts a descriptor that must be a connected Unix SOCK_SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, HandoverError> {
        let kind = getsockopt(&fd, sockopt::SockType).map_err(|_| HandoverError::NotSeqpacket)?;
        // Only Unix sockets have peer credentials of the connecting process.
        let unix = getsockopt(&fd, sockopt::PeerCredentials).is_ok_and(|peer| peer.pid() > 0);
        if kind != SockType::SeqPacket || !unix {
            return Err(HandoverError::NotSeqpacket);
        }
        Ok(Self { fd })
    }

    /// Sends one record. Never blocks: a peer that does not read is [`HandoverError::Busy`].
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd]) -> Result<(), HandoverError> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_BYTES {
            return Err(HandoverError::TooLarge(text.len()));
        }
        if fds.len() > MAX_FDS {
            return Err(HandoverError::TooManyFds(fds.len()));
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            return match sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(&text)], control, flags, None) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Err(HandoverError::Busy),
                Err(e) => Err(e.into()),
            };
        }
    }

    /// Takes one record if there is one. Never blocks.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Received<T>, HandoverError> {
        let mut text = vec![0; MAX_BYTES];
        let Some((len, flags, fds)) = self.recv_raw(&mut text)? else {
            return Ok(Received::Nothing);
        };
        if flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(HandoverError::FdsLost);
        }
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(HandoverError::Truncated);
        }
        if fds.len() > MAX_FDS {
            return Err(HandoverError::TooManyFds(fds.len()));
        }
        // End of file. A peer that sends an empty record is worth no more than one that is gone.
        if len == 0 {
            return Ok(Received::HungUp);
        }
        let message = serde_json::from_slice(text.get(..len).unwrap_or_default())?;
        Ok(Received::Message(message, fds))
    }

    /// The record's length, the kernel's flags and the descriptors, owned whatever comes of them.
    fn recv_raw(&self, text: &mut [u8]) -> Result<Option<(usize, MsgFlags, Vec<OwnedFd>)>, HandoverError> {
        let mut control = cmsg_space!([RawFd; KERNEL_MAX_FDS]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let mut parts = [IoSliceMut::new(text)];
        let got = loop {
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Ok(got) => break got,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                // The peer died with records of ours unread.
                Err(Errno::ECONNRESET) => return Ok(Some((0, MsgFlags::empty(), Vec::new()))),
                Err(e) => return Err(e.into()),
            }
        };
        let mut fds = Vec::new();
        // `cmsgs` refuses a cut control message, which the buffer's size leaves to one case: no free descriptors here.
        for message in got.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows their numbers.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok(Some((got.bytes, got.flags, fds)))
    }

    /// Waits until [`recv`](Self::recv) has something to say, or `limit` (up to 65 s) is over. Returns whether it has.
    pub fn wait(&self, limit: Duration) -> Result<bool, HandoverError> {
        let millis = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

/// The descriptors of one record by role, each to be taken once. What is left when it is dropped is closed.
#[derive(Debug)]
pub struct Descriptors {
    left: Vec<(FdRole, OwnedFd)>,
}

impl Descriptors {
    /// Pairs roles with descriptors, in order.
    pub fn new(roles: Vec<FdRole>, fds: Vec<OwnedFd>) -> Result<Self, HandoverError> {
        if roles.len() != fds.len() {
            return Err(HandoverError::Count {
                roles: roles.len(),
                fds: fds.len(),
            });
        }
        let mut left: Vec<(FdRole, OwnedFd)> = Vec::with_capacity(fds.len());
        for (role, fd) in roles.into_iter().zip(fds) {
            if left.iter().any(|(other, _)| *other == role) {
                return Err(HandoverError::Duplicate(role));
            }
            left.push((role, fd));
        }
        Ok(Self { left })
    }

    /// Takes a descriptor that must be there.
    pub fn take(&mut self, role: FdRole) -> Result<OwnedFd, HandoverError> {
        self.take_optional(role).ok_or(HandoverError::Missing(role))
    }

    /// Takes a descriptor that may be there.
    pub fn take_optional(&mut self, role: FdRole) -> Option<OwnedFd> {
        let at = self.left.iter().position(|(other, _)| *other == role)?;
        Some(self.left.swap_remove(at).1)
    }

    /// What is still to be taken.
    pub fn left(&self) -> impl Iterator<Item = (FdRole, BorrowedFd<'_>)> {
        self.left.iter().map(|(role, fd)| (*role, fd.as_fd()))
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), HandoverError> {
        match self.left.first() {
            Some((role, _)) => Err(HandoverError::Unexpected(*role)),
            None => Ok(()),
        }
    }
}
