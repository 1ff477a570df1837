//! ARP (RFC 826): every address of the network is the router's, but the guest's own, so that a guest's probe for a
//! duplicate of its lease (RFC 5227) stays unanswered.

use super::host::Host;
use super::router::Router;
use super::tally::Loss;
use super::wire::{ETHERNET, pad};
use crate::back::net::Sent;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetProtocol};

/// Answers a request.
pub fn arp<H: Host>(router: &mut Router<H>, bytes: &[u8]) -> Sent {
    let parsed = ArpPacket::new_checked(bytes).and_then(|packet| ArpRepr::parse(&packet));
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr: asked,
        ..
    }) = parsed
    else {
        router.tally.add(Loss::Malformed);
        return Sent::Dropped;
    };
    let plan = &router.plan;
    let ours = plan.contains(asked) && asked != plan.guest() && asked != plan.broadcast();
    if operation != ArpOperation::Request || !ours || asked == source_protocol_addr {
        // A reply, an announcement, a probe for the lease: seen, and nobody answers.
        return Sent::Out;
    }
    let cable = router.cable;
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: cable.router,
        source_protocol_addr: asked,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let queued = router.outbox.push(|frame| {
        cable.ethernet(frame, source_hardware_addr, EthernetProtocol::Arp);
        let end = ETHERNET + reply.buffer_len();
        if let Some(body) = frame.get_mut(ETHERNET..end) {
            reply.emit(&mut ArpPacket::new_unchecked(body));
        }
        pad(frame, end)
    });
    if !queued {
        router.tally.add(Loss::Answers);
    }
    Sent::Out
}
