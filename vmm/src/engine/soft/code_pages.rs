//! Which physical pages hold decoded or translated code, to the precision of 64 bytes, and who changed some.
//!
//! An engine adds the bytes it decoded; [`super::access`] asks on every store that takes the slow way, and a page with
//! code always takes it. A store that misses the decoded lines costs nothing more. Writes by devices (DMA) are reported
//! by the guest memory itself.

use std::collections::HashMap;

/// Bytes a line covers.
const LINE: u64 = 64;

/// The map: physical page number to a bit per line.
#[derive(Clone, Debug, Default)]
pub struct CodePages {
    pages: HashMap<u64, u64>,
}

impl CodePages {
    /// Whether a page holds any code.
    pub fn holds(&self, phys: u64) -> bool {
        self.pages.contains_key(&(phys >> 12))
    }

    /// Adds decoded bytes `phys..phys + len`, inside one page. True: the page held none before, so its fast stores must
    /// now be stopped ([`super::tlb::Tlb::protect`]).
    pub fn add(&mut self, phys: u64, len: u64) -> bool {
        let lines = self.pages.entry(phys >> 12).or_default();
        let fresh = *lines == 0;
        *lines |= mask(phys, len);
        fresh
    }

    /// Whether a store to `phys..phys + len`, inside one page, changes decoded bytes (or could).
    pub fn hit(&self, phys: u64, len: u64) -> bool {
        self.pages
            .get(&(phys >> 12))
            .is_some_and(|lines| lines & mask(phys, len) != 0)
    }

    /// Forgets a page: its code was dropped.
    pub fn remove(&mut self, phys: u64) {
        self.pages.remove(&(phys >> 12));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.pages.clear();
    }
}

fn mask(phys: u64, len: u64) -> u64 {
    let first = (phys & 0xfff) / LINE;
    let last = ((phys & 0xfff) + len.max(1) - 1).min(0xfff) / LINE;
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_hits_only_lines_with_code() {
        let mut pages = CodePages::default();
        assert!(pages.add(0x5040, 64));
        assert!(!pages.add(0x5ff0, 16));
        for (at, len, hit) in [
            (0x5000, 64, false),
            (0x503f, 2, true),
            (0x507f, 1, true),
            (0x5080, 0xf40, false),
            (0x5080, 0xf80, true),
            (0x6040, 8, false),
        ] {
            assert_eq!(pages.hit(at, len), hit, "{at:#x}+{len}");
        }
        pages.remove(0x5abc);
        assert!(!pages.holds(0x5040));
    }
}
