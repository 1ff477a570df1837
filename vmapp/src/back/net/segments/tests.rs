//! What a super frame is cut into, against frames made by etherparse, which has no part in cutting; and that nothing read makes
//! more of it than frames for a guest. That a real kernel's come out right is shown in vmapp/tests/net/joined.rs.

use super::super::burst::Burst;
use super::*;
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpHeaders, Ipv4Header, Ipv4Options, PacketBuilder, TcpHeader,
    VlanId, ip_number,
};
use proptest::prelude::*;
use shared::msg::handover::Joins;
use shared::msg::net::MAX_FRAME;
use zerocopy::IntoBytes;

const CARDS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const HOSTS: [[u8; 4]; 2] = [[10, 9, 8, 1], [10, 9, 8, 2]];

/// Octets sent by TCP in one go.
#[derive(Clone, Copy, Debug)]
struct Stream {
    payload: usize,
    size: usize,
    tagged: bool,
    /// Of IPv4 and of TCP, by fours.
    options: [usize; 2],
    ident: u16,
    seq: u32,
    psh: bool,
    fin: bool,
    cwr: bool,
}

impl Stream {
    const PLAIN: Self = Self {
        payload: 4344,
        size: 1448,
        tagged: false,
        options: [0, 3],
        ident: 7,
        seq: 77,
        psh: false,
        fin: false,
        cwr: false,
    };

    /// One frame with these octets of the payload, as number `number`.
    fn frame(&self, number: usize, octets: std::ops::Range<usize>) -> Vec<u8> {
        let mut ip = Ipv4Header::new(0, 64, ip_number::TCP, HOSTS[0], HOSTS[1]).expect("a header");
        ip.identification = self.ident.wrapping_add(number as u16);
        ip.dont_fragment = false;
        ip.fragment_offset = IpFragOffset::ZERO;
        // No-operation, in both.
        ip.options = Ipv4Options::try_from(&[1; 40][..self.options[0] * 4]).expect("options");
        let mut tcp = TcpHeader::new(1000, 1001, self.seq.wrapping_add(octets.start as u32), 500);
        tcp.set_options_raw(&[1; 40][..self.options[1] * 4])
            .expect("options");
        let (is_first, is_last) = (octets.start == 0, octets.end == self.payload);
        (tcp.ack, tcp.acknowledgment_number) = (true, 5);
        (tcp.cwr, tcp.psh, tcp.fin) = (self.cwr && is_first, self.psh && is_last, self.fin && is_last);
        let payload: Vec<u8> = octets.map(|at| (at * 7 + at / 256) as u8).collect();
        let packet = PacketBuilder::ethernet2(CARDS[0], CARDS[1]);
        let ip = IpHeaders::Ipv4(ip, Default::default());
        let packet = if self.tagged {
            packet.single_vlan(VlanId::try_new(9).expect("a tag")).ip(ip)
        } else {
            packet.ip(ip)
        };
        let mut frame = Vec::new();
        packet
            .tcp_header(tcp)
            .write(&mut frame, &payload)
            .expect("a frame");
        frame
    }

    fn apart(&self) -> Vec<Vec<u8>> {
        let starts = (0..self.payload.max(1)).step_by(self.size).enumerate();
        starts
            .map(|(number, start)| self.frame(number, start..self.payload.min(start + self.size)))
            .collect()
    }

    /// As the kernel hands it over, with anything for a checksum of TCP.
    fn joined(&self) -> (Offload, Vec<u8>) {
        let mut frame = self.frame(0, 0..self.payload);
        let transport = self.transport();
        frame[transport + 16] ^= 0x55;
        let offload = Offload {
            flags: Offload::NEEDS_CSUM,
            gso_type: Offload::GSO_TCPV4,
            hdr_len: (transport + 20 + self.options[1] * 4) as u16,
            gso_size: self.size as u16,
            csum_start: transport as u16,
            csum_offset: 16,
        };
        (offload, frame)
    }

    fn transport(&self) -> usize {
        14 + if self.tagged { 4 } else { 0 } + 20 + self.options[0] * 4
    }
}

/// All that one read gives; `None` is what no guest may be given.
fn given(offload: &Offload, frame: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut segments = Segments::default();
    let read = [offload.as_bytes(), frame].concat();
    let octets = read.len().min(segments.room().len());
    segments.room()[..octets].copy_from_slice(&read[..octets]);
    // Larger than it must be: the limit is not the buffer's.
    let mut into = [0xee; 2 * MAX_FRAME];
    let mut all = Vec::new();
    let mut next = segments.first(octets, &mut into);
    while next != Received::Nothing {
        all.push(match next {
            Received::Frame(octets) => Some(into[..octets].to_vec()),
            _ => None,
        });
        assert!(all.len() <= read.len(), "without end");
        next = segments.next(&mut into);
    }
    all
}

