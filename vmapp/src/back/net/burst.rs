//! Frames that leave together: neighbours of one flow as one frame of many segments, which the host takes in one write.
//!
//! It is what a network card's receive offload does (GRO of Linux), done for the host on the guest's behalf: one system
//! call and one walk through the host's network stack for all, and one acknowledgement for the guest to take. TCP and
//! UDP over IPv4 only. A [`Burst`] is cut from the front of the frames of one turn, so that none waits for another and
//! none overtakes; what cannot be joined is a burst of one.
//!
//! Whoever needs the frames apart again, such as a bridge to a card, gets them from the kernel as they were, octet for
//! octet: frames are joined only if all checksums are right (the host will not look again), if they differ in nothing but what
//! the kernel counts on (sequence, identification), and if all but the last are of one length. One thing may be lost:
//! the identification of packets that must not be fragmented, which has no meaning (RFC 6864, section 4.1).

use super::offload::Offload;
use shared::msg::handover::Joins;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber, UdpPacket, checksum,
};
use std::io::IoSlice;
use zerocopy::IntoBytes;

const ETHERNET: usize = 14;
/// Octets of an IPv4 header without options: others are not joined.
const IPV4: usize = 20;
const TRANSPORT: usize = ETHERNET + IPV4;
const UDP: usize = 8;
/// Ethernet, IPv4, and the longest TCP header.
const MOST_HEADERS: usize = TRANSPORT + 60;
/// Most octets of an IPv4 packet.
const MOST: usize = u16::MAX as usize;

/// Frames that leave in one write: one as it is, or several of a flow.
#[derive(Debug)]
pub struct Burst<'a> {
    frames: &'a [Vec<u8>],
    /// Of several.
    head: Option<Head>,
}

impl<'a> Burst<'a> {
    /// As many of `frames`, from the first on, as may leave together; `None`: there are none.
    pub fn first(frames: &'a [Vec<u8>], joins: Joins) -> Option<Self> {
        let joined = Run::of(frames, joins).and_then(|run| Some((run.count, run.head()?)));
        let (count, head) = joined.map_or((1, None), |(count, head)| (count, Some(head)));
        let frames = frames.get(..count)?;
        Some(Self { frames, head })
    }

    /// One frame or more.
    pub fn frames(&self) -> &'a [Vec<u8>] {
        self.frames
    }

    /// The frame of many segments with its [`Offload`] in front, as it is written to a tap; `None`: it is one frame alone.
    pub fn joined(&self) -> Option<Vec<IoSlice<'_>>> {
        let head = self.head.as_ref()?;
        let payloads = self.frames.iter().map(|frame| frame.get(head.len..));
        let parts = [Some(head.offload.as_bytes()), head.headers.get(..head.len)]
            .into_iter()
            .chain(payloads);
        Some(parts.flatten().map(IoSlice::new).collect())
    }
}

/// Neighbours found to belong together.
struct Run<'a> {
    first: Segment<'a>,
    /// The headers all have, as [`Segment::flow`] gives them.
    flow: [u8; MOST_HEADERS],
    last: Segment<'a>,
    count: usize,
    /// Octets of one IPv4 packet of them all.
    octets: usize,
}

impl<'a> Run<'a> {
    /// The longest at the front of `frames`; `None`: the first is alone.
    fn of(frames: &'a [Vec<u8>], joins: Joins) -> Option<Self> {
        let (first, rest) = frames
            .split_first()
            .filter(|(_, rest)| joins.any() && !rest.is_empty())?;
        let first = Segment::of(first, joins)?;
        let mut run = Self {
            first,
            flow: first.flow(),
            last: first,
            count: 1,
            octets: first.frame.len() - ETHERNET,
        };
        for frame in rest {
            let Some(next) = Segment::of(frame, joins).filter(|next| run.goes_on_with(next)) else {
                break;
            };
            run.octets += next.payload().len();
            run.count += 1;
            run.last = next;
        }
        (run.count > 1).then_some(run)
    }

    /// Whether `next` is one more. The checksums, which take longest, are looked at last.
    fn goes_on_with(&self, next: &Segment<'_>) -> bool {
        let (first, last) = (&self.first, &self.last);
        last.frame.len() == first.frame.len()
            && !last.tcp().is_some_and(|segment| segment.psh())
            && next.frame.len() <= first.frame.len()
            && next.headers == first.headers
            && next.is_next_after(last)
            && next.flow() == self.flow
            && self.octets + next.payload().len() <= MOST
            && (self.count > 1 || first.is_sound())
            && next.is_sound()
    }

    /// The headers of the frame they make.
    fn head(&self) -> Option<Head> {
        let first = &self.first;
        let body = self.octets - IPV4;
        let mut headers = first.copied();
        let (packet, transport) = layers(&mut headers);
        let mut packet = Ipv4Packet::new_unchecked(packet);
        packet.set_total_len(u16::try_from(self.octets).ok()?);
        packet.fill_checksum();
        // The kernel adds the sum of what follows.
        let sum = first.pseudo_header(body);
        let (gso_type, csum_offset) = if let Some(last) = self.last.tcp() {
            let mut segment = TcpPacket::new_unchecked(transport);
            segment.set_psh(last.psh());
            segment.set_checksum(sum);
            (Offload::GSO_TCPV4, 16)
        } else {
            let mut datagram = UdpPacket::new_unchecked(transport);
            datagram.set_len(u16::try_from(body).ok()?);
            datagram.set_checksum(sum);
            (Offload::GSO_UDP_L4, 6)
        };
        let offload = Offload {
            flags: Offload::NEEDS_CSUM,
            gso_type,
            hdr_len: u16::try_from(first.headers).ok()?,
            gso_size: u16::try_from(first.payload().len()).ok()?,
            csum_start: TRANSPORT as u16,
            csum_offset,
        };
        Some(Head {
            offload,
            headers,
            len: first.headers,
        })
    }
}

