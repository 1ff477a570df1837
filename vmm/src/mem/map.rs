//! The map itself: host mappings of RAM and ROM, and every copy in and out.
#![allow(
    unsafe_code,
    reason = "maps guest memory and copies through raw pointers; bounds come from the region table"
)]

use super::{CodeMap, HIGH_BASE, LOW_END, PCI_HOLE, VGA_END};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use shared::mem::{copy_from, copy_to};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use thiserror::Error;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Read and written by guest and devices.
    Ram,
    /// Read only; a guest write leaves the engine as a memory-mapped access.
    Rom,
}

/// A contiguous piece of guest-physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// RAM or ROM.
    pub kind: RegionKind,
    /// First guest-physical address; page aligned.
    pub base: u64,
    /// Bytes; whole pages.
    pub len: u64,
    /// Where it is mapped in this process; valid while the [`GuestMemory`] lives.
    pub host: NonNull<u8>,
}

/// Why guest memory could not be reached or made.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Not wholly RAM (or, to read, ROM).
    #[error("guest-physical {at:#x}+{len:#x} is not memory")]
    NotMemory {
        /// First address.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// A ROM that overlaps something or is not whole pages.
    #[error("ROM of {len:#x} bytes at {base:#x} does not fit the memory map")]
    BadRom {
        /// First address.
        base: u64,
        /// Bytes.
        len: u64,
    },
    /// The host has no room.
    #[error("cannot map {bytes} bytes of guest memory: {source}; lower [machine] memory")]
    Host {
        /// Bytes asked for.
        bytes: u64,
        /// The host's error.
        source: nix::Error,
    },
}

/// A guest's memory. Shared as `Arc<GuestMemory>`; all access is by copy.
pub struct GuestMemory {
    /// Sorted by base, never overlapping.
    regions: Vec<Region>,
    ram_bytes: u64,
    /// Only where a software engine runs.
    code: OnceLock<Arc<CodeMap>>,
}

// SAFETY: the pointers are only used by opaque copies inside live mappings, valid from any thread; concurrent
// writers (the vCPU) can tear data but not break memory safety.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; `&self` methods hand out no reference into the memory.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// RAM of `bytes` (whole pages) in the PC's places: below the VGA window, above it up to [`PCI_HOLE`], the rest
    /// from [`HIGH_BASE`]. The window's 128 KiB are not moved elsewhere. Zero-filled, taken from the host on first use.
    pub fn new(bytes: u64) -> Result<Self, MemoryError> {
        let mut memory = Self {
            regions: Vec::new(),
            ram_bytes: bytes,
            code: OnceLock::new(),
        };
        let low = bytes.min(PCI_HOLE);
        memory.map_ram(0, low.min(LOW_END))?;
        memory.map_ram(VGA_END, low.saturating_sub(VGA_END))?;
        memory.map_ram(HIGH_BASE, bytes - low)?;
        Ok(memory)
    }

    /// Adds read-only memory with this content, padded with zeros to whole pages. `base` is page aligned. RAM
    /// under it must not exist.
    pub fn add_rom(&mut self, base: u64, content: &[u8]) -> Result<(), MemoryError> {
        let len = (content.len() as u64).next_multiple_of(4096);
        let end = base.checked_add(len);
        let free = end.is_some_and(|end| {
            self.regions
                .iter()
                .all(|r| end <= r.base || r.base + r.len <= base)
        });
        if !free || content.is_empty() || !base.is_multiple_of(4096) {
            return Err(MemoryError::BadRom {
                base,
                len: content.len() as u64,
            });
        }
        let host = map(len)?;
        // SAFETY: `host` maps `len` >= content.len() writable bytes that nobody else knows of yet.
        unsafe { copy_to(host.as_ptr(), content) };
        self.insert(Region {
            kind: RegionKind::Rom,
            base,
            len,
            host,
        });
        Ok(())
    }

    /// The regions, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// RAM as configured, in bytes (the VGA window counts, though nothing is there).
    pub fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// Copies out of RAM or ROM.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.check(at, into.len() as u64, |_| true)?;
        let mut done = 0;
        self.pieces(at, into.len(), |host, len| {
            // SAFETY: `pieces` yields ranges inside live mappings, `len` summing up to into.len().
            unsafe { copy_from(&mut into[done..done + len], host) };
            done += len;
        });
        Ok(())
    }

    /// Copies into RAM.
    pub fn write(&self, at: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.check(at, from.len() as u64, |kind| kind == RegionKind::Ram)?;
        let mut done = 0;
        self.pieces(at, from.len(), |host, len| {
            // SAFETY: `pieces` yields ranges inside live mappings, checked to be RAM, `len` summing up to from.len().
            unsafe { copy_to(host, &from[done..done + len]) };
            done += len;
        });
        if let Some(code) = self.code.get() {
            code.written(at, from.len() as u64);
        }
        Ok(())
    }

    /// Copies a plain value out.
    pub fn read_obj<T: FromBytes + FromZeros + IntoBytes>(&self, at: u64) -> Result<T, MemoryError> {
        let mut value = T::new_zeroed();
        self.read(at, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies a plain value in.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, at: u64, value: &T) -> Result<(), MemoryError> {
        self.write(at, value.as_bytes())
    }

    /// The map of decoded code, made at the first call; from then on [`write`](Self::write) reports to it.
    pub fn code_map(&self) -> Arc<CodeMap> {
        // Nobody writes ROM: only RAM counts.
        let mut ram = self
            .regions
            .iter()
            .filter(|region| region.kind == RegionKind::Ram);
        let end = ram.next_back().map_or(0, |region| region.base + region.len);
        Arc::clone(self.code.get_or_init(|| Arc::new(CodeMap::new(end))))
    }

    /// Whether the range is wholly RAM.
    pub fn is_ram(&self, at: u64, len: u64) -> bool {
        self.check(at, len, |kind| kind == RegionKind::Ram).is_ok()
    }

    fn region(&self, at: u64) -> Option<&Region> {
        let next = self.regions.partition_point(|r| r.base <= at);
        self.regions
            .get(next.checked_sub(1)?)
            .filter(|r| at - r.base < r.len)
    }

    fn check(&self, at: u64, len: u64, allowed: impl Fn(RegionKind) -> bool) -> Result<(), MemoryError> {
        let bad = || MemoryError::NotMemory { at, len };
        let end = at.checked_add(len).ok_or_else(bad)?;
        let mut next = at;
        while next < end {
            let region = self.region(next).filter(|r| allowed(r.kind)).ok_or_else(bad)?;
            next = region.base + region.len;
        }
        Ok(())
    }

    /// Walks a checked range piece by piece.
    fn pieces(&self, mut at: u64, mut len: usize, mut each: impl FnMut(*mut u8, usize)) {
        while len > 0 {
            let Some(region) = self.region(at) else { return };
            let offset = at - region.base;
            let piece = len.min((region.len - offset) as usize);
            // SAFETY: `offset` lies inside the region, which is mapped whole.
            each(unsafe { region.host.add(offset as usize).as_ptr() }, piece);
            at += piece as u64;
            len -= piece;
        }
    }

    fn map_ram(&mut self, base: u64, len: u64) -> Result<(), MemoryError> {
        if len > 0 {
            let host = map(len)?;
            // SAFETY: the mapping was just made with this length. Advice only: a host without huge pages says no.
            let _advice = unsafe { madvise(host.cast(), len as usize, MmapAdvise::MADV_HUGEPAGE) };
            self.insert(Region {
                kind: RegionKind::Ram,
                base,
                len,
                host,
            });
        }
        Ok(())
    }

    fn insert(&mut self, region: Region) {
        let at = self.regions.partition_point(|r| r.base < region.base);
        self.regions.insert(at, region);
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        for region in &self.regions {
            // SAFETY: each region is one whole mapping made by `map`, unmapped once, here.
            let _ends_anyway = unsafe { munmap(region.host.cast(), region.len as usize) };
        }
    }
}

