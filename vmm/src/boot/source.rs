//! A boot file, read by position and piece by piece.
//!
//! Every read is checked against the file's length first, so that a part beyond the end is named with the number of
//! bytes missing. Contents go to guest memory through one bounded buffer: the heap never holds a whole initrd.

use super::{BootError, Piece};
use crate::mem::GuestMemory;
use std::fs::File;
use std::os::unix::fs::FileExt;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes copied at a time.
const CHUNK: u64 = 256 << 10;

/// An opened file and which one it is.
pub(super) struct Source<'a> {
    what: Piece,
    file: &'a File,
    len: u64,
}

impl<'a> Source<'a> {
    pub fn new(what: Piece, file: &'a File) -> Result<Self, BootError> {
        let meta = file.metadata().map_err(|source| BootError::Io { what, source })?;
        if meta.len() == 0 {
            let why = "it is empty";
            return Err(BootError::Malformed { what, why });
        }
        Ok(Self {
            what,
            file,
            len: meta.len(),
        })
    }

    pub fn what(&self) -> Piece {
        self.what
    }

    /// Length in bytes when it was opened here; never 0.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The first `most` bytes, or all of a shorter file.
    pub fn head(&self, most: usize) -> Result<Vec<u8>, BootError> {
        let len = usize::try_from(self.len).map_or(most, |len| len.min(most));
        let mut head = vec![0; len];
        self.read(0, &mut head, "start")?;
        Ok(head)
    }

    /// Refuses a part that the file does not hold.
    pub fn check(&self, at: u64, len: u64, part: &'static str) -> Result<(), BootError> {
        let end = at.saturating_add(len);
        if end > self.len {
            return Err(BootError::Truncated {
                what: self.what,
                part,
                end,
                len: self.len,
            });
        }
        Ok(())
    }

    /// Reads exactly `into`; `part` names it in errors.
    pub fn read(&self, at: u64, into: &mut [u8], part: &'static str) -> Result<(), BootError> {
        self.check(at, into.len() as u64, part)?;
        self.file.read_exact_at(into, at).map_err(|source| BootError::Io {
            what: self.what,
            source,
        })
    }

    /// Reads a plain structure.
    pub fn read_obj<T: FromBytes + FromZeros + IntoBytes>(
        &self,
        at: u64,
        part: &'static str,
    ) -> Result<T, BootError> {
        let mut value = T::new_zeroed();
        self.read(at, value.as_mut_bytes(), part)?;
        Ok(value)
    }

    /// Copies `len` bytes from `from` in the file to `to` in guest memory.
    pub fn copy(
        &self,
        from: u64,
        len: u64,
        memory: &GuestMemory,
        to: u64,
        part: &'static str,
    ) -> Result<(), BootError> {
        self.check(from, len, part)?;
        let mut buffer = vec![0; CHUNK.min(len) as usize];
        let mut done = 0;
        while done < len {
            let step = CHUNK.min(len - done);
            let piece = &mut buffer[..step as usize];
            self.read(from + done, piece, part)?;
            memory.write(to.saturating_add(done), piece)?;
            done += step;
        }
        Ok(())
    }
}

/// Zeroes guest memory piece by piece.
pub(super) fn clear(memory: &GuestMemory, at: u64, len: u64) -> Result<(), BootError> {
    let zeros = vec![0; CHUNK.min(len) as usize];
    let mut done = 0;
    while done < len {
        let step = CHUNK.min(len - done);
        memory.write(at.saturating_add(done), &zeros[..step as usize])?;
        done += step;
    }
    Ok(())
}
