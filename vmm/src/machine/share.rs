//! How much of a running guest's time vmapp may take by signalling.
//!
//! A look at what vmapp has signalled costs the vCPU an exit, the rings' reading and the devices' work. An honest vmapp
//! signals when it has something; a hostile one can set bits without end, or frames, and a guest whose every look-up finds a
//! bit would run no instruction between two of them. So looks are paid from an allowance that fills by one part in
//! [`SHARE`] of the time that passes. With nothing left the run loop looks away for a [`SPELL`], and what was signalled
//! meanwhile is found at its end: late, never lost.
//!
//! This is the policy alone, without clock or memory, so that it can be tested as a table. Owned by the run loop. A halted
//! guest has nothing to lose, and its looks are not put off; what bounds those is in [`vmdriver_shim::crossing`].

use crate::time::Ns;

/// One part in so many of the guest's time may go to looks: it keeps two thirds of all.
const SHARE: u64 = 2;
/// How long looks are put off, in nanoseconds.
pub(super) const SPELL: u64 = 1_000_000;
/// Most that can be saved up: what one spell earns.
const FULL: i64 = (SPELL / SHARE).cast_signed();
/// What the two ends of a look, the way out of the engine and back, cost beside what the clock sees.
const SWITCH: u64 = 1_000;
/// Most a single look is charged: one that took longer had lost its core to somebody else.
const MOST: u64 = 250_000;

/// The policy's memory.
#[derive(Debug)]
pub(super) struct Share {
    /// Nanoseconds that looks may still take. Below 0, what the last one took too much: the next spell pays for it.
    allowance: i64,
    /// Up to when the allowance has been filled.
    filled: Ns,
}

impl Share {
    /// With a full allowance.
    pub fn new(now: Ns) -> Self {
        Self {
            allowance: FULL,
            filled: now,
        }
    }

    /// A look took from `from` to `to`. True: that was the last for a spell.
    pub fn spent(&mut self, from: Ns, to: Ns) -> bool {
        let earned = from.since(self.filled).saturating_sub(SWITCH) / SHARE;
        self.filled = to;
        let cost = (to.since(from) + SWITCH).min(MOST);
        self.allowance = self
            .allowance
            .saturating_add_unsigned(earned)
            .min(FULL)
            .saturating_sub_unsigned(cost);
        self.allowance <= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks of `look` nanoseconds whenever the guest has run for `run`, for a second: how long the guest ran, and the
    /// spells it was given.
    fn second(run: u64, look: u64) -> (u64, u64) {
        let (mut now, mut guest, mut spells) = (Ns(0), 0, 0);
        let mut share = Share::new(now);
        while now.0 < Ns::SECOND {
            let runs = if share.spent(now, now.after(look)) {
                spells += 1;
                SPELL
            } else {
                run
            };
            now = now.after(look + SWITCH + runs);
            guest += runs;
        }
        (guest, spells)
    }

    #[test]
    fn no_storm_takes_more_than_a_third_of_the_time() {
        for (run, look) in [(0, 0), (0, 300), (3_000, 1_000), (1_000, 200_000), (0, 250_000)] {
            let (guest, spells) = second(run, look);
            assert!(spells > 0, "a guest running {run} between looks of {look}");
            assert!(
                guest >= Ns::SECOND * 63 / 100,
                "{guest} ns of a second between looks of {look}"
            );
        }
    }

    #[test]
    fn looks_that_keep_to_their_share_are_never_put_off() {
        for (run, look) in [(20_000, 4_000), (100_000, 40_000), (1_000_000, 240_000)] {
            assert_eq!(second(run, look).1, 0, "{look} ns in {run}");
        }
    }

    #[test]
    fn a_look_that_lost_its_core_is_no_storm() {
        let mut share = Share::new(Ns(0));
        let spent: Vec<bool> = (1..=100)
            .map(|n| share.spent(Ns(n * 50_000_000), Ns(n * 50_000_000 + 20_000_000)))
            .collect();
        assert!(spent.iter().all(|spent| !spent));
    }
}
