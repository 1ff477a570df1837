//! Page walks: linear to physical, by every kind of paging the CPU model has (Intel SDM volume 3, chapter 4).
//!
//! A walk sets accessed and dirty bits as the hardware does: accessed on every entry used, dirty on the last for a
//! write, and none of them when the access faults. Called on TLB misses and by instructions that must know before they
//! act; never touches the TLB itself.

use super::cpu::{Cpu, Step};

/// What an access wants to do with the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Load.
    Read,
    /// Store, or the load of a read-modify-write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// A successful walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Physical address of the byte asked for, address line 20 applied.
    pub phys: u64,
    /// A store would succeed too, and the dirty bit is set.
    pub store_ready: bool,
    /// Marked global, and globals are on.
    pub global: bool,
    /// Larger than 4 KiB.
    pub large: bool,
}

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const PAT_LARGE: u64 = 1 << 12;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const CODE_P: u32 = 1;
const CODE_W: u32 = 1 << 1;
const CODE_U: u32 = 1 << 2;
const CODE_RSVD: u32 = 1 << 3;
const CODE_I: u32 = 1 << 4;

const CR0_WP: u64 = 1 << 16;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// One level's entry: where it lies, what it says, and how it is read.
#[derive(Clone, Copy)]
struct Visited {
    at: u64,
    entry: u64,
    wide: bool,
}

/// What the entries say together.
struct Leaf {
    phys: u64,
    /// AND of all levels.
    writable: bool,
    user: bool,
    no_execute: bool,
    large: bool,
    global: bool,
    dirty: bool,
    visited: [Visited; 4],
    levels: usize,
}

/// Why a walk found nothing.
enum Miss {
    NotPresent,
    Reserved,
}

impl Cpu {
    /// Translates; raises #PF if the access may not happen. `user`: with user rights (CPL 3 and not an implicit
    /// supervisor access, such as one to the GDT).
    pub fn walk(&mut self, linear: u64, right: Right, user: bool) -> Step<Walked> {
        if !self.paging() {
            return Ok(Walked {
                phys: self.gate_a20(linear),
                store_ready: true,
                global: false,
                large: false,
            });
        }
        let leaf = match self.find_leaf(linear) {
            Ok(leaf) => leaf,
            Err(miss) => {
                let reserved = if matches!(miss, Miss::Reserved) {
                    CODE_P | CODE_RSVD
                } else {
                    0
                };
                return self.page_fault(linear, right, user, reserved);
            }
        };
        if !self.allowed(&leaf, right, user) {
            return self.page_fault(linear, right, user, CODE_P);
        }
        let dirty = leaf.dirty || right == Right::Write;
        self.mark(&leaf, right == Right::Write);
        Ok(Walked {
            phys: self.gate_a20(leaf.phys),
            store_ready: dirty && self.allowed(&leaf, Right::Write, user),
            global: leaf.global && self.cr4 & CR4_PGE != 0,
            large: leaf.large,
        })
    }

    /// Address bits the CPU model does not have (CPUID 8000_0008): reserved in every 8-byte entry and in CR3.
    pub(super) fn beyond_physical(&self) -> u64 {
        ADDRESS & !((1 << self.physical_bits) - 1)
    }

    fn gate_a20(&self, phys: u64) -> u64 {
        if self.a20 { phys } else { phys & !(1 << 20) }
    }

    fn page_fault<T>(&mut self, linear: u64, right: Right, user: bool, why: u32) -> Step<T> {
        let mut code = why;
        if right == Right::Write {
            code |= CODE_W;
        }
        if user {
            code |= CODE_U;
        }
        let nx_on = self.efer & EFER_NXE != 0 && self.cr4 & CR4_PAE != 0;
        if right == Right::Execute && (nx_on || self.cr4 & CR4_SMEP != 0) {
            code |= CODE_I;
        }
        self.raise_page_fault(linear, code)
    }

    /// Section 4.6 of the manual: rights by mode of the access and of the page.
    fn allowed(&self, leaf: &Leaf, right: Right, user: bool) -> bool {
        if right == Right::Execute && leaf.no_execute {
            return false;
        }
        if user {
            return leaf.user && (right != Right::Write || leaf.writable);
        }
        if leaf.user {
            let smap_override = self.flags.others & super::flags::AC != 0 && !self.implicit_access;
            if right == Right::Execute {
                if self.cr4 & CR4_SMEP != 0 {
                    return false;
                }
            } else if self.cr4 & CR4_SMAP != 0 && !smap_override {
                return false;
            }
        }
        right != Right::Write || leaf.writable || self.cr0 & CR0_WP == 0
    }

