//! A whole TCP that is not ours, smoltcp's, as the guest; real sockets on 127.0.0.1 as the world; frames lost on the way.

use super::super::Nat;
use crate::back::net::{Net, Received, Wanted};
use nix::poll::{PollFd, PollTimeout, poll};
use shared::msg::handover::ForwardSpec;
use shared::msg::net::MAX_FRAME;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as GuestTime;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 0), 24);
const ROUTER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
/// After so long without the end, something hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// The guest's card: two queues. Frames of up to 1514 octets.
#[derive(Default)]
struct Card {
    in_: VecDeque<Vec<u8>>,
    out: VecDeque<Vec<u8>>,
}

struct In(Vec<u8>);
struct Out<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: GuestTime) -> Option<(In, Out<'_>)> {
        let frame = self.in_.pop_front()?;
        Some((In(frame), Out(&mut self.out)))
    }

    fn transmit(&mut self, _: GuestTime) -> Option<Out<'_>> {
        (self.out.len() < 64).then_some(Out(&mut self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A guest on a network, over a cable that loses every n-th frame either way.
struct Guest {
    nat: Nat,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    begun: Instant,
    loses: u64,
    carried: u64,
}

impl Guest {
    fn new(loses: u64, forwards: Vec<(ForwardSpec, OwnedFd)>) -> Self {
        let nat = Nat::new(NETWORK, MAC, Vec::new(), forwards).unwrap();
        let mut card = Card::default();
        let config = Config::new(EthernetAddress(MAC).into());
        let mut interface = Interface::new(config, &mut card, GuestTime::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(Ipv4Address::new(10, 0, 2, 15).into(), 24))
                .unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(ROUTER).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || SocketBuffer::new(vec![0; 256 << 10]);
        let tcp = sockets.add(Socket::new(buffer(), buffer()));
        Self {
            nat,
            card,
            interface,
            sockets,
            tcp,
            begun: Instant::now(),
            loses,
            carried: 0,
        }
    }

    fn connect(&mut self, port: u16) {
        let socket = self.sockets.get_mut::<Socket>(self.tcp);
        socket
            .connect(self.interface.context(), (ROUTER, port), 49_152)
            .unwrap();
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket>(self.tcp)
    }

    fn lost(&mut self) -> bool {
        self.carried += 1;
        self.loses > 0 && self.carried.is_multiple_of(self.loses)
    }

    /// Moves what there is to move; waits if there was nothing.
    fn turn(&mut self) {
        assert!(self.begun.elapsed() < LIMIT, "hangs: {:?}", self.socket().state());
        let now = GuestTime::from_micros(self.begun.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
        let mut moved = false;
        while let Some(frame) = self.card.out.pop_front() {
            moved = true;
            if !self.lost() {
                self.nat.send(&frame);
            }
        }
        self.nat.link();
        let mut frame = [0; MAX_FRAME];
        // As a card has it: a bounded number of buffers.
        for _ in 0..64 {
            let Received::Frame(length) = self.nat.receive(&mut frame) else {
                break;
            };
            moved = true;
            if !self.lost() {
                self.card.in_.push_back(frame[..length].to_vec());
            }
        }
        if !moved {
            self.wait(now);
        }
    }

    fn wait(&mut self, now: GuestTime) {
        let guest = self.interface.poll_delay(now, &self.sockets);
        let guest = guest.map(|delay| Duration::from_micros(delay.total_micros()));
        let interests = self.nat.interests(Wanted { frames: true });
        let within = [guest, interests.within].into_iter().flatten().min();
        let within = within.unwrap_or(Duration::from_millis(100));
        let mut fds: Vec<PollFd<'_>> = (interests.fds.iter().flatten())
            .map(|interest| PollFd::new(interest.fd, interest.events))
            .collect();
        let milliseconds = within.as_micros().div_ceil(1000) as u16;
        poll(&mut fds, PollTimeout::from(milliseconds)).unwrap();
    }

    /// Sends all of `data`, receives until the other end's end, and closes. Gives what was received.
    fn exchange(&mut self, data: &[u8]) -> Vec<u8> {
        let mut received = Vec::new();
        let mut sent = 0;
        loop {
            self.turn();
            let socket = self.socket();
            while socket.can_send() && sent < data.len() {
                sent += socket.send_slice(&data[sent..]).unwrap();
            }
            if sent == data.len() && socket.may_send() {
                socket.close();
            }
            while socket.can_recv() {
                socket
                    .recv(|octets| {
                        received.extend_from_slice(octets);
                        (octets.len(), ())
                    })
                    .unwrap();
            }
            if matches!(socket.state(), State::TimeWait | State::Closed) {
                return received;
            }
        }
    }
}

/// Octets that repeat with no period a segment or a buffer has.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Sends `data`, ends, and gives what came.
fn peer(mut stream: TcpStream, data: Vec<u8>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut out = stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            out.write_all(&data).unwrap();
            out.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        received
    })
}

fn ten_megabytes_both_ways(loses: u64) {
    let (down, up) = (noise(10 << 20, 1), noise(10 << 20, 2));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let data = down.clone();
    let server = thread::spawn(move || peer(listener.accept().unwrap().0, data).join().unwrap());
    let mut guest = Guest::new(loses, Vec::new());
    guest.connect(port);
    let begun = Instant::now();
    let received = guest.exchange(&up);
    let took = begun.elapsed();
    assert!(
        received == down,
        "{} of {} octets down",
        received.len(),
        down.len()
    );
    assert!(server.join().unwrap() == up, "up");
    println!(
        "10 MiB each way in {took:?}, every {loses}th frame lost of {}",
        guest.carried
    );
}

#[test]
fn ten_megabytes_each_way_at_once_arrive_as_they_were_sent() {
    ten_megabytes_both_ways(0);
}

#[test]
fn ten_megabytes_each_way_survive_the_loss_of_every_97th_frame() {
    ten_megabytes_both_ways(97);
}

/// The peer ends first, reads nothing, and the guest's last octets wait in the host's queue when our socket is closed.
#[test]
fn the_last_octets_before_an_orderly_end_reach_a_peer_that_reads_late() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut guest = Guest::new(0, Vec::new());
    guest.connect(listener.local_addr().unwrap().port());
    while !guest.socket().may_send() {
        guest.turn();
    }
    let (mut peer, _) = listener.accept().unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    while guest.socket().may_recv() {
        guest.turn();
    }
    let up = noise(1 << 20, 5);
    // The guest's last acknowledgement is also when all is said both ways.
    assert!(guest.exchange(&up).is_empty());
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert!(heard == up, "{} of {} octets", heard.len(), up.len());
}

#[test]
fn a_client_of_a_forwarded_port_reaches_the_guest_and_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let spec = ForwardSpec {
        udp: false,
        guest_port: 22,
    };
    let mut guest = Guest::new(41, vec![(spec, listener.into())]);
    guest.socket().listen(22).unwrap();
    let (down, up) = (noise(1 << 20, 3), noise(1 << 20, 4));
    let client = peer(TcpStream::connect(("127.0.0.1", port)).unwrap(), down.clone());
    while !guest.socket().may_send() {
        guest.turn();
    }
    assert_eq!(guest.exchange(&up), down);
    // The guest's last acknowledgement may still be on its way.
    while !client.is_finished() {
        guest.turn();
    }
    assert!(client.join().unwrap() == up);
}
