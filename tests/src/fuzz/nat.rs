//! The user-mode network against a hostile guest and an unlucky host: raw frames, and packets whose sums are right so that
//! they get further in; sockets that give, end, fail and fill up; a clock that jumps.

use super::input::Input;
use nix::errno::Errno;
use shared::msg::handover::ForwardSpec;
use shared::msg::net::MAX_FRAME;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::time::Duration;
use vmapp::back::net::nat::Nat;
use vmapp::back::net::nat::host::scripted::{Played, Scripted};
use vmapp::back::net::{Net, Received, Wanted};

const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ROUTER_MAC: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];
const GUEST: [u8; 4] = [10, 0, 2, 15];
const PEERS: [[u8; 4]; 5] = [
    [10, 0, 2, 2],
    [10, 0, 2, 3],
    [10, 0, 2, 9],
    [192, 0, 2, 1],
    [255; 4],
];
const PORTS: [u16; 5] = [53, 67, 80, 4000, 4001];
/// Frames the guest takes between two of its own; a NAT that has more than all queues hold never ends.
const MOST_FRAMES: usize = 100_000;

/// A guest, a host and what the guest last heard of TCP.
struct Fuzzed {
    nat: Nat<Scripted>,
    /// Sequence number and acknowledgement that would be next.
    seq: u32,
    ack: u32,
    seen: DefaultHasher,
}

/// One input.
pub fn nat(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let forwards = [false, true].map(|udp| ForwardSpec { udp, guest_port: 80 });
    let servers = [[198, 51, 100, 1].into(), [198, 51, 100, 2].into()];
    let network = (Ipv4Addr::new(10, 0, 2, 0), 24);
    let nat = Nat::over(
        Scripted::default(),
        network,
        GUEST_MAC,
        &servers,
        forwards.to_vec(),
    );
    let mut fuzzed = Fuzzed {
        nat: nat.expect("a network of ours"),
        seq: 1000,
        ack: 0,
        seen: DefaultHasher::new(),
    };
    while !input.is_empty() {
        fuzzed.step(&mut input);
    }
    fuzzed.listen();
    fuzzed.seen.finish()
}

