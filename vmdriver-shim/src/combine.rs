//! Send combining: whether a transmitted frame is worth a wake-up of its own.
//!
//! While wake-ups are frequent, a frame is published without one, and the next crossing for any reason carries it: as
//! VMware's hosted monitor did (Sugerman, Venkitachalam, Lim: USENIX 2001, section 4.3). This is the policy alone,
//! without memory or doorbells, so that it can be tested as a table:
//!
//! - while publications that find the peer asleep, each of which would be a wake-up, are not frequent ([`Rate`]), the gate is
//!   shut and every frame goes at once, so that an idle machine's frame is never late;
//! - at most so many frames wait ([`IoSpec::max_combined`]), and none longer than the tick ([`IoSpec::flush_us`]);
//! - whoever signals the peer for another reason, goes to sleep, finds it awake, or sees that it has looked, has carried what waited.
//!
//! Owned by [`crate::crossing::Crossing`], on the vmm's side only.

use crate::rate::Rate;
use shared::spec::IoSpec;
use std::time::{Duration, Instant};

/// What to do with frames just published to a peer that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wake it: switches are rare, or combining is off.
    AtOnce,
    /// Wake it: enough wait.
    Full,
    /// Let them wait.
    Hold,
}

/// The policy's memory.
#[derive(Debug)]
pub struct Combiner {
    on: bool,
    most: usize,
    tick: Duration,
    rate: Rate,
    /// When a publication last found the peer asleep.
    last: Instant,
    /// When each waiting frame was published, oldest first.
    waiting: Vec<Instant>,
    /// The channels whose frames wait: bit n is channel n.
    channels: u64,
    /// Frames published since the last wake-up.
    since_wake: u64,
}

impl Combiner {
    /// As the `[io]` section says.
    pub fn new(io: &IoSpec, now: Instant) -> Self {
        let most = io.max_combined.clamp(1, IoSpec::MAX_COMBINED) as usize;
        Self {
            on: io.send_combining,
            most,
            tick: Duration::from_micros(io.flush_us.clamp(1, IoSpec::MAX_FLUSH_US).into()),
            rate: Rate::default(),
            last: now,
            waiting: Vec::with_capacity(IoSpec::MAX_COMBINED as usize),
            channels: 0,
            since_wake: 0,
        }
    }

    /// So many frames were published, wherever the peer is.
    pub fn published(&mut self, frames: u32) {
        self.since_wake += u64::from(frames);
    }

    /// And the peer was found asleep; they are in `channel`.
    pub fn decide(&mut self, channel: u8, frames: u32, now: Instant) -> Decision {
        let frequent = self.rate.again(now.saturating_duration_since(self.last));
        self.last = now;
        if !self.on || (!frequent && self.waiting.is_empty()) {
            return Decision::AtOnce;
        }
        self.channels |= 1 << (channel & 63);
        let room = self.most - self.waiting.len().min(self.most);
        let frames = frames as usize;
        self.waiting.extend(std::iter::repeat_n(now, frames.min(room)));
        if frames >= room {
            Decision::Full
        } else {
            Decision::Hold
        }
    }

    /// When the oldest waiting frame has waited long enough.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|&since| since + self.tick)
    }

    /// Whether frames wait.
    pub fn holds(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The channels whose frames wait: bit n is channel n.
    pub fn channels(&self) -> u64 {
        self.channels
    }

    /// Nothing waits any more: how long each frame did.
    pub fn carried(&mut self, now: Instant) -> impl Iterator<Item = Duration> {
        self.channels = 0;
        self.waiting
            .drain(..)
            .map(move |since| now.saturating_duration_since(since))
    }

    /// A wake-up happened: how many frames were published since the one before.
    pub fn woke(&mut self) -> u64 {
        std::mem::take(&mut self.since_wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(send_combining: bool, max_combined: u32) -> IoSpec {
        IoSpec {
            send_combining,
            max_combined,
            flush_us: 500,
            ..IoSpec::default()
        }
    }

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Frames one by one, so far apart, to a peer that sleeps again at once: wake-ups a frame, once it has settled.
    fn wakes_per_frame(io: &IoSpec, apart: Duration) -> f64 {
        let mut now = Instant::now();
        let mut combiner = Combiner::new(io, now);
        let mut wakes = 0;
        for frame in 0..400 {
            now += apart;
            let late = combiner.due().is_some_and(|due| due <= now);
            if late {
                combiner.carried(now).for_each(drop);
            }
            combiner.published(1);
            let full = combiner.decide(2, 1, now) != Decision::Hold;
            if full {
                combiner.carried(now).for_each(drop);
            }
            if frame >= 100 {
                wakes += u32::from(late) + u32::from(full);
            }
        }
        f64::from(wakes) / 300.0
    }

    #[test]
    fn rare_frames_go_at_once_and_frequent_ones_together() {
        for (what, io, apart, expected) in [
            ("a ping a second", io(true, 3), us(1_000_000), 1.0..=1.0),
            ("200 a second", io(true, 3), us(5_000), 1.0..=1.0),
            ("10 000 a second", io(true, 3), us(100), 0.33..=0.34),
            ("10 000 a second, one may wait", io(true, 1), us(100), 1.0..=1.0),
            ("40 000 a second, 16 may wait", io(true, 16), us(25), 0.06..=0.07),
            (
                "2 000 a second, 16 may wait: the tick",
                io(true, 16),
                us(500),
                0.5..=1.0,
            ),
            ("off", io(false, 16), us(25), 1.0..=1.0),
        ] {
            let rate = wakes_per_frame(&io, apart);
            assert!(expected.contains(&rate), "{what}: {rate}");
        }
    }

    #[test]
    fn no_frame_waits_longer_than_the_tick_and_no_more_than_the_limit_wait() {
        let start = Instant::now();
        let mut combiner = Combiner::new(&io(true, 3), start);
        let mut held = 0_u32;
        for n in 0..100 {
            let now = start + us(10) * n;
            match combiner.decide(2, 1, now) {
                Decision::Hold => held += 1,
                Decision::Full => {
                    assert_eq!(combiner.carried(now).count(), 3);
                    held = 0;
                }
                Decision::AtOnce => assert!(n < 2, "the gate opens with the second"),
            }
            assert!(held < 3);
            assert_eq!(combiner.holds(), held > 0);
            let oldest = now - us(10) * held.saturating_sub(1);
            assert_eq!(combiner.due(), (held > 0).then(|| oldest + us(500)));
        }
    }

    #[test]
    fn a_burst_counts_frame_by_frame() {
        let now = Instant::now();
        let mut combiner = Combiner::new(&io(true, 8), now);
        combiner.published(5);
        assert_eq!(combiner.decide(2, 5, now), Decision::AtOnce);
        assert_eq!(combiner.woke(), 5);
        combiner.published(5);
        assert_eq!(combiner.decide(2, 5, now), Decision::Hold);
        combiner.published(70);
        assert_eq!(combiner.decide(2, 70, now), Decision::Full);
        assert_eq!(combiner.carried(now + us(7)).collect::<Vec<_>>(), [us(7); 8]);
        assert_eq!((combiner.woke(), combiner.woke()), (75, 0));
    }
}
