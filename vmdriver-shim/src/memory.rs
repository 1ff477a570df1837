//! The shared memory of one VM: a sealed memfd, made by the supervisor, checked and mapped by both workers.
//!
//! [`SharedMemory::create`] is called once per VM, [`SharedMemory::attach`] by each worker on the descriptor it was
//! handed. What must never happen here: a mapping of memory that its maker could still shrink (a later access would be
//! a SIGBUS), a header field believed without [`Layout::check`], or a second read of one.
#![allow(
    unsafe_code,
    reason = "maps and unmaps the shared memory; see the SAFETY comments"
)]

use memfd::{FileSeal, Memfd, MemfdOptions};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use shared::abi::{ChannelShape, Header, Layout, LayoutError};
use shared::mem::Mapped;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use thiserror::Error;
use zerocopy::{FromZeros, IntoBytes};

/// Why there is no shared memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The kernel gave no memfd, or would not size, write or seal it.
    #[error("cannot make the shared memory: {0}")]
    Create(#[source] io::Error),
    /// The descriptor is not a memfd.
    #[error("the descriptor handed over as shared memory is not a memfd")]
    NotMemfd,
    /// Whoever holds the memfd could still resize it under us.
    #[error("the shared memory is not sealed against {0}")]
    NotSealed(&'static str),
    /// Too small to hold even the header.
    #[error("the shared memory has {actual} bytes, its header alone takes {header}", header = size_of::<Header>())]
    Short {
        /// Size of the memfd in bytes.
        actual: u64,
    },
    /// Its size or its header could not be read.
    #[error("cannot read the header of the shared memory: {0}")]
    Read(#[source] io::Error),
    /// The header is wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel refused the mapping.
    #[error("cannot map {bytes} bytes of shared memory: {source}")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// The kernel's word.
        source: io::Error,
    },
}

/// The seals without which nothing is mapped, and what each prevents.
const SEALS: [(FileSeal, &str); 3] = [
    (FileSeal::SealShrink, "shrinking"),
    (FileSeal::SealGrow, "growing"),
    (FileSeal::SealSeal, "further sealing"),
];

/// One mapping, undone when the last [`Mapped`] that looks through it is gone.
struct Mapping {
    base: NonNull<c_void>,
    len: usize,
}

// SAFETY: the owner of an address range, which belongs to the process and not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; it has no method, only a drop.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned; every access goes through a `Mapped` that keeps us alive.
        let unmapped = unsafe { munmap(self.base, self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping cannot fail");
    }
}

/// The memory both workers share, mapped, with its checked layout.
pub struct SharedMemory {
    file: OwnedFd,
    layout: Layout,
    mem: Mapped,
}

impl SharedMemory {
    /// Makes the memory for these channels: sized, its header written, then sealed for good, then mapped.
    pub fn create(shapes: &[ChannelShape]) -> Result<Self, MemoryError> {
        let layout = Layout::plan(shapes)?;
        let memfd = MemfdOptions::new()
            .allow_sealing(true)
            .close_on_exec(true)
            .create("worldswitch")
            .map_err(|e| MemoryError::Create(io::Error::other(e)))?;
        let file = memfd.as_file();
        file.set_len(layout.total() as u64).map_err(MemoryError::Create)?;
        file.write_all_at(layout.header().as_bytes(), 0)
            .map_err(MemoryError::Create)?;
        memfd
            .add_seals(SEALS.iter().map(|(seal, _)| seal))
            .map_err(|e| MemoryError::Create(io::Error::other(e)))?;
        Self::map(memfd.into_file(), layout)
    }

    /// Takes up a memory that came from outside. Nothing of it is believed: it must be a memfd that nobody can resize,
    /// as large as its header says, with a header that [`Layout::check`] accepts from a private copy.
    pub fn attach(fd: OwnedFd) -> Result<Self, MemoryError> {
        let memfd = Memfd::try_from_fd(fd).map_err(|_| MemoryError::NotMemfd)?;
        let seals = memfd
            .seals()
            .map_err(|e| MemoryError::Read(io::Error::other(e)))?;
        if let Some((_, what)) = SEALS.iter().find(|(seal, _)| !seals.contains(seal)) {
            return Err(MemoryError::NotSealed(what));
        }
        let file = memfd.into_file();
        let actual = file.metadata().map_err(MemoryError::Read)?.len();
        if actual < size_of::<Header>() as u64 {
            return Err(MemoryError::Short { actual });
        }
        let mut header = Header::new_zeroed();
        file.read_exact_at(header.as_mut_bytes(), 0)
            .map_err(MemoryError::Read)?;
        let layout = Layout::check(&header, actual)?;
        Self::map(file, layout)
    }

    fn map(file: File, layout: Layout) -> Result<Self, MemoryError> {
        let bytes = layout.total();
        let refused = |source: io::Error| MemoryError::Map { bytes, source };
        let len = NonZeroUsize::new(bytes).ok_or_else(|| refused(io::ErrorKind::InvalidInput.into()))?;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let base = unsafe { mmap(None, len, rights, MapFlags::MAP_SHARED, &file, 0) }
            .map_err(|e| refused(e.into()))?;
        let owner = Arc::new(Mapping { base, len: bytes });
        // SAFETY: the range stays mapped read-write until `owner` is dropped; it is page aligned; the memfd is sealed
        // against shrinking, so every page of it stays backed; no reference into it is ever made.
        let mem = unsafe { Mapped::new(base.cast(), bytes, owner) };
        Ok(Self {
            file: file.into(),
            layout,
            mem,
        })
    }

    /// The memory. Clones share the mapping, which lives until the last of them is dropped.
    pub fn mem(&self) -> Mapped {
        self.mem.clone()
    }

    /// Where things are in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memfd, to be handed to a worker.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
