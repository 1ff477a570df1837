//! Bytes of a fuzzer as numbers. Missing ones are zero, so every input is a complete one.

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `count` (at most 8) bytes, little endian.
    pub fn number(&mut self, count: usize) -> u64 {
        let (taken, rest) = self.0.split_at(count.min(8).min(self.0.len()));
        self.0 = rest;
        taken
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// One of `choices`, which are not none.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
