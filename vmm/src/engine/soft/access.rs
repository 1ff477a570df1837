//! Loads and stores by linear address: the only way guest code reaches memory.
//!
//! The fast way is a TLB hit and one host access. The slow way translates, splits accesses that cross a page (both
//! pages first, so that a fault leaves nothing half done), sends what is not memory to the chipset, and notices stores
//! to decoded code.
#![allow(
    unsafe_code,
    reason = "reaches guest RAM by host address; the TLB holds addresses of live RAM and ROM pages only"
)]

use super::cpu::{Cpu, Fault, Leave, Step, vector};
use super::mode::Mode;
use super::tlb::Mapping;
use super::walk::{Right, Walked};
use super::word::Word;
use crate::bus::Width;
use crate::engine::{Exit, Op};
use crate::mem::RegionKind;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PAGE: u64 = 4096;

/// A piece of an access: inside one page, translated, its rights checked.
#[derive(Clone, Copy)]
enum Place {
    /// RAM, or ROM when reading.
    Host { host: *mut u8, phys: u64 },
    /// Everything else.
    Device { phys: u64 },
}

impl Cpu {
    /// Loads a value.
    #[inline(always)]
    pub fn load<W: Word>(&mut self, linear: u64) -> Step<W> {
        match self.tlb.read(linear, W::BYTES) {
            // SAFETY: the TLB only holds host addresses of mapped guest pages, and the access lies inside one.
            Some(host) => Ok(unsafe { pointer(host).cast::<W>().read_unaligned() }),
            None => self.load_slow(linear, W::BYTES).map(W::from_u64),
        }
    }

    /// Stores a value.
    #[inline(always)]
    pub fn store<W: Word>(&mut self, linear: u64, value: W) -> Step {
        match self.tlb.write(linear, W::BYTES) {
            Some(host) => {
                // SAFETY: as in `load`; the entry's write tag says RAM.
                unsafe { pointer(host).cast::<W>().write_unaligned(value) };
                Ok(())
            }
            None => self.store_slow(linear, W::BYTES, value.to_u64()),
        }
    }

    /// Loads, applies `change`, stores: a read-modify-write with the store's rights checked before the load. Returns
    /// what was there and what `change` gave besides.
    #[inline(always)]
    pub fn modify<W: Word, T>(&mut self, linear: u64, change: impl FnOnce(W) -> (W, T)) -> Step<(W, T)> {
        if let Some(host) = self.tlb.write(linear, W::BYTES) {
            let place = pointer(host).cast::<W>();
            // SAFETY: as in `store`.
            let old = unsafe { place.read_unaligned() };
            let (new, extra) = change(old);
            // SAFETY: as in `store`.
            unsafe { place.write_unaligned(new) };
            return Ok((old, extra));
        }
        self.probe_store(linear, W::BYTES)?;
        let old: W = self.load(linear)?;
        let (new, extra) = change(old);
        self.store(linear, new)?;
        Ok((old, extra))
    }

