//! The card's end of the cable: frames into the ring to the host, with back pressure and its end.
//!
//! Without room in the ring a frame waits in the transmitter, its descriptor stays the card's, and the guest's driver
//! sees a busy wire. Room comes as a signal. If none comes for `PATIENCE_NS` the host is taken for gone: frames are lost,
//! as on a cable nobody listens to, and counted, until there is room again. That is well below the five seconds after
//! which Linux resets the card.

use crate::time::Ns;
use shared::abi::counters::VmmCounter;
use shared::msg::net::Down;
use shared::ring::PushError;
use vmdriver_shim::crossing::{Channel, CrossingError};

/// How long a frame waits for room, in nanoseconds.
pub const PATIENCE_NS: u64 = 1_000_000_000;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the ring; [`Wire::post`] makes it visible.
    Sent,
    /// It is gone, and counted.
    Lost,
    /// No room; a signal will come.
    Waits,
}

/// The channel and what the card remembers of it.
pub struct Wire {
    channel: Channel,
    /// Id of the last frame sent.
    last_id: u64,
    stalled_since: Option<Ns>,
    /// [`Self::complain_of`] has spoken.
    complained: bool,
}

impl Wire {
    /// A cable into this channel.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            last_id: 0,
            stalled_since: None,
            complained: false,
        }
    }

    /// The channel.
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Whether a frame waits for room.
    pub fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// The frame that waited is forgotten.
    pub fn give_up(&mut self) {
        self.stalled_since = None;
    }

    /// Puts a frame into the ring.
    pub fn send(&mut self, now: Ns, payload: &[u8]) -> Fate {
        if self.push(payload) || self.credit_came_meanwhile() && self.push(payload) {
            self.stalled_since = None;
            self.count(VmmCounter::NetTx, 1);
            self.count(VmmCounter::NetTxBytes, payload.len() as u64);
            return Fate::Sent;
        }
        let since = *self.stalled_since.get_or_insert(now);
        if now.since(since) < PATIENCE_NS {
            return Fate::Waits;
        }
        self.lost();
        Fate::Lost
    }

    /// A frame went nowhere.
    pub fn lost(&self) {
        self.count(VmmCounter::NetTxDropped, 1);
    }

    /// A peer that broke its ring gives no room; the channel has counted it.
    fn push(&mut self, payload: &[u8]) -> bool {
        let id = self.last_id.wrapping_add(1);
        match self.channel.push(Down::Frame as u16, id, payload) {
            Ok(()) => self.last_id = id,
            Err(PushError::Full | PushError::TooLong { .. } | PushError::Ring(_)) => return false,
        }
        true
    }

    /// Asks for a signal when there is room; true if there is some after all, and no signal will come.
    fn credit_came_meanwhile(&mut self) -> bool {
        self.channel.want_credit().is_ok_and(|will_be_told| !will_be_told)
    }

    /// Makes the frames sent visible. When the host is told is for send combining to decide.
    pub fn post(&mut self) {
        let posted = self.channel.post();
        self.complain_of(posted.err());
    }

    /// Sends off frames that send combining holds.
    pub fn flush(&mut self) {
        let flushed = self.channel.crossing().flush_for_sleep();
        self.complain_of(flushed.err());
    }

    /// Gives receive slots back.
    pub fn release(&mut self, slots: u32) {
        if slots > 0 {
            let told = self.channel.release(slots);
            self.complain_of(told.err());
        }
    }

    /// A doorbell that cannot be rung: said once; the run loop meets the same trouble when it next sleeps.
    fn complain_of(&mut self, error: Option<CrossingError>) {
        if let Some(error) = error
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(%error, "lance: vmapp cannot be woken");
        }
    }

    /// Counts.
    pub fn count(&self, counter: VmmCounter, count: u64) {
        self.channel.crossing().vmm_counters().add(counter, count);
    }
}
