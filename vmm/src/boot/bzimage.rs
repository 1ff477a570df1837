//! Linux bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst and zero-page.rst), and the choice
//! between it and the 16-bit one ([`real16`]): an image without a 64-bit entry is entered in real mode.
//!
//! The image goes where it prefers to run (`pref_address`). A relocatable kernel could be put lower, but would move
//! itself up to that address all the same and need `init_size` bytes from there, so nothing would be gained.

use super::e820::{self, Entry20};
use super::longmode;
use super::place::{CMDLINE, EXTENDED, Places, ZERO_PAGE, write_line};
use super::{BootError, Loaded, Piece, Place, Request, real16};
use crate::mem::GuestMemory;
use shared::spec::KernelEntry;
use std::mem::offset_of;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: [u8; 4] = *b"HdrS";
/// First protocol with `xloadflags`.
const WITH_XLOADFLAGS: u16 = 0x020c;
pub(super) const SECTOR: u64 = 512;
/// The header ends this many bytes plus the byte at 0x201 into the file.
const HEADER_END_BASE: usize = 0x202;
/// `setup_sects` of 0 means this.
const DEFAULT_SETUP_SECTORS: u64 = 4;
/// The 64-bit entry, from the start of the protected-mode part.
const ENTRY_64: u64 = 0x200;
/// `loadflags`: the protected-mode part belongs at or above 1 MiB.
pub(super) const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `type_of_loader`: one without an assigned number.
pub(super) const LOADER_UNDEFINED: u8 = 0xff;
const E820_MOST: usize = 128;
const RSI: usize = 6;

/// `struct setup_header`, protocol 2.15, and room for what later ones add.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SetupHeader {
    setup_sects: u8,
    root_flags: U16,
    syssize: U32,
    ram_size: U16,
    pub(super) vid_mode: U16,
    root_dev: U16,
    boot_flag: U16,
    jump: [u8; 2],
    header: [u8; 4],
    pub(super) version: U16,
    realmode_switch: U32,
    start_sys_seg: U16,
    kernel_version: U16,
    pub(super) type_of_loader: u8,
    pub(super) loadflags: u8,
    setup_move_size: U16,
    code32_start: U32,
    pub(super) ramdisk_image: U32,
    pub(super) ramdisk_size: U32,
    bootsect_kludge: U32,
    pub(super) heap_end_ptr: U16,
    ext_loader_ver: u8,
    ext_loader_type: u8,
    pub(super) cmd_line_ptr: U32,
    pub(super) initrd_addr_max: U32,
    kernel_alignment: U32,
    relocatable_kernel: u8,
    min_alignment: u8,
    xloadflags: U16,
    pub(super) cmdline_size: U32,
    hardware_subarch: U32,
    hardware_subarch_data: U64,
    payload_offset: U32,
    payload_length: U32,
    setup_data: U64,
    pub(super) pref_address: U64,
    pub(super) init_size: U32,
    later: [u8; 0x290 - 0x264],
}

impl SetupHeader {
    /// Where it begins, in the file and in the zero page.
    pub(super) const AT: usize = 0x1f1;

    /// Sectors of setup code behind the first.
    pub(super) fn setup_sectors(&self) -> u64 {
        match self.setup_sects {
            0 => DEFAULT_SETUP_SECTORS,
            n => n.into(),
        }
    }

