//! The router as the services see it: the host, the addresses, the cable and the answers that wait for the guest.

use super::host::Host;
use super::outbox::Outbox;
use super::plan::Plan;
use super::tally::{Loss, Tally};
use super::wire::{Cable, Line, Packet, ours, sums};
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv4TimeExceeded, IpProtocol, Ipv4Repr,
};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The first octets of a packet's payload, which an ICMP error gives back (RFC 792).
pub type Quote = [u8; 8];

/// The router.
pub struct Router<H> {
    /// Clock and sockets.
    pub host: H,
    /// Addresses.
    pub plan: Plan,
    /// Ethernet addresses.
    pub cable: Cable,
    /// Answers.
    pub outbox: Outbox,
    /// Losses.
    pub tally: Tally,
    /// What the user should know, told once.
    pub trouble: Option<String>,
}

impl<H: Host> Router<H> {
    /// The clock.
    pub fn now(&self) -> Duration {
        self.host.now()
    }

    /// Queues a packet whose payload `write` makes.
    pub fn answer(&mut self, head: &Ipv4Repr, write: impl FnOnce(&mut [u8])) {
        let cable = self.cable;
        if !self.outbox.push(|frame| cable.ipv4(frame, head, write)) {
            self.tally.add(Loss::Answers);
        }
    }

    /// Queues a datagram.
    pub fn answer_udp(&mut self, line: &Line, payload: &[u8]) {
        let cable = self.cable;
        let write = |place: &mut [u8]| place.copy_from_slice(payload);
        if !self
            .outbox
            .push(|frame| cable.udp(frame, line, payload.len(), write))
        {
            self.tally.add(Loss::Answers);
        }
    }

    /// Tells the guest that its packet to `to` cannot be delivered.
    pub fn unreachable(
        &mut self,
        reason: Icmpv4DstUnreachable,
        to: Ipv4Addr,
        protocol: IpProtocol,
        data: &Quote,
    ) {
        let header = ours(self.plan.guest(), to, protocol, data.len());
        let from = match reason {
            Icmpv4DstUnreachable::PortUnreachable => to,
            _ => self.plan.router(),
        };
        self.icmp(from, &Icmpv4Repr::DstUnreachable { reason, header, data });
    }

    /// Tells the guest that its packet lived too long.
    pub fn expired(&mut self, packet: &Packet<'_>) {
        let data = quote(packet.body);
        let header = Ipv4Repr {
            payload_len: data.len(),
            ..packet.head
        };
        let reason = Icmpv4TimeExceeded::TtlExpired;
        self.icmp(
            self.plan.router(),
            &Icmpv4Repr::TimeExceeded {
                reason,
                header,
                data: &data,
            },
        );
    }

    /// Queues an ICMP message.
    pub fn icmp(&mut self, from: Ipv4Addr, message: &Icmpv4Repr<'_>) {
        let head = ours(from, self.plan.guest(), IpProtocol::Icmp, message.buffer_len());
        self.answer(&head, |body| {
            body.fill(0);
            message.emit(&mut Icmpv4Packet::new_unchecked(body), &sums());
        });
    }
}

/// The quote of a payload; a shorter one is filled up with zeros.
pub fn quote(body: &[u8]) -> Quote {
    let mut quote = Quote::default();
    for (to, from) in quote.iter_mut().zip(body) {
        *to = *from;
    }
    quote
}

/// The quote of a datagram or segment with these ports, and what follows them.
pub fn quote_ports(from: u16, to: u16, rest: u32) -> Quote {
    let word = u64::from(from) << 48 | u64::from(to) << 32 | u64::from(rest);
    word.to_be_bytes()
}