fn whole(frames: Vec<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    frames.into_iter().map(Some).collect()
}

#[test]
fn a_frame_of_many_segments_is_cut_into_those_a_wire_carries() {
    let plain = Stream::PLAIN;
    let flags = [true, false].map(|on| (on, on, on));
    for (payload, count) in [
        (0, 1),
        (1, 1),
        (1447, 1),
        (1448, 1),
        (1449, 2),
        (2896, 2),
        (4344, 3),
        (65_483, 46),
    ] {
        for (psh, fin, cwr) in flags {
            let stream = Stream {
                payload,
                psh,
                fin,
                cwr,
                ..plain
            };
            let (offload, frame) = stream.joined();
            let apart = stream.apart();
            assert_eq!(apart.len(), count);
            assert_eq!(given(&offload, &frame), whole(apart), "{stream:?}");
        }
    }
    for stream in [
        Stream {
            ident: 0xfffe,
            seq: u32::MAX - 1448,
            ..plain
        },
        Stream {
            options: [0, 0],
            size: 1464,
            ..plain
        },
        Stream {
            options: [10, 10],
            size: 1380,
            ..plain
        },
        Stream {
            tagged: true,
            ..plain
        },
        Stream {
            tagged: true,
            options: [1, 3],
            size: 536,
            ..plain
        },
        // The longest frame there is.
        Stream {
            tagged: true,
            payload: 65_483,
            ..plain
        },
        Stream {
            payload: 300,
            size: 1,
            ..plain
        },
    ] {
        let (offload, frame) = stream.joined();
        assert_eq!(given(&offload, &frame), whole(stream.apart()), "{stream:?}");
    }
}

#[test]
fn what_is_not_what_it_says_is_refused_once() {
    type Change = fn(&mut Offload, &mut Vec<u8>);
    let changes: [(&str, Change); 24] = [
        ("no size", |offload, _| offload.gso_size = 0),
        ("a segment too long", |offload, _| offload.gso_size = 1453),
        ("congestion marks", |offload, _| offload.gso_type |= 0x80),
        ("fragments of UDP", |offload, _| offload.gso_type = 3),
        ("TCP over IPv6", |offload, _| offload.gso_type = 4),
        ("datagrams", |offload, _| offload.gso_type = Offload::GSO_UDP_L4),
        ("IPv6's ethertype", |_, frame| {
            frame[12..14].copy_from_slice(&[0x86, 0xdd])
        }),
        ("a tag that is not there", |_, frame| {
            frame[12..14].copy_from_slice(&[0x81, 0])
        }),
        ("version", |_, frame| frame[14] = 0x65),
        // With what would be a header of TCP, taken from there.
        ("no header of IPv4", |_, frame| {
            (frame[14], frame[26]) = (0x40, 0x50)
        }),
        ("a short header of IPv4", |_, frame| {
            (frame[14], frame[42]) = (0x44, 0x50)
        }),
        ("a long header of IPv4", |_, frame| frame[14] = 0x4f),
        ("length 0", |_, frame| frame[16..18].fill(0)),
        ("padding", |_, frame| frame.push(0)),
        ("cut short", |_, frame| frame.truncate(frame.len() - 1)),
        ("more fragments", |_, frame| frame[20] |= 0x20),
        ("a later fragment", |_, frame| frame[21] = 1),
        ("UDP", |_, frame| frame[23] = 17),
        ("no header of TCP", |_, frame| frame[46] = 0),
        ("a short header of TCP", |_, frame| frame[46] = 0x40),
        ("no TCP", |_, frame| {
            frame.truncate(34);
            frame[16..18].copy_from_slice(&[0, 20]);
        }),
        ("a header of TCP beyond the end", |_, frame| {
            frame.truncate(60);
            frame[16..18].copy_from_slice(&[0, 46]);
        }),
        ("a piece of a header", |_, frame| frame.truncate(13)),
        ("nothing", |_, frame| frame.clear()),
    ];
    let longest = Stream {
        payload: 3000,
        size: MAX_FRAME - 66,
        ..Stream::PLAIN
    };
    let tagged = Stream {
        tagged: true,
        size: MAX_FRAME - 70,
        ..longest
    };
    for stream in [longest, tagged] {
        let (offload, frame) = stream.joined();
        assert_eq!(
            given(&offload, &frame),
            whole(stream.apart()),
            "as long as may be"
        );
    }
    for (what, change) in changes {
        let (mut offload, mut frame) = longest.joined();
        change(&mut offload, &mut frame);
        assert_eq!(given(&offload, &frame), [None], "{what}");
    }
    // Two tags, which the kernel cuts itself.
    let (offload, mut frame) = Stream {
        tagged: true,
        ..Stream::PLAIN
    }
    .joined();
    frame.splice(12..12, [0x81, 0, 0, 1]);
    assert_eq!(given(&offload, &frame), [None]);
    // A frame longer than there are, and a read shorter than what stands in front.
    assert_eq!(given(&Offload::NONE, &[0; MOST + 1]), [None]);
    let mut segments = Segments::default();
    for octets in 0..Offload::BYTES {
        assert_eq!(segments.first(octets, &mut [0; MAX_FRAME]), Received::Dropped);
    }
}

