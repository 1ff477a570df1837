//! Which bytes of guest memory an engine has decoded, so that whoever writes them can tell it.
//!
//! Made by a software engine ([`GuestMemory::code_map`](super::GuestMemory::code_map)); without one a write by a device
//! costs a look at an empty pointer. The engine adds what it decodes and asks on its own slow stores;
//! [`GuestMemory::write`](super::GuestMemory::write) reports DMA by [`CodeMap::written`], and the engine takes the
//! report before it runs guest code again. Precision: 64 bytes. A page with a report holds no code until it is added
//! again, so that the queue is never longer than there are pages.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, PoisonError};

const PAGE: u64 = 4096;
/// Bytes a line covers: 64 lines to a page, a bit for each.
const LINE: u64 = 64;

/// Lines of decoded code by page, and the pages written since the engine last asked.
#[derive(Debug)]
pub struct CodeMap {
    /// A word per guest-physical page.
    lines: Box<[AtomicU64]>,
    /// Whether `dirty` has anything: one plain load for the engine.
    any_dirty: AtomicBool,
    dirty: Mutex<Vec<u64>>,
}

impl CodeMap {
    /// For guest-physical addresses below `end`.
    pub(super) fn new(end: u64) -> Self {
        let pages = end.div_ceil(PAGE) as usize;
        Self {
            lines: std::iter::repeat_with(AtomicU64::default).take(pages).collect(),
            any_dirty: AtomicBool::new(false),
            dirty: Mutex::new(Vec::new()),
        }
    }

    fn page(&self, at: u64) -> Option<&AtomicU64> {
        self.lines.get(usize::try_from(at / PAGE).ok()?)
    }

    /// Whether a page holds any code.
    #[inline]
    pub fn holds(&self, at: u64) -> bool {
        self.page(at).is_some_and(|lines| lines.load(Relaxed) != 0)
    }

    /// Adds decoded bytes `at..at + len`, inside one page. True: the page held none before.
    pub fn add(&self, at: u64, len: u64) -> bool {
        self.page(at)
            .is_some_and(|lines| lines.fetch_or(mask(at, len), Relaxed) == 0)
    }

    /// Whether a store to `at..at + len`, inside one page, changes decoded bytes (or could).
    #[inline]
    pub fn hit(&self, at: u64, len: u64) -> bool {
        self.page(at)
            .is_some_and(|lines| lines.load(Relaxed) & mask(at, len) != 0)
    }

    /// Forgets a page: its code was dropped.
    pub fn remove(&self, at: u64) {
        if let Some(lines) = self.page(at) {
            lines.store(0, Relaxed);
        }
    }

    /// Somebody but the engine wrote `at..at + len`: pages with code among it are forgotten and reported.
    pub fn written(&self, mut at: u64, len: u64) {
        let end = at.saturating_add(len);
        while at < end {
            let next = (at | (PAGE - 1)).saturating_add(1).min(end);
            if self.hit(at, next - at) {
                self.remove(at);
                let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
                dirty.push(at & !(PAGE - 1));
                self.any_dirty.store(true, Release);
            }
            at = next;
        }
    }

    /// Whether [`take_written`](Self::take_written) has anything to give: one plain load.
    #[inline]
    pub fn any_written(&self) -> bool {
        self.any_dirty.load(Relaxed)
    }

    /// The pages reported since the last call.
    pub fn take_written(&self) -> Vec<u64> {
        if !self.any_dirty.swap(false, Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn mask(at: u64, len: u64) -> u64 {
    let first = (at % PAGE) / LINE;
    let last = (at % PAGE + len.max(1) - 1).min(PAGE - 1) / LINE;
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_hits_only_lines_with_code() {
        let code = CodeMap::new(0x8000);
        assert!(code.add(0x5040, 64));
        assert!(!code.add(0x5ff0, 16));
        for (at, len, hit) in [
            (0x5000, 64, false),
            (0x503f, 2, true),
            (0x507f, 1, true),
            (0x5080, 0xf40, false),
            (0x5080, 0xf80, true),
            (0x6040, 8, false),
            (0x1_0000_0000, 8, false),
        ] {
            assert_eq!(code.hit(at, len), hit, "{at:#x}+{len}");
        }
        code.remove(0x5abc);
        assert!(!code.holds(0x5040));
    }

    #[test]
    fn a_write_by_others_reports_each_page_with_code_once() {
        let code = CodeMap::new(0x8000);
        code.add(0x1000, 16);
        code.add(0x3fc0, 64);
        code.written(0x1010, 0x10);
        code.written(0x0fff, 0x2fc1);
        assert!(code.any_written());
        assert_eq!(code.take_written(), [0x1000], "once; and 0x3fc0 is just beyond");
        code.written(0x3000, 0x1000);
        code.written(0x3000, 0x1000);
        assert_eq!(code.take_written(), [0x3000]);
        assert!(!code.any_written() && code.take_written().is_empty());
        code.written(u64::MAX - 5, 100);
    }
}
