//! The commands an ATA disk here knows, by the byte written to the Command register. All others are aborted.
//!
//! Source: ATA/ATAPI-6, "Command descriptions" and the table of command codes; the second numbers of the power commands and of
//! the reads and writes "without retries" are those of ATA-3.

use super::taskfile::Addressing::{self, Ext, Short};

/// How data go between device and guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Through the Data register, a sector to a DRQ block.
    Single,
    /// Through the Data register, as many sectors to a DRQ block as SET MULTIPLE MODE said.
    Multiple,
    /// By the bus master.
    Dma,
}

/// What the device is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Read(Protocol, Addressing),
    Write(Protocol, Addressing),
    Verify(Addressing),
    Seek,
    Recalibrate,
    Flush,
    Identify,
    SetFeatures,
    SetMultiple,
    InitializeParameters,
    Diagnose,
    NativeMax(Addressing),
    CheckPower,
    Idle,
    Standby,
    Sleep,
}

impl Command {
    /// `None`: to be aborted, as NOP always is, and as a disk does with what packet devices are asked.
    pub(super) fn decode(opcode: u8) -> Option<Self> {
        use Protocol::{Dma, Multiple, Single};
        Some(match opcode {
            0x10..=0x1f => Self::Recalibrate,
            0x20 | 0x21 => Self::Read(Single, Short),
            0x24 => Self::Read(Single, Ext),
            0x25 => Self::Read(Dma, Ext),
            0x27 => Self::NativeMax(Ext),
            0x29 => Self::Read(Multiple, Ext),
            0x30 | 0x31 => Self::Write(Single, Short),
            0x34 => Self::Write(Single, Ext),
            0x35 => Self::Write(Dma, Ext),
            0x39 => Self::Write(Multiple, Ext),
            0x40 | 0x41 => Self::Verify(Short),
            0x42 => Self::Verify(Ext),
            0x70..=0x7f => Self::Seek,
            0x90 => Self::Diagnose,
            0x91 => Self::InitializeParameters,
            0x94 | 0x96 | 0xe0 | 0xe2 => Self::Standby,
            0x95 | 0x97 | 0xe1 | 0xe3 => Self::Idle,
            0x98 | 0xe5 => Self::CheckPower,
            0x99 | 0xe6 => Self::Sleep,
            0xc4 => Self::Read(Multiple, Short),
            0xc5 => Self::Write(Multiple, Short),
            0xc6 => Self::SetMultiple,
            0xc8 | 0xc9 => Self::Read(Dma, Short),
            0xca | 0xcb => Self::Write(Dma, Short),
            0xe7 | 0xea => Self::Flush,
            0xec => Self::Identify,
            0xef => Self::SetFeatures,
            0xf8 => Self::NativeMax(Short),
            _ => return None,
        })
    }
}
