//! A command that takes time: sectors on their way between vmapp and the guest, or a flush.
//!
//! [`Transfer::step`] does one bounded piece of work and says what the device shows meanwhile; the cable
//! ([`super::cable`]) calls it until nothing can be done. Requests are made ahead, answers are taken in order and only
//! when there is a place for them, so a guest that does not fetch its data stops vmapp by the ring being full.
//!
//! Data are copied once out of the ring into [`Transfer::data`] and from there to the guest; to write, once out of the
//! guest into it and from there to the ring. No slot is ever touched by the guest's pace, and no part of `data` is
//! shown that was not filled by the answer or the guest it belongs to.
//!
//! A read that fails behind its first sectors is cut there and its good part asked for again: the error is told only
//! when all before it is in the guest's memory, because drivers take the address of the error for just that.

use super::bus_master::BusMaster;
use super::disk::Disk;
use super::requests::{DATA_AT, Fault, Sent};
use super::status::Error;
use crate::mem::GuestMemory;
use shared::msg::disk::{SECTOR, Status as HostStatus};

/// How the data reach the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Through the Data register, in blocks of so many bytes.
    Data {
        /// A sector or several.
        block: usize,
    },
    /// By the bus master.
    Dma,
    /// Not at all: READ VERIFY.
    Nowhere,
}

/// What is asked of vmapp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Read,
    /// Also a flush alone, which is a write of nothing.
    Write,
}

/// Whether all is to be on the medium before the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    No,
    Wanted,
    Asked,
}

/// Why a command ends in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The first sector that was not transferred, if there is one to name.
    pub(super) lba: Option<u64>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do.
    Again,
    /// Waits for vmapp or the bus master.
    Busy,
    /// Waits for the guest to move a block; if the block is new it is to be interrupted, unless it just gave the command.
    Block {
        /// Interrupt it.
        interrupt: bool,
    },
    /// Ended well. Data read through the Data register end with the last word, not with an interrupt.
    Done {
        /// Interrupt the guest.
        interrupt: bool,
    },
    /// Ended in an error.
    Failed(Failure),
}

/// Where the other ends of a transfer are.
pub(super) struct Ends<'a> {
    pub(super) disk: &'a mut Disk,
    pub(super) master: &'a mut BusMaster,
    pub(super) memory: &'a GuestMemory,
}

/// The command under way.
pub(super) struct Transfer {
    flow: Flow,
    route: Route,
    flush: Flush,
    /// First sector of the command.
    first: u64,
    /// The next sector to ask for or to send.
    next: u64,
    /// The next sector to be answered, of a read.
    answered: u64,
    /// One past the last sector.
    end: u64,
    /// Told when `end`, which is where it happened, is reached.
    failure: Option<Failure>,
    /// A piece of what is read, or room for a piece of what is written, and how much of it is done.
    data: Vec<u8>,
    at: usize,
    /// End of the block that moves through the Data register.
    block_end: usize,
}

impl Transfer {
    fn new(flow: Flow, route: Route, (first, end): (u64, u64), data: Vec<u8>) -> Self {
        Self {
            flow,
            route,
            flush: Flush::No,
            first,
            next: first,
            answered: first,
            end,
            failure: None,
            data,
            at: 0,
            block_end: 0,
        }
    }

    /// Sectors to the guest. `spare` is room to work in.
    pub(super) fn read(range: (u64, u64), route: Route, mut spare: Vec<u8>) -> Self {
        spare.clear();
        Self::new(Flow::Read, route, range, spare)
    }

    /// Sectors from the guest; with `flush`, onto the medium before the end.
    pub(super) fn write(range: (u64, u64), route: Route, flush: bool, mut spare: Vec<u8>) -> Self {
        spare.clear();
        let mut transfer = Self::new(Flow::Write, route, range, spare);
        if flush {
            transfer.flush = Flush::Wanted;
        }
        transfer
    }

