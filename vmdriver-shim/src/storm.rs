//! When to stop being woken: a peer that signals without end and has nothing.
//!
//! A side that sleeps is woken by the peer's bits and its doorbell, both of which a hostile peer can set as fast as it
//! likes. A wake-up after which no slot moved, in or out, brought nothing; a few of those are usual (what was published
//! just before the last look has been read already, and its bit comes after), two for each that brings something are
//! not. When they have added up to [`PATIENCE`] the side sleeps [`SPELL`] at a time without the peer, with its other
//! descriptors and time-outs as always, until its wake-ups bring something again. So a storm costs a thousand looks a second
//! and an honest signal in its midst at most a spell.
//!
//! What a wake-up *brought* is not limited here: a peer that really sends costs about as much to hear as to send.
//!
//! This is the policy alone, without clock, memory or threads. Owned by [`crate::crossing::Crossing`], on both sides.

use std::time::Duration;

/// Wake-ups for nothing, above two for each that brought something, that are no storm yet.
const PATIENCE: u32 = 64;
/// What a wake-up that brought something makes up for.
const MAKES_UP: u32 = 2;
/// How long a side sleeps without the peer.
pub const SPELL: Duration = Duration::from_millis(1);

/// The policy's memory.
#[derive(Debug, Default)]
pub struct Storm {
    level: u32,
    /// Slots that had moved at the last look.
    moved: u64,
    /// What ended the last sleep was the peer.
    by_peer: bool,
}

impl Storm {
    /// Going to sleep, `moved` slots having moved so far. True: without the peer.
    pub fn rages(&mut self, moved: u64) -> bool {
        let fruitful = std::mem::replace(&mut self.moved, moved) != moved;
        if fruitful {
            self.level = self.level.saturating_sub(MAKES_UP);
        } else if self.by_peer {
            self.level = (self.level + 1).min(PATIENCE);
        }
        self.by_peer = false;
        self.level >= PATIENCE
    }

    /// The peer ended the sleep.
    pub fn woken(&mut self) {
        self.by_peer = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps that the peer ends, each with whether it brought something: how many of the next were without the peer.
    fn sat_out(wakes: impl IntoIterator<Item = bool>) -> usize {
        let (mut storm, mut moved) = (Storm::default(), 0);
        let mut rages = |fruitful: bool| {
            storm.woken();
            moved += u64::from(fruitful);
            storm.rages(moved)
        };
        wakes.into_iter().filter(|&fruitful| rages(fruitful)).count()
    }

    #[test]
    fn a_storm_is_sat_out_after_a_while_and_for_as_long_as_it_lasts() {
        assert_eq!(sat_out(vec![false; 63]), 0);
        assert_eq!(sat_out(vec![false; 1000]), 1000 - 63);
    }

    #[test]
    fn a_wake_up_for_nothing_beside_each_that_brings_something_is_no_storm() {
        assert_eq!(sat_out([true, false].repeat(10_000)), 0);
        assert_eq!(sat_out([true, false, false].repeat(10_000)), 0);
    }

    #[test]
    fn a_grain_now_and_then_does_not_hide_a_storm() {
        let mostly_nothing = [true, false, false, false, false, false];
        let rounds = 10_000;
        assert!(sat_out(mostly_nothing.repeat(rounds)) > rounds * 2);
    }

    #[test]
    fn wake_ups_that_bring_something_end_it() {
        let (mut storm, mut moved) = (Storm::default(), 0);
        for _ in 0..100 {
            storm.woken();
            storm.rages(moved);
        }
        storm.woken();
        moved += 1;
        assert!(!storm.rages(moved));
    }

    #[test]
    fn other_descriptors_and_time_outs_are_nobodys_storm() {
        let mut storm = Storm::default();
        assert!((0..1000).all(|_| !storm.rages(0)));
    }
}
