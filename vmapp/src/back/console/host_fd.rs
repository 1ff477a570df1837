//! A descriptor of the host, used without ever blocking and without changing it for others.
//!
//! The user's terminal and pipes are open file descriptions shared with the shell: `O_NONBLOCK` set on them would stay
//! after us. So the supervisor opens terminals and pipes anew through `/proc/self/fd` (a description of our own, which
//! may carry the flag) and hands that over; a socket takes the flag with each call; a regular file never waits. Only
//! where opening anew is refused (a terminal of another user after `su`) is the shared description used, each call
//! behind a `poll(2)` and at most `SHARED_WRITE` bytes long.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Most bytes of one write to a description we share: a pipe that polls writable takes this many (POSIX asks 512 of
/// `PIPE_BUF`).
const SHARED_WRITE: usize = 512;

/// What became of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// So many bytes, at least one.
    Done(usize),
    /// Later.
    WouldBlock,
    /// End of file or nobody at the other end.
    Closed,
    /// It failed.
    Failed(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Carries `O_NONBLOCK`, or is a regular file or a device that never waits.
    Direct,
    Socket,
    Shared,
}

/// The descriptor and how it wants to be used.
#[derive(Debug)]
pub struct HostFd {
    fd: OwnedFd,
    kind: Kind,
    regular: bool,
}

impl HostFd {
    /// Looks at what `fd` is.
    pub fn new(fd: OwnedFd) -> nix::Result<Self> {
        let kind_bits = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        let kind = match kind_bits {
            SFlag::S_IFSOCK => Kind::Socket,
            SFlag::S_IFIFO | SFlag::S_IFCHR if !flags.contains(OFlag::O_NONBLOCK) => Kind::Shared,
            _ => Kind::Direct,
        };
        Ok(Self {
            fd,
            kind,
            regular: kind_bits == SFlag::S_IFREG,
        })
    }

    /// Whether it is a regular file: always ready, and unknown to epoll.
    pub fn is_regular(&self) -> bool {
        self.regular
    }

    /// Reads what is there.
    pub fn read(&self, into: &mut [u8]) -> Io {
        if into.is_empty() {
            return Io::WouldBlock;
        }
        let got = match self.kind {
            Kind::Socket => recv(self.fd.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT),
            Kind::Shared if !self.ready(PollFlags::POLLIN) => return Io::WouldBlock,
            Kind::Direct | Kind::Shared => read(&self.fd, into),
        };
        match got {
            Ok(0) => Io::Closed,
            other => judge(other),
        }
    }

    /// Writes what fits.
    pub fn write(&self, from: &[u8]) -> Io {
        if from.is_empty() {
            return Io::WouldBlock;
        }
        let bounded = from.get(..SHARED_WRITE).unwrap_or(from);
        judge(match self.kind {
            Kind::Socket => send(
                self.fd.as_raw_fd(),
                from,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            ),
            Kind::Shared if !self.ready(PollFlags::POLLOUT) => return Io::WouldBlock,
            Kind::Shared => write(&self.fd, bounded),
            Kind::Direct => write(&self.fd, from),
        })
    }

    /// Whether the other end is gone (`POLLHUP`).
    pub fn hung_up(&self) -> bool {
        self.polled(PollFlags::empty()).contains(PollFlags::POLLHUP)
    }

    fn ready(&self, events: PollFlags) -> bool {
        !self.polled(events).is_empty()
    }

    fn polled(&self, events: PollFlags) -> PollFlags {
        let mut fds = [PollFd::new(self.fd.as_fd(), events)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(1) => fds[0].revents().unwrap_or(PollFlags::empty()),
            _ => PollFlags::empty(),
        }
    }
}

impl AsFd for HostFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<HostFd> for OwnedFd {
    fn from(host: HostFd) -> Self {
        host.fd
    }
}

fn judge(result: nix::Result<usize>) -> Io {
    match result {
        Ok(0) | Err(Errno::EAGAIN | Errno::EINTR) => Io::WouldBlock,
        Ok(count) => Io::Done(count),
        Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Io::Closed,
        Err(errno) => Io::Failed(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;

    #[test]
    fn a_full_shared_pipe_would_block_and_keeps_its_flags() {
        let (reader, writer) = pipe().unwrap();
        let before = fcntl(&writer, FcntlArg::F_GETFL).unwrap();
        let host = HostFd::new(writer.try_clone().unwrap()).unwrap();
        let mut sent = 0;
        let end = loop {
            match host.write(&[7; 4096]) {
                Io::Done(count) => sent += count,
                other => break other,
            }
        };
        assert_eq!(end, Io::WouldBlock);
        assert!(sent >= 4096);
        assert_eq!(fcntl(&writer, FcntlArg::F_GETFL).unwrap(), before);
        drop(reader);
        assert_eq!(host.write(b"x"), Io::Closed);
    }

    #[test]
    fn an_empty_pipe_would_block_and_a_closed_one_ends() {
        let (reader, writer) = pipe().unwrap();
        let host = HostFd::new(reader).unwrap();
        let mut byte = [0; 4];
        assert_eq!(host.read(&mut byte), Io::WouldBlock);
        write(&writer, b"hi").unwrap();
        assert_eq!(host.read(&mut byte), Io::Done(2));
        drop(writer);
        assert_eq!(host.read(&mut byte), Io::Closed);
    }
}