    /// Nothing but a flush.
    pub(super) fn flush(spare: Vec<u8>) -> Self {
        Self::write((0, 0), Route::Nowhere, true, spare)
    }

    /// One sector of the device's own words.
    pub(super) fn words(words: &[u8; SECTOR], mut spare: Vec<u8>) -> Self {
        spare.clear();
        spare.extend_from_slice(words);
        Self::new(Flow::Read, Route::Data { block: SECTOR }, (0, 0), spare)
    }

    /// The room, for the next command.
    pub(super) fn into_spare(self) -> Vec<u8> {
        self.data
    }

    /// Some work: at most one request or answer and the data of one.
    pub(super) fn step(&mut self, ends: &mut Ends<'_>) -> Step {
        match self.flow {
            Flow::Read => self.step_read(ends),
            Flow::Write => self.step_write(ends),
        }
    }

    /// The next word of the block the guest reads, and whether it is the last. `None`: there is no such block.
    pub(super) fn pop_word(&mut self) -> Option<(u16, bool)> {
        let piece = self.data.get(self.at..self.block_end);
        let word = piece.filter(|_| self.flow == Flow::Read)?.first_chunk::<2>()?;
        let word = u16::from_le_bytes(*word);
        self.at += 2;
        Some((word, self.at == self.block_end))
    }

    /// The next word of the block the guest writes; gives whether it is the last. `None`: there is no such block.
    pub(super) fn push_word(&mut self, word: u16) -> Option<bool> {
        let piece = self.data.get_mut(self.at..self.block_end);
        let room = piece
            .filter(|_| self.flow == Flow::Write)?
            .first_chunk_mut::<2>()?;
        *room = word.to_le_bytes();
        self.at += 2;
        Some(self.at == self.block_end)
    }

    fn step_read(&mut self, ends: &mut Ends<'_>) -> Step {
        if self.at < self.data.len() {
            return self.pass_on(ends);
        }
        if self.answered == self.end {
            return match self.failure {
                Some(failure) => Step::Failed(failure),
                None => Step::Done {
                    interrupt: !matches!(self.route, Route::Data { .. }),
                },
            };
        }
        if let Some(failed) = self.ask(ends.disk) {
            return failed;
        }
        match ends.disk.requests.answer(&mut self.data) {
            None => {
                self.forget_data();
                return Step::Busy;
            }
            Some(Ok(sectors)) => {
                (self.at, self.block_end) = (DATA_AT, DATA_AT);
                self.answered += u64::from(sectors);
            }
            Some(Err(fault)) => self.cut(fault, ends.disk),
        }
        Step::Again
    }

    /// Requests ahead, as many as can be.
    fn ask(&mut self, disk: &mut Disk) -> Option<Step> {
        while self.next < self.end {
            let sectors = (self.end - self.next).min(disk.requests.most_sectors().into());
            match disk.requests.read(self.next, sectors as u32) {
                Sent::Yes => self.next += sectors,
                Sent::Later => break,
                Sent::Never => return Some(self.never(self.answered)),
            }
        }
        None
    }

    /// Data in hand go to the guest.
    fn pass_on(&mut self, ends: &mut Ends<'_>) -> Step {
        match self.route {
            Route::Nowhere => self.at = self.data.len(),
            Route::Dma => {
                let left = self.data.get(self.at..).unwrap_or_default();
                self.at += ends.master.store(ends.memory, left);
                if self.at < self.data.len() {
                    return Step::Busy;
                }
            }
            Route::Data { block } => return self.next_block(block, true),
        }
        Step::Again
    }

    /// A block through the Data register begins, or goes on.
    fn next_block(&mut self, block: usize, announce: bool) -> Step {
        let begins = self.at >= self.block_end;
        if begins {
            self.block_end = self.data.len().min(self.at.saturating_add(block));
        }
        Step::Block {
            interrupt: begins && announce,
        }
    }

