//! What holds a disk's sectors.
//!
//! | module | what it is |
//! |---|---|
//! | [`raw`] | `mode = "rw"` and `"ro"`: a file or block device as it is |
//! | [`overlay`] | `mode = "overlay"`: writes kept apart, the base untouched |
//! | [`medium`] | what either is kept in |
//! | [`open`] | opening and locking, for the supervisor and the commands |
//! | [`command`] | `vmapp disk` |
//!
//! An [`Image`] is synchronous and belongs to its disk's own thread, so that a slow medium delays its disk and nothing
//! else; the I/O worker's disk service passes it requests from the ring, in order. Formats are what the configuration
//! says, never guessed from content; the size is what it was at start, whatever happens to the file.

pub mod command;
pub mod medium;
pub mod open;
pub mod overlay;
pub mod raw;

use std::fs::File;
use std::io;
use thiserror::Error;

/// Why a request failed.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The host's answer: EIO, ENOSPC.
    #[error("{}", host_text(.0))]
    Host(#[from] io::Error),
    /// An earlier flush failed: what was written before it may be lost, and no later flush can make up for that.
    #[error("an earlier flush failed, so data may be lost")]
    Lost,
    /// A block of an overlay's map is not what was written.
    #[error("the overlay's map is damaged at block {0}")]
    Damaged(u64),
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
    /// A file that holds just the sectors, each at its place, in which whoever has all answers may look for those that the
    /// host has at hand. Not every image is kept so.
    fn plain(&self) -> Option<File> {
        None
    }
    /// Everything written is on the medium when this returns.
    fn flush(&mut self) -> Result<(), DiskError>;
}

/// The host's words for its error, without a number behind them.
fn host_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
