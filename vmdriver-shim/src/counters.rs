//! One side's statistics in the shared memory.
//!
//! Written by the side that owns them, read live by anybody who maps the memory (`vmapp status`, the tests). They are
//! for people: the peer can overwrite them, so no decision of the machine may rest on one.

use shared::abi::counters::{AppCounter, VmmCounter};
use shared::abi::{APP_COUNTERS_AT, VMM_COUNTERS_AT};
use shared::mem::{Mapped, Memory};
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;

/// A set of counters with a place in the shared memory.
pub trait CounterSet: Copy + 'static {
    /// Offset of the first counter.
    const BASE: usize;
    /// Every counter, in the order of the memory.
    const ALL: &'static [Self];
    /// Position in [`ALL`](Self::ALL).
    fn index(self) -> usize;
    /// The public name.
    fn name(self) -> &'static str;
}

impl CounterSet for VmmCounter {
    const BASE: usize = VMM_COUNTERS_AT;
    const ALL: &'static [Self] = VmmCounter::ALL;
    fn index(self) -> usize {
        self as usize
    }
    fn name(self) -> &'static str {
        VmmCounter::name(self)
    }
}

impl CounterSet for AppCounter {
    const BASE: usize = APP_COUNTERS_AT;
    const ALL: &'static [Self] = AppCounter::ALL;
    fn index(self) -> usize {
        self as usize
    }
    fn name(self) -> &'static str {
        AppCounter::name(self)
    }
}

/// The counters of one side.
#[derive(Clone)]
pub struct Counters<K> {
    mem: Mapped,
    set: PhantomData<fn(K)>,
}

impl<K: CounterSet> Counters<K> {
    /// The counters in this memory.
    pub fn new(mem: Mapped) -> Self {
        Self {
            mem,
            set: PhantomData,
        }
    }

    /// Counts. A load and a store, not a locked instruction: a counter belongs to one thread of one side. (Were two
    /// threads to share one, counts would be lost, nothing else.)
    #[inline]
    pub fn add(&self, counter: K, count: u64) {
        let at = K::BASE + counter.index() * 8;
        let sum = self.mem.load_u64(at, Relaxed).wrapping_add(count);
        self.mem.store_u64(at, sum, Relaxed);
    }

    /// Reads one.
    pub fn get(&self, counter: K) -> u64 {
        self.mem.load_u64(K::BASE + counter.index() * 8, Relaxed)
    }

    /// Reads all, in the order of the memory.
    pub fn all(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        K::ALL.iter().map(|&counter| (counter, self.get(counter)))
    }
}
