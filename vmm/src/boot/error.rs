//! Why a guest cannot be loaded, in words that say what to change.

use crate::mem::{MemoryError, PCI_HOLE};
use shared::spec::MAX_MODULES;
use std::fmt;
use thiserror::Error;

/// One of the files a boot is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `[boot] kernel`.
    Kernel,
    /// `[boot] initrd`.
    Initrd,
    /// One of `[boot] modules`, counted from 1.
    Module(usize),
    /// `[boot] image`.
    Image,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the kernel"),
            Self::Initrd => f.write_str("the initrd"),
            Self::Module(n) => write!(f, "module {n}"),
            Self::Image => f.write_str("the image"),
        }
    }
}

/// Something that takes up guest memory at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A whole file.
    File(Piece),
    /// A loadable segment of the kernel's ELF, counted from 0 as `readelf -l` does.
    Segment(usize),
    /// Our boot tables below 256 KiB.
    Tables,
    /// The real-mode code of a kernel, with its heap, stack and command line.
    Setup,
    /// The BIOS's vectors and data.
    BiosData,
    /// E0000-FFFFF, where the ACPI tables and the BIOS lie.
    Firmware,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(piece) => piece.fmt(f),
            Self::Segment(n) => write!(f, "program header {n} of the kernel"),
            Self::Tables => f.write_str("the boot tables"),
            Self::Setup => f.write_str("the kernel's real-mode code"),
            Self::BiosData => f.write_str("the BIOS's data"),
            Self::Firmware => f.write_str("the ACPI tables"),
        }
    }
}

/// A byte count as `[machine] memory` takes it: whole MiB, rounded up.
pub(super) struct Mebi(pub u64);

impl fmt::Display for Mebi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.0.div_ceil(1 << 20))
    }
}

/// Why a guest cannot be loaded.
#[derive(Debug, Error)]
pub enum BootError {
    /// The host's read failed.
    #[error("cannot read {what}: {source}")]
    Io {
        /// Which file.
        what: Piece,
        /// The host's error.
        source: std::io::Error,
    },
    /// No header we know.
    #[error(
        "the kernel file is none of: Linux bzImage, Multiboot 1 kernel, ELF with a PVH entry; \
         a flat real-mode image goes to [boot] image"
    )]
    Unknown,
    /// An ELF without either entry.
    #[error(
        "the kernel is an ELF with neither a Multiboot 1 header nor a PVH entry note; \
         build Linux with CONFIG_PVH=y, or boot its bzImage"
    )]
    NoEntry,
    /// The file ends too early.
    #[error("{what} is cut short: its {part} ends at byte {end}, the file has {len} ({} missing)", .end.saturating_sub(*.len))]
    Truncated {
        /// Which file.
        what: Piece,
        /// Which part of it.
        part: &'static str,
        /// Where the part would end.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// A field with a value that cannot be.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// Which file.
        what: Piece,
        /// What is wrong.
        why: &'static str,
    },
    /// An image of before Linux 2.4.
    #[error(
        "the kernel speaks boot protocol {}.{:02}, 2.02 or later is needed (Linux 2.4, 2001)", .version >> 8, .version & 0xff
    )]
    OldProtocol {
        /// As in the header: major in the high byte.
        version: u16,
    },
    /// A real-mode entry asked of a kernel that has none.
    #[error("only a Linux image has a real-mode entry, and the kernel is none: remove entry = \"real16\"")]
    NoRealModeEntry,
    /// A Multiboot header with requirements nobody here knows.
    #[error(
        "the kernel's Multiboot header requires features {0:#06x}; only 0x0001, 0x0002 and 0x0004 are known"
    )]
    MultibootFeatures(u32),
    /// Does not fit this machine, but a larger one.
    #[error(
        "{what} needs guest memory up to {end:#x}, the machine has {have}: \
         raise [machine] memory by {}, to at least {}", Mebi(.end.saturating_sub(*.ram)), Mebi(*.end), have = Mebi(*.ram)
    )]
    NoRoom {
        /// What does not fit.
        what: Place,
        /// First address beyond what is needed.
        end: u64,
        /// Guest memory in bytes.
        ram: u64,
    },
    /// Does not fit below a limit that more memory does not move.
    #[error(
        "{what} of {len} bytes does not fit between {floor:#x} and {limit:#x}: {} bytes too large",
        .len.saturating_sub(.limit.saturating_sub(*.floor))
    )]
    NoRoomBelow {
        /// What does not fit.
        what: Place,
        /// Its size in bytes.
        len: u64,
        /// First address that is free.
        floor: u64,
        /// First address that may not be used: the kernel's own limit, or where RAM below 4 GiB ends.
        limit: u64,
    },
    /// Asks for addresses that are RAM on no machine of ours.
    #[error(
        "{what} wants {at:#x}..{:#x}, which is never RAM here: \
         loadable are 0-9ffff and 100000-{:x}", .at.saturating_add(*.len), PCI_HOLE - 1
    )]
    Misplaced {
        /// What.
        what: Place,
        /// First address.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// Two things in one place.
    #[error("{what} ({at:#x}..{:#x}) overlaps {other} ({other_at:#x}..{:#x})", .at.saturating_add(*.len), .other_at.saturating_add(*.other_len))]
    Overlap {
        /// The later one.
        what: Place,
        /// Its first address.
        at: u64,
        /// Its size.
        len: u64,
        /// The one that was there.
        other: Place,
        /// Its first address.
        other_at: u64,
        /// Its size.
        other_len: u64,
    },
    /// Longer than the kernel, or this loader, takes.
    #[error("the command line has {len} bytes, at most {max} fit: shorten it by {}", .len.saturating_sub(*.max))]
    Cmdline {
        /// Its length.
        len: usize,
        /// The most that fits.
        max: usize,
    },
    /// A flat image beyond conventional memory.
    #[error("the image has {len} bytes, at most {max} fit between 7C00 and A0000: {} too many", .len.saturating_sub(*.max))]
    ImageTooLarge {
        /// Its length.
        len: u64,
        /// The most that fits.
        max: u64,
    },
    /// A bzImage with modules.
    #[error(
        "a Linux bzImage takes no modules ({0} given): pass files in the initrd, or boot a Multiboot or PVH kernel"
    )]
    ModulesRefused(usize),
    /// More than the module list holds.
    #[error("{given} modules given, at most {MAX_MODULES} fit: {} too many", .given.saturating_sub(MAX_MODULES))]
    TooManyModules {
        /// How many.
        given: usize,
    },
    /// Guest memory refused a copy.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}
