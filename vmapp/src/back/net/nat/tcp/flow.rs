//! A connection of the guest joined to a socket of the host, and the segments it makes.
//!
//! Octets move in two steps only: from the host's socket into the sender's buffer, from there into a frame; and the same
//! way back. The socket is closed when both streams have ended and the host has taken all; until then it is kept, whatever
//! the guest's side has come to.

use super::super::host::Host;
use super::super::router::Router;
use super::super::wire::{ours, sums};
use super::connection::{Connection, Outgoing, SHIFT, State};
use super::seq::Seq;
use super::{Key, MSS};
use nix::errno::Errno;
use smoltcp::wire::{IpAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr};
use std::time::Duration;

/// How far a flow is.
#[derive(Debug)]
pub enum Stage {
    /// The host's side is being connected; the guest's SYN waits for the answer.
    Connecting {
        /// The last SYN of the guest.
        syn: Box<TcpRepr<'static>>,
        /// Which of the name servers it is, if it is one.
        server: Option<usize>,
    },
    /// Both sides are there.
    Open(Box<Connection>),
}

/// The flow.
#[derive(Debug)]
pub struct Flow<S> {
    /// The host's side, until all is said.
    pub socket: Option<S>,
    /// How far it is.
    pub stage: Stage,
    /// The socket may have octets.
    pub readable: bool,
    /// The socket may take octets.
    pub writable: bool,
    /// It is in the queue of those that may send.
    pub queued: bool,
    /// It is in the list of those with octets for the host.
    pub dirty: bool,
    /// The host's peer was told that the guest's stream ended.
    finished: bool,
    /// The host's peer ended its stream.
    ended: bool,
    /// Last heard of.
    pub used: Duration,
}

impl<S> Flow<S> {
    /// At a stage. The socket is taken for ready until a call on it says otherwise.
    pub fn new(socket: S, stage: Stage, now: Duration) -> Self {
        Self {
            socket: Some(socket),
            stage,
            readable: true,
            writable: true,
            queued: false,
            dirty: false,
            finished: false,
            ended: false,
            used: now,
        }
    }

    /// When the connection has a timer to run.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Open(connection) => connection.deadline(),
            // The host's kernel has its own.
            Stage::Connecting { .. } => None,
        }
    }

    /// Gives the host what it takes of the guest's octets, and the end when all is given.
    pub fn flush<H: Host<Socket = S>>(&mut self, host: &mut H) -> Result<(), Errno> {
        let (Stage::Open(connection), Some(socket)) = (&mut self.stage, &self.socket) else {
            return Ok(());
        };
        while self.writable && connection.held() > 0 {
            match connection.drain(|octets| host.send(socket, octets)) {
                Ok(0) | Err(Errno::EAGAIN) => self.writable = false,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if connection.guest_done() && !self.finished {
            host.finish(socket);
            self.finished = true;
        }
        Ok(())
    }

    /// Takes from the host what the next segments need.
    pub fn fill<H: Host<Socket = S>>(&mut self, host: &mut H, now: Duration) -> Result<(), Errno> {
        let (Stage::Open(connection), Some(socket)) = (&mut self.stage, &self.socket) else {
            return Ok(());
        };
        while self.readable && connection.hungry() {
            match connection.fill(|place| host.recv(socket, place)) {
                Ok(0) => {
                    connection.end_stream();
                    self.ended = true;
                    self.readable = false;
                }
                Ok(_) => self.used = now,
                Err(Errno::EAGAIN) => self.readable = false,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Closes the socket when all is said both ways; what the host's queue still has is sent. True: the flow is over.
    pub fn settle_end(&mut self) -> bool {
        let Stage::Open(connection) = &self.stage else {
            return false;
        };
        let said = matches!(connection.state(), State::TimeWait | State::Closed);
        if said && self.finished && self.ended {
            self.socket = None;
        }
        connection.state() == State::Closed && self.socket.is_none()
    }

    /// The next segment, as a frame.
    pub fn emit<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        now: Duration,
        key: Key,
        into: &mut [u8],
    ) -> Option<usize> {
        let Stage::Open(connection) = &mut self.stage else {
            return None;
        };
        let outgoing = connection.next(now)?;
        Some(frame(router, key, connection, &outgoing, into))
    }
}

fn frame<H: Host>(
    router: &Router<H>,
    key: Key,
    connection: &mut Connection,
    outgoing: &Outgoing,
    into: &mut [u8],
) -> usize {
    let piece = outgoing.piece;
    let mut repr = empty(key, piece.seq, outgoing.ack);
    repr.window_len = outgoing.window;
    if piece.syn {
        repr.control = TcpControl::Syn;
        repr.max_seg_size = Some(MSS as u16);
        repr.window_scale = connection.offers_scaling().then_some(SHIFT);
    } else if piece.fin {
        repr.control = TcpControl::Fin;
    } else if (1..MSS).contains(&piece.len) {
        repr.control = TcpControl::Psh;
    }
    let header = repr.header_len();
    let head = ours(
        *key.1.ip(),
        router.plan.guest(),
        IpProtocol::Tcp,
        header + piece.len,
    );
    let (from, to) = (IpAddress::Ipv4(head.src_addr), IpAddress::Ipv4(head.dst_addr));
    router.cable.ipv4(into, &head, |body| {
        connection.copy(&piece, body.get_mut(header..).unwrap_or_default());
        repr.emit(&mut TcpPacket::new_unchecked(body), &from, &to, &sums());
    })
}

fn empty(key: Key, seq: Seq, ack: Option<Seq>) -> TcpRepr<'static> {
    TcpRepr {
        src_port: key.1.port(),
        dst_port: key.0,
        control: TcpControl::None,
        seq_number: seq.into(),
        ack_number: ack.map(Into::into),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// A copy of a segment's header.
pub fn without_text(segment: &TcpRepr<'_>) -> Box<TcpRepr<'static>> {
    Box::new(TcpRepr {
        src_port: segment.src_port,
        dst_port: segment.dst_port,
        control: segment.control,
        seq_number: segment.seq_number,
        ack_number: segment.ack_number,
        window_len: segment.window_len,
        window_scale: segment.window_scale,
        max_seg_size: segment.max_seg_size,
        sack_permitted: segment.sack_permitted,
        sack_ranges: segment.sack_ranges,
        timestamp: segment.timestamp,
        payload: &[],
    })
}

/// Queues a reset for the guest.
pub fn frame_reset<H: Host>(router: &mut Router<H>, key: Key, seq: Seq, ack: Option<Seq>) {
    let mut repr = empty(key, seq, ack);
    repr.control = TcpControl::Rst;
    let head = ours(
        *key.1.ip(),
        router.plan.guest(),
        IpProtocol::Tcp,
        repr.header_len(),
    );
    let (from, to) = (IpAddress::Ipv4(head.src_addr), IpAddress::Ipv4(head.dst_addr));
    router.answer(&head, |body| {
        repr.emit(&mut TcpPacket::new_unchecked(body), &from, &to, &sums());
    });
}

/// Answers a segment of no connection with a reset (RFC 9293, 3.10.7.1); a reset with nothing.
pub fn refuse_segment<H: Host>(router: &mut Router<H>, key: Key, segment: &TcpRepr<'_>) {
    if segment.control == TcpControl::Rst {
        return;
    }
    match segment.ack_number {
        Some(ack) => frame_reset(router, key, ack.into(), None),
        None => {
            let after = Seq::from(segment.seq_number).plus(segment.segment_len());
            frame_reset(router, key, Seq(0), Some(after));
        }
    }
}
