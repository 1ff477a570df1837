//! Message descriptors in guest memory, in the three layouts ("software styles") drivers use.
//!
//! A descriptor is read once, whole, into a [`Descriptor`]; nothing of it is looked at in guest memory again, so a guest
//! that rewrites it meanwhile changes nothing. Giving it back writes what belongs to it first and the word with OWN last,
//! in one store. An address that is not RAM is an error for the caller, never an access to anything else.
//!
//! Source: AMD publication 19436, "Receive Descriptors" and "Transmit Descriptors".

use crate::mem::{GuestMemory, MemoryError};
use bitflags::bitflags;

/// Layout of structures in memory: BCR20, SWSTYLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// 0: 16-bit, as the C-LANCE; 24-bit addresses.
    Lance,
    /// 2: 32-bit, the usual one.
    Wide,
    /// 3: 32-bit with the words ordered for bursts.
    Burst,
}

impl Style {
    /// Bytes of a descriptor.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Lance => 8,
            Self::Wide | Self::Burst => 16,
        }
    }

    /// Offset of the word the card reports counts or errors in.
    const fn report_at(self) -> u64 {
        match self {
            Self::Lance => 6,
            Self::Wide => 8,
            Self::Burst => 0,
        }
    }
}

bitflags! {
    /// TMD1, bits 31:16 (style 0: bits 15:8 only).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TxStatus: u16 {
        const OWN = 1 << 15;
        const ERR = 1 << 14;
        const ADD_FCS = 1 << 13;
        /// Read: LTINT. Written, unless CSR5 gives it that meaning: MORE.
        const LTINT = 1 << 12;
        const ONE = 1 << 11;
        const DEF = 1 << 10;
        const STP = 1 << 9;
        const ENP = 1 << 8;
    }

    /// TMD2.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TxErrors: u32 {
        const BUFF = 1 << 31;
        const UFLO = 1 << 30;
        const LCAR = 1 << 27;
    }

    /// RMD1, bits 31:16 (style 0: bits 15:8 only).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RxStatus: u16 {
        const OWN = 1 << 15;
        const ERR = 1 << 14;
        const FRAM = 1 << 13;
        const OFLO = 1 << 12;
        const CRC = 1 << 11;
        const BUFF = 1 << 10;
        const STP = 1 << 9;
        const ENP = 1 << 8;
        const PAM = 1 << 6;
        const LAFM = 1 << 5;
        const BAM = 1 << 4;
    }
}

/// OWN, in either direction: the descriptor is the card's.
const OWN: u16 = 1 << 15;

/// Where a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Guest-physical address.
    pub at: u64,
    /// Layout.
    pub style: Style,
}

/// A descriptor as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Where it is.
    pub place: Place,
    /// Its status word.
    status: u16,
    /// Buffer address as the guest wrote it: 24 bits in style 0.
    pub buffer: u32,
    /// Bytes of the buffer, 1..=4096.
    pub len: usize,
}

impl Descriptor {
    /// Reads the descriptor at `place`.
    pub fn read(memory: &GuestMemory, place: Place) -> Result<Self, MemoryError> {
        let (status, buffer, count) = match place.style {
            Style::Lance => {
                let [low, high, count, _]: [u16; 4] = memory.read_obj(place.at)?;
                let buffer = u32::from(high & 0xff) << 16 | u32::from(low);
                (high & 0xff00, buffer, count)
            }
            Style::Wide | Style::Burst => {
                let words: [u32; 4] = memory.read_obj(place.at)?;
                let buffer = if place.style == Style::Wide {
                    words[0]
                } else {
                    words[2]
                };
                ((words[1] >> 16) as u16, buffer, words[1] as u16)
            }
        };
        Ok(Self {
            place,
            status,
            buffer,
            // BCNT is a two's complement of 12 bits: 0 is 4096. The four ones above it are not asked for.
            len: 4096 - usize::from(count & 0xfff),
        })
    }

    /// Whether it is the card's.
    pub fn is_owned(&self) -> bool {
        self.status & OWN != 0
    }

    /// Its status as a transmit descriptor.
    pub fn tx(&self) -> TxStatus {
        TxStatus::from_bits_retain(self.status)
    }

    /// Gives a transmit descriptor back: `status` and `errors` as given, OWN clear.
    pub fn finish_tx(
        &self,
        memory: &GuestMemory,
        status: TxStatus,
        errors: TxErrors,
    ) -> Result<(), MemoryError> {
        self.report(memory, errors.bits(), (errors.bits() >> 16) as u16)?;
        self.hand_over(memory, status.bits())
    }

    /// Gives a transmit descriptor back that does not end a frame.
    pub fn pass_tx(&self, memory: &GuestMemory) -> Result<(), MemoryError> {
        self.hand_over(memory, self.status)
    }

    /// Gives a receive descriptor back, with the frame's length if it is the last of one.
    pub fn finish_rx(
        &self,
        memory: &GuestMemory,
        status: RxStatus,
        count: Option<u16>,
    ) -> Result<(), MemoryError> {
        if let Some(count) = count {
            self.report(memory, count.into(), count)?;
        }
        self.hand_over(memory, status.bits())
    }

    fn report(&self, memory: &GuestMemory, wide: u32, narrow: u16) -> Result<(), MemoryError> {
        let at = self.place.at.wrapping_add(self.place.style.report_at());
        match self.place.style {
            Style::Lance => memory.write(at, &narrow.to_le_bytes()),
            Style::Wide | Style::Burst => memory.write(at, &wide.to_le_bytes()),
        }
    }

    /// The last store: from here on the descriptor is the guest's. It touches nothing beside the status bits.
    fn hand_over(&self, memory: &GuestMemory, status: u16) -> Result<(), MemoryError> {
        let [low, high] = (status & !OWN).to_le_bytes();
        match self.place.style {
            Style::Lance => memory.write(self.place.at.wrapping_add(3), &[high]),
            Style::Wide | Style::Burst => memory.write(self.place.at.wrapping_add(6), &[low, high]),
        }
    }
}
