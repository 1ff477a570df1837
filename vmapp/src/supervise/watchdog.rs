//! The watchdog: an I/O worker whose wait loop does not turn any more is of no use, and its process lives on all the same.
//!
//! The worker raises a word of the shared memory each time round its loop, and goes round at least every quarter of the
//! limit. Only time in which the supervisor itself ran counts: when a whole job is stopped and goes on, or the host
//! sleeps, nobody is late.

use std::time::{Duration, Instant};

/// Looks within one limit: the worker shows itself as often.
const LOOKS: u32 = 4;
/// The shortest limit.
const SHORTEST: Duration = Duration::from_millis(100);

/// How often a worker must show itself for a limit of `watchdog_ms`; `None` with 0: never.
pub fn pace(watchdog_ms: u32) -> Option<Duration> {
    let limit = Duration::from_millis(watchdog_ms.into()).max(SHORTEST);
    (watchdog_ms != 0).then(|| limit / LOOKS)
}

/// Watches one worker.
#[derive(Debug)]
pub struct Watchdog {
    /// Time between two looks.
    pace: Option<Duration>,
    beat: u64,
    looked: Instant,
    /// Time without a sign of life, as far as we were there to see.
    still: Duration,
}

impl Watchdog {
    /// For `io.watchdog_ms`.
    pub fn new(watchdog_ms: u32, now: Instant) -> Self {
        Self {
            pace: pace(watchdog_ms),
            beat: 0,
            looked: now,
            still: Duration::ZERO,
        }
    }

    /// A new worker, or one that was stopped with us: its time begins now.
    pub fn restart(&mut self, now: Instant) {
        self.looked = now;
        self.still = Duration::ZERO;
    }

    /// When to look next.
    pub fn deadline(&self) -> Option<Instant> {
        self.pace.map(|pace| self.looked + pace)
    }

    /// Looks: how long there was no sign of life, if that is too long.
    pub fn look(&mut self, beat: u64, now: Instant) -> Option<Duration> {
        let pace = self.pace?;
        if beat != self.beat {
            self.beat = beat;
            self.restart(now);
            return None;
        }
        // A look that comes late says nothing about the time before it.
        self.still += now.duration_since(self.looked).min(pace);
        self.looked = now;
        (self.still >= pace * LOOKS).then_some(self.still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_shows_itself_is_left_alone_and_one_that_does_not_is_found() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(1000, begun);
        for step in 1..100 {
            let now = watchdog.deadline().unwrap();
            assert_eq!(now, begun + Duration::from_millis(250) * step);
            assert_eq!(watchdog.look(step.into(), now), None);
        }
        let mut looks = 0;
        let silent = loop {
            looks += 1;
            if let Some(silent) = watchdog.look(99, watchdog.deadline().unwrap()) {
                break silent;
            }
        };
        assert_eq!((silent, looks), (Duration::from_secs(1), 4));
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(1000, begun);
        assert_eq!(watchdog.look(0, begun + Duration::from_secs(3600)), None);
        assert_eq!(watchdog.still, Duration::from_millis(250));
    }

    #[test]
    fn looks_in_quick_succession_come_to_no_more_than_their_time() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(1000, begun);
        for ms in 0..999 {
            assert_eq!(watchdog.look(0, begun + Duration::from_millis(ms)), None);
        }
        assert!(watchdog.look(0, begun + Duration::from_millis(1000)).is_some());
    }

    #[test]
    fn zero_watches_nobody_and_little_is_taken_for_a_tenth_of_a_second() {
        let begun = Instant::now();
        let mut off = Watchdog::new(0, begun);
        assert_eq!(
            (off.deadline(), off.look(0, begun + Duration::from_secs(9))),
            (None, None)
        );
        assert_eq!(pace(1), Some(SHORTEST / LOOKS));
    }
}
