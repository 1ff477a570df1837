//! Frames the router itself has for the guest: answers to ARP, DHCP, ping and DNS, errors and resets. They wait in fixed
//! places until the card has room; a guest that asks faster than it listens loses answers, as on any network.

use shared::msg::net::MAX_FRAME;

/// Most answers that wait.
const PLACES: usize = 64;

/// The queue.
pub struct Outbox {
    frames: Vec<[u8; MAX_FRAME]>,
    lengths: [usize; PLACES],
    first: usize,
    count: usize,
}

impl Outbox {
    /// Empty.
    pub fn new() -> Self {
        Self {
            frames: vec![[0; MAX_FRAME]; PLACES],
            lengths: [0; PLACES],
            first: 0,
            count: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Queues the frame `write` makes, whose length it says. False: there is no place.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.count == PLACES {
            return false;
        }
        let at = (self.first + self.count) % PLACES;
        if let (Some(frame), Some(length)) = (self.frames.get_mut(at), self.lengths.get_mut(at)) {
            *length = write(frame);
            self.count += 1;
        }
        true
    }

    /// Takes the oldest out.
    pub fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let length = *self.lengths.get(self.first)?;
        let frame = self.frames.get(self.first)?.get(..length)?;
        self.first = (self.first + 1) % PLACES;
        self.count -= 1;
        into.get_mut(..length)?.copy_from_slice(frame);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_up_to_the_bound() {
        let mut outbox = Outbox::new();
        for round in 0..3 {
            let queued = (0..100).filter(|_| outbox.push(|frame| frame.len().min(60 + round)));
            assert_eq!(queued.count(), PLACES);
            let mut frame = [0; MAX_FRAME];
            for _ in 0..PLACES {
                assert_eq!(outbox.pop(&mut frame), Some(60 + round));
            }
            assert_eq!(outbox.pop(&mut frame), None);
        }
    }
}
