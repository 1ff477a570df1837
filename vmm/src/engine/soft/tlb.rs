//! Software TLB: linear page to host address, one compare per access.
//!
//! `linear - tag <= 4096 - size` holds only if the access lies wholly in the tagged page: one subtraction checks the
//! tag, the right (reads and writes have tags of their own) and that the access does not cross the page's end. An
//! entry that must not match carries the tag of a page that another entry serves, so it never can.
//!
//! There are four sets, because rights differ: user, supervisor, supervisor with SMAP overridden, and one that is
//! never filled, selected while every access needs a slow look (alignment checks).
//!
//! Only RAM and ROM are ever entered; a page is writable here only if its dirty bit is set, no decoded code is on it
//! and no data breakpoint watches it. Everything else takes the slow way in [`super::access`].

/// Entries of a set.
const ENTRIES: usize = 1024;
/// Entries of a set's instruction-fetch table.
const FETCH_ENTRIES: usize = 256;
const SETS: usize = 4;
/// The set that stays empty.
const SLOW: usize = 3;
const PAGE_MASK: u64 = !0xfff;

/// What an entry remembers of its mapping, in the low bits of [`Entry::phys`].
const GLOBAL: u64 = 1;
const LARGE: u64 = 2;
/// The entry's index is in its set's list, if only as one cleared since.
const LISTED: u64 = 4;

#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    read: u64,
    write: u64,
    /// Host address minus linear address, wrapping.
    addend: u64,
    /// Physical page, and [`GLOBAL`], [`LARGE`], [`LISTED`].
    phys: u64,
}

#[derive(Clone, Copy)]
struct FetchEntry {
    tag: u64,
    phys: u64,
}

struct Set {
    data: Box<[Entry; ENTRIES]>,
    fetch: Box<[FetchEntry; FETCH_ENTRIES]>,
    /// Indices filled since the last flush, so that a flush costs what was used.
    filled: Vec<u16>,
    fetch_filled: Vec<u16>,
    /// GiB of linear addresses that may have pieces of large pages here, folded to 64: where none are, forgetting one
    /// page needs no search.
    large: u64,
}

/// A translation to be remembered.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Linear page.
    pub linear: u64,
    /// Physical page.
    pub phys: u64,
    /// Host address of the page's first byte.
    pub host: u64,
    /// Whether stores may take the fast way.
    pub writable: bool,
    /// Survives a CR3 write.
    pub global: bool,
    /// Part of a page larger than 4 KiB.
    pub large: bool,
}

/// The TLB of one vCPU.
pub struct Tlb {
    sets: [Set; SETS],
    current: usize,
    /// The set that [`select`](Self::select) chose, while alignment checks force the slow one.
    chosen: usize,
    /// Raised whenever a translation is forgotten. Choosing another set forgets none: whoever dates by it keeps the mode too.
    generation: u64,
}

const fn never(index: usize) -> u64 {
    ((index ^ 1) as u64) << 12
}

fn index(linear: u64) -> usize {
    (linear >> 12) as usize & (ENTRIES - 1)
}

/// The bit of [`Set::large`].
fn gigabyte(linear: u64) -> u64 {
    1 << (linear >> 30 & 63)
}

fn fetch_index(linear: u64) -> usize {
    (linear >> 12) as usize & (FETCH_ENTRIES - 1)
}

impl Set {
    fn new() -> Self {
        let mut set = Self {
            data: Box::new(
                [Entry {
                    read: 0,
                    write: 0,
                    addend: 0,
                    phys: 0,
                }; ENTRIES],
            ),
            fetch: Box::new([FetchEntry { tag: 0, phys: 0 }; FETCH_ENTRIES]),
            filled: Vec::with_capacity(ENTRIES),
            fetch_filled: Vec::with_capacity(FETCH_ENTRIES),
            large: 0,
        };
        for i in 0..ENTRIES {
            set.clear(i);
        }
        for (i, entry) in set.fetch.iter_mut().enumerate() {
            entry.tag = never(i);
        }
        set
    }

    fn clear(&mut self, i: usize) {
        self.data[i] = Entry {
            read: never(i),
            write: never(i),
            addend: 0,
            phys: 0,
        };
    }

