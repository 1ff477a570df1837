//! Ethernet frames of one network card. A payload is one frame from the destination address on, without the frame
//! check sequence; the id of a frame going down counts up from 1 and is never used twice, those going up are not used.
//!
//! A frame going down may be transmitted once, or not at all: its slot is given back *before* the host is asked to send
//! it, so that a worker that takes up the ring after another's death never sends a frame again. A frame going up is
//! what the host received; the card's filters are the vmm's. With no free slot in the up ring there is no receive credit:
//! vmapp drops the frame and counts it.

use super::UnknownKind;

/// Longest frame either way, in bytes: 1500 of payload, the Ethernet header and one VLAN tag.
pub const MAX_FRAME: usize = 1518;

/// vmm to vmapp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Down {
    /// A frame the guest transmitted, 14 to [`MAX_FRAME`] bytes.
    Frame = 1,
}

/// vmapp to vmm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Up {
    /// A frame for the card, 14 to [`MAX_FRAME`] bytes.
    Frame = 1,
    /// The cable: one byte, 1 in, 0 out. Out until the first is heard.
    Link = 2,
}

impl TryFrom<u16> for Down {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Frame),
            _ => Err(UnknownKind { kind, channel: "net" }),
        }
    }
}

impl TryFrom<u16> for Up {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Frame),
            2 => Ok(Self::Link),
            _ => Err(UnknownKind { kind, channel: "net" }),
        }
    }
}
