//! The overlay's map of what is: a bit for each sector, in blocks with a check sum, written through.

use super::format::{Layout, PER_BLOCK, Sector, is_sealed, seal};
use crate::back::disk::DiskError;
use crate::back::disk::medium::Medium;
use shared::msg::disk::SECTOR;

/// Blocks kept in memory: 500 MiB of disk, all of them if they are in one piece.
const CACHED: u64 = 256;

/// The blocks seen last.
pub struct Map {
    at: u64,
    lasting_at: u64,
    cache: Vec<Option<(u64, Sector)>>,
}

impl Map {
    /// The map of what is, of a file laid out so.
    pub fn new(layout: &Layout) -> Self {
        Self {
            at: layout.current_at,
            lasting_at: layout.lasting_at,
            cache: vec![None; CACHED as usize],
        }
    }

    /// Whether sector `lba` is in the overlay, and for how many of `most` (at least 1) sectors from it on that holds,
    /// as far as one block tells.
    pub fn run(&mut self, file: &mut impl Medium, lba: u64, most: u64) -> Result<(bool, u64), DiskError> {
        let number = lba / PER_BLOCK;
        let block = self.block(file, number)?;
        let first = bit(&block, lba);
        let end = lba.saturating_add(most).min((number + 1) * PER_BLOCK);
        let length = (lba + 1..end)
            .take_while(|&lba| bit(&block, lba) == first)
            .count();
        Ok((first, 1 + length as u64))
    }

    /// Sets the bits of `count` sectors from `lba` on; tells `changed` the blocks that were written for that.
    pub fn set(
        &mut self,
        file: &mut impl Medium,
        lba: u64,
        count: u64,
        mut changed: impl FnMut(u64),
    ) -> Result<(), DiskError> {
        let mut next = lba;
        let end = lba + count;
        while next < end {
            let number = next / PER_BLOCK;
            let stop = end.min((number + 1) * PER_BLOCK);
            let old = self.block(file, number)?;
            let mut new = old;
            for lba in next..stop {
                set_bit(&mut new, lba);
            }
            next = stop;
            if new == old {
                continue;
            }
            if old == [0; SECTOR] {
                // Takes the room in the lasting map too, which is as empty: on a full disk writes fail, flushes do not.
                write_block(file, self.lasting_at, number, &old)?;
            }
            let at = self.at + number * SECTOR as u64;
            seal(&mut new, at);
            // First there, then here: a block that could not be written is not believed either.
            file.write_at(at, &new)?;
            self.keep(number, new);
            changed(number);
        }
        Ok(())
    }

    /// Block `number`.
    pub fn block(&mut self, file: &mut impl Medium, number: u64) -> Result<Sector, DiskError> {
        if let Some(Some((cached, block))) = self.cache.get(slot(number))
            && *cached == number
        {
            return Ok(*block);
        }
        let block = read_block(file, self.at, number)?;
        self.keep(number, block);
        Ok(block)
    }

    fn keep(&mut self, number: u64, block: Sector) {
        if let Some(place) = self.cache.get_mut(slot(number)) {
            *place = Some((number, block));
        }
    }
}

fn slot(number: u64) -> usize {
    (number % CACHED) as usize
}

/// Block `number` of the map at `at`, accepted. One never written is all zeros.
pub fn read_block(file: &mut impl Medium, at: u64, number: u64) -> Result<Sector, DiskError> {
    let mut block = [0; SECTOR];
    let at = at + number * SECTOR as u64;
    file.read_at(at, &mut block)?;
    if block == [0; SECTOR] || is_sealed(&block, at) {
        Ok(block)
    } else {
        Err(DiskError::Damaged(number))
    }
}

/// Writes the bits of `block` as block `number` of the map at `at`.
pub fn write_block(file: &mut impl Medium, at: u64, number: u64, block: &Sector) -> Result<(), DiskError> {
    let at = at + number * SECTOR as u64;
    let mut block = *block;
    if block != [0; SECTOR] {
        seal(&mut block, at);
    }
    file.write_at(at, &block)
}

/// The first block from `from` on, of `blocks` of the map at `at`, that may be other than zeros.
pub fn next_block(file: &mut impl Medium, at: u64, blocks: u64, from: u64) -> Result<Option<u64>, DiskError> {
    let found = file.data_from(at + from * SECTOR as u64)?;
    let number = found.map(|position| position.saturating_sub(at) / SECTOR as u64);
    Ok(number
        .map(|number| number.max(from))
        .filter(|&number| number < blocks))
}

/// The bits of a block, without its check sum.
pub fn bits(block: &Sector) -> &[u8] {
    block.get(..(PER_BLOCK / 8) as usize).unwrap_or_default()
}

fn bit(block: &Sector, lba: u64) -> bool {
    let n = lba % PER_BLOCK;
    block
        .get((n / 8) as usize)
        .is_some_and(|byte| byte >> (n % 8) & 1 != 0)
}

fn set_bit(block: &mut Sector, lba: u64) {
    let n = lba % PER_BLOCK;
    if let Some(byte) = block.get_mut((n / 8) as usize) {
        *byte |= 1 << (n % 8);
    }
}