    /// Drops every entry of which `drop(linear page, phys with its marks)` says so.
    fn retain(&mut self, keep: impl Fn(u64, u64) -> bool) {
        let mut filled = std::mem::take(&mut self.filled);
        filled.retain(|&i| {
            let entry = self.data[usize::from(i)];
            let kept = keep(entry.read, entry.phys);
            if !kept {
                self.clear(usize::from(i));
            }
            kept
        });
        self.filled = filled;
        let fetch = &mut self.fetch;
        self.fetch_filled.retain(|&i| {
            let entry = &mut fetch[usize::from(i)];
            let kept = keep(entry.tag, entry.phys);
            if !kept {
                entry.tag = never(usize::from(i));
                entry.phys = 0;
            }
            kept
        });
    }

    /// Drops one page that is no piece of a large one; its indices stay listed.
    fn drop_small(&mut self, page: u64) {
        let i = index(page);
        if self.data[i].read == page {
            self.clear(i);
            self.data[i].phys = LISTED;
        }
        let i = fetch_index(page);
        if self.fetch[i].tag == page {
            self.fetch[i].tag = never(i);
            self.fetch[i].phys = LISTED;
        }
    }
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            sets: std::array::from_fn(|_| Set::new()),
            current: 1,
            chosen: 1,
            generation: 0,
        }
    }
}

impl Tlb {
    /// Host address of a readable `size`-byte access (1..=4096), if it is known and inside one page.
    #[inline(always)]
    pub fn read(&self, linear: u64, size: usize) -> Option<u64> {
        let entry = &self.sets[self.current].data[index(linear)];
        (linear.wrapping_sub(entry.read) <= 4096 - size as u64).then(|| linear.wrapping_add(entry.addend))
    }

    /// Host address of a writable `size`-byte access (1..=4096), if it is known and inside one page.
    #[inline(always)]
    pub fn write(&self, linear: u64, size: usize) -> Option<u64> {
        let entry = &self.sets[self.current].data[index(linear)];
        (linear.wrapping_sub(entry.write) <= 4096 - size as u64).then(|| linear.wrapping_add(entry.addend))
    }

    /// Physical address of an instruction byte, if its page is known.
    #[inline(always)]
    pub fn fetch(&self, linear: u64) -> Option<u64> {
        let entry = &self.sets[self.current].fetch[fetch_index(linear)];
        (entry.tag == linear & PAGE_MASK).then_some((entry.phys & PAGE_MASK) | (linear & !PAGE_MASK))
    }

    /// Chooses the set that matches the privilege: user, supervisor, supervisor with SMAP overridden.
    pub fn select(&mut self, user: bool, smap_override: bool) {
        self.chosen = if user { 0 } else { 1 + usize::from(smap_override) };
        if self.current != SLOW {
            self.current = self.chosen;
        }
    }

    /// Sends every data access the slow way (alignment checks), or no more.
    pub fn set_slow(&mut self, slow: bool) {
        self.current = if slow { SLOW } else { self.chosen };
    }

    /// Remembers a data translation in the current set.
    pub fn fill(&mut self, mapping: &Mapping) {
        if self.current == SLOW {
            return;
        }
        let set = &mut self.sets[self.current];
        let i = index(mapping.linear);
        let linear = mapping.linear & PAGE_MASK;
        if set.data[i].phys & LISTED == 0 {
            set.filled.push(i as u16);
        }
        if mapping.large {
            set.large |= gigabyte(linear);
        }
        set.data[i] = Entry {
            read: linear,
            write: if mapping.writable { linear } else { never(i) },
            addend: mapping.host.wrapping_sub(linear),
            phys: marked(mapping),
        };
    }

    /// Remembers an instruction page in the current set.
    pub fn fill_fetch(&mut self, mapping: &Mapping) {
        let set = &mut self.sets[self.current];
        let i = fetch_index(mapping.linear);
        if set.fetch[i].phys & LISTED == 0 {
            set.fetch_filled.push(i as u16);
        }
        if mapping.large {
            set.large |= gigabyte(mapping.linear);
        }
        set.fetch[i] = FetchEntry {
            tag: mapping.linear & PAGE_MASK,
            phys: marked(mapping),
        };
    }