    fn has_64_bit_entry(&self) -> bool {
        self.version.get() >= WITH_XLOADFLAGS && self.xloadflags.get() & XLF_KERNEL_64 != 0
    }
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

/// From which protocol on the header reaches how far, as far as a loader reads it; newest first.
const ENDS: [(u16, usize); 4] = [
    (0x020a, offset_of!(SetupHeader, later)),
    (0x0206, offset_of!(SetupHeader, hardware_subarch)),
    (0x0203, offset_of!(SetupHeader, kernel_alignment)),
    (0x0202, offset_of!(SetupHeader, initrd_addr_max)),
];

const _: () = assert!(
    size_of::<SetupHeader>() == 0x290 - SetupHeader::AT
        && SetupHeader::AT + offset_of!(SetupHeader, header) == 0x202
        && SetupHeader::AT + offset_of!(SetupHeader, code32_start) == 0x214
        && SetupHeader::AT + offset_of!(SetupHeader, cmd_line_ptr) == 0x228
        && SetupHeader::AT + offset_of!(SetupHeader, xloadflags) == 0x236
        && SetupHeader::AT + offset_of!(SetupHeader, pref_address) == 0x258
        && SetupHeader::AT + offset_of!(SetupHeader, init_size) == 0x260
        && offset_of!(ZeroPage, e820_entries) == 0x1e8
        && offset_of!(ZeroPage, header) == SetupHeader::AT
        && offset_of!(ZeroPage, e820_table) == 0x2d0
        && size_of::<ZeroPage>() == 0x1000
);

/// Whether a file that begins so is a Linux kernel image of any age.
pub(super) fn is_one(head: &[u8]) -> bool {
    let at = |offset: usize| head.get(SetupHeader::AT + offset..);
    at(offset_of!(SetupHeader, header)).is_some_and(|b| b.starts_with(&HEADER_MAGIC))
        && at(offset_of!(SetupHeader, boot_flag)).is_some_and(|b| b.starts_with(&BOOT_FLAG.to_le_bytes()))
}

/// Loads an image for which [`is_one`] said yes.
pub(super) fn load(
    request: &Request,
    entry: KernelEntry,
    memory: &GuestMemory,
    mut places: Places,
) -> Result<Loaded, BootError> {
    if request.modules() > 0 {
        return Err(BootError::ModulesRefused(request.modules()));
    }
    let header = header(request)?;
    if entry == KernelEntry::Real16 || !header.has_64_bit_entry() {
        return real16::load(request, header, memory);
    }
    check_64_bit(&header)?;
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

/// The setup header, as long as it says it is, zero behind that; refused where its protocol version has more.
fn header(request: &Request) -> Result<SetupHeader, BootError> {
    let mut header = SetupHeader::new_zeroed();
    let length = request.head.get(HEADER_END_BASE - 1).copied().unwrap_or(0);
    let end = HEADER_END_BASE + usize::from(length);
    let bytes = header.as_mut_bytes();
    let wanted = bytes.len().min(end - SetupHeader::AT);
    request
        .kernel
        .read(SetupHeader::AT as u64, &mut bytes[..wanted], "setup header")?;
    let version = header.version.get();
    let least = ENDS
        .iter()
        .find(|(since, _)| version >= *since)
        .map_or(0, |&(_, end)| end);
    if wanted < least {
        return Err(malformed(
            "its setup header is too short for its protocol version",
        ));
    }
    Ok(header)
}

/// Refuses what the 64-bit entry cannot be used with.
fn check_64_bit(header: &SetupHeader) -> Result<(), BootError> {
    if header.loadflags & LOADED_HIGH == 0 || header.pref_address.get() < EXTENDED {
        return Err(malformed(
            "it asks to be loaded below 1 MiB, which no 64-bit kernel can be",
        ));
    }
    Ok(())
}

/// Loads the protected-mode part; gives its address.
fn load_kernel(
    request: &Request,
    header: &SetupHeader,
    memory: &GuestMemory,
    places: &mut Places,
) -> Result<u64, BootError> {
    let (from, size) = protected_part(request, header, ENTRY_64 + 1)?;
    let at = header.pref_address.get();
    let reach = size.max(header.init_size.get().into());
    places.claim(Place::File(Piece::Kernel), at, reach)?;
    request
        .kernel
        .copy(from, size, memory, at, "protected-mode kernel")?;
    Ok(at)
}

/// The protected-mode part in the file, as long as the header says and at least `least` bytes: its place and its size, with
/// all that follows, for the header's figure is rounded and a signature may be appended.
pub(super) fn protected_part(
    request: &Request,
    header: &SetupHeader,
    least: u64,
) -> Result<(u64, u64), BootError> {
    let kernel = &request.kernel;
    let from = (header.setup_sectors() + 1) * SECTOR;
    let declared = u64::from(header.syssize.get()) * 16;
    // Counted in paragraphs of 16 bytes: the last one need not be whole (Memtest86+ 6 is such a file).
    let missing = (from + declared).saturating_sub(kernel.len());
    let held = if missing < 16 {
        declared.saturating_sub(missing)
    } else {
        declared
    };
    kernel.check(from, held.max(least), "protected-mode kernel")?;
    Ok((from, kernel.len() - from))
}

/// Loads the initrd as high as the kernel can reach; gives address and size, 0 where there is none.
pub(super) fn load_initrd(
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
