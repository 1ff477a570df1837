//! How many lines workers and clients may cause on the user's terminal or in the log: a compromised worker must not be able
//! to flood either, or to stall the supervisor by a reader of the log that is slow.

use std::time::{Duration, Instant};

/// Lines let through in one [`WINDOW`].
const LINES: u32 = 20;
/// See [`LINES`].
const WINDOW: Duration = Duration::from_secs(10);

/// The count.
#[derive(Debug, Default)]
pub struct LineLimit {
    window: Option<Instant>,
    let_through: u32,
    held_back: u64,
}

impl LineLimit {
    /// Whether a line may be written now: with how many were held back before it.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self
            .window
            .is_none_or(|begun| now.duration_since(begun) >= WINDOW)
        {
            self.window = Some(now);
            self.let_through = 0;
        }
        if self.let_through >= LINES {
            self.held_back += 1;
            return None;
        }
        self.let_through += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_trickle_that_says_how_much_is_missing() {
        let mut limit = LineLimit::default();
        let begun = Instant::now();
        let allowed = (0..1000).filter(|_| limit.allow(begun).is_some()).count();
        assert_eq!(allowed, LINES as usize);
        assert_eq!(limit.allow(begun + WINDOW), Some(1000 - u64::from(LINES)));
        assert_eq!(limit.allow(begun + WINDOW), Some(0));
    }
}
