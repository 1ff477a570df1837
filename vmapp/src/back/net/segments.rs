//! Frames that arrive together: one of many segments, which the host hands over in one read, cut into those a wire carries.
//!
//! The counterpart of [`burst`](super::burst), and what a network card's send offloads do for a host (TSO, checksums), done for
//! the guest: one system call and one walk through the host's network stack for all. TCP over IPv4 only; of the rest the
//! kernel makes segments itself, and leaves no more than the checksum. The tap reads into [`Segments::room`] and takes what
//! that gives one frame a call.
//!
//! What must never happen here: a frame no guest may be given, a panic or a loop without end, whatever was read.

use super::offload::Offload;
use super::{FRAME_BYTES, Received};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket, checksum};
use zerocopy::FromBytes;

const ETHERNET: usize = 14;
/// IEEE 802.1Q, of one tag.
const VLAN: EthernetProtocol = EthernetProtocol::Unknown(0x8100);
/// Octets of the tag.
const TAG: usize = 4;
/// Most octets of a frame: those of an IPv4 packet behind a tag.
const MOST: usize = ETHERNET + TAG + u16::MAX as usize;

/// What was read last, as long as there are segments of it.
#[derive(Debug)]
pub struct Segments {
    /// An [`Offload`], the frame behind it, and an octet too many, which shows a frame too long.
    read: Vec<u8>,
    cut: Option<Cut>,
}

impl Default for Segments {
    fn default() -> Self {
        Self {
            read: vec![0; Offload::BYTES + MOST + 1],
            cut: None,
        }
    }
}

impl Segments {
    /// Where an [`Offload`] and its frame are to be read to. What was there is gone.
    pub fn room(&mut self) -> &mut [u8] {
        self.cut = None;
        &mut self.read
    }

    /// The first frame of what was read, so many octets; more may come by [`next`](Self::next).
    pub fn first(&mut self, octets: usize, into: &mut [u8]) -> Received {
        let read = self
            .read
            .get(..octets)
            .filter(|_| octets <= Offload::BYTES + MOST);
        let Some(Ok((offload, frame))) = read.map(Offload::read_from_prefix) else {
            return Received::Dropped;
        };
        match offload.gso_type {
            0 => one(&offload, frame, into).map_or(Received::Dropped, Received::Frame),
            Offload::GSO_TCPV4 => {
                self.cut = Cut::of(frame, offload.gso_size.into());
                match self.next(into) {
                    Received::Nothing => Received::Dropped,
                    first => first,
                }
            }
            _ => Received::Dropped,
        }
    }

    /// The next frame of what was read.
    pub fn next(&mut self, into: &mut [u8]) -> Received {
        let frame = self.read.get(Offload::BYTES..).unwrap_or_default();
        let Some(octets) = self.cut.as_mut().map(|cut| cut.next(frame, into)) else {
            return Received::Nothing;
        };
        self.cut.take_if(|cut| octets.is_none() || cut.is_done());
        octets.map_or(Received::Dropped, Received::Frame)
    }
}

/// A frame of one segment, with its checksum; `None`: no guest may be given it.
fn one(offload: &Offload, frame: &[u8], into: &mut [u8]) -> Option<usize> {
    let into = into
        .get_mut(..frame.len())
        .filter(|_| FRAME_BYTES.contains(&frame.len()))?;
    into.copy_from_slice(frame);
    if offload.lacks_checksum() {
        let body = into.get_mut(offload.csum_start.into()..)?;
        let sum = !checksum::data(body);
        let field = body.get_mut(offload.csum_offset.into()..)?.first_chunk_mut()?;
        // UDP's zero would say that there is none; to all others both are the same.
        *field = if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() };
    }
    Some(frame.len())
}

/// A frame of many segments of TCP over IPv4, and how far it is cut.
#[derive(Debug)]
struct Cut {
    /// Where the IPv4 header begins.
    network: usize,
    /// Where TCP's does.
    transport: usize,
    /// Octets up to the payload, all of which every segment has.
    headers: usize,
    /// Octets of the payload, and of each segment's but the last's.
    payload: usize,
    size: usize,
    /// Segments given, and octets of payload they had.
    segments: u16,
    given: usize,
}

impl Cut {
    /// `None`: it is not what it says it is, or its segments are longer than a guest may be given.
    fn of(frame: &[u8], size: usize) -> Option<Self> {
        let network = match EthernetFrame::new_checked(frame).ok()?.ethertype() {
            VLAN => ETHERNET + TAG,
            _ => ETHERNET,
        };
        let ethertype = frame.get(network - 2..network)?;
        let packet = Ipv4Packet::new_checked(frame.get(network..)?).ok()?;
        let plain = ethertype == u16::from(EthernetProtocol::Ipv4).to_be_bytes()
            && packet.version() == 4
            && usize::from(packet.total_len()) == frame.len() - network
            && !packet.more_frags()
            && packet.frag_offset() == 0
            && packet.next_header() == IpProtocol::Tcp;
        if !plain {
            return None;
        }
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        let transport = network + usize::from(packet.header_len());
        let headers = transport + usize::from(segment.header_len());
        let payload = frame.len().checked_sub(headers)?;
        let longest = headers + size.min(payload);
        (size != 0 && FRAME_BYTES.contains(&longest)).then_some(Self {
            network,
            transport,
            headers,
            payload,
            size,
            segments: 0,
            given: 0,
        })
    }

    /// Makes the next segment of `frame`, which is the one this was made of; octets of it.
    fn next(&mut self, frame: &[u8], into: &mut [u8]) -> Option<usize> {
        let payload = self.size.min(self.payload - self.given);
        let from = self.headers + self.given;
        let into = into.get_mut(..self.headers + payload)?;
        let (headers, body) = into.split_at_mut_checked(self.headers)?;
        headers.copy_from_slice(frame.get(..self.headers)?);
        body.copy_from_slice(frame.get(from..from + payload)?);

        let mut packet = Ipv4Packet::new_unchecked(into.get_mut(self.network..)?);
        packet.set_total_len(u16::try_from(self.headers - self.network + payload).ok()?);
        packet.set_ident(packet.ident().wrapping_add(self.segments));
        packet.fill_checksum();
        let [from, to] = [packet.src_addr(), packet.dst_addr()].map(Into::into);

        let (is_first, is_last) = (self.given == 0, self.given + payload == self.payload);
        let mut segment = TcpPacket::new_unchecked(into.get_mut(self.transport..)?);
        segment.set_seq_number(segment.seq_number() + self.given);
        segment.set_cwr(segment.cwr() && is_first);
        segment.set_psh(segment.psh() && is_last);
        segment.set_fin(segment.fin() && is_last);
        segment.fill_checksum(&from, &to);
        self.segments = self.segments.wrapping_add(1);
        self.given += payload;
        Some(self.headers + payload)
    }

    fn is_done(&self) -> bool {
        self.given == self.payload
    }
}

#[cfg(test)]
mod tests;
