//! The sockets between the supervisor and its workers: one JSON text and some descriptors per record.
//!
//! Used at start and for a few rare words after it, never for data. Both ends treat the other as hostile: a record too
//! long, cut, with too many descriptors or of another shape is a typed error, and every descriptor that came with it is
//! closed. Nothing here blocks except [`Socket::wait`], and that for a bounded time.
//!
//! Closing what a worker sent may block, though: of a TCP socket with SO_LINGER the last close waits for a peer that need
//! not exist. So the supervisor takes no descriptors ([`Socket::words_only`]), and words go by a system call that carries
//! none: a jailed worker has no other.
//!
//! Limits and shapes are in [`shared::msg::handover`].
#![allow(
    unsafe_code,
    reason = "takes ownership of the raw descriptors a control message carries; one socket option without a safe wrapper"
)]

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt, recvmsg,
    send, sendmsg, socketpair, sockopt,
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
    /// Descriptors with a record of a peer that may send none. They are closed.
    #[error("a record brings descriptors, and none are taken here")]
    WordsOnly,
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

/// SO_PASSRIGHTS (asm-generic/socket.h, Linux 6.16), which the C library's headers do not have yet.
const SO_PASSRIGHTS: libc::c_int = 83;

/// One end of a hand-over connection.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    words_only: bool,
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
        Ok((Self::of(ours), Self::of(theirs)))
    }

    fn of(fd: OwnedFd) -> Self {
        Self {
            fd,
            words_only: false,
        }
    }

    /// The same end, to which the peer can pass no descriptors: a record that brings some is [`HandoverError::WordsOnly`],
    /// and they never get a number here.
    ///
    /// The kernel still closes them in our name, which may block (see above). Linux 6.16 can refuse them on the sender's
    /// side, and is asked to; before it, only a sender jailed with seccomp cannot do that to us.
    pub fn words_only(self) -> Self {
        let off: libc::c_int = 0;
        // SAFETY: reads one int from a live local. An older kernel refuses an option that it does not know.
        unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSRIGHTS,
                (&raw const off).cast(),
                size_of_val(&off) as libc::socklen_t,
            );
        }
        Self {
            words_only: true,
            ..self
        }
    }

    /// Accepts a descriptor that must be a connected Unix SOCK_SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, HandoverError> {
        let kind = getsockopt(&fd, sockopt::SockType).map_err(|_| HandoverError::NotSeqpacket)?;
        // Only Unix sockets have peer credentials of the connecting process.
        let unix = getsockopt(&fd, sockopt::PeerCredentials).is_ok_and(|peer| peer.pid() > 0);
        if kind != SockType::SeqPacket || !unix {
            return Err(HandoverError::NotSeqpacket);
        }
        Ok(Self::of(fd))
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
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            let sent = if raw.is_empty() {
                // Not sendmsg(2), which the workers' jail refuses: it can carry descriptors.
                send(self.fd.as_raw_fd(), &text, flags)
            } else {
                sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(&text)], &rights, flags, None)
            };
            return match sent {
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
            return Err(if self.words_only {
                HandoverError::WordsOnly
            } else {
                HandoverError::FdsLost
            });
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
        let mut control = (!self.words_only).then(|| cmsg_space!([RawFd; KERNEL_MAX_FDS]));
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let mut parts = [IoSliceMut::new(text)];
        let got = loop {
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, control.as_deref_mut(), flags) {
                Ok(got) => break got,
                // A peer that died with records of ours unread is told once, before what it said last; its end comes after that.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return Ok(None),
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
