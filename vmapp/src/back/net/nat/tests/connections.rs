//! TCP with a played host and a played clock: each step of a connection's life, one segment at a time.

use super::super::host::scripted::Played;
use super::super::tally::Loss;
use super::super::tcp::{BUFFER, FLOWS};
use super::rig::*;
use crate::back::net::{Net, Sent, Wanted};
use nix::errno::Errno;
use shared::msg::handover::ForwardSpec;
use smoltcp::wire::TcpControl;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const HTTP: (std::net::Ipv4Addr, u16) = (WORLD, 80);

fn connected() -> (Rig, Peer, u32) {
    let mut rig = Rig::new();
    let mut peer = Peer::new(4000, HTTP);
    let (_, socket) = peer.connect(&mut rig);
    (rig, peer, socket)
}

fn gives(rig: &mut Rig, socket: u32, octets: &[u8]) {
    rig.host().change(socket, |socket| socket.input.extend(octets));
}

fn played(rig: &mut Rig, socket: u32) -> &mut Played {
    rig.host().sockets.get_mut(&socket).expect("an open socket")
}

/// Lets time pass until there is something for the guest; gives how much passed.
fn wait(rig: &mut Rig, peer: &mut Peer) -> (Duration, Vec<Segment>) {
    let begun = rig.host().now;
    for _ in 0..10_000 {
        let heard = peer.hear(rig);
        if !heard.is_empty() {
            return (rig.host().now - begun, heard);
        }
        let within = rig
            .nat
            .interests(Wanted { frames: true })
            .within
            .expect("a timer");
        rig.pass(within.max(MS));
    }
    panic!("timers without end");
}

#[test]
fn a_syn_is_answered_only_when_the_host_is_connected() {
    let mut rig = Rig::new();
    let peer = Peer::new(4000, HTTP);
    let syn = peer.frame(TcpControl::Syn, 1000, None, b"");
    assert!(rig.ask(&syn).is_empty());
    assert!(rig.ask(&syn).is_empty(), "sent again meanwhile");
    let socket = rig.newest();
    assert_eq!(played(&mut rig, socket).peer, Some((WORLD, 80).into()));
    rig.host().change(socket, |_| {});
    let answer = open_tcp(&rig.frames()[0]);
    assert_eq!((answer.control, answer.ack), (TcpControl::Syn, Some(1001)));
    assert_eq!(
        (answer.mss, answer.scale, answer.window),
        (Some(1460), Some(2), 65_535)
    );
    assert_eq!(rig.host().sockets.len(), 1);
}

#[test]
fn a_guest_without_window_scaling_gets_none() {
    let mut rig = Rig::new();
    let mut peer = Peer::new(4000, HTTP);
    peer.scale = None;
    let (answer, socket) = peer.connect(&mut rig);
    assert_eq!(answer.scale, None);
    gives(&mut rig, socket, b"x");
    assert_eq!(peer.hear(&mut rig)[0].window, 65_535, "all of it, unshifted");
}

#[test]
fn a_failed_connection_is_told_as_what_it_was() {
    let table = [
        (Errno::ECONNREFUSED, None),
        (Errno::ECONNRESET, None),
        (Errno::ENETUNREACH, Some((3, 0))),
        (Errno::EHOSTUNREACH, Some((3, 1))),
        (Errno::ETIMEDOUT, Some((3, 1))),
        (Errno::EACCES, Some((3, 13))),
    ];
    for (errno, icmp) in table {
        for at_once in [false, true] {
            let mut rig = Rig::new();
            let peer = Peer::new(4000, HTTP);
            rig.host().refuses = at_once.then_some(errno);
            rig.host().connects = Err(errno);
            rig.send(&peer.frame(TcpControl::Syn, 1000, None, b""));
            if !at_once {
                let socket = rig.newest();
                rig.host().change(socket, |_| {});
            }
            let frame = &rig.frames()[0];
            match icmp {
                Some(wanted) => {
                    let (kind, code, rest) = open_icmp(frame);
                    assert_eq!((kind, code), wanted, "{errno}");
                    assert_eq!(rest[24..28], [15, 160, 0, 80], "the ports");
                    assert_eq!(rest[28..32], 1000_u32.to_be_bytes(), "the number");
                }
                None => {
                    let reset = open_tcp(frame);
                    assert_eq!(
                        (reset.control, reset.ack),
                        (TcpControl::Rst, Some(1001)),
                        "{errno}"
                    );
                }
            }
            assert_eq!(rig.nat.flows().0, 0);
        }
    }
}

