//! Opening images: what they must be, and the locks that keep two from writing one.
//!
//! Called by the supervisor, and by `vmapp disk`. A lock is a flock(2): it belongs to the open file description, which
//! the supervisor holds and every I/O worker shares, so that it outlives a worker and ends with the VM. An image is
//! written by one, or read by many. Symbolic links are the user's own and are followed.
//!
//! What must never happen here: a look at an image's content to find out what it is, or an image opened without its
//! lock.

use super::medium::{HostFile, Medium};
use super::overlay::{Header, Identity, Layout, OverlayError, State, make_empty};
use super::{DiskError, host_text};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use shared::msg::disk::SECTOR;
use shared::spec::MAX_SECTORS;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why an image is not opened. Every text names the file and says what to do.
#[derive(Debug, Error)]
pub enum DiskOpenError {
    /// No such file.
    #[error("{}: no such file: make an empty disk with `vmapp disk create {} 8G`", .0.display(), .0.display())]
    Missing(PathBuf),
    /// No right to it.
    #[error("{}: permission denied{}", .path.display(), only_read(*.writable))]
    Denied {
        /// The file.
        path: PathBuf,
        /// For writing.
        writable: bool,
    },
    /// A folder, a pipe, a terminal.
    #[error("{}: a disk is a regular file or a block device, and this is {what}", .path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Not whole sectors.
    #[error(
        "{}: {bytes} bytes are not a whole number of {SECTOR}-byte sectors: \
         `truncate -s {} {}` adds zeros up to the next",
        .path.display(), whole(*.bytes), .path.display()
    )]
    Ragged {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Beyond what 48-bit addresses reach.
    #[error("{}: {bytes} bytes are more than the {} an IDE disk has", .path.display(), MAX_SECTORS * SECTOR as u64)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Locked.
    #[error(
        "{}: another VM or program has this image open{}: stop that, or give this VM a copy",
        .path.display(), if *.writable { "" } else { " for writing" }
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// We want to write.
        writable: bool,
    },
    /// Mounted, or part of something the host uses.
    #[error("{}: the host uses this device (is it mounted?): `lsblk {}` shows what for", .0.display(), .0.display())]
    DeviceBusy(PathBuf),
    /// An overlay and what is wrong with it.
    #[error("{}: {source}{}", .path.display(), overlay_fix(path, base, source))]
    Overlay {
        /// The overlay.
        path: PathBuf,
        /// Its base.
        base: PathBuf,
        /// What is wrong.
        source: OverlayError,
    },
    /// The host refuses.
    #[error("{}: {}", .path.display(), host_text(.source))]
    Host {
        /// The file.
        path: PathBuf,
        /// Its word.
        source: io::Error,
    },
}

fn only_read(writable: bool) -> &'static str {
    if writable {
        ": for a disk that is only read, write mode = \"ro\" or \"overlay\""
    } else {
        ""
    }
}

/// The next whole number of sectors, in bytes; at least one.
fn whole(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(SECTOR as u64)
}

/// What to type about an overlay that is refused.
fn overlay_fix(path: &Path, base: &Path, error: &OverlayError) -> String {
    let (path, base) = (path.display(), base.display());
    let discard = format!("`vmapp disk discard {base} --overlay {path}` gives up the changes");
    match error {
        OverlayError::NotOverlay => format!(": name another file, or remove {path} if it is of no use"),
        OverlayError::Version(_) => String::new(),
        OverlayError::Merging => format!(": run `vmapp disk commit {base} --overlay {path}` again"),
        OverlayError::Emptying => format!(": run `vmapp disk discard {base} --overlay {path}` again"),
        OverlayError::BaseChanged {
            was: (seconds, nanos),
        } => format!(
            ": if it has its old content, `touch -d @{seconds}.{nanos:09} {base}` says so; else {discard}"
        ),
        OverlayError::BaseSize { .. } => format!(": put the old base back, or {discard}"),
        OverlayError::Header(_) | OverlayError::Cut { .. } | OverlayError::Disk(DiskError::Damaged(_)) => {
            format!(": {discard}")
        }
        OverlayError::Disk(_) => String::new(),
    }
}

/// The overlay of the image `base` where none is named: the same name with `.overlay` behind it.
pub fn overlay_path(base: &Path) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(".overlay");
    name.into()
}

/// Opens an image and locks it: alone for writing, with others for reading. Returns its size in sectors too.
pub fn open(path: &Path, writable: bool) -> Result<(OwnedFd, u64), DiskOpenError> {
    let file = open_locked(path, writable, false)?;
    let host = HostFile::new(file.into());
    let mut host = host.map_err(|source| cannot(path, writable, source))?;
    let bytes = host.size().map_err(|source| cannot(path, writable, source))?;
    let sectors = sectors(bytes).map_err(|wrong| wrong.of(path, bytes))?;
    Ok((host.into(), sectors))
}

/// What is wrong with an image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongSize {
    /// Not whole sectors, or none.
    Ragged,
    /// More than 48-bit addresses reach.
    TooLarge,
}

impl WrongSize {
    fn of(self, path: &Path, bytes: u64) -> DiskOpenError {
        let path = path.to_owned();
        match self {
            Self::Ragged => DiskOpenError::Ragged { path, bytes },
            Self::TooLarge => DiskOpenError::TooLarge { path, bytes },
        }
    }
}

