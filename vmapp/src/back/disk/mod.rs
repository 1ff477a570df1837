//! What holds a disk's sectors.
//!
//! | module | `mode =` |
//! |---|---|
//!
//! An [`Image`] is synchronous and belongs to its disk's own thread, so that a slow medium delays its disk and nothing
//! else; the I/O worker's disk service passes it requests from the ring, in order. Formats are what the configuration says,
//! never guessed from content; the size is what it was at start, whatever happens to the file.

use std::io;
use thiserror::Error;

/// Why a request failed.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The host's answer: EIO, ENOSPC.
    #[error("{0}")]
    Host(#[from] io::Error),
    /// The file ends before the disk does: somebody cut it.
    #[error("the file is shorter than it was when the machine started")]
    Cut,
    /// The disk is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
}

/// Where sectors are. Ranges are checked by the caller: inside the disk, whole sectors.
pub trait Image: Send {
    /// Size in sectors, constant.
    fn sectors(&self) -> u64;
    /// Fills `into`, a whole number of sectors, from sector `lba` on.
    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError>;
    /// Stores `from`, a whole number of sectors, from sector `lba` on.
    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError>;
    /// Everything written is on the medium when this returns.
    fn flush(&mut self) -> Result<(), DiskError>;
}
