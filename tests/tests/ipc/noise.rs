//! The garbage a hostile side writes: the same in every run.

use shared::abi::{Layout, RingLayout, RingOffsets};
use shared::mem::{Mapped, Memory};
use std::sync::atomic::Ordering::Relaxed;

/// Values that are wrong in their own way, beside the random ones.
const EDGES: [u64; 8] = [
    0,
    1,
    u64::MAX,
    1 << 63,
    0x8000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    64,
];

/// xorshift64.
pub struct Noise(u64);

impl Noise {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 8) as usize % limit
    }

    pub fn word(&mut self) -> u64 {
        match self.below(4) {
            0 => EDGES[self.below(EDGES.len())],
            1 => self.next() % 128,
            _ => self.next(),
        }
    }

    /// Every word of the memory, the header's among them, and the first pages' over again: they say who waits and who has
    /// work.
    pub fn everywhere(&mut self, mem: &Mapped) {
        let words = mem.len() / 8;
        for word in 0..words {
            mem.store_u64(8 * word, self.word(), Relaxed);
        }
        for _ in 0..1000 {
            let word = self.below(words.min(1024));
            mem.store_u64(8 * word, self.word(), Relaxed);
        }
    }

    /// Rings that are plausible but for their content: indices near each other, backwards now and then, and lengths, kinds
    /// and ids that lie.
    pub fn deceive(&mut self, mem: &Mapped, layout: &Layout) {
        for ring in rings(layout) {
            for slot in 0..ring.slots {
                mem.store_u64(ring.slot_at(slot), self.word(), Relaxed);
                mem.store_u64(ring.slot_at(slot) + 8, self.next() % 16, Relaxed);
            }
            for at in [RingOffsets::HEAD, RingOffsets::TAIL] {
                let near = mem
                    .load_u32(ring.at + at, Relaxed)
                    .wrapping_add(self.below(4) as u32)
                    .wrapping_sub(1);
                mem.store_u32(ring.at + at, near, Relaxed);
            }
        }
    }

    /// The first bytes of slots: what is being read changes under the reader.
    pub fn tear(&mut self, mem: &Mapped, layout: &Layout) {
        for ring in rings(layout) {
            let slot = ring.slot_at(self.next() as u32);
            for at in [0, 8, 16, 24] {
                mem.store_u64(slot + at, self.word(), Relaxed);
            }
        }
    }
}

fn rings(layout: &Layout) -> impl Iterator<Item = RingLayout> {
    layout
        .channels()
        .iter()
        .flat_map(|channel| [channel.down, channel.up])
}
