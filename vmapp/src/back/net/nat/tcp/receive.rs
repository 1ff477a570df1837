//! The receiving half of a connection towards the guest (RFC 9293, 3.8.6; RFC 1122, 4.2.3): what the guest sent and the host
//! has not taken, what is missing before it, and which acknowledgements are owed.
//!
//! Driven by [`super::connection`]. The window offered is the room there is, so a slow host slows the guest and nothing
//! that was acknowledged is ever dropped. Segments out of order wait in the same room, in at most eight runs; one more run
//! is dropped and asked for again.

use super::BUFFER;
use super::seq::Seq;
use smoltcp::storage::{Assembler, RingBuffer};
use std::time::Duration;

/// An acknowledgement waits no longer (RFC 9293, 3.8.6.3: less than half a second).
const DELAY: Duration = Duration::from_millis(40);
/// Most repeated acknowledgements owed at a time.
const MOST_REPEATS: u8 = 32;

/// The half.
#[derive(Debug)]
pub struct Receiver {
    nxt: Seq,
    /// Right edge of the window last offered.
    offered: Seq,
    ring: RingBuffer<'static, u8>,
    holes: Assembler,
    shift: u8,
    mss: usize,
    /// The guest's FIN, once its place is known.
    fin: Option<Seq>,
    fin_taken: bool,
    unacknowledged: usize,
    due: bool,
    repeats: u8,
    delayed: Option<Duration>,
}

impl Receiver {
    /// Nothing received, for segments of `mss`.
    pub fn new(mss: usize) -> Self {
        Self {
            nxt: Seq(0),
            offered: Seq(0),
            ring: RingBuffer::new(vec![0; BUFFER]),
            holes: Assembler::new(),
            shift: 0,
            mss,
            fin: None,
            fin_taken: false,
            unacknowledged: 0,
            due: false,
            repeats: 0,
            delayed: None,
        }
    }

    /// The guest's SYN has the number `irs`; its windows here are shifted by `shift`.
    pub fn handshake(&mut self, irs: Seq, shift: u8) {
        self.nxt = irs.plus(1);
        self.offered = self.nxt;
        self.shift = shift;
    }

    /// RCV.NXT.
    pub fn nxt(&self) -> Seq {
        self.nxt
    }

    /// Whether all the guest sent, its FIN too, is in order here.
    pub fn fin_taken(&self) -> bool {
        self.fin_taken
    }

    /// Whether the host has taken everything.
    pub fn is_drained(&self) -> bool {
        self.ring.is_empty()
    }

    /// Octets in order that the host has not taken.
    pub fn held(&self) -> usize {
        self.ring.len()
    }

    /// The four cases of RFC 9293, 3.10.7.4: whether a segment of `len` numbers from `seq` on touches the window. With a
    /// closed window the segment that would be next is let through, for its acknowledgement.
    pub fn acceptable(&self, seq: Seq, len: usize) -> bool {
        let window = self.ring.window();
        let inside = |at: Seq| !at.before(self.nxt) && at.since(self.nxt) < window;
        seq == self.nxt || inside(seq) || len > 0 && inside(seq.plus(len - 1))
    }

    /// Whether a reset or a SYN at `seq` is inside the window (RFC 5961).
    pub fn in_window(&self, seq: Seq) -> bool {
        seq == self.nxt || !seq.before(self.nxt) && seq.since(self.nxt) < self.ring.window()
    }

    /// Takes the text of an acceptable segment.
    pub fn take(&mut self, now: Duration, seq: Seq, text: &[u8], fin: bool) {
        if self.fin_taken {
            // Nothing follows a FIN.
            return self.repeat();
        }
        if fin {
            self.fin.get_or_insert(seq.plus(text.len()));
        }
        let known = self.nxt.since(seq).min(text.len());
        let text = text.get(known..).unwrap_or_default();
        let offset = seq.plus(known).since(self.nxt);
        let room = self.ring.window().saturating_sub(offset);
        let cut = text.len() > room;
        let text = text.get(..text.len().min(room)).unwrap_or_default();
        let had_holes = !self.holes.is_empty();
        let before = self.nxt;
        if !text.is_empty() {
            let written = self.ring.write_unallocated(offset, text);
            if let Ok(ready) = self.holes.add_then_remove_front(offset, written) {
                self.ring.enqueue_unallocated(ready);
                self.nxt = self.nxt.plus(ready);
            }
        }
        if self.fin == Some(self.nxt) {
            self.nxt = self.nxt.plus(1);
            self.fin_taken = true;
            self.due = true;
        }
        let moved = self.nxt.since(before);
        if moved == 0 {
            // Old, out of order or beyond the window: each is answered by itself, or the guest cannot count (RFC 5681, 4.2).
            self.repeat();
            return;
        }
        // What was said again and again of the hole that is now filled would be a duplicate of something newer.
        self.repeats = 0;
        self.unacknowledged += moved;
        self.due |= had_holes || cut || self.unacknowledged >= 2 * self.mss;
        if !self.due {
            self.delayed.get_or_insert(now + DELAY);
        }
    }

    /// Owes one more acknowledgement, to be sent by itself.
    pub fn repeat(&mut self) {
        self.repeats = self.repeats.saturating_add(1).min(MOST_REPEATS);
    }

    /// Gives the host the longest run of octets; it says how many it took, or why none.
    pub fn drain<E>(&mut self, write: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        let run = self.ring.get_allocated(0, self.ring.len());
        let taken = write(run)?.min(run.len());
        self.ring.dequeue_allocated(taken);
        // A window that had shrunk to little is worth telling when it is wide again.
        let left = self.offered.since(self.nxt);
        if !self.fin_taken && left < BUFFER / 4 && self.edge().since(self.offered) >= 2 * self.mss {
            self.due = true;
        }
        Ok(taken)
    }

    /// Whether an acknowledgement goes now, and whether it must go alone.
    pub fn owes(&self) -> Option<bool> {
        if self.repeats > 0 {
            return Some(true);
        }
        self.due.then_some(false)
    }

    /// RCV.NXT and the window field of a segment that now goes; what was owed is paid.
    pub fn acknowledge(&mut self, alone: bool) -> (Seq, u16) {
        if alone {
            self.repeats = self.repeats.saturating_sub(1);
        }
        self.due = false;
        self.delayed = None;
        self.unacknowledged = 0;
        // Silly window avoidance (3.8.6.2.2): the edge moves in steps worth a segment, and never back.
        let edge = self.edge();
        if edge.since(self.offered) >= self.mss.min(BUFFER / 2) {
            self.offered = edge;
        }
        let window = self.offered.since(self.nxt) >> self.shift;
        (self.nxt, u16::try_from(window).unwrap_or(u16::MAX))
    }

    /// Runs the delayed acknowledgement if it is due.
    pub fn expire(&mut self, now: Duration) {
        if self.delayed.is_some_and(|at| at <= now) {
            self.delayed = None;
            self.due = true;
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.delayed
    }

    fn edge(&self) -> Seq {
        self.nxt.plus(self.ring.window())
    }
}
