//! Frames joined, on real taps: what the kernel makes of them for a socket of the host, and behind a bridge, where they come
//! apart or arrive joined. The frames are made by etherparse, which has no part in joining them or cutting them.

use crate::in_namespace_or_skip;
use crate::service::{Got, Stage};
use crate::tap::{attached, ip, make_tap, new_tap, until};
use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder, ip_number};
use shared::abi::counters::AppCounter;
use shared::msg::handover::Joins;
use shared::msg::net::MAX_FRAME;
use std::net::UdpSocket;
use std::time::Duration;
use vmapp::back::net::burst::Burst;
use vmapp::back::net::tap::{Tap, open};
use vmapp::back::net::{Net, Received, Sent};
use vmapp::serve::service::Service;

const GUEST: [u8; 4] = [10, 9, 8, 2];
const HOST: [u8; 4] = [10, 9, 8, 1];
const EVERYBODY: [u8; 6] = [0xff; 6];
/// Identification of the first packet: the third is zero.
const FIRST_ID: u16 = 0xfffe;
/// Payload of a full segment; the last is shorter.
const FULL: usize = 1400;

fn payload(number: usize, count: usize) -> Vec<u8> {
    let len = if number + 1 == count { FULL / 3 } else { FULL };
    (0..len).map(|at| (number * 31 + at * 7) as u8).collect()
}

/// Frames of one flow.
fn flow(udp: Option<u16>, count: usize) -> Vec<Vec<u8>> {
    let frame = |number: usize| {
        let payload = payload(number, count);
        let protocol = if udp.is_some() {
            ip_number::UDP
        } else {
            ip_number::TCP
        };
        let mut header = Ipv4Header::new(0, 64, protocol, GUEST, HOST).expect("a header");
        header.identification = FIRST_ID.wrapping_add(number as u16);
        header.dont_fragment = false;
        header.fragment_offset = IpFragOffset::ZERO;
        let packet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], EVERYBODY)
            .ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
        let mut frame = Vec::new();
        match udp {
            Some(port) => packet.udp(9, port).write(&mut frame, &payload),
            None => {
                let segment = packet.tcp(1000, 1001, 77 + (number * FULL) as u32, 500).ack(5);
                let segment = if number + 1 == count {
                    segment.psh()
                } else {
                    segment
                };
                segment.write(&mut frame, &payload)
            }
        }
        .expect("a frame");
        frame
    };
    (0..count).map(frame).collect()
}

/// Joins two taps, to which somebody is attached. The bridge itself says nothing.
fn bridge(taps: [&str; 2]) {
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").ok();
    ip("link add br0 type bridge mcast_snooping 0");
    for tap in taps {
        ip(&format!("link set {tap} master br0"));
    }
    ip("link set br0 up");
    // The kernel finds out in its own time that there is a carrier.
    for tap in taps {
        until(|| {
            ip(&format!("-details link show {tap}"))
                .contains("state forwarding")
                .then_some(())
        });
    }
}

fn send_together(tap: &mut Tap, frames: &[Vec<u8>]) {
    let burst = Burst::first(frames, tap.joins()).expect("frames");
    assert_eq!(burst.frames().len(), frames.len());
    assert_eq!(tap.send_burst(&burst), Sent::Out);
}

/// The next `count` frames of IPv4.
fn packets(tap: &mut Tap, count: usize) -> Vec<Vec<u8>> {
    let mut frame = [0; MAX_FRAME];
    let next = |_| {
        until(|| match tap.receive(&mut frame) {
            Received::Frame(bytes) if frame[12..14] == [8, 0] => Some(frame[..bytes].to_vec()),
            _ => None,
        })
    };
    (0..count).map(next).collect()
}

/// Cut by the kernel for a tap that takes no other, and by vmapp for one that does.
#[test]
fn a_bridge_to_another_tap_gives_the_frames_as_they_were() {
    let test = "a_bridge_to_another_tap_gives_the_frames_as_they_were";
    for gso in [true, false] {
        in_namespace_or_skip(test, move || {
            let near = new_tap("near0");
            make_tap("far0");
            let far = attached("far0", gso);
            bridge(["near0", "far0"]);
            gives_the_frames_as_they_were(near, far);
        });
    }
}

