//! `mode = "overlay"`: what the guest writes goes to a sparse file of its own, the base stays as it is.
//!
//! ```text
//! 0      header   (format.rs)  what this is, the disk's size, which base
//! 4096   session               the run of the host's kernel in which the file was last open
//! 8192   lasting map           a bit for each sector: in the overlay, and on the medium
//! ..     current map           a bit for each sector: in the overlay
//! ..     data                  sector n of the disk at 512 n: holes where nothing was written
//! ```
//!
//! A sector is the unit, so no write has to read, and none touches its neighbours. Crash consistency has two halves:
//!
//! - *The worker dies.* What it gave the kernel is there. A write is acknowledged when its data and then its bits in
//!   the current map were given to the kernel, in this order: a successor finds both, or the old sector.
//! - *The host dies.* What was given to the kernel since the last flush is there in part, in any order; so the current
//!   map may name sectors whose data are not there. It is believed only in the run of the kernel that wrote it (the
//!   session sector says which), else it is made anew from the lasting map. A flush is: fdatasync; the changed blocks
//!   of the current map into the lasting map; fdatasync. So the lasting map never names a sector without data, and a
//!   sector is the last one flushed, or a later one, whole.
//!
//! The lasting map and the header are written a sector at a time, which media do whole or not at all; a check sum
//! finds what breaks that. What must never happen here: a write to the base (but by [`Overlay::merge`], for `vmapp
//! disk commit`), or a guess at the format of either.

mod format;
mod map;

pub use format::{BootId, Header, Identity, Layout, OverlayError, PER_BLOCK, State, make_empty};

use super::medium::Medium;
use super::raw::Raw;
use super::{DiskError, Image};
use map::{Map, bits, next_block, read_block, write_block};
use shared::msg::disk::SECTOR;
use std::collections::BTreeSet;

/// Most blocks of the map that wait for a flush; one more makes one.
const MOST_CHANGED: usize = 4096;
/// Sectors copied at once by a commit.
const COPIED: u64 = 512;

/// An overlay in front of its base.
pub struct Overlay<B, M> {
    base: Raw<B>,
    file: M,
    layout: Layout,
    map: Map,
    /// Blocks of the current map with bits that are not in the lasting map.
    changed: BTreeSet<u64>,
}

impl<B: Medium, M: Medium> Overlay<B, M> {
    /// Opens an overlay for use. `identity` is that of `base`, `boot` the present run of the kernel.
    pub fn open(base: Raw<B>, mut file: M, identity: Identity, boot: BootId) -> Result<Self, OverlayError> {
        let header = Header::read(&mut file)?;
        match header.state {
            State::Ready => header.belongs_to(&identity)?,
            State::Merging => return Err(OverlayError::Merging),
            State::Emptying => return Err(OverlayError::Emptying),
        }
        Self::take_up(base, file, boot)
    }

    /// Opens an overlay to be merged into its base, be it again: then the base was changed by the merging itself.
    pub fn open_to_merge(
        base: Raw<B>,
        mut file: M,
        identity: Identity,
        boot: BootId,
    ) -> Result<Self, OverlayError> {
        let mut header = Header::read(&mut file)?;
        match header.state {
            State::Ready => {}
            State::Merging => header.base.modified = None,
            State::Emptying => return Err(OverlayError::Emptying),
        }
        header.belongs_to(&identity)?;
        Self::take_up(base, file, boot)
    }

    fn take_up(base: Raw<B>, mut file: M, boot: BootId) -> Result<Self, OverlayError> {
        let layout = Layout::new(base.sectors());
        let have = file.size()?;
        if have < layout.end {
            let need = layout.end;
            return Err(OverlayError::Cut { have, need });
        }
        let mut overlay = Self {
            map: Map::new(&layout),
            changed: BTreeSet::new(),
            base,
            file,
            layout,
        };
        if BootId::read(&mut overlay.file)? == Some(boot) {
            overlay.find_changed()?;
        } else {
            overlay.forget_unflushed()?;
            boot.write(&mut overlay.file)?;
        }
        Ok(overlay)
    }

    /// A predecessor in this run of the kernel died: what it had not flushed counts.
    fn find_changed(&mut self) -> Result<(), OverlayError> {
        let mut next = 0;
        while let Some(number) = self.next_current(next)? {
            let current = read_block(&mut self.file, self.layout.current_at, number)?;
            let lasting = read_block(&mut self.file, self.layout.lasting_at, number)?;
            if bits(&current) != bits(&lasting) {
                self.note(number)?;
            }
            next = number + 1;
        }
        Ok(())
    }

    /// The current map may name what was never written.
    fn forget_unflushed(&mut self) -> Result<(), OverlayError> {
        let mut next = 0;
        while let Some(number) = self.next_current(next)? {
            self.restore(number)?;
            next = number + 1;
        }
        let mut next = 0;
        let (at, blocks) = (self.layout.lasting_at, self.layout.blocks);
        while let Some(number) = next_block(&mut self.file, at, blocks, next)? {
            self.restore(number)?;
            next = number + 1;
        }
        Ok(())
    }

