//! ARP, DHCP, DNS, echo and UDP, exchange by exchange.

use super::super::echo;
use super::super::tally::Loss;
use super::super::udp::{FLOWS, IDLE};
use super::rig::*;
use crate::back::net::{Net, Sent, Wanted};
use nix::errno::Errno;
use shared::msg::handover::ForwardSpec;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType as Message, DhcpOption, DhcpPacket, DhcpRepr,
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol,
};
use std::net::Ipv4Addr;
use std::time::Duration;

fn arp(operation: ArpOperation, from: Ipv4Addr, asked: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; 14 + 28];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_src_addr(EthernetAddress(MAC));
    frame.set_ethertype(EthernetProtocol::Arp);
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(MAC),
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: asked,
    };
    repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

#[test]
fn arp_answers_for_every_address_of_the_network_but_the_guests() {
    let none = Ipv4Addr::UNSPECIFIED;
    let table = [
        (ArpOperation::Request, GUEST, ROUTER, true),
        (ArpOperation::Request, GUEST, DNS, true),
        (ArpOperation::Request, GUEST, Ipv4Addr::new(10, 0, 2, 200), true),
        (ArpOperation::Request, none, ROUTER, true),
        (ArpOperation::Request, none, GUEST, false), // probe for a duplicate (RFC 5227)
        (ArpOperation::Request, GUEST, GUEST, false), // announcement
        (ArpOperation::Request, GUEST, WORLD, false),
        (ArpOperation::Request, GUEST, Ipv4Addr::new(10, 0, 2, 255), false),
        (ArpOperation::Reply, GUEST, ROUTER, false),
    ];
    for (operation, from, asked, answered) in table {
        let mut rig = Rig::new();
        let answers = rig.ask(&arp(operation, from, asked));
        assert_eq!(
            answers.len(),
            usize::from(answered),
            "{operation:?} {from} {asked}"
        );
        for answer in answers {
            let frame = EthernetFrame::new_checked(&answer[..]).unwrap();
            assert_eq!(frame.dst_addr(), EthernetAddress(MAC));
            let repr = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap();
            let wanted = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress([0x52, 0x55, 10, 0, 2, 2]),
                source_protocol_addr: asked,
                target_hardware_addr: EthernetAddress(MAC),
                target_protocol_addr: from,
            };
            assert_eq!(repr, wanted);
            assert!(answer[42..].iter().all(|byte| *byte == 0), "padding");
        }
    }
}