fn gives_the_frames_as_they_were(mut near: Tap, mut far: Tap) {
    assert!(near.joins().tcp);
    // Nobody listens at the port: the bridge is all that hands them on.
    let kinds = [Some(None), near.joins().udp.then_some(Some(7))];
    for udp in kinds.into_iter().flatten() {
        for count in [1, 2, 3, 44] {
            let frames = flow(udp, count);
            send_together(&mut near, &frames);
            assert_eq!(packets(&mut far, count), frames, "{count} of {udp:?}");
        }
    }
    // One that is spoilt on its way goes alone, and stays spoilt.
    let mut frames = flow(None, 3);
    frames[1][200] ^= 1;
    let mut sent = 0;
    while let Some(burst) = Burst::first(&frames[sent..], near.joins()) {
        assert_eq!(near.send_burst(&burst), Sent::Out);
        sent += burst.frames().len();
    }
    assert_eq!(packets(&mut far, 3), frames);
}

#[test]
fn what_was_sent_together_takes_one_read() {
    for gso in [true, false] {
        in_namespace_or_skip("what_was_sent_together_takes_one_read", move || {
            const COUNT: usize = 44;
            let mut near = new_tap("near0");
            make_tap("far0");
            let far = attached("far0", gso);
            bridge(["near0", "far0"]);
            let mut stage = Stage::new();
            let (mut service, crossing) = stage.worker(far);
            let frames = flow(None, COUNT);
            send_together(&mut near, &frames);
            let mut got = Vec::new();
            // The ring is shorter than that: what was read waits for credit.
            until(|| {
                service.turn(true).expect("a turn");
                got.extend(stage.got());
                (got.len() > COUNT).then_some(())
            });
            let expected = frames.into_iter().map(Got::Frame);
            assert_eq!(
                got,
                [Got::Link(true)].into_iter().chain(expected).collect::<Vec<_>>()
            );
            let count = |counter| crossing.app_counters().get(counter);
            assert_eq!(count(AppCounter::NetRx), COUNT as u64);
            let reads = if gso { 1 } else { COUNT };
            assert_eq!(count(AppCounter::NetRxReads), reads as u64);
        });
    }
}

/// A guest that takes nothing more gets no stale frames later: those of one read too are thrown away, and counted one by one.
#[test]
fn what_waits_of_one_read_becomes_stale_like_the_rest() {
    in_namespace_or_skip("what_waits_of_one_read_becomes_stale_like_the_rest", || {
        const COUNT: usize = 44;
        let mut near = new_tap("near0");
        let far = new_tap("far0");
        bridge(["near0", "far0"]);
        let mut stage = Stage::new();
        let (mut service, crossing) = stage.worker(far);
        let count = |counter| crossing.app_counters().get(counter);
        let frames = flow(None, COUNT);
        send_together(&mut near, &frames);
        // The guest reads nothing, and no descriptor says that there is more.
        until(|| {
            service.turn(count(AppCounter::NetRxReads) == 0).expect("a turn");
            let all = count(AppCounter::NetRx) + count(AppCounter::NetRxNoCredit);
            (all == COUNT as u64).then_some(())
        });
        assert_eq!(count(AppCounter::NetRxReads), 1);
        assert_ne!(count(AppCounter::NetRxNoCredit), 0);
        let ring = count(AppCounter::NetRx) as usize;
        assert_eq!(stage.got().len(), 1 + ring);
        // What comes then is the first there is.
        send_together(&mut near, &frames);
        until(|| {
            service.turn(true).expect("a turn");
            (stage.got().first() == Some(&Got::Frame(frames[0].clone()))).then_some(())
        });
    });
}

/// The kernel keeps what a predecessor on a kept tap asked for until it is told otherwise.
#[test]
fn a_predecessor_that_took_joined_frames_leaves_none_behind() {
    in_namespace_or_skip("a_predecessor_that_took_joined_frames_leaves_none_behind", || {
        let mut near = new_tap("near0");
        drop(new_tap("kept0"));
        // Until a process that another test is just starting has let go of it.
        let (fd, joins) = until(|| open("kept0", false).ok());
        let mut kept = Tap::new(fd, joins);
        bridge(["near0", "kept0"]);
        let frames = flow(None, 3);
        send_together(&mut near, &frames);
        assert_eq!(packets(&mut kept, 3), frames);
    });
}

