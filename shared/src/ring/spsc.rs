//! The ring itself. Two fences matter, both on the indices:
//!
//! - the producer writes a slot, then stores *head* with Release; the consumer loads *head* with Acquire and then
//!   reads the slot: the slot's bytes are there;
//! - the consumer reads a slot, then stores *tail* with Release; the producer loads *tail* with Acquire and then
//!   overwrites the slot: the reading is over.
//!
//! A producer without credit that means to wait for it says so in the *wanted* word ([`Producer::want_credit`]): store,
//! **fence**, look at *tail* again. The consumer stores *tail*, **fences**, looks at *wanted*
//! ([`Consumer::release`]): the same argument as for the sleep protocol, so a waiting producer is always told.
//!
//! Nothing else is ordered, and nothing else needs to be.

use crate::abi::{RingLayout, RingOffsets, SlotHeader};
use crate::mem::Memory;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use thiserror::Error;
use zerocopy::IntoBytes;

/// The peer broke the ring's rules. The ring stays usable; the caller decides what the peer is worth.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// *head* moved backwards, or further than there are slots.
    #[error("peer published head {head:#x} with cursor {cursor:#x}, tail {tail:#x} and {slots} slots")]
    Head {
        /// What the peer wrote.
        head: u32,
        /// Where we were reading.
        cursor: u32,
        /// What we had given back.
        tail: u32,
        /// Slots of the ring.
        slots: u32,
    },
    /// *tail* moved backwards, or past what was published.
    #[error("peer gave back tail {tail:#x} with head {head:#x}, earlier tail {seen:#x} and {slots} slots")]
    Tail {
        /// What the peer wrote.
        tail: u32,
        /// What we had published.
        head: u32,
        /// The tail before.
        seen: u32,
        /// Slots of the ring.
        slots: u32,
    },
    /// A slot says it carries more than fits in it. The slot is skipped.
    #[error("slot {index:#x} announces {len} bytes, {max} fit")]
    Length {
        /// Free-running index of the slot.
        index: u32,
        /// What it announced.
        len: u32,
        /// What fits.
        max: usize,
    },
    /// The two shared indices of a ring someone else left behind do not belong together.
    #[error("cannot attach: head {head:#x} and tail {tail:#x} are more than {slots} slots apart")]
    Attach {
        /// Shared head.
        head: u32,
        /// Shared tail.
        tail: u32,
        /// Slots of the ring.
        slots: u32,
    },
}

/// Why a push did not happen.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PushError {
    /// No credit: every slot is published or being read.
    #[error("ring full")]
    Full,
    /// The payload does not fit a slot.
    #[error("{len} bytes do not fit a slot of {max}")]
    TooLong {
        /// Bytes wanted.
        len: usize,
        /// Bytes a slot carries.
        max: usize,
    },
    /// The peer broke the rules.
    #[error(transparent)]
    Ring(#[from] RingError),
}

fn shared_indices<M: Memory>(mem: &M, ring: &RingLayout) -> Result<(u32, u32), RingError> {
    let tail = mem.load_u32(ring.at + RingOffsets::TAIL, Acquire);
    let head = mem.load_u32(ring.at + RingOffsets::HEAD, Acquire);
    if head.wrapping_sub(tail) > ring.slots {
        return Err(RingError::Attach {
            head,
            tail,
            slots: ring.slots,
        });
    }
    Ok((head, tail))
}

/// The writing end.
pub struct Producer<M: Memory> {
    mem: M,
    ring: RingLayout,
    /// Next slot to write; ahead of the shared head until [`publish`](Self::publish).
    next: u32,
    /// The shared head as we last stored it.
    published: u32,
    /// Last accepted tail of the peer.
    tail: u32,
}

impl<M: Memory> Producer<M> {
    /// Takes up the ring where the shared indices stand (both zero in new memory).
    pub fn attach(mem: M, ring: RingLayout) -> Result<Self, RingError> {
        let (head, tail) = shared_indices(&mem, &ring)?;
        Ok(Self {
            mem,
            ring,
            next: head,
            published: head,
            tail,
        })
    }

    /// Bytes of payload a slot carries.
    pub fn payload_max(&self) -> usize {
        self.ring.payload_max()
    }

    /// Slots that may be written now: looks at the peer's tail.
    pub fn credit(&mut self) -> Result<u32, RingError> {
        let tail = self.mem.load_u32(self.ring.at + RingOffsets::TAIL, Acquire);
        if tail.wrapping_sub(self.tail) > self.published.wrapping_sub(self.tail) {
            return Err(RingError::Tail {
                tail,
                head: self.published,
                seen: self.tail,
                slots: self.ring.slots,
            });
        }
        self.tail = tail;
        Ok(self.ring.slots - self.next.wrapping_sub(tail))
    }

    /// Asks to be told when credit comes. True: there is none, and the consumer's next release will say that a signal
    /// is owed. False: credit has come meanwhile.
    pub fn want_credit(&mut self) -> Result<bool, RingError> {
        let wanted = self.ring.at + RingOffsets::WANTED;
        self.mem.store_u32(wanted, 1, Relaxed);
        self.mem.fence();
        if self.credit()? == 0 {
            return Ok(true);
        }
        self.mem.store_u32(wanted, 0, Relaxed);
        Ok(false)
    }

    /// Slots published and not given back, by the last accepted tail.
    pub fn in_flight(&self) -> u32 {
        self.published.wrapping_sub(self.tail)
    }

