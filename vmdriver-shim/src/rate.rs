//! How often something happens, as a level that decays: the measure by which work for many is put together and work for
//! one is done at once. Pure: its user has the clock.

use std::time::Duration;

/// Time in which the level falls to 1/e.
const DECAY: Duration = Duration::from_millis(4);
/// Level from which on something is frequent: about 360 times a second.
const GATE: f64 = 2.0;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    level: f64,
}

impl Rate {
    /// It happens once more, so long after the time before: whether that is frequent.
    pub fn again(&mut self, after: Duration) -> bool {
        self.level = self.level * (-after.as_secs_f64() / DECAY.as_secs_f64()).exp() + 1.0;
        self.level >= GATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_more_than_about_360_times_a_second_is_frequent() {
        for (hertz, expected) in [
            (1, false),
            (100, false),
            (300, false),
            (400, true),
            (10_000, true),
        ] {
            let mut rate = Rate::default();
            let frequent = (0..1000).map(|_| rate.again(Duration::from_secs(1) / hertz));
            assert_eq!(frequent.last(), Some(expected), "{hertz} Hz");
        }
    }

    #[test]
    fn one_alone_is_not_frequent_and_a_burst_is_from_its_third_on() {
        let mut rate = Rate::default();
        let burst = [0, 10, 10, 10, 20_000].map(|us| rate.again(Duration::from_micros(us)));
        assert_eq!(burst, [false, false, true, true, false]);
    }
}
