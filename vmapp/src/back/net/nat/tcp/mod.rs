//! TCP: each connection of the guest ends here and goes on as a connection of the host, and the other way round for
//! forwarded ports.
//!
//! smoltcp's sockets were weighed and not taken: they want to listen on a port before the SYN comes, accept before the
//! host's side is known to exist, and own the stream's pace. Here a SYN is answered only when the host is connected, with
//! the host's refusal if that is the answer, and what is read from the host is what the guest's window has room for.
//!
//! | file | what it is |
//! |---|---|
//! | [`seq`], [`rto`], [`congestion`] | sequence numbers, time-outs, the window of the network |
//! | [`send`], [`receive`] | the halves of a connection |
//! | [`connection`] | the state machine, pure |
//! | [`flow`] | a connection joined to a socket of the host |
//! | [`open`] | how flows begin, and which gives way in a full table |

mod congestion;
pub mod connection;
mod flow;
mod open;
mod receive;
mod rto;
mod send;
pub mod seq;

use super::host::Host;
use super::router::Router;
use super::table::{Id, Table};
use super::tally::Loss;
use super::wire::{Packet, sums};
use crate::back::net::Sent;
use connection::{State, Taken};
use flow::{Flow, Stage, frame_reset, refuse_segment};
use seq::Seq;
use smoltcp::wire::{IpAddress, TcpControl, TcpPacket, TcpRepr};
use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Largest segment either way: what an Ethernet frame carries.
pub const MSS: usize = 1460;
/// Octets of each buffer, two a connection. With [`FLOWS`] the most a guest can make us hold is 128 MiB.
pub const BUFFER: usize = 128 << 10;
/// Most connections.
pub const FLOWS: u16 = 512;
/// So much for the host is written at once; less waits for the end of the turn, to be written together.
const WRITE_NOW: usize = BUFFER / 4;

/// The guest's port and whom it talks with.
pub type Key = (u16, SocketAddrV4);

/// All connections.
#[derive(Debug)]
pub struct Tcp<S> {
    flows: Table<Key, Flow<S>>,
    /// Flows that may have a segment to send, each once.
    ready: VecDeque<Id>,
    /// Flows with octets for the host.
    dirty: Vec<Id>,
    /// Rules with clients to accept.
    rules: VecDeque<u8>,
    next_timer: Option<Duration>,
    secret: u64,
    servers: Vec<SocketAddr>,
}

impl<S> Tcp<S> {
    /// None yet. `secret` makes sequence numbers that cannot be guessed; `servers` are the name servers behind the
    /// network's.
    pub fn new(secret: u64, servers: &[SocketAddr]) -> Self {
        Self {
            flows: Table::new(FLOWS),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            rules: VecDeque::new(),
            next_timer: None,
            secret,
            servers: servers.to_vec(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there may be something for the guest.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether [`settle`](Self::settle) has something to do.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.next_timer
    }

    /// Takes a segment of the guest.
    pub fn segment<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, packet: &Packet<'_>) -> Sent {
        let (from, to) = (packet.head.src_addr, packet.head.dst_addr);
        let parsed = TcpPacket::new_checked(packet.body).ok();
        let parsed = parsed.as_ref().and_then(|segment| {
            TcpRepr::parse(segment, &IpAddress::Ipv4(from), &IpAddress::Ipv4(to), &sums()).ok()
        });
        let Some(segment) = parsed else {
            router.tally.add(Loss::Malformed);
            return Sent::Dropped;
        };
        let key = (segment.src_port, SocketAddrV4::new(to, segment.dst_port));
        let opens = segment.control == TcpControl::Syn && segment.ack_number.is_none();
        if let Some(id) = self.flows.find(&key) {
            if !(opens && self.makes_way(id, &segment)) {
                self.known(router, id, &segment);
                return Sent::Out;
            }
            self.flows.remove(id);
        }
        if opens {
            return self.open(router, key, &segment);
        }
        refuse_segment(router, key, &segment);
        Sent::Dropped
    }

    /// Whether a connection in TIME-WAIT is done and the SYN is of a later one (RFC 9293, 3.6.1 and 3.10.7.4).
    fn makes_way(&mut self, id: Id, segment: &TcpRepr<'_>) -> bool {
        let Some((_, flow)) = self.flows.get(id) else {
            return true;
        };
        match &flow.stage {
            Stage::Open(connection) if flow.socket.is_none() => {
                connection.state() == State::TimeWait
                    && connection.expects().before(Seq::from(segment.seq_number))
            }
            _ => false,
        }
    }

    fn known<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id, segment: &TcpRepr<'_>) {
        let now = router.now();
        let Some((key, flow)) = self.flows.get(id) else {
            return;
        };
        flow.used = now;
        let connection = match &mut flow.stage {
            Stage::Connecting { syn, .. } => {
                if segment.control == TcpControl::Syn {
                    *syn = flow::without_text(segment);
                } else if segment.control == TcpControl::Rst {
                    self.drop_flow(router, id);
                }
                return;
            }
            Stage::Open(connection) => connection,
        };
        match connection.segment(now, segment) {
            Taken::Fine => {}
            Taken::Reset => return self.drop_flow(router, id),
            Taken::Refuse => refuse_segment(router, key, segment),
        }
        let held = connection.held();
        if held >= WRITE_NOW || connection.guest_done() {
            self.flush(router, id);
        } else if held > 0 && !std::mem::replace(&mut flow.dirty, true) {
            self.dirty.push(id);
        }
        self.touch(id);
    }

