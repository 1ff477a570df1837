//! An image that fails when it is told to, the way a host's disk does: a bad sector stays bad for the whole of a request, a
//! full file system stores what still fits, and after a flush that failed none succeeds any more.
//!
//! Belongs to the disk's thread, around its real image. With nothing armed a request costs one load and one branch more.

use super::arm::{Chance, Hit};
use super::strike::Faults;
use crate::back::disk::{DiskError, Image};
use nix::errno::Errno;
use shared::msg::disk::SECTOR;
use shared::msg::fault::{Action, DiskFault, DiskOp, Point, Target};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What is wrong with the request in hand.
#[derive(Clone, Copy, Debug)]
struct Bad {
    /// Of a read or write.
    sector: u64,
    errno: Errno,
    /// What stands before the bad sector is stored.
    partly: bool,
}

/// The image.
pub struct Failing {
    image: Box<dyn Image>,
    faults: Arc<Faults>,
    target: Target,
    bad: Option<Bad>,
    /// A flush has failed.
    lost: bool,
}

impl Failing {
    /// Around `image`, which users know as `target`.
    pub fn new(image: Box<dyn Image>, target: Target, faults: Arc<Faults>) -> Self {
        Self {
            image,
            faults,
            target,
            bad: None,
            lost: false,
        }
    }

    /// A request begins; what is done until [`end`](Self::end) is parts of it and repetitions.
    pub fn begin(&mut self, op: DiskOp, lba: u64, sectors: u32) {
        self.bad = None;
        if !self.faults.is_live() {
            return;
        }
        let begun = match op {
            DiskOp::Read | DiskOp::Write => Point::DiskBegun,
            DiskOp::Flush => Point::FlushBegun,
        };
        self.faults.point(begun, Some(self.target));
        for hit in self.faults.chance(Chance::Disk(self.target, op, lba, sectors)) {
            self.strike(hit, lba, sectors);
        }
    }

    /// It is done, well or not.
    pub fn end(&mut self, op: DiskOp) {
        let done = match op {
            DiskOp::Read | DiskOp::Write => Point::DiskDone,
            DiskOp::Flush => Point::FlushDone,
        };
        self.faults.point(done, Some(self.target));
    }

    fn strike(&mut self, hit: Hit, first: u64, sectors: u32) {
        let Hit {
            action: Action::DiskError { error, lba, .. },
            mut dice,
        } = hit
        else {
            return;
        };
        let any = match lba {
            Some((from, _)) => from.max(first),
            None => first + dice.below(sectors.into()),
        };
        let (errno, sector) = match error {
            DiskFault::Eio => (Errno::EIO, any),
            DiskFault::Enospc => (Errno::ENOSPC, any),
            DiskFault::ShortWrite => (Errno::ENOSPC, first + u64::from(sectors / 2)),
            DiskFault::Slow { ms } => return self.faults.pause(Duration::from_millis(ms.into())),
        };
        self.bad = Some(Bad {
            sector,
            errno,
            partly: error == DiskFault::ShortWrite,
        });
    }

    /// What is wrong with these sectors.
    fn bad_in(&self, range: Range<u64>) -> Option<Bad> {
        self.bad.filter(|bad| range.contains(&bad.sector))
    }

    /// Stores the first half of a write before the point between them, and the rest after it.
    fn write_in_halves(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let half = from.len() / SECTOR / 2;
        let (front, back) = from.split_at(half * SECTOR);
        if !front.is_empty() {
            self.image.write(lba, front)?;
        }
        self.faults.point(Point::DiskHalf, Some(self.target));
        self.image.write(lba + half as u64, back)
    }
}

fn sectors_of(lba: u64, bytes: &[u8]) -> Range<u64> {
    lba..lba.saturating_add((bytes.len() / SECTOR) as u64)
}

fn host(errno: Errno) -> DiskError {
    DiskError::Host(io::Error::from(errno))
}

impl Image for Failing {
    fn sectors(&self) -> u64 {
        self.image.sectors()
    }

    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        match self.bad_in(sectors_of(lba, into)) {
            Some(bad) => Err(host(bad.errno)),
            None => self.image.read(lba, into),
        }
    }

    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        match self.bad_in(sectors_of(lba, from)) {
            Some(bad) => {
                let fits = (bad.sector - lba) as usize * SECTOR;
                if let Some(front @ [_, ..]) = from.get(..fits).filter(|_| bad.partly) {
                    self.image.write(lba, front)?;
                }
                Err(host(bad.errno))
            }
            None if self.faults.awaits(Point::DiskHalf) => self.write_in_halves(lba, from),
            None => self.image.write(lba, from),
        }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if self.lost {
            return Err(DiskError::Lost);
        }
        if let Some(bad) = self.bad {
            self.lost = true;
            return Err(host(bad.errno));
        }
        self.image.flush()
    }
}