    /// Dates instruction-fetch translations: one found at this generation is good as long as it stands.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.generation += 1;
        for set in &mut self.sets {
            set.retain(|_, _| false);
            set.large = 0;
        }
    }

    /// Forgets everything but global pages (a CR3 write with CR4.PGE).
    pub fn flush_non_global(&mut self) {
        self.generation += 1;
        for set in &mut self.sets {
            set.retain(|_, phys| phys & GLOBAL != 0);
        }
    }

    /// Forgets one linear page; of a larger page, every entry that could be part of it.
    pub fn flush_page(&mut self, linear: u64) {
        self.generation += 1;
        let page = linear & PAGE_MASK;
        for set in &mut self.sets {
            if set.large & gigabyte(page) == 0 {
                set.drop_small(page);
            } else {
                set.retain(|tag, phys| tag != page && (phys & LARGE == 0 || tag >> 30 != page >> 30));
            }
        }
    }

    /// Takes the fast way for stores away from a physical page (it now holds decoded code, or is being watched).
    pub fn protect(&mut self, phys: u64) {
        for set in &mut self.sets {
            for &i in &set.filled {
                let entry = &mut set.data[usize::from(i)];
                if entry.phys & PAGE_MASK == phys & PAGE_MASK {
                    entry.write = never(usize::from(i));
                }
            }
        }
    }
}

fn marked(mapping: &Mapping) -> u64 {
    (mapping.phys & PAGE_MASK)
        | LISTED
        | if mapping.global { GLOBAL } else { 0 }
        | if mapping.large { LARGE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(linear: u64) -> Mapping {
        Mapping {
            linear,
            phys: 0x5000,
            host: 0x7f00_0000_0000,
            writable: true,
            global: false,
            large: false,
        }
    }

    #[test]
    fn an_access_hits_only_inside_its_page() {
        let mut tlb = Tlb::default();
        tlb.fill(&mapping(0xffff_8000_0000_3000));
        assert_eq!(tlb.read(0xffff_8000_0000_3ff8, 8), Some(0x7f00_0000_0ff8));
        assert_eq!(tlb.read(0xffff_8000_0000_3ff9, 8), None);
        assert_eq!(tlb.write(0xffff_8000_0000_3fff, 1), Some(0x7f00_0000_0fff));
        assert_eq!(tlb.read(0xffff_8000_0000_4000, 1), None);
    }

    #[test]
    fn an_empty_entry_matches_no_address_that_reaches_it() {
        let tlb = Tlb::default();
        for page in (0..4 * ENTRIES as u64).chain((0..64).map(|b| 1u64 << b >> 12)) {
            for address in [page << 12, (page << 12) | 0xfff, !(page << 12)] {
                assert_eq!(
                    (tlb.read(address, 1), tlb.write(address, 1)),
                    (None, None),
                    "{address:#x}"
                );
            }
        }
    }

    #[test]
    fn forgetting_pages_one_by_one_keeps_the_lists_short_and_the_others_there() {
        let mut tlb = Tlb::default();
        // Every place of the table but the neighbour's.
        for round in (0..5000u64).filter(|round| round % 1024 != 1023) {
            let linear = 0x7000_0000_0000 + (round << 12);
            tlb.fill(&mapping(linear));
            tlb.fill_fetch(&mapping(linear));
            tlb.fill(&mapping(0x7000_0000_0000 - 0x1000));
            assert!(tlb.read(linear, 8).is_some() && tlb.fetch(linear).is_some());
            tlb.flush_page(linear | 0x123);
            assert_eq!((tlb.read(linear, 8), tlb.fetch(linear)), (None, None));
            assert!(tlb.read(0x7000_0000_0000 - 0x1000, 1).is_some());
        }
        let set = &tlb.sets[1];
        assert!(set.filled.len() <= ENTRIES && set.fetch_filled.len() <= FETCH_ENTRIES);
        tlb.flush();
        assert!(tlb.sets[1].filled.is_empty() && tlb.sets[1].fetch_filled.is_empty());
    }

    #[test]
    fn sets_and_flushes_keep_apart_what_differs() {
        let mut tlb = Tlb::default();
        tlb.fill(&mapping(0x1000));
        tlb.select(true, false);
        assert_eq!(tlb.read(0x1000, 1), None);
        tlb.select(false, false);
        tlb.fill(&Mapping {
            global: true,
            ..mapping(0x2000)
        });
        tlb.fill(&Mapping {
            large: true,
            ..mapping(0x20_0000)
        });
        tlb.flush_page(0x3f_f000);
        assert_eq!(
            (tlb.read(0x1000, 1).is_some(), tlb.read(0x20_0000, 1)),
            (true, None)
        );
        tlb.flush_non_global();
        assert_eq!((tlb.read(0x1000, 1), tlb.read(0x2000, 1).is_some()), (None, true));
        tlb.protect(0x5000);
        assert_eq!(
            (tlb.write(0x2000, 1), tlb.read(0x2000, 1).is_some()),
            (None, true)
        );
        tlb.set_slow(true);
        tlb.fill(&mapping(0x4000));
        assert_eq!(tlb.read(0x4000, 1), None);
    }
}
