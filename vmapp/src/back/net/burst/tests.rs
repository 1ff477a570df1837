//! What is joined and what is not, and that cutting what was joined gives the frames there were. [`cut`] does what the kernel
//! does (net/ipv4/tcp_offload.c, udp_offload.c); that a real one agrees is shown on a real bridge, in vmapp/tests/net/joined.rs.

use super::*;
use proptest::prelude::*;
use smoltcp::wire::{EthernetAddress, Ipv4Address};
use zerocopy::FromBytes;

const ALL: Joins = Joins { tcp: true, udp: true };
const FULL: usize = 1448;
/// Octets of TCP's options.
const OPTIONS: usize = 12;
const ADDRESSES: [Ipv4Address; 2] = [Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2)];

/// What a test may choose of a frame.
#[derive(Clone, Debug)]
struct Choice {
    udp: bool,
    port: u16,
    id: u16,
    dont_frag: bool,
    seq: i32,
    psh: bool,
    payload: usize,
}

impl Choice {
    fn new(udp: bool, number: usize) -> Self {
        Self {
            udp,
            port: 1000,
            id: 0xfffe_u16.wrapping_add(number as u16),
            dont_frag: false,
            seq: (number * FULL) as i32,
            psh: false,
            payload: FULL,
        }
    }

    fn frame(&self) -> Vec<u8> {
        let transport = if self.udp { UDP } else { 20 + OPTIONS };
        let mut frame = vec![0; TRANSPORT + transport + self.payload];
        for (octet, value) in frame.iter_mut().rev().take(self.payload).zip(self.seq as usize..) {
            *octet = (value * 7) as u8;
        }
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_dst_addr(EthernetAddress([2, 0, 0, 0, 0, 2]));
        ethernet.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 1]));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
        packet.set_version(4);
        packet.set_header_len(IPV4 as u8);
        packet.set_total_len((IPV4 + transport + self.payload) as u16);
        packet.set_ident(self.id);
        packet.set_dont_frag(self.dont_frag);
        packet.set_hop_limit(64);
        packet.set_next_header(if self.udp {
            IpProtocol::Udp
        } else {
            IpProtocol::Tcp
        });
        packet.set_src_addr(ADDRESSES[0]);
        packet.set_dst_addr(ADDRESSES[1]);
        if self.udp {
            let mut datagram = UdpPacket::new_unchecked(&mut frame[TRANSPORT..]);
            datagram.set_src_port(self.port);
            datagram.set_dst_port(7);
            datagram.set_len((UDP + self.payload) as u16);
        } else {
            let mut segment = TcpPacket::new_unchecked(&mut frame[TRANSPORT..]);
            segment.set_src_port(self.port);
            segment.set_dst_port(7);
            segment.set_seq_number(TcpSeqNumber(self.seq));
            segment.set_ack_number(TcpSeqNumber(77));
            segment.set_ack(true);
            segment.set_psh(self.psh);
            segment.set_window_len(500);
            segment.set_header_len(transport as u8);
            // No-operation.
            segment.options_mut().fill(1);
        }
        sign(&mut frame);
        frame
    }
}

/// Writes the checksums.
fn sign(frame: &mut [u8]) {
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
    packet.fill_checksum();
    let udp = packet.next_header() == IpProtocol::Udp;
    let [from, to] = [packet.src_addr(), packet.dst_addr()].map(Into::into);
    if udp {
        UdpPacket::new_unchecked(&mut frame[TRANSPORT..]).fill_checksum(&from, &to);
    } else {
        TcpPacket::new_unchecked(&mut frame[TRANSPORT..]).fill_checksum(&from, &to);
    }
}

/// What is written for a burst: the header in front, and the frame.
fn written(burst: &Burst<'_>) -> (Offload, Vec<u8>) {
    let Some(parts) = burst.joined() else {
        return (Offload::NONE, burst.frames()[0].clone());
    };
    let all = parts.iter().flat_map(|part| part.to_vec()).collect::<Vec<_>>();
    let (offload, frame) = Offload::read_from_prefix(&all).expect("an offload");
    (offload, frame.to_vec())
}

