//! The real host: non-blocking sockets behind one epoll descriptor. No call here needs a privilege.
//!
//! A stream that is closed before it was finished is reset: SO_LINGER with no time says so from the start, for this process
//! may be killed at any time, and the end the kernel would give the peer then would make a cut upload look complete.

use super::super::table::Id;
use super::{EVENTS, Event, Host, Token};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv,
    send, setsockopt, shutdown, socket, sockopt,
};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The socket of a forward rule.
#[derive(Debug)]
enum Rule {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// The host.
#[derive(Debug)]
pub struct Sockets {
    epoll: Epoll,
    rules: Vec<Rule>,
    begun: Instant,
}

impl Sockets {
    /// With a bound socket per forward rule, in order; true: it is UDP, else TCP and listening.
    pub fn new(rules: Vec<(bool, OwnedFd)>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut kept = Vec::new();
        for (number, (udp, fd)) in (0..=u8::MAX).zip(rules) {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll.add(&fd, EpollEvent::new(flags, pack(Token::Rule(number))))?;
            let rule = if udp {
                let socket = UdpSocket::from(fd);
                socket.set_nonblocking(true)?;
                Rule::Udp(socket)
            } else {
                let listener = TcpListener::from(fd);
                listener.set_nonblocking(true)?;
                Rule::Tcp(listener)
            };
            kept.push(rule);
        }
        Ok(Self {
            epoll,
            rules: kept,
            begun: Instant::now(),
        })
    }

    fn open(to: &SocketAddr, kind: SockType, protocol: Option<SockProtocol>) -> Result<OwnedFd, Errno> {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        socket(
            family,
            kind,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            protocol,
        )
    }
}

impl Host for Sockets {
    type Socket = OwnedFd;

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn secret(&mut self) -> u64 {
        // The keys of the standard library's hash tables are the operating system's random bits.
        RandomState::new().hash_one(self.begun.elapsed())
    }

    fn connect(&mut self, to: SocketAddr) -> Result<OwnedFd, Errno> {
        let fd = Self::open(&to, SockType::Stream, None)?;
        // The guest's TCP has made the segments already.
        setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        end_by(End::Reset, &fd)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
            Err(errno) => Err(errno),
        }
    }

    fn outcome(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        match nix::sys::socket::getsockopt(socket, sockopt::SocketError)? {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        }
    }

    fn datagram(&mut self, to: SocketAddr) -> Result<OwnedFd, Errno> {
        let fd = Self::open(&to, SockType::Datagram, None)?;
        connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(fd)
    }

    fn echo(&mut self, to: Ipv4Addr) -> Result<OwnedFd, Errno> {
        let to = SocketAddr::from((to, 0));
        let fd = Self::open(&to, SockType::Datagram, Some(SockProtocol::Icmp))?;
        connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(fd)
    }

    fn accept(&mut self, rule: u8) -> Result<(OwnedFd, SocketAddr), Errno> {
        let Some(Rule::Tcp(listener)) = self.rules.get(usize::from(rule)) else {
            return Err(Errno::EBADF);
        };
        // It stays a blocking one: every call on it says MSG_DONTWAIT, and the jail refuses what changes O_NONBLOCK.
        let (stream, client) = listener.accept().map_err(errno)?;
        end_by(End::Reset, &stream)?;
        stream.set_nodelay(true).map_err(errno)?;
        Ok((stream.into(), client))
    }

    fn take_from(&mut self, rule: u8, into: &mut [u8]) -> Result<(usize, SocketAddr), Errno> {
        let Some(Rule::Udp(socket)) = self.rules.get(usize::from(rule)) else {
            return Err(Errno::EBADF);
        };
        socket.recv_from(into).map_err(errno)
    }

    fn give_to(&mut self, rule: u8, bytes: &[u8], to: SocketAddr) -> Result<(), Errno> {
        let Some(Rule::Udp(socket)) = self.rules.get(usize::from(rule)) else {
            return Err(Errno::EBADF);
        };
        socket.send_to(bytes, to).map_err(errno).map(drop)
    }

    fn watch(&mut self, socket: &OwnedFd, token: Token) -> Result<(), Errno> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(socket, EpollEvent::new(flags, pack(token)))
    }

    fn recv(&mut self, socket: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
        recv(socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT)
    }

    fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        send(
            socket.as_raw_fd(),
            bytes,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        )
    }

    fn finish(&mut self, socket: &OwnedFd) {
        // All of the stream is in the host's queue, and close(2) would throw it away. Fails for no stream.
        end_by(End::Stream, socket).ok();
        // A peer that is gone already has its end.
        shutdown(socket.as_raw_fd(), Shutdown::Write).ok();
    }

    fn abort(&mut self, socket: OwnedFd) {
        // Its own stream may be finished already. A socket that refuses is closed all the same, only more politely.
        end_by(End::Reset, &socket).ok();
    }

    fn events(&mut self, into: &mut Vec<Event>) {
        let mut raw = [EpollEvent::empty(); EVENTS];
        // Fails only when interrupted: the next look takes them.
        let count = self.epoll.wait(&mut raw, EpollTimeout::ZERO).unwrap_or(0);
        let down = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let input = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | down;
        let output = EpollFlags::EPOLLOUT | down;
        into.extend(raw.iter().take(count).map(|event| Event {
            token: unpack(event.data()),
            readable: event.events().intersects(input),
            writable: event.events().intersects(output),
        }));
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }
}

/// What close(2) does to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What waits is sent, then the end, though nobody holds the socket any more.
    Stream,
    /// What waits is thrown away, the peer sees a reset.
    Reset,
}

/// Also for the close that this process's death is.
fn end_by(end: End, socket: &impl AsFd) -> Result<(), Errno> {
    let linger = nix::libc::linger {
        l_onoff: (end == End::Reset).into(),
        l_linger: 0,
    };
    setsockopt(socket, sockopt::Linger, &linger)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A token as epoll's word: kind, place, generation.
fn pack(token: Token) -> u64 {
    let (kind, id) = match token {
        Token::Tcp(id) => (0, id),
        Token::Udp(id) => (1, id),
        Token::Dns(id) => (2, id),
        Token::Echo(id) => (3, id),
        Token::Rule(rule) => {
            let index = rule.into();
            let generation = 0;
            (4, Id { index, generation })
        }
    };
    kind << 48 | u64::from(id.index) << 32 | u64::from(id.generation)
}

fn unpack(word: u64) -> Token {
    let id = Id {
        index: (word >> 32) as u16,
        generation: word as u32,
    };
    match word >> 48 {
        0 => Token::Tcp(id),
        1 => Token::Udp(id),
        2 => Token::Dns(id),
        3 => Token::Echo(id),
        _ => Token::Rule(id.index as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let id = Id {
            index: 0x1234,
            generation: 0xfedc_ba98,
        };
        for token in [
            Token::Tcp(id),
            Token::Udp(id),
            Token::Dns(id),
            Token::Echo(id),
            Token::Rule(200),
        ] {
            assert_eq!(unpack(pack(token)), token);
        }
    }

    #[test]
    fn a_refused_connection_says_so() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut host = Sockets::new(Vec::new()).unwrap();
        let outcome = match host.connect(free) {
            Err(errno) => Err(errno),
            Ok(socket) => {
                let id = Id {
                    index: 0,
                    generation: 0,
                };
                host.watch(&socket, Token::Tcp(id)).unwrap();
                let mut events = Vec::new();
                while events.is_empty() {
                    host.events(&mut events);
                }
                host.outcome(&socket)
            }
        };
        assert_eq!(outcome, Err(Errno::ECONNREFUSED));
    }
}