/// The headers of a joined frame.
#[derive(Debug)]
struct Head {
    offload: Offload,
    headers: [u8; MOST_HEADERS],
    len: usize,
}

/// A frame that may be one of several.
#[derive(Clone, Copy)]
struct Segment<'a> {
    frame: &'a [u8],
    /// Octets up to the payload.
    headers: usize,
    protocol: IpProtocol,
}

impl<'a> Segment<'a> {
    /// The segment in `frame`, if it is of a kind that is joined. Checksums are not looked at yet.
    fn of(frame: &'a [u8], joins: Joins) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        let plain = ethernet.ethertype() == EthernetProtocol::Ipv4
            && packet.version() == 4
            && usize::from(packet.header_len()) == IPV4
            // What was added to make the frame long enough would become payload.
            && usize::from(packet.total_len()) == frame.len() - ETHERNET
            && !packet.more_frags()
            && packet.frag_offset() == 0;
        if !plain {
            return None;
        }
        let protocol = packet.next_header();
        let transport = match protocol {
            IpProtocol::Tcp if joins.tcp => tcp_headers(packet.payload())?,
            IpProtocol::Udp if joins.udp => udp_headers(packet.payload())?,
            _ => return None,
        };
        let headers = TRANSPORT + transport;
        (headers < frame.len()).then_some(Self {
            frame,
            headers,
            protocol,
        })
    }

    fn payload(&self) -> &'a [u8] {
        self.frame.get(self.headers..).unwrap_or_default()
    }

    fn packet(&self) -> Ipv4Packet<&'a [u8]> {
        Ipv4Packet::new_unchecked(self.frame.get(ETHERNET..).unwrap_or_default())
    }

    fn tcp(&self) -> Option<TcpPacket<&'a [u8]>> {
        let segment = TcpPacket::new_unchecked(self.frame.get(TRANSPORT..)?);
        (self.protocol == IpProtocol::Tcp).then_some(segment)
    }

    /// Whether its numbers are those that come after `before`.
    fn is_next_after(&self, before: &Self) -> bool {
        let follows = self
            .tcp()
            .zip(before.tcp())
            .is_none_or(|(this, that)| this.seq_number() == that.seq_number() + before.payload().len());
        let (this, that) = (self.packet(), before.packet());
        follows && (this.dont_frag() || this.ident() == that.ident().wrapping_add(1))
    }

    /// Its headers, as many octets as [`Self::headers`] says.
    fn copied(&self) -> [u8; MOST_HEADERS] {
        let mut copy = [0; MOST_HEADERS];
        let headers = self.frame.get(..self.headers).unwrap_or_default();
        if let Some(room) = copy.get_mut(..headers.len()) {
            room.copy_from_slice(headers);
        }
        copy
    }

    /// Its headers without what differs from segment to segment.
    fn flow(&self) -> [u8; MOST_HEADERS] {
        let mut flow = self.copied();
        let (packet, transport) = layers(&mut flow);
        let mut packet = Ipv4Packet::new_unchecked(packet);
        packet.set_total_len(0);
        packet.set_ident(0);
        packet.set_checksum(0);
        if self.protocol == IpProtocol::Tcp {
            let mut segment = TcpPacket::new_unchecked(transport);
            segment.set_seq_number(TcpSeqNumber::default());
            segment.set_psh(false);
            segment.set_checksum(0);
        } else {
            let mut datagram = UdpPacket::new_unchecked(transport);
            datagram.set_len(0);
            datagram.set_checksum(0);
        }
        flow
    }

    /// The checksum of the pseudo-header of a packet with so many octets after its IPv4 header.
    fn pseudo_header(&self, octets: usize) -> u16 {
        let packet = self.packet();
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        checksum::pseudo_header_v4(&packet.src_addr(), &packet.dst_addr(), self.protocol, octets)
    }

    /// Whether its checksums are right.
    fn is_sound(&self) -> bool {
        let body = self.frame.get(TRANSPORT..).unwrap_or_default();
        let sums = [self.pseudo_header(body.len()), checksum::data(body)];
        self.packet().verify_checksum() && checksum::combine(&sums) == !0
    }
}

/// Octets of the header of a segment of TCP that is neither first nor last of its connection and asks for nothing.
fn tcp_headers(segment: &[u8]) -> Option<usize> {
    let segment = TcpPacket::new_checked(segment).ok()?;
    let asks = segment.syn() | segment.fin() | segment.rst() | segment.urg();
    let congestion = segment.ece() | segment.cwr() | segment.ns();
    (segment.ack() && !asks && !congestion).then(|| segment.header_len().into())
}

/// Octets of the header of a datagram that has a checksum.
fn udp_headers(datagram: &[u8]) -> Option<usize> {
    let packet = UdpPacket::new_checked(datagram).ok()?;
    let whole = usize::from(packet.len()) == datagram.len();
    (whole && packet.checksum() != 0).then_some(UDP)
}

/// A packet's header and what comes after it.
fn layers(headers: &mut [u8; MOST_HEADERS]) -> (&mut [u8], &mut [u8]) {
    let (network, transport) = headers.split_at_mut(TRANSPORT);
    (network.get_mut(ETHERNET..).unwrap_or_default(), transport)
}

#[cfg(test)]
mod tests;
