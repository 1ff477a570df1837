//! Time as the machine's devices see it: nanoseconds of the host's monotonic clock since the machine was made.
//!
//! Devices never read a clock. They are told `now` with every access and say when they next want to be called
//! ([`crate::bus::Timed`]); so a test drives them through hours in microseconds.

use std::time::{Duration, Instant};

/// Nanoseconds since the machine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ns(pub u64);

impl Ns {
    /// One second.
    pub const SECOND: u64 = 1_000_000_000;

    /// This much later; saturates.
    pub fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to here; 0 if it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Ticks of a clock of `hz` hertz that fit into this time.
    pub fn ticks(self, hz: u64) -> u64 {
        (u128::from(self.0) * u128::from(hz) / u128::from(Self::SECOND)) as u64
    }

    /// The first instant at which a clock of `hz` hertz has ticked `ticks` times. `hz` is not 0.
    pub fn of_ticks(ticks: u64, hz: u64) -> Self {
        let ns = (u128::from(ticks) * u128::from(Self::SECOND)).div_ceil(u128::from(hz));
        Self(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

/// The host's monotonic clock, counted from the machine's making.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time now.
    pub fn now(&self) -> Ns {
        Ns(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// An instant of the host's clock; zero if it is before the machine's making.
    pub fn at(&self, instant: Instant) -> Ns {
        let since = instant.saturating_duration_since(self.0);
        Ns(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long from now to `at`; zero if past.
    pub fn until(&self, at: Ns) -> Duration {
        Duration::from_nanos(at.since(self.now()))
    }
}
