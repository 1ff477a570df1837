//! Who gets which guest memory at boot.
//!
//! Everything loaded is claimed here first; a claim that is not RAM, or is taken, is an error naming both. The fixed
//! places below 256 KiB are this loader's own and the same for every protocol:
//!
//! | address | what |
//! |---|---|
//! | 0500 | GDT |
//! | 1000 | PVH start information |
//! | 7000 | Linux zero page |
//! | 9000-EFFF | page tables |
//! | 10000 | Multiboot information, memory map and module list (PVH: the same lists) |
//! | 20000 | command line |
//! | 21000-30FFF | module command lines |
//! | E0000-FFFFF | ACPI tables, made elsewhere |
//!
//! A guest that is entered in real mode gets none of these but the last. The BIOS then has its data below 600 and lies at
//! FE000-FFFFF (`bios`).
//!
//! A Multiboot kernel is told everything above 10000 and starts without our GDT and page tables, so it may be linked
//! below that ([`Places::for_multiboot`]).

use super::{BootError, Piece, Place};
use crate::mem::{GuestMemory, LOW_END, PCI_HOLE};

/// Global descriptor table.
pub(super) const GDT: u64 = 0x500;
/// `hvm_start_info`.
pub(super) const START_INFO: u64 = 0x1000;
/// `boot_params`.
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// Six pages: PML4, PDPT, four page directories.
pub(super) const PAGE_TABLES: u64 = 0x9000;
/// Multiboot information structure.
pub(super) const INFO: u64 = 0x1_0000;
/// Memory map for Multiboot and PVH.
pub(super) const MEMORY_MAP: u64 = 0x1_1000;
/// Module list for Multiboot and PVH.
pub(super) const MODULE_LIST: u64 = 0x1_2000;
/// Kernel command line, up to [`MODULE_LINES`].
pub(super) const CMDLINE: u64 = 0x2_0000;
/// Module command lines, one after the other, each with its zero byte.
pub(super) const MODULE_LINES: u64 = 0x2_1000;
/// End of what the BIOS has in low memory: vectors, data area, and the page they share with what programs leave there.
const BIOS_DATA_END: u64 = 0x1000;
/// End of the boot tables.
const TABLES_END: u64 = 0x4_0000;
/// Where the ACPI tables begin; they reach up to [`EXTENDED`].
const FIRMWARE: u64 = 0xe_0000;
/// Start of extended memory.
pub(super) const EXTENDED: u64 = 0x10_0000;
const PAGE: u64 = 4096;

/// Most modules that the list and the lines hold: [`shared::spec::MAX_MODULES`] and the initrd.
const MOST_EXTRAS: usize = shared::spec::MAX_MODULES + 1;
const _: () = assert!(
    MODULE_LINES + (MOST_EXTRAS * (shared::spec::MAX_CMDLINE + 1)) as u64 <= TABLES_END
        && MODULE_LIST + (MOST_EXTRAS * 32) as u64 <= CMDLINE
        && CMDLINE + (shared::spec::MAX_CMDLINE as u64) < MODULE_LINES
);

#[derive(Clone, Copy)]
struct Claim {
    what: Place,
    at: u64,
    len: u64,
}

impl Claim {
    fn end(&self) -> u64 {
        self.at + self.len
    }
    fn overlaps(&self, at: u64, len: u64) -> bool {
        self.len > 0 && len > 0 && at < self.end() && self.at < at.saturating_add(len)
    }
}

/// The claims of one boot.
pub(super) struct Places<'m> {
    memory: &'m GuestMemory,
    claims: Vec<Claim>,
}

impl<'m> Places<'m> {
    /// With the boot tables and the ACPI area taken.
    pub fn new(memory: &'m GuestMemory) -> Self {
        Self::with_tables(memory, &[(Place::Tables, 0, TABLES_END)])
    }

    /// The same with only those tables that a Multiboot kernel is given, and the real-mode vectors.
    pub fn for_multiboot(memory: &'m GuestMemory) -> Self {
        Self::with_tables(
            memory,
            &[(Place::Tables, 0, GDT), (Place::Tables, INFO, TABLES_END)],
        )
    }

