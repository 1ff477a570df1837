//! The control channel: synchronous calls. A call is a request slot whose id comes back in exactly one reply.

use super::UnknownKind;

/// vmm to vmapp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Down {
    /// Answer with the same id and payload: measures a synchronous crossing and proves the peer alive.
    Echo = 1,
}

/// vmapp to vmm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Up {
    /// Answer to [`Down::Echo`].
    EchoReply = 1,
}

impl TryFrom<u16> for Down {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Echo),
            _ => Err(UnknownKind {
                kind,
                channel: "control",
            }),
        }
    }
}

impl TryFrom<u16> for Up {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::EchoReply),
            _ => Err(UnknownKind {
                kind,
                channel: "control",
            }),
        }
    }
}
