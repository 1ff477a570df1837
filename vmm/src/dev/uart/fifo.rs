//! The 16-byte FIFO of a 16550A: a ring that can neither grow nor be indexed out of bounds, whatever the guest does
//! (its index never being reset was VENOM's hole).

/// Entries.
pub const DEPTH: usize = 16;

/// A queue of at most [`DEPTH`] entries.
pub struct Fifo<T> {
    entries: [T; DEPTH],
    first: usize,
    len: usize,
}

impl<T: Copy + Default> Fifo<T> {
    /// Empty.
    pub fn new() -> Self {
        Self {
            entries: [T::default(); DEPTH],
            first: 0,
            len: 0,
        }
    }

    /// Entries waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry; `false` if full, and the entry is lost.
    pub fn push(&mut self, entry: T) -> bool {
        let room = self.len < DEPTH;
        if room {
            self.entries[(self.first + self.len) % DEPTH] = entry;
            self.len += 1;
        }
        room
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let oldest = *self.oldest()?;
        self.first = (self.first + 1) % DEPTH;
        self.len -= 1;
        Some(oldest)
    }

    /// The entry the next [`pop`](Self::pop) gives.
    pub fn oldest(&mut self) -> Option<&mut T> {
        (self.len > 0).then(|| &mut self.entries[self.first])
    }

    /// All entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (self.first..self.first + self.len).map(|at| &self.entries[at % DEPTH])
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH, Fifo};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn behaves_as_a_bounded_queue(steps in proptest::collection::vec(any::<Option<u8>>(), 0..200)) {
            let mut fifo = Fifo::new();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Some(entry) => {
                        prop_assert_eq!(fifo.push(entry), model.len() < DEPTH);
                        if model.len() < DEPTH {
                            model.push_back(entry);
                        }
                    }
                    None => prop_assert_eq!(fifo.pop(), model.pop_front()),
                }
                prop_assert!(fifo.iter().eq(model.iter()));
            }
        }
    }
}
