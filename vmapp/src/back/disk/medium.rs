//! What an image is kept in: bytes by position, on the host.
//!
//! [`HostFile`] is a regular file or a block device; the tests put in its place a medium that fails or loses power.
//! What must never happen here: a file that grows, a mapping of it (a file cut short would be a SIGBUS), or an
//! fdatasync(2) taken for good after one that failed, which the kernel reports once and then forgets with the data.

use super::DiskError;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};

/// Bytes by position. Positions and lengths are the caller's to keep below `i64::MAX`.
pub trait Medium: Send {
    /// Fills `into` from `at` on. [`DiskError::Cut`]: it ends before.
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<(), DiskError>;
    /// Stores `from` from `at` on, never beyond the end: [`DiskError::Cut`].
    fn write_at(&mut self, at: u64, from: &[u8]) -> Result<(), DiskError>;
    /// Everything stored lasts when this returns. Once failed, it fails for good.
    fn sync(&mut self) -> Result<(), DiskError>;
    /// The host's file behind it, again, if it is one.
    fn handle(&self) -> Option<File> {
        None
    }
    /// Bytes it has now.
    fn size(&mut self) -> io::Result<u64>;
    /// Cuts it, or adds zeros.
    fn resize(&mut self, size: u64) -> io::Result<()>;
    /// First position from `at` on where there may be other than zeros; `None`: nowhere.
    fn data_from(&mut self, at: u64) -> io::Result<Option<u64>>;
}

/// A regular file or a block device of the host.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    device: bool,
    sync_failed: bool,
}

impl HostFile {
    /// Looks at what `fd` is. Others ([`ErrorKind::InvalidInput`]) hold no image.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            file,
            device: kind.is_block_device(),
            sync_failed: false,
        })
    }

    /// Whether it is a block device.
    pub fn is_device(&self) -> bool {
        self.device
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<HostFile> for OwnedFd {
    fn from(host: HostFile) -> Self {
        host.file.into()
    }
}

impl Medium for HostFile {
    fn handle(&self) -> Option<File> {
        self.file.try_clone().ok()
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<(), DiskError> {
        match self.file.read_exact_at(into, at) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(DiskError::Cut),
            read => Ok(read?),
        }
    }

    fn write_at(&mut self, at: u64, from: &[u8]) -> Result<(), DiskError> {
        // A device ends by itself (ENOSPC). A file cut in this very moment may grow again by this write: as a hole up
        // to it, and not beyond the size it had.
        if !self.device && self.size()? < at.saturating_add(from.len() as u64) {
            return Err(DiskError::Cut);
        }
        Ok(self.file.write_all_at(from, at)?)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if self.sync_failed {
            return Err(DiskError::Lost);
        }
        let synced = self.file.sync_data();
        self.sync_failed = synced.is_err();
        Ok(synced?)
    }

    fn size(&mut self) -> io::Result<u64> {
        if self.device {
            return self.file.seek(SeekFrom::End(0));
        }
        Ok(self.file.metadata()?.len())
    }

    fn resize(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn data_from(&mut self, at: u64) -> io::Result<Option<u64>> {
        let from = i64::try_from(at).map_err(|_| ErrorKind::InvalidInput)?;
        match lseek(&self.file, from, Whence::SeekData) {
            Ok(found) => Ok(u64::try_from(found).ok()),
            Err(Errno::ENXIO) => Ok(None),
            // A file system that does not tell holes from data.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(at)),
            Err(errno) => Err(errno.into()),
        }
    }
}
