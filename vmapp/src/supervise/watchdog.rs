//! The watchdog: an I/O worker whose wait loop does not turn any more is of no use, and its process lives on all the same.
//!
//! The worker raises a word of the shared memory each time round its loop, and goes round at least every quarter of the
//! limit. One that starts has no loop yet, and [`START_LIMIT`] where that is more. Only time in which the supervisor itself ran counts: when a whole job is stopped and goes on, or the host
//! sleeps, nobody is late.

use std::time::{Duration, Instant};

/// Looks within one limit: the worker shows itself as often.
const LOOKS: u32 = 4;
/// The shortest limit.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long an I/O worker may take to attach, read its overlays' tables, get into its jail and serve.
pub const START_LIMIT: Duration = Duration::from_secs(10);

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
    /// It does not serve yet.
    starting: bool,
}

impl Watchdog {
    /// For `io.watchdog_ms`.
    pub fn new(watchdog_ms: u32, now: Instant) -> Self {
        Self {
            pace: pace(watchdog_ms),
            beat: 0,
            looked: now,
            still: Duration::ZERO,
            starting: true,
        }
    }

    /// A new worker was started.
    pub fn starts(&mut self, now: Instant) {
        self.starting = true;
        self.restart(now);
    }

    /// It serves.
    pub fn serves(&mut self, now: Instant) {
        self.starting = false;
        self.restart(now);
    }

    /// It has shown itself, or was stopped with us: its time begins anew.
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
        let least = if self.starting {
            START_LIMIT
        } else {
            Duration::ZERO
        };
        (self.still >= least.max(pace * LOOKS)).then_some(self.still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_shows_itself_is_left_alone_and_one_that_does_not_is_found() {
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(1000, begun);
        watchdog.serves(begun);
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
        watchdog.serves(begun);
        for ms in 0..999 {
            assert_eq!(watchdog.look(0, begun + Duration::from_millis(ms)), None);
        }
        assert!(watchdog.look(0, begun + Duration::from_millis(1000)).is_some());
    }

    #[test]
    fn one_that_starts_has_more_time_and_not_for_ever() {
        let taken = |watchdog_ms, serves| {
            let begun = Instant::now();
            let mut watchdog = Watchdog::new(watchdog_ms, begun);
            if serves {
                watchdog.serves(begun);
            }
            watchdog.starts(begun);
            // What its predecessor left counts for nothing.
            assert_eq!(watchdog.look(77, begun), None);
            (0..1000).find_map(|_| watchdog.look(77, watchdog.deadline().unwrap()))
        };
        for serves in [false, true] {
            assert_eq!(taken(1000, serves), Some(START_LIMIT));
            assert_eq!(taken(20_000, serves), Some(Duration::from_secs(20)));
        }
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
