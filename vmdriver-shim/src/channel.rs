//! One device's pair of rings as its owner sees it, and the synchronous call.
//!
//! Owned by a device's front end (vmm) or back end (vmapp), one [`Channel`] per side and number. Pushing is free of
//! system calls; [`Channel::flush`] and [`Channel::release`] ring the peer if it is owed a ring. What the peer does
//! wrong is counted, and returned as a typed error of one slot: the caller goes on or gives the peer up.

use crate::crossing::{Crossing, CrossingError};
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelLayout, SlotHeader};
use shared::mem::Mapped;
use shared::ring::{Consumer, Producer, PushError, Reservation, RingError, Side};
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

/// Why a synchronous call has no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// The request could not be sent.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The peer broke the ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The crossing failed.
    #[error(transparent)]
    Crossing(#[from] CrossingError),
    /// The deadline passed. A late answer will be thrown away by the next call.
    #[error("no answer before the deadline")]
    TimedOut,
}

/// One channel, one side.
pub struct Channel {
    crossing: Arc<Crossing>,
    number: u8,
    kind: ChannelKind,
    producer: Producer<Mapped>,
    consumer: Consumer<Mapped>,
}

impl Channel {
    pub(crate) fn attach(
        crossing: &Arc<Crossing>,
        number: u8,
        layout: ChannelLayout,
    ) -> Result<Self, RingError> {
        let (out, back) = match crossing.side() {
            Side::Vmm => (layout.down, layout.up),
            Side::App => (layout.up, layout.down),
        };
        Ok(Self {
            number,
            kind: layout.kind,
            producer: Producer::attach(crossing.mem(), out)?,
            consumer: Consumer::attach(crossing.mem(), back)?,
            crossing: crossing.clone(),
        })
    }

    /// What it carries.
    pub fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// Its number: the bit in [`Crossing::look`].
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The crossing it belongs to.
    pub fn crossing(&self) -> &Arc<Crossing> {
        &self.crossing
    }

    /// Bytes of payload a slot carries, in both directions.
    pub fn payload_max(&self) -> usize {
        self.producer.payload_max()
    }

    /// Slots that may be pushed now.
    pub fn credit(&mut self) -> Result<u32, RingError> {
        let credit = self.producer.credit();
        self.judge(credit)
    }

    /// Slots published and not known to be given back.
    pub fn in_flight(&self) -> u32 {
        self.producer.in_flight()
    }

    /// Slots read and not given back.
    pub fn held(&self) -> u32 {
        self.consumer.held()
    }

    /// Writes one slot. The peer sees it after [`flush`](Self::flush).
    pub fn push(&mut self, kind: u16, id: u64, payload: &[u8]) -> Result<(), PushError> {
        let pushed = self.producer.push(kind, id, payload);
        if matches!(pushed, Err(PushError::Ring(_))) {
            self.crossing.count_peer_error();
        }
        pushed
    }

