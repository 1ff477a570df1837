//! A host that is played: sockets are numbers, what they do is set by a test or a fuzzer, and the clock moves when told.
//!
//! Nothing here touches a network. Capacity and refusals are set for all sockets; what arrives is put in by hand; what the
//! NAT wrote is there to be looked at.

use super::{EVENTS, Event, Host, Token};
use nix::errno::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// One socket.
#[derive(Debug, Default)]
pub struct Played {
    /// Whom it talks with.
    pub peer: Option<SocketAddr>,
    /// Octets of a stream for the NAT to read.
    pub input: VecDeque<u8>,
    /// Datagrams for the NAT to read.
    pub datagrams: VecDeque<Vec<u8>>,
    /// The stream ends after its input.
    pub ended: bool,
    /// The next call fails with this, once.
    pub error: Option<Errno>,
    /// Octets it still takes; a datagram counts as one.
    pub room: usize,
    /// What the NAT wrote to the stream.
    pub output: Vec<u8>,
    /// The datagrams it wrote.
    pub sent: Vec<Vec<u8>>,
    /// It ended its stream.
    pub finished: bool,
    token: Option<Token>,
    held: Weak<()>,
}

impl Played {
    /// Whether the NAT still has it.
    pub fn is_open(&self) -> bool {
        self.held.strong_count() > 0
    }
}

/// The host.
#[derive(Debug)]
pub struct Scripted {
    /// The clock.
    pub now: Duration,
    /// All sockets there were, by number, but those reset.
    pub sockets: BTreeMap<u32, Played>,
    /// What was reset instead of closed.
    pub aborted: Vec<u32>,
    /// How the next connections go; the last one stays.
    pub connects: Result<(), Errno>,
    /// Whether opening any socket fails.
    pub refuses: Option<Errno>,
    /// Whether echo sockets are refused.
    pub no_echo: bool,
    /// Room of a new socket.
    pub room: usize,
    /// Clients waiting per rule.
    pub clients: BTreeMap<u8, VecDeque<SocketAddr>>,
    /// Datagrams waiting per rule.
    pub arrived: BTreeMap<u8, VecDeque<(Vec<u8>, SocketAddr)>>,
    /// Datagrams sent from rules.
    pub departed: Vec<(u8, Vec<u8>, SocketAddr)>,
    events: VecDeque<Event>,
    next: u32,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            now: Duration::from_secs(1000),
            sockets: BTreeMap::new(),
            aborted: Vec::new(),
            connects: Ok(()),
            refuses: None,
            no_echo: false,
            room: usize::MAX,
            clients: BTreeMap::new(),
            arrived: BTreeMap::new(),
            departed: Vec::new(),
            events: VecDeque::new(),
            next: 0,
        }
    }
}

impl Scripted {
    /// Moves the clock.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Changes a socket and tells the NAT that it is ready for everything.
    pub fn change(&mut self, number: u32, change: impl FnOnce(&mut Played)) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            change(socket);
            if let Some(token) = socket.token {
                self.tell(token);
            }
        }
    }

    /// Tells the NAT that a rule has clients or datagrams.
    pub fn knock(&mut self, rule: u8) {
        self.tell(Token::Rule(rule));
    }

    fn tell(&mut self, token: Token) {
        // A queue as bounded as epoll's: one entry a token.
        if !self.events.iter().any(|event| event.token == token) {
            self.events.push_back(Event {
                token,
                readable: true,
                writable: true,
            });
        }
    }

    fn open(&mut self, peer: SocketAddr) -> Result<Number, Errno> {
        if let Some(errno) = self.refuses {
            return Err(errno);
        }
        self.next += 1;
        let held = Rc::new(());
        self.sockets.insert(
            self.next,
            Played {
                peer: Some(peer),
                room: self.room,
                held: Rc::downgrade(&held),
                ..Played::default()
            },
        );
        Ok(Number(self.next, held))
    }

    fn socket(&mut self, number: &Number) -> Result<&mut Played, Errno> {
        self.sockets.get_mut(&number.0).ok_or(Errno::EBADF)
    }
}

/// A socket's number, held as long as the socket is open.
#[derive(Debug)]
pub struct Number(u32, #[expect(dead_code, reason = "held, not read")] Rc<()>);

impl Host for Scripted {
    type Socket = Number;

    fn now(&self) -> Duration {
        self.now
    }

    fn secret(&mut self) -> u64 {
        0x5eed
    }

    fn connect(&mut self, to: SocketAddr) -> Result<Number, Errno> {
        self.open(to)
    }

    fn outcome(&mut self, _: &Number) -> Result<(), Errno> {
        self.connects
    }

    fn datagram(&mut self, to: SocketAddr) -> Result<Number, Errno> {
        self.open(to)
    }

    fn echo(&mut self, to: Ipv4Addr) -> Result<Number, Errno> {
        if self.no_echo {
            return Err(Errno::EACCES);
        }
        self.open((to, 0).into())
    }

    fn accept(&mut self, rule: u8) -> Result<(Number, SocketAddr), Errno> {
        let waiting = self.clients.entry(rule).or_default();
        let client = waiting.pop_front().ok_or(Errno::EAGAIN)?;
        Ok((self.open(client)?, client))
    }

    fn take_from(&mut self, rule: u8, into: &mut [u8]) -> Result<(usize, SocketAddr), Errno> {
        let waiting = self.arrived.entry(rule).or_default();
        let (bytes, client) = waiting.pop_front().ok_or(Errno::EAGAIN)?;
        Ok((copy(&bytes, into), client))
    }

    fn give_to(&mut self, rule: u8, bytes: &[u8], to: SocketAddr) -> Result<(), Errno> {
        self.departed.push((rule, bytes.to_vec(), to));
        Ok(())
    }

    fn watch(&mut self, socket: &Number, token: Token) -> Result<(), Errno> {
        self.socket(socket)?.token = Some(token);
        Ok(())
    }

    fn recv(&mut self, socket: &Number, into: &mut [u8]) -> Result<usize, Errno> {
        let socket = self.socket(socket)?;
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        if !matches!(socket.token, Some(Token::Tcp(_))) {
            let datagram = socket.datagrams.pop_front().ok_or(Errno::EAGAIN)?;
            return Ok(copy(&datagram, into));
        }
        let count = socket.input.len().min(into.len());
        for (to, from) in into.iter_mut().zip(socket.input.drain(..count)) {
            *to = from;
        }
        match count {
            0 if !socket.ended => Err(Errno::EAGAIN),
            count => Ok(count),
        }
    }

    fn send(&mut self, socket: &Number, bytes: &[u8]) -> Result<usize, Errno> {
        let socket = self.socket(socket)?;
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        if !matches!(socket.token, Some(Token::Tcp(_))) {
            socket.sent.push(bytes.to_vec());
            return Ok(bytes.len());
        }
        let count = bytes.len().min(socket.room);
        socket.room -= count;
        socket.output.extend(bytes.iter().take(count));
        match count {
            0 => Err(Errno::EAGAIN),
            count => Ok(count),
        }
    }

    fn finish(&mut self, socket: &Number) {
        if let Ok(socket) = self.socket(socket) {
            socket.finished = true;
        }
    }

    fn abort(&mut self, socket: Number) {
        self.aborted.push(socket.0);
        self.sockets.remove(&socket.0);
    }

    fn events(&mut self, into: &mut Vec<Event>) {
        let count = self.events.len().min(EVENTS);
        into.extend(self.events.drain(..count));
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    for (to, from) in into.iter_mut().zip(from) {
        *to = *from;
    }
    from.len().min(into.len())
}