#[test]
fn destinations_without_a_way_are_refused() {
    let mut rig = Rig::new();
    let syn = |to| Peer::new(4000, to).frame(TcpControl::Syn, 1000, None, b"");
    assert_eq!(
        open_icmp(&rig.ask(&syn(("10.0.2.9".parse().unwrap(), 80)))[0]).1,
        1
    );
    assert_eq!(open_tcp(&rig.ask(&syn((DNS, 80)))[0]).control, TcpControl::Rst);
    assert_eq!(rig.send(&syn(("127.0.0.1".parse().unwrap(), 80))), Sent::Dropped);
    assert_eq!(rig.host().sockets.len(), 0);
    rig.send(&syn((ROUTER, 80)));
    let socket = rig.newest();
    assert_eq!(
        played(&mut rig, socket).peer,
        Some("127.0.0.1:80".parse().unwrap())
    );
}

#[test]
fn dns_over_tcp_tries_the_servers_in_order() {
    let mut rig = Rig::new();
    let mut peer = Peer::new(4000, (DNS, 53));
    rig.host().connects = Err(Errno::ECONNREFUSED);
    rig.send(&peer.frame(TcpControl::Syn, 1000, None, b""));
    let first = rig.newest();
    assert_eq!(played(&mut rig, first).peer, Some((SERVERS[0], 53).into()));
    rig.host().change(first, |_| {});
    assert!(rig.frames().is_empty());
    let second = rig.newest();
    assert_eq!(played(&mut rig, second).peer, Some((SERVERS[1], 53).into()));
    rig.host().connects = Ok(());
    rig.host().change(second, |_| {});
    assert_eq!(peer.hear(&mut rig)[0].control, TcpControl::Syn);
}

#[test]
fn two_full_segments_are_acknowledged_at_once_and_one_after_a_while() {
    let (mut rig, mut peer, socket) = connected();
    peer.say(&mut rig, TcpControl::None, &[1; 1460]);
    assert!(peer.hear(&mut rig).is_empty());
    peer.say(&mut rig, TcpControl::None, &[2; 1460]);
    assert_eq!(peer.hear(&mut rig)[0].ack, Some(peer.seq));
    peer.say(&mut rig, TcpControl::Psh, b"3");
    let (waited, heard) = wait(&mut rig, &mut peer);
    assert_eq!((waited, heard[0].ack, heard.len()), (40 * MS, Some(peer.seq), 1));
    assert_eq!(played(&mut rig, socket).output.len(), 2921);
    // A burst of one turn has one acknowledgement.
    for _ in 0..20 {
        peer.say(&mut rig, TcpControl::None, &[4; 1460]);
    }
    assert_eq!(peer.hear(&mut rig).len(), 1);
}

#[test]
fn what_the_host_sends_is_cut_to_segments_and_windows() {
    let (mut rig, mut peer, socket) = connected();
    peer.window = 4000;
    peer.acknowledge(&mut rig);
    let data: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
    gives(&mut rig, socket, &data);
    let mut text = Vec::new();
    let mut lengths = Vec::new();
    for _ in 0..20 {
        for segment in peer.hear(&mut rig) {
            lengths.push(segment.text.len());
            text.extend(segment.text);
        }
        peer.acknowledge(&mut rig);
    }
    assert_eq!(text, data);
    assert_eq!(
        lengths[..2],
        [1460, 1460],
        "the third would be a crumb of the window"
    );
    assert!(
        lengths.iter().filter(|len| **len < 1460).count() <= 1,
        "{lengths:?}"
    );
}