    /// Queues a flow and minds its timers.
    fn touch(&mut self, id: Id) {
        let Some((_, flow)) = self.flows.get(id) else {
            return;
        };
        self.next_timer = [self.next_timer, flow.deadline()].into_iter().flatten().min();
        if !std::mem::replace(&mut flow.queued, true) {
            self.ready.push_back(id);
        }
    }

    /// A flow's socket became ready.
    pub fn event<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        id: Id,
        readable: bool,
        writable: bool,
    ) {
        let Some((_, flow)) = self.flows.get(id) else {
            return;
        };
        flow.readable |= readable;
        flow.writable |= writable;
        match flow.stage {
            Stage::Connecting { .. } if writable => self.connected(router, id),
            Stage::Connecting { .. } => {}
            Stage::Open(_) => {
                self.flush(router, id);
                self.touch(id);
            }
        }
    }

    /// A rule has clients.
    pub fn rule_event(&mut self, rule: u8) {
        if !self.rules.contains(&rule) {
            self.rules.push_back(rule);
        }
    }

    /// Writes what waits for the host.
    pub fn settle<H: Host<Socket = S>>(&mut self, router: &mut Router<H>) {
        while let Some(id) = self.dirty.pop() {
            if let Some((_, flow)) = self.flows.get(id) {
                flow.dirty = false;
                self.flush(router, id);
                self.touch(id);
            }
        }
    }

    fn flush<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id) {
        if let Some((_, flow)) = self.flows.get(id)
            && flow.flush(&mut router.host).is_err()
        {
            self.give_up(router, id);
        }
    }

    /// The next segment for the guest, as a frame.
    pub fn emit<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, into: &mut [u8]) -> Option<usize> {
        let now = router.now();
        while let Some(id) = self.ready.pop_front() {
            let Some((key, flow)) = self.flows.get(id) else {
                continue;
            };
            flow.queued = false;
            if flow.fill(&mut router.host, now).is_err() {
                self.give_up(router, id);
                return router.outbox.pop(into);
            }
            if let Some(length) = flow.emit(router, now, key, into) {
                self.touch(id);
                return Some(length);
            }
            if flow.settle_end() {
                self.drop_flow(router, id);
            } else {
                self.next_timer = [self.next_timer, flow.deadline()].into_iter().flatten().min();
            }
        }
        None
    }

    /// Runs the timers that are due.
    pub fn expire<H: Host<Socket = S>>(&mut self, router: &mut Router<H>) {
        let now = router.now();
        if self.next_timer.is_none_or(|at| now < at) {
            return;
        }
        self.next_timer = None;
        let mut due = Vec::new();
        for (id, _, flow) in self.flows.iter() {
            match flow.deadline() {
                Some(at) if at <= now => due.push(id),
                Some(at) => self.next_timer = Some(self.next_timer.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        for id in due {
            let alive = match self.flows.get(id) {
                Some((
                    _,
                    Flow {
                        stage: Stage::Open(connection),
                        ..
                    },
                )) => connection.expire(now),
                _ => true,
            };
            if alive {
                self.touch(id);
            } else {
                self.give_up(router, id);
            }
        }
    }

    /// Resets both sides of a flow: the host's failed, or the guest answers nothing.
    fn give_up<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id) {
        if let Some((key, flow)) = self.flows.get(id)
            && let Stage::Open(connection) = &flow.stage
            && !matches!(connection.state(), State::TimeWait | State::Closed)
        {
            frame_reset(router, key, connection.reset_number(), Some(connection.expects()));
        }
        self.drop_flow(router, id);
    }

    /// Ends a flow; the host's peer sees a reset unless all was said.
    fn drop_flow<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id) {
        if let Some((_, flow)) = self.flows.remove(id)
            && let Some(socket) = flow.socket
        {
            router.host.abort(socket);
        }
    }
}
