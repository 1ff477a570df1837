//! Linux bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst and zero-page.rst).
//!
//! The image goes where it prefers to run (`pref_address`). A relocatable kernel could be put lower, but would move
//! itself up to that address all the same and need `init_size` bytes from there, so nothing would be gained.

use super::e820::{self, Entry20};
use super::longmode;
use super::place::{CMDLINE, EXTENDED, Places, ZERO_PAGE, write_line};
use super::{BootError, Loaded, Piece, Place, Request};
use crate::mem::GuestMemory;
use std::mem::offset_of;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: [u8; 4] = *b"HdrS";
/// First protocol with `xloadflags`.
const OLDEST: u16 = 0x020c;
const SECTOR: u64 = 512;
/// Where the setup header begins, in the file and in the zero page.
const HEADER_AT: usize = 0x1f1;
/// The header ends this many bytes plus the byte at 0x201 into the file.
const HEADER_END_BASE: usize = 0x202;
/// `setup_sects` of 0 means this.
const DEFAULT_SETUP_SECTORS: u8 = 4;
/// The 64-bit entry, from the start of the protected-mode part.
const ENTRY_64: u64 = 0x200;
/// `loadflags`: the protected-mode part belongs at or above 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `type_of_loader`: one without an assigned number.
const LOADER_UNDEFINED: u8 = 0xff;
const E820_MOST: usize = 128;
const RSI: usize = 6;

/// `struct setup_header`, protocol 2.15, and room for what later ones add.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SetupHeader {
    setup_sects: u8,
    root_flags: U16,
    syssize: U32,
    ram_size: U16,
    vid_mode: U16,
    root_dev: U16,
    boot_flag: U16,
    jump: [u8; 2],
    header: [u8; 4],
    version: U16,
    realmode_switch: U32,
    start_sys_seg: U16,
    kernel_version: U16,
    type_of_loader: u8,
    loadflags: u8,
    setup_move_size: U16,
    code32_start: U32,
    ramdisk_image: U32,
    ramdisk_size: U32,
    bootsect_kludge: U32,
    heap_end_ptr: U16,
    ext_loader_ver: u8,
    ext_loader_type: u8,
    cmd_line_ptr: U32,
    initrd_addr_max: U32,
    kernel_alignment: U32,
    relocatable_kernel: u8,
    min_alignment: u8,
    xloadflags: U16,
    cmdline_size: U32,
    hardware_subarch: U32,
    hardware_subarch_data: U64,
    payload_offset: U32,
    payload_length: U32,
    setup_data: U64,
    pref_address: U64,
    init_size: U32,
    later: [u8; 0x290 - 0x264],
}

/// `struct boot_params`, as far as a boot loader fills it.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ZeroPage {
    before_rsdp: [u8; 0x70],
    acpi_rsdp_addr: U64,
    before_e820: [u8; 0x1e8 - 0x78],
    e820_entries: u8,
    before_header: [u8; 0x1f1 - 0x1e9],
    header: SetupHeader,
    before_table: [u8; 0x2d0 - 0x290],
    e820_table: [Entry20; E820_MOST],
    rest: [u8; 0x1000 - 0x2d0 - 20 * E820_MOST],
}

const _: () = assert!(
    size_of::<SetupHeader>() == 0x290 - HEADER_AT
        && HEADER_AT + offset_of!(SetupHeader, header) == 0x202
        && HEADER_AT + offset_of!(SetupHeader, code32_start) == 0x214
        && HEADER_AT + offset_of!(SetupHeader, cmd_line_ptr) == 0x228
        && HEADER_AT + offset_of!(SetupHeader, xloadflags) == 0x236
        && HEADER_AT + offset_of!(SetupHeader, pref_address) == 0x258
        && HEADER_AT + offset_of!(SetupHeader, init_size) == 0x260
        && offset_of!(ZeroPage, e820_entries) == 0x1e8
        && offset_of!(ZeroPage, header) == HEADER_AT
        && offset_of!(ZeroPage, e820_table) == 0x2d0
        && size_of::<ZeroPage>() == 0x1000
);

/// Whether a file that begins so is a Linux kernel image of any age.
pub(super) fn is_one(head: &[u8]) -> bool {
    let at = |offset: usize| head.get(HEADER_AT + offset..);
    at(offset_of!(SetupHeader, header)).is_some_and(|b| b.starts_with(&HEADER_MAGIC))
        && at(offset_of!(SetupHeader, boot_flag)).is_some_and(|b| b.starts_with(&BOOT_FLAG.to_le_bytes()))
}

