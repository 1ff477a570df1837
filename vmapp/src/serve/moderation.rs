//! Whether received frames are worth a wake-up of their own: interrupt moderation as a network card has it, for our own
//! sleep. Pure: its user has the clock.
//!
//! While frames that wake the worker are rare, or the guest halts now and then and so has the time to look at each at once,
//! the tap wakes the worker. While they are frequent and the guest computes without a pause, the tap is not watched: frames
//! are taken by the turns that happen anyway, most often for what the guest sends, and at the latest after
//! [`IoSpec::receive_us`](shared::spec::IoSpec::receive_us). TCP's acknowledgements are most of what this is for.

use std::time::{Duration, Instant};
use vmdriver_shim::rate::Rate;

/// The policy's memory.
#[derive(Debug)]
pub struct Moderation {
    most: Duration,
    rate: Rate,
    /// When frames last woke the worker.
    last: Instant,
    /// How often the guest had halted then.
    halts: u64,
    /// The tap is not watched until then.
    until: Option<Instant>,
}

impl Moderation {
    /// Frames wait so long at most; zero: never.
    pub fn new(most: Duration, now: Instant) -> Self {
        Self {
            most,
            rate: Rate::default(),
            last: now,
            halts: 0,
            until: None,
        }
    }

    /// Whether a turn looks for frames though nothing says that there are any.
    pub fn collects(&self) -> bool {
        self.until.is_some()
    }

    /// Until when the tap is not to be watched; `None`: it is.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// A turn has looked: whether it found `frames`, whether they had woken it (`ready`), and how often the guest has halted
    /// so far.
    pub fn looked(&mut self, now: Instant, frames: bool, ready: bool, halts: u64) {
        let over = self.until.is_none_or(|until| until <= now);
        if !frames {
            self.until = self.until.filter(|_| !over);
            return;
        }
        let mut frequent = !over;
        if ready || over {
            frequent |= self.rate.again(now.saturating_duration_since(self.last));
            self.last = now;
        }
        let busy = halts == std::mem::replace(&mut self.halts, halts);
        self.until = (frequent && busy && !self.most.is_zero()).then(|| now + self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(500);

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// A frame every `apart`, and a turn for something else every `turn`, for a second: wake-ups a second of which frames are
    /// the cause, and the longest a frame waited. The guest halts between two wake-ups if `halts`.
    fn second(most: Duration, apart: Duration, turn: Duration, halts: bool) -> (u32, Duration) {
        let start = Instant::now();
        let mut moderation = Moderation::new(most, start);
        let (mut wakes, mut waited, mut halted) = (0, Duration::ZERO, 0);
        let (mut frame, mut other) = (start + apart, start + turn);
        let mut waiting: Option<Instant> = None;
        let mut now = start;
        while now < start + us(1_000_000) {
            // What is next: a frame, another turn, or the end of the pause.
            let end = moderation.until();
            now = [Some(frame), Some(other), end]
                .into_iter()
                .flatten()
                .min()
                .unwrap();
            if now == frame {
                waiting.get_or_insert(now);
                frame += apart;
            }
            let ready = waiting.is_some() && end.is_none();
            let over = end == Some(now);
            if !(ready || over || now == other) {
                continue;
            }
            if now == other {
                other += turn;
            } else {
                wakes += 1;
            }
            halted += u64::from(halts);
            if ready || moderation.collects() {
                moderation.looked(now, waiting.is_some(), ready, halted);
                waited = waited.max(waiting.take().map_or(Duration::ZERO, |since| now - since));
            }
        }
        (wakes, waited)
    }

    #[test]
    fn frequent_frames_of_a_guest_that_computes_share_a_wake_up_and_no_other_frame_waits() {
        let never = us(10_000_000);
        for (what, most, apart, turn, halts, wakes, waits) in [
            ("rare", MOST, us(5_000), never, false, 190..=201, us(0)),
            ("frequent", MOST, us(50), never, false, 1_900..=2_100, MOST),
            (
                "the guest halts",
                MOST,
                us(50),
                never,
                true,
                19_000..=20_000,
                us(0),
            ),
            (
                "other turns take them",
                MOST,
                us(50),
                us(300),
                false,
                0..=10,
                us(300),
            ),
            (
                "switched off",
                us(0),
                us(50),
                never,
                false,
                19_000..=20_000,
                us(0),
            ),
        ] {
            let (found, waited) = second(most, apart, turn, halts);
            assert!(wakes.contains(&found), "{what}: {found} wake-ups");
            assert!(waited <= waits, "{what}: {waited:?}");
        }
    }

    #[test]
    fn a_pause_in_which_nothing_came_is_the_last() {
        let start = Instant::now();
        let mut moderation = Moderation::new(MOST, start);
        for n in 0..3 {
            moderation.looked(start + us(n), true, true, 7);
        }
        assert_eq!(moderation.until(), Some(start + us(502)));
        moderation.looked(start + us(200), false, false, 7);
        assert!(moderation.collects(), "it is not over");
        moderation.looked(start + us(502), false, false, 7);
        assert_eq!(moderation.until(), None);
    }
}