    /// Loads up to a page of bytes.
    pub fn load_bytes(&mut self, linear: u64, into: &mut [u8]) -> Step {
        if let Some(host) = self.tlb.read(linear, into.len()) {
            // SAFETY: as in `load`.
            unsafe { pointer(host).copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
            return Ok(());
        }
        for (i, chunk) in into.chunks_mut(8).enumerate() {
            let at = self.wrap(linear.wrapping_add(8 * i as u64));
            let value = self.load_slow(at, chunk.len())?;
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    /// Stores up to a page of bytes, all or nothing.
    pub fn store_bytes(&mut self, linear: u64, from: &[u8]) -> Step {
        if let Some(host) = self.tlb.write(linear, from.len()) {
            // SAFETY: as in `store`.
            unsafe { pointer(host).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
            return Ok(());
        }
        self.probe_store(linear, from.len())?;
        for (i, chunk) in from.chunks(8).enumerate() {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            let at = self.wrap(linear.wrapping_add(8 * i as u64));
            self.store_slow(at, chunk.len(), u64::from_le_bytes(value))?;
        }
        Ok(())
    }

    /// Raises what a store of `len` bytes (at most a page) would raise, and does nothing else.
    pub fn probe_store(&mut self, linear: u64, len: usize) -> Step {
        self.check_linear(linear, len)?;
        let user = self.cpl == 3;
        self.walk(linear, Right::Write, user)?;
        let last = self.wrap(linear.wrapping_add(len as u64 - 1));
        if last / PAGE != linear / PAGE {
            self.walk(last & !(PAGE - 1), Right::Write, user)?;
        }
        Ok(())
    }

    /// Loads as the processor itself does from descriptor tables and task state: with supervisor rights whatever CPL.
    pub fn load_system<W: Word>(&mut self, linear: u64) -> Step<W> {
        self.as_processor(|cpu| cpu.load(linear))
    }

    /// Stores as the processor itself.
    pub fn store_system<W: Word>(&mut self, linear: u64, value: W) -> Step {
        self.as_processor(|cpu| cpu.store(linear, value))
    }

    fn as_processor<T>(&mut self, access: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let cpl = std::mem::replace(&mut self.cpl, 0);
        let mode = self.mode;
        // Tables lie anywhere in 64 bits even while compatibility mode runs 32-bit code.
        self.mode.set(Mode::CODE64, mode.contains(Mode::LONG));
        self.implicit_access = true;
        self.tlb.select(false, false);
        let result = access(self);
        self.implicit_access = false;
        self.mode = mode;
        self.cpl = cpl;
        self.select_tlb();
        result
    }

    /// Physical address of an instruction byte.
    #[inline]
    pub fn fetch_address(&mut self, linear: u64) -> Step<u64> {
        match self.tlb.fetch(linear) {
            Some(phys) => Ok(phys),
            None => self.fetch_slow(linear),
        }
    }

    #[cold]
    fn fetch_slow(&mut self, linear: u64) -> Step<u64> {
        self.check_canonical(linear)?;
        let walked = self.walk(linear, Right::Execute, self.cpl == 3)?;
        self.tlb.fill_fetch(&Mapping {
            linear,
            phys: walked.phys,
            host: 0,
            writable: false,
            global: walked.global,
            large: walked.large,
        });
        Ok(walked.phys)
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, linear: u64, len: usize) -> Step<u64> {
        self.check_linear(linear, len)?;
        self.note_data_access(linear, len, false);
        let in_first = len.min((PAGE - linear % PAGE) as usize);
        let first = self.place(linear, Right::Read)?;
        if in_first == len {
            return self.read_place(first, len);
        }
        let second = self.place(self.wrap(linear.wrapping_add(in_first as u64)), Right::Read)?;
        let low = self.read_place(first, in_first)?;
        let high = self.read_place(second, len - in_first)?;
        Ok(low | high << (8 * in_first))
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, linear: u64, len: usize, value: u64) -> Step {
        self.check_linear(linear, len)?;
        self.note_data_access(linear, len, true);
        let in_first = len.min((PAGE - linear % PAGE) as usize);
        let first = self.place(linear, Right::Write)?;
        if in_first == len {
            self.check_code(first, len)?;
            return self.write_place(first, len, value);
        }
        let second = self.place(self.wrap(linear.wrapping_add(in_first as u64)), Right::Write)?;
        self.check_code(first, in_first)?;
        self.check_code(second, len - in_first)?;
        self.write_place(first, in_first, value)?;
        self.write_place(second, len - in_first, value >> (8 * in_first))
    }

    /// Translates one page's piece, and remembers it when it is memory.
    fn place(&mut self, linear: u64, right: Right) -> Step<Place> {
        let walked = self.walk(linear, right, self.cpl == 3)?;
        Ok(match self.host_of(walked.phys, right) {
            Some((host, rom)) => {
                self.remember(linear, &walked, host, rom);
                Place::Host {
                    host,
                    phys: walked.phys,
                }
            }
            None => Place::Device { phys: walked.phys },
        })
    }

    fn host_of(&self, phys: u64, right: Right) -> Option<(*mut u8, bool)> {
        let region = self
            .memory
            .regions()
            .iter()
            .find(|r| phys.wrapping_sub(r.base) < r.len)?;
        let rom = region.kind == RegionKind::Rom;
        let offset = (phys - region.base) as usize;
        (!rom || right != Right::Write).then(|| (region.host.as_ptr().wrapping_add(offset), rom))
    }

    fn remember(&mut self, linear: u64, walked: &Walked, host: *mut u8, rom: bool) {
        // A watched page is never remembered: each of its accesses is compared with the breakpoints.
        if self.watched(linear) {
            return;
        }
        let page_host = host.expose_provenance() as u64 & !(PAGE - 1);
        self.tlb.fill(&Mapping {
            linear,
            phys: walked.phys,
            host: page_host,
            writable: walked.store_ready && !rom && !self.code_pages.holds(walked.phys),
            global: walked.global,
            large: walked.large,
        });
    }

    fn read_place(&mut self, place: Place, len: usize) -> Step<u64> {
        let mut bytes = [0; 8];
        match place {
            // SAFETY: `host_of` found `len` bytes of this page in a live region; pieces never cross a page.
            Place::Host { host, .. } => unsafe { host.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) },
            Place::Device { phys } => return self.device(phys, len, None),
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write_place(&mut self, place: Place, len: usize, value: u64) -> Step {
        match place {
            Place::Host { host, phys } => {
                if self.code_pages.hit(phys, len as u64) {
                    self.code_written(phys);
                }
                // SAFETY: as in `read_place`; `host_of` refused ROM.
                unsafe { host.copy_from_nonoverlapping(value.to_le_bytes().as_ptr(), len) };
                Ok(())
            }
            Place::Device { phys } => self.device(phys, len, Some(value)).map(drop),
        }
    }

    fn code_written(&mut self, phys: u64) {
        self.stale_code.push(phys);
        self.attention = true;
    }

    /// A store into the running trace's own bytes restarts the instruction outside of it.
    fn check_code(&self, place: Place, len: usize) -> Step {
        match place {
            Place::Host { phys, .. }
                if !self.alone
                    && phys / PAGE == self.trace_page / PAGE
                    && self.code_pages.hit(phys, len as u64) =>
            {
                Err(Leave::Restart)
            }
            _ => Ok(()),
        }
    }

    /// Device registers take 1, 2, 4 or 8 bytes: other lengths (page-crossing leftovers) go byte by byte.
    fn device(&mut self, phys: u64, len: usize, value: Option<u64>) -> Step<u64> {
        let step = if Width::from_bytes(len).is_some() { len } else { 1 };
        let Some(width) = Width::from_bytes(step) else {
            return self.raise_gp();
        };
        let mut read = 0;
        for i in (0..len).step_by(step) {
            let op = match value {
                Some(value) => Op::Write(value >> (8 * i) & width.ones()),
                None => Op::Read,
            };
            read |= (self.ask(Exit::Mmio {
                at: phys + i as u64,
                width,
                op,
            })? & width.ones())
                << (8 * i);
        }
        Ok(read)
    }

    /// Copies instruction bytes of one physical page; what is not memory reads as ones, as an empty bus does.
    pub fn read_code(&self, phys: u64, into: &mut [u8]) {
        if self.memory.read(phys, into).is_err() {
            into.fill(0xff);
        }
    }

    /// What is checked before translation: canonical form and alignment.
    fn check_linear(&mut self, linear: u64, len: usize) -> Step {
        self.check_canonical(linear)?;
        self.check_canonical(self.wrap(linear.wrapping_add(len as u64 - 1)))?;
        if self.alignment_checked() && len.is_power_of_two() && !linear.is_multiple_of(len as u64) {
            return self.raise_code(vector::AC, 0);
        }
        Ok(())
    }

    fn check_canonical(&mut self, linear: u64) -> Step {
        let canonical = ((linear << 16) as i64 >> 16) as u64 == linear;
        if canonical || !self.mode.contains(Mode::LONG) {
            return Ok(());
        }
        self.fault = Some(Fault {
            vector: vector::GP,
            code: Some(0),
            address: linear,
            trap: false,
            noncanonical: true,
        });
        Err(Leave::Fault)
    }

    /// CR0.AM and RFLAGS.AC at CPL 3.
    pub fn alignment_checked(&self) -> bool {
        self.cpl == 3 && self.cr0 & (1 << 18) != 0 && self.flags.others & super::flags::AC != 0
    }

    /// Linear addresses have 32 bits outside 64-bit code.
    #[inline(always)]
    pub fn wrap(&self, linear: u64) -> u64 {
        if self.mode.contains(Mode::CODE64) {
            linear
        } else {
            linear & 0xffff_ffff
        }
    }

    /// An entry of a paging structure, read with no translation; `None` outside memory.
    pub(super) fn table_entry<T: FromBytes + IntoBytes>(&self, phys: u64) -> Option<T> {
        self.memory.read_obj(phys).ok()
    }

    /// Writes a paging-structure entry back (accessed and dirty bits). One outside memory reads as reserved, so that
    /// this is never asked to write there; a ROM's bits stay as they are.
    pub(super) fn store_table_entry<T: IntoBytes + Immutable>(&mut self, phys: u64, entry: T) {
        if self.memory.write_obj(phys, &entry).is_ok() && self.code_pages.hit(phys, size_of::<T>() as u64) {
            self.code_written(phys);
        }
    }
}

fn pointer(host: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(host as usize)
}