fn map(bytes: u64) -> Result<NonNull<u8>, MemoryError> {
    let host_error = |source| MemoryError::Host { bytes, source };
    let len = usize::try_from(bytes)
        .ok()
        .and_then(NonZeroUsize::new)
        .ok_or(host_error(nix::Error::EINVAL))?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let host = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) };
    Ok(host.map_err(host_error)?.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_lies_in_the_pcs_places() {
        let memory = GuestMemory::new(PCI_HOLE + (64 << 20)).unwrap();
        let places: Vec<_> = memory.regions().iter().map(|r| (r.base, r.len)).collect();
        assert_eq!(
            places,
            [(0, LOW_END), (VGA_END, PCI_HOLE - VGA_END), (HIGH_BASE, 64 << 20)]
        );
    }

    #[test]
    fn copies_refuse_what_is_not_wholly_memory() {
        let memory = GuestMemory::new(2 << 20).unwrap();
        let mut buffer = [0; 16];
        assert!(memory.read(LOW_END - 16, &mut buffer).is_ok());
        assert!(memory.read(LOW_END - 15, &mut buffer).is_err());
        assert!(memory.write(VGA_END - 1, &buffer).is_err());
        assert!(memory.write((2 << 20) - 15, &buffer).is_err());
        assert!(memory.read(u64::MAX - 4, &mut buffer).is_err());
        assert!(memory.read(u64::MAX, &mut []).is_ok());
    }

    #[test]
    fn a_copy_crosses_adjacent_regions_and_rom_refuses_writes() {
        let mut memory = GuestMemory::new(1 << 20).unwrap();
        memory.add_rom(1 << 20, &[0xaa; 4096]).unwrap();
        memory.write((1 << 20) - 2, &[1, 2]).unwrap();
        let mut seen = [0; 4];
        memory.read((1 << 20) - 2, &mut seen).unwrap();
        assert_eq!(seen, [1, 2, 0xaa, 0xaa]);
        assert!(memory.write((1 << 20) - 1, &[0, 0]).is_err());
        assert!(memory.add_rom(0xf_f000, &[0; 4096]).is_err());
    }
}