impl Fuzzed {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 => self.raw(input),
            1 => self.packet(input, 17),
            2 => self.packet(input, 1),
            3..=6 => self.packet(input, 6),
            7 | 8 => self.change(input),
            9 => self.outside(input),
            10 => {
                let time = Duration::from_millis(input.number(2) << (input.byte() % 8));
                self.nat.host().pass(time);
                self.nat.link();
            }
            _ => self.listen(),
        }
        let (tcp, udp) = self.nat.flows();
        assert!(tcp <= 512 && udp <= 256);
    }

    /// Octets as they are.
    fn raw(&mut self, input: &mut Input<'_>) {
        let len = input.number(2) as usize % (MAX_FRAME + 1);
        let frame: Vec<u8> = (0..len.min(80)).map(|_| input.byte()).collect();
        self.send(&[frame, vec![0; len.saturating_sub(80)]].concat());
    }

    /// A packet of a protocol with all sums right, then bent in a place if the input says so.
    fn packet(&mut self, input: &mut Input<'_>, protocol: u8) {
        let to = input.choose(&PEERS);
        let from_port = input.choose(&PORTS);
        let to_port = input.choose(&PORTS);
        let mut body = Vec::new();
        if protocol != 1 {
            body.extend(from_port.to_be_bytes());
            body.extend(to_port.to_be_bytes());
        }
        match protocol {
            6 => self.segment(input, &mut body),
            17 => {
                body.extend([0; 4]);
                body.extend((0..input.byte()).map(|_| input.byte()));
                let len = body.len() as u16;
                body[4..6].copy_from_slice(&len.to_be_bytes());
            }
            _ => {
                body.extend([8, 0, 0, 0]);
                body.extend((0..input.byte() % 32).map(|_| input.byte()));
            }
        }
        let source = if input.byte() == 0 { [0; 4] } else { GUEST };
        let mut frame = wrap(source, to, protocol, &body);
        if input.byte() < 64 {
            let at = usize::from(input.byte()) % frame.len();
            frame[at] = input.byte();
        }
        self.send(&frame);
    }

    /// The rest of a TCP segment, near what a real one would be.
    fn segment(&mut self, input: &mut Input<'_>, body: &mut Vec<u8>) {
        let offset = |input: &mut Input<'_>| match input.byte() {
            code @ 0..=63 => u32::from(code).wrapping_sub(32),
            64 => input.number(4) as u32,
            65..=80 => (input.number(2) as u32).wrapping_mul(7),
            _ => 0,
        };
        let flags = input.choose(&[0x02, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x12, 0x3f]);
        let (seq, ack) = (
            self.seq.wrapping_add(offset(input)),
            self.ack.wrapping_add(offset(input)),
        );
        body.extend(seq.to_be_bytes());
        body.extend(ack.to_be_bytes());
        let options: &[u8] = input.choose(&[&[], &[2, 4, 5, 0xb4, 3, 3, 2, 0], &[2, 4, 0, 1], &[3, 0, 0, 0]]);
        body.extend([(20 + options.len() as u8) << 2, flags]);
        body.extend((input.number(2) as u16).to_be_bytes());
        body.extend([0; 4]);
        body.extend(options);
        let text = usize::from(input.choose(&[0, 1, 100, 1400_u16]));
        body.extend(std::iter::repeat_n(0x5a, text));
        if seq == self.seq {
            let marks = u32::from(flags & 2 != 0) + u32::from(flags & 1 != 0);
            self.seq = seq.wrapping_add(text as u32 + marks);
        }
    }

    fn send(&mut self, frame: &[u8]) {
        format!("{:?}", self.nat.send(frame)).hash(&mut self.seen);
    }

    /// Something happens to a socket of the host, or to all.
    fn change(&mut self, input: &mut Input<'_>) {
        let what = input.byte() % 8;
        let amount = input.number(2) as usize;
        let errno = input.choose(&[
            Errno::ECONNREFUSED,
            Errno::ECONNRESET,
            Errno::EPIPE,
            Errno::EHOSTUNREACH,
            Errno::EMFILE,
        ]);
        let host = self.nat.host();
        match what {
            0 => host.connects = Err(errno),
            1 => host.refuses = amount.is_multiple_of(4).then_some(errno),
            2 => (host.connects, host.refuses) = (Ok(()), None),
            3 => host.room = amount,
            _ => {
                let newest = host.sockets.keys().next_back().copied().unwrap_or(0);
                let number = newest.saturating_sub(u32::from(input.byte() % 4));
                host.change(number, |socket| befall(socket, what, amount, errno));
            }
        }
    }

    /// A client or a datagram from the host.
    fn outside(&mut self, input: &mut Input<'_>) {
        let client = (
            input.choose(&[[127, 0, 0, 1], [198, 51, 100, 7]]),
            input.number(2) as u16,
        )
            .into();
        let host = self.nat.host();
        if input.flag() {
            let waiting = host.clients.entry(0).or_default();
            waiting.push_back(client);
            host.knock(0);
        } else {
            let datagram = vec![1; input.number(2) as usize % 1600];
            let waiting = host.arrived.entry(1).or_default();
            waiting.push_back((datagram, client));
            host.knock(1);
        }
    }

    /// Takes all there is.
    fn listen(&mut self) {
        let mut frame = [0xee; MAX_FRAME];
        for _ in 0..MOST_FRAMES {
            match self.nat.receive(&mut frame) {
                Received::Frame(length) => self.heard(&frame[..length]),
                Received::Dropped => {}
                Received::Nothing
                    if self.nat.interests(Wanted { frames: true }).within == Some(Duration::ZERO) => {}
                Received::Nothing => return,
            }
        }
        panic!("frames without end, or no rest with nothing to give");
    }

    fn heard(&mut self, frame: &[u8]) {
        assert!((60..=1514).contains(&frame.len()), "{} octets", frame.len());
        assert_eq!(frame[6..12], ROUTER_MAC);
        frame.hash(&mut self.seen);
        if frame[12..14] != [8, 0] {
            return;
        }
        assert_eq!((frame[14], sum(&frame[14..34], 0)), (0x45, 0), "a header of ours");
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert!(frame[14 + total..].iter().all(|byte| *byte == 0), "padding");
        if frame[23] == 6 {
            let number =
                |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
            let text = total - 20 - usize::from(frame[46] >> 4) * 4;
            let marks = u32::from(frame[47] & 3 != 0);
            self.ack = number(38).wrapping_add(text as u32 + marks);
        }
    }
}

fn befall(socket: &mut Played, what: u8, amount: usize, errno: Errno) {
    match what {
        4 => socket.input.extend(std::iter::repeat_n(0xa5, amount % 8192)),
        5 => socket.ended = true,
        6 => socket.error = Some(errno),
        _ => {
            socket.room = socket.room.saturating_add(amount);
            // An answer to the last datagram, with its identifier.
            let mut answer = socket.sent.last().cloned().unwrap_or_default();
            if let Some(kind) = answer.first_mut().filter(|kind| **kind == 8) {
                *kind = 0;
            }
            answer.resize(answer.len().max(12).max(amount % 1600), 3);
            socket.datagrams.push_back(answer);
        }
    }
}

/// Ethernet and IPv4 headers, and the sums.
fn wrap(from: [u8; 4], to: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    };
    let pseudo = match protocol {
        1 => 0,
        _ => !sum(&[&from[..], &to[..], &[0, protocol]].concat(), body.len() as u32),
    };
    let check = sum(&body, u32::from(pseudo));
    if let Some(place) = body.get_mut(at..at + 2) {
        place.copy_from_slice(&check.to_be_bytes());
    }
    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0].to_vec();
    header[2..4].copy_from_slice(&(20 + body.len() as u16).to_be_bytes());
    header.extend(from);
    header.extend(to);
    let check = sum(&header, 0);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    [&ROUTER_MAC[..], &GUEST_MAC[..], &[8, 0], &header[..], &body[..]].concat()
}

/// The Internet checksum (RFC 1071), on top of `start`.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut total: u32 = start + words.sum::<u32>();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}
