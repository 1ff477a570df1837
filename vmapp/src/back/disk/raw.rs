//! `mode = "rw"` and `"ro"`: a file or block device as it is, sector n at byte 512 n.

use super::medium::Medium;
use super::{DiskError, Image};
use shared::msg::disk::SECTOR;
use std::fs::File;

/// The image.
#[derive(Debug)]
pub struct Raw<M> {
    medium: M,
    sectors: u64,
    read_only: bool,
}

impl<M: Medium> Raw<M> {
    /// `medium` had `sectors` when the machine was made; should it have fewer by now, the rest is
    /// [`DiskError::Cut`].
    pub fn new(medium: M, sectors: u64, read_only: bool) -> Self {
        Self {
            medium,
            sectors,
            read_only,
        }
    }

    /// What it is kept in.
    pub fn into_medium(self) -> M {
        self.medium
    }
}

impl<M: Medium> Image for Raw<M> {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.medium.read_at(lba.saturating_mul(SECTOR as u64), into)
    }

    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.medium.write_at(lba.saturating_mul(SECTOR as u64), from)
    }

    fn plain(&self) -> Option<File> {
        self.medium.handle()
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if self.read_only {
            return Ok(());
        }
        self.medium.sync()
    }
}
