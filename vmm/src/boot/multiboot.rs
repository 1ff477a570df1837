//! Multiboot 1 (Multiboot Specification 0.6.96): ELF kernels, and flat ones that give their addresses in the header
//! (the "a.out kludge", flags bit 16, which wins over ELF headers as section 3.1.3 asks).
//!
//! Modules are placed page-aligned right behind the kernel in their order, where kernels written for GRUB expect
//! them. The command line is passed as written: a kernel that takes the first word for its own name needs one written.

use super::e820::{self, Entry20, MapEntry};
use super::elf::Elf;
use super::place::{CMDLINE, EXTENDED, INFO, MEMORY_MAP, MODULE_LINES, MODULE_LIST, Places, write_line};
use super::source::clear;
use super::{BootError, Extra, Loaded, Piece, Place, Request};
use crate::engine::state::CpuState;
use crate::mem::{GuestMemory, LOW_END};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const HEADER_MAGIC: u32 = 0x1bad_b002;
/// In EAX at entry.
const LOADER_MAGIC: u64 = 0x2bad_b002;
const RAX: usize = 0;
const RBX: usize = 3;

/// Required features: page-aligned modules, memory information, and a video mode, which a loader without a screen
/// leaves out. A kernel that sets any other of the low 16 bits must not be started (section 3.1.2).
const KNOWN_FEATURES: u32 = 0b111;
const REQUIRED: u32 = 0xffff;
/// The address fields are valid.
const ADDRESSES: u32 = 1 << 16;

/// Information flags: memory sizes, command line, modules, memory map, loader name (section 3.3).
const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

const LOADER_NAME: &[u8] = b"Worldswitch\0";
/// Where the name goes, behind the information structure.
const LOADER_NAME_AT: u64 = INFO + 0x100;

/// The header's address part.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Addresses {
    header: U32,
    load: U32,
    load_end: U32,
    bss_end: U32,
    entry: U32,
}

/// A header that was found, and where.
#[derive(Clone, Copy)]
pub(super) struct Header {
    offset: u64,
    flags: u32,
    addresses: Option<Addresses>,
}

/// The information structure, up to the loader name.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct Info {
    flags: U32,
    mem_lower: U32,
    mem_upper: U32,
    boot_device: U32,
    cmdline: U32,
    mods_count: U32,
    mods_addr: U32,
    syms: [U32; 4],
    mmap_length: U32,
    mmap_addr: U32,
    drives_length: U32,
    drives_addr: U32,
    config_table: U32,
    boot_loader_name: U32,
}
const _: () = assert!(std::mem::offset_of!(Info, mmap_length) == 44 && size_of::<Info>() == 68);

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    start: U32,
    end: U32,
    string: U32,
    reserved: U32,
}

/// A memory map entry: its size does not count the size field.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapLine {
    size: U32,
    entry: Entry20,
}
const _: () = assert!(size_of::<MapLine>() == 24);

/// The header in the first bytes of a file: 4-byte aligned, with a right checksum (section 3.1.1).
pub(super) fn find(head: &[u8]) -> Option<Header> {
    head.chunks_exact(4).enumerate().find_map(|(n, _)| {
        let at = head.get(n * 4..)?;
        let ([magic, flags, checksum], rest) = <[U32; 3]>::read_from_prefix(at).ok()?;
        let sum = magic.get().wrapping_add(flags.get()).wrapping_add(checksum.get());
        (magic.get() == HEADER_MAGIC && sum == 0).then(|| Header {
            offset: n as u64 * 4,
            flags: flags.get(),
            addresses: Addresses::read_from_prefix(rest).ok().map(|(a, _)| a),
        })
    })
}

/// Loads a kernel with this header.
pub(super) fn load(
    request: &Request,
    header: Header,
    memory: &GuestMemory,
    mut places: Places,
) -> Result<Loaded, BootError> {
    let unknown = header.flags & REQUIRED & !KNOWN_FEATURES;
    if unknown != 0 {
        return Err(BootError::MultibootFeatures(unknown));
    }
    let (entry, what) = if header.flags & ADDRESSES != 0 {
        (flat(request, header, memory, &mut places)?, "Multiboot 1 image")
    } else {
        let elf = Elf::parse(&request.kernel)?
            .ok_or_else(|| malformed("a Multiboot kernel that is no ELF must set flags bit 16"))?;
        let entry = elf.physical_entry()?;
        elf.load(&request.kernel, memory, &mut places)?;
        (entry, "Multiboot 1 ELF")
    };
    let modules = modules(&request.extras, memory, &mut places)?;
    let map = e820::map(memory);
    describe(request, memory, &modules, &map, places.low_end())?;
    let mut state = CpuState::flat32(entry);
    state.gprs[RAX] = LOADER_MAGIC;
    state.gprs[RBX] = INFO;
    Ok(Loaded { state, what, map })
}

