//! How long to wait for an acknowledgement (RFC 6298): the smoothed round trip and its variation make the retransmission
//! time-out, which doubles with every expiry. Driven by the sender, which times one segment at a time and never one it
//! sent twice (Karn's algorithm).

use std::time::Duration;

/// Before the first measurement (RFC 6298, 2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// Least. RFC 6298 (2.4) asks for a second and allows for less where clocks are fine; this is Linux's, and above any delayed
/// acknowledgement of a guest.
const LEAST: Duration = Duration::from_millis(200);
/// Most (2.5).
const MOST: Duration = Duration::from_secs(60);
/// Clock granularity G.
const GRANULARITY: Duration = Duration::from_millis(1);

/// The estimate.
#[derive(Debug)]
pub struct Rto {
    smoothed: Option<Duration>,
    variation: Duration,
    timeout: Duration,
}

impl Rto {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            timeout: INITIAL,
        }
    }

    /// A segment sent once was acknowledged after `measured`.
    pub fn sample(&mut self, measured: Duration) {
        let smoothed = match self.smoothed {
            None => {
                self.variation = measured / 2;
                measured
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(measured)) / 4;
                (smoothed * 7 + measured) / 8
            }
        };
        self.smoothed = Some(smoothed);
        self.timeout = (smoothed + GRANULARITY.max(self.variation * 4)).clamp(LEAST, MOST);
    }

    /// The time-out expired.
    pub fn back_off(&mut self) {
        self.timeout = (self.timeout * 2).min(MOST);
    }

    /// The time-out now.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formulas_of_rfc_6298() {
        let ms = Duration::from_millis;
        let mut rto = Rto::new();
        assert_eq!(rto.timeout(), ms(1000));
        rto.sample(ms(800));
        assert_eq!(rto.timeout(), ms(800 + 4 * 400), "SRTT = R, RTTVAR = R/2");
        rto.sample(ms(400));
        // RTTVAR = 3/4 * 400 + 1/4 * |800 - 400| = 400; SRTT = 7/8 * 800 + 1/8 * 400 = 750.
        assert_eq!(rto.timeout(), ms(750 + 4 * 400));
        rto.back_off();
        assert_eq!(rto.timeout(), ms(2 * 2350));
        for _ in 0..20 {
            rto.back_off();
        }
        assert_eq!(rto.timeout(), MOST);
        for _ in 0..100 {
            rto.sample(Duration::from_micros(50));
        }
        assert_eq!(rto.timeout(), LEAST);
    }
}