/// A DHCP message of a client.
fn dhcp(kind: Message, change: impl FnOnce(&mut DhcpRepr<'_>)) -> Vec<u8> {
    let mut repr = DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234_5678,
        secs: 3,
        client_hardware_address: EthernetAddress(MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: Some(&[1, 3, 6]),
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[
            DhcpOption {
                kind: 12,
                data: b"a name of the guest's own",
            },
            DhcpOption {
                kind: 61,
                data: &[255, 1, 2, 3, 4, 5, 6, 7],
            },
        ],
    };
    change(&mut repr);
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    udp_from(repr.client_ip, 68, (Ipv4Addr::BROADCAST, 67), &bytes)
}

type Row = (
    &'static str,
    Message,
    fn(&mut DhcpRepr<'_>),
    Option<(Message, Ipv4Addr)>,
);

/// What a client may say (RFC 2131, 4.3), and the answer with its lease.
fn exchanges() -> [Row; 11] {
    let requested = |r: &mut DhcpRepr<'_>| r.requested_ip = Some(GUEST);
    [
        (
            "discover",
            Message::Discover,
            |_| {},
            Some((Message::Offer, GUEST)),
        ),
        (
            "discover of another",
            Message::Discover,
            |r| r.requested_ip = Some(WORLD),
            Some((Message::Offer, GUEST)),
        ),
        (
            "selecting",
            Message::Request,
            |r| {
                r.requested_ip = Some(GUEST);
                r.server_identifier = Some(ROUTER);
            },
            Some((Message::Ack, GUEST)),
        ),
        (
            "init-reboot",
            Message::Request,
            requested,
            Some((Message::Ack, GUEST)),
        ),
        (
            "renewing",
            Message::Request,
            |r| r.client_ip = GUEST,
            Some((Message::Ack, GUEST)),
        ),
        (
            "wrong address",
            Message::Request,
            |r| r.requested_ip = Some(WORLD),
            Some((Message::Nak, Ipv4Addr::UNSPECIFIED)),
        ),
        (
            "other server",
            Message::Request,
            |r| {
                r.requested_ip = Some(GUEST);
                r.server_identifier = Some(DNS);
            },
            None,
        ),
        (
            "inform",
            Message::Inform,
            |r| r.client_ip = GUEST,
            Some((Message::Ack, Ipv4Addr::UNSPECIFIED)),
        ),
        ("release", Message::Release, |r| r.client_ip = GUEST, None),
        ("decline", Message::Decline, requested, None),
        ("another server's word", Message::Offer, |_| {}, None),
    ]
}

#[test]
fn a_lease_is_offered_acknowledged_renewed_and_refused() {
    for (name, kind, change, answer) in exchanges() {
        let mut rig = Rig::new();
        let answers = rig.ask(&dhcp(kind, change));
        assert_eq!(answers.len(), usize::from(answer.is_some()), "{name}");
        let (Some((kind, lease)), Some(frame)) = (answer, answers.first()) else {
            continue;
        };
        let (from, from_port, to_port, bytes) = open_udp(frame);
        assert_eq!((from, from_port, to_port), (ROUTER, 67, 68), "{name}");
        assert!(bytes.len() >= 300, "{name}: BOOTP's least");
        let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
        assert!(
            packet
                .options()
                .any(|option| option.kind == 61 && option.data[0] == 255),
            "{name}: RFC 6842"
        );
        assert!(packet.options().all(|option| option.kind != 12), "{name}");
        let repr = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(
            (repr.message_type, repr.your_ip, repr.transaction_id),
            (kind, lease, 0x1234_5678),
            "{name}"
        );
        assert_eq!(repr.server_identifier, Some(ROUTER), "{name}");
        let told = kind != Message::Nak;
        assert_eq!(repr.router, told.then_some(ROUTER), "{name}");
        assert_eq!(
            repr.subnet_mask,
            told.then_some(Ipv4Addr::new(255, 255, 255, 0)),
            "{name}"
        );
        assert_eq!(
            repr.dns_servers.map(|list| list.to_vec()),
            told.then(|| vec![DNS]),
            "{name}"
        );
        assert_eq!(repr.lease_duration, (lease == GUEST).then_some(86_400), "{name}");
    }
}

#[test]
fn a_dhcp_answer_goes_where_the_client_can_hear_it() {
    type Change = fn(&mut DhcpRepr<'_>);
    let table: [(Message, Change, Ipv4Addr, [u8; 6]); 4] = [
        (Message::Discover, |_| {}, GUEST, MAC),
        (
            Message::Discover,
            |r| r.broadcast = true,
            Ipv4Addr::BROADCAST,
            [0xff; 6],
        ),
        (Message::Request, |r| r.client_ip = GUEST, GUEST, MAC),
        (
            Message::Request,
            |r| r.requested_ip = Some(WORLD),
            Ipv4Addr::BROADCAST,
            [0xff; 6],
        ),
    ];
    for (kind, change, to, hardware) in table {
        let frame = &Rig::new().ask(&dhcp(kind, change))[0];
        assert_eq!(frame[..6], hardware, "{kind:?}");
        assert_eq!(frame[30..34], to.octets(), "{kind:?}");
    }
}

const QUERY: &[u8] = b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03foo\x00\x00\x01\x00\x01";

fn answer(id: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = id.to_vec();
    bytes.extend_from_slice(&[0x81, 0x80]);
    bytes.resize(len, 7);
    bytes
}

#[test]
fn a_dns_answer_comes_from_the_first_server_that_has_one() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(&udp(5000, (DNS, 53), QUERY)), Sent::Out);
    let first = rig.newest();
    assert_eq!(rig.host().sockets[&first].peer, Some((SERVERS[0], 53).into()));
    assert_eq!(rig.host().sockets[&first].sent, [QUERY]);
    // Somebody else's identifier is not the answer; the next one is.
    rig.host().change(first, |socket| {
        socket.datagrams.push_back(answer(b"\xab\xce", 40));
        socket.datagrams.push_back(answer(b"\xab\xcd", 41));
    });
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(open_udp(&frames[0]), (DNS, 53, 5000, answer(b"\xab\xcd", 41)));
    rig.pass(Duration::from_secs(60));
    assert!(rig.frames().is_empty());
}

#[test]
fn dns_goes_on_to_the_next_server_and_says_servfail_in_the_end() {
    let mut rig = Rig::new();
    rig.send(&udp(5000, (DNS, 53), QUERY));
    let first = rig.newest();
    rig.host()
        .change(first, |socket| socket.error = Some(Errno::ECONNREFUSED));
    assert!(rig.frames().is_empty());
    let second = rig.newest();
    assert_eq!(rig.host().sockets[&second].peer, Some((SERVERS[1], 53).into()));
    // A second round of both, each of which is silent for its two seconds.
    let mut asked = 0;
    let mut frames = Vec::new();
    while frames.is_empty() {
        let within = rig
            .nat
            .interests(Wanted { frames: true })
            .within
            .expect("a timer");
        assert!(within <= Duration::from_secs(2));
        rig.pass(within);
        frames = rig.frames();
        asked += 1;
    }
    assert_eq!(asked, 3);
    let (from, _, to_port, bytes) = open_udp(&frames[0]);
    assert_eq!((from, to_port), (DNS, 5000));
    assert_eq!(bytes[..4], [0xab, 0xcd, 0x81, 0x82], "QR, RD as asked, SERVFAIL");
    assert_eq!(bytes[12..], QUERY[12..]);
}

#[test]
fn a_dns_answer_too_long_for_a_frame_is_said_to_be_truncated() {
    let mut rig = Rig::new();
    rig.send(&udp(5000, (DNS, 53), QUERY));
    let socket = rig.newest();
    rig.host().change(socket, |socket| {
        socket.datagrams.push_back(answer(b"\xab\xcd", 1473))
    });
    let (.., bytes) = open_udp(&rig.frames()[0]);
    assert_eq!(bytes[2] & 0x02, 0x02, "TC");
}

#[test]
fn echo_is_answered_here_or_goes_out_or_is_refused() {
    let mut rig = Rig::new();
    for to in [ROUTER, DNS] {
        let (kind, code, rest) = open_icmp(&rig.ask(&ping(to, 7, 8, b"data"))[0]);
        assert_eq!((kind, code, &rest[..]), (0, 0, &b"\x00\x07\x00\x08data"[..]));
    }
    // The kernel's identifier in the reply becomes the guest's again.
    assert_eq!(rig.send(&ping(WORLD, 0x0700, 1, b"x")), Sent::Out);
    let socket = rig.newest();
    rig.host().change(socket, |socket| {
        let mut reply = socket.sent[0].clone();
        (reply[0], reply[4], reply[5]) = (0, 0x99, 0x99);
        socket.datagrams.push_back(reply);
    });
    let frames = rig.frames();
    assert_eq!(open(&frames[0]).from, WORLD);
    assert_eq!(open_icmp(&frames[0]), (0, 0, b"\x07\x00\x00\x01x".to_vec()));

    rig.host().no_echo = true;
    for n in 0..3 {
        let (kind, code, rest) = open_icmp(&rig.ask(&ping(WORLD, 9, n, b"x"))[0]);
        assert_eq!((kind, code), (3, 13), "communication administratively prohibited");
        assert_eq!(rest[4 + 16..4 + 20], WORLD.octets(), "the packet it is about");
    }
    assert!(
        rig.nat
            .trouble()
            .is_some_and(|told| told.contains("ping_group_range"))
    );
    assert_eq!(rig.nat.trouble(), None, "told once");
}

#[test]
fn a_table_of_echo_flows_stays_bounded() {
    let mut rig = Rig::new();
    for ident in 0..200 {
        rig.send(&ping(WORLD, ident, 0, b""));
    }
    assert_eq!(rig.nat.tally().of(Loss::Evicted), 200 - u64::from(echo::FLOWS));
}

#[test]
fn a_datagram_goes_out_and_its_answer_comes_back_by_one_socket() {
    let mut rig = Rig::new();
    for n in 0..3 {
        assert_eq!(rig.send(&udp(4000, (WORLD, 123), &[n])), Sent::Out);
    }
    let socket = rig.newest();
    assert_eq!(rig.host().sockets.len(), 1);
    assert_eq!(rig.host().sockets[&socket].peer, Some((WORLD, 123).into()));
    assert_eq!(rig.host().sockets[&socket].sent, [[0], [1], [2]]);
    rig.host().change(socket, |socket| {
        socket
            .datagrams
            .extend([vec![9; 1472], vec![8; 1473], vec![], vec![7]]);
    });
    let got: Vec<_> = rig.frames().iter().map(|frame| open_udp(frame)).collect();
    let wanted: Vec<_> = [vec![9; 1472], vec![], vec![7]]
        .map(|payload| (WORLD, 123, 4000, payload))
        .into();
    assert_eq!(got, wanted, "the one too long for a frame is dropped");
    assert_eq!(rig.nat.tally().of(Loss::TooLong), 1);
}

#[test]
fn the_routers_address_is_the_hosts_loopback() {
    let mut rig = Rig::new();
    rig.send(&udp(4000, (ROUTER, 9), b"x"));
    let socket = rig.newest();
    assert_eq!(
        rig.host().sockets[&socket].peer,
        Some("127.0.0.1:9".parse().unwrap())
    );
}

#[test]
fn a_refusal_of_the_host_becomes_the_icmp_message_it_stands_for() {
    let table = [
        (Errno::ECONNREFUSED, Some(3)),
        (Errno::ENETUNREACH, Some(0)),
        (Errno::EHOSTUNREACH, Some(1)),
        (Errno::EACCES, Some(13)),
        (Errno::EMFILE, None),
    ];
    for (errno, code) in table {
        let mut rig = Rig::new();
        rig.host().refuses = Some(errno);
        let frames = rig.ask(&udp(4000, (WORLD, 123), b"x"));
        let got: Vec<_> = frames.iter().map(|frame| open_icmp(frame)).collect();
        assert_eq!(
            got.first().map(|(kind, code, _)| (*kind, *code)),
            code.map(|code| (3, code)),
            "{errno}"
        );
        for (.., rest) in got {
            assert_eq!(rest[4 + 20..4 + 24], [15, 160, 0, 123], "the ports");
        }
    }
    // What the kernel tells later, of an earlier datagram.
    let mut rig = Rig::new();
    rig.send(&udp(4000, (WORLD, 123), b"x"));
    let socket = rig.newest();
    rig.host()
        .change(socket, |socket| socket.error = Some(Errno::ECONNREFUSED));
    let frames = rig.frames();
    assert_eq!((frames.len(), open_icmp(&frames[0]).1), (1, 3));
}

#[test]
fn an_idle_flow_ends_and_a_full_table_lets_the_idlest_go() {
    let mut rig = Rig::new();
    for port in 1..=FLOWS + 10 {
        rig.send(&udp(port, (WORLD, 53), b"x"));
        rig.pass(Duration::from_millis(10));
    }
    assert_eq!(rig.nat.flows().1, usize::from(FLOWS));
    assert_eq!(rig.nat.tally().of(Loss::Evicted), 10);
    // The first ten are gone, the eleventh is there.
    let before = rig.newest();
    rig.send(&udp(11, (WORLD, 53), b"x"));
    assert_eq!(rig.newest(), before);
    rig.send(&udp(10, (WORLD, 53), b"x"));
    assert_ne!(rig.newest(), before);
    rig.pass(IDLE);
    assert_eq!(rig.nat.flows().1, 0);
    assert_eq!(
        rig.nat.interests(Wanted { frames: true }).within,
        None,
        "nothing to wait for"
    );
}

#[test]
fn a_client_of_a_forwarded_udp_port_talks_with_the_guest() {
    let spec = ForwardSpec {
        udp: true,
        guest_port: 69,
    };
    let mut rig = Rig::with(vec![spec]);
    let clients = ["127.0.0.1:5000", "127.0.0.2:5000", "198.51.100.9:5000"];
    for (n, client) in (0..).zip(clients) {
        let datagram = (vec![n], client.parse().unwrap());
        rig.host().arrived.entry(0).or_default().push_back(datagram);
    }
    rig.host().knock(0);
    let got: Vec<_> = rig.frames().iter().map(|frame| open_udp(frame)).collect();
    let seen: Vec<_> = got
        .iter()
        .map(|(from, port, to, _)| (*from, *port, *to))
        .collect();
    let outside = Ipv4Addr::new(198, 51, 100, 9);
    assert_eq!(seen[0], (ROUTER, 5000, 69), "the host itself is the router");
    assert_eq!((seen[1].0, seen[1].2), (ROUTER, 69));
    assert_ne!(seen[1].1, 5000, "its port is taken");
    assert_eq!(seen[2], (outside, 5000, 69));
    for (n, (from, port, ..)) in (0..).zip(&seen) {
        assert_eq!(rig.send(&udp(69, (*from, *port), &[n, n])), Sent::Out);
    }
    let wanted: Vec<_> = (0..)
        .zip(clients)
        .map(|(n, to)| (0, vec![n, n], to.parse().unwrap()))
        .collect();
    assert_eq!(rig.host().departed, wanted);
    assert_eq!(rig.host().sockets.len(), 0, "all by the rule's own socket");
}

#[test]
fn what_cannot_be_passed_on_is_refused_or_dropped_in_the_right_way() {
    let udp_to = |to| udp(4000, (to, 123), b"x");
    let mut last_hop = udp_to(WORLD);
    last_hop[IP + 8] = 1;
    // The header's sum with one less in the high byte of the word of the time to live, which was 64.
    let sum = u16::from_be_bytes([last_hop[IP + 10], last_hop[IP + 11]]);
    let (sum, carry) = sum.overflowing_add(63 << 8);
    last_hop[IP + 10..IP + 12].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    let table = [
        ("nobody there", udp_to(Ipv4Addr::new(10, 0, 2, 77)), Some((3, 1))),
        ("the name server, another port", udp_to(DNS), Some((3, 3))),
        (
            "a protocol we do not have",
            ipv4(WORLD, IpProtocol::Unknown(47), &[0; 40]),
            Some((3, 2)),
        ),
        ("the last hop", last_hop, Some((11, 0))),
        ("broadcast", udp_to(Ipv4Addr::BROADCAST), None),
        (
            "the network's broadcast",
            udp_to(Ipv4Addr::new(10, 0, 2, 255)),
            None,
        ),
        ("multicast", udp_to(Ipv4Addr::new(224, 0, 0, 251)), None),
        ("loopback", udp_to(Ipv4Addr::LOCALHOST), None),
        ("link-local", udp_to(Ipv4Addr::new(169, 254, 169, 254)), None),
        (
            "not the lease",
            udp_from(Ipv4Addr::new(10, 0, 2, 16), 4000, (WORLD, 123), b"x"),
            None,
        ),
        (
            "no lease yet",
            udp_from(Ipv4Addr::UNSPECIFIED, 4000, (WORLD, 123), b"x"),
            None,
        ),
        ("the world's", udp_from(WORLD, 4000, (WORLD, 123), b"x"), None),
    ];
    for (name, frame, answer) in table {
        let mut rig = Rig::new();
        assert_eq!(rig.send(&frame), Sent::Dropped, "{name}");
        let frames = rig.frames();
        let got: Vec<_> = frames.iter().map(|frame| open_icmp(frame)).collect();
        assert_eq!(
            got.first().map(|(kind, code, _)| (*kind, *code)),
            answer,
            "{name}"
        );
        assert_eq!(rig.host().sockets.len(), 0, "{name}");
    }
}