#[test]
fn a_lost_segment_comes_again_after_the_timeout_which_doubles() {
    let (mut rig, mut peer, socket) = connected();
    gives(&mut rig, socket, b"hello");
    let first = &peer.hear(&mut rig)[0];
    assert_eq!(first.text, b"hello");
    peer.ack -= 5;
    // The handshake's round trip took no time: the least time-out, then twice as much each time (RFC 6298, 5.5).
    for wanted in [200, 400, 800, 1600, 3200] {
        let (waited, heard) = wait(&mut rig, &mut peer);
        assert_eq!((waited, &heard[..]), (wanted * MS, &[first.clone()][..]));
        peer.ack -= 5;
    }
    peer.ack += 5;
    peer.acknowledge(&mut rig);
    rig.pass(Duration::from_secs(60));
    assert!(rig.frames().is_empty());
    assert_eq!(
        rig.nat.interests(Wanted { frames: true }).within,
        None,
        "no timer left"
    );
}

#[test]
fn after_a_timeout_an_acknowledgement_is_still_numbered_where_the_guest_reads_it() {
    let (mut rig, mut peer, socket) = connected();
    gives(&mut rig, socket, &[7; 4 * 1460]);
    assert_eq!(peer.hear(&mut rig).len(), 4);
    // The guest has all of it, but its acknowledgement is lost: the oldest segment comes again, the rest waits.
    let (_, again) = wait(&mut rig, &mut peer);
    assert_eq!((again.len(), again[0].seq.wrapping_add(4 * 1460)), (1, peer.ack));
    let old = peer.frame(TcpControl::None, peer.seq - 1, Some(peer.ack - 4 * 1460), b"");
    assert_eq!(open_tcp(&rig.ask(&old)[0]).seq, peer.ack);
}

#[test]
fn three_duplicate_acknowledgements_send_the_hole_again_at_once() {
    let (mut rig, mut peer, socket) = connected();
    gives(&mut rig, socket, &[7; 14_600]);
    let begin = peer.ack;
    assert_eq!(peer.hear(&mut rig).len(), 10, "the initial window (RFC 6928)");
    let all = std::mem::replace(&mut peer.ack, begin);
    for n in 1..=3 {
        peer.acknowledge(&mut rig);
        let heard: Vec<_> = rig.frames().iter().map(|frame| open_tcp(frame)).collect();
        assert_eq!(heard.len(), usize::from(n == 3), "after {n}");
        if let [again] = &heard[..] {
            assert_eq!((again.seq, again.text.len()), (begin, 1460));
        }
    }
    peer.ack = all;
    peer.acknowledge(&mut rig);
    assert!(rig.frames().is_empty());
}

#[test]
fn a_guest_that_never_acknowledges_is_given_up_and_holds_no_more_than_a_buffer() {
    let (mut rig, mut peer, socket) = connected();
    gives(&mut rig, socket, &vec![1; 4 * BUFFER]);
    let begin = rig.host().now;
    while rig.nat.flows().0 > 0 {
        let (_, heard) = wait(&mut rig, &mut peer);
        if heard.iter().any(|segment| segment.control == TcpControl::Rst) {
            break;
        }
        if let Some(played) = rig.host().sockets.get(&socket) {
            assert!(played.input.len() >= 3 * BUFFER, "read beyond the buffer");
        }
    }
    let patience = rig.host().now - begin;
    assert!((100..300).contains(&patience.as_secs()), "{patience:?}");
    assert_eq!(rig.host().aborted, [socket], "the host's peer sees a reset");
}

#[test]
fn a_syn_answer_without_an_acknowledgement_comes_again() {
    let mut rig = Rig::new();
    let mut peer = Peer::new(4000, HTTP);
    rig.send(&peer.frame(TcpControl::Syn, 1000, None, b""));
    let socket = rig.newest();
    rig.host().change(socket, |_| {});
    let first = peer.hear(&mut rig);
    let (waited, again) = wait(&mut rig, &mut peer);
    assert_eq!((waited, again), (1000 * MS, first));
}

