//! Loopback: which way a transmitted frame goes, and what the receiver finds wrong with one of the card's own. Pure: a
//! looped frame is handed to the receiver by the same loop that transmits, and receiving transmits nothing, so there is
//! nothing to re-enter.
//!
//! The chip has a sequence generator for each direction: a looped frame is as long as it was on the wire, and a sequence
//! that software made is checked. Frames shorter than the wire allows are received, too.
//!
//! Source: AMD publication 19436, "Loopback Operation", CSR15 bits LOOP and INTL.

use super::csr::Mode;
use super::descriptors::RxStatus;
use super::fcs;

/// Where a transmitted frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// To the host.
    Wire,
    /// Back to the receiver, which hears nothing else.
    Internal,
    /// To the host, and back to the receiver.
    External,
}

impl Path {
    /// As the mode says.
    pub fn of(mode: Mode) -> Self {
        match (mode.contains(Mode::LOOP), mode.contains(Mode::INTL)) {
            (false, _) => Self::Wire,
            (true, true) => Self::Internal,
            (true, false) => Self::External,
        }
    }
}

/// What is wrong with a looped frame, sequence last.
pub fn defects(image: &[u8]) -> RxStatus {
    if fcs::holds(image) {
        RxStatus::empty()
    } else {
        RxStatus::ERR | RxStatus::CRC
    }
}
