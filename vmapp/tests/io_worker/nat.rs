//! Connections over a `nat` card when their worker is killed: smoltcp's TCP as the guest, which lives on; real sockets of
//! 127.0.0.1 as its peers, which must not take a cut stream for a whole one.

use super::{LONG, Supervisor, spec};
use shared::msg::handover::{FdRole, ForwardSpec, FromApp, NetBackSpec};
use shared::msg::net::{Down, Up};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as GuestTime;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use vmdriver_shim::channel::Channel;
use vmdriver_shim::handover::Socket as Handover;
use vmdriver_shim::spawn::Child;

const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 0), 24);
const ROUTER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
/// The guest's server.
const PORT: u16 = 22;

/// The guest's card: the net channel, seen from the vmm.
struct Card {
    channel: Channel,
    sent: u64,
}

struct In(Vec<u8>);
struct Out<'a>(&'a mut Card);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        frame.resize(len.max(60), 0);
        self.0.sent += 1;
        let (channel, id) = (&mut self.0.channel, self.0.sent);
        // A frame that finds no room is lost, and sent again.
        if channel.push(Down::Frame as u16, id, &frame).is_ok() {
            channel.flush().unwrap();
        }
        result
    }
}

impl Device for Card {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: GuestTime) -> Option<(In, Out<'_>)> {
        let mut frame = Vec::new();
        loop {
            let header = self.channel.next(&mut frame).unwrap()?;
            self.channel.release(1).unwrap();
            if header.kind == Up::Frame as u16 {
                return Some((In(frame), Out(self)));
            }
        }
    }

    fn transmit(&mut self, _: GuestTime) -> Option<Out<'_>> {
        (self.channel.credit().unwrap() > 0).then_some(Out(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A guest with a client and a server, and the worker on the host's side of its card.
struct Guest {
    supervisor: Supervisor,
    worker: Option<(Child, Handover)>,
    forward: u16,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    client: SocketHandle,
    server: SocketHandle,
    begun: Instant,
}

impl Guest {
    fn new(folder: &tempfile::TempDir) -> Self {
        let mut supervisor = Supervisor::new(folder.path());
        let forward = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = forward.local_addr().unwrap().port();
        let way_in = FdRole::Forward { net: 0, rule: 0 };
        supervisor.fds.push((way_in, OwnedFd::from(forward)));
        let mut card = Card {
            channel: supervisor.channel(spec().net_channel(0)),
            sent: 0,
        };
        let config = Config::new(EthernetAddress(spec().nets[0].mac).into());
        let mut interface = Interface::new(config, &mut card, GuestTime::ZERO);
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(Ipv4Address::new(10, 0, 2, 15).into(), 24);
            addresses.push(own).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(ROUTER).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = || {
            let buffer = || SocketBuffer::new(vec![0; 64 << 10]);
            sockets.add(Socket::new(buffer(), buffer()))
        };
        let (client, server) = (socket(), socket());
        let mut guest = Self {
            supervisor,
            worker: None,
            forward: port,
            card,
            interface,
            sockets,
            client,
            server,
            begun: Instant::now(),
        };
        guest.socket(server).listen(PORT).unwrap();
        guest.next_worker();
        guest
    }

    fn next_worker(&mut self) {
        let forward = ForwardSpec {
            udp: false,
            guest_port: PORT,
        };
        let (child, socket, word) = self.supervisor.start(vec![NetBackSpec::Nat {
            network: NETWORK,
            dns: Vec::new(),
            forwards: vec![forward],
        }]);
        assert_eq!(word, Some(FromApp::Ready));
        self.worker = Some((child, socket));
    }

    /// With SIGKILL, and reaped.
    fn kill_worker(&mut self) {
        self.worker = None;
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket>(handle)
    }

    /// Turns until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            assert!(self.begun.elapsed() < LONG, "in vain: {what}");
            let now = GuestTime::from_micros(self.begun.elapsed().as_micros() as i64);
            self.interface.poll(now, &mut self.card, &mut self.sockets);
            let crossing = self.card.channel.crossing().clone();
            crossing.look();
            crossing.sleep(Some(Duration::from_millis(5)), &[]).unwrap();
        }
    }

    /// Opens a connection to `listener`: the guest's peer.
    fn connect(&mut self, listener: &TcpListener) -> TcpStream {
        let port = listener.local_addr().unwrap().port();
        let socket = self.sockets.get_mut::<Socket>(self.client);
        let to = (ROUTER, port);
        socket.connect(self.interface.context(), to, 49_152).unwrap();
        let client = self.client;
        self.until("a connection", |guest| {
            guest.socket(client).state() == State::Established
        });
        limited(listener.accept().unwrap().0)
    }

    fn say(&mut self, handle: SocketHandle, text: &[u8]) {
        let mut said = 0;
        self.until("room for what the guest says", |guest| {
            let socket = guest.socket(handle);
            if socket.can_send() {
                said += socket.send_slice(&text[said..]).unwrap();
            }
            said == text.len()
        });
        self.until("what the guest said to be taken", |guest| {
            guest.socket(handle).send_queue() == 0
        });
    }
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// Reads what the guest said, and then is told that the connection was cut.
fn is_reset_after(peer: &mut TcpStream, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text);
    let end = peer.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

#[test]
fn peers_of_a_killed_worker_are_reset_and_the_guest_when_it_next_sends() {
    let folder = tempfile::tempdir().unwrap();
    let mut guest = Guest::new(&folder);
    let (client, server) = (guest.client, guest.server);
    let listener = listener();
    let mut server_outside = guest.connect(&listener);
    guest.say(client, b"half an upload");
    let mut client_outside = limited(TcpStream::connect((Ipv4Addr::LOCALHOST, guest.forward)).unwrap());
    guest.until("a client", |guest| {
        guest.socket(server).state() == State::Established
    });
    guest.say(server, b"half a download");
    client_outside.write_all(b"more").unwrap();
    guest.until("a word for the guest", |guest| {
        guest.socket(server).recv_queue() == 4
    });

    guest.kill_worker();
    is_reset_after(&mut server_outside, b"half an upload");
    is_reset_after(&mut client_outside, b"half a download");

    guest.next_worker();
    for handle in [client, server] {
        // One of them may have sent a belated acknowledgement already.
        guest.socket(handle).send_slice(b"the other half").ok();
        guest.until("the guest to be told", |guest| {
            guest.socket(handle).state() == State::Closed
        });
    }
    let listener = self::listener();
    let mut anew = guest.connect(&listener);
    guest.say(client, b"once more");
    let mut heard = [0; 9];
    anew.read_exact(&mut heard).unwrap();
}

/// The end is the guest's own and true, and most of the stream waits in the host's queue.
#[test]
fn a_stream_the_guest_has_ended_reaches_a_slow_peer_whole_though_the_worker_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut guest = Guest::new(&folder);
    let client = guest.client;
    let listener = listener();
    let mut peer = guest.connect(&listener);
    let upload: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 251) as u8).collect();
    guest.say(client, &upload);
    guest.socket(client).close();
    guest.until("the end to be taken", |guest| {
        guest.socket(client).state() == State::FinWait2
    });
    guest.kill_worker();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert!(heard == upload, "{} of {} octets", heard.len(), upload.len());
}