#[test]
fn a_closed_window_is_probed_until_it_opens_however_long_that_takes() {
    let (mut rig, mut peer, socket) = connected();
    peer.window = 0;
    peer.acknowledge(&mut rig);
    gives(&mut rig, socket, b"patience");
    assert!(peer.hear(&mut rig).is_empty());
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let next = peer.ack;
        let (waited, heard) = wait(&mut rig, &mut peer);
        assert_eq!(heard[0].text, b"p", "one octet");
        assert!(
            waited >= last && waited <= Duration::from_secs(60),
            "{waited:?} after {last:?}"
        );
        last = waited;
        // Not taken: the window is closed.
        peer.ack = next;
        peer.acknowledge(&mut rig);
    }
    assert_eq!(last, Duration::from_secs(60));
    peer.window = 65_535;
    peer.acknowledge(&mut rig);
    assert_eq!(peer.hear(&mut rig)[0].text, b"patience");
}

#[test]
fn a_probe_that_the_guest_takes_is_not_sent_twice() {
    let (mut rig, mut peer, socket) = connected();
    peer.window = 0;
    peer.acknowledge(&mut rig);
    gives(&mut rig, socket, b"patience");
    let (_, heard) = wait(&mut rig, &mut peer);
    assert_eq!(heard[0].text, b"p");
    peer.window = 100;
    peer.acknowledge(&mut rig);
    assert_eq!(peer.hear(&mut rig)[0].text, b"atience");
}

#[test]
fn a_host_that_takes_nothing_closes_the_window_and_opens_it_again() {
    let mut rig = Rig::new();
    rig.host().room = 10_000;
    let mut peer = Peer::new(4000, HTTP);
    let (_, socket) = peer.connect(&mut rig);
    let mut window = usize::MAX;
    let mut sent = 0;
    for _ in 0..2 * BUFFER / 1460 {
        if window < 1460 {
            break;
        }
        peer.say(&mut rig, TcpControl::None, &[sent as u8; 1460]);
        sent += 1460;
        for segment in peer.hear(&mut rig) {
            let offered = usize::from(segment.window) << 2;
            assert!(
                segment.ack.unwrap() as usize + offered <= 1001 + BUFFER + 10_000,
                "more than there is room for"
            );
            window = offered;
        }
    }
    assert!((BUFFER..=BUFFER + 10_000).contains(&sent), "{sent}");
    // Probes are answered and not taken.
    let before = peer.seq;
    peer.say(&mut rig, TcpControl::None, &[sent as u8; 1460]);
    peer.seq = before;
    let answer = peer.hear(&mut rig).pop().unwrap();
    assert!(usize::from(answer.window) << 2 < 1460);
    // A crumb of room is not offered (silly window syndrome).
    let (told, window) = (answer.ack, answer.window);
    rig.host().change(socket, |socket| socket.room = 100);
    assert!(peer.hear(&mut rig).is_empty());
    rig.send(&peer.frame(
        TcpControl::None,
        told.unwrap().wrapping_sub(1),
        Some(peer.ack),
        b"",
    ));
    assert_eq!(
        peer.hear(&mut rig).pop().map(|answer| answer.window),
        Some(window)
    );
    // The host takes again: the guest is told without asking.
    rig.host().change(socket, |socket| socket.room = usize::MAX);
    let told = peer.hear(&mut rig).pop().expect("a window update");
    assert!(usize::from(told.window) << 2 >= BUFFER - 3);
    let taken = told.ack.unwrap() as usize - 1001;
    let output = &played(&mut rig, socket).output;
    assert!(
        output.len() == taken
            && output
                .iter()
                .zip(0..)
                .all(|(octet, at)| *octet == (at / 1460 * 1460) as u8)
    );
}

