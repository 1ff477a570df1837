//! How the guest's time stamp counter and the machine's clock belong together. The machine makes one from what
//! the engine says of its counter; the timer turns deadlines into instants with it.

use crate::time::Ns;

/// One instant seen on both clocks, and the counter's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscScale {
    /// An instant.
    pub at: Ns,
    /// What the guest's time stamp counter showed at that instant.
    pub tsc: u64,
    /// The counter's frequency in kHz; 0 counts as 1.
    pub khz: u32,
}

impl TscScale {
    /// Nanoseconds in a tick of a 1 kHz counter.
    const NS_PER_MS: u128 = 1_000_000;

    /// The first instant at which the counter shows at least `tsc`; saturates at both ends of time.
    pub fn ns_of_tsc(&self, tsc: u64) -> Ns {
        let khz = u128::from(self.khz.max(1));
        let ns = |ticks: u64| u128::from(ticks) * Self::NS_PER_MS;
        let at = u128::from(self.at.0);
        let instant = match tsc.checked_sub(self.tsc) {
            Some(ahead) => at + ns(ahead).div_ceil(khz),
            None => at.saturating_sub(ns(self.tsc - tsc) / khz),
        };
        Ns(u64::try_from(instant).unwrap_or(u64::MAX))
    }
}
