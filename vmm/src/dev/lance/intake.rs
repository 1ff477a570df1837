//! Frames from the host: taken from the ring by credit, filtered, and given to the receiver.
//!
//! The ring stands for the chip's receive FIFO. While the guest has no free descriptor the oldest frame waits, its slot
//! unreleased and those behind it unread, so that the host runs out of credit; the receiver is tried again whenever the
//! guest touches CSR0 or the masks, when more arrives, and every `RETRY_NS`: a driver that gives descriptors back
//! without a word is served, too. So a flood cannot leave the card deaf. Frames are missed, as the data sheet has it with
//! MISS and CSR112, when the guest has given none back for `PATIENCE_NS`: a driver that died must not keep a ring full
//! of stale frames, and one that waits for MISS must see it. Refused: missing at once, as the chip does; a guest that
//! shares its core with the host is late for longer than any FIFO of 256 bytes lasts.
//!
//! Slots are given back once per call, whatever the number of frames. Bounded work.

use super::csr::Mode;
use super::descriptors::RxStatus;
use super::fcs;
use super::loopback::Path;
use super::receive::{self, Delivery};
use super::registers::{Direction, Registers};
use super::transmit::{FCS, PADDED};
use super::wire::Wire;
use crate::mem::GuestMemory;
use crate::time::Ns;
use shared::abi::counters::VmmCounter;
use shared::msg::net::{MAX_FRAME, Up};

/// Most slots taken in one go.
const MOST_SLOTS: u32 = 512;
/// Time between two looks for a descriptor while a frame waits, in nanoseconds.
pub const RETRY_NS: u64 = 200_000;
/// How long the guest may be without descriptors before frames are missed, in nanoseconds.
pub const PATIENCE_NS: u64 = 50_000_000;
/// Lengths of a frame in the ring.
const LENGTHS: std::ops::RangeInclusive<usize> = 14..=MAX_FRAME;

/// What a slot turned out to be.
enum Slot {
    /// There is none.
    None,
    /// Nothing for the guest.
    Passed,
    /// A frame, in `image`.
    Frame,
}

/// The frame at hand, and since when it waits.
pub struct Intake {
    /// As on the wire: padded, its sequence last.
    image: Vec<u8>,
    how: RxStatus,
    /// Bytes the host sent.
    payload_len: u64,
    /// `image` waits; its slot is not given back.
    holding: bool,
    /// Since when the guest has had no descriptor for a frame that came.
    outage: Option<Ns>,
    retry: Option<Ns>,
}

impl Intake {
    /// With nothing at hand. Frames of up to `payload_max` bytes are taken without allocating.
    pub fn new(payload_max: usize) -> Self {
        Self {
            image: Vec::with_capacity(payload_max.max(PADDED) + FCS),
            how: RxStatus::empty(),
            payload_len: 0,
            holding: false,
            outage: None,
            retry: None,
        }
    }

    /// When the receiver is to be tried again.
    pub fn retry(&self) -> Option<Ns> {
        self.retry
    }

    /// Whether a frame waits for a descriptor.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// STOP or reset: the frame at hand met a card that does not receive. True: so must those behind it.
    pub fn clear(&mut self, wire: &mut Wire) -> bool {
        self.outage = None;
        self.retry = None;
        let held = std::mem::take(&mut self.holding);
        if held {
            wire.count(VmmCounter::NetRxFiltered, 1);
            wire.release(1);
        }
        held
    }

    /// Takes what there is. `memory`: none while the card may not master the bus. True: there may be more.
    pub fn take(
        &mut self,
        now: Ns,
        registers: &mut Registers,
        memory: Option<&GuestMemory>,
        wire: &mut Wire,
    ) -> bool {
        self.retry = None;
        let mut used = 0;
        let mut more = true;
        while more && used < MOST_SLOTS {
            let slot = if self.holding {
                Slot::Frame
            } else {
                self.next(registers, wire, used)
            };
            match slot {
                Slot::None => more = false,
                Slot::Passed => used += 1,
                Slot::Frame => {
                    self.holding = !self.offer(now, registers, memory, wire);
                    more = !self.holding;
                    used += u32::from(more);
                }
            }
        }
        if self.holding {
            self.retry = Some(now.after(RETRY_NS));
        }
        wire.release(used);
        more
    }