#[test]
fn segments_out_of_order_are_put_in_order_and_each_is_answered() {
    let (mut rig, mut peer, socket) = connected();
    let base = peer.seq;
    let ack = Some(peer.ack);
    let at = |offset: u32, text: &[u8]| peer.frame(TcpControl::None, base + offset, ack, text);
    let frames = [
        at(6, b"gh"),
        at(3, b"def"),
        at(2, b"cdefg"),
        at(8, b"i"),
        at(0, b"ab"),
    ];
    let answers = frames.each_ref().map(|frame| {
        let answers = rig.ask(frame);
        assert_eq!(answers.len(), 1);
        open_tcp(&answers[0]).ack.unwrap() - base
    });
    assert_eq!(answers, [0, 0, 0, 0, 9], "a duplicate for each, then all");
    assert_eq!(played(&mut rig, socket).output, b"abcdefghi");
    peer.seq += 9;
    // In one turn: as many duplicates as segments while there is a hole, none when it is filled.
    let at = |offset: u32| peer.frame(TcpControl::None, peer.seq + offset, Some(peer.ack), b"x");
    let frames = [1, 2, 3, 0].map(at);
    for frame in &frames[..3] {
        rig.send(frame);
    }
    assert_eq!(rig.frames().len(), 3);
    for frame in &frames {
        rig.send(frame);
    }
    assert_eq!(rig.frames().len(), 1);
    assert_eq!(played(&mut rig, socket).output.len(), 13);
}

#[test]
fn a_guest_that_leaves_more_holes_than_are_kept_loses_nothing() {
    let (mut rig, peer, socket) = connected();
    let text: Vec<u8> = (0..100).collect();
    for _ in 0..3 {
        // Every other octet, backwards; then the rest.
        for at in (1..100).step_by(2).rev().chain((0..100).step_by(2)) {
            let frame = peer.frame(
                TcpControl::None,
                peer.seq + at as u32,
                Some(peer.ack),
                &text[at..=at],
            );
            rig.ask(&frame);
        }
    }
    let frame = peer.frame(TcpControl::None, peer.seq, Some(peer.ack), &text);
    rig.ask(&frame);
    assert_eq!(played(&mut rig, socket).output, text);
}

#[test]
fn the_guest_may_end_first_and_go_on_listening() {
    let (mut rig, mut peer, socket) = connected();
    peer.say(&mut rig, TcpControl::Fin, b"bye");
    assert_eq!(peer.hear(&mut rig).last().unwrap().ack, Some(peer.seq));
    let played = played(&mut rig, socket);
    assert!(played.finished && played.output == b"bye");
    gives(&mut rig, socket, b"still here");
    assert_eq!(peer.hear(&mut rig)[0].text, b"still here");
    rig.host().change(socket, |socket| socket.ended = true);
    assert_eq!(peer.hear(&mut rig)[0].control, TcpControl::Fin);
    peer.acknowledge(&mut rig);
    assert!(peer.hear(&mut rig).is_empty());
    assert_eq!(rig.nat.flows().0, 0, "LAST-ACK to CLOSED");
    assert!(!rig.host().sockets[&socket].is_open() && rig.host().aborted.is_empty());
}

#[test]
fn the_host_may_end_first_and_go_on_listening() {
    let (mut rig, mut peer, socket) = connected();
    rig.host().change(socket, |socket| {
        socket.input.extend(b"bye");
        socket.ended = true;
    });
    let last = peer.hear(&mut rig).pop().unwrap();
    assert_eq!((last.control, &last.text[..]), (TcpControl::Fin, &b"bye"[..]));
    peer.acknowledge(&mut rig);
    peer.say(&mut rig, TcpControl::Psh, b"still here");
    let (waited, heard) = wait(&mut rig, &mut peer);
    assert_eq!(
        (waited, heard.len(), heard[0].control),
        (40 * MS, 1, TcpControl::None),
        "no second FIN"
    );
    assert_eq!(played(&mut rig, socket).output, b"still here");
    peer.say(&mut rig, TcpControl::Fin, b"");
    assert_eq!(peer.hear(&mut rig)[0].ack, Some(peer.seq));
    assert!(
        !rig.host().sockets[&socket].is_open() && rig.host().aborted.is_empty(),
        "TIME-WAIT"
    );
    // A FIN that comes again is acknowledged again (RFC 9293, 3.10.7.4).
    let again = peer.frame(TcpControl::Fin, peer.seq - 1, Some(peer.ack), b"");
    assert_eq!(open_tcp(&rig.ask(&again)[0]).ack, Some(peer.seq));
    rig.pass(Duration::from_secs(10));
    rig.frames();
    assert_eq!(rig.nat.flows().0, 0);
}

