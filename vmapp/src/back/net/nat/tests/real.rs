//! Datagrams over real sockets of 127.0.0.1.

use super::super::Nat;
use super::rig::{DNS, MAC, ROUTER, open_icmp, open_udp, udp};
use crate::back::net::{Net, Received, Sent, Wanted};
use nix::poll::{PollFd, PollTimeout, poll};
use shared::msg::handover::ForwardSpec;
use shared::msg::net::MAX_FRAME;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

fn network(forwards: Vec<(ForwardSpec, OwnedFd)>) -> Nat {
    Nat::new((Ipv4Addr::new(10, 0, 2, 0), 24), MAC, Vec::new(), forwards).unwrap()
}

fn socket() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Waits for the next frame for the guest.
fn next(nat: &mut Nat) -> Vec<u8> {
    let begun = Instant::now();
    let mut frame = [0; MAX_FRAME];
    while begun.elapsed() < Duration::from_secs(10) {
        if let Received::Frame(length) = nat.receive(&mut frame) {
            return frame[..length].to_vec();
        }
        let interests = nat.interests(Wanted { frames: true });
        let interest = interests.fds[0].as_ref().expect("the epoll descriptor");
        poll(
            &mut [PollFd::new(interest.fd, interest.events)],
            PollTimeout::from(1000_u16),
        )
        .unwrap();
    }
    panic!("nothing came");
}

#[test]
fn a_datagram_of_the_guest_reaches_the_host_and_the_answer_the_guest() {
    let mut nat = network(Vec::new());
    let (server, port) = socket();
    for n in 0..3_u8 {
        assert_eq!(nat.send(&udp(4000, (ROUTER, port), &[n; 1472])), Sent::Out);
        let mut bytes = [0; 2000];
        let (len, client) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(bytes[..len], [n; 1472]);
        server.send_to(&[n, 1], client).unwrap();
        assert_eq!(open_udp(&next(&mut nat)), (ROUTER, port, 4000, vec![n, 1]));
    }
}

#[test]
fn a_port_without_a_server_is_told_as_unreachable() {
    let mut nat = network(Vec::new());
    let (server, port) = socket();
    drop(server);
    nat.send(&udp(4000, (ROUTER, port), b"x"));
    let (kind, code, _) = open_icmp(&next(&mut nat));
    assert_eq!((kind, code), (3, 3));
}

#[test]
fn a_forwarded_datagram_reaches_the_guest_and_its_answer_the_client() {
    let (forwarded, port) = socket();
    let spec = ForwardSpec {
        udp: true,
        guest_port: 69,
    };
    let mut nat = network(vec![(spec, forwarded.into())]);
    let (client, client_port) = socket();
    client.send_to(b"read", ("127.0.0.1", port)).unwrap();
    assert_eq!(
        open_udp(&next(&mut nat)),
        (ROUTER, client_port, 69, b"read".to_vec())
    );
    assert_eq!(nat.send(&udp(69, (ROUTER, client_port), b"data")), Sent::Out);
    let mut bytes = [0; 100];
    let (len, from) = client.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], from.port()), (&b"data"[..], port));
}

#[test]
fn without_a_name_server_a_question_is_answered_with_servfail() {
    let mut nat = network(Vec::new());
    nat.send(&udp(4000, (DNS, 53), &[1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let (.., answer) = open_udp(&next(&mut nat));
    assert_eq!(answer[..4], [1, 2, 0x81, 0x82]);
}
