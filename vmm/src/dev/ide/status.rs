//! The bits of the Status, Error and Device Control registers.
//!
//! Source: ATA/ATAPI-6 (T13/1410D), by register name.

use bitflags::bitflags;

bitflags! {
    /// Status and Alternate Status.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Status: u8 {
        /// The Error register says what went wrong.
        const ERR = 1 << 0;
        /// A block waits to be moved through the Data register.
        const DRQ = 1 << 3;
        /// Seek complete: obsolete since ATA-4 and still looked at.
        const DSC = 1 << 4;
        const DRDY = 1 << 6;
        /// The command block is the device's; the other bits mean nothing.
        const BSY = 1 << 7;
        /// Nothing to do.
        const IDLE = Self::DRDY.bits() | Self::DSC.bits();
    }

    /// Error, valid with [`Status::ERR`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Error: u8 {
        /// Command aborted.
        const ABRT = 1 << 2;
        /// Address not found.
        const IDNF = 1 << 4;
        /// Of a read: data cannot be had from the medium.
        const UNC = 1 << 6;
        /// Of a write: the medium is write protected.
        const WP = 1 << 6;
    }

    /// Device Control.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Control: u8 {
        /// The interrupt wire is let go.
        const NIEN = 1 << 1;
        /// Software reset, for as long as it is set.
        const SRST = 1 << 2;
        /// The command block reads its previous content.
        const HOB = 1 << 7;
    }
}

/// What the Error register says after a reset or EXECUTE DEVICE DIAGNOSTIC (its table of diagnostic codes): device 0 passed, device 1
/// passed or is not there; or, of device 1, that it passed.
pub(super) const DIAGNOSTIC_PASSED: u8 = 0x01;