/// The segments of what was written.
fn cut(offload: &Offload, frame: &[u8]) -> Vec<Vec<u8>> {
    if *offload == Offload::NONE {
        return vec![frame.to_vec()];
    }
    assert_eq!(offload.flags, 1, "VIRTIO_NET_HDR_F_NEEDS_CSUM");
    let packet = Ipv4Packet::new_checked(&frame[ETHERNET..]).expect("an IPv4 packet");
    assert!(packet.verify_checksum());
    let (id, udp) = (packet.ident(), packet.next_header() == IpProtocol::Udp);
    assert_eq!(
        (offload.gso_type, offload.csum_offset),
        if udp { (5, 6) } else { (1, 16) }
    );
    assert_eq!(usize::from(offload.csum_start), TRANSPORT);
    // What the kernel does to it when nobody cuts it: it adds the rest up.
    let mut whole = frame.to_vec();
    let body = &frame[TRANSPORT..];
    let sum = !checksum::data(body);
    let field = TRANSPORT + usize::from(offload.csum_offset);
    whole[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let mut signed = whole.clone();
    sign(&mut signed);
    assert_eq!(whole, signed, "the sum of the pseudo-header is there already");

    let (headers, payload) = frame.split_at(offload.hdr_len.into());
    let pieces = payload.chunks(offload.gso_size.into()).collect::<Vec<_>>();
    let mut at = 0;
    let mut frames = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let mut frame = [headers, piece].concat();
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
        packet.set_total_len((headers.len() - ETHERNET + piece.len()) as u16);
        packet.set_ident(id.wrapping_add(number as u16));
        if udp {
            let mut datagram = UdpPacket::new_unchecked(&mut frame[TRANSPORT..]);
            datagram.set_len((UDP + piece.len()) as u16);
        } else {
            let mut segment = TcpPacket::new_unchecked(&mut frame[TRANSPORT..]);
            segment.set_seq_number(segment.seq_number() + at);
            let last = number + 1 == pieces.len();
            segment.set_psh(segment.psh() && last);
        }
        sign(&mut frame);
        frames.push(frame);
        at += piece.len();
    }
    frames
}

/// How many frames leave at a time, and that they are the frames there were.
fn bursts(frames: &[Vec<u8>], joins: Joins) -> Vec<usize> {
    let mut counts = Vec::new();
    let mut rest = frames;
    while let Some(burst) = Burst::first(rest, joins) {
        let count = burst.frames().len();
        let (offload, frame) = written(&burst);
        assert!(frame.len() <= ETHERNET + MOST);
        assert_eq!(offload == Offload::NONE, count == 1);
        assert_eq!(cut(&offload, &frame), rest[..count]);
        counts.push(count);
        rest = &rest[count..];
    }
    counts
}

#[test]
fn neighbours_of_a_flow_leave_together_up_to_a_short_one_and_what_a_packet_holds() {
    for udp in [false, true] {
        let flow = |count| {
            (0..count)
                .map(|number| Choice::new(udp, number))
                .collect::<Vec<_>>()
        };
        let frames = |choices: Vec<Choice>| choices.iter().map(Choice::frame).collect::<Vec<_>>();
        assert_eq!(bursts(&frames(flow(0)), ALL), [0; 0]);
        assert_eq!(bursts(&frames(flow(1)), ALL), [1]);
        assert_eq!(bursts(&frames(flow(3)), ALL), [3]);
        let mut short = flow(5);
        short[2].payload = 1;
        // What comes after it is not where TCP would go on.
        assert_eq!(bursts(&frames(short), ALL), [3, 2]);
        let most = (MOST - IPV4 - if udp { 8 } else { 32 }) / FULL;
        assert_eq!(bursts(&frames(flow(100)), ALL), [most, most, 100 - 2 * most]);
        let other = Joins { tcp: udp, udp: !udp };
        assert_eq!(bursts(&frames(flow(3)), other), [1, 1, 1]);
    }
    let mut pushed = (0..4)
        .map(|number| Choice::new(false, number))
        .collect::<Vec<_>>();
    pushed[1].psh = true;
    pushed[3].psh = true;
    let frames = pushed.iter().map(Choice::frame).collect::<Vec<_>>();
    assert_eq!(bursts(&frames, ALL), [2, 2]);
}

