//! The transmitter: gathers frames from chains of descriptors, one step at a time. It neither sends nor waits.
//!
//! As in the chip, a descriptor is given back as soon as its bytes are in the buffer, but for the last of a frame: that
//! one stays the card's until the front end says what became of the frame ([`Transmitter::finish`]). So a frame without
//! room in the ring to the host waits here, complete, and nothing of it is read twice.
//!
//! The guest owns ring length, chain length, byte counts and addresses. A step does bounded work whatever they are: one
//! or two descriptors read, at most one buffer of what a frame may hold. What exceeds that is passed over, never stored.
//!
//! Source: AMD publication 19436, "Transmit Descriptor Table Entry", "Transmit Function Programming", TMD1, TMD2.

use super::csr::{Mode, Status};
use super::descriptors::{Descriptor, TxErrors, TxStatus};
use super::fcs;
use super::registers::{Direction, Registers};
use crate::mem::{GuestMemory, MemoryError};
use shared::msg::net::MAX_FRAME;

/// Bytes of a frame check sequence.
pub const FCS: usize = 4;
/// The longest frame gathered: one that brings its own sequence.
const ROOM: usize = MAX_FRAME + FCS;
/// Shortest frame the channel carries: the Ethernet header.
const SHORTEST: usize = 14;
/// Length frames are padded to, sequence not included.
pub const PADDED: usize = 60;
/// Longest frame of IEEE 802.3, sequence included: more is a babble.
const BABBLE: usize = 1518;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The ring has nothing for the card, or the transmitter is off.
    Idle,
    /// Something was done; there may be more.
    Again,
    /// A frame is complete: see [`Transmitter::frame`], then [`Transmitter::finish`].
    Frame,
}

/// A complete frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What the guest gave, and padding.
    bytes: &'a [u8],
    /// The card adds the sequence; else the bytes end with one.
    add_fcs: bool,
}

impl Frame<'_> {
    /// The frame without its sequence, if anybody on a wire would take it: neither too short nor too long, and with the
    /// right sequence.
    pub fn payload(&self) -> Option<&[u8]> {
        let payload = if self.add_fcs {
            self.bytes
        } else if fcs::holds(self.bytes) {
            self.bytes.get(..self.bytes.len().checked_sub(FCS)?)?
        } else {
            return None;
        };
        (SHORTEST..=MAX_FRAME).contains(&payload.len()).then_some(payload)
    }

    /// The frame as it is on the wire, its sequence last, into `image`: for loopback. False if it is none.
    pub fn image(&self, image: &mut Vec<u8>) -> bool {
        image.clear();
        image.extend_from_slice(self.bytes);
        if self.add_fcs {
            image.extend_from_slice(&fcs::sequence(self.bytes));
        }
        (SHORTEST + FCS..=ROOM).contains(&image.len())
    }

    fn wire_len(&self) -> usize {
        self.bytes.len() + if self.add_fcs { FCS } else { 0 }
    }
}

/// The transmitter.
pub struct Transmitter {
    /// The frame so far.
    buffer: [u8; ROOM],
    used: usize,
    /// The frame has more than fits; its bytes do not matter any more.
    oversize: bool,
    add_fcs: bool,
    /// A frame has begun.
    inside: bool,
    /// The frame is complete and not finished.
    complete: bool,
    /// A descriptor of the card's that was read and not used up: the next of a chain, or the last of a complete frame.
    fetched: Option<Descriptor>,
}

impl Transmitter {
    /// With nothing under way.
    pub fn new() -> Self {
        Self {
            buffer: [0; ROOM],
            used: 0,
            oversize: false,
            add_fcs: true,
            inside: false,
            complete: false,
            fetched: None,
        }
    }

    /// STOP or reset: what was under way is forgotten, and no descriptor of it will be written.
    pub fn clear(&mut self) {
        self.inside = false;
        self.complete = false;
        self.fetched = None;
    }

    /// Does the next bit of work.
    pub fn step(&mut self, registers: &mut Registers, memory: &GuestMemory) -> Step {
        if !registers.is_running(Direction::Tx) {
            return Step::Idle;
        }
        if self.complete {
            return Step::Frame;
        }
        self.descriptor(registers, memory).unwrap_or_else(|_not_memory| {
            self.clear();
            registers.memory_error(Direction::Tx);
            Step::Idle
        })
    }