/// The next read begins anew, whatever was left.
#[test]
fn what_was_not_taken_is_gone_with_the_next_read() {
    let mut segments = Segments::default();
    let (offload, frame) = Stream::PLAIN.joined();
    let read = [offload.as_bytes(), &frame].concat();
    segments.room()[..read.len()].copy_from_slice(&read);
    let mut into = [0; MAX_FRAME];
    assert_eq!(segments.first(read.len(), &mut into), Received::Frame(1514));
    segments.room()[..Offload::BYTES].fill(0);
    assert_eq!(
        segments.first(Offload::BYTES + 60, &mut into),
        Received::Frame(60)
    );
    assert_eq!(segments.next(&mut into), Received::Nothing);
}

/// The sum of RFC 1071 over 16-bit words.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |chunk: &[u8]| u64::from(chunk[0]) << 8 | chunk.get(1).map_or(0, |&low| u64::from(low));
    let sum = words.map(word).sum::<u64>() % 0xffff;
    sum as u16
}

/// Frames of one segment with their checksums, and where those begin to count and are.
fn signed() -> Vec<(Vec<u8>, usize, usize)> {
    let packet = || PacketBuilder::ethernet2(CARDS[0], CARDS[1]);
    let tag = VlanId::try_new(9).expect("a tag");
    let [v6_from, v6_to] = [[0xfd; 16], [0xfe; 16]];
    let mut frames = Vec::new();
    for length in [0, 1, 2, 1000, 1400] {
        let payload = vec![7; length];
        let mut add = |start: usize, offset: usize, build: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = Vec::new();
            build(&mut frame);
            frames.push((frame, start, offset));
        };
        add(34, 6, &|frame| {
            let packet = packet().ipv4(HOSTS[0], HOSTS[1], 64).udp(9, 10);
            packet.write(frame, &payload).expect("a frame");
        });
        add(38, 6, &|frame| {
            let packet = packet().single_vlan(tag).ipv4(HOSTS[0], HOSTS[1], 64).udp(9, 10);
            packet.write(frame, &payload).expect("a frame");
        });
        add(54, 6, &|frame| {
            let packet = packet().ipv6(v6_from, v6_to, 64).udp(9, 10);
            packet.write(frame, &payload).expect("a frame");
        });
        add(54, 16, &|frame| {
            let packet = packet().ipv6(v6_from, v6_to, 64).tcp(9, 10, 11, 12);
            packet.write(frame, &payload).expect("a frame");
        });
    }
    frames
}

/// The frame as a sender leaves it to a card: the sum of the pseudo-header where the checksum belongs.
fn unsigned(frame: &[u8], start: usize, offset: usize) -> (Offload, Vec<u8>) {
    let addresses = match frame[start - 20] {
        0x45 => start - 8..start,
        _ => start - 32..start,
    };
    let protocol = if offset == 6 { 17 } else { 6 };
    let length = ((frame.len() - start) as u32).to_be_bytes();
    let mut left = frame.to_vec();
    let pseudo = sum(&[&frame[addresses], &[0, protocol], &length]);
    left[start + offset..][..2].copy_from_slice(&pseudo.to_be_bytes());
    let offload = Offload {
        flags: Offload::NEEDS_CSUM,
        csum_start: start as u16,
        csum_offset: offset as u16,
        ..Offload::NONE
    };
    (offload, left)
}

#[test]
fn a_checksum_left_to_the_card_is_made_whatever_the_protocol() {
    for (frame, start, offset) in signed() {
        let (offload, left) = unsigned(&frame, start, offset);
        assert_ne!(left, frame);
        assert_eq!(given(&offload, &left), [Some(frame.clone())]);
        // Not asked for, it is not made: VIRTIO_NET_HDR_F_DATA_VALID only informs.
        let informs = Offload { flags: 2, ..offload };
        assert_eq!(given(&informs, &left), [Some(left)]);
    }
}

/// RFC 768: a checksum of zero says that there is none, so that a sum of zero is sent as its other form.
#[test]
fn a_checksum_of_zero_is_written_as_all_ones() {
    let frame = (0..=u16::MAX).find_map(|word| {
        let mut frame = Vec::new();
        let packet = PacketBuilder::ethernet2(CARDS[0], CARDS[1]).ipv4(HOSTS[0], HOSTS[1], 64);
        let packet = packet.udp(9, 10);
        packet.write(&mut frame, &word.to_be_bytes()).expect("a frame");
        (frame[40..42] == [0xff; 2]).then_some(frame)
    });
    let frame = frame.expect("one of all");
    let (offload, left) = unsigned(&frame, 34, 6);
    assert_eq!(given(&offload, &left), [Some(frame)]);
}

