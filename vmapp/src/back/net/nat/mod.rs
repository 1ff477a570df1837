//! `backend = "nat"`: a private network for one guest, with a router that translates to sockets of the host, as QEMU's user
//! network and VMware's NAT service do. It needs no privilege, no device and no set-up on the host.
//!
//! The I/O worker drives it through [`Net`]. It must never block, never hold more than its tables allow, and never believe a
//! length, an address or a checksum of the guest.
//!
//! With the default network 10.0.2.0/24 the guest gets 10.0.2.15 by DHCP; 10.0.2.2 is the router and 10.0.2.3 the name server.
//! **A connection to the router's address reaches the host's own loopback**, as in QEMU: what listens on 127.0.0.1 of
//! the host only is open to the guest at 10.0.2.2. A router passes on no broadcast, multicast, loopback or link-local
//! destination, and only packets from the guest's lease. IP fragments are dropped and counted, in both directions: TCP
//! never makes any, and datagrams above 1472 octets are few.
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | the addresses |
//! | `wire`, `outbox` | frames in and out |
//! | `router` | what the services share |
//! | `arp`, `dhcp`, `dns`, `echo`, `udp`, `tcp` | the services |
//! | `table`, `flows`, [`tally`] | bounded tables, flows that end when idle, counted losses |
//! | [`host`] | sockets and clock, real or played |
//!
//! | table | most | when full |
//! |---|---|---|
//! | TCP connections | 512, 256 KiB of buffers each | TIME-WAIT, stale handshakes, then idle ones give way; else no answer |
//! | UDP flows | 256 | the one idle for longest gives way; all end after 2 idle minutes |
//! | DNS questions | 64 | the oldest is dropped; all end with an answer or SERVFAIL |
//! | echo flows | 16 | the one idle for longest gives way |
//! | answers waiting for the card | 64 | lost, counted |

mod arp;
mod dhcp;
mod dns;
mod echo;
mod flows;
pub mod host;
mod outbox;
mod plan;
mod router;
mod table;
pub mod tally;
mod tcp;
mod udp;
mod wire;

#[cfg(test)]
mod tests;

