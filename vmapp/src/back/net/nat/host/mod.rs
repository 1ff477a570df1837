//! What the NAT needs of the host: a clock, a secret and sockets that never block.
//!
//! Two hosts: [`Sockets`](sockets::Sockets) is the real one; [`Scripted`](scripted::Scripted) is played by a test or a fuzzer,
//! its clock too, so that every time-out and every failure of a socket is reproducible.
//!
//! Readiness is told by edges: a socket is ready until a call on it says [`Errno::EAGAIN`], then an [`Event`] says when it
//! is again.

pub mod scripted;
pub mod sockets;

use super::table::Id;
use nix::errno::Errno;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A TCP flow's.
    Tcp(Id),
    /// A UDP flow's.
    Udp(Id),
    /// A DNS question's.
    Dns(Id),
    /// An echo flow's.
    Echo(Id),
    /// A forward rule's.
    Rule(u8),
}

/// A socket became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub token: Token,
    /// Something to read, the end of the stream or an error.
    pub readable: bool,
    /// Room to write, connected, or an error.
    pub writable: bool,
}

/// Most events taken at a time.
pub const EVENTS: usize = 64;

/// The host.
pub trait Host {
    /// A socket.
    type Socket: Debug;
    /// Time since some fixed point; never goes back.
    fn now(&self) -> Duration;
    /// Bits a guest cannot guess.
    fn secret(&mut self) -> u64;
    /// Begins to connect a stream. Done or failed when the socket gets writable; see [`outcome`](Self::outcome). Dropped
    /// before it is [`finish`](Self::finish)ed, by whatever, its peer sees a reset.
    fn connect(&mut self, to: SocketAddr) -> Result<Self::Socket, Errno>;
    /// How connecting went.
    fn outcome(&mut self, socket: &Self::Socket) -> Result<(), Errno>;
    /// A datagram socket that talks with `to` alone.
    fn datagram(&mut self, to: SocketAddr) -> Result<Self::Socket, Errno>;
    /// An ICMP echo socket that talks with `to` alone. [`Errno::EACCES`] if the host allows this user none.
    fn echo(&mut self, to: Ipv4Addr) -> Result<Self::Socket, Errno>;
    /// Takes a client of a forward rule: a stream as [`connect`](Self::connect)'s.
    fn accept(&mut self, rule: u8) -> Result<(Self::Socket, SocketAddr), Errno>;
    /// Takes a datagram of a forward rule; what does not fit is cut off.
    fn take_from(&mut self, rule: u8, into: &mut [u8]) -> Result<(usize, SocketAddr), Errno>;
    /// Sends a datagram from a forward rule's socket.
    fn give_to(&mut self, rule: u8, bytes: &[u8], to: SocketAddr) -> Result<(), Errno>;
    /// Asks for events of a socket, which must be the token's only one.
    fn watch(&mut self, socket: &Self::Socket, token: Token) -> Result<(), Errno>;
    /// Reads; zero is the end of a stream. Of a datagram, what does not fit is cut off.
    fn recv(&mut self, socket: &Self::Socket, into: &mut [u8]) -> Result<usize, Errno>;
    /// Writes.
    fn send(&mut self, socket: &Self::Socket, bytes: &[u8]) -> Result<usize, Errno>;
    /// Ends our half of a stream. Dropped from then on, all that was written is sent, then the end.
    fn finish(&mut self, socket: &Self::Socket);
    /// Closes a stream so that its peer sees a reset.
    fn abort(&mut self, socket: Self::Socket);
    /// Takes events, at most [`EVENTS`]. The same number again: there may be more.
    fn events(&mut self, into: &mut Vec<Event>);
    /// A descriptor that is readable while there are events.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}
