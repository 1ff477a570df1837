//! The receiver: puts one frame into the guest's buffers. It neither takes frames from the host nor waits.
//!
//! A frame is written piece by piece into as many descriptors as it needs; each goes back to the guest when the card
//! knows whether it owns the next, OWN last. Bounded by the frame: every buffer takes at least a byte of it.
//!
//! Source: AMD publication 19436, "Receive Descriptor Table Entry", RMD1, RMD2.

use super::csr::Status;
use super::descriptors::{Descriptor, RxStatus};
use super::registers::{Direction, Registers};
use crate::mem::{GuestMemory, MemoryError};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The guest has it.
    Done,
    /// No descriptor is the card's; nothing was done.
    NoBuffer,
    /// The guest was told of a frame that cannot be used: it broke off, or its buffer is not memory.
    Broken,
}

/// Gives the guest a frame as it was on the wire, `image`, at most 4095 bytes; `how` says how it matched and what is
/// wrong with it.
pub fn deliver(registers: &mut Registers, memory: &GuestMemory, image: &[u8], how: RxStatus) -> Delivery {
    write(registers, memory, image, how).unwrap_or_else(|_not_memory| {
        registers.memory_error(Direction::Rx);
        Delivery::Broken
    })
}

fn write(
    registers: &mut Registers,
    memory: &GuestMemory,
    image: &[u8],
    how: RxStatus,
) -> Result<Delivery, MemoryError> {
    let Some(mut current) = fetch(registers, memory)? else {
        return Ok(Delivery::NoBuffer);
    };
    let mut status = RxStatus::STP;
    let mut rest = image;
    loop {
        let (piece, left) = rest.split_at(current.len.min(rest.len()));
        memory.write(registers.bus_address(current.buffer), piece)?;
        registers.advance(Direction::Rx);
        if left.is_empty() {
            let count = u16::try_from(image.len()).unwrap_or(u16::MAX);
            current.finish_rx(memory, status | how | RxStatus::ENP, Some(count))?;
            registers.raise(Status::RINT);
            return Ok(Delivery::Done);
        }
        // A ring of one is not two buffers.
        let next = fetch(registers, memory)?.filter(|next| next.place != current.place);
        let Some(next) = next else {
            let broken = RxStatus::ERR | RxStatus::BUFF | RxStatus::OFLO;
            current.finish_rx(memory, status | broken, None)?;
            registers.raise(Status::RINT);
            return Ok(Delivery::Broken);
        };
        current.finish_rx(memory, status, None)?;
        status = RxStatus::empty();
        (current, rest) = (next, left);
    }
}

/// The current descriptor if it is the card's.
fn fetch(registers: &Registers, memory: &GuestMemory) -> Result<Option<Descriptor>, MemoryError> {
    let Some(place) = registers.descriptor(Direction::Rx) else {
        return Ok(None);
    };
    Ok(Some(Descriptor::read(memory, place)?).filter(Descriptor::is_owned))
}
