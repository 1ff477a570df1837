//! The host's end of the disks: images opened and locked once by the supervisor with the user's rights, lent to each I/O
//! worker in turn. The locks belong to the open files, so they hold from worker to worker and end with the VM.
//!
//! Linux tells of a write it could not do afterwards once for each open file description: to the first fdatasync(2) on it.
//! A worker that hears of one and dies before it has told the guest would take the news with it, and its successor's flush
//! would succeed. So each worker gets a description of its own of what it may write, opened before its predecessor began:
//! what went wrong in the predecessor's time its first flush hears again.

use crate::back::disk::open::{self, DiskOpenError, overlay_path};
use crate::config::{DiskDraft, DiskMode};
use shared::msg::handover::{DiskBackSpec, FdRole};
use shared::spec::DiskSpec;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// All images.
#[derive(Default)]
pub struct HostDisks {
    specs: Vec<DiskBackSpec>,
    sectors: Vec<u64>,
    files: Vec<(FdRole, Held)>,
}

/// One open file.
enum Held {
    /// Only read: one description serves all.
    Read(OwnedFd),
    /// Also written.
    Written {
        /// Has the lock; nobody writes to it.
        lock: OwnedFd,
        /// The present worker's, and what the next one gets. A host that could not open it again leaves the next the same.
        lent: OwnedFd,
        spare: Option<OwnedFd>,
    },
}

impl Held {
    fn written(lock: OwnedFd) -> std::io::Result<Self> {
        Ok(Self::Written {
            lent: open::again(&lock)?,
            spare: Some(open::again(&lock)?),
            lock,
        })
    }

    fn lent(&self) -> BorrowedFd<'_> {
        match self {
            Self::Read(fd) => fd.as_fd(),
            Self::Written { lent, .. } => lent.as_fd(),
        }
    }

    fn change(&mut self) {
        if let Self::Written { lock, lent, spare } = self
            && let Some(next) = std::mem::replace(spare, open::again(&*lock).ok())
        {
            *lent = next;
        }
    }
}

impl HostDisks {
    /// Opens and locks what the config names.
    pub fn open(disks: &[DiskDraft]) -> Result<Self, DiskOpenError> {
        let mut opened = Self::default();
        for (number, disk) in (0u8..).zip(disks) {
            let path = &disk.image.path;
            let writable = disk.mode == DiskMode::ReadWrite;
            let (image, sectors) = open::open(path, writable)?;
            let hold = |path: &Path, file| {
                Held::written(file).map_err(|source| DiskOpenError::Host {
                    path: path.to_owned(),
                    source,
                })
            };
            let spec = match disk.mode {
                DiskMode::ReadWrite | DiskMode::ReadOnly => DiskBackSpec::Raw,
                DiskMode::Overlay => {
                    let apart = disk.overlay.clone().unwrap_or_else(|| overlay_path(path));
                    let overlay = open::open_overlay(&apart, path, &image, sectors)?;
                    opened
                        .files
                        .push((FdRole::Overlay(number), hold(&apart, overlay)?));
                    DiskBackSpec::Overlay
                }
            };
            let image = if writable {
                hold(path, image)?
            } else {
                Held::Read(image)
            };
            opened.files.push((FdRole::Disk(number), image));
            opened.specs.push(spec);
            opened.sectors.push(sectors);
        }
        Ok(opened)
    }

    /// Writes the sizes found at opening over those found when the file was checked.
    pub fn measure(&self, disks: &mut [DiskSpec]) {
        for (disk, &sectors) in disks.iter_mut().zip(&self.sectors) {
            disk.sectors = sectors;
        }
    }

    /// What the I/O worker is told, by disk.
    pub fn specs(&self) -> &[DiskBackSpec] {
        &self.specs
    }

    /// What the I/O worker gets.
    pub fn fds(&self) -> impl Iterator<Item = (FdRole, BorrowedFd<'_>)> {
        self.files.iter().map(|(role, file)| (*role, file.lent()))
    }

    /// Another worker takes over.
    pub fn change_worker(&mut self) {
        self.files.iter_mut().for_each(|(_, file)| file.change());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::PathBuf;
    use std::process::Command;

    /// A block device on a file that has no room, as a thin volume or a full host has: writes go well until they are
    /// flushed.
    struct Full {
        folder: tempfile::TempDir,
        device: PathBuf,
    }

    impl Full {
        fn new() -> Result<Self, String> {
            let folder = tempfile::tempdir().unwrap();
            let at = folder.path().to_owned();
            ran(
                "mount",
                &["-t", "tmpfs", "-o", "size=1m", "tmpfs", at.to_str().unwrap()],
            )?;
            let image = at.join("image");
            File::create(&image).unwrap().set_len(8 << 20).unwrap();
            let device = ran("losetup", &["-f", "--show", image.to_str().unwrap()]);
            let device = device.inspect_err(|_| {
                ran("umount", &[at.to_str().unwrap()]).ok();
            })?;
            Ok(Self {
                folder,
                device: device.trim().into(),
            })
        }
    }

    impl Drop for Full {
        fn drop(&mut self) {
            ran("losetup", &["-d", self.device.to_str().unwrap()]).ok();
            ran("umount", &["-l", self.folder.path().to_str().unwrap()]).ok();
        }
    }

    fn ran(program: &str, args: &[&str]) -> Result<String, String> {
        let output = Command::new(program).args(args).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{program}: {}", error.trim())),
        }
    }

    fn lent(held: &Held) -> File {
        held.lent().try_clone_to_owned().unwrap().into()
    }

    #[test]
    fn a_flush_that_failed_fails_for_the_next_worker_too() {
        let full = match Full::new() {
            Ok(full) => full,
            Err(why) => {
                println!("skipped: a flush that fails on the host: {why}");
                return;
            }
        };
        let device = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(&full.device)
            .unwrap();
        let mut held = Held::written(device.into()).unwrap();
        for worker in 0..3 {
            let file = lent(&held);
            for block in 0..6 {
                file.write_all_at(&vec![worker; 1 << 20], block << 20).unwrap();
            }
            assert!(file.sync_data().is_err(), "worker {worker}");
            file.sync_data().expect("told once");
            held.change();
            assert!(lent(&held).sync_data().is_err(), "the one after {worker}");
            held.change();
        }
    }

    #[test]
    fn the_lock_stays_from_worker_to_worker() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        File::create(&path).unwrap().set_len(512).unwrap();
        let (file, _) = open::open(&path, true).unwrap();
        let mut held = Held::written(file).unwrap();
        for _ in 0..3 {
            held.change();
            assert!(matches!(
                open::open(&path, true),
                Err(DiskOpenError::InUse { .. })
            ));
            lent(&held).write_all_at(&[1; 512], 0).unwrap();
        }
        drop(held);
        open::open(&path, true).unwrap();
    }
}