/// The sectors of an image of so many bytes.
pub fn sectors(bytes: u64) -> Result<u64, WrongSize> {
    match bytes / SECTOR as u64 {
        _ if bytes == 0 || !bytes.is_multiple_of(SECTOR as u64) => Err(WrongSize::Ragged),
        sectors if sectors > MAX_SECTORS => Err(WrongSize::TooLarge),
        sectors => Ok(sectors),
    }
}

/// Opens the overlay `path` of an open base, locks it for us alone, and checks that the two belong together. One that
/// does not exist is made.
pub fn open_overlay(
    path: &Path,
    base_path: &Path,
    base: impl AsFd,
    sectors: u64,
) -> Result<OwnedFd, DiskOpenError> {
    let wrong = |source| DiskOpenError::Overlay {
        path: path.to_owned(),
        base: base_path.to_owned(),
        source,
    };
    let identity = identity(base, sectors).map_err(|source| cannot(base_path, false, source))?;
    let mut file = open_overlay_file(path, true)?;
    if file.size().map_err(|source| cannot(path, true, source))? == 0 {
        make_empty(&mut file, identity).map_err(|error| wrong(error.into()))?;
        sync_folder(path).map_err(|source| cannot(path, true, source))?;
    }
    check_overlay(&mut file, &identity).map_err(wrong)?;
    Ok(file.into())
}

fn check_overlay(file: &mut HostFile, identity: &Identity) -> Result<(), OverlayError> {
    let header = Header::read(file)?;
    match header.state {
        State::Ready => header.belongs_to(identity)?,
        State::Merging => return Err(OverlayError::Merging),
        State::Emptying => return Err(OverlayError::Emptying),
    }
    let (have, need) = (file.size()?, Layout::new(identity.sectors).end);
    if have < need {
        return Err(OverlayError::Cut { have, need });
    }
    Ok(())
}

/// What an overlay knows this open base by.
pub fn identity(base: impl AsFd, sectors: u64) -> io::Result<Identity> {
    let file = File::from(base.as_fd().try_clone_to_owned()?);
    Ok(Identity::new(sectors, &file.metadata()?))
}

/// Opens what `file` has open once more, for reading and writing: another open file description, without a lock.
pub fn again(file: impl AsFd) -> io::Result<OwnedFd> {
    let here = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(OpenOptions::new().read(true).write(true).open(here)?.into())
}

/// Opens an overlay's file, whatever is in it, for us alone.
pub fn open_overlay_file(path: &Path, create: bool) -> Result<HostFile, DiskOpenError> {
    let file = open_locked(path, true, create)?;
    let host = HostFile::new(file.into()).map_err(|source| cannot(path, true, source))?;
    if host.is_device() {
        let path = path.to_owned();
        let what = "a block device (an overlay is a file)";
        return Err(DiskOpenError::NotAnImage { path, what });
    }
    Ok(host)
}

/// Makes a new file's name last.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens an image or overlay to look at it, whoever else has it open. Not for reading sectors: nothing is locked.
pub fn look(path: &Path) -> Result<HostFile, DiskOpenError> {
    let file = open_unlocked(path, false, false)?;
    HostFile::new(file.into()).map_err(|source| cannot(path, false, source))
}

fn open_locked(path: &Path, writable: bool, create: bool) -> Result<File, DiskOpenError> {
    let file = open_unlocked(path, writable, create)?;
    let locked = if writable {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DiskOpenError::InUse {
            path: path.to_owned(),
            writable,
        }),
        Err(TryLockError::Error(error)) => Err(cannot(path, writable, error)),
    }
}

fn open_unlocked(path: &Path, writable: bool, create: bool) -> Result<File, DiskOpenError> {
    let (device, make) = match path.metadata() {
        Ok(metadata) => (refuse_kind(path, &metadata)?, false),
        Err(error) if error.kind() == ErrorKind::NotFound && create => (false, true),
        Err(error) => return Err(cannot(path, writable, error)),
    };
    // A device in use refuses to be opened exclusively. A pipe put here meanwhile must not stop us for a writer. A link to
    // nothing is no place for a new file: it could lead anywhere.
    let exclusive = if device && writable { libc::O_EXCL } else { 0 };
    let no_link = if make { libc::O_NOFOLLOW } else { 0 };
    let opened = OpenOptions::new()
        .read(true)
        .write(writable)
        .create(make)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | exclusive | no_link)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => DiskOpenError::DeviceBusy(path.to_owned()),
        _ => cannot(path, writable, error),
    })?;
    let metadata = file.metadata().map_err(|error| cannot(path, writable, error))?;
    refuse_kind(path, &metadata)?;
    block_again(&file).map_err(|errno| cannot(path, writable, errno.into()))?;
    Ok(file)
}

/// Refuses what holds no image; true: a block device.
fn refuse_kind(path: &Path, metadata: &std::fs::Metadata) -> Result<bool, DiskOpenError> {
    let kind = metadata.file_type();
    let what = if kind.is_file() || kind.is_block_device() {
        return Ok(kind.is_block_device());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a socket"
    };
    Err(DiskOpenError::NotAnImage {
        path: path.to_owned(),
        what,
    })
}

fn block_again(file: &File) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map(drop)
}

fn cannot(path: &Path, writable: bool, source: io::Error) -> DiskOpenError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::NotFound => DiskOpenError::Missing(path),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            DiskOpenError::Denied { path, writable }
        }
        _ => DiskOpenError::Host { path, source },
    }
}
