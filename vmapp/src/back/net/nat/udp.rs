//! UDP: one connected socket of the host per flow of the guest, so that the host's kernel lets only the right peer
//! answer and tells when there is none; and datagrams that come in by a forward rule.
//!
//! A flow ends after two idle minutes (RFC 4787, REQ-5). In a full table the one idle for longest makes room.

use super::flows::Flows;
use super::host::{Host, Token};
use super::router::{Router, quote_ports};
use super::table::Id;
use super::tally::Loss;
use super::wire::{BODY, DATAGRAM_MAX, Line, UDP};
use crate::back::net::Sent;
use nix::errno::Errno;
use shared::msg::handover::ForwardSpec;
use smoltcp::wire::{Icmpv4DstUnreachable as Unreachable, IpProtocol};
use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Most flows.
pub const FLOWS: u16 = 256;
/// A flow lives so long without a datagram.
pub const IDLE: Duration = Duration::from_secs(120);
/// Ports tried for a client of a rule whose own is taken.
const OTHER_PORTS: u16 = 16;

/// The guest's port and whom it talks with.
type Key = (u16, SocketAddrV4);

#[derive(Debug)]
enum Way<S> {
    /// A socket of its own.
    Own(S),
    /// The socket of a forward rule, for this client.
    Rule { rule: u8, client: SocketAddr },
}

/// All flows.
#[derive(Debug)]
pub struct Udp<S> {
    flows: Flows<Key, Way<S>>,
    rules: VecDeque<u8>,
}

