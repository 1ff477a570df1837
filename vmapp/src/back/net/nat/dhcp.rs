//! The DHCP server (RFC 2131, 2132): one lease, always the same. What a client calls itself is neither kept nor believed,
//! only echoed where RFC 6842 wants it.

use super::host::Host;
use super::router::Router;
use super::tally::Loss;
use super::wire::{DATAGRAM_MAX, Line};
use crate::back::net::Sent;
use smoltcp::wire::{
    DhcpFlags, DhcpMessageType as Message, DhcpOpCode, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetProtocol,
};
use std::net::Ipv4Addr;

/// The server's port.
pub const SERVER: u16 = 67;
/// The client's.
const CLIENT: u16 = 68;
/// Seconds of a lease: a day.
const LEASE: u32 = 86_400;
/// A BOOTP message is never shorter (RFC 1542, 2.1), and some clients insist.
const SHORTEST: usize = 300;
/// Room for a reply.
const LONGEST: usize = 548;
const MAGIC: u32 = 0x6382_5363;

/// What matters of a client's message.
#[derive(Debug)]
struct Request<'a> {
    kind: Message,
    id: u32,
    hardware: EthernetAddress,
    client_ip: Ipv4Addr,
    broadcast: bool,
    secs: u16,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client_id: Option<&'a [u8]>,
}

/// Takes a datagram to the server's port.
pub fn dhcp<H: Host>(router: &mut Router<H>, payload: &[u8]) -> Sent {
    let packet = DhcpPacket::new_checked(payload).ok();
    let Some(request) = packet.as_ref().and_then(parse) else {
        router.tally.add(Loss::Malformed);
        return Sent::Dropped;
    };
    let lease = router.plan.guest();
    let here = router.plan.router();
    // RFC 2131, 4.3.2: a client that chose another server is not ours to answer.
    let other_server = request.server.is_some_and(|server| server != here);
    let wanted = request.requested.unwrap_or(request.client_ip);
    match request.kind {
        Message::Discover => reply(router, &request, Message::Offer, lease),
        Message::Request if other_server => {}
        Message::Request if wanted == lease => reply(router, &request, Message::Ack, lease),
        Message::Request => reply(router, &request, Message::Nak, Ipv4Addr::UNSPECIFIED),
        Message::Inform => reply(router, &request, Message::Ack, Ipv4Addr::UNSPECIFIED),
        // The lease cannot go to anybody else, and there is no other to offer instead.
        Message::Release | Message::Decline => {}
        _ => {
            router.tally.add(Loss::Malformed);
            return Sent::Dropped;
        }
    }
    Sent::Out
}

fn parse<'a>(packet: &'a DhcpPacket<&'a [u8]>) -> Option<Request<'a>> {
    let asks = packet.opcode() == DhcpOpCode::Request;
    if !asks || packet.magic_number() != MAGIC || packet.hardware_len() != 6 {
        return None;
    }
    let mut request = Request {
        kind: Message::Unknown(0),
        id: packet.transaction_id(),
        hardware: packet.client_hardware_address(),
        client_ip: packet.client_ip(),
        broadcast: packet.flags().contains(DhcpFlags::BROADCAST),
        secs: packet.secs(),
        requested: None,
        server: None,
        client_id: None,
    };
    for option in packet.options() {
        let address = || <[u8; 4]>::try_from(option.data).ok().map(Ipv4Addr::from);
        match (option.kind, option.data) {
            (50, _) => request.requested = address(),
            (53, &[kind]) => request.kind = kind.into(),
            (54, _) => request.server = address(),
            (61, id) => request.client_id = Some(id),
            _ => {}
        }
    }
    Some(request)
}

fn reply<H: Host>(router: &mut Router<H>, request: &Request<'_>, kind: Message, lease: Ipv4Addr) {
    let (plan, cable) = (router.plan, router.cable);
    let (refused, leased) = (kind == Message::Nak, !lease.is_unspecified());
    let broadcast = plan.broadcast().octets();
    let mut more = vec![];
    if !refused {
        more.push(option(28, &broadcast));
    }
    if let Some(id) = request.client_id {
        more.push(option(61, id));
    }
    let message = DhcpRepr {
        message_type: kind,
        transaction_id: request.id,
        secs: request.secs,
        client_hardware_address: request.hardware,
        client_ip: if refused { lease } else { request.client_ip },
        your_ip: lease,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: (!refused).then(|| plan.router()),
        subnet_mask: (!refused).then(|| plan.mask()),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(plan.router()),
        parameter_request_list: None,
        dns_servers: (!refused).then(|| [plan.dns()].into_iter().collect()),
        max_size: None,
        lease_duration: leased.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &more,
    };
    let mut bytes = [0; LONGEST];
    let len = message.buffer_len().max(SHORTEST);
    let Some(place) = bytes.get_mut(..len) else {
        router.tally.add(Loss::Malformed);
        return;
    };
    if message.emit(&mut DhcpPacket::new_unchecked(place)).is_err() {
        router.tally.add(Loss::Malformed);
        return;
    }
    // RFC 2131, 4.1. A refusal is broadcast: the client's idea of its address is what is wrong.
    let (to, hardware) = match request.client_ip {
        _ if refused => (Ipv4Addr::BROADCAST, EthernetAddress::BROADCAST),
        address if !address.is_unspecified() => (address, request.hardware),
        _ if request.broadcast || !leased => (Ipv4Addr::BROADCAST, EthernetAddress::BROADCAST),
        _ => (lease, request.hardware),
    };
    let line = Line {
        from: plan.router(),
        from_port: SERVER,
        to,
        to_port: CLIENT,
    };
    let message = bytes.get(..len.min(DATAGRAM_MAX)).unwrap_or_default();
    let queued = router.outbox.push(|frame| {
        let length = cable.udp(frame, &line, message.len(), |place| {
            place.copy_from_slice(message)
        });
        cable.ethernet(frame, hardware, EthernetProtocol::Ipv4);
        length
    });
    if !queued {
        router.tally.add(Loss::Answers);
    }
}

fn option(kind: u8, data: &[u8]) -> DhcpOption<'_> {
    DhcpOption { kind, data }
}