    fn restore(&mut self, number: u64) -> Result<(), DiskError> {
        let lasting = read_block(&mut self.file, self.layout.lasting_at, number)?;
        match read_block(&mut self.file, self.layout.current_at, number) {
            Ok(current) if bits(&current) == bits(&lasting) => Ok(()),
            Ok(_) | Err(DiskError::Damaged(_)) => {
                write_block(&mut self.file, self.layout.current_at, number, &lasting)
            }
            Err(error) => Err(error),
        }
    }

    fn next_current(&mut self, from: u64) -> Result<Option<u64>, DiskError> {
        next_block(&mut self.file, self.layout.current_at, self.layout.blocks, from)
    }

    /// Remembers that a block waits for a flush.
    fn note(&mut self, number: u64) -> Result<(), DiskError> {
        self.changed.insert(number);
        if self.changed.len() > MOST_CHANGED {
            self.flush()?;
        }
        Ok(())
    }

    fn data_at(&self, lba: u64) -> u64 {
        self.layout.data_at + lba * SECTOR as u64
    }

    /// Copies what the overlay holds into the base, which must be open for writing. When this returns it is in the
    /// base for good, and the overlay says "merging" until it is emptied ([`make_empty`]). Interrupted at any point,
    /// it can be done again: the overlay stays whole. Returns the sectors copied.
    pub fn merge(&mut self) -> Result<u64, OverlayError> {
        self.flush()?;
        let header = Header::read(&mut self.file)?;
        Header {
            state: State::Merging,
            ..header
        }
        .write(&mut self.file)?;
        self.file.sync()?;
        let mut buffer = vec![0; COPIED as usize * SECTOR];
        let (mut copied, mut next) = (0, 0);
        while let Some(number) = self.next_current(next)? {
            copied += self.merge_block(number, &mut buffer)?;
            next = number + 1;
        }
        self.base.flush()?;
        Ok(copied)
    }

    fn merge_block(&mut self, number: u64, buffer: &mut [u8]) -> Result<u64, DiskError> {
        let mut lba = number * PER_BLOCK;
        let end = (lba + PER_BLOCK).min(self.sectors());
        let mut copied = 0;
        while lba < end {
            let most = (end - lba).min(COPIED);
            let (here, length) = self.map.run(&mut self.file, lba, most)?;
            if here {
                let part = buffer.get_mut(..length as usize * SECTOR).unwrap_or_default();
                let at = self.data_at(lba);
                self.file.read_at(at, part)?;
                self.base.write(lba, part)?;
                copied += length;
            }
            lba += length;
        }
        Ok(copied)
    }

    /// The base and the overlay's file.
    pub fn into_parts(self) -> (Raw<B>, M) {
        (self.base, self.file)
    }
}

/// What an overlay's file says of itself, read without changing it: its header and how many sectors it holds.
pub fn inspect(file: &mut impl Medium, boot: BootId) -> Result<(Header, u64), OverlayError> {
    let header = Header::read(file)?;
    let layout = Layout::new(header.base.sectors);
    let (have, need) = (file.size()?, layout.end);
    if have < need {
        return Err(OverlayError::Cut { have, need });
    }
    let at = if BootId::read(file)? == Some(boot) {
        layout.current_at
    } else {
        layout.lasting_at
    };
    let (mut used, mut next) = (0, 0);
    while let Some(number) = next_block(file, at, layout.blocks, next)? {
        let block = read_block(file, at, number)?;
        used += bits(&block)
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum::<u64>();
        next = number + 1;
    }
    Ok((header, used))
}

impl<B: Medium, M: Medium> Image for Overlay<B, M> {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }

    fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let (mut lba, mut rest) = (lba, into);
        while !rest.is_empty() {
            let most = (rest.len() / SECTOR).max(1) as u64;
            let (here, length) = self.map.run(&mut self.file, lba, most)?;
            let bytes = (length as usize * SECTOR).min(rest.len());
            let (part, behind) = rest.split_at_mut(bytes);
            if here {
                let at = self.data_at(lba);
                self.file.read_at(at, part)?;
            } else {
                self.base.read(lba, part)?;
            }
            lba += length;
            rest = behind;
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let at = self.data_at(lba);
        self.file.write_at(at, from)?;
        let Self {
            map, file, changed, ..
        } = self;
        let count = (from.len() / SECTOR) as u64;
        map.set(file, lba, count, |number| {
            changed.insert(number);
        })?;
        if self.changed.len() > MOST_CHANGED {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.file.sync()?;
        if self.changed.is_empty() {
            return Ok(());
        }
        for &number in &self.changed {
            let current = self.map.block(&mut self.file, number)?;
            write_block(&mut self.file, self.layout.lasting_at, number, &current)?;
        }
        self.file.sync()?;
        self.changed.clear();
        Ok(())
    }
}