#[test]
fn both_may_end_at_once() {
    let (mut rig, mut peer, socket) = connected();
    rig.host().change(socket, |socket| socket.ended = true);
    assert_eq!(rig.frames().len(), 1);
    // The guest's FIN crosses ours: CLOSING, then TIME-WAIT.
    peer.say(&mut rig, TcpControl::Fin, b"");
    assert_eq!(peer.hear(&mut rig).len(), 1);
    peer.ack += 1;
    peer.acknowledge(&mut rig);
    rig.frames();
    assert!(!rig.host().sockets[&socket].is_open());
    assert_eq!(rig.nat.flows().0, 1);
}

#[test]
fn a_new_connection_takes_the_place_of_one_in_time_wait() {
    let (mut rig, mut peer, socket) = connected();
    rig.host().change(socket, |socket| socket.ended = true);
    peer.hear(&mut rig);
    peer.say(&mut rig, TcpControl::Fin, b"");
    peer.hear(&mut rig);
    peer.seq += 1000;
    let (_, later) = peer.connect(&mut rig);
    assert_ne!(later, socket);
    assert_eq!(rig.nat.flows().0, 1);
}

#[test]
fn a_reset_counts_only_where_it_is_expected() {
    // RFC 5961, 3.2, the offset from RCV.NXT and what comes of it.
    let table = [
        (0, true, 0),
        (1, false, 1),
        (BUFFER as u32 - 1, false, 1),
        (BUFFER as u32, false, 0),
        (u32::MAX, false, 0),
    ];
    for (offset, ends, challenges) in table {
        let (mut rig, peer, socket) = connected();
        let frame = peer.frame(TcpControl::Rst, peer.seq.wrapping_add(offset), None, b"");
        let answers = rig.ask(&frame);
        assert_eq!(answers.len(), challenges, "{offset}");
        assert_eq!(rig.nat.flows().0, usize::from(!ends), "{offset}");
        assert_eq!(rig.host().aborted.contains(&socket), ends, "{offset}");
    }
}

