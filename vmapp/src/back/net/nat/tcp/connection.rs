//! One TCP connection towards the guest: the state machine of RFC 9293, 3.10, over a [`Sender`] and a [`Receiver`].
//!
//! Pure: segments, octets and the time come in, segments and octets go out. The flow that owns it ([`super::flows`])
//! joins it to a socket of the host. The blind attacks of RFC 5961 are answered as it says, with challenge acknowledgements.

use super::receive::Receiver;
use super::send::{Acked, Heard, Piece, Sender};
use super::seq::Seq;
use super::{BUFFER, MSS};
use smoltcp::wire::{TcpControl, TcpRepr};
use std::time::Duration;

/// Shift of the windows offered: the buffer must be expressible.
pub const SHIFT: u8 = 2;
const _: () = assert!(BUFFER >> SHIFT <= u16::MAX as usize);
/// A guest that names no segment size takes this (RFC 9293, 3.7.1).
const DEFAULT_MSS: u16 = 536;
/// Segments smaller than this are made for nobody: a guest cannot ask for one octet each.
const LEAST_MSS: u16 = 64;
/// How long TIME-WAIT lasts. Twice the maximum segment lifetime; no frame lives in the ring and the card for seconds.
const TIME_WAIT: Duration = Duration::from_secs(10);

/// RFC 9293, 3.3.2. LISTEN is the whole network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// We asked, for a client of the host.
    SynSent,
    /// The guest asked, the host accepted.
    SynReceived,
    /// Both ways open.
    Established,
    /// The host ended first; its FIN is out.
    FinWait1,
    /// It is acknowledged.
    FinWait2,
    /// The guest ended first.
    CloseWait,
    /// Both ended at once.
    Closing,
    /// The guest ended first, then the host.
    LastAck,
    /// All is said and acknowledged.
    TimeWait,
    /// Over.
    Closed,
}

/// A segment to put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What of the stream, if anything.
    pub piece: Piece,
    /// RCV.NXT, but in a first SYN.
    pub ack: Option<Seq>,
    /// The window field.
    pub window: u16,
}

/// How a segment was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Well, or answered by what is owed now.
    Fine,
    /// The guest reset the connection.
    Reset,
    /// It belongs to no connection and is answered with a reset; this connection stays as it was.
    Refuse,
}

/// The connection.
#[derive(Debug)]
pub struct Connection {
    state: State,
    iss: Seq,
    send: Sender,
    receive: Receiver,
    /// Shift of the guest's windows.
    shift: u8,
    scaled: bool,
    over_at: Option<Duration>,
}

impl Connection {
    /// Answers the guest's SYN, once the host is connected.
    pub fn answer(iss: Seq, syn: &TcpRepr<'_>) -> Self {
        let mut connection = Self::new(State::SynReceived, iss);
        connection.shake(syn);
        connection
    }

    /// Asks the guest, for a client of the host.
    pub fn ask(iss: Seq) -> Self {
        Self::new(State::SynSent, iss)
    }

    fn new(state: State, iss: Seq) -> Self {
        Self {
            state,
            iss,
            send: Sender::new(iss, MSS),
            receive: Receiver::new(MSS),
            shift: 0,
            scaled: true,
            over_at: None,
        }
    }

    fn shake(&mut self, syn: &TcpRepr<'_>) {
        let mss = syn.max_seg_size.unwrap_or(DEFAULT_MSS).max(LEAST_MSS);
        self.scaled = syn.window_scale.is_some();
        self.shift = syn.window_scale.unwrap_or(0).min(14);
        let shift = if self.scaled { SHIFT } else { 0 };
        self.receive.handshake(syn.seq_number.into(), shift);
        let window = usize::from(syn.window_len);
        self.send
            .handshake(usize::from(mss).min(MSS), syn.seq_number.into(), window);
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The number of a reset for the guest.
    pub fn reset_number(&self) -> Seq {
        self.send.bare_number()
    }

    /// RCV.NXT.
    pub fn expects(&self) -> Seq {
        self.receive.nxt()
    }

    /// Whether the SYN offers window scaling: a first one, or the answer to one that does.
    pub fn offers_scaling(&self) -> bool {
        self.scaled
    }

    /// Whether the host's stream may be read: data are welcome from the handshake on.
    pub fn hungry(&self) -> bool {
        let open = matches!(self.state, State::Established | State::CloseWait);
        open && self.send.hungry()
    }

    /// The host's stream ended.
    pub fn end_stream(&mut self) {
        self.send.end_stream();
    }

    /// See [`Sender::fill`].
    pub fn fill<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.send.fill(read)
    }

    /// See [`Sender::copy`].
    pub fn copy(&mut self, piece: &Piece, into: &mut [u8]) {
        self.send.copy(piece, into);
    }

    /// See [`Receiver::drain`].
    pub fn drain<E>(&mut self, write: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.receive.drain(write)
    }

    /// Octets for the host.
    pub fn held(&self) -> usize {
        self.receive.held()
    }

    /// Whether the guest ended its stream and the host has all of it.
    pub fn guest_done(&self) -> bool {
        self.receive.fin_taken() && self.receive.is_drained()
    }

    /// Takes a segment of the guest.
    pub fn segment(&mut self, now: Duration, segment: &TcpRepr<'_>) -> Taken {
        match self.state {
            State::Closed => Taken::Refuse,
            State::SynSent => self.in_syn_sent(now, segment),
            _ => self.synchronized(now, segment),
        }
    }