    /// With the BIOS's and the ACPI area taken: for a guest that is entered in real mode.
    pub fn beside_bios(memory: &'m GuestMemory) -> Self {
        Self::with_tables(memory, &[(Place::BiosData, 0, BIOS_DATA_END)])
    }

    fn with_tables(memory: &'m GuestMemory, tables: &[(Place, u64, u64)]) -> Self {
        let tables = tables.iter().map(|&(what, at, end)| Claim {
            what,
            at,
            len: end - at,
        });
        let firmware = Claim {
            what: Place::Firmware,
            at: FIRMWARE,
            len: EXTENDED - FIRMWARE,
        };
        Self {
            memory,
            claims: tables.chain([firmware]).collect(),
        }
    }

    /// Where RAM below 4 GiB ends.
    pub fn low_end(&self) -> u64 {
        self.memory.ram_bytes().min(PCI_HOLE)
    }

    /// Takes exactly this range.
    pub fn claim(&mut self, what: Place, at: u64, len: u64) -> Result<(), BootError> {
        let misplaced = BootError::Misplaced { what, at, len };
        let Some(end) = at.checked_add(len).filter(|&end| end <= PCI_HOLE) else {
            return Err(misplaced);
        };
        if at < LOW_END && end > LOW_END || (LOW_END..FIRMWARE).contains(&at) {
            return Err(misplaced);
        }
        if let Some(taken) = self.claims.iter().find(|c| c.overlaps(at, len)) {
            return Err(BootError::Overlap {
                what,
                at,
                len,
                other: taken.what,
                other_at: taken.at,
                other_len: taken.len,
            });
        }
        if !self.memory.is_ram(at, len) {
            return Err(BootError::NoRoom {
                what,
                end,
                ram: self.memory.ram_bytes(),
            });
        }
        self.claims.push(Claim { what, at, len });
        Ok(())
    }

    /// Takes the highest free pages of extended memory that end at or below `limit`; gives their address.
    pub fn claim_high(&mut self, piece: Piece, len: u64, limit: u64) -> Result<u64, BootError> {
        let mut top = self.low_end().min(limit);
        // Each round moves `top` below one more claim, so there are at most as many rounds as claims.
        loop {
            let found = top
                .checked_sub(len)
                .map(|at| at & !(PAGE - 1))
                .filter(|&at| at >= EXTENDED);
            let Some(at) = found else {
                return Err(self.no_room(piece, len, limit));
            };
            match self.claims.iter().find(|c| c.overlaps(at, len)) {
                Some(taken) => top = taken.at,
                None => {
                    self.claim(Place::File(piece), at, len)?;
                    return Ok(at);
                }
            }
        }
    }

    /// Takes the lowest free pages above everything claimed so far; gives their address.
    pub fn claim_next(&mut self, piece: Piece, len: u64) -> Result<u64, BootError> {
        let at = self.floor();
        if at.checked_add(len).is_none_or(|end| end > self.low_end()) {
            return Err(self.no_room(piece, len, PCI_HOLE));
        }
        self.claim(Place::File(piece), at, len)?;
        Ok(at)
    }

    /// First page above every claim.
    fn floor(&self) -> u64 {
        let end = self.claims.iter().map(Claim::end).max().unwrap_or(EXTENDED);
        end.max(EXTENDED).next_multiple_of(PAGE)
    }

    fn no_room(&self, piece: Piece, len: u64, limit: u64) -> BootError {
        let what = Place::File(piece);
        let floor = self.floor();
        let limit = limit.min(PCI_HOLE);
        match floor.checked_add(len) {
            Some(end) if end <= limit => BootError::NoRoom {
                what,
                end: end.next_multiple_of(PAGE),
                ram: self.memory.ram_bytes(),
            },
            _ => BootError::NoRoomBelow {
                what,
                len,
                floor,
                limit,
            },
        }
    }
}

/// Writes a command line and its zero byte.
pub(super) fn write_line(memory: &GuestMemory, at: u64, line: &str, max: usize) -> Result<(), BootError> {
    let max = max.min(shared::spec::MAX_CMDLINE);
    if line.len() > max {
        return Err(BootError::Cmdline { len: line.len(), max });
    }
    memory.write(at, line.as_bytes())?;
    memory.write(at + line.len() as u64, &[0])?;
    Ok(())
}