#[test]
fn a_syn_in_a_connection_is_challenged() {
    let (mut rig, peer, _) = connected();
    let answers = rig.ask(&peer.frame(TcpControl::Syn, 77_777, None, b""));
    let answer = open_tcp(&answers[0]);
    assert_eq!((answer.control, answer.ack), (TcpControl::None, Some(peer.seq)));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_answered_and_ignored() {
    let (mut rig, mut peer, socket) = connected();
    let frame = peer.frame(TcpControl::None, peer.seq, Some(peer.ack + 1_000_000), b"x");
    assert_eq!(open_tcp(&rig.ask(&frame)[0]).ack, Some(peer.seq));
    assert!(played(&mut rig, socket).output.is_empty());
    gives(&mut rig, socket, b"y");
    assert_eq!(peer.hear(&mut rig)[0].text, b"y");
}

#[test]
fn a_reset_of_the_hosts_peer_resets_the_guest() {
    for on_write in [false, true] {
        let (mut rig, mut peer, socket) = connected();
        rig.frames();
        if on_write {
            played(&mut rig, socket).error = Some(Errno::EPIPE);
            peer.say(&mut rig, TcpControl::None, b"x");
        } else {
            rig.host()
                .change(socket, |socket| socket.error = Some(Errno::ECONNRESET));
        }
        let reset = peer.hear(&mut rig).pop().unwrap();
        assert_eq!((reset.control, reset.seq), (TcpControl::Rst, peer.ack));
        assert_eq!(rig.nat.flows().0, 0);
    }
}

#[test]
fn a_segment_of_no_connection_is_refused_and_a_reset_is_not() {
    let mut rig = Rig::new();
    let peer = Peer::new(4000, HTTP);
    let reset = open_tcp(&rig.ask(&peer.frame(TcpControl::None, 5, Some(99), b"x"))[0]);
    assert_eq!((reset.control, reset.seq, reset.ack), (TcpControl::Rst, 99, None));
    let reset = open_tcp(&rig.ask(&peer.frame(TcpControl::Fin, 5, None, b"x"))[0]);
    assert_eq!(
        (reset.control, reset.seq, reset.ack),
        (TcpControl::Rst, 0, Some(7))
    );
    assert!(rig.ask(&peer.frame(TcpControl::Rst, 5, Some(99), b"")).is_empty());
}

#[test]
fn a_full_table_keeps_what_is_in_use_and_lets_go_what_is_over() {
    let mut rig = Rig::new();
    let mut peers: Vec<Peer> = (0..FLOWS).map(|n| Peer::new(1000 + n, HTTP)).collect();
    for peer in &mut peers {
        peer.connect(&mut rig);
    }
    assert_eq!(rig.nat.flows().0, usize::from(FLOWS));
    let one_more = Peer::new(9000, HTTP).frame(TcpControl::Syn, 5, None, b"");
    assert_eq!(rig.send(&one_more), Sent::Dropped);
    assert!(rig.frames().is_empty(), "no answer: the guest tries again");
    assert_eq!(rig.nat.tally().of(Loss::Full), 1);
    // Idle for minutes, the first gives way, and hears of it.
    rig.pass(Duration::from_secs(300));
    peers[1].acknowledge(&mut rig);
    assert_eq!(rig.send(&one_more), Sent::Out);
    let heard = peers[0].hear(&mut rig);
    assert_eq!(heard[0].control, TcpControl::Rst);
    assert_eq!(rig.nat.flows().0, usize::from(FLOWS));
}

#[test]
fn a_client_of_a_forwarded_port_is_accepted_by_the_guest_or_reset() {
    let spec = ForwardSpec {
        udp: false,
        guest_port: 22,
    };
    for accepts in [true, false] {
        let mut rig = Rig::with(vec![spec]);
        let waiting = rig.host().clients.entry(0).or_default();
        waiting.extend(
            ["127.0.0.1:5000", "127.0.0.9:5000"]
                .map(|client| client.parse::<std::net::SocketAddr>().unwrap()),
        );
        rig.host().knock(0);
        let frames = rig.frames();
        assert_eq!(frames.len(), 2);
        let ports = |frame: &[u8]| {
            (
                u16::from_be_bytes([frame[34], frame[35]]),
                u16::from_be_bytes([frame[36], frame[37]]),
            )
        };
        assert_eq!((open(&frames[0]).from, ports(&frames[0])), (ROUTER, (5000, 22)));
        assert_ne!(ports(&frames[1]).0, 5000, "the port is taken");
        let syn = open_tcp(&frames[0]);
        assert_eq!(
            (syn.control, syn.ack, syn.scale),
            (TcpControl::Syn, None, Some(2))
        );
        let mut peer = Peer::new(22, (ROUTER, 5000));
        peer.ack = syn.seq + 1;
        if accepts {
            peer.say(&mut rig, TcpControl::Syn, b"");
            assert_eq!(peer.hear(&mut rig)[0].ack, Some(peer.seq));
            gives(&mut rig, 1, b"SSH");
            assert_eq!(peer.hear(&mut rig)[0].text, b"SSH");
        } else {
            let refusal = peer.frame(TcpControl::Rst, 0, Some(peer.ack), b"");
            rig.send(&refusal);
            assert_eq!(rig.host().aborted, [1]);
        }
    }
}
