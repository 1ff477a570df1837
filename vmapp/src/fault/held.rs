//! Messages on their way through a lane, one direction: in order, each not before its time, two of them changing places.
//!
//! Beside each message stands how many slots of the down ring are given back once it is done with. Slots go back in the
//! order of the ring, whatever becomes of messages, so a pair that changed places gives back both at once: before the first
//! is done where nothing may be done twice (network), after the last where nothing may be left undone (all others).

use shared::abi::SlotHeader;
use shared::ring::RingError;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a message waits for the next one to change places with.
pub const SWAP_LIMIT: Duration = Duration::from_millis(20);

/// A message as its receiver would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Kind, flags and id; the length is the payload's.
    pub header: SlotHeader,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// One of them, with what is owed for it.
#[derive(Debug)]
struct Entry {
    /// Or a slot that was none.
    message: Result<Message, RingError>,
    due: Instant,
    /// Waits for the next.
    swaps: bool,
    owed: u32,
}

/// When and how often a message arrives.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// Not before.
    pub due: Instant,
    /// After the next.
    pub swaps: bool,
    /// Twice.
    pub twice: bool,
}

/// The queue.
#[derive(Debug)]
pub struct Held {
    queue: VecDeque<Entry>,
    /// Of what belongs together the first gives the slots back, and not the last.
    first_owes: bool,
}

impl Held {
    /// An empty one.
    pub fn new(first_owes: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            first_owes,
        }
    }

    /// Messages under way.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes in a message for which `owed` slots are given back.
    pub fn push(&mut self, message: Result<Message, RingError>, passage: Passage, owed: u32) {
        let due = passage.due;
        let mut group = vec![message];
        if passage.twice {
            group.extend(group.first().cloned());
        }
        let mut owed = owed;
        let before = self.queue.pop_back_if(|entry| entry.swaps);
        // Whoever waited has found its partner, and a partner does not wait itself.
        let swaps = passage.swaps && before.is_none() && !passage.twice;
        if let Some(before) = before {
            owed += before.owed;
            group.push(before.message);
        }
        let last = group.len() - 1;
        for (place, message) in group.into_iter().enumerate() {
            let pays = place == if self.first_owes { 0 } else { last };
            self.queue.push_back(Entry {
                message,
                due: if swaps { due + SWAP_LIMIT } else { due },
                swaps,
                owed: if pays { owed } else { 0 },
            });
        }
    }

    /// The first one, if its time has come, with what is owed for it.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Result<Message, RingError>, u32)> {
        let entry = self.queue.pop_front_if(|entry| entry.due <= now)?;
        Some((entry.message, entry.owed))
    }

    /// Puts one back that could not be taken.
    pub fn put_back(&mut self, message: Result<Message, RingError>, owed: u32, now: Instant) {
        self.queue.push_front(Entry {
            message,
            due: now,
            swaps: false,
            owed,
        });
    }

    /// When the first one's time comes.
    pub fn due(&self) -> Option<Instant> {
        self.queue.front().map(|entry| entry.due)
    }

    /// So many slots more are given back with the last one. False: there is none.
    pub fn owe(&mut self, slots: u32) -> bool {
        match self.queue.back_mut() {
            Some(last) => last.owed += slots,
            None => return false,
        }
        true
    }

    /// Nothing waits any longer.
    pub fn let_go(&mut self, now: Instant) {
        for entry in &mut self.queue {
            (entry.due, entry.swaps) = (now, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> Result<Message, RingError> {
        let header = SlotHeader {
            len: 0,
            kind: 1,
            flags: 0,
            id,
        };
        Ok(Message {
            header,
            payload: Vec::new(),
        })
    }

    /// Ids and slots given back, in order, of what has come out.
    fn drained(held: &mut Held, now: Instant) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| held.pop_due(now))
            .map(|(message, owed)| (message.unwrap().header.id, owed))
            .collect()
    }

    #[test]
    fn what_belongs_together_gives_its_slots_back_once_and_in_the_rings_order() {
        let now = Instant::now();
        let plain = Passage {
            due: now,
            swaps: false,
            twice: false,
        };
        let swaps = Passage { swaps: true, ..plain };
        let twice = Passage { twice: true, ..plain };
        for (what, passages, first, last) in [
            (
                "as they come",
                vec![plain, plain],
                vec![(1, 1), (2, 1)],
                vec![(1, 1), (2, 1)],
            ),
            (
                "twice",
                vec![twice, plain],
                vec![(1, 1), (1, 0), (2, 1)],
                vec![(1, 0), (1, 1), (2, 1)],
            ),
            (
                "swapped",
                vec![swaps, plain, plain],
                vec![(2, 2), (1, 0), (3, 1)],
                vec![(2, 0), (1, 2), (3, 1)],
            ),
            (
                "both",
                vec![swaps, twice],
                vec![(2, 2), (2, 0), (1, 0)],
                vec![(2, 0), (2, 0), (1, 2)],
            ),
            (
                "in pairs",
                vec![swaps, swaps, swaps, swaps],
                vec![(2, 2), (1, 0), (4, 2), (3, 0)],
                vec![(2, 0), (1, 2), (4, 0), (3, 2)],
            ),
        ] {
            for (first_owes, expected) in [(true, first), (false, last)] {
                let mut held = Held::new(first_owes);
                for (id, &passage) in (1..).zip(&passages) {
                    held.push(message(id), passage, 1);
                }
                assert_eq!(drained(&mut held, now), expected, "{what}, first {first_owes}");
            }
        }
    }

    #[test]
    fn nobody_overtakes_a_late_one_and_the_last_waits_only_so_long_for_a_partner() {
        let now = Instant::now();
        let at = |ms| Passage {
            due: now + Duration::from_millis(ms),
            swaps: false,
            twice: false,
        };
        let mut held = Held::new(false);
        held.push(message(1), at(5), 1);
        held.push(message(2), at(0), 1);
        assert_eq!(drained(&mut held, now), []);
        assert_eq!(held.due(), Some(now + Duration::from_millis(5)));
        assert!(held.owe(3));
        assert_eq!(
            drained(&mut held, now + Duration::from_millis(5)),
            [(1, 1), (2, 4)]
        );
        assert!(!held.owe(1), "nobody left to owe it");
        held.push(message(3), Passage { swaps: true, ..at(0) }, 1);
        assert_eq!(drained(&mut held, now), []);
        assert_eq!(drained(&mut held, now + SWAP_LIMIT), [(3, 1)]);
        held.push(
            message(4),
            Passage {
                swaps: true,
                ..at(50)
            },
            1,
        );
        held.let_go(now);
        assert_eq!(drained(&mut held, now), [(4, 1)]);
    }
}
