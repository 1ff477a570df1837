//! Frames on the cable: what of a guest's frame is worth looking at, and the Ethernet and IPv4 headers of ours.
//!
//! Formats and checksums are smoltcp's. Every length a guest claims is checked against the octets there before anything is
//! read by it; a packet with a wrong checksum, a version other than 4 or a fragment goes no further.

use super::tally::Loss;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};
use std::net::Ipv4Addr;

/// Octets of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Octets of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Where the payload of IPv4 begins in a frame of ours.
pub const BODY: usize = ETHERNET + IPV4;
/// Most octets of an IPv4 packet's payload.
pub const BODY_MAX: usize = 1500 - IPV4;
/// Octets of a UDP header.
pub const UDP: usize = 8;
/// Most octets of a datagram.
pub const DATAGRAM_MAX: usize = BODY_MAX - UDP;
/// Shortest frame of Ethernet without its check sequence: the rest is zeros, never what the buffer held before.
const SHORTEST: usize = 60;
/// What our packets' time to live begins with.
const TTL: u8 = 64;

/// What a frame of the guest carries.
#[derive(Debug)]
pub enum Frame<'a> {
    /// ARP, not looked at.
    Arp(&'a [u8]),
    /// An IPv4 packet that holds together.
    Ipv4(Packet<'a>),
}

/// An IPv4 packet of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Addresses, protocol, time to live.
    pub head: Ipv4Repr,
    /// Whole payload.
    pub body: &'a [u8],
}

/// Both ends' Ethernet addresses.
#[derive(Clone, Copy, Debug)]
pub struct Cable {
    /// Everybody on the network but the guest.
    pub router: EthernetAddress,
    /// The guest, as it last called itself.
    pub guest: EthernetAddress,
}

impl Cable {
    /// Takes a frame apart and learns the guest's address.
    pub fn open<'a>(&mut self, frame: &'a [u8]) -> Result<Frame<'a>, Loss> {
        let frame = EthernetFrame::new_checked(frame).map_err(|_| Loss::Malformed)?;
        let (to, from) = (frame.dst_addr(), frame.src_addr());
        if to != self.router && to.is_unicast() {
            return Err(Loss::Elsewhere);
        }
        if !from.is_unicast() {
            return Err(Loss::Source);
        }
        let opened = match frame.ethertype() {
            EthernetProtocol::Arp => Frame::Arp(frame.payload()),
            EthernetProtocol::Ipv4 => Frame::Ipv4(packet(frame.payload())?),
            _ => return Err(Loss::Protocol),
        };
        self.guest = from;
        Ok(opened)
    }

    /// Writes a frame around a payload of `len` octets (at most [`BODY_MAX`]) that `write` puts in its place; gives its length.
    pub fn ipv4(&self, into: &mut [u8], head: &Ipv4Repr, write: impl FnOnce(&mut [u8])) -> usize {
        self.ethernet(into, self.guest, EthernetProtocol::Ipv4);
        let end = BODY + head.payload_len;
        let Some(packet) = into.get_mut(ETHERNET..end) else {
            return 0;
        };
        head.emit(&mut Ipv4Packet::new_unchecked(&mut *packet), &sums());
        write(packet.get_mut(IPV4..).unwrap_or_default());
        pad(into, end)
    }

    /// Writes a frame around a datagram whose payload is in its place already, or is put there by `write`.
    pub fn udp(&self, into: &mut [u8], line: &Line, len: usize, write: impl FnOnce(&mut [u8])) -> usize {
        let head = ours(line.from, line.to, IpProtocol::Udp, UDP + len);
        let ports = UdpRepr {
            src_port: line.from_port,
            dst_port: line.to_port,
        };
        self.ipv4(into, &head, |body| {
            let (from, to) = (IpAddress::Ipv4(line.from), IpAddress::Ipv4(line.to));
            let mut packet = UdpPacket::new_unchecked(body);
            ports.emit(&mut packet, &from, &to, len, write, &sums());
        })
    }

    /// Writes the Ethernet header.
    pub fn ethernet(&self, into: &mut [u8], to: EthernetAddress, protocol: EthernetProtocol) {
        if into.len() < ETHERNET {
            return;
        }
        let mut frame = EthernetFrame::new_unchecked(into);
        frame.set_dst_addr(to);
        frame.set_src_addr(self.router);
        frame.set_ethertype(protocol);
    }
}

/// Where a datagram comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Source.
    pub from: Ipv4Addr,
    /// Its port.
    pub from_port: u16,
    /// Destination.
    pub to: Ipv4Addr,
    /// Its port.
    pub to_port: u16,
}

/// The header of a packet of ours.
pub fn ours(from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, len: usize) -> Ipv4Repr {
    Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: protocol,
        payload_len: len.min(BODY_MAX),
        hop_limit: TTL,
    }
}

/// All checksums made and checked: the cable is as good as a wire, the guest's code is not.
pub fn sums() -> ChecksumCapabilities {
    ChecksumCapabilities::default()
}

/// Fills a short frame up with zeros.
pub fn pad(frame: &mut [u8], len: usize) -> usize {
    if let Some(rest) = frame.get_mut(len..SHORTEST) {
        rest.fill(0);
    }
    len.max(SHORTEST)
}

fn packet(bytes: &[u8]) -> Result<Packet<'_>, Loss> {
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Loss::Malformed)?;
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Err(Loss::Fragment);
    }
    let head = Ipv4Repr::parse(&packet, &sums()).map_err(|_| Loss::Malformed)?;
    let body = packet.payload();
    Ok(Packet { head, body })
}