    /// The good sectors before a fault are all that is still read; those already asked for are asked for again.
    fn cut(&mut self, fault: Fault, disk: &mut Disk) {
        disk.requests.abandon();
        self.forget_data();
        self.next = self.answered;
        self.end = fault.lba;
        self.failure = Some(Failure {
            error: match fault.status {
                HostStatus::Refused => Error::IDNF,
                HostStatus::ReadOnly => Error::ABRT,
                HostStatus::Medium | HostStatus::Good => Error::UNC,
            },
            lba: Some(fault.lba),
        });
    }

    fn step_write(&mut self, ends: &mut Ends<'_>) -> Step {
        if self.at < self.data.len() {
            return self.gather(ends);
        }
        let mut room = true;
        if !self.data.is_empty() {
            match ends.disk.requests.write(self.next, &self.data) {
                Sent::Yes => {
                    self.next += (self.data.len() / SECTOR) as u64;
                    self.forget_data();
                }
                Sent::Later => room = false,
                Sent::Never => return self.never(self.next),
            }
        }
        let mut completion = Vec::new();
        match ends.disk.requests.answer(&mut completion) {
            Some(Ok(_)) => return Step::Again,
            Some(Err(fault)) => return Step::Failed(self.blame(fault)),
            None => {}
        }
        if !room {
            return Step::Busy;
        }
        if self.next < self.end {
            self.make_room(ends.disk);
            return Step::Again;
        }
        if ends.disk.requests.waits() {
            return Step::Busy;
        }
        match self.flush {
            Flush::Wanted => self.ask_flush(ends.disk),
            Flush::No | Flush::Asked => Step::Done { interrupt: true },
        }
    }

    /// Only when all writes are answered: a flush speaks of no others.
    fn ask_flush(&mut self, disk: &mut Disk) -> Step {
        match disk.requests.flush() {
            Sent::Yes => {
                self.flush = Flush::Asked;
                Step::Again
            }
            Sent::Later => Step::Busy,
            Sent::Never => self.never(self.first),
        }
    }

    /// Room for the sectors of the next request, zeroed: what the guest does not fill is nobody else's data.
    fn make_room(&mut self, disk: &Disk) {
        let most = match self.route {
            Route::Data { block } => (block / SECTOR) as u64,
            Route::Dma | Route::Nowhere => disk.requests.most_sectors().into(),
        };
        let sectors = (self.end - self.next).min(most);
        self.forget_data();
        self.data.resize(sectors as usize * SECTOR, 0);
    }

    /// Room in hand is filled by the guest.
    fn gather(&mut self, ends: &mut Ends<'_>) -> Step {
        if let Route::Data { block } = self.route {
            // The guest that just gave the command need not be told of its first block.
            return self.next_block(block, self.next != self.first);
        }
        let room = self.data.get_mut(self.at..).unwrap_or_default();
        self.at += ends.master.load(ends.memory, room);
        if self.at < self.data.len() {
            return Step::Busy;
        }
        Step::Again
    }

    fn blame(&self, fault: Fault) -> Failure {
        let (error, lba) = match (self.flush, fault.status) {
            // Nothing is said to be on the medium; a flush alone has no address.
            (Flush::Asked, _) if self.first == self.end => (Error::ABRT, None),
            (Flush::Asked, _) => (Error::IDNF, Some(self.first)),
            (_, HostStatus::ReadOnly) => (Error::WP | Error::ABRT, Some(fault.lba)),
            // UNC is not a write's to report (ATA/ATAPI-6, WRITE DMA, error outputs).
            _ => (Error::IDNF, Some(fault.lba)),
        };
        Failure { error, lba }
    }

    fn never(&self, lba: u64) -> Step {
        Step::Failed(Failure {
            error: Error::ABRT,
            lba: Some(lba),
        })
    }

    fn forget_data(&mut self) {
        self.data.clear();
        (self.at, self.block_end) = (0, 0);
    }
}
