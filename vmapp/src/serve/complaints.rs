//! How often the user hears that the vmm breaks the rules: at once, then at most every ten seconds, with the number.

use std::time::{Duration, Instant};

/// Least time between two complaints.
const EVERY: Duration = Duration::from_secs(10);

/// What was told.
#[derive(Debug, Default)]
pub struct Complaints {
    told: u64,
    at: Option<Instant>,
}

impl Complaints {
    /// The complaint that is due, if any, given the number of errors up to now.
    pub fn about(&mut self, errors: u64, now: Instant) -> Option<String> {
        if errors == self.told || self.at.is_some_and(|at| now.duration_since(at) < EVERY) {
            return None;
        }
        let fresh = errors.saturating_sub(self.told);
        self.told = errors;
        self.at = Some(now);
        Some(format!("the vmm broke the ring's rules {fresh} times; ignored"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_errors_is_a_trickle_of_complaints() {
        let mut complaints = Complaints::default();
        let begun = Instant::now();
        let told = (1..=20_000)
            .filter(|&n| complaints.about(n, begun + Duration::from_millis(n)).is_some())
            .count();
        assert_eq!(told, 2, "20 seconds");
        assert_eq!(complaints.about(0, begun), None);
    }
}