use super::{Net, Received, Sent, Wanted};
use crate::back::{Interest, Interests};
use dns::Dns;
use echo::Echo;
use host::sockets::Sockets;
use host::{EVENTS, Event, Host, Token};
use nix::poll::PollFlags;
use outbox::Outbox;
use plan::{Plan, Towards};
use router::{Router, quote};
use shared::msg::handover::ForwardSpec;
use smoltcp::wire::{
    EthernetAddress, Icmpv4DstUnreachable as Unreachable, IpAddress, IpProtocol, UdpPacket, UdpRepr,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tally::{Loss, Tally};
use tcp::Tcp;
use udp::Udp;
use wire::{Cable, Frame, Packet, sums};

/// Most sockets of the host's it holds at once, clients and the epoll descriptor included.
pub const MOST_SOCKETS: u64 =
    tcp::FLOWS as u64 + udp::FLOWS as u64 + dns::QUESTIONS as u64 + echo::FLOWS as u64 + 64;
/// Most memory it takes, in bytes: both buffers of every connection, and as much again as a quarter of that for the rest.
pub const MOST_BYTES: u64 = tcp::FLOWS as u64 * 2 * tcp::BUFFER as u64 / 4 * 5;

/// Most batches of events taken in one turn.
const BATCHES: usize = 4;

/// The network.
pub struct Nat<H: Host = Sockets> {
    router: Router<H>,
    tcp: Tcp<H::Socket>,
    udp: Udp<H::Socket>,
    dns: Dns<H::Socket>,
    echo: Echo<H::Socket>,
    forwards: Vec<ForwardSpec>,
    /// Which service gives the next frame: they take turns.
    next: usize,
    events: Vec<Event>,
}

impl Nat {
    /// The network `network` (address and prefix length, 8 to 27), for a guest whose card has the address `guest_mac`.
    /// `dns` are the host's name servers in order, `forwards` the ways in with their bound sockets, which listen if
    /// they are TCP.
    ///
    /// # Errors
    /// A prefix out of range; no epoll descriptor, or a socket it does not take.
    pub fn new(
        network: (Ipv4Addr, u8),
        guest_mac: [u8; 6],
        dns: Vec<IpAddr>,
        forwards: Vec<(ForwardSpec, OwnedFd)>,
    ) -> io::Result<Self> {
        let (specs, fds): (Vec<ForwardSpec>, Vec<OwnedFd>) = forwards.into_iter().unzip();
        let sockets = Sockets::new(specs.iter().map(|spec| spec.udp).zip(fds).collect())?;
        Self::over(sockets, network, guest_mac, &dns, specs)
    }
}

impl<H: Host> Nat<H> {
    /// The same over a host of choice, which has the sockets of the rules.
    ///
    /// # Errors
    /// A prefix out of range.
    pub fn over(
        mut host: H,
        network: (Ipv4Addr, u8),
        guest_mac: [u8; 6],
        dns: &[IpAddr],
        forwards: Vec<ForwardSpec>,
    ) -> io::Result<Self> {
        let plan = Plan::new(network.0, network.1)?;
        let [a, b, c, d] = plan.router().octets();
        let secret = host.secret();
        let dns = Dns::new(dns);
        Ok(Self {
            router: Router {
                host,
                plan,
                cable: Cable {
                    // Locally administered, with the address in it, as QEMU's.
                    router: EthernetAddress([0x52, 0x55, a, b, c, d]),
                    guest: EthernetAddress(guest_mac),
                },
                outbox: Outbox::new(),
                tally: Tally::default(),
                trouble: None,
            },
            tcp: Tcp::new(secret, dns.servers()),
            udp: Udp::new(),
            dns,
            echo: Echo::new(),
            forwards,
            next: 0,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Losses by reason.
    pub fn tally(&self) -> &Tally {
        &self.router.tally
    }

    /// The host underneath.
    pub fn host(&mut self) -> &mut H {
        &mut self.router.host
    }

    /// How many TCP connections and UDP flows there are.
    pub fn flows(&self) -> (usize, usize) {
        (self.tcp.len(), self.udp.len())
    }

    /// Takes what happened on the host, runs timers, writes what waits: once a turn, and when there is nothing to give.
    fn turn(&mut self) {
        self.tcp.settle(&mut self.router);
        for _ in 0..BATCHES {
            let mut events = std::mem::take(&mut self.events);
            self.router.host.events(&mut events);
            let more = events.len() == EVENTS;
            for event in events.drain(..) {
                self.event(event);
            }
            self.events = events;
            if !more {
                break;
            }
        }
        self.tcp.accept(&mut self.router, &self.forwards);
        let now = self.router.now();
        self.tcp.expire(&mut self.router);
        self.dns.expire(&mut self.router);
        self.udp.expire(now);
        self.echo.expire(now);
    }

    fn event(&mut self, event: Event) {
        let Event {
            token,
            readable,
            writable,
        } = event;
        match token {
            Token::Tcp(id) => self.tcp.event(&mut self.router, id, readable, writable),
            Token::Udp(id) if readable => self.udp.event(id),
            Token::Dns(id) if readable => self.dns.event(id),
            Token::Echo(id) if readable => self.echo.event(id),
            Token::Udp(_) | Token::Dns(_) | Token::Echo(_) => {}
            Token::Rule(rule) => match self.forwards.get(usize::from(rule)) {
                Some(ForwardSpec { udp: true, .. }) => self.udp.rule_event(rule),
                Some(_) => self.tcp.rule_event(rule),
                None => {}
            },
        }
    }

    fn is_ready(&self) -> bool {
        !self.router.outbox.is_empty()
            || self.tcp.is_ready()
            || self.udp.is_ready()
            || self.dns.is_ready()
            || self.echo.is_ready()
    }

    /// A frame of the service whose turn it is, or of one after it.
    fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        if let Some(length) = self.router.outbox.pop(into) {
            return Some(length);
        }
        for _ in 0..4 {
            self.next = (self.next + 1) % 4;
            let length = match self.next {
                0 => self.tcp.emit(&mut self.router, into),
                1 => self.udp.incoming(&mut self.router, &self.forwards, into),
                2 => self.dns.incoming(&mut self.router, into),
                _ => self.echo.incoming(&mut self.router, into),
            };
            if length.is_some() {
                return length;
            }
        }
        self.router.outbox.pop(into)
    }

    fn ipv4(&mut self, packet: &Packet<'_>) -> Sent {
        let (from, to) = (packet.head.src_addr, packet.head.dst_addr);
        let towards = self.router.plan.towards(to);
        if packet.head.next_header == IpProtocol::Udp {
            // Before it has a lease, a guest has no address.
            return self.datagram(packet, towards);
        }
        if let Some(sent) = self.not_routed(packet, towards) {
            return sent;
        }
        debug_assert_eq!(from, self.router.plan.guest());
        match packet.head.next_header {
            IpProtocol::Tcp => self.tcp.segment(&mut self.router, packet),
            IpProtocol::Icmp => self.echo.outgoing(&mut self.router, packet, towards),
            protocol => {
                let reason = Unreachable::ProtoUnreachable;
                self.router.unreachable(reason, to, protocol, &quote(packet.body));
                self.router.tally.add(Loss::Protocol);
                Sent::Dropped
            }
        }
    }

    /// What no router passes on.
    fn not_routed(&mut self, packet: &Packet<'_>, towards: Towards) -> Option<Sent> {
        let router = &mut self.router;
        if packet.head.src_addr != router.plan.guest() {
            router.tally.add(Loss::Source);
        } else if towards == Towards::Nowhere {
            router.tally.add(Loss::Unroutable);
        } else if matches!(towards, Towards::Beyond(_)) && packet.head.hop_limit <= 1 {
            router.expired(packet);
            router.tally.add(Loss::Unroutable);
        } else {
            return None;
        }
        Some(Sent::Dropped)
    }

    fn datagram(&mut self, packet: &Packet<'_>, towards: Towards) -> Sent {
        let (from, to) = (packet.head.src_addr, packet.head.dst_addr);
        let parsed = UdpPacket::new_checked(packet.body).ok().and_then(|datagram| {
            let ports =
                UdpRepr::parse(&datagram, &IpAddress::Ipv4(from), &IpAddress::Ipv4(to), &sums()).ok()?;
            Some((ports, datagram.payload()))
        });
        let Some((ports, payload)) = parsed else {
            self.router.tally.add(Loss::Malformed);
            return Sent::Dropped;
        };
        let to_server = to == Ipv4Addr::BROADCAST || towards == Towards::Router;
        let client = from.is_unspecified() || from == self.router.plan.guest();
        if ports.dst_port == dhcp::SERVER && to_server && client {
            return dhcp::dhcp(&mut self.router, payload);
        }
        if let Some(sent) = self.not_routed(packet, towards) {
            return sent;
        }
        let key = (ports.src_port, SocketAddrV4::new(to, ports.dst_port));
        let to = match towards {
            Towards::Dns if ports.dst_port == dns::PORT => {
                return self.dns.ask(&mut self.router, ports.src_port, payload);
            }
            Towards::Router => Ipv4Addr::LOCALHOST,
            Towards::Beyond(to) => to,
            Towards::Dns | Towards::Nobody | Towards::Nowhere => {
                let reason = match towards {
                    Towards::Dns => Unreachable::PortUnreachable,
                    _ => Unreachable::HostUnreachable,
                };
                self.router
                    .unreachable(reason, to, IpProtocol::Udp, &quote(packet.body));
                return Sent::Dropped;
            }
        };
        self.udp.outgoing(
            &mut self.router,
            key,
            SocketAddr::from((to, ports.dst_port)),
            payload,
        )
    }
}

impl<H: Host> Net for Nat<H> {
    fn send(&mut self, frame: &[u8]) -> Sent {
        match self.router.cable.open(frame) {
            Ok(Frame::Arp(bytes)) => arp::arp(&mut self.router, bytes),
            Ok(Frame::Ipv4(packet)) => self.ipv4(&packet),
            Err(loss) => {
                self.router.tally.add(loss);
                Sent::Dropped
            }
        }
    }

    fn receive(&mut self, into: &mut [u8]) -> Received {
        self.tcp.settle(&mut self.router);
        let mut length = self.pop(into);
        if length.is_none() {
            self.turn();
            length = self.pop(into);
        }
        match length {
            Some(0) => Received::Dropped,
            Some(length) => Received::Frame(length),
            None => Received::Nothing,
        }
    }

    /// Always in: the network is here as long as the worker is.
    fn link(&mut self) -> bool {
        self.turn();
        true
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let now = self.router.now();
        let timers = [
            self.tcp.deadline(),
            self.dns.deadline(),
            self.udp.deadline(),
            self.echo.deadline(),
        ];
        let timer = timers.into_iter().flatten().min();
        let busy = self.tcp.is_dirty() || wanted.frames && self.is_ready();
        let within = if busy {
            Some(Duration::ZERO)
        } else {
            timer.map(|at| at.saturating_sub(now))
        };
        let events = self.router.host.descriptor().map(|fd| Interest {
            fd,
            events: PollFlags::POLLIN,
        });
        Interests {
            fds: [events, None],
            within,
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.router.trouble.take()
    }
}
