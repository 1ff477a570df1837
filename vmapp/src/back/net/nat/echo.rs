//! ICMP echo: the router and the name server answer themselves; a ping beyond goes out by an unprivileged ICMP socket,
//! where the host's `net.ipv4.ping_group_range` allows this user one, and is refused as prohibited where it does not.
//!
//! One socket per identifier and destination, at most [`FLOWS`]; idle ones end after half a minute.

use super::flows::Flows;
use super::host::{Host, Token};
use super::plan::Towards;
use super::router::{Router, quote};
use super::table::Id;
use super::tally::Loss;
use super::wire::{BODY, BODY_MAX, Packet, ours};
use crate::back::net::Sent;
use nix::errno::Errno;
use smoltcp::wire::{
    Icmpv4DstUnreachable as Unreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpProtocol,
};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Most flows.
pub const FLOWS: u16 = 16;
const IDLE: Duration = Duration::from_secs(30);

/// The guest's identifier and whom it pings.
type Key = (u16, Ipv4Addr);

/// All flows.
#[derive(Debug)]
pub struct Echo<S> {
    flows: Flows<Key, S>,
    told: bool,
}

impl<S> Echo<S> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            flows: Flows::new(FLOWS, IDLE),
            told: false,
        }
    }

    /// Whether there may be something for the guest.
    pub fn is_ready(&self) -> bool {
        self.flows.is_ready()
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

    /// Takes an ICMP message of the guest. All but echo requests end here.
    pub fn outgoing<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        packet: &Packet<'_>,
        towards: Towards,
    ) -> Sent {
        let parsed = Icmpv4Packet::new_checked(packet.body)
            .ok()
            .filter(|message| message.verify_checksum());
        let Some(message) = parsed else {
            router.tally.add(Loss::Malformed);
            return Sent::Dropped;
        };
        if message.msg_type() != Icmpv4Message::EchoRequest {
            return Sent::Dropped;
        }
        let (ident, seq_no) = (message.echo_ident(), message.echo_seq_no());
        match towards {
            Towards::Router | Towards::Dns => {
                let data = message.data();
                router.icmp(
                    packet.head.dst_addr,
                    &Icmpv4Repr::EchoReply { ident, seq_no, data },
                );
                Sent::Out
            }
            Towards::Beyond(to) => self.beyond(router, packet, (ident, to)),
            Towards::Nobody | Towards::Nowhere => {
                router.tally.add(Loss::Unroutable);
                Sent::Dropped
            }
        }
    }

    fn beyond<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, packet: &Packet<'_>, key: Key) -> Sent {
        let sent = self.flow(router, key).and_then(|socket| {
            let sent = router.host.send(socket, packet.body);
            sent.map(drop)
        });
        let Err(errno) = sent else {
            return Sent::Out;
        };
        let reason = match errno {
            Errno::EACCES | Errno::EPERM => Unreachable::CommProhibited,
            Errno::ENETUNREACH => Unreachable::NetUnreachable,
            _ => Unreachable::HostUnreachable,
        };
        if reason == Unreachable::CommProhibited && !std::mem::replace(&mut self.told, true) {
            let why = "the guest cannot ping beyond its network: net.ipv4.ping_group_range of this host leaves this user out";
            router.trouble = Some(why.to_owned());
        }
        router.unreachable(reason, key.1, IpProtocol::Icmp, &quote(packet.body));
        Sent::Dropped
    }

    /// The socket for `key`.
    fn flow<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, key: Key) -> Result<&mut S, Errno> {
        let now = router.now();
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => self.open(router, key, now)?,
        };
        self.flows.use_way(id, now).ok_or(Errno::ENOENT)
    }

    fn open<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        key: Key,
        now: Duration,
    ) -> Result<Id, Errno> {
        let socket = router.host.echo(key.1)?;
        let (id, evicted) = self.flows.add(key, socket, now).ok_or(Errno::ENOBUFS)?;
        if evicted {
            router.tally.add(Loss::Evicted);
        }
        let socket = self.flows.way(id).ok_or(Errno::ENOENT)?;
        if let Err(errno) = router.host.watch(socket, Token::Echo(id)) {
            self.flows.remove(id);
            return Err(errno);
        }
        Ok(id)
    }

    /// The next reply for the guest, as a frame.
    pub fn incoming<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        into: &mut [u8],
    ) -> Option<usize> {
        while let Some((id, (ident, from))) = self.flows.readable() {
            let room = into.get_mut(BODY..).unwrap_or_default();
            let socket = self.flows.way(id)?;
            match router.host.recv(socket, room) {
                Ok(len) => {
                    self.flows.use_way(id, router.host.now());
                    self.flows.next_turn();
                    // Nothing if it is no reply: whoever sends those must not keep us here.
                    return reply(router, into, (ident, from), len);
                }
                Err(Errno::EAGAIN) => self.flows.ran_dry(),
                Err(_) => {
                    self.flows.next_turn();
                    router.tally.add(Loss::Host);
                    return None;
                }
            }
        }
        None
    }
}

/// Makes a reply that lies in `into` already the guest's: the kernel had put an identifier of its own in the request.
fn reply<H: Host>(router: &mut Router<H>, into: &mut [u8], (ident, from): Key, len: usize) -> Option<usize> {
    if len > BODY_MAX {
        router.tally.add(Loss::TooLong);
        return None;
    }
    let message = into.get_mut(BODY..BODY + len)?;
    let mut message = Icmpv4Packet::new_checked(message).ok()?;
    if message.msg_type() != Icmpv4Message::EchoReply {
        return None;
    }
    message.set_echo_ident(ident);
    message.fill_checksum();
    let head = ours(from, router.plan.guest(), IpProtocol::Icmp, len);
    let cable = router.cable;
    Some(cable.ipv4(into, &head, |_| {}))
}
