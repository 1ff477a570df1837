//! Media and images for tests: bytes in memory with a power switch, sectors that fail on demand.

use std::io;
use std::sync::{Arc, Mutex};
use vmapp::back::disk::medium::Medium;
use vmapp::back::disk::{DiskError, Image};

pub const SECTOR: usize = 512;

/// A source of numbers that is the same in every run.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

#[derive(Debug, Default)]
struct State {
    /// What the kernel has.
    seen: Vec<u8>,
    /// What the medium has.
    lasting: Vec<u8>,
    /// Sectors given to the kernel since the last sync, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Steps (writes, syncs, changes of size) until everything fails; the step it falls on is half done.
    steps_left: Option<u64>,
}

/// Bytes in memory. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub struct PoweredMedium(Arc<Mutex<State>>);

impl PoweredMedium {
    pub fn of_size(bytes: usize) -> Self {
        let medium = Self::default();
        {
            let mut state = medium.0.lock().unwrap();
            state.seen = vec![0; bytes];
            state.lasting = vec![0; bytes];
        }
        medium
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().seen.clone()
    }

    /// The process dies within the step after so many.
    pub fn die_after(&self, steps: u64) {
        self.0.lock().unwrap().steps_left = Some(steps);
    }

    /// A new process: what the kernel has stays.
    pub fn revive(&self) {
        self.0.lock().unwrap().steps_left = None;
    }

    /// The host loses power: of what was not synced, each sector is on the medium or not.
    pub fn lose_power(&self, numbers: &mut Numbers) {
        let mut guard = self.0.lock().unwrap();
        let state = &mut *guard;
        state.lasting.resize(state.seen.len(), 0);
        for (at, sector) in std::mem::take(&mut state.unsynced) {
            if numbers.below(2) == 0
                && let Some(place) = state.lasting.get_mut(at..at + sector.len())
            {
                place.copy_from_slice(&sector);
            }
        }
        state.seen = state.lasting.clone();
        state.steps_left = None;
    }
}

impl State {
    /// Whether this step is done in full.
    fn step(&mut self) -> Result<bool, io::Error> {
        match &mut self.steps_left {
            None => Ok(true),
            Some(0) => Err(io::Error::other("dead")),
            Some(left) => {
                *left -= 1;
                Ok(*left != 0)
            }
        }
    }
}

impl Medium for PoweredMedium {
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let state = self.0.lock().unwrap();
        let from = state.seen.get(at as usize..at as usize + into.len());
        into.copy_from_slice(from.ok_or(DiskError::Cut)?);
        Ok(())
    }

    fn write_at(&mut self, at: u64, from: &[u8]) -> Result<(), DiskError> {
        let mut state = self.0.lock().unwrap();
        assert_eq!(
            (at as usize % SECTOR, from.len() % SECTOR),
            (0, 0),
            "whole sectors"
        );
        if state.seen.len() < at as usize + from.len() {
            return Err(DiskError::Cut);
        }
        let whole = state.step()?;
        let sectors = from.len() / SECTOR;
        let done = if whole { sectors } else { sectors / 2 };
        for (n, sector) in from.chunks(SECTOR).take(done).enumerate() {
            let at = at as usize + n * SECTOR;
            state.seen[at..at + SECTOR].copy_from_slice(sector);
            state.unsynced.push((at, sector.to_vec()));
        }
        if whole {
            Ok(())
        } else {
            Err(io::Error::other("dead").into())
        }
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut state = self.0.lock().unwrap();
        if !state.step()? {
            return Err(io::Error::other("dead").into());
        }
        state.lasting = state.seen.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn resize(&mut self, size: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if !state.step()? {
            return Err(io::Error::other("dead"));
        }
        state.seen.resize(size as usize, 0);
        Ok(())
    }

    fn data_from(&mut self, at: u64) -> io::Result<Option<u64>> {
        let state = self.0.lock().unwrap();
        let rest = state.seen.get(at as usize..).unwrap_or_default();
        let data = rest.iter().position(|&byte| byte != 0);
        // Holes are whole blocks of the host.
        Ok(data.map(|ahead| ((at + ahead as u64) & !4095).max(at)))
    }
}

/// What an image in memory was asked, and what it shall fail at.
#[derive(Debug, Default)]
pub struct Plan {
    pub bytes: Vec<u8>,
    pub bad_sectors: Vec<u64>,
    pub flush_fails: bool,
    pub asked: Vec<String>,
}

/// An image in memory; its plan is the test's too.
#[derive(Clone, Debug, Default)]
pub struct PlannedImage(pub Arc<Mutex<Plan>>);

impl PlannedImage {
    pub fn of_sectors(sectors: usize) -> Self {
        let image = Self::default();
        image.0.lock().unwrap().bytes = (0..sectors * SECTOR).map(|n| (n / SECTOR + n) as u8).collect();
        image
    }
}

impl Plan {
    fn check(&self, lba: u64, bytes: usize) -> Result<(), DiskError> {
        let range = lba..lba + (bytes / SECTOR) as u64;
        if self.bad_sectors.iter().any(|bad| range.contains(bad)) {
            return Err(io::Error::from_raw_os_error(libc::EIO).into());
        }
        Ok(())
    }
}

impl Image for PlannedImage {
    fn sectors(&self) -> u64 {
        (self.0.lock().unwrap().bytes.len() / SECTOR) as u64
    }

    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let mut plan = self.0.lock().unwrap();
        plan.asked.push(format!("read {lba}+{}", into.len() / SECTOR));
        plan.check(lba, into.len())?;
        let at = lba as usize * SECTOR;
        into.copy_from_slice(&plan.bytes[at..at + into.len()]);
        Ok(())
    }

    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let mut plan = self.0.lock().unwrap();
        plan.asked.push(format!("write {lba}+{}", from.len() / SECTOR));
        plan.check(lba, from.len())?;
        let at = lba as usize * SECTOR;
        plan.bytes[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let mut plan = self.0.lock().unwrap();
        plan.asked.push("flush".to_owned());
        if plan.flush_fails {
            return Err(DiskError::Lost);
        }
        Ok(())
    }
}
