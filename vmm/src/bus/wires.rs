//! Interrupt wires. A device owns a [`Line`] onto one of the board's 24 global interrupts (GSIs); lines on the same
//! GSI are wired-OR. The board drains changes into the interrupt controllers after every access ([`Wires::take`]).
//!
//! Rising edges are latched: a pulse between two drains is one edge, never none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Wires of the board: I/O APIC pins 0..=23; 0..=15 reach the 8259s as IRQ 0..=15.
pub const GSIS: usize = 24;

#[derive(Default)]
struct Shared {
    /// Bit per source and GSI: who holds the wire up.
    asserted: [AtomicU32; GSIS],
    /// Sources given out per GSI.
    sources: [AtomicU32; GSIS],
    /// GSIs whose level was touched since the last drain.
    touched: AtomicU32,
    /// GSIs that rose since the last drain.
    rose: AtomicU32,
}

/// All wires of the board.
#[derive(Clone, Default)]
pub struct Wires(Arc<Shared>);

/// What happened to one wire since the last drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which wire.
    pub gsi: u8,
    /// Whether it rose at least once.
    pub rose: bool,
    /// Its level now.
    pub level: bool,
}

impl Wires {
    /// A new source on wire `gsi` (0..=23); `None` if there is no such wire or it has 32 sources already.
    pub fn line(&self, gsi: u8) -> Option<Line> {
        let source = self.0.sources.get(usize::from(gsi))?.fetch_add(1, Relaxed);
        (source < 32).then(|| Line {
            wires: self.clone(),
            gsi,
            bit: 1 << source,
        })
    }

    /// Whether [`take`](Self::take) would give anything: one plain load.
    #[inline]
    pub fn changed(&self) -> bool {
        self.0.touched.load(Relaxed) != 0
    }

    /// Drains the changes, lowest wire first.
    pub fn take(&self) -> impl Iterator<Item = Change> + use<> {
        let touched = self.0.touched.swap(0, Relaxed);
        let rose = self.0.rose.swap(0, Relaxed);
        let shared = Arc::clone(&self.0);
        (0..GSIS as u8)
            .filter(move |gsi| touched >> gsi & 1 != 0)
            .map(move |gsi| Change {
                gsi,
                rose: rose >> gsi & 1 != 0,
                level: shared.asserted[usize::from(gsi)].load(Relaxed) != 0,
            })
    }

    /// Level of a wire now.
    pub fn level(&self, gsi: u8) -> bool {
        self.0
            .asserted
            .get(usize::from(gsi))
            .is_some_and(|asserted| asserted.load(Relaxed) != 0)
    }
}

/// One device's hold on a wire.
pub struct Line {
    wires: Wires,
    gsi: u8,
    bit: u32,
}

impl Line {
    /// Holds the wire up, or lets it go.
    #[inline]
    pub fn set(&self, level: bool) {
        let shared = &self.wires.0;
        let wire = &shared.asserted[usize::from(self.gsi)];
        let before = if level {
            wire.fetch_or(self.bit, Relaxed)
        } else {
            wire.fetch_and(!self.bit, Relaxed)
        };
        let after = if level {
            before | self.bit
        } else {
            before & !self.bit
        };
        if (before != 0) != (after != 0) {
            shared.touched.fetch_or(1 << self.gsi, Relaxed);
            if after != 0 {
                shared.rose.fetch_or(1 << self.gsi, Relaxed);
            }
        }
    }

    /// One edge: up and down again.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// The wire's number.
    pub fn gsi(&self) -> u8 {
        self.gsi
    }
}