/// Loads by the header's addresses; gives the entry point.
fn flat(
    request: &Request,
    header: Header,
    memory: &GuestMemory,
    places: &mut Places,
) -> Result<u32, BootError> {
    let source = &request.kernel;
    let Some(a) = header.addresses else {
        return Err(BootError::Truncated {
            what: Piece::Kernel,
            part: "Multiboot header",
            end: header.offset + 32,
            len: source.len(),
        });
    };
    let load = u64::from(a.load.get());
    let from = u64::from(a.header.get())
        .checked_sub(load)
        .and_then(|before| header.offset.checked_sub(before))
        .ok_or_else(|| malformed("its Multiboot load address lies before the start of the file"))?;
    let size = match a.load_end.get() {
        0 => source.len() - from,
        end => u64::from(end)
            .checked_sub(load)
            .ok_or_else(|| malformed("its Multiboot load address lies behind the load end"))?,
    };
    source.check(from, size, "Multiboot load range")?;
    let bss = match a.bss_end.get() {
        0 => 0,
        end => u64::from(end)
            .checked_sub(load + size)
            .ok_or_else(|| malformed("its Multiboot bss ends before the load end"))?,
    };
    let entry = a.entry.get();
    if !(load..load + size).contains(&u64::from(entry)) {
        return Err(malformed("its Multiboot entry point is not loaded"));
    }
    places.claim(Place::File(Piece::Kernel), load, size + bss)?;
    source.copy(from, size, memory, load, "Multiboot load range")?;
    clear(memory, load + size, bss)?;
    Ok(entry)
}

fn modules(extras: &[Extra], memory: &GuestMemory, places: &mut Places) -> Result<Vec<Module>, BootError> {
    let mut line = MODULE_LINES;
    let mut modules = Vec::with_capacity(extras.len());
    for extra in extras {
        let source = &extra.source;
        let at = places.claim_next(source.what(), source.len())?;
        source.copy(0, source.len(), memory, at, "content")?;
        write_line(memory, line, extra.cmdline, usize::MAX)?;
        modules.push(Module {
            start: low(at),
            end: low(at + source.len()),
            string: low(line),
            reserved: 0.into(),
        });
        line += extra.cmdline.len() as u64 + 1;
    }
    Ok(modules)
}

/// Writes the information structure and what it points to.
fn describe(
    request: &Request,
    memory: &GuestMemory,
    modules: &[Module],
    map: &[MapEntry],
    low_end: u64,
) -> Result<(), BootError> {
    let lines: Vec<MapLine> = map
        .iter()
        .map(|&entry| MapLine {
            size: (size_of::<Entry20>() as u32).into(),
            entry: entry.into(),
        })
        .collect();
    memory.write(MEMORY_MAP, lines.as_bytes())?;
    memory.write(MODULE_LIST, modules.as_bytes())?;
    memory.write(LOADER_NAME_AT, LOADER_NAME)?;
    write_line(memory, CMDLINE, request.cmdline, usize::MAX)?;
    let info = Info {
        flags: (HAS_MEMORY | HAS_CMDLINE | HAS_MODULES | HAS_MAP | HAS_LOADER_NAME).into(),
        mem_lower: low(LOW_END >> 10),
        mem_upper: low(low_end.saturating_sub(EXTENDED) >> 10),
        cmdline: low(CMDLINE),
        mods_count: (modules.len() as u32).into(),
        mods_addr: low(MODULE_LIST),
        mmap_length: low(lines.as_bytes().len() as u64),
        mmap_addr: low(MEMORY_MAP),
        boot_loader_name: low(LOADER_NAME_AT),
        ..Info::default()
    };
    memory.write_obj(INFO, &info)?;
    Ok(())
}

/// A number that is below 4 GiB by construction: everything passed lies below the PCI hole.
fn low(value: u64) -> U32 {
    (value as u32).into()
}

fn malformed(why: &'static str) -> BootError {
    BootError::Malformed {
        what: Piece::Kernel,
        why,
    }
}
