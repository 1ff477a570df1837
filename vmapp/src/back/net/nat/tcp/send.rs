//! The sending half of a connection towards the guest (RFC 9293, 3.8; RFC 6298; RFC 5681): what the host's stream gave and the
//! guest has not acknowledged, and which piece of it goes next.
//!
//! Driven by [`super::connection`]. Nothing is ever dropped from the buffer before it is acknowledged; nothing is sent beyond
//! the guest's window but one octet of probe; every wait has a timer.

use super::BUFFER;
use super::congestion::Congestion;
use super::rto::Rto;
use super::seq::Seq;
use smoltcp::storage::RingBuffer;
use std::time::Duration;

/// A guest that answers nothing for so long is given up (RFC 9293, 3.8.3: R2 is 100 seconds at least, 3 minutes for a SYN).
pub const PATIENCE: Duration = Duration::from_secs(180);

/// One segment to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// First sequence number.
    pub seq: Seq,
    /// Octets of the buffer: from where.
    pub offset: usize,
    /// How many.
    pub len: usize,
    /// With SYN.
    pub syn: bool,
    /// With FIN.
    pub fin: bool,
}

/// What an acknowledgement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// Of something old, or of nothing new.
    Nothing,
    /// Of something never sent.
    Future,
    /// Of something new.
    New,
}

/// Window field, acknowledgement and place of a segment from the guest.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Its sequence number.
    pub seq: Seq,
    /// Its acknowledgement.
    pub ack: Seq,
    /// Its window, scaled.
    pub window: usize,
    /// It carries nothing but the acknowledgement.
    pub bare: bool,
}

/// The half.
#[derive(Debug)]
pub struct Sender {
    una: Seq,
    nxt: Seq,
    /// The furthest `nxt` was.
    max: Seq,
    syn_open: bool,
    ring: RingBuffer<'static, u8>,
    /// The stream ends with the ring's last octet.
    ended: bool,
    fin_acked: bool,
    window: usize,
    /// Greatest window ever offered: half of it is worth a segment (3.8.6.2.1).
    widest: usize,
    wl1: Seq,
    wl2: Seq,
    mss: usize,
    congestion: Congestion,
    rto: Rto,
    timed: Option<(Seq, Duration)>,
    resend: bool,
    probe: bool,
    retransmit_at: Option<Duration>,
    probe_at: Option<Duration>,
    probe_wait: Duration,
    /// Since when the guest has owed an answer.
    unanswered: Option<Duration>,
}

impl Sender {
    /// A stream whose SYN has the number `iss`.
    pub fn new(iss: Seq, mss: usize) -> Self {
        Self {
            una: iss,
            nxt: iss,
            max: iss,
            syn_open: true,
            ring: RingBuffer::new(vec![0; BUFFER]),
            ended: false,
            fin_acked: false,
            window: 0,
            widest: 0,
            wl1: Seq(0),
            wl2: iss,
            mss,
            congestion: Congestion::new(mss, BUFFER, iss),
            rto: Rto::new(),
            timed: None,
            resend: false,
            probe: false,
            retransmit_at: None,
            probe_at: None,
            probe_wait: Duration::ZERO,
            unanswered: None,
        }
    }

    /// The guest's word on segment size and window, from its SYN (whose window is never scaled).
    pub fn handshake(&mut self, mss: usize, seq: Seq, window: usize) {
        self.mss = mss;
        self.congestion = Congestion::new(mss, BUFFER, self.una);
        self.set_window(seq, self.una, window);
    }

    /// SND.NXT.
    pub fn nxt(&self) -> Seq {
        self.nxt
    }

    /// The number of a segment without text: the furthest sent, for after a time-out SND.NXT is back at what the guest may
    /// have long had, and it would not even read the acknowledgement; but inside the window.
    pub fn bare_number(&self) -> Seq {
        let edge = self.una.plus(self.window);
        if edge.before(self.max) { edge } else { self.max }
    }

    /// Whether the guest acknowledged the end of the stream.
    pub fn fin_acked(&self) -> bool {
        self.fin_acked
    }

    /// Whether the end of the stream is under way.
    fn fin_sent(&self) -> bool {
        self.ended && !self.fin_acked && self.end().before(self.max)
    }

    /// Ends the stream after what is in the buffer.
    pub fn end_stream(&mut self) {
        self.ended = true;
    }

    /// Whether more octets are worth reading from the host: the next segments need them and there is a fair amount of room.
    pub fn hungry(&self) -> bool {
        !self.ended && self.unsent() < 2 * self.mss && self.ring.window() >= BUFFER / 4
    }

