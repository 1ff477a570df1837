//! Boot loaders: from opened files to guest memory and the vCPU state to start with.
//!
//! Called by the machine at power-on and again at every reset (the files are read by position, never consumed). What
//! a file is, is decided by its content, in this order, as QEMU's `-kernel` does:
//!
//! | found | loaded as | module |
//! |---|---|---|
//! | `HdrS` at 0x202 | Linux bzImage, 64-bit entry | `bzimage` |
//! | the same without a 64-bit entry (iPXE, 32-bit kernels), or with `entry = "real16"` | Linux image, 16-bit entry with a BIOS | `real16`, `bios` |
//! | a Multiboot 1 header in the first 8192 bytes | Multiboot 1, so an ELF with both headers is Multiboot | `multiboot` |
//! | an ELF with a `XEN_ELFNOTE_PHYS32_ENTRY` note | PVH | `pvh` |
//! | `[boot] image` (no detection) | flat real-mode image at 7C00 | `image` |
//!
//! The files are the user's, but nothing in them is trusted: a malformed one is a [`BootError`] that says what does not
//! fit and by how much, never a panic, an endless loop, or an allocation that grows with the file.

mod bios;
mod bzimage;
mod e820;
mod elf;
mod error;
mod image;
mod longmode;
mod multiboot;
mod place;
mod pvh;
mod real16;
mod source;

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use e820::{MapEntry, MapKind};
pub use error::{BootError, Piece, Place};

use crate::engine::state::CpuState;
use crate::mem::GuestMemory;
use place::Places;
use shared::spec::{KernelEntry, MAX_MODULES};
use source::Source;
use std::fs::File;

/// Bytes of the file's start that detection looks at: the Multiboot header's range, which holds the others' too.
const HEAD: usize = 8192;

/// What to boot: files that were opened for us.
#[derive(Debug)]
pub enum Boot {
    /// bzImage, PVH ELF or Multiboot 1.
    Kernel {
        /// The kernel.
        kernel: File,
        /// Its command line, at most [`shared::spec::MAX_CMDLINE`] bytes without zero bytes.
        cmdline: String,
        /// Linux's initial file system; to a Multiboot or PVH kernel, the first module.
        initrd: Option<File>,
        /// Modules with their command lines; not for a bzImage.
        modules: Vec<(File, String)>,
        /// How a bzImage is entered; the other kinds have one way only.
        entry: KernelEntry,
    },
    /// Flat real-mode image.
    Image(File),
}

/// A loaded guest, ready to run.
#[derive(Debug)]
pub struct Loaded {
    /// How the vCPU starts.
    pub state: CpuState,
    /// What was recognised, for the log: `bzImage 64-bit`, `bzImage 16-bit`, `PVH ELF`, `Multiboot 1 ELF`, `Multiboot 1 image`,
    /// `flat image`.
    pub what: &'static str,
    /// The memory map as the guest is told it, ascending.
    pub map: Vec<MapEntry>,
}

/// Loads what `boot` names into `memory`. `rsdp_at` is where the ACPI root pointer lies, for the protocols that pass
/// it on; the area E0000-FFFFF is never loaded into, whether it is given or not.
///
/// Memory the loader does not write keeps what it held: at a reset the caller decides whether RAM is cleared first.
pub fn load(boot: &Boot, memory: &GuestMemory, rsdp_at: Option<u64>) -> Result<Loaded, BootError> {
    match boot {
        Boot::Image(file) => image::load(&Source::new(Piece::Image, file)?, memory),
        Boot::Kernel {
            kernel,
            cmdline,
            initrd,
            modules,
            entry,
        } => {
            let kernel = Source::new(Piece::Kernel, kernel)?;
            let request = Request {
                head: kernel.head(HEAD)?,
                kernel,
                cmdline,
                extras: extras(initrd.as_ref(), modules)?,
                rsdp_at,
            };
            let places = Places::new(memory);
            if bzimage::is_one(&request.head) {
                return bzimage::load(&request, *entry, memory, places);
            }
            if *entry == KernelEntry::Real16 {
                return Err(BootError::NoRealModeEntry);
            }
            if let Some(header) = multiboot::find(&request.head) {
                return multiboot::load(&request, header, memory, Places::for_multiboot(memory));
            }
            match elf::Elf::parse(&request.kernel)? {
                Some(elf) => pvh::load(&request, &elf, memory, places),
                None => Err(BootError::Unknown),
            }
        }
    }
}

/// A kernel and what comes with it, as the loaders see it.
struct Request<'a> {
    kernel: Source<'a>,
    head: Vec<u8>,
    cmdline: &'a str,
    extras: Vec<Extra<'a>>,
    rsdp_at: Option<u64>,
}

impl Request<'_> {
    /// Modules beyond the initrd.
    fn modules(&self) -> usize {
        let module = |e: &&Extra| e.source.what() != Piece::Initrd;
        self.extras.iter().filter(module).count()
    }
}

/// An initrd or module: loaded somewhere, passed by address.
struct Extra<'a> {
    source: Source<'a>,
    cmdline: &'a str,
}

fn extras<'a>(initrd: Option<&'a File>, modules: &'a [(File, String)]) -> Result<Vec<Extra<'a>>, BootError> {
    if modules.len() > MAX_MODULES {
        return Err(BootError::TooManyModules { given: modules.len() });
    }
    let mut extras = Vec::new();
    if let Some(file) = initrd {
        extras.push(Extra {
            source: Source::new(Piece::Initrd, file)?,
            cmdline: "",
        });
    }
    for (n, (file, cmdline)) in modules.iter().enumerate() {
        extras.push(Extra {
            source: Source::new(Piece::Module(n + 1), file)?,
            cmdline,
        });
    }
    Ok(extras)
}
