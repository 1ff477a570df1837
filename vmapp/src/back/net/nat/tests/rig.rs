//! A guest made by hand, on a network over a played host.

use super::super::Nat;
use super::super::host::scripted::Scripted;
use super::super::wire::{Cable, Line, ours, sums};
use crate::back::net::{Net, Received, Sent};
use shared::msg::handover::ForwardSpec;
use shared::msg::net::MAX_FRAME;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol, Ipv4Packet,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
pub const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const SERVERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
];

pub struct Rig {
    pub nat: Nat<Scripted>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Vec::new())
    }

    pub fn with(forwards: Vec<ForwardSpec>) -> Self {
        let network = (Ipv4Addr::new(10, 0, 2, 0), 24);
        let nat = Nat::over(Scripted::default(), network, MAC, &SERVERS, forwards).unwrap();
        Self { nat }
    }

    pub fn host(&mut self) -> &mut Scripted {
        self.nat.host()
    }

    pub fn send(&mut self, frame: &[u8]) -> Sent {
        self.nat.send(frame)
    }

    /// Everything there is for the guest now.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = [0xee; MAX_FRAME];
        for _ in 0..10_000 {
            match self.nat.receive(&mut frame) {
                Received::Frame(length) => frames.push(frame[..length].to_vec()),
                Received::Dropped => {}
                Received::Nothing => return frames,
            }
        }
        panic!("frames without end");
    }

    /// Sends, and gives what came back.
    pub fn ask(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.send(frame);
        self.frames()
    }

    pub fn pass(&mut self, time: Duration) {
        self.host().pass(time);
        self.nat.link();
    }

    /// The socket opened last.
    pub fn newest(&mut self) -> u32 {
        *self.host().sockets.keys().next_back().expect("a socket")
    }
}

fn cable() -> Cable {
    // Seen from the guest: the frames made are its own.
    Cable {
        router: EthernetAddress(MAC),
        guest: EthernetAddress([0x52, 0x55, 10, 0, 2, 2]),
    }
}

/// A frame of the guest around an IPv4 payload.
pub fn ipv4(to: Ipv4Addr, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
    from(GUEST, to, protocol, body)
}

pub fn from(from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; MAX_FRAME];
    let head = ours(from, to, protocol, body.len());
    let length = cable().ipv4(&mut frame, &head, |place| place.copy_from_slice(body));
    frame.truncate(length);
    frame
}

pub fn udp(from_port: u16, to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    udp_from(GUEST, from_port, to, payload)
}

pub fn udp_from(from: Ipv4Addr, from_port: u16, to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; MAX_FRAME];
    let (to, to_port) = to;
    let line = Line {
        from,
        from_port,
        to,
        to_port,
    };
    let length = cable().udp(&mut frame, &line, payload.len(), |place| {
        place.copy_from_slice(payload);
    });
    frame.truncate(length);
    frame
}

/// An ICMP echo request.
pub fn ping(to: Ipv4Addr, ident: u16, seq: u16, data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8 + data.len()];
    body[8..].copy_from_slice(data);
    let mut packet = Icmpv4Packet::new_unchecked(&mut body);
    packet.set_msg_type(Icmpv4Message::EchoRequest);
    packet.set_msg_code(0);
    packet.set_echo_ident(ident);
    packet.set_echo_seq_no(seq);
    packet.fill_checksum();
    ipv4(to, IpProtocol::Icmp, &body)
}

/// A packet for the guest, taken apart; its headers and checksums are right or it panics.
#[derive(Debug)]
pub struct Got {
    pub from: Ipv4Addr,
    pub protocol: IpProtocol,
    pub body: Vec<u8>,
}

pub fn open(frame: &[u8]) -> Got {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    assert!(frame.len() >= 60 && frame.len() <= 1514);
    let packet = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    assert!(packet.verify_checksum());
    let padding = &ethernet.payload()[usize::from(packet.total_len())..];
    assert!(
        padding.iter().all(|byte| *byte == 0),
        "what the buffer held before"
    );
    Got {
        from: packet.src_addr(),
        protocol: packet.next_header(),
        body: packet.payload().to_vec(),
    }
}

/// Source, ports and payload of a datagram for the guest.
pub fn open_udp(frame: &[u8]) -> (Ipv4Addr, u16, u16, Vec<u8>) {
    let got = open(frame);
    let packet = UdpPacket::new_checked(&got.body[..]).unwrap();
    let to = Ipv4Packet::new_unchecked(&frame[14..]).dst_addr();
    assert!(packet.verify_checksum(&IpAddress::Ipv4(got.from), &IpAddress::Ipv4(to)));
    (
        got.from,
        packet.src_port(),
        packet.dst_port(),
        packet.payload().to_vec(),
    )
}

