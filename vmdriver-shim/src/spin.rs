//! How long to look before sleeping.
//!
//! A wake-up across cores costs tens of microseconds, a look at shared memory a tenth of one; so a side that runs dry
//! looks a little longer before it announces sleep. This is the policy alone, without clock, memory or threads, so that
//! it can be tested as a table. Three rules, each against one way to waste a core:
//!
//! - a spin that finds work restores the full spin, one that does not halves the next, down to none: an idle machine
//!   stops spinning after a few misses (compare `halt_poll_ns` of Linux's KVM);
//! - a sleep so short that a full spin would have met its end doubles the next spin, else nothing could ever restart it;
//! - misses are paid from an allowance that fills by [`SHARE`] of the time that passes: work that always comes just
//!   after the spin cannot make it burn the core.

use std::time::{Duration, Instant};

/// Part of the time, one in so many, that may be lost to spins that find nothing.
const SHARE: u32 = 4;
/// A spin below this is no spin: it ends before a neighbouring core's store arrives.
const SHORTEST: Duration = Duration::from_micros(1);

/// The policy's memory.
#[derive(Debug)]
pub struct Spin {
    /// What the config allows; zero where spinning is out of the question.
    full: Duration,
    /// What experience suggests.
    current: Duration,
    /// What missed spins may still cost.
    allowance: Duration,
    /// When the allowance was last filled.
    filled: Instant,
}

impl Spin {
    /// Spins of at most `full`; zero never spins.
    pub fn new(full: Duration, now: Instant) -> Self {
        Self {
            full,
            current: full,
            allowance: full,
            filled: now,
        }
    }

    /// How long to spin now.
    pub fn budget(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.filled) / SHARE;
        self.filled = now;
        self.allowance = self.allowance.saturating_add(earned).min(self.full);
        let budget = self.current.min(self.allowance);
        if budget < SHORTEST { Duration::ZERO } else { budget }
    }

    /// The spin found work.
    pub fn hit(&mut self) {
        self.current = self.full;
    }

    /// The spin took `spent` and found none.
    pub fn missed(&mut self, spent: Duration) {
        self.allowance = self.allowance.saturating_sub(spent);
        self.current /= 2;
        if self.current < SHORTEST {
            self.current = Duration::ZERO;
        }
    }

    /// Work ended a sleep of `slept`, wake-up included (as long again as the spin it would have saved).
    pub fn woken(&mut self, slept: Duration) {
        if slept <= self.full * 2 {
            self.current = (self.current * 2).clamp(SHORTEST.min(self.full), self.full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Duration = Duration::from_micros(50);

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn idle_machine_stops_spinning() {
        let mut now = Instant::now();
        let mut spin = Spin::new(FULL, now);
        let mut total = Duration::ZERO;
        for _ in 0..1000 {
            now += us(1000);
            let budget = spin.budget(now);
            if budget > Duration::ZERO {
                spin.missed(budget);
                total += budget;
            }
        }
        assert!(total < FULL * 2, "spun {total:?} in an idle second");
        assert_eq!(spin.budget(now), Duration::ZERO);
    }

    #[test]
    fn hit_restores_the_full_spin() {
        let mut now = Instant::now();
        let mut spin = Spin::new(FULL, now);
        for _ in 0..3 {
            now += us(1000);
            let budget = spin.budget(now);
            spin.missed(budget);
        }
        assert!(spin.budget(now) < FULL);
        spin.hit();
        now += us(1000);
        assert_eq!(spin.budget(now), FULL);
    }

    #[test]
    fn short_sleeps_restart_the_spin_and_long_ones_do_not() {
        let mut now = Instant::now();
        let mut spin = Spin::new(FULL, now);
        for _ in 0..20 {
            now += us(1000);
            let budget = spin.budget(now);
            spin.missed(budget);
        }
        now += us(10_000);
        spin.woken(us(10_000));
        assert_eq!(spin.budget(now), Duration::ZERO);
        for _ in 0..6 {
            spin.woken(us(60));
        }
        assert!(spin.budget(now) >= FULL / 2);
    }

    #[test]
    fn work_that_comes_just_after_the_spin_cannot_burn_the_core() {
        let start = Instant::now();
        let (mut now, mut spun) = (start, Duration::ZERO);
        let mut spin = Spin::new(FULL, start);
        while now - start < us(1_000_000) {
            let budget = spin.budget(now);
            if budget > Duration::ZERO {
                spin.missed(budget);
                spun += budget;
            }
            now += us(60);
            spin.woken(us(60));
        }
        let elapsed = now - start;
        assert!(
            spun > Duration::ZERO && spun <= elapsed / SHARE + FULL,
            "{spun:?} of {elapsed:?}"
        );
    }

    #[test]
    fn nothing_configured_never_spins() {
        let now = Instant::now();
        let mut spin = Spin::new(Duration::ZERO, now);
        spin.hit();
        spin.woken(Duration::ZERO);
        assert_eq!(spin.budget(now + us(1_000_000)), Duration::ZERO);
    }
}
