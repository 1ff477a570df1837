//! The host's end of the disks: images opened and locked once by the supervisor with the user's rights, lent to each I/O
//! worker in turn. The locks belong to the open files, so they hold from worker to worker and end with the VM.

use crate::back::disk::open::{self, DiskOpenError, overlay_path};
use crate::config::{DiskDraft, DiskMode};
use shared::msg::handover::{DiskBackSpec, FdRole};
use shared::spec::DiskSpec;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// All images.
#[derive(Default)]
pub struct HostDisks {
    specs: Vec<DiskBackSpec>,
    sectors: Vec<u64>,
    fds: Vec<(FdRole, OwnedFd)>,
}

impl HostDisks {
    /// Opens and locks what the config names.
    pub fn open(disks: &[DiskDraft]) -> Result<Self, DiskOpenError> {
        let mut opened = Self::default();
        for (number, disk) in (0u8..).zip(disks) {
            let path = &disk.image.path;
            let (image, sectors) = open::open(path, disk.mode == DiskMode::ReadWrite)?;
            let spec = match disk.mode {
                DiskMode::ReadWrite | DiskMode::ReadOnly => DiskBackSpec::Raw,
                DiskMode::Overlay => {
                    let apart = disk.overlay.clone().unwrap_or_else(|| overlay_path(path));
                    let overlay = open::open_overlay(&apart, path, &image, sectors)?;
                    opened.fds.push((FdRole::Overlay(number), overlay));
                    DiskBackSpec::Overlay
                }
            };
            opened.fds.push((FdRole::Disk(number), image));
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
        self.fds.iter().map(|(role, fd)| (*role, fd.as_fd()))
    }
}