#[test]
fn a_checksum_beyond_the_end_and_a_length_no_frame_has_are_refused() {
    let offload = |csum_start, csum_offset| Offload {
        flags: Offload::NEEDS_CSUM,
        csum_start,
        csum_offset,
        ..Offload::NONE
    };
    for (offload, length, is_good) in [
        (offload(34, 24), 60, true),
        (offload(34, 25), 60, false),
        (offload(34, u16::MAX), 60, false),
        (offload(58, 0), 60, true),
        (offload(59, 0), 60, false),
        (offload(60, 0), 60, false),
        (offload(61, 0), 60, false),
        (offload(u16::MAX, u16::MAX), 60, false),
        (Offload::NONE, 13, false),
        (Offload::NONE, 14, true),
        (Offload::NONE, MAX_FRAME, true),
        (Offload::NONE, MAX_FRAME + 1, false),
        (offload(34, 6), MAX_FRAME + 1, false),
        (offload(34, 6), MOST, false),
    ] {
        let given = given(&offload, &vec![7; length]);
        assert_eq!(given.len(), 1);
        assert_eq!(given[0].is_some(), is_good, "{offload:?} {length}");
    }
}

fn stream() -> impl Strategy<Value = Stream> {
    let options = [0..=10_usize, 0..=10_usize];
    let flags = [any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()];
    (
        0..20_000_usize,
        1..=1380_usize,
        options,
        any::<(u16, u32)>(),
        flags,
    )
        .prop_map(
            |(payload, size, options, (ident, seq), [tagged, psh, fin, cwr])| Stream {
                payload,
                size,
                tagged,
                options,
                ident,
                seq,
                psh,
                fin,
                cwr,
            },
        )
}

fn offload() -> impl Strategy<Value = Offload> {
    let kind = prop_oneof![3 => Just(1_u8), 1 => Just(0), 1 => any::<u8>()];
    (any::<u8>(), kind, any::<[u16; 4]>(), any::<bool>()).prop_map(|(flags, gso_type, words, small)| {
        let [hdr_len, gso_size, csum_start, csum_offset] =
            words.map(|word| if small { word & 0x3ff } else { word });
        Offload {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_of_all_kinds_are_cut_as_they_would_have_been_sent(stream in stream()) {
        let (offload, frame) = stream.joined();
        prop_assert_eq!(given(&offload, &frame), whole(stream.apart()));
    }

    /// What leaves one tap as a burst arrives at another as the frames there were.
    #[test]
    fn what_was_joined_is_cut_into_what_it_was_joined_of(stream in stream()) {
        let stream = Stream { tagged: false, options: [0, stream.options[1]], fin: false, cwr: false, ..stream };
        let frames = stream.apart();
        let burst = Burst::first(&frames, Joins { tcp: true, udp: true }).expect("frames");
        prop_assert_eq!(burst.frames().len(), frames.len());
        let Some(parts) = burst.joined() else {
            return Ok(());
        };
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let (offload, frame) = Offload::read_from_prefix(&joined).expect("an offload");
        prop_assert_eq!(given(&offload, frame), whole(frames));
    }

    #[test]
    fn whatever_is_read_gives_frames_for_a_guest_or_none(
        offload in offload(),
        stream in stream(),
        spoilt in prop::collection::vec((0..100_usize, any::<u8>()), 0..4),
        junk in prop::collection::vec(any::<u8>(), 0..2000),
        is_junk in prop::bool::weighted(0.2),
    ) {
        let mut frame = if is_junk { junk } else { stream.joined().1 };
        for (at, value) in spoilt {
            if let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
        }
        let all = given(&offload, &frame);
        prop_assert!((1..=frame.len().max(1)).contains(&all.len()));
        for given in all.into_iter().flatten() {
            prop_assert!(FRAME_BYTES.contains(&given.len()));
        }
    }
}

/// The pieces of a tag, told apart from what follows them, are where 802.1Q has them.
#[test]
fn a_tag_stays_in_front_of_every_segment() {
    let stream = Stream {
        tagged: true,
        ..Stream::PLAIN
    };
    let (offload, frame) = stream.joined();
    for frame in given(&offload, &frame).into_iter().flatten() {
        let (ethernet, rest) = Ethernet2Header::from_slice(&frame).expect("a header");
        assert_eq!(
            (ethernet.ether_type, &rest[..4]),
            (EtherType::VLAN_TAGGED_FRAME, &[0, 9, 8, 0][..])
        );
    }
}
