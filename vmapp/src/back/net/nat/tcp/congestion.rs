//! How much may be under way to the guest: slow start, congestion avoidance, fast retransmit and fast recovery
//! (RFC 5681, with the partial acknowledgements of RFC 6582, NewReno). The path is one ring and one card, but both lose
//! frames when a guest is slow, and a sender that does not slow down then would lose most of them.

use super::seq::Seq;

/// Segments of the initial window (RFC 6928).
const INITIAL_SEGMENTS: usize = 10;
/// Duplicate acknowledgements that stand for a loss.
const DUPLICATES: u32 = 3;

/// The window and what it learnt.
#[derive(Debug)]
pub struct Congestion {
    mss: usize,
    most: usize,
    window: usize,
    threshold: usize,
    /// Acknowledged in congestion avoidance since the window last grew.
    credit: usize,
    duplicates: u32,
    recovering: bool,
    /// Loss up to here is already answered for.
    recover: Seq,
}

impl Congestion {
    /// For segments of `mss` and a buffer of `most` octets, a stream that begins at `start`.
    pub fn new(mss: usize, most: usize, start: Seq) -> Self {
        Self {
            mss,
            most,
            window: mss * INITIAL_SEGMENTS,
            threshold: usize::MAX,
            credit: 0,
            duplicates: 0,
            recovering: false,
            recover: start,
        }
    }

    /// Octets that may be under way.
    pub fn window(&self) -> usize {
        self.window
    }

    /// `octets` more were acknowledged, up to `ack`, and `flight` are still under way. True: the segment at `ack` is lost too.
    pub fn acknowledged(&mut self, octets: usize, ack: Seq, flight: usize) -> bool {
        self.duplicates = 0;
        if self.recovering {
            if !ack.before(self.recover) {
                self.recovering = false;
                self.set(self.threshold.min(flight.max(self.mss) + self.mss));
                return false;
            }
            self.set(self.window.saturating_sub(octets) + self.mss);
            return true;
        }
        if self.window < self.threshold {
            // Appropriate byte counting, L = 2 (RFC 3465): one acknowledgement may stand for many segments.
            self.set(self.window + octets.min(2 * self.mss));
            return false;
        }
        self.credit += octets;
        if self.credit >= self.window {
            self.credit -= self.window;
            self.set(self.window + self.mss);
        }
        false
    }

    /// The acknowledgement of `una` came again, with `flight` octets under way up to `max`. True: send the segment at
    /// `una` again, now.
    pub fn duplicate(&mut self, una: Seq, max: Seq, flight: usize) -> bool {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.recovering {
            self.set(self.window + self.mss);
            return false;
        }
        if self.duplicates != DUPLICATES || una.before(self.recover) {
            return false;
        }
        self.threshold = (flight / 2).max(2 * self.mss);
        self.recover = max;
        self.recovering = true;
        self.set(self.threshold + DUPLICATES as usize * self.mss);
        true
    }

    /// The retransmission time-out expired with `flight` octets under way up to `max`.
    pub fn timed_out(&mut self, max: Seq, flight: usize) {
        self.threshold = (flight / 2).max(2 * self.mss);
        self.recover = max;
        self.recovering = false;
        self.duplicates = 0;
        self.credit = 0;
        self.set(self.mss);
    }

    fn set(&mut self, window: usize) {
        self.window = window.clamp(self.mss, self.most.max(self.mss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn fresh() -> Congestion {
        Congestion::new(MSS, 100_000, Seq(0))
    }

    #[test]
    fn slow_start_then_avoidance() {
        let mut congestion = fresh();
        assert_eq!(congestion.window(), 10 * MSS);
        assert!(!congestion.acknowledged(2 * MSS, Seq(2000), 8 * MSS));
        assert_eq!(congestion.window(), 12 * MSS);
        congestion.timed_out(Seq(20_000), 12 * MSS);
        assert_eq!(congestion.window(), MSS, "RFC 5681, 3.1: loss window");
        for n in 0..20_u32 {
            congestion.acknowledged(MSS, Seq(20_000 + n * 1000), MSS);
        }
        assert!(
            (6 * MSS..10 * MSS).contains(&congestion.window()),
            "linear above half the flight: {}",
            congestion.window()
        );
    }

    #[test]
    fn the_third_duplicate_sends_again_and_a_partial_acknowledgement_the_next_hole() {
        let mut congestion = fresh();
        let answers = [1, 2, 3, 4].map(|_| congestion.duplicate(Seq(0), Seq(10_000), 10 * MSS));
        assert_eq!(answers, [false, false, true, false]);
        assert_eq!(
            congestion.window(),
            5 * MSS + 3 * MSS + MSS,
            "threshold, and one a duplicate"
        );
        assert!(congestion.acknowledged(3 * MSS, Seq(3000), 7 * MSS), "partial");
        assert!(!congestion.acknowledged(7 * MSS, Seq(10_000), 0), "whole");
        assert_eq!(congestion.window(), 2 * MSS);
    }

    #[test]
    fn what_a_time_out_already_answered_is_no_new_loss() {
        let mut congestion = fresh();
        congestion.timed_out(Seq(10_000), 10 * MSS);
        let again = (0..5).any(|_| congestion.duplicate(Seq(4000), Seq(10_000), 2 * MSS));
        assert!(!again);
    }
}
