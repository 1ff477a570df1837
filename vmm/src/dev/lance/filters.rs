//! Which received frames the card takes: physical, broadcast, multicast hash, promiscuous. Pure.
//!
//! Source: AMD publication 19436, "Receive Address Match", CSR8 to CSR15, and RMD1 bits PAM, LAFM and BAM.

use super::csr::Mode;
use super::descriptors::RxStatus;
use super::fcs;

const BROADCAST: [u8; 6] = [0xff; 6];

/// What a frame is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Filters {
    /// The mode register.
    pub mode: Mode,
    /// The card's own address.
    pub physical: [u8; 6],
    /// The 64-bit hash filter.
    pub logical: u64,
}

impl Filters {
    /// How a frame to `destination` matches, as the receive descriptor will say; `None`: it is not for us. In
    /// promiscuous mode a frame may be taken without any match.
    pub fn accept(&self, destination: [u8; 6]) -> Option<RxStatus> {
        let how = self.how(destination);
        (!how.is_empty() || self.mode.contains(Mode::PROM)).then_some(how)
    }

    fn how(&self, destination: [u8; 6]) -> RxStatus {
        let group = destination[0] & 1 != 0;
        if destination == BROADCAST && !self.mode.contains(Mode::DRCVBC) {
            RxStatus::BAM
        } else if group && self.logical >> hash(destination) & 1 != 0 {
            RxStatus::LAFM
        } else if destination == self.physical && !self.mode.contains(Mode::DRCVPA) {
            RxStatus::PAM
        } else {
            RxStatus::empty()
        }
    }
}

/// Bit of the logical address filter, 0..=63.
fn hash(destination: [u8; 6]) -> u32 {
    fcs::remainder(&destination) >> 26
}