    /// RFC 9293, 3.10.7.3. A simultaneous open cannot be meant: the guest knows the address only from our SYN.
    fn in_syn_sent(&mut self, now: Duration, segment: &TcpRepr<'_>) -> Taken {
        let ack = segment.ack_number.map(Seq::from);
        let acceptable = ack == Some(self.iss.plus(1)) && self.send.nxt() == self.iss.plus(1);
        match segment.control {
            _ if ack.is_some() && !acceptable => Taken::Refuse,
            TcpControl::Rst if acceptable => {
                self.state = State::Closed;
                Taken::Reset
            }
            TcpControl::Syn if acceptable => {
                self.shake(segment);
                self.state = State::Established;
                let heard = self.heard(segment, usize::from(segment.window_len));
                self.send.heard(now, heard);
                self.receive.repeat();
                Taken::Fine
            }
            _ => Taken::Fine,
        }
    }

    /// 3.10.7.4, in its order.
    fn synchronized(&mut self, now: Duration, segment: &TcpRepr<'_>) -> Taken {
        let seq = Seq::from(segment.seq_number);
        if segment.control == TcpControl::Rst {
            return self.reset_at(seq);
        }
        // A SYN that comes again while its answer is under way: the answer comes again (by the timer).
        let repeated = self.state == State::SynReceived && seq.plus(1) == self.receive.nxt();
        if segment.control == TcpControl::Syn {
            if !repeated {
                self.receive.repeat();
            }
            return Taken::Fine;
        }
        if !self.receive.acceptable(seq, segment.segment_len()) {
            self.receive.repeat();
            return Taken::Fine;
        }
        if segment.ack_number.is_none() {
            return Taken::Fine;
        }
        let heard = self.heard(segment, usize::from(segment.window_len) << self.shift);
        match self.send.heard(now, heard) {
            Acked::Future if self.state == State::SynReceived => return Taken::Refuse,
            Acked::Future => {
                self.receive.repeat();
                return Taken::Fine;
            }
            Acked::Nothing if self.state == State::SynReceived => return Taken::Refuse,
            Acked::Nothing => {}
            Acked::New => self.advance(now),
        }
        self.text(now, seq, segment);
        Taken::Fine
    }

    fn heard(&self, segment: &TcpRepr<'_>, window: usize) -> Heard {
        Heard {
            seq: segment.seq_number.into(),
            ack: segment.ack_number.map_or(self.iss, Seq::from),
            window,
            bare: segment.segment_len() == 0,
        }
    }

    /// RFC 5961, 3.2: exactly the next number resets, another of the window is challenged, the rest is dropped.
    fn reset_at(&mut self, seq: Seq) -> Taken {
        if seq == self.receive.nxt() {
            self.state = State::Closed;
            return Taken::Reset;
        }
        if self.receive.in_window(seq) {
            self.receive.repeat();
        }
        Taken::Fine
    }

    /// Something new of ours was acknowledged.
    fn advance(&mut self, now: Duration) {
        let fin = self.send.fin_acked();
        self.state = match self.state {
            State::SynReceived => State::Established,
            State::FinWait1 if fin => State::FinWait2,
            State::Closing if fin => self.wait(now),
            State::LastAck if fin => State::Closed,
            other => other,
        };
    }

    fn text(&mut self, now: Duration, seq: Seq, segment: &TcpRepr<'_>) {
        if segment.segment_len() == 0 {
            return;
        }
        let fin = segment.control == TcpControl::Fin;
        let before = self.receive.fin_taken();
        self.receive.take(now, seq, segment.payload, fin);
        if self.receive.fin_taken() && !before {
            self.state = match self.state {
                State::SynReceived | State::Established => State::CloseWait,
                State::FinWait1 => State::Closing,
                State::FinWait2 => self.wait(now),
                other => other,
            };
        }
    }

    fn wait(&mut self, now: Duration) -> State {
        self.over_at = Some(now + TIME_WAIT);
        State::TimeWait
    }

    /// The next segment for the guest, if there is one; it counts as sent.
    pub fn next(&mut self, now: Duration) -> Option<Outgoing> {
        if self.state == State::Closed {
            return None;
        }
        let owes = self.receive.owes();
        if owes == Some(true) {
            return Some(self.bare(true));
        }
        if let Some(piece) = self.send.next(now) {
            if piece.fin {
                self.state = match self.state {
                    State::Established => State::FinWait1,
                    State::CloseWait => State::LastAck,
                    other => other,
                };
            }
            let (ack, mut window) = self.receive.acknowledge(false);
            if piece.syn {
                // Unscaled (RFC 7323, 2.2).
                window = u16::MAX;
            }
            let asks = self.state == State::SynSent;
            return Some(Outgoing {
                piece,
                ack: (!asks).then_some(ack),
                window,
            });
        }
        owes.map(|_| self.bare(false))
    }

    fn bare(&mut self, alone: bool) -> Outgoing {
        let (ack, window) = self.receive.acknowledge(alone);
        Outgoing {
            piece: Piece {
                seq: self.send.bare_number(),
                ..Piece::default()
            },
            ack: Some(ack),
            window,
        }
    }

    /// Runs the timers that are due. False: the guest is given up.
    pub fn expire(&mut self, now: Duration) -> bool {
        if self.over_at.is_some_and(|at| at <= now) {
            self.over_at = None;
            self.state = State::Closed;
        }
        self.receive.expire(now);
        self.state == State::Closed || self.send.expire(now)
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        [self.over_at, self.receive.deadline(), self.send.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