    /// Takes in one descriptor.
    fn descriptor(&mut self, registers: &mut Registers, memory: &GuestMemory) -> Result<Step, MemoryError> {
        let current = match self.fetched.take() {
            Some(fetched) => fetched,
            None => match Self::fetch(registers, memory)? {
                Some(owned) => owned,
                None => return Ok(Step::Idle),
            },
        };
        if !self.inside {
            if !current.tx().contains(TxStatus::STP) {
                // The rest of a chain that broke: given back and passed over.
                current.pass_tx(memory)?;
                registers.advance(Direction::Tx);
                return Ok(Step::Again);
            }
            self.begin(registers, current.tx());
        }
        self.append(registers, memory, &current)?;
        registers.advance(Direction::Tx);
        if current.tx().contains(TxStatus::ENP) {
            self.complete(registers);
            self.fetched = Some(current);
            return Ok(Step::Frame);
        }
        // A ring of one is not two descriptors.
        self.fetched = Self::fetch(registers, memory)?.filter(|next| next.place != current.place);
        if self.fetched.is_some() {
            current.pass_tx(memory)?;
        } else {
            self.underflow(registers, memory, &current)?;
        }
        Ok(Step::Again)
    }

    /// The current descriptor if it is the card's.
    fn fetch(registers: &Registers, memory: &GuestMemory) -> Result<Option<Descriptor>, MemoryError> {
        let Some(place) = registers.descriptor(Direction::Tx) else {
            return Ok(None);
        };
        Ok(Some(Descriptor::read(memory, place)?).filter(Descriptor::is_owned))
    }

    fn begin(&mut self, registers: &mut Registers, status: TxStatus) {
        self.inside = true;
        self.used = 0;
        self.oversize = false;
        self.add_fcs = !registers.mode().contains(Mode::DXMTFCS)
            || status.contains(TxStatus::ADD_FCS)
            || registers.pads();
        registers.transmit_begun();
    }

    fn append(
        &mut self,
        registers: &Registers,
        memory: &GuestMemory,
        from: &Descriptor,
    ) -> Result<(), MemoryError> {
        let free = self.buffer.get_mut(self.used..).unwrap_or_default();
        match free.get_mut(..from.len) {
            Some(into) if !self.oversize => {
                memory.read(registers.bus_address(from.buffer), into)?;
                self.used += from.len;
            }
            _ => self.oversize = true,
        }
        Ok(())
    }

    fn complete(&mut self, registers: &Registers) {
        self.complete = true;
        if registers.pads() && self.used < PADDED {
            // The bytes of an earlier, longer frame are still there: they are not this guest program's to send.
            self.buffer[self.used..PADDED].fill(0);
            self.used = PADDED;
        }
    }

    /// The chain goes on in a descriptor that is not the card's: the frame is broken off.
    fn underflow(
        &mut self,
        registers: &mut Registers,
        memory: &GuestMemory,
        last: &Descriptor,
    ) -> Result<(), MemoryError> {
        self.clear();
        let status = registers.kept_of(last.tx()) | TxStatus::ERR;
        last.finish_tx(memory, status, TxErrors::BUFF | TxErrors::UFLO)?;
        registers.transmitted(last.tx(), true);
        if !registers.survives_underflow() {
            registers.turn_off(Direction::Tx);
        }
        Ok(())
    }

    /// The complete frame; `None` if it has more bytes than any frame may.
    pub fn frame(&self) -> Option<Frame<'_>> {
        let bytes = self.buffer.get(..self.used)?;
        (self.complete && !self.oversize).then_some(Frame {
            bytes,
            add_fcs: self.add_fcs,
        })
    }

    /// The complete frame is gone, or lost, with these errors: its last descriptor goes back to the guest.
    pub fn finish(&mut self, registers: &mut Registers, memory: &GuestMemory, errors: TxErrors) {
        if self.frame().is_none_or(|frame| frame.wire_len() > BABBLE) {
            registers.raise(Status::BABL);
        }
        let last = self.fetched.take();
        self.clear();
        let Some(last) = last else { return };
        let mut status = registers.kept_of(last.tx());
        status.set(TxStatus::ERR, !errors.is_empty());
        match last.finish_tx(memory, status, errors) {
            Ok(()) => registers.transmitted(last.tx(), !errors.is_empty()),
            Err(_not_memory) => registers.memory_error(Direction::Tx),
        }
    }
}
