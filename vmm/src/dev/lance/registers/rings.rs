//! Where the two descriptor rings are, and the current descriptor of each. CSR76, 78 and the counters are the guest's to
//! write: nothing here may trust them.

use super::super::csr::{self, RingCsrs, Status};
use super::super::descriptors::Place;
use super::super::init_block::RingSpec;
use super::Registers;

/// One of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
}

impl Direction {
    const fn csrs(self) -> RingCsrs {
        match self {
            Self::Rx => csr::RX_RING,
            Self::Tx => csr::TX_RING,
        }
    }

    pub(super) const fn on(self) -> Status {
        match self {
            Self::Rx => Status::RXON,
            Self::Tx => Status::TXON,
        }
    }
}

impl Registers {
    pub(super) fn set_ring(&mut self, direction: Direction, spec: RingSpec) {
        let csrs = direction.csrs();
        let length = (1u16 << spec.log2.min(15)).wrapping_neg();
        self.set_pair(csrs.base, spec.base);
        self.set(csrs.length, length);
        self.set(csrs.counter, length);
    }

    /// Index of the current descriptor and number of descriptors; 0 of 0 for a ring of no length, which CSR76 and 78 can
    /// be given though no initialization block can. A counter outside the ring stands for its start.
    fn position(&self, direction: Direction) -> (u16, u16) {
        let csrs = direction.csrs();
        let length = self.csr(csrs.length);
        let entries = length.wrapping_neg();
        let index = self.csr(csrs.counter).wrapping_sub(length);
        (if index < entries { index } else { 0 }, entries)
    }

    /// Number of descriptors of a ring.
    pub fn entries(&self, direction: Direction) -> u16 {
        self.position(direction).1
    }

    pub(super) fn current(&self, direction: Direction) -> u32 {
        let (index, _) = self.position(direction);
        let bytes = self.style().bytes();
        let base = self.pair(direction.csrs().base) & !(bytes - 1);
        base.wrapping_add(u32::from(index).wrapping_mul(bytes))
    }

    /// The current descriptor; `None`: the ring has none.
    pub fn descriptor(&self, direction: Direction) -> Option<Place> {
        let (_, entries) = self.position(direction);
        (entries != 0).then(|| Place {
            at: self.bus_address(self.current(direction)),
            style: self.style(),
        })
    }

    /// Goes on to the next descriptor, round the ring.
    pub fn advance(&mut self, direction: Direction) {
        let (index, entries) = self.position(direction);
        let csrs = direction.csrs();
        let next = if index + 1 < entries { index + 1 } else { 0 };
        self.set(csrs.counter, self.csr(csrs.length).wrapping_add(next));
    }
}
