//! What the 64-bit entry of Linux wants around it: flat descriptors and identity-mapped memory
//! (Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").

use super::BootError;
use super::place::{GDT, PAGE_TABLES};
use crate::engine::state::{CpuState, TableRegister};
use crate::mem::GuestMemory;

/// What the state's selectors stand for: null, unused, flat 64-bit code (10), flat data (18), a busy task segment at 0
/// (20, two entries).
const DESCRIPTORS: [u64; 6] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0000_8b00_0000_0067,
    0,
];

const PAGE: u64 = 4096;
const PRESENT_WRITABLE: u64 = 3;
/// Page size bit of a page directory entry: 2 MiB.
const LARGE: u64 = 1 << 7;
/// Page directories: 1 GiB each, all below 4 GiB, where the kernel and all it is given lie.
const DIRECTORIES: u64 = 4;

/// Writes the tables and gives the state that enters at `rip` with them.
pub(super) fn enter(memory: &GuestMemory, rip: u64) -> Result<CpuState, BootError> {
    let directory = |n: u64| PAGE_TABLES + (2 + n) * PAGE;
    let mut top = [0u64; 512];
    top[0] = (PAGE_TABLES + PAGE) | PRESENT_WRITABLE;
    memory.write_obj(PAGE_TABLES, &top)?;
    let mut pointers = [0u64; 512];
    for (n, pointer) in (0..DIRECTORIES).zip(&mut pointers) {
        *pointer = directory(n) | PRESENT_WRITABLE;
        let mut entries = [0u64; 512];
        for (page, entry) in (n * 512..).zip(&mut entries) {
            *entry = (page << 21) | LARGE | PRESENT_WRITABLE;
        }
        memory.write_obj(directory(n), &entries)?;
    }
    memory.write_obj(PAGE_TABLES + PAGE, &pointers)?;
    memory.write_obj(GDT, &DESCRIPTORS)?;

    let mut state = CpuState::long64(rip, PAGE_TABLES);
    state.gdtr = TableRegister {
        base: GDT,
        limit: size_of_val(&DESCRIPTORS) as u16 - 1,
    };
    Ok(state)
}
