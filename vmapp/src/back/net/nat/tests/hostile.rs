//! Frames that lie. Each row is a mistake some network stack for guests was caught by; all must end in a counted drop, with
//! nothing sent, nothing opened and nothing of the host's memory in an answer.

use super::super::tally::Loss;
use super::rig::*;
use crate::back::net::Sent;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpControl};
use std::time::Duration;

/// Makes the header's checksum right again, so that only the lie is wrong.
fn mend(mut frame: Vec<u8>) -> Vec<u8> {
    let header = usize::from(frame[IP] & 15) * 4;
    if (20..=frame.len() - IP).contains(&header) {
        Ipv4Packet::new_unchecked(&mut frame[IP..]).fill_checksum();
    }
    frame
}

fn bend(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

type Row = (&'static str, Vec<u8>, Loss);

fn all_dropped(table: Vec<Row>) {
    for (name, frame, loss) in table {
        let mut rig = Rig::new();
        assert_eq!(rig.send(&frame), Sent::Dropped, "{name}");
        assert_eq!(rig.nat.tally().of(loss), 1, "{name}");
        assert!(rig.frames().is_empty(), "{name}");
        assert_eq!(rig.host().sockets.len(), 0, "{name}");
    }
}

fn datagram() -> Vec<u8> {
    udp(4000, (WORLD, 53), &[7; 100])
}

#[test]
fn an_ethernet_or_ipv4_header_that_lies_is_dropped() {
    all_dropped(vec![
        ("no frame at all", vec![], Loss::Malformed),
        ("shorter than an Ethernet header", vec![0xff; 13], Loss::Malformed),
        (
            "an Ethernet header alone",
            datagram()[..14].to_vec(),
            Loss::Malformed,
        ),
        // CVE-2017-13711, CVE-2020-1983 and CVE-2019-14378 (libslirp): reassembly; there is none.
        (
            "CVE-2019-14378: a first fragment",
            mend(bend(datagram(), IP + 6, &[0x20, 0])),
            Loss::Fragment,
        ),
        (
            "CVE-2019-14378: a last fragment",
            mend(bend(datagram(), IP + 6, &[0x1f, 0xff])),
            Loss::Fragment,
        ),
        (
            "CVE-2020-1983: fragments that overlap",
            mend(bend(datagram(), IP + 6, &[0x20, 1])),
            Loss::Fragment,
        ),
        // CVE-2020-7039, CVE-2020-8608 (libslirp tcp_emu): the payload is never parsed here.
        (
            "total length beyond the frame",
            mend(bend(datagram(), IP + 2, &[0xff, 0xff])),
            Loss::Malformed,
        ),
        (
            "total length within the header",
            mend(bend(datagram(), IP + 2, &[0, 19])),
            Loss::Malformed,
        ),
        (
            "header length beyond the frame",
            bend(datagram()[..60].to_vec(), IP, &[0x4f]),
            Loss::Malformed,
        ),
        (
            "header length below the least",
            bend(datagram(), IP, &[0x44]),
            Loss::Malformed,
        ),
        (
            "version 6 in an IPv4 frame",
            mend(bend(datagram(), IP, &[0x65])),
            Loss::Malformed,
        ),
        (
            "a wrong header checksum",
            bend(datagram(), IP + 10, &[0xde, 0xad]),
            Loss::Malformed,
        ),
    ]);
}

#[test]
fn a_datagram_that_lies_is_dropped() {
    all_dropped(vec![
        // CVE-2021-3592 to 3595 (libslirp bootp, udp6, tftp): a payload shorter than the structure read from it.
        (
            "CVE-2021-3592: BOOTP cut short",
            udp_from(std::net::Ipv4Addr::UNSPECIFIED, 68, (ROUTER, 67), &[1; 8]),
            Loss::Malformed,
        ),
        (
            "CVE-2021-3595: UDP cut short",
            mend(ipv4(WORLD, IpProtocol::Udp, &[0, 1, 0, 2])),
            Loss::Malformed,
        ),
        (
            "UDP longer than its packet",
            bend(datagram(), BODY + 4, &[0xff, 0xff]),
            Loss::Malformed,
        ),
        (
            "UDP shorter than its header",
            bend(datagram(), BODY + 4, &[0, 7]),
            Loss::Malformed,
        ),
        ("UDP to port 0", udp(4000, (WORLD, 0), b"x"), Loss::Malformed),
        (
            "a wrong UDP checksum",
            bend(datagram(), BODY + 6, &[0xde, 0xad]),
            Loss::Malformed,
        ),
        (
            "CVE-2021-3593: a DNS question cut short",
            udp(4000, (DNS, 53), &[0; 11]),
            Loss::Malformed,
        ),
    ]);
}

#[test]
fn a_segment_or_a_message_that_lies_is_dropped() {
    let peer = Peer::new(4000, (WORLD, 80));
    let syn = || peer.frame(TcpControl::Syn, 1, None, b"");
    all_dropped(vec![
        (
            "TCP header length beyond the segment",
            bend(syn(), BODY + 12, &[0xf0]),
            Loss::Malformed,
        ),
        (
            "TCP header length below the least",
            bend(syn(), BODY + 12, &[0x40]),
            Loss::Malformed,
        ),
        (
            "TCP cut short",
            ipv4(WORLD, IpProtocol::Tcp, &[0; 19]),
            Loss::Malformed,
        ),
        (
            "a wrong TCP checksum",
            bend(syn(), BODY + 16, &[0xde, 0xad]),
            Loss::Malformed,
        ),
        (
            "SYN and FIN at once",
            bend(syn(), BODY + 13, &[3]),
            Loss::Malformed,
        ),
        (
            "a TCP option of length 0",
            bend(syn(), BODY + 20, &[2, 0]),
            Loss::Malformed,
        ),
        (
            "ICMP cut short",
            ipv4(ROUTER, IpProtocol::Icmp, &[8, 0, 0]),
            Loss::Malformed,
        ),
        (
            "a wrong ICMP checksum",
            bend(ping(ROUTER, 1, 1, b"x"), BODY + 2, &[0xde, 0xad]),
            Loss::Malformed,
        ),
        // CVE-2020-29129, CVE-2020-29130 (libslirp): ARP and NCSI read beyond a short packet.
        (
            "CVE-2020-29130: ARP cut short",
            bend(datagram()[..20].to_vec(), 12, &[8, 6]),
            Loss::Malformed,
        ),
        (
            "CVE-2020-29129: ARP with long addresses",
            bend(bend(datagram(), 12, &[8, 6]), 18, &[255, 255]),
            Loss::Malformed,
        ),
        (
            "CVE-2020-29129: NCSI",
            bend(datagram(), 12, &[0x88, 0xf8]),
            Loss::Protocol,
        ),
        ("IPv6", bend(datagram(), 12, &[0x86, 0xdd]), Loss::Protocol),
        ("a multicast source", bend(datagram(), 6, &[1]), Loss::Source),
        (
            "to another card",
            bend(datagram(), 0, &[2, 2, 2]),
            Loss::Elsewhere,
        ),
    ]);
}

#[test]
fn what_follows_a_packet_in_its_frame_is_not_part_of_it() {
    let mut rig = Rig::new();
    let mut frame = udp(4000, (WORLD, 53), b"abc");
    frame.resize(1518, 0xaa);
    assert_eq!(rig.send(&frame), Sent::Out);
    let socket = rig.newest();
    assert_eq!(rig.host().sockets[&socket].sent, [b"abc"]);
}

#[test]
fn ip_options_are_stepped_over() {
    let plain = udp(4000, (WORLD, 53), &[7; 100]);
    let mut frame = plain[..IP + 20].to_vec();
    frame.extend([1; 8]);
    frame.extend(&plain[IP + 20..]);
    frame[IP] = 0x47;
    frame[IP + 3] += 8;
    let mut rig = Rig::new();
    assert_eq!(rig.send(&mend(frame)), Sent::Out);
}

#[test]
fn a_guest_that_asks_faster_than_it_listens_loses_answers_and_no_memory_is_taken() {
    let mut rig = Rig::new();
    for n in 0..10_000 {
        rig.send(&ping(ROUTER, 1, n, &[0; 1000]));
    }
    assert_eq!(rig.frames().len(), 64);
    assert_eq!(rig.nat.tally().of(Loss::Answers), 10_000 - 64);
}

#[test]
fn a_flood_of_syns_from_every_port_stays_within_the_table() {
    let mut rig = Rig::new();
    for port in 1..=u16::MAX {
        rig.send(&Peer::new(port, (WORLD, 80)).frame(TcpControl::Syn, 7, None, b""));
        if port % 64 == 0 {
            rig.pass(Duration::from_millis(100));
            rig.frames();
        }
    }
    assert_eq!(rig.nat.flows().0, usize::from(super::super::tcp::FLOWS));
    let open = rig
        .host()
        .sockets
        .values()
        .filter(|socket| socket.is_open())
        .count();
    assert_eq!(open, usize::from(super::super::tcp::FLOWS));
}
