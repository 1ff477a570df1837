//! A small BIOS for programs that are entered in real mode and expect one: iPXE, Linux's setup code, boot managers.
//!
//! [`place`] puts the image (`rom`) where a PC's system BIOS is, with the memory map it hands out, and gives the state that
//! runs its power-on code; that fills the vectors and the data area, sets up the interrupt controllers, the timer and
//! the serial port, and jumps to the boot program. It lies in RAM, as every BIOS does that a PC has shadowed: a guest can
//! damage its own copy, and a reset brings a new one. The host never runs any of it.
//!
//! Screen and keyboard are COM1. Who waits, waits asleep.
//!
//! | interrupt | source | functions |
//! |---|---|---|
//! | 08h (IRQ 0) | `clock.s` | ticks, INT 1Ch |
//! | 0Ch (IRQ 4) | `keyboard.s` | characters become keys |
//! | 10h | `video.s` | 00-03, 06-0A, 0E, 0F, 13 |
//! | 11h, 12h | `system.s` | equipment, base memory |
//! | 13h | `system.s` | no drive |
//! | 15h | `system.s` | 2400-2403, 86, 88, C0, E801, E820 |
//! | 16h | `keyboard.s` | 00-02, 05, 10-12 |
//! | 18h, 19h | `ends.s` | a message, then off |
//! | 1Ah | `clock.s`, `pci.s` | 00-05, B101-B103, B108-B10D |
//! | 00h, 06h | `ends.s` | a message, then a triple fault |
//!
//! Other functions answer as the function's list says an old BIOS does; other vectors return at once.

mod rom;
#[cfg(test)]
mod tests;

use super::e820::Entry20;
use super::place::EXTENDED;
use super::{BootError, MapEntry};
use crate::engine::state::CpuState;
use crate::mem::GuestMemory;
use zerocopy::IntoBytes;

const RBX: usize = 3;
const RSP: usize = 4;

/// What the BIOS is made with.
pub(super) struct Setup<'a> {
    /// What INT 15h AX=E820h answers.
    pub map: &'a [MapEntry],
    /// Where free memory from 1 MiB up ends: INT 15h AH=88h tells no more, for iPXE unpacks itself at the end of what
    /// that call tells, whatever lies there.
    pub free_end: u64,
    /// The boot program is entered at this segment + 20h, offset 0, with all data segments and SS at it.
    pub segment: u16,
    /// SP there.
    pub stack: u16,
}

/// Writes the BIOS and gives the state that starts it.
pub(super) fn place(memory: &GuestMemory, setup: &Setup) -> Result<CpuState, BootError> {
    let mut image = rom::IMAGE;
    let extended = setup.free_end.saturating_sub(EXTENDED) / 1024;
    let extended = u16::try_from(extended).unwrap_or(u16::MAX);
    put(&mut image, rom::EXTENDED, &extended.to_le_bytes());
    let entries = setup.map.iter().take(rom::MAP_MOST);
    put(&mut image, rom::MAP, &(entries.len() as u16).to_le_bytes());
    for (n, &entry) in entries.enumerate() {
        put(&mut image, rom::MAP + 2 + n * 20, Entry20::from(entry).as_bytes());
    }
    memory.write(rom::AT, &image)?;
    let mut state = CpuState::real_mode(rom::SEGMENT, rom::ENTRY);
    state.gprs[RBX] = setup.segment.into();
    state.gprs[RSP] = setup.stack.into();
    Ok(state)
}

fn put(image: &mut [u8; rom::BYTES], at: usize, bytes: &[u8]) {
    for (slot, byte) in image.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}