/// Type, code and what follows the header of an ICMP message for the guest.
pub fn open_icmp(frame: &[u8]) -> (u8, u8, Vec<u8>) {
    let got = open(frame);
    assert_eq!(got.protocol, IpProtocol::Icmp);
    assert!(
        Icmpv4Packet::new_checked(&got.body[..])
            .unwrap()
            .verify_checksum()
    );
    (got.body[0], got.body[1], got.body[4..].to_vec())
}

/// A segment either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub control: TcpControl,
    pub seq: u32,
    pub ack: Option<u32>,
    pub window: u16,
    pub scale: Option<u8>,
    pub mss: Option<u16>,
    pub text: Vec<u8>,
}

pub fn open_tcp(frame: &[u8]) -> Segment {
    let got = open(frame);
    assert_eq!(got.protocol, IpProtocol::Tcp);
    let packet = TcpPacket::new_checked(&got.body[..]).unwrap();
    let repr = TcpRepr::parse(
        &packet,
        &IpAddress::Ipv4(got.from),
        &IpAddress::Ipv4(GUEST),
        &sums(),
    )
    .unwrap();
    Segment {
        control: repr.control,
        seq: repr.seq_number.0 as u32,
        ack: repr.ack_number.map(|ack| ack.0 as u32),
        window: repr.window_len,
        scale: repr.window_scale,
        mss: repr.max_seg_size,
        text: repr.payload.to_vec(),
    }
}

/// One end of a connection in the guest that does only what it is told.
pub struct Peer {
    pub port: u16,
    pub to: (Ipv4Addr, u16),
    /// Next number to send.
    pub seq: u32,
    /// Next number expected.
    pub ack: u32,
    pub window: u16,
    /// Shift of the window the guest offers, if it offers scaling.
    pub scale: Option<u8>,
}

impl Peer {
    pub fn new(port: u16, to: (Ipv4Addr, u16)) -> Self {
        Self {
            port,
            to,
            seq: 1000,
            ack: 0,
            window: 65_535,
            scale: Some(0),
        }
    }

    /// A frame with these marks at `seq`.
    pub fn frame(&self, control: TcpControl, seq: u32, ack: Option<u32>, text: &[u8]) -> Vec<u8> {
        let syn = control == TcpControl::Syn;
        let repr = TcpRepr {
            src_port: self.port,
            dst_port: self.to.1,
            control,
            seq_number: TcpSeqNumber(seq as i32),
            ack_number: ack.map(|ack| TcpSeqNumber(ack as i32)),
            window_len: self.window,
            window_scale: self.scale.filter(|_| syn),
            max_seg_size: syn.then_some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: text,
        };
        let mut body = vec![0; repr.buffer_len()];
        let (from, to) = (IpAddress::Ipv4(GUEST), IpAddress::Ipv4(self.to.0));
        repr.emit(&mut TcpPacket::new_unchecked(&mut body), &from, &to, &sums());
        ipv4(self.to.0, IpProtocol::Tcp, &body)
    }

    /// Sends text or a mark in order.
    pub fn say(&mut self, rig: &mut Rig, control: TcpControl, text: &[u8]) {
        let frame = self.frame(control, self.seq, Some(self.ack), text);
        rig.send(&frame);
        self.seq = self.seq.wrapping_add((text.len() + control.len()) as u32);
    }

    /// Acknowledges what was heard.
    pub fn acknowledge(&mut self, rig: &mut Rig) {
        self.say(rig, TcpControl::None, b"");
    }

    /// What there is from the network; text and marks in order move `ack`.
    pub fn hear(&mut self, rig: &mut Rig) -> Vec<Segment> {
        let heard: Vec<Segment> = rig.frames().iter().map(|frame| open_tcp(frame)).collect();
        for segment in &heard {
            if segment.seq == self.ack {
                let len = segment.text.len() + segment.control.len();
                self.ack = self.ack.wrapping_add(len as u32);
            }
        }
        heard
    }

    /// Opens a connection; gives the SYN's answer and the socket of the host.
    pub fn connect(&mut self, rig: &mut Rig) -> (Segment, u32) {
        let frame = self.frame(TcpControl::Syn, self.seq, None, b"");
        rig.send(&frame);
        self.seq += 1;
        let socket = rig.newest();
        rig.host().change(socket, |_| {});
        let heard: Vec<Segment> = rig.frames().iter().map(|frame| open_tcp(frame)).collect();
        let [answer] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert_eq!((answer.control, answer.ack), (TcpControl::Syn, Some(self.seq)));
        self.ack = answer.seq.wrapping_add(1);
        self.acknowledge(rig);
        assert_eq!(rig.frames().len(), 0);
        (answer.clone(), socket)
    }
}

/// Where the IPv4 header and its payload begin in a frame.
pub const IP: usize = 14;
pub const BODY: usize = 34;
