//! When the guest is told that its frames are out: TINT, put off while frames are frequent. Pure.
//!
//! A real card is done with a frame some microseconds after the demand; this one is done at once, and an interrupt for each
//! frame would be most of what sending costs the guest. So interrupts are put together by the measure of send combining, and by
//! its switches ([`IoSpec`]): while they are rare each comes at once; else one comes for `max_combined` frames, half a ring
//! of descriptors, or `flush_us`, whatever is first. Sooner comes an interrupt for any other cause, which takes TINT with
//! it, and whoever reads CSR0 or halts does not wait at all. Descriptors are given back at once in any case.

use crate::time::Ns;
use shared::spec::IoSpec;
use std::time::Duration;
use vmdriver_shim::rate::Rate;

/// The policy's memory.
#[derive(Debug)]
pub struct Coalescer {
    /// Most frames the guest is not told of; 1: each interrupts.
    most: u32,
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
            most: if io.send_combining { io.max_combined } else { 1 },
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
        let told = !frequent || self.frames >= self.most.min(u32::from(entries / 2));
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

    /// Interrupts for 300 frames, one each 100 us, once it has settled.
    fn interrupts(send_combining: bool, max_combined: u32, entries: u16) -> usize {
        let mut coalescer = Coalescer::new(&IoSpec {
            send_combining,
            max_combined,
            ..IoSpec::default()
        });
        let told = (0..400).map(|n| coalescer.is_told(Ns(n * 100_000), 1, entries));
        told.skip(100).filter(|&told| told).count()
    }

    #[test]
    fn the_switches_and_the_ring_bound_what_is_put_together() {
        for (on, most, entries, expected) in [
            (true, 3, 16, 100),
            (true, 5, 16, 60),
            (true, 64, 8, 75),
            (true, 1, 16, 300),
            (true, 3, 1, 300),
            (true, 3, 0, 300),
            (false, 3, 16, 300),
        ] {
            let told = interrupts(on, most, entries);
            assert_eq!(told, expected, "{on} {most} {entries}");
        }
    }
}