/// What a guest writes into its headers joins nothing that does not belong together.
#[test]
fn what_differs_in_anything_else_leaves_alone() {
    let at = |offset: usize, flip: u8| {
        move |frame: &mut Vec<u8>| {
            frame[offset] ^= flip;
            sign(frame);
        }
    };
    let unsigned = |offset: usize| move |frame: &mut Vec<u8>| frame[offset] ^= 1;
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let both: [(&str, Change); 13] = [
        ("another card", Box::new(at(5, 1))),
        ("another sender", Box::new(at(11, 1))),
        ("another protocol", Box::new(|frame: &mut Vec<u8>| frame[13] = 6)),
        ("type of service", Box::new(at(15, 4))),
        ("congestion experienced", Box::new(at(15, 3))),
        ("identification", Box::new(at(18, 1))),
        ("may be fragmented", Box::new(at(20, 0x40))),
        ("more fragments", Box::new(at(20, 0x20))),
        ("a later fragment", Box::new(at(21, 1))),
        ("time to live", Box::new(at(22, 1))),
        ("address", Box::new(at(29, 1))),
        ("IPv4's checksum", Box::new(unsigned(24))),
        ("padding", Box::new(|frame: &mut Vec<u8>| frame.push(0))),
    ];
    let tcp: [(&str, Change); 14] = [
        ("port", Box::new(at(35, 1))),
        ("sequence", Box::new(at(41, 1))),
        ("acknowledgement", Box::new(at(45, 1))),
        ("FIN", Box::new(at(47, 1))),
        ("SYN", Box::new(at(47, 2))),
        ("RST", Box::new(at(47, 4))),
        ("no ACK", Box::new(at(47, 0x10))),
        ("URG", Box::new(at(47, 0x20))),
        ("ECE", Box::new(at(47, 0x40))),
        ("CWR", Box::new(at(47, 0x80))),
        ("window", Box::new(at(49, 1))),
        ("TCP's checksum", Box::new(unsigned(50))),
        ("options", Box::new(at(54, 1))),
        ("payload spoilt", Box::new(unsigned(700))),
    ];
    let udp: [(&str, Change); 5] = [
        ("port", Box::new(at(35, 1))),
        ("length", Box::new(unsigned(39))),
        ("UDP's checksum", Box::new(unsigned(41))),
        (
            "no checksum",
            Box::new(|frame: &mut Vec<u8>| frame[40..42].fill(0)),
        ),
        ("payload spoilt", Box::new(unsigned(700))),
    ];
    let only = both.iter().map(|row| (row, [false, true].as_slice()));
    let only = only.chain(tcp.iter().map(|row| (row, [false].as_slice())));
    for ((what, change), kinds) in only.chain(udp.iter().map(|row| (row, [true].as_slice()))) {
        for &is_udp in kinds {
            let frames = |changed: usize| {
                let mut frames = (0..2)
                    .map(|number| Choice::new(is_udp, number).frame())
                    .collect::<Vec<_>>();
                change(&mut frames[changed]);
                frames
            };
            assert_eq!(bursts(&frames(0), ALL), [1, 1], "first: {what}, udp {is_udp}");
            assert_eq!(bursts(&frames(1), ALL), [1, 1], "second: {what}, udp {is_udp}");
        }
    }
}

/// RFC 6864, section 4.1: without fragments the identification means nothing, and senders choose it freely.
#[test]
fn packets_that_must_not_be_fragmented_are_joined_whatever_their_identification() {
    let frame = |number| {
        let mut choice = Choice::new(true, number);
        (choice.id, choice.dont_frag) = (0, true);
        choice.frame()
    };
    let frames = [frame(0), frame(1), frame(2)];
    let burst = Burst::first(&frames, ALL).expect("frames");
    assert_eq!(burst.frames().len(), 3);
}

fn choice() -> impl Strategy<Value = Vec<Choice>> {
    let step = prop_oneof![
        8 => Just(FULL),
        1 => Just(1_usize),
        1 => 1..=1460_usize,
    ];
    let one = (
        step,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        0..3_u16,
    );
    (any::<bool>(), prop::collection::vec(one, 0..80)).prop_map(|(udp, steps)| {
        let (mut seq, mut id, mut port) = (0, 0_u16, 1000);
        let made = steps.into_iter().map(|(payload, psh, other, skip)| {
            let mut choice = Choice::new(udp, 0);
            port ^= u16::from(other);
            (choice.port, choice.seq, choice.id, choice.psh, choice.payload) = (port, seq, id, psh, payload);
            seq += payload as i32;
            id = id.wrapping_add(1 + skip / 2);
            choice
        });
        made.collect()
    })
}

proptest! {
    #[test]
    fn streams_of_all_kinds_come_apart_again_as_they_were(choices in choice()) {
        let frames = choices.iter().map(Choice::frame).collect::<Vec<_>>();
        let counts = bursts(&frames, ALL);
        prop_assert_eq!(counts.iter().sum::<usize>(), frames.len());
    }

    /// No octets of a guest make this panic, or lose a frame.
    #[test]
    fn any_octets_leave_in_order(mut frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..8),
                                 spoilt in prop::collection::vec((0..4_usize, 0..1500_usize, any::<u8>()), 0..4)) {
        let mut flow = (0..4).map(|number| Choice::new(false, number).frame()).collect::<Vec<_>>();
        for (frame, at, value) in spoilt {
            if let Some(octet) = flow[frame].get_mut(at) {
                *octet = value;
            }
        }
        frames.extend(flow);
        let mut rest = frames.as_slice();
        while let Some(burst) = Burst::first(rest, ALL) {
            let (offload, frame) = written(&burst);
            if offload == Offload::NONE {
                prop_assert_eq!(&frame, &rest[0]);
            }
            rest = &rest[burst.frames().len()..];
        }
        prop_assert!(rest.is_empty());
    }
}
