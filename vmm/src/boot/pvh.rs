//! PVH: an ELF entered in 32-bit protected mode with one structure that describes the machine
//! (Xen public/arch-x86/hvm/start_info.h and docs/misc/pvh.pandoc; Linux arch/x86/platform/pvh).

use super::e820::{self, MapEntry};
use super::elf::{Elf, Note};
use super::place::{CMDLINE, MEMORY_MAP, MODULE_LINES, MODULE_LIST, Places, START_INFO, write_line};
use super::{BootError, Extra, Loaded, Piece, Request};
use crate::engine::state::CpuState;
use crate::mem::GuestMemory;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const PHYS32_ENTRY: u32 = 18;
/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const RBX: usize = 3;

/// `hvm_start_info`, version 1.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StartInfo {
    magic: U32,
    version: U32,
    flags: U32,
    nr_modules: U32,
    modlist_paddr: U64,
    cmdline_paddr: U64,
    rsdp_paddr: U64,
    memmap_paddr: U64,
    memmap_entries: U32,
    reserved: U32,
}
const _: () = assert!(size_of::<StartInfo>() == 56);

/// `hvm_modlist_entry`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    paddr: U64,
    size: U64,
    cmdline_paddr: U64,
    reserved: U64,
}
const _: () = assert!(size_of::<Module>() == 32);

/// `hvm_memmap_table_entry`; types are E820's.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapLine {
    addr: U64,
    size: U64,
    kind: U32,
    reserved: U32,
}
const _: () = assert!(size_of::<MapLine>() == 24);

impl From<&MapEntry> for MapLine {
    fn from(entry: &MapEntry) -> Self {
        Self {
            addr: entry.base.into(),
            size: entry.len.into(),
            kind: (entry.kind as u32).into(),
            reserved: 0.into(),
        }
    }
}

/// Loads an ELF that is no Multiboot kernel.
pub(super) fn load(
    request: &Request,
    elf: &Elf,
    memory: &GuestMemory,
    mut places: Places,
) -> Result<Loaded, BootError> {
    let Some(entry) = elf.note(&request.kernel, phys32_entry)? else {
        return Err(BootError::NoEntry);
    };
    if !elf.loads(entry) {
        return Err(BootError::Malformed {
            what: Piece::Kernel,
            why: "the PVH entry point lies in no loaded segment",
        });
    }
    elf.load(&request.kernel, memory, &mut places)?;
    let modules = modules(&request.extras, memory, &mut places)?;
    memory.write(MODULE_LIST, modules.as_bytes())?;
    write_line(memory, CMDLINE, request.cmdline, usize::MAX)?;
    let map = e820::map(memory);
    let lines: Vec<MapLine> = map.iter().map(MapLine::from).collect();
    memory.write(MEMORY_MAP, lines.as_bytes())?;
    memory.write_obj(
        START_INFO,
        &StartInfo {
            magic: MAGIC.into(),
            version: VERSION.into(),
            flags: 0.into(),
            nr_modules: (modules.len() as u32).into(),
            modlist_paddr: if modules.is_empty() { 0 } else { MODULE_LIST }.into(),
            cmdline_paddr: CMDLINE.into(),
            rsdp_paddr: request.rsdp_at.unwrap_or(0).into(),
            memmap_paddr: MEMORY_MAP.into(),
            memmap_entries: (lines.len() as u32).into(),
            reserved: 0.into(),
        },
    )?;
    let mut state = CpuState::flat32(entry);
    state.gprs[RBX] = START_INFO;
    Ok(Loaded {
        state,
        what: "PVH ELF",
        map,
    })
}

/// The entry point of a `Xen` note; its descriptor has 4 bytes, or 8 in kernels built for 64-bit Xen headers.
fn phys32_entry(note: &Note) -> Option<u32> {
    if note.name != b"Xen" || note.kind != PHYS32_ENTRY {
        return None;
    }
    match *note.desc {
        [a, b, c, d] | [a, b, c, d, 0, 0, 0, 0] => Some(u32::from_le_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Modules go to the top of RAM: kernels take what follows their image for their own before they look at the list.
fn modules(extras: &[Extra], memory: &GuestMemory, places: &mut Places) -> Result<Vec<Module>, BootError> {
    let mut line = MODULE_LINES;
    let mut modules = Vec::with_capacity(extras.len());
    for extra in extras {
        let source = &extra.source;
        let at = places.claim_high(source.what(), source.len(), u64::MAX)?;
        source.copy(0, source.len(), memory, at, "content")?;
        write_line(memory, line, extra.cmdline, usize::MAX)?;
        modules.push(Module {
            paddr: at.into(),
            size: source.len().into(),
            cmdline_paddr: line.into(),
            reserved: 0.into(),
        });
        line += extra.cmdline.len() as u64 + 1;
    }
    Ok(modules)
}
