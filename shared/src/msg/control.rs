//! The control channel: synchronous calls. A call is a request slot whose id comes back in exactly one reply.

use super::UnknownKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// vmm to vmapp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Down {
    /// Answer with the same id and payload: measures a synchronous crossing and proves the peer alive.
    Echo = 1,
    /// `ports = "forward"`: the guest made this access ([`PortAccess`]) and waits for the answer before it goes on.
    Port = 2,
}

/// vmapp to vmm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Up {
    /// Answer to [`Down::Echo`].
    EchoReply = 1,
    /// Answer to [`Down::Port`], with the same payload.
    PortDone = 2,
}

/// A forwarded access to a device's data port. The register is the vmm's all the same: what crosses is the access itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortAccess {
    /// Port number.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub width: u8,
    /// 1 for a write.
    pub write: u8,
    /// What was read or written.
    pub value: u32,
}

impl TryFrom<u16> for Down {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Echo),
            2 => Ok(Self::Port),
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
            2 => Ok(Self::PortDone),
            _ => Err(UnknownKind {
                kind,
                channel: "control",
            }),
        }
    }
}