/// The frames the kernel makes itself come whole: with the checksums it leaves to a card, one segment each.
#[test]
fn what_the_host_sends_comes_as_on_a_wire() {
    in_namespace_or_skip("what_the_host_sends_comes_as_on_a_wire", || {
        let mut tap = new_tap("tap0");
        ip("addr add 10.9.8.1/24 dev tap0");
        ip("neigh add 10.9.8.2 lladdr 02:00:00:00:00:01 dev tap0");
        let socket = UdpSocket::bind("10.9.8.1:0").expect("a port");
        for length in [0, 1, 1000, 1472] {
            socket.send_to(&vec![7; length], "10.9.8.2:9").expect("room");
            let frame = packets(&mut tap, 1).remove(0);
            assert_eq!(frame.len(), 42 + length);
            let packet = etherparse::PacketHeaders::from_ethernet_slice(&frame).expect("a frame");
            let (Some(etherparse::NetHeaders::Ipv4(header, _)), Some(udp)) =
                (packet.net, packet.transport.and_then(|transport| transport.udp()))
            else {
                panic!("a datagram");
            };
            let sum = udp.calc_checksum_ipv4(&header, packet.payload.slice());
            assert_eq!(Ok(udp.checksum), sum, "{length}");
        }
    });
}

/// A socket stands for the tap: what a kernel never says that was asked for checksums and TCP only.
#[test]
fn what_was_not_asked_for_is_dropped() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (near, far) = socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
    )
    .expect("a pair");
    let joins = Joins { tcp: true, udp: true };
    let mut tap = Tap::new(near, joins);
    let mut frame = [0; MAX_FRAME];
    for (flags, gso_type, csum_start, expected) in [
        (0, 0, 0, Received::Frame(60)),
        (1, 0, 34, Received::Frame(60)),
        (1, 0, 60, Received::Dropped),
        // VIRTIO_NET_HDR_F_DATA_VALID: the checksum was looked at.
        (2, 0, 0, Received::Frame(60)),
        // TCP that is none, and datagrams.
        (1, 1, 34, Received::Dropped),
        (0, 5, 0, Received::Dropped),
    ] {
        let mut octets = [7; 70];
        octets[..10].fill(0);
        octets[..2].copy_from_slice(&[flags, gso_type]);
        octets[6..8].copy_from_slice(&u16::to_ne_bytes(csum_start));
        nix::unistd::write(&far, &octets).expect("room");
        assert_eq!(tap.receive(&mut frame), expected, "{flags} {gso_type}");
    }
    assert_eq!(tap.receive(&mut frame), Received::Nothing);
    // The other way nothing is left to the kernel that was not asked of it.
    assert_eq!(tap.send(&[7; 60]), Sent::Out);
    let mut octets = [1; 100];
    assert_eq!(nix::unistd::read(&far, &mut octets), Ok(70));
    assert_eq!((&octets[..10], &octets[10..70]), (&[0; 10][..], &[7; 60][..]));
}

#[test]
fn a_turn_sends_what_belongs_together_in_one_call_and_a_socket_gets_every_datagram() {
    in_namespace_or_skip(
        "a_turn_sends_what_belongs_together_in_one_call_and_a_socket_gets_every_datagram",
        || {
            let tap = new_tap("tap0");
            ip("addr add 10.9.8.1/24 dev tap0");
            let joined = tap.joins().udp;
            let socket = UdpSocket::bind("10.9.8.1:0").expect("a port");
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a time");
            let port = socket.local_addr().expect("an address").port();
            let mut stage = Stage::new();
            let (mut service, crossing) = stage.worker(tap);
            let count = |counter| crossing.app_counters().get(counter);
            // Three of one flow, one of another between them and two more.
            let frames = flow(Some(port), 6);
            for frame in frames[..3].iter().chain(&flow(None, 1)).chain(&frames[3..]) {
                stage.send(frame);
            }
            service.turn(true).expect("a turn");
            assert_eq!(count(AppCounter::NetTx), 7);
            assert_eq!(count(AppCounter::NetTxBursts), if joined { 3 } else { 7 });
            let mut buffer = [0; 2000];
            for number in 0..6 {
                let len = socket.recv(&mut buffer).expect("a datagram");
                assert_eq!(buffer[..len], payload(number, 6), "{number}");
            }
        },
    );
}

#[test]
fn without_gso_every_frame_is_a_call_of_its_own() {
    in_namespace_or_skip("without_gso_every_frame_is_a_call_of_its_own", || {
        let mut near = new_tap("near0");
        make_tap("bare0");
        let mut bare = attached("bare0", false);
        assert_eq!(bare.joins(), Joins::default());
        bridge(["near0", "bare0"]);
        let frames = flow(None, 3);
        let burst = Burst::first(&frames, bare.joins()).expect("frames");
        assert_eq!(burst.frames().len(), 1);
        for frame in &frames {
            assert_eq!(bare.send(frame), Sent::Out);
        }
        assert_eq!(packets(&mut near, 3), frames);
        send_together(&mut near, &frames);
        assert_eq!(packets(&mut bare, 3), frames);
    });
}
