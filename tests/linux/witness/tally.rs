//! What the witness has seen so far, put together for its reports by whoever sees it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Reports that tell of the same wait: one of them will be read.
const TOLD: usize = 4;
/// Most errors kept between two reports; all are counted.
const KEPT: usize = 20;

/// See the module.
#[derive(Default)]
pub struct Tally {
    /// Numbers of the last records acknowledged.
    pub file: AtomicU64,
    pub name: AtomicU64,
    pub raw: AtomicU64,
    /// Blocks sent to the host, and received from it, whole and in order.
    pub up: AtomicU64,
    pub down: AtomicU64,
    /// Times the network card lost its link.
    pub flaps: AtomicU64,
    /// Longest time of a write with its fsync.
    pub write: Longest,
    /// Longest time between two blocks from the host.
    pub gap: Longest,
    stopped: AtomicBool,
    failures: AtomicU64,
    /// Errors nobody was told of yet.
    errors: Mutex<Vec<String>>,
}

impl Tally {
    /// Everyone is to end.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Whether that was said.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Something that must not happen to a guest.
    pub fn error(&self, what: String) {
        self.failures.fetch_add(1, Relaxed);
        let mut errors = self.errors.lock().unwrap_or_else(|poison| poison.into_inner());
        if errors.len() < KEPT {
            errors.push(what);
        }
    }

    /// The errors since the last look.
    pub fn errors(&self) -> Vec<String> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(|poison| poison.into_inner()))
    }

    /// All there is to say, as `WHAT key=value...`, times in microseconds.
    pub fn report(&self, what: &str) -> String {
        let values = [
            ("file", self.file.load(Relaxed)),
            ("name", self.name.load(Relaxed)),
            ("raw", self.raw.load(Relaxed)),
            ("up", self.up.load(Relaxed)),
            ("down", self.down.load(Relaxed)),
            ("flaps", self.flaps.load(Relaxed)),
            ("errors", self.failures.load(Relaxed)),
            ("write", self.write.of_late()),
            ("gap", self.gap.of_late()),
        ];
        let values = values.map(|(key, value)| format!("{key}={value}"));
        format!("{what} {}", values.join(" "))
    }
}

/// The longest of some times, in microseconds, over the last few reports.
#[derive(Default)]
pub struct Longest {
    now: AtomicU64,
    before: Mutex<[u64; TOLD]>,
}

impl Longest {
    /// Notes one.
    pub fn note(&self, time: Duration) {
        self.now.fetch_max(time.as_micros() as u64, Relaxed);
    }

    fn of_late(&self) -> u64 {
        let mut before = self.before.lock().unwrap_or_else(|poison| poison.into_inner());
        before.rotate_right(1);
        before[0] = self.now.swap(0, Relaxed);
        before.iter().copied().max().unwrap_or_default()
    }
}