/// Loads an image for which [`is_one`] said yes.
pub(super) fn load(request: &Request, memory: &GuestMemory, mut places: Places) -> Result<Loaded, BootError> {
    if request.modules() > 0 {
        return Err(BootError::ModulesRefused(request.modules()));
    }
    let header = header(request)?;
    let at = load_kernel(request, &header, memory, &mut places)?;
    let (ramdisk_image, ramdisk_size) = load_initrd(request, &header, memory, &mut places)?;
    write_line(
        memory,
        CMDLINE,
        request.cmdline,
        header.cmdline_size.get() as usize,
    )?;

    let map = e820::map(memory);
    let mut page = ZeroPage::new_zeroed();
    page.header = header;
    page.header.type_of_loader = LOADER_UNDEFINED;
    page.header.code32_start = (at as u32).into();
    page.header.ramdisk_image = ramdisk_image.into();
    page.header.ramdisk_size = ramdisk_size.into();
    page.header.cmd_line_ptr = (CMDLINE as u32).into();
    page.header.setup_data = 0.into();
    page.acpi_rsdp_addr = request.rsdp_at.unwrap_or(0).into();
    for (slot, &entry) in page.e820_table.iter_mut().zip(&map) {
        *slot = entry.into();
    }
    page.e820_entries = map.len().min(E820_MOST) as u8;
    memory.write_obj(ZERO_PAGE, &page)?;

    let mut state = longmode::enter(memory, at + ENTRY_64)?;
    state.gprs[RSI] = ZERO_PAGE;
    Ok(Loaded {
        state,
        what: "bzImage 64-bit",
        map,
    })
}

/// The setup header, as long as it says it is, refused where this loader cannot go by it.
fn header(request: &Request) -> Result<SetupHeader, BootError> {
    let mut header = SetupHeader::new_zeroed();
    let length = request.head.get(HEADER_END_BASE - 1).copied().unwrap_or(0);
    let end = HEADER_END_BASE + usize::from(length);
    let bytes = header.as_mut_bytes();
    let wanted = bytes.len().min(end - HEADER_AT);
    request
        .kernel
        .read(HEADER_AT as u64, &mut bytes[..wanted], "setup header")?;
    if header.version.get() < OLDEST {
        return Err(BootError::OldProtocol {
            version: header.version.get(),
        });
    }
    if end < HEADER_AT + offset_of!(SetupHeader, later) {
        return Err(malformed(
            "its setup header is too short for its protocol version",
        ));
    }
    if header.xloadflags.get() & XLF_KERNEL_64 == 0 {
        return Err(BootError::No64BitEntry);
    }
    if header.loadflags & LOADED_HIGH == 0 || header.pref_address.get() < EXTENDED {
        return Err(malformed(
            "it asks to be loaded below 1 MiB, which no 64-bit kernel can be",
        ));
    }
    Ok(header)
}

/// Loads the protected-mode part; gives its address.
fn load_kernel(
    request: &Request,
    header: &SetupHeader,
    memory: &GuestMemory,
    places: &mut Places,
) -> Result<u64, BootError> {
    let kernel = &request.kernel;
    let sectors = match header.setup_sects {
        0 => DEFAULT_SETUP_SECTORS,
        n => n,
    };
    let from = (u64::from(sectors) + 1) * SECTOR;
    let declared = u64::from(header.syssize.get()) * 16;
    let part = "protected-mode kernel";
    // Counted in paragraphs of 16 bytes: the last one need not be whole (Memtest86+ 6 is such a file).
    let missing = (from + declared).saturating_sub(kernel.len());
    let least = if missing < 16 {
        declared.saturating_sub(missing)
    } else {
        declared
    };
    kernel.check(from, least.max(ENTRY_64 + 1), part)?;
    // All that follows, not just `declared`: it is rounded, and a signature may be appended.
    let size = kernel.len() - from;
    let at = header.pref_address.get();
    let reach = size.max(header.init_size.get().into());
    places.claim(Place::File(Piece::Kernel), at, reach)?;
    kernel.copy(from, size, memory, at, part)?;
    Ok(at)
}

/// Loads the initrd as high as the kernel can reach; gives address and size, 0 where there is none.
fn load_initrd(
    request: &Request,
    header: &SetupHeader,
    memory: &GuestMemory,
    places: &mut Places,
) -> Result<(u32, u32), BootError> {
    let Some(initrd) = request.extras.first().map(|extra| &extra.source) else {
        return Ok((0, 0));
    };
    let limit = u64::from(header.initrd_addr_max.get()) + 1;
    let at = places.claim_high(initrd.what(), initrd.len(), limit)?;
    initrd.copy(0, initrd.len(), memory, at, "content")?;
    // Both are below 4 GiB: the claim ends at or below the limit.
    Ok((at as u32, initrd.len() as u32))
}

fn malformed(why: &'static str) -> BootError {
    BootError::Malformed {
        what: Piece::Kernel,
        why,
    }
}
