//! The crossing's way for transmitted frames: published at once, signalled when [`Combiner`] says so, and every wait and
//! every wake-up counted by its cause.
//!
//! What must never happen here: a frame held with nobody to send it off. The run loop's alarm ends the wait
//! ([`Crossing::held_until`]), and so does every sleep of the vmm.

use super::{Crossing, CrossingError};
use crate::combine::{Combiner, Decision};
use shared::abi::counters::VmmCounter;
use shared::ring::{Owed, Side};
use shared::spec::Notify;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Frames per crossing: the least of each row of the histogram.
const FRAMES: [(u64, VmmCounter); 7] = [
    (64, VmmCounter::Frames64),
    (16, VmmCounter::Frames16),
    (8, VmmCounter::Frames8),
    (4, VmmCounter::Frames4),
    (3, VmmCounter::Frames3),
    (2, VmmCounter::Frames2),
    (1, VmmCounter::Frames1),
];

/// Delay combining adds, in microseconds: the least of each row of the histogram.
const DELAYS: [(u128, VmmCounter); 7] = [
    (1000, VmmCounter::Delay1000),
    (500, VmmCounter::Delay500),
    (250, VmmCounter::Delay250),
    (100, VmmCounter::Delay100),
    (50, VmmCounter::Delay50),
    (10, VmmCounter::Delay10),
    (0, VmmCounter::Delay0),
];

fn frames_counter(frames: u64) -> Option<VmmCounter> {
    FRAMES
        .iter()
        .find(|(least, _)| frames >= *least)
        .map(|&(_, counter)| counter)
}

fn delay_counter(delay: Duration) -> VmmCounter {
    let us = delay.as_micros();
    DELAYS
        .iter()
        .find(|(least, _)| us >= *least)
        .map_or(VmmCounter::Delay0, |&(_, counter)| counter)
}

impl Crossing {
    /// When frames that wait are to be sent at the latest ([`flush_due`](Self::flush_due)).
    pub fn held_until(&self) -> Option<Instant> {
        self.combining().due()
    }

    /// Sends frames that have waited long enough.
    pub fn flush_due(&self) -> Result<(), CrossingError> {
        match self.held_until() {
            Some(due) if due <= Instant::now() => self.flush_held(VmmCounter::SwitchNetTick),
            _ => Ok(()),
        }
    }

    /// Sends frames that wait, whatever they wait for: the guest is about to sleep.
    pub fn flush_for_sleep(&self) -> Result<(), CrossingError> {
        self.flush_held(VmmCounter::SwitchNetHalt)
    }

    /// Signals the peer that frames were published, now or later.
    pub(crate) fn post(&self, number: u8, frames: u32) -> Result<bool, CrossingError> {
        let always = self.io.notify == Notify::Select;
        let now = Instant::now();
        let mut combiner = self.combining();
        self.notice_taken(&mut combiner, now);
        let asleep = self.attention.post(number) || always;
        combiner.published(frames);
        if !asleep {
            self.vmm_counters.add(VmmCounter::DoorbellsSaved, 1);
            self.count_carried(&mut combiner, now, VmmCounter::CombineFound);
            return Ok(false);
        }
        let cause = match combiner.decide(number, frames, now) {
            Decision::Hold => {
                self.vmm_counters.add(VmmCounter::CombineHeld, frames.into());
                return Ok(false);
            }
            Decision::AtOnce => VmmCounter::SwitchNet,
            Decision::Full => VmmCounter::SwitchNetLimit,
        };
        self.wake_for_frames(&mut combiner, now, cause)
    }

    /// Wakes the peer for frames that wait, if there are any.
    pub(super) fn flush_held(&self, cause: VmmCounter) -> Result<(), CrossingError> {
        if self.side == Side::Vmm {
            let mut combiner = self.combining();
            let now = Instant::now();
            self.notice_taken(&mut combiner, now);
            if combiner.holds() {
                self.wake_for_frames(&mut combiner, now, cause)?;
            }
        }
        Ok(())
    }

    /// A peer that was woken by something of its own, a frame for the guest most often, has looked and taken what waited;
    /// that it sleeps again does not matter.
    fn notice_taken(&self, combiner: &mut Combiner, now: Instant) {
        if combiner.holds() && !self.attention.pending(combiner.channels()) {
            self.count_carried(combiner, now, VmmCounter::CombineFound);
        }
    }

    /// Returns whether a doorbell had to be rung.
    fn wake_for_frames(
        &self,
        combiner: &mut Combiner,
        now: Instant,
        cause: VmmCounter,
    ) -> Result<bool, CrossingError> {
        let rung = self.attention.wake() != Owed::Nothing || self.io.notify == Notify::Select;
        if rung {
            self.bells.app.ring()?;
            self.vmm_counters.add(cause, 1);
            self.count_frames(combiner);
            self.count_delays(combiner.carried(now));
        } else {
            self.count_carried(combiner, now, VmmCounter::CombineFound);
        }
        Ok(rung)
    }

    /// Something else than a frame's own doorbell carried what waited.
    fn count_carried(&self, combiner: &mut Combiner, now: Instant, how: VmmCounter) {
        let carried = self.count_delays(combiner.carried(now));
        self.vmm_counters.add(how, carried);
    }

    fn count_delays(&self, delays: impl Iterator<Item = Duration>) -> u64 {
        let mut count = 0;
        for delay in delays {
            self.vmm_counters.add(delay_counter(delay), 1);
            count += 1;
        }
        count
    }

    fn count_frames(&self, combiner: &mut Combiner) {
        let frames = combiner.woke();
        if let Some(counter) = frames_counter(frames) {
            self.vmm_counters.add(counter, 1);
        }
    }

    /// The peer has been signalled for another reason, and has found the frames' bit too.
    pub(super) fn frames_carried(&self, rung: bool) {
        let mut combiner = self.combining();
        if combiner.holds() {
            self.count_carried(&mut combiner, Instant::now(), VmmCounter::CombineCarried);
        }
        if rung {
            self.count_frames(&mut combiner);
        }
    }

    fn combining(&self) -> MutexGuard<'_, Combiner> {
        self.combiner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
