//! A serial port's bytes. The payload is the bytes; ids are not used.

use super::UnknownKind;

/// vmm to vmapp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Down {
    /// Bytes the guest transmitted, in order.
    Output = 1,
}

/// vmapp to vmm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Up {
    /// Bytes for the guest to receive, in order.
    Input = 1,
}

impl TryFrom<u16> for Down {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Output),
            _ => Err(UnknownKind {
                kind,
                channel: "console",
            }),
        }
    }
}

impl TryFrom<u16> for Up {
    type Error = UnknownKind;
    fn try_from(kind: u16) -> Result<Self, UnknownKind> {
        match kind {
            1 => Ok(Self::Input),
            _ => Err(UnknownKind {
                kind,
                channel: "console",
            }),
        }
    }
}
