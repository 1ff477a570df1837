//! When the guest is told that its frames are out: TINT, put off while frames are frequent. Pure.
//!
//! A real card is done with a frame some microseconds after the demand; this one is done at once, and an interrupt for each
//! frame would be most of what sending costs the guest. So interrupts are put together with send combining, by its measure and
//! its switch ([`IoSpec`]): while they are rare each comes at once; else one comes for half a ring of descriptors, [`MOST`]
//! frames or `flush_us`, whatever is first. Sooner comes an interrupt for any other cause, which takes TINT with
//! it, and whoever reads CSR0 or halts does not wait at all. Descriptors are given back at once in any case.
//!
//! The limit is not `max_combined`: that is how long the host waits for a frame, this is how long the guest waits for the
//! memory of one. Linux's pcnet32 has 16 descriptors and stops at none free.

use crate::time::Ns;
use shared::spec::IoSpec;
use std::time::Duration;
use vmdriver_shim::rate::Rate;

/// Most frames the guest is not told of.
const MOST: u32 = 16;

/// The policy's memory.
#[derive(Debug)]
pub struct Coalescer {
    on: bool,
    tick: u64,
    rate: Rate,
    /// When frames were last sent.
    last: Ns,
    frames: u32,
    /// When the guest is told at the latest.
    due: Option<Ns>,
}

impl Coalescer {
    /// As the `[io]` section says.
    pub fn new(io: &IoSpec) -> Self {
        Self {
            on: io.send_combining,
            tick: Duration::from_micros(io.flush_us.into()).as_nanos() as u64,
            rate: Rate::default(),
            last: Ns(0),
            frames: 0,
            due: None,
        }
    }

    /// The guest has been told of all frames so far.
    pub fn start_afresh(&mut self) {
        (self.frames, self.due) = (0, None);
    }

    /// So many frames more are out, from a ring of `entries` descriptors: whether the guest is told now.
    pub fn is_told(&mut self, now: Ns, frames: u32, entries: u16) -> bool {
        let frequent = self.rate.again(Duration::from_nanos(now.since(self.last)));
        self.last = now;
        self.frames = self.frames.saturating_add(frames);
        let told = !self.on || !frequent || self.frames >= MOST.min(u32::from(entries / 2));
        if told {
            self.start_afresh();
        } else {
            self.due.get_or_insert(now.after(self.tick));
        }
        told
    }

    /// When the guest is told at the latest, if it was not told meanwhile.
    pub fn due(&self) -> Option<Ns> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interrupts for 320 frames, one each 50 us, once it has settled.
    fn interrupts(send_combining: bool, entries: u16) -> usize {
        let mut coalescer = Coalescer::new(&IoSpec {
            send_combining,
            ..IoSpec::default()
        });
        let told = (0..480).map(|n| coalescer.is_told(Ns(n * 50_000), 1, entries));
        told.skip(160).filter(|&told| told).count()
    }

    #[test]
    fn the_switch_and_the_ring_bound_what_is_put_together() {
        for (on, entries, expected) in [
            (true, 512, 20),
            (true, 16, 40),
            (true, 8, 80),
            (true, 2, 320),
            (true, 0, 320),
            (false, 16, 320),
        ] {
            assert_eq!(interrupts(on, entries), expected, "{on} {entries}");
        }
    }
}