    /// A slot to be filled piecewise. The peer sees it after [`flush`](Self::flush).
    pub fn reserve(&mut self) -> Result<Reservation<'_, Mapped>, PushError> {
        let reserved = self.producer.reserve();
        if matches!(reserved, Err(PushError::Ring(_))) {
            self.crossing.count_peer_error();
        }
        reserved
    }

    /// Publishes what was pushed and signals the peer, if there is anything. Returns whether that took a doorbell: a
    /// world switch, counted under this channel's kind.
    pub fn flush(&mut self) -> Result<bool, CrossingError> {
        if !self.producer.publish() {
            return Ok(false);
        }
        self.crossing.signal(self.number, self.kind)
    }

    /// The first half of [`flush`](Self::flush): makes what was pushed visible. True: there was something, and the peer
    /// is owed a [`signal`](Self::signal).
    #[must_use = "a peer that sleeps and is never woken"]
    pub fn publish(&mut self) -> bool {
        self.producer.publish()
    }

    /// The second half of [`flush`](Self::flush) and of [`release`](Self::release): signals the peer. Returns whether
    /// that took a doorbell.
    pub fn signal(&self) -> Result<bool, CrossingError> {
        self.crossing.signal(self.number, self.kind)
    }

    /// Publishes what was pushed; whether the peer is signalled now or a little later is for send combining to decide.
    /// For frames: nobody waits for an answer.
    pub fn post(&mut self) -> Result<bool, CrossingError> {
        let frames = self.producer.unpublished();
        if !self.producer.publish() {
            return Ok(false);
        }
        self.crossing.post(self.number, frames)
    }

    /// Asks to be signalled when credit comes, after flushing. True: there is none, the signal will come. False: credit
    /// has come meanwhile.
    pub fn want_credit(&mut self) -> Result<bool, CrossingError> {
        self.flush()?;
        let wanted = self.producer.want_credit();
        self.judge(wanted).map_err(|source| CrossingError::Ring {
            channel: self.number,
            source,
        })
    }

    /// Copies the next slot into `payload` (replacing what was there), or returns `None` when all is read. The slot
    /// stays ours until [`release`](Self::release). An error concerns one slot, or all that the peer published last.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<SlotHeader>, RingError> {
        let next = self.consumer.next(payload);
        self.judge(next)
    }

    /// Whether the peer has published what was not read, by one plain load and without judging it.
    pub fn looks_ready(&self) -> bool {
        self.consumer.looks_ready()
    }

    /// Gives the oldest `count` slots read back, and signals the peer if it waits for credit.
    pub fn release(&mut self, count: u32) -> Result<(), CrossingError> {
        if self.consumer.release(count) {
            self.crossing.signal(self.number, self.kind)?;
        }
        Ok(())
    }

    /// The first half of [`release`](Self::release): gives the slots back. True: the peer waits for credit, and is owed a
    /// [`signal`](Self::signal).
    #[must_use = "a peer that waits for credit and is not told waits for ever"]
    pub fn give_back(&mut self, count: u32) -> bool {
        self.consumer.release(count)
    }

    /// Sends a request and waits for the slot that answers it (the one with the same id): the synchronous crossing.
    /// vmm only, and only where nobody else reads this channel: any other slot found in it is thrown away.
    ///
    /// Channels that got something meanwhile are reported by the next [`Crossing::look`].
    pub fn call(
        &mut self,
        kind: u16,
        id: u64,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<(SlotHeader, Vec<u8>), CallError> {
        self.begin_call(kind, id, payload)?;
        self.end_call(id, deadline)
    }

    /// The first half of [`call`](Self::call): sends the request.
    pub fn begin_call(&mut self, kind: u16, id: u64, payload: &[u8]) -> Result<(), CallError> {
        self.push(kind, id, payload)?;
        self.producer.publish();
        self.crossing.tell(self.number)?;
        self.crossing.vmm_counters().add(VmmCounter::SwitchSync, 1);
        Ok(())
    }

    /// The second half: waits for the answer. After [`CallError::TimedOut`] it may be waited for again.
    pub fn end_call(&mut self, id: u64, deadline: Instant) -> Result<(SlotHeader, Vec<u8>), CallError> {
        let mut others = 0;
        let reply = self.wait_reply(id, deadline, &mut others);
        self.crossing.remind(others);
        reply
    }

    fn wait_reply(
        &mut self,
        id: u64,
        deadline: Instant,
        others: &mut u64,
    ) -> Result<(SlotHeader, Vec<u8>), CallError> {
        let mut payload = Vec::new();
        loop {
            *others |= self.crossing.look() & !(1 << self.number);
            if let Some(header) = self.find_reply(id, &mut payload)? {
                return Ok((header, payload));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TimedOut);
            }
            self.crossing.sleep(Some(left), &[])?;
        }
    }

    /// Reads up to the answer, or up to what a whole ring can hold.
    fn find_reply(&mut self, id: u64, payload: &mut Vec<u8>) -> Result<Option<SlotHeader>, CallError> {
        for _ in 0..self.consumer.slots() {
            let next = self.next(payload);
            self.release(1)?;
            match next? {
                None => return Ok(None),
                Some(header) if header.id == id => return Ok(Some(header)),
                Some(_) => self.crossing.count_peer_error(),
            }
        }
        Ok(None)
    }

    fn judge<T>(&self, outcome: Result<T, RingError>) -> Result<T, RingError> {
        if outcome.is_err() {
            self.crossing.count_peer_error();
        }
        outcome
    }
}
