//! A flat real-mode image, started as a PC's BIOS starts a boot sector, but of up to 608 KiB at once.
//!
//! There is no BIOS: the interrupt vectors are zero and `INT` calls of firmware lead nowhere.

use super::source::Source;
use super::{BootError, Loaded, e820};
use crate::engine::state::CpuState;
use crate::mem::{GuestMemory, LOW_END};

/// Where boot sectors run.
const ENTRY: u16 = 0x7c00;
const MOST: u64 = LOW_END - ENTRY as u64;
/// DL at entry: the first hard disk.
const FIRST_DISK: u64 = 0x80;
const RDX: usize = 2;
const RSP: usize = 4;

/// Loads at 0000:7C00 and starts there: DL = 80h, all segments 0, the stack growing down from the image.
pub(super) fn load(source: &Source, memory: &GuestMemory) -> Result<Loaded, BootError> {
    if source.len() > MOST {
        return Err(BootError::ImageTooLarge {
            len: source.len(),
            max: MOST,
        });
    }
    source.copy(0, source.len(), memory, u64::from(ENTRY), "content")?;
    let mut state = CpuState::real_mode(0, ENTRY);
    state.gprs[RDX] = FIRST_DISK;
    state.gprs[RSP] = u64::from(ENTRY);
    Ok(Loaded {
        state,
        what: "flat image",
        map: e820::map(memory),
    })
}
