//! Sectors of one disk. Every request is answered by exactly one completion that repeats its id; completions come in
//! the order of their requests. Ids count up from 1 and are never used twice while the machine lives, so that a request
//! done again by a worker that took up the ring is recognised.
//!
//! A request's slot is given back only after its completion is in the up ring: what is not completed is still in the
//! down ring, and reads and writes done twice come to the same. The vmm checks ranges before it asks; vmapp checks them
//! again.

use super::UnknownKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Most sectors of one request; a guest's longer command is several requests.
pub const MAX_SECTORS: u32 = 128;

/// vmm to vmapp. The payload starts with a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Down {
    /// Fetch sectors.
    Read = 1,
    /// Store sectors; the data follow the [`Request`].
    Write = 2,
    /// Everything completed before this request was made is on the medium when it is answered. `lba` and `sectors` are 0.
    Flush = 3,
}

/// vmapp to vmm. The payload starts with a [`Completion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Up {
    /// A request is done; the data of a good read follow the [`Completion`].
    Done = 1,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// First sector.
    pub lba: u64,
    /// How many, 1 to [`MAX_SECTORS`].
    pub sectors: u32,
    /// Zero.
    pub reserved: u32,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Completion {
    /// A [`Status`].
    pub status: u32,
    /// Sectors that are surely right, from the first on: all for [`Status::Good`].
    pub sectors: u32,
}

/// End of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Good = 0,
    /// The host could not read or write the medium (EIO, ENOSPC, a file cut short).
    Medium = 1,
    /// The disk is read-only.
    ReadOnly = 2,
    /// Not a request: beyond the end, no sectors, a length that does not fit its data.
    Refused = 3,
}

/// Bytes the header of a payload takes, in both directions at most.
pub const HEADER_BYTES: usize = size_of::<Request>();

const _: () = {
    assert!(size_of::<Request>() == 16);
    assert!(std::mem::offset_of!(Request, sectors) == 8);
    assert!(size_of::<Completion>() == 8);
};

impl TryFrom<u16> for Down {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Read),
            2 => Ok(Self::Write),
            3 => Ok(Self::Flush),
            _ => Err(UnknownKind {
                kind,
                channel: "disk",
            }),
        }
    }
}

impl TryFrom<u16> for Up {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Done),
            _ => Err(UnknownKind {
                kind,
                channel: "disk",
            }),
        }
    }
}

impl Status {
    /// From a completion; a number that is none counts as [`Status::Medium`].
    pub fn from_shared(raw: u32) -> Self {
        match raw {
            0 => Self::Good,
            2 => Self::ReadOnly,
            3 => Self::Refused,
            _ => Self::Medium,
        }
    }
}
