//! The hand-over sockets against good and bad peers.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use serde::{Deserialize, Serialize};
use shared::msg::handover::{FdRole, MAX_BYTES, MAX_FDS};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;
use vmdriver_shim::handover::{Descriptors, HandoverError, Received, Socket};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Word {
    text: String,
}

fn word(text: &str) -> Word {
    Word { text: text.into() }
}

fn pair() -> (Socket, Socket) {
    Socket::pair().unwrap()
}

/// Sends what `Socket::send` would not.
fn send_raw(socket: &Socket, bytes: &[u8], fds: &[i32]) {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let sent = sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::empty(),
        None,
    );
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn message_and_descriptors_arrive_in_order() {
    let (a, b) = pair();
    let (read_end, write_end) = nix::unistd::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    a.send(&word("start"), &[null.as_fd(), write_end.as_fd()])
        .unwrap();
    drop(write_end);
    assert!(b.wait(Duration::from_secs(5)).unwrap());
    let Received::Message(got, mut fds) = b.recv::<Word>().unwrap() else {
        panic!("no message");
    };
    assert_eq!((got, fds.len()), (word("start"), 2));
    for fd in &fds {
        let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & 1, 1, "passed descriptors close on exec");
    }
    File::from(fds.remove(1)).write_all(b"through").unwrap();
    let mut text = String::new();
    File::from(read_end).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn nothing_and_hung_up_are_told_apart() {
    let (a, b) = pair();
    assert!(matches!(b.recv::<Word>(), Ok(Received::Nothing)));
    assert!(!b.wait(Duration::ZERO).unwrap());
    a.send(&word("last"), &[]).unwrap();
    drop(a);
    assert!(
        matches!(b.recv::<Word>(), Ok(Received::Message(..))),
        "what was sent before is still read"
    );
    assert!(matches!(b.recv::<Word>(), Ok(Received::HungUp)));
    // A peer that dies with our records unread resets the connection; that is a hang-up too.
    let (a, b) = pair();
    b.send(&word("never read"), &[]).unwrap();
    drop(a);
    assert!(matches!(b.recv::<Word>(), Ok(Received::HungUp)));
}