impl<S> Udp<S> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            flows: Flows::new(FLOWS, IDLE),
            rules: VecDeque::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there may be something for the guest.
    pub fn is_ready(&self) -> bool {
        self.flows.is_ready() || !self.rules.is_empty()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.flows.deadline()
    }

    /// Forgets idle flows.
    pub fn expire(&mut self, now: Duration) {
        self.flows.expire(now);
    }

    /// A flow's socket is readable.
    pub fn event(&mut self, id: Id) {
        self.flows.event(id);
    }

    /// A rule's socket is readable.
    pub fn rule_event(&mut self, rule: u8) {
        if !self.rules.contains(&rule) {
            self.rules.push_back(rule);
        }
    }

    /// Sends a datagram of the guest, from its port, to what it calls `peer` and the host calls `to`.
    pub fn outgoing<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        key: Key,
        to: SocketAddr,
        payload: &[u8],
    ) -> Sent {
        let now = router.now();
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => match router.host.datagram(to) {
                Ok(socket) => match self.open(router, now, key, Way::Own(socket)) {
                    Some(id) => id,
                    None => return Sent::Dropped,
                },
                Err(errno) => {
                    refuse(router, key, errno);
                    return Sent::Dropped;
                }
            },
        };
        let Some(way) = self.flows.use_way(id, now) else {
            return Sent::Dropped;
        };
        // The first error may be that of an earlier datagram, which the kernel tells in place of sending this one.
        for _ in 0..2 {
            let sent = match way {
                Way::Own(socket) => router.host.send(socket, payload).map(drop),
                Way::Rule { rule, client } => router.host.give_to(*rule, payload, *client),
            };
            let Err(errno) = sent else {
                return Sent::Out;
            };
            if !refuse(router, key, errno) {
                break;
            }
        }
        Sent::Dropped
    }

    fn open<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        now: Duration,
        key: Key,
        way: Way<S>,
    ) -> Option<Id> {
        let (id, evicted) = self.flows.add(key, way, now)?;
        if evicted {
            router.tally.add(Loss::Evicted);
        }
        if let Some(Way::Own(socket)) = self.flows.way(id)
            && router.host.watch(socket, Token::Udp(id)).is_err()
        {
            self.flows.remove(id);
            router.tally.add(Loss::Host);
            return None;
        }
        Some(id)
    }

    /// The next datagram for the guest, as a frame.
    pub fn incoming<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        forwards: &[ForwardSpec],
        into: &mut [u8],
    ) -> Option<usize> {
        while let Some((id, key)) = self.flows.readable() {
            let Some(Way::Own(socket)) = self.flows.way(id) else {
                self.flows.ran_dry();
                continue;
            };
            let room = into.get_mut(BODY + UDP..).unwrap_or_default();
            match router.host.recv(socket, room) {
                Ok(len) => {
                    self.flows.use_way(id, router.host.now());
                    self.flows.next_turn();
                    return Some(deliver(router, into, key, len));
                }
                Err(Errno::EAGAIN) => self.flows.ran_dry(),
                Err(errno) => {
                    if !refuse(router, key, errno) {
                        self.flows.remove(id);
                    }
                    return router.outbox.pop(into);
                }
            }
        }
        self.by_rules(router, forwards, into)
    }

    fn by_rules<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        forwards: &[ForwardSpec],
        into: &mut [u8],
    ) -> Option<usize> {
        while let Some(&rule) = self.rules.front() {
            let place = into.get_mut(BODY + UDP..).unwrap_or_default();
            let spec = forwards.get(usize::from(rule));
            match (router.host.take_from(rule, place), spec) {
                (Ok((len, client)), Some(spec)) => {
                    self.rules.rotate_left(1);
                    let key = self.client_key(router, rule, spec.guest_port, client)?;
                    return Some(deliver(router, into, key, len));
                }
                (Err(Errno::EAGAIN), _) | (_, None) => {
                    self.rules.pop_front();
                }
                // An error of a datagram sent earlier: told once, and gone.
                (Err(_), _) => {
                    self.rules.rotate_left(1);
                    return None;
                }
            }
        }
        None
    }

    /// The flow of a client: its own address where the guest may see it, with another port where that is taken.
    fn client_key<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        rule: u8,
        guest_port: u16,
        client: SocketAddr,
    ) -> Option<Key> {
        let now = router.now();
        let address = router.plan.seen_by_guest(&client);
        for step in 0..OTHER_PORTS {
            let port = client.port().wrapping_add(step.wrapping_mul(4099)).max(1);
            let key = (guest_port, SocketAddrV4::new(address, port));
            let Some(id) = self.flows.find(&key) else {
                return self
                    .open(router, now, key, Way::Rule { rule, client })
                    .map(|_| key);
            };
            let same =
                |way: &Way<S>| matches!(way, Way::Rule { rule: r, client: c } if *r == rule && *c == client);
            if self.flows.way(id).is_some_and(|way| same(way)) {
                self.flows.use_way(id, now);
                return Some(key);
            }
        }
        router.tally.add(Loss::Full);
        None
    }
}

/// Puts the headers before a datagram that lies in `into` already.
fn deliver<H: Host>(router: &mut Router<H>, into: &mut [u8], key: Key, len: usize) -> usize {
    let (port, peer) = key;
    if len > DATAGRAM_MAX {
        // Cut off on the way in: half a datagram is none. No length tells the caller.
        router.tally.add(Loss::TooLong);
        return 0;
    }
    let line = Line {
        from: *peer.ip(),
        from_port: peer.port(),
        to: router.plan.guest(),
        to_port: port,
    };
    router.cable.udp(into, &line, len, |_| {})
}

/// Tells the guest what the host's error means. False: nothing a guest could know, and the socket may be of no more use.
fn refuse<H: Host>(router: &mut Router<H>, key: Key, errno: Errno) -> bool {
    let (port, peer) = key;
    let reason = match errno {
        Errno::ECONNREFUSED => Unreachable::PortUnreachable,
        Errno::ENETUNREACH => Unreachable::NetUnreachable,
        Errno::EHOSTUNREACH => Unreachable::HostUnreachable,
        Errno::EACCES | Errno::EPERM => Unreachable::CommProhibited,
        _ => {
            router.tally.add(Loss::Host);
            return false;
        }
    };
    router.unreachable(
        reason,
        *peer.ip(),
        IpProtocol::Udp,
        &quote_ports(port, peer.port(), 0),
    );
    true
}