    /// Takes the next free slot to be filled piecewise; looks at the peer's tail only when the known credit is used up.
    pub fn reserve(&mut self) -> Result<Reservation<'_, M>, PushError> {
        if self.next.wrapping_sub(self.tail) >= self.ring.slots && self.credit()? == 0 {
            return Err(PushError::Full);
        }
        Ok(Reservation {
            used: 0,
            producer: self,
        })
    }

    /// Writes one slot. Nobody sees it before [`publish`](Self::publish).
    pub fn push(&mut self, kind: u16, id: u64, payload: &[u8]) -> Result<(), PushError> {
        let mut slot = self.reserve()?;
        slot.append(payload)?;
        slot.commit(kind, 0, id);
        Ok(())
    }

    /// Makes everything pushed visible. Returns whether there was anything.
    pub fn publish(&mut self) -> bool {
        let fresh = self.published != self.next;
        if fresh {
            self.published = self.next;
            self.mem
                .store_u32(self.ring.at + RingOffsets::HEAD, self.next, Release);
        }
        fresh
    }

    /// Slots pushed and not yet published.
    pub fn unpublished(&self) -> u32 {
        self.next.wrapping_sub(self.published)
    }
}

/// A slot being filled. Dropped without [`commit`](Self::commit), it was never taken.
pub struct Reservation<'a, M: Memory> {
    producer: &'a mut Producer<M>,
    used: usize,
}

impl<M: Memory> Reservation<'_, M> {
    /// Adds bytes behind those already there.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PushError> {
        let max = self.producer.ring.payload_max();
        let end = self.used + bytes.len();
        if end > max {
            return Err(PushError::TooLong { len: end, max });
        }
        let at = self.producer.ring.slot_at(self.producer.next) + SlotHeader::BYTES + self.used;
        self.producer.mem.write(at, bytes);
        self.used = end;
        Ok(())
    }

    /// Completes the slot.
    pub fn commit(self, kind: u16, flags: u16, id: u64) {
        let header = SlotHeader {
            len: self.used as u32,
            kind,
            flags,
            id,
        };
        let at = self.producer.ring.slot_at(self.producer.next);
        self.producer.mem.write(at, header.as_bytes());
        self.producer.next = self.producer.next.wrapping_add(1);
    }
}

/// The reading end.
pub struct Consumer<M: Memory> {
    mem: M,
    ring: RingLayout,
    /// Slots given back: our copy of the shared tail.
    tail: u32,
    /// Next slot to read.
    cursor: u32,
    /// Last accepted head of the peer.
    head: u32,
}

impl<M: Memory> Consumer<M> {
    /// Takes up the ring at the shared tail: slots read but not given back by a predecessor are read again.
    pub fn attach(mem: M, ring: RingLayout) -> Result<Self, RingError> {
        let (head, tail) = shared_indices(&mem, &ring)?;
        Ok(Self {
            mem,
            ring,
            tail,
            cursor: tail,
            head,
        })
    }

    /// Bytes of payload a slot carries: a buffer of this size fits every [`next`](Self::next).
    pub fn payload_max(&self) -> usize {
        self.ring.payload_max()
    }

    /// Slots ready to read: looks at the peer's head.
    pub fn ready(&mut self) -> Result<u32, RingError> {
        let head = self.mem.load_u32(self.ring.at + RingOffsets::HEAD, Acquire);
        let slots = self.ring.slots;
        let reachable = slots - self.head.wrapping_sub(self.tail);
        if head.wrapping_sub(self.head) > reachable {
            return Err(RingError::Head {
                head,
                cursor: self.cursor,
                tail: self.tail,
                slots,
            });
        }
        self.head = head;
        Ok(head.wrapping_sub(self.cursor))
    }

    /// Copies the next slot into `payload` (in place of what it holds) and returns its header, or `None` when all is read.
    /// The slot stays taken until [`release`](Self::release). A slot with an impossible length is passed over.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<SlotHeader>, RingError> {
        if self.cursor == self.head && self.ready()? == 0 {
            return Ok(None);
        }
        let index = self.cursor;
        self.cursor = index.wrapping_add(1);
        let at = self.ring.slot_at(index);
        let mut raw = [0; SlotHeader::BYTES];
        self.mem.read(at, &mut raw);
        let header: SlotHeader = zerocopy::transmute!(raw);
        let max = self.ring.payload_max();
        if header.len as usize > max {
            return Err(RingError::Length {
                index,
                len: header.len,
                max,
            });
        }
        self.mem
            .read_vec(at + SlotHeader::BYTES, header.len as usize, payload);
        Ok(Some(header))
    }

    /// Gives the oldest `count` read slots back to the producer; never more than were read. Returns whether the producer
    /// waits for that and is owed a signal. One fence per call: give back in batches where that is possible.
    #[must_use = "a producer that waits for credit and is not told waits for ever"]
    pub fn release(&mut self, count: u32) -> bool {
        let count = count.min(self.held());
        if count == 0 {
            return false;
        }
        self.tail = self.tail.wrapping_add(count);
        self.mem
            .store_u32(self.ring.at + RingOffsets::TAIL, self.tail, Release);
        self.mem.fence();
        let wanted = self.ring.at + RingOffsets::WANTED;
        self.mem.load_u32(wanted, Relaxed) != 0 && self.mem.swap_u32(wanted, 0, Relaxed) != 0
    }

    /// Slots of the ring: no peer can make more than this many [`next`](Self::next) between two looks worth while.
    pub fn slots(&self) -> u32 {
        self.ring.slots
    }

    /// Slots read and not given back.
    pub fn held(&self) -> u32 {
        self.cursor.wrapping_sub(self.tail)
    }

    /// Whether the shared head differs from what was read, by one plain load and without judging it.
    pub fn looks_ready(&self) -> bool {
        self.mem.load_u32(self.ring.at + RingOffsets::HEAD, Relaxed) != self.cursor
    }
}