/// The worker that says Finished and exits while another word is on its way to it.
#[test]
fn the_last_words_of_a_peer_that_died_without_hearing_us_are_heard() {
    let (a, b) = pair();
    b.send(&word("finished"), &[]).unwrap();
    a.send(&word("too late"), &[]).unwrap();
    drop(b);
    match a.recv::<Word>() {
        Ok(Received::Message(last, _)) => assert_eq!(last, word("finished")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(a.recv::<Word>(), Ok(Received::HungUp)));
}

#[test]
fn wrong_records_are_typed_errors_and_the_next_one_is_read() {
    let (a, b) = pair();
    send_raw(&a, &vec![b' '; MAX_BYTES + 1], &[]);
    assert!(matches!(b.recv::<Word>(), Err(HandoverError::Truncated)));
    for wrong in [&b"{"[..], b"[1,2]", b"\xff\xfe", b"{\"text\":7}", b"{}"] {
        send_raw(&a, wrong, &[]);
        assert!(matches!(b.recv::<Word>(), Err(HandoverError::Json(_))));
    }
    a.send(&word("good"), &[]).unwrap();
    assert!(matches!(b.recv::<Word>(), Ok(Received::Message(..))));
}

/// Every copy of the pipe's write end must be closed before its reader sees the end.
#[test]
fn descriptors_that_come_with_a_refused_record_are_closed() {
    let (a, b) = pair();
    for (text, copies) in [
        (&b"{\"text\":\"x\"}"[..], MAX_FDS + 1),
        (b"not json", 3),
        (b"{\"text\":\"x\"}", 253),
    ] {
        let (read_end, write_end) = nix::unistd::pipe().unwrap();
        send_raw(&a, text, &vec![write_end.as_raw_fd(); copies]);
        drop(write_end);
        match (b.recv::<Word>(), copies > MAX_FDS) {
            (Err(HandoverError::TooManyFds(n)), true) => assert_eq!(n, copies),
            (Err(HandoverError::Json(_)), false) => {}
            (other, _) => panic!("{copies} copies: {other:?}"),
        }
        let mut rest = Vec::new();
        assert_eq!(
            File::from(read_end).read_to_end(&mut rest).unwrap(),
            0,
            "{copies} copies"
        );
    }
}

/// Sends a word with copies of a pipe's write end, and says whether the kernel took it.
fn slip(socket: &Socket, write_end: OwnedFd, copies: usize) -> bool {
    let fds = vec![write_end.as_fd(); copies];
    match socket.send(&word("look"), &fds) {
        Ok(()) => true,
        Err(HandoverError::Io(error)) if error.raw_os_error() == Some(Errno::EPERM as i32) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn who_takes_words_only_gets_no_descriptor_and_hears_words_all_the_same() {
    let (peer, ours) = pair();
    let ours = ours.words_only();
    for copies in [1, 3] {
        let (read_end, write_end) = nix::unistd::pipe().unwrap();
        if slip(&peer, write_end, copies) {
            assert!(matches!(ours.recv::<Word>(), Err(HandoverError::WordsOnly)));
        }
        let mut rest = Vec::new();
        assert_eq!(File::from(read_end).read_to_end(&mut rest).unwrap(), 0, "kept");
    }
    peer.send(&word("good"), &[]).unwrap();
    assert!(matches!(ours.recv::<Word>(), Ok(Received::Message(..))));
    send_raw(&peer, &vec![b' '; MAX_BYTES + 1], &[]);
    assert!(matches!(ours.recv::<Word>(), Err(HandoverError::Truncated)));
    let null = File::open("/dev/null").unwrap();
    ours.send(&word("start"), &[null.as_fd()]).unwrap();
    let Ok(Received::Message(_, fds)) = peer.recv::<Word>() else {
        panic!("the other way is open");
    };
    assert_eq!(fds.len(), 1);
}

/// What was in the socket before the kernel was asked, as on a kernel that knows no such question.
#[test]
fn descriptors_that_are_under_way_already_are_closed_unseen() {
    let (peer, ours) = pair();
    let (read_end, write_end) = nix::unistd::pipe().unwrap();
    assert!(slip(&peer, write_end, 3));
    let ours = ours.words_only();
    assert!(matches!(ours.recv::<Word>(), Err(HandoverError::WordsOnly)));
    let mut rest = Vec::new();
    assert_eq!(File::from(read_end).read_to_end(&mut rest).unwrap(), 0, "kept");
}

#[test]
fn we_do_not_send_what_we_would_refuse() {
    let (a, _b) = pair();
    let null = File::open("/dev/null").unwrap();
    let many = vec![null.as_fd(); MAX_FDS + 1];
    assert!(matches!(
        a.send(&word("x"), &many),
        Err(HandoverError::TooManyFds(_))
    ));
    let long = word(&"x".repeat(MAX_BYTES));
    assert!(matches!(a.send(&long, &[]), Err(HandoverError::TooLarge(_))));
}

#[test]
fn a_peer_that_does_not_read_cannot_block_the_sender() {
    let (a, _b) = pair();
    let text = word(&"x".repeat(MAX_BYTES / 2));
    for _ in 0..10_000 {
        match a.send(&text, &[]) {
            Ok(()) => {}
            Err(HandoverError::Busy) => return,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("never busy");
}

#[test]
fn only_a_unix_sequenced_packet_socket_will_do() {
    let (pipe, _w) = nix::unistd::pipe().unwrap();
    let (stream, _peer) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for fd in [pipe, stream, udp.into()] {
        assert!(matches!(Socket::from_fd(fd), Err(HandoverError::NotSeqpacket)));
    }
    let (good, _peer) = pair();
    assert!(Socket::from_fd(good.into()).is_ok());
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn descriptors_are_taken_once_each_by_role() {
    let roles = vec![FdRole::Memory, FdRole::Module(1), FdRole::Module(2)];
    let mut fds = Descriptors::new(roles, vec![null(), null(), null()]).unwrap();
    fds.take(FdRole::Module(2)).unwrap();
    assert!(matches!(
        fds.take(FdRole::Module(2)),
        Err(HandoverError::Missing(FdRole::Module(2)))
    ));
    assert!(fds.take_optional(FdRole::Initrd).is_none());
    assert!(fds.take_optional(FdRole::Module(1)).is_some());
    fds.take(FdRole::Memory).unwrap();
    fds.finish().unwrap();
}

#[test]
fn descriptors_that_do_not_match_their_roles_are_refused() {
    let count = Descriptors::new(vec![FdRole::Memory], vec![]);
    assert!(matches!(count, Err(HandoverError::Count { roles: 1, fds: 0 })));
    let twice = Descriptors::new(vec![FdRole::Initrd, FdRole::Initrd], vec![null(), null()]);
    assert!(matches!(twice, Err(HandoverError::Duplicate(FdRole::Initrd))));
    let extra = Descriptors::new(vec![FdRole::Initrd], vec![null()])
        .unwrap()
        .finish();
    assert!(matches!(extra, Err(HandoverError::Unexpected(FdRole::Initrd))));
}