    /// Lets `read` put octets into the buffer and say how many, or why not.
    pub fn fill<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.ring
            .enqueue_many_with(|into| {
                let room = into.len();
                match read(into) {
                    Ok(count) => (count.min(room), Ok(count)),
                    Err(error) => (0, Err(error)),
                }
            })
            .1
    }

    /// Copies a piece's octets.
    pub fn copy(&mut self, piece: &Piece, into: &mut [u8]) {
        let copied = self.ring.read_allocated(piece.offset, into);
        debug_assert_eq!(copied, into.len());
    }

    /// Takes the acknowledgement and the window of an acceptable segment.
    pub fn heard(&mut self, now: Duration, heard: Heard) -> Acked {
        if self.max.before(heard.ack) {
            return Acked::Future;
        }
        self.unanswered = None;
        let fresh = self.una.before(heard.ack);
        if !fresh && heard.ack == self.una && heard.bare && heard.window == self.window && self.flight() > 0 {
            let flight = self.max.since(self.una);
            self.resend |= self.congestion.duplicate(self.una, self.max, flight);
        }
        if fresh {
            self.acknowledged(now, heard.ack);
        }
        let newer = self.wl1.before(heard.seq) || self.wl1 == heard.seq && !heard.ack.before(self.wl2);
        if newer && !heard.ack.before(self.una) {
            self.set_window(heard.seq, heard.ack, heard.window);
        }
        if fresh { Acked::New } else { Acked::Nothing }
    }

    fn set_window(&mut self, seq: Seq, ack: Seq, window: usize) {
        (self.wl1, self.wl2, self.window) = (seq, ack, window);
        self.widest = self.widest.max(window);
        if window > 0 {
            self.probe_at = None;
            self.probe = false;
            self.probe_wait = Duration::ZERO;
        }
    }

    fn acknowledged(&mut self, now: Duration, ack: Seq) {
        let end = self.end();
        let octets = ack.since(self.una);
        let data = (octets - usize::from(self.syn_open).min(octets)).min(self.ring.len());
        self.syn_open = false;
        self.ring.dequeue_allocated(data);
        self.fin_acked |= self.ended && end.before(ack);
        self.una = ack;
        self.nxt = self.nxt.later(ack);
        if let Some((last, at)) = self.timed
            && !ack.before(last)
        {
            self.rto.sample(now.saturating_sub(at));
            self.timed = None;
        }
        let flight = self.max.since(ack);
        self.resend = self.congestion.acknowledged(data, ack, flight);
        self.retransmit_at = (flight > 0).then(|| now + self.rto.timeout());
        if flight > 0 {
            self.unanswered = Some(now);
        }
    }

    /// The next segment, if one may go now. It counts as sent.
    pub fn next(&mut self, now: Duration) -> Option<Piece> {
        if self.syn_open {
            let due = self.nxt == self.una;
            return due.then(|| self.sent(now, 0, true, false, self.una));
        }
        if std::mem::take(&mut self.resend) && self.una.before(self.max) {
            return Some(self.again(now));
        }
        let (unsent, flight) = (self.unsent(), self.flight());
        let usable = self.window.min(self.congestion.window()).saturating_sub(flight);
        let len = self.mss.min(unsent).min(usable);
        let probe = std::mem::take(&mut self.probe) && unsent > 0 && flight == 0;
        if probe && len == 0 {
            return Some(self.probe_piece(now));
        }
        if !probe && len < self.mss && len < unsent && len < (self.widest / 2).max(1) {
            if flight == 0 && self.probe_at.is_none() {
                self.wait_to_probe(now);
            }
            return None;
        }
        // The FIN is a number of the window too; alone, it is its own probe.
        let fits = flight + len < self.window || flight + len == 0;
        let fin = fits && self.ended && !self.fin_acked && len == unsent && !self.end().before(self.nxt);
        if len == 0 && !fin {
            return None;
        }
        Some(self.sent(now, len, false, fin, self.nxt))
    }

    /// Runs the timers that are due. False: the guest is given up.
    pub fn expire(&mut self, now: Duration) -> bool {
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe = true;
            self.wait_to_probe(now);
        }
        if self.retransmit_at.is_some_and(|at| at <= now) {
            self.retransmit_at = None;
            self.timed = None;
            self.resend = false;
            let flight = self.max.since(self.una);
            self.nxt = self.una;
            if self.window == 0 && !self.syn_open && !self.ring.is_empty() {
                // The guest closed its window over what was under way: no loss, and the probe finds out when it opens.
                self.probe = true;
                self.wait_to_probe(now);
            } else {
                self.congestion.timed_out(self.max, flight);
                self.rto.back_off();
            }
        }
        let since = self.unanswered.unwrap_or(now);
        now.saturating_sub(since) < PATIENCE
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        [self.retransmit_at, self.probe_at].into_iter().flatten().min()
    }

    fn wait_to_probe(&mut self, now: Duration) {
        self.probe_wait = (self.probe_wait * 2).clamp(self.rto.timeout(), Duration::from_secs(60));
        self.probe_at = Some(now + self.probe_wait);
    }

    /// The octet before which the window closed. It is not counted as under way: if the guest takes it after all, `max` makes
    /// its acknowledgement good.
    fn probe_piece(&mut self, now: Duration) -> Piece {
        self.max = self.max.later(self.nxt.plus(1));
        self.unanswered.get_or_insert(now);
        Piece {
            seq: self.nxt,
            offset: 0,
            len: 1,
            ..Piece::default()
        }
    }

    /// The oldest segment once more (fast retransmit).
    fn again(&mut self, now: Duration) -> Piece {
        let under_way = self.max.since(self.una).min(self.ring.len());
        let len = self.mss.min(under_way);
        let fin = self.fin_sent() && len == self.ring.len();
        self.timed = None;
        self.retransmit_at = Some(now + self.rto.timeout());
        Piece {
            seq: self.una,
            offset: 0,
            len,
            syn: false,
            fin,
        }
    }

    fn sent(&mut self, now: Duration, len: usize, syn: bool, fin: bool, seq: Seq) -> Piece {
        let offset = self.nxt.since(self.una);
        let next = seq.plus(len + usize::from(syn) + usize::from(fin));
        if self.max.before(next) {
            self.max = next;
            self.timed.get_or_insert((next, now));
        } else {
            self.timed = None;
        }
        self.nxt = next;
        self.probe_at = None;
        self.unanswered.get_or_insert(now);
        self.retransmit_at.get_or_insert(now + self.rto.timeout());
        Piece {
            seq,
            offset,
            len,
            syn,
            fin,
        }
    }

    /// The number after the last octet in the buffer: the FIN's.
    fn end(&self) -> Seq {
        self.una.plus(self.ring.len() + usize::from(self.syn_open))
    }

    fn flight(&self) -> usize {
        self.nxt.since(self.una)
    }

    fn unsent(&self) -> usize {
        self.end().since(self.nxt)
    }
}