    /// Reads the next slot; `used` are read and not yet given back.
    fn next(&mut self, registers: &mut Registers, wire: &mut Wire, used: u32) -> Slot {
        let channel = wire.channel();
        let kind = match channel.next(&mut self.image) {
            Ok(Some(header)) => Up::try_from(header.kind),
            Ok(None) => return Slot::None,
            // A bad length was passed over and is held; a bad index left nothing to read.
            Err(_) if channel.held() > used => return Slot::Passed,
            Err(_) => return Slot::None,
        };
        match (kind, self.image.as_slice()) {
            (Ok(Up::Link), &[up @ (0 | 1)]) => registers.set_link(up == 1),
            (Ok(Up::Frame), frame) if LENGTHS.contains(&frame.len()) => {
                if self.prepare(registers) {
                    return Slot::Frame;
                }
                wire.count(VmmCounter::NetRxFiltered, 1);
            }
            _ => channel.crossing().count_peer_error(),
        }
        Slot::Passed
    }

    /// Filters the frame and makes it what it was on the wire; false if it is not for the guest.
    fn prepare(&mut self, registers: &Registers) -> bool {
        let filters = registers.filters();
        let destination = self.image.first_chunk().copied().unwrap_or_default();
        let Some(how) = filters.accept(destination) else {
            return false;
        };
        if !registers.is_on(Direction::Rx) || Path::of(filters.mode) == Path::Internal {
            return false;
        }
        self.how = how;
        self.payload_len = self.image.len() as u64;
        let stripped = self.stripped_len(registers);
        if let Some(len) = stripped {
            self.image.truncate(len);
            return true;
        }
        // Others pad with zeros before they send; so does the host here.
        self.image.resize(self.image.len().max(PADDED), 0);
        let sequence = fcs::sequence(&self.image);
        self.image.extend_from_slice(&sequence);
        true
    }

    /// With automatic stripping: what is left of a frame whose length field says that it was padded.
    fn stripped_len(&self, registers: &Registers) -> Option<usize> {
        const HEADER: usize = 14;
        let &[.., high, low] = self.image.first_chunk::<HEADER>()?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        (registers.strips() && len < PADDED - HEADER).then_some(HEADER + len)
    }

    /// Offers the frame at hand to the receiver; false if it waits.
    fn offer(
        &mut self,
        now: Ns,
        registers: &mut Registers,
        memory: Option<&GuestMemory>,
        wire: &Wire,
    ) -> bool {
        if !registers.is_on(Direction::Rx) {
            wire.count(VmmCounter::NetRxFiltered, 1);
            return true;
        }
        let delivery = match memory {
            Some(memory) if registers.is_running(Direction::Rx) => {
                receive::deliver(registers, memory, &self.image, self.how)
            }
            _ => Delivery::NoBuffer,
        };
        if delivery != Delivery::NoBuffer {
            self.outage = None;
        }
        match delivery {
            Delivery::Done => {
                wire.count(VmmCounter::NetRx, 1);
                wire.count(VmmCounter::NetRxBytes, self.payload_len);
            }
            Delivery::Broken => wire.count(VmmCounter::NetRxMissed, 1),
            Delivery::NoBuffer => {
                let since = *self.outage.get_or_insert(now);
                if now.since(since) < PATIENCE_NS {
                    return false;
                }
                registers.missed();
                wire.count(VmmCounter::NetRxMissed, 1);
            }
        }
        true
    }
}

/// Gives the receiver one of the card's own frames, which does not wait for a descriptor.
pub fn loop_back(registers: &mut Registers, memory: &GuestMemory, image: &[u8], defects: RxStatus) {
    let destination = image.first_chunk().copied().unwrap_or_default();
    let filters = registers.filters();
    let Some(how) = filters.accept(destination) else {
        return;
    };
    if registers.is_running(Direction::Rx)
        && filters.mode.contains(Mode::LOOP)
        && receive::deliver(registers, memory, image, how | defects) == Delivery::NoBuffer
    {
        registers.missed();
    }
}
