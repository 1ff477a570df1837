//! When the transmit ring is looked at without a demand. Pure.
//!
//! The chip looks every 2 ms, for ever. Here each look wakes a sleeping machine, so while looks find nothing they become
//! rarer, down to one in 32 intervals; a look that finds a frame shows a driver that relies on polling, and from then on
//! the data sheet's interval holds until the next start.

use crate::time::Ns;

/// Shortest interval, in nanoseconds, whatever CSR47 says.
const SHORTEST_NS: u64 = 100_000;
/// Doublings of the interval while nothing is found.
const RAREST: u8 = 5;

/// The poll timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Poll {
    due: Option<Ns>,
    doublings: u8,
    relied_on: bool,
}

impl Poll {
    /// When to look next.
    pub fn due(&self) -> Option<Ns> {
        self.due
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Ns) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Looks every `interval_ns` from now on.
    pub fn start(&mut self, now: Ns, interval_ns: u64) {
        *self = Self::default();
        self.arm(now, interval_ns);
    }

    /// No more.
    pub fn stop(&mut self) {
        self.due = None;
    }

    /// Looks as soon as the machine looks at its timers, if it looks at all.
    pub fn hurry(&mut self) {
        if self.due.is_some() {
            self.due = Some(Ns(0));
        }
    }

    /// A look that was due is done.
    pub fn looked(&mut self, now: Ns, found: bool, interval_ns: u64) {
        self.relied_on |= found;
        self.doublings = if self.relied_on {
            0
        } else {
            (self.doublings + 1).min(RAREST)
        };
        self.arm(now, interval_ns);
    }

    /// Frames wait for the host: looks at the full rate until they are gone.
    pub fn press(&mut self, now: Ns, interval_ns: u64) {
        self.doublings = 0;
        self.arm(now, interval_ns);
    }

    fn arm(&mut self, now: Ns, interval_ns: u64) {
        self.due = Some(now.after(interval_ns.max(SHORTEST_NS) << self.doublings));
    }
}
