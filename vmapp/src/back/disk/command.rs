//! `vmapp disk`: images and overlays of VMs that do not run.
//!
//! Called by the command line. PATH is the image as a machine's `path` names it; its overlay is where the machine
//! would look for it, or where the user says. All but [`info`] take the locks a VM takes, so that none runs meanwhile.
//! Each command can be interrupted at any point and given again.

use super::DiskError;
use super::medium::{HostFile, Medium};
use super::open::{DiskOpenError, identity, look, open, open_overlay_file, overlay_path, sync_folder};
use super::overlay::{BootId, Header, Overlay, OverlayError, State, inspect, make_empty};
use super::raw::Raw;
use shared::msg::disk::SECTOR;
use shared::spec::MAX_SECTORS;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a command did not do what it says.
#[derive(Debug, Error)]
pub enum CommandError {
    /// An image or overlay is not opened.
    #[error(transparent)]
    Open(#[from] DiskOpenError),
    /// No size.
    #[error(
        "size {0:?}: write bytes, or a number with K, M, G or T, a multiple of 512 up to 128 PiB; for example 8G"
    )]
    Size(String),
    /// There is something already.
    #[error("{}: there is such a file already", .0.display())]
    Exists(PathBuf),
    /// Reading or writing failed midway.
    #[error("{}: {source}", .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DiskError,
    },
}

/// `vmapp disk create`: an empty raw image, sparse.
pub fn create(path: &Path, size: &str) -> Result<String, CommandError> {
    let bytes = parse_size(size).ok_or_else(|| CommandError::Size(size.to_owned()))?;
    let failed = failed(path);
    let file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CommandError::Exists(path.to_owned()));
        }
        opened => opened.map_err(&failed)?,
    };
    if let Err(error) = file.set_len(bytes).and_then(|()| file.sync_all()) {
        // Nothing is in it: the user finds no half-made disk.
        std::fs::remove_file(path).map_err(&failed)?;
        return Err(failed(error));
    }
    sync_folder(path).map_err(failed)?;
    Ok(format!("{}: {bytes} bytes, empty\n", path.display()))
}

/// `vmapp disk info`: what an image and its overlay are. Takes no lock, so that it can be asked of a running VM's.
pub fn info(path: &Path, overlay: Option<&Path>) -> Result<String, CommandError> {
    let mut image = look(path)?;
    let bytes = image.size().map_err(failed(path))?;
    let allocated = image.file().metadata().map_err(failed(path))?.blocks() * 512;
    let mut text = if image.is_device() {
        format!("{}: block device, {bytes} bytes\n", path.display())
    } else {
        format!(
            "{}: raw, {bytes} bytes, {allocated} of them on the host's disk\n",
            path.display()
        )
    };
    let named = overlay.map_or_else(|| overlay_path(path), Path::to_owned);
    match look(&named) {
        Err(DiskOpenError::Missing(_)) if overlay.is_none() => {}
        opened => text += &overlay_info(&named, path, opened?)?,
    }
    Ok(text)
}

fn overlay_info(path: &Path, base: &Path, mut file: HostFile) -> Result<String, CommandError> {
    let boot = BootId::current().map_err(failed(path))?;
    let (header, used) = inspect(&mut file, boot).map_err(overlay_error(path, base))?;
    let state = match header.state {
        State::Ready => "",
        State::Merging => ", a commit was interrupted",
        State::Emptying => ", a discard was interrupted",
    };
    Ok(format!(
        "{}: overlay, {used} of {} sectors changed ({} bytes){state}\n",
        path.display(),
        header.base.sectors,
        used * SECTOR as u64
    ))
}

/// `vmapp disk commit`: the overlay's sectors go into the image, and the overlay is empty.
pub fn commit(path: &Path, overlay: Option<&Path>) -> Result<String, CommandError> {
    let named = overlay.map_or_else(|| overlay_path(path), Path::to_owned);
    let wrong = overlay_error(&named, path);
    let (base, sectors) = open(path, true)?;
    let base = HostFile::new(base).map_err(failed(path))?;
    let mut file = open_overlay_file(&named, false)?;
    let before = identity(&base, sectors).map_err(failed(path))?;
    let boot = BootId::current().map_err(failed(&named))?;
    let (copied, base, mut file) = match Header::read(&mut file).map_err(&wrong)?.state {
        // Merged it is; only the emptying was interrupted.
        State::Emptying => (0, base, file),
        State::Ready | State::Merging => {
            let raw = Raw::new(base, sectors, false);
            let mut overlay = Overlay::open_to_merge(raw, file, before, boot).map_err(&wrong)?;
            let copied = overlay.merge().map_err(&wrong)?;
            let (raw, file) = overlay.into_parts();
            (copied, raw.into_medium(), file)
        }
    };
    let after = identity(&base, sectors).map_err(failed(path))?;
    make_empty(&mut file, after).map_err(|error| wrong(error.into()))?;
    Ok(format!("{}: {copied} sectors written to it\n", path.display()))
}

/// `vmapp disk discard`: the overlay is empty, the image as it is.
pub fn discard(path: &Path, overlay: Option<&Path>) -> Result<String, CommandError> {
    let named = overlay.map_or_else(|| overlay_path(path), Path::to_owned);
    let wrong = overlay_error(&named, path);
    let (base, sectors) = open(path, false)?;
    let mut file = open_overlay_file(&named, false)?;
    match Header::read(&mut file) {
        // Half of it is in the base already: only the whole is a disk.
        Ok(header) if header.state == State::Merging => return Err(wrong(OverlayError::Merging)),
        // What is no overlay is not overwritten.
        Err(error @ (OverlayError::NotOverlay | OverlayError::Version(_) | OverlayError::Disk(_))) => {
            return Err(wrong(error));
        }
        Ok(_) | Err(_) => {}
    }
    let identity = identity(&base, sectors).map_err(failed(path))?;
    make_empty(&mut file, identity).map_err(|error| wrong(error.into()))?;
    Ok(format!("{}: empty\n", named.display()))
}

fn overlay_error(path: &Path, base: &Path) -> impl Fn(OverlayError) -> CommandError {
    let (path, base) = (path.to_owned(), base.to_owned());
    move |source| {
        DiskOpenError::Overlay {
            path: path.clone(),
            base: base.clone(),
            source,
        }
        .into()
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::Failed {
        path: path.clone(),
        source: source.into(),
    }
}

/// Bytes, with K, M, G or T for powers of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().split_last()? {
        (b'K' | b'k', _) => (text.get(..text.len() - 1)?, 10),
        (b'M' | b'm', _) => (text.get(..text.len() - 1)?, 20),
        (b'G' | b'g', _) => (text.get(..text.len() - 1)?, 30),
        (b'T' | b't', _) => (text.get(..text.len() - 1)?, 40),
        _ => (text, 0),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    let whole = bytes.is_multiple_of(SECTOR as u64) && bytes / SECTOR as u64 <= MAX_SECTORS;
    (whole && bytes != 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_whole_sectors_with_a_unit_or_none() {
        for (text, bytes) in [
            ("512", 512),
            ("4K", 4096),
            ("1M", 1 << 20),
            ("8G", 8 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "K",
            "513",
            "-1",
            "+512",
            "1.5G",
            "8GB",
            "8 G",
            "999999999999G",
            "131073T",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
