//! How flows begin: a SYN of the guest becomes a connection of the host and is answered with its outcome; a client of a
//! forward rule becomes a SYN to the guest. And which flow gives way when the table is full.

use super::super::dns;
use super::super::host::{Host, Token};
use super::super::plan::Towards;
use super::super::router::{Router, quote_ports};
use super::super::table::Id;
use super::super::tally::Loss;
use super::connection::{Connection, State};
use super::flow::{Flow, Stage, frame_reset, without_text};
use super::seq::Seq;
use super::{Key, Tcp};
use crate::back::net::Sent;
use nix::errno::Errno;
use shared::msg::handover::ForwardSpec;
use smoltcp::wire::{Icmpv4DstUnreachable as Unreachable, IpProtocol, TcpRepr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Clients accepted in one turn.
const ACCEPTS: usize = 16;
/// Ports tried for a client whose own is taken.
const OTHER_PORTS: u16 = 16;
/// In a full table a handshake of this age gives way,
const STALE_HANDSHAKE: Duration = Duration::from_secs(10);
/// and after those an open connection idle for so long.
const STALE_OPEN: Duration = Duration::from_secs(300);

impl<S> Tcp<S> {
    /// Takes a SYN of the guest.
    pub(super) fn open<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        key: Key,
        syn: &TcpRepr<'_>,
    ) -> Sent {
        let (address, port) = (*key.1.ip(), key.1.port());
        let (to, server) = match router.plan.towards(address) {
            Towards::Router => (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None),
            Towards::Beyond(address) => (SocketAddr::from((address, port)), None),
            Towards::Dns if port == dns::PORT => match self.servers.first() {
                Some(&first) => (first, Some(0)),
                None => return self.refuse(router, key, syn, Errno::ECONNREFUSED),
            },
            Towards::Dns => return self.refuse(router, key, syn, Errno::ECONNREFUSED),
            Towards::Nobody => return self.refuse(router, key, syn, Errno::EHOSTUNREACH),
            Towards::Nowhere => {
                router.tally.add(Loss::Unroutable);
                return Sent::Dropped;
            }
        };
        if !self.make_room(router) {
            // No answer: the guest tries again by itself, and there may be room then.
            router.tally.add(Loss::Full);
            return Sent::Dropped;
        }
        match self.connect(router, to, server) {
            Ok((socket, server)) => {
                let syn = without_text(syn);
                self.insert(router, key, socket, Stage::Connecting { syn, server });
                Sent::Out
            }
            Err(errno) => self.refuse(router, key, syn, errno),
        }
    }

    /// Begins to connect; of name servers, the first from `server` on that does not refuse at once.
    fn connect<H: Host<Socket = S>>(
        &self,
        router: &mut Router<H>,
        to: SocketAddr,
        server: Option<usize>,
    ) -> Result<(S, Option<usize>), Errno> {
        let Some(first) = server else {
            return router.host.connect(to).map(|socket| (socket, None));
        };
        let mut result = Err(Errno::ECONNREFUSED);
        for (number, &server) in self.servers.iter().enumerate().skip(first) {
            result = router.host.connect(server).map(|socket| (socket, Some(number)));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn insert<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        key: Key,
        socket: S,
        stage: Stage,
    ) -> Option<Id> {
        let flow = Flow::new(socket, stage, router.now());
        let id = self.flows.insert(key, flow).ok()?;
        self.watch(router, id).then_some(id)
    }

    /// Has the host tell of a flow's socket. False: it cannot, and the flow is gone.
    fn watch<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id) -> bool {
        let Some((
            _,
            Flow {
                socket: Some(socket), ..
            },
        )) = self.flows.get(id)
        else {
            return false;
        };
        if router.host.watch(socket, Token::Tcp(id)).is_ok() {
            return true;
        }
        router.tally.add(Loss::Host);
        self.drop_flow(router, id);
        false
    }

    /// The host's side of a flow is connected, or is not.
    pub(super) fn connected<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id) {
        let Some((key, flow)) = self.flows.get(id) else {
            return;
        };
        let (Stage::Connecting { syn, server }, Some(socket)) = (&flow.stage, &flow.socket) else {
            return;
        };
        let Err(errno) = router.host.outcome(socket) else {
            let first = first_number(self.secret, router, key);
            let connection = Connection::answer(first, syn);
            flow.stage = Stage::Open(Box::new(connection));
            return self.touch(id);
        };
        let (syn, next) = (without_text(syn), server.map(|server| server + 1));
        let nowhere = SocketAddr::from(([0; 4], 0));
        let again = next.and_then(|next| self.connect(router, nowhere, Some(next)).ok());
        match (again, self.flows.get(id)) {
            (Some((socket, server)), Some((_, flow))) => {
                flow.socket = Some(socket);
                flow.stage = Stage::Connecting { syn, server };
                self.watch(router, id);
            }
            _ => {
                self.flows.remove(id);
                self.refuse(router, key, &syn, errno);
            }
        }
    }

    /// Tells the guest why there is no connection.
    fn refuse<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        key: Key,
        syn: &TcpRepr<'_>,
        errno: Errno,
    ) -> Sent {
        let reason = match errno {
            Errno::ENETUNREACH => Unreachable::NetUnreachable,
            Errno::EHOSTUNREACH | Errno::ETIMEDOUT => Unreachable::HostUnreachable,
            Errno::EACCES | Errno::EPERM => Unreachable::CommProhibited,
            _ => {
                let after = Seq::from(syn.seq_number).plus(1);
                frame_reset(router, key, Seq(0), Some(after));
                return Sent::Out;
            }
        };
        let quote = quote_ports(key.0, key.1.port(), Seq::from(syn.seq_number).0);
        router.unreachable(reason, *key.1.ip(), IpProtocol::Tcp, &quote);
        Sent::Out
    }

    /// Takes the clients of forward rules, as long as there is room for them.
    pub fn accept<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, forwards: &[ForwardSpec]) {
        for _ in 0..ACCEPTS {
            let Some(&rule) = self.rules.front() else {
                return;
            };
            if !self.make_room(router) {
                // They wait in the host's queue.
                return;
            }
            let (socket, client) = match router.host.accept(rule) {
                Ok(accepted) => accepted,
                Err(Errno::EAGAIN) => {
                    self.rules.pop_front();
                    continue;
                }
                // A client that went again, or no descriptors left: they wait in the host's queue for the next turn.
                Err(_) => return,
            };
            self.rules.rotate_left(1);
            let Some(spec) = forwards.get(usize::from(rule)) else {
                continue;
            };
            let Some(key) = self.client_key(router, spec.guest_port, client) else {
                router.tally.add(Loss::Full);
                router.host.abort(socket);
                continue;
            };
            let connection = Connection::ask(first_number(self.secret, router, key));
            if let Some(id) = self.insert(router, key, socket, Stage::Open(Box::new(connection))) {
                self.touch(id);
            }
        }
    }

    /// What the guest sees of a client: its own address and port, or where that is taken another port.
    fn client_key<H: Host>(&self, router: &Router<H>, guest_port: u16, client: SocketAddr) -> Option<Key> {
        let address = router.plan.seen_by_guest(&client);
        (0..OTHER_PORTS)
            .map(|step| client.port().wrapping_add(step.wrapping_mul(4099)).max(1))
            .map(|port| (guest_port, SocketAddrV4::new(address, port)))
            .find(|key| !self.flows.contains(key))
    }

    /// Makes sure that one more fits: the oldest in TIME-WAIT gives way, then the oldest stale handshake, then the
    /// connection idle for longest. False: all are in use.
    fn make_room<H: Host<Socket = S>>(&mut self, router: &mut Router<H>) -> bool {
        if !self.flows.is_full() {
            return true;
        }
        let now = router.now();
        let claim = |flow: &Flow<S>| {
            let idle = now.saturating_sub(flow.used);
            match &flow.stage {
                Stage::Open(_) if flow.socket.is_none() => Some((0, flow.used)),
                Stage::Connecting { .. } => (idle >= STALE_HANDSHAKE).then_some((1, flow.used)),
                Stage::Open(connection) => match connection.state() {
                    State::SynSent | State::SynReceived => {
                        (idle >= STALE_HANDSHAKE).then_some((1, flow.used))
                    }
                    _ => (idle >= STALE_OPEN).then_some((2, flow.used)),
                },
            }
        };
        let least = self
            .flows
            .iter()
            .filter_map(|(id, _, flow)| Some((claim(flow)?, id)));
        let Some((_, id)) = least.min_by_key(|(claim, _)| *claim) else {
            return false;
        };
        router.tally.add(Loss::Evicted);
        self.give_up(router, id);
        true
    }
}

/// The number of our SYN (RFC 6528): a secret function of the connection, and a clock of 4 microseconds.
fn first_number<H: Host>(secret: u64, router: &Router<H>, key: Key) -> Seq {
    let mut hasher = DefaultHasher::new();
    (secret, key).hash(&mut hasher);
    let clock = router.now().as_micros() / 4;
    Seq((hasher.finish() as u32).wrapping_add(clock as u32))
}
