//! The memory map as guests are told it; type numbers are those of BIOS INT 15h AX=E820h, which Linux's zero page, the
//! Multiboot memory map and PVH all share.

use super::place::EXTENDED;
use crate::mem::{GuestMemory, LOW_END, RegionKind};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a range is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// Free to use.
    Ram = 1,
    /// Not to be used: the VGA window, option ROMs, ACPI tables.
    Reserved = 2,
}

/// A range of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// First address.
    pub base: u64,
    /// Bytes; never 0.
    pub len: u64,
    /// What it is.
    pub kind: MapKind,
}

/// An entry as INT 15h returns it and Linux's zero page holds it: 20 bytes, packed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Entry20 {
    base: U64,
    len: U64,
    kind: U32,
}
const _: () = assert!(size_of::<Entry20>() == 20);

impl From<MapEntry> for Entry20 {
    fn from(entry: MapEntry) -> Self {
        Self {
            base: entry.base.into(),
            len: entry.len.into(),
            kind: (entry.kind as u32).into(),
        }
    }
}

/// The map of this memory: RAM below the VGA window, reserved up to 1 MiB (RAM is there, but it is the firmware's),
/// RAM below the PCI hole, RAM above 4 GiB. The hole itself is not listed, so that the guest finds it free for PCI.
pub(super) fn map(memory: &GuestMemory) -> Vec<MapEntry> {
    let mut map = vec![
        entry(0, LOW_END, MapKind::Ram),
        entry(LOW_END, EXTENDED, MapKind::Reserved),
    ];
    for region in memory.regions() {
        let end = region.base + region.len;
        let base = region.base.max(EXTENDED);
        if region.kind == RegionKind::Ram && end > base {
            map.push(entry(base, end, MapKind::Ram));
        }
    }
    map
}

fn entry(base: u64, end: u64, kind: MapKind) -> MapEntry {
    MapEntry {
        base,
        len: end - base,
        kind,
    }
}