    fn find_leaf(&self, linear: u64) -> Result<Leaf, Miss> {
        if self.efer & EFER_LMA != 0 {
            self.descend_wide(linear, self.cr3 & ADDRESS, 4)
        } else if self.cr4 & CR4_PAE != 0 {
            // Section 4.4.1: the four PDPTEs are registers, loaded with CR3; they carry no rights.
            let pdpte = self.pdptes[(linear >> 30 & 3) as usize];
            if pdpte & P == 0 {
                return Err(Miss::NotPresent);
            }
            self.descend_wide(linear & 0xffff_ffff, pdpte & ADDRESS, 2)
        } else {
            self.descend_narrow(linear as u32)
        }
    }

    /// 8-byte entries, from `level` (4 = PML4) down.
    fn descend_wide(&self, linear: u64, mut table: u64, mut level: usize) -> Result<Leaf, Miss> {
        let nxe = self.efer & EFER_NXE != 0;
        let mut leaf = Leaf::new();
        loop {
            let shift = 12 + 9 * (level - 1);
            let at = table + (linear >> shift & 0x1ff) * 8;
            let entry: u64 = self.table_entry(at).unwrap_or(u64::MAX);
            if entry & P == 0 {
                return Err(Miss::NotPresent);
            }
            if entry & self.beyond_physical() != 0
                || (entry & NX != 0 && !nxe)
                || (level == 4 && entry & PS != 0)
            {
                return Err(Miss::Reserved);
            }
            leaf.add(Visited {
                at,
                entry,
                wide: true,
            });
            let large = level > 1 && entry & PS != 0;
            if level == 1 || large {
                let offset_mask = (1u64 << shift) - 1;
                if large && entry & ADDRESS & offset_mask & !PAT_LARGE != 0 {
                    return Err(Miss::Reserved);
                }
                leaf.phys = (entry & ADDRESS & !offset_mask) | (linear & offset_mask);
                leaf.finish(entry, large);
                return Ok(leaf);
            }
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    /// 4-byte entries.
    fn descend_narrow(&self, linear: u32) -> Result<Leaf, Miss> {
        let mut leaf = Leaf::new();
        let at = (self.cr3 & 0xffff_f000) + u64::from(linear >> 22) * 4;
        let pde = u64::from(self.table_entry::<u32>(at).unwrap_or(u32::MAX));
        if pde & P == 0 {
            return Err(Miss::NotPresent);
        }
        leaf.add(Visited {
            at,
            entry: pde,
            wide: false,
        });
        if pde & PS != 0 && self.cr4 & CR4_PSE != 0 {
            // PSE-36: bits 13..=20 are address bits 32..=39, bit 21 is reserved.
            if pde & 1 << 21 != 0 {
                return Err(Miss::Reserved);
            }
            leaf.phys = (pde & 0xffc0_0000) | (pde >> 13 & 0xff) << 32 | u64::from(linear & 0x3f_ffff);
            leaf.finish(pde, true);
            return Ok(leaf);
        }
        let at = (pde & 0xffff_f000) + u64::from(linear >> 12 & 0x3ff) * 4;
        let pte = u64::from(self.table_entry::<u32>(at).unwrap_or(u32::MAX));
        if pte & P == 0 {
            return Err(Miss::NotPresent);
        }
        leaf.add(Visited {
            at,
            entry: pte,
            wide: false,
        });
        leaf.phys = (pte & 0xffff_f000) | u64::from(linear & 0xfff);
        leaf.finish(pte, false);
        Ok(leaf)
    }

    /// Sets accessed bits, and the dirty bit for a write, where they are not set.
    fn mark(&mut self, leaf: &Leaf, write: bool) {
        let last = leaf.levels - 1;
        for (i, visited) in leaf.visited[..leaf.levels].iter().enumerate() {
            let wanted = visited.entry | A | if write && i == last { D } else { 0 };
            if wanted != visited.entry {
                if visited.wide {
                    self.store_table_entry(visited.at, wanted);
                } else {
                    self.store_table_entry(visited.at, wanted as u32);
                }
            }
        }
    }
}

impl Leaf {
    fn new() -> Self {
        Self {
            phys: 0,
            writable: true,
            user: true,
            no_execute: false,
            large: false,
            global: false,
            dirty: false,
            visited: [Visited {
                at: 0,
                entry: 0,
                wide: false,
            }; 4],
            levels: 0,
        }
    }

    fn add(&mut self, visited: Visited) {
        self.writable &= visited.entry & RW != 0;
        self.user &= visited.entry & US != 0;
        self.no_execute |= visited.wide && visited.entry & NX != 0;
        self.visited[self.levels] = visited;
        self.levels += 1;
    }

    fn finish(&mut self, entry: u64, large: bool) {
        self.large = large;
        self.global = entry & G != 0;
        self.dirty = entry & D != 0;
    }
}

#[cfg(test)]
mod tests;
