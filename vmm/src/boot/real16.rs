//! Linux images by the 16-bit boot protocol (Linux Documentation/arch/x86/boot.rst, "The Real-Mode Code" and after), for
//! what has no 64-bit entry: iPXE, memdisk, 32-bit kernels, kernels before 3.8; and on demand for any.
//!
//! The setup code runs first and asks the [`bios`] for memory map, video mode and A20 itself, so there is no zero page of ours.
//!
//! | | loaded high (bzImage, .lkrn) | loaded low (zImage) |
//! |---|---|---|
//! | setup code, heap, stack, command line | 10000-1FFFF | 90000-9FFFF |
//! | protected-mode part | 100000 | 10000-8FFFF |

use super::bzimage::{LOADED_HIGH, LOADER_UNDEFINED, SECTOR, SetupHeader, load_initrd, protected_part};
use super::place::{EXTENDED, Places, write_line};
use super::{BootError, Loaded, Piece, Place, Request, bios, e820};
use crate::mem::GuestMemory;
use std::mem::offset_of;
use zerocopy::IntoBytes;

/// First protocol with `cmd_line_ptr`.
const OLDEST: u16 = 0x0202;
/// First protocol with `initrd_addr_max`, and what holds before it.
const INITRD_LIMIT: (u16, u32) = (0x0203, 0x37ff_ffff);
/// First protocol with `cmdline_size`, and what holds before it.
const CMDLINE_SIZE: (u16, u32) = (0x0206, 255);
/// First protocol with `pref_address` and `init_size`.
const INIT_SIZE: u16 = 0x020a;

/// `loadflags`: `heap_end_ptr` is valid.
const CAN_USE_HEAP: u8 = 1 << 7;
/// `heap_end_ptr` leaves this much to the stack.
const STACK: u16 = 0x200;
/// `vid_mode`: as it is.
const NORMAL_VGA: u16 = 0xffff;

/// Where the parts go.
struct Layout {
    /// Of the setup code's 64 KiB.
    setup: u64,
    /// Of the protected-mode part.
    system: u64,
    /// In the setup code's segment: end of heap and stack, then the command line.
    heap_end: u16,
}

const HIGH: Layout = Layout {
    setup: 0x1_0000,
    system: EXTENDED,
    heap_end: 0xe000,
};
const LOW: Layout = Layout {
    setup: 0x9_0000,
    system: 0x1_0000,
    heap_end: 0x9800,
};
/// What the setup code may take: code, heap, stack, and the command line behind.
const SETUP_BYTES: u64 = 0x1_0000;
const _: () = assert!(HIGH.heap_end as u64 + (shared::spec::MAX_CMDLINE as u64) < SETUP_BYTES);

/// Loads an image with this header, which [`super::bzimage`] read.
pub(super) fn load(
    request: &Request,
    mut header: SetupHeader,
    memory: &GuestMemory,
) -> Result<Loaded, BootError> {
    complete(&mut header)?;
    let layout = if header.loadflags & LOADED_HIGH == 0 {
        LOW
    } else {
        HIGH
    };
    let mut places = Places::beside_bios(memory);
    places.claim(Place::Setup, layout.setup, SETUP_BYTES)?;
    load_setup(request, &header, &layout, memory)?;
    load_system(request, &header, &layout, memory, &mut places)?;
    let (ramdisk_image, ramdisk_size) = load_initrd(request, &header, memory, &mut places)?;
    let cmdline = layout.setup + u64::from(layout.heap_end);
    write_line(
        memory,
        cmdline,
        request.cmdline,
        header.cmdline_size.get() as usize,
    )?;

    header.vid_mode = NORMAL_VGA.into();
    header.type_of_loader = LOADER_UNDEFINED;
    header.loadflags |= CAN_USE_HEAP;
    header.heap_end_ptr = (layout.heap_end - STACK).into();
    header.ramdisk_image = ramdisk_image.into();
    header.ramdisk_size = ramdisk_size.into();
    header.cmd_line_ptr = (cmdline as u32).into();
    write_header(&header, &layout, memory)?;

    let map = e820::map(memory);
    let state = bios::place(
        memory,
        &bios::Setup {
            map: &map,
            free_end: match ramdisk_image {
                0 => places.low_end(),
                at => at.into(),
            },
            segment: (layout.setup >> 4) as u16,
            stack: layout.heap_end,
        },
    )?;
    Ok(Loaded {
        state,
        what: "bzImage 16-bit",
        map,
    })
}

/// Gives the fields an older protocol does not have the values it stands for.
fn complete(header: &mut SetupHeader) -> Result<(), BootError> {
    let version = header.version.get();
    if version < OLDEST {
        return Err(BootError::OldProtocol { version });
    }
    if version < INITRD_LIMIT.0 {
        header.initrd_addr_max = INITRD_LIMIT.1.into();
    }
    if version < CMDLINE_SIZE.0 {
        header.cmdline_size = CMDLINE_SIZE.1.into();
    }
    if version < INIT_SIZE {
        header.pref_address = 0.into();
        header.init_size = 0.into();
    }
    Ok(())
}

fn load_setup(
    request: &Request,
    header: &SetupHeader,
    layout: &Layout,
    memory: &GuestMemory,
) -> Result<(), BootError> {
    let bytes = (header.setup_sectors() + 1) * SECTOR;
    if bytes > u64::from(layout.heap_end - STACK) {
        return Err(BootError::Malformed {
            what: Piece::Kernel,
            why: "its real-mode setup code leaves no room for its stack in 64 KiB",
        });
    }
    request
        .kernel
        .copy(0, bytes, memory, layout.setup, "real-mode setup code")
}

fn load_system(
    request: &Request,
    header: &SetupHeader,
    layout: &Layout,
    memory: &GuestMemory,
    places: &mut Places,
) -> Result<(), BootError> {
    let (from, size) = protected_part(request, header, 1)?;
    let at = layout.system;
    // A kernel that says so moves itself to where it prefers to run, and needs memory there.
    let runs = header
        .pref_address
        .get()
        .saturating_add(header.init_size.get().into());
    let reach = size.max(runs.saturating_sub(at));
    places.claim(Place::File(Piece::Kernel), at, reach)?;
    request
        .kernel
        .copy(from, size, memory, at, "protected-mode kernel")
}

/// Writes back the fields a loader fills, and only those: setup code may lie where a later header would go on.
fn write_header(header: &SetupHeader, layout: &Layout, memory: &GuestMemory) -> Result<(), BootError> {
    let bytes = header.as_bytes();
    let fields = [
        (offset_of!(SetupHeader, vid_mode), size_of_val(&header.vid_mode)),
        (offset_of!(SetupHeader, type_of_loader), 2),
        (offset_of!(SetupHeader, ramdisk_image), 8),
        (
            offset_of!(SetupHeader, heap_end_ptr),
            size_of_val(&header.heap_end_ptr),
        ),
        (
            offset_of!(SetupHeader, cmd_line_ptr),
            size_of_val(&header.cmd_line_ptr),
        ),
    ];
    for (offset, len) in fields {
        let at = layout.setup + (SetupHeader::AT + offset) as u64;
        memory.write(at, &bytes[offset..offset + len])?;
    }
    Ok(())
}
