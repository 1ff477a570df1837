//! What happened on the cable and in memory, as the guest sees it: flags, counters, and the interrupt pin that follows from them.

use super::super::csr::{self, Extended, Features, Status};
use super::super::descriptors::TxStatus;
use super::{Direction, Registers};

impl Registers {
    /// Sets flags of CSR0.
    pub fn raise(&mut self, flags: Status) {
        self.csr[usize::from(csr::CSR0)] |= flags.bits();
    }

    /// A frame's transmission has begun.
    pub fn transmit_begun(&mut self) {
        self.csr[usize::from(csr::CSR4)] |= Features::TXSTRT.bits();
    }

    /// A frame's last transmit descriptor, which said `status`, was given back. TINT is owed unless CSR5 says otherwise:
    /// [`tell`](Self::tell) raises it, and a guest that reads CSR0 finds it.
    pub fn transmitted(&mut self, status: TxStatus, failed: bool) {
        let extended = self.extended();
        let asked = !extended.contains(Extended::LTINTEN) || status.contains(TxStatus::LTINT);
        let wanted = !extended.contains(Extended::TOKINTD) || failed;
        self.untold |= asked && wanted;
    }

    /// Whether TINT is owed.
    pub fn is_untold(&self) -> bool {
        self.untold
    }

    /// Raises TINT if it is owed.
    pub fn tell(&mut self) {
        if std::mem::take(&mut self.untold) {
            self.raise(Status::TINT);
        }
    }

    /// Whether the card may interrupt (INEA).
    pub fn may_interrupt(&self) -> bool {
        self.status().contains(Status::IENA)
    }

    /// What of a transmit descriptor's status the card leaves alone: MORE, ONE, DEF and ERR are its own to write.
    pub fn kept_of(&self, status: TxStatus) -> TxStatus {
        let mut kept = status & !(TxStatus::ERR | TxStatus::LTINT | TxStatus::ONE | TxStatus::DEF);
        let keeps_ltint = self.extended().contains(Extended::LTINTEN);
        kept.set(TxStatus::LTINT, keeps_ltint && status.contains(TxStatus::LTINT));
        kept
    }

    /// A frame was lost for want of a receive descriptor.
    pub fn missed(&mut self) {
        self.raise(Status::MISS);
        let count = self.csr(csr::MISSED).wrapping_add(1);
        self.set(csr::MISSED, count);
        if count == 0 {
            self.csr[usize::from(csr::CSR4)] |= Features::MFCO.bits();
        }
    }

    /// DMA reached something that is not RAM. The direction it was for stops, lest it try for ever.
    pub fn memory_error(&mut self, direction: Direction) {
        self.raise(Status::MERR);
        self.turn_off(direction);
    }

    /// INIT could not read its block.
    pub fn initialise_failed(&mut self) {
        self.raise(Status::MERR);
    }

    /// A direction stops until the next STOP and STRT.
    pub fn turn_off(&mut self, direction: Direction) {
        self.set(csr::CSR0, (self.status() - direction.on()).bits());
    }

    pub(super) fn cause_pending(&self) -> bool {
        let (features, extended) = (self.csr(csr::CSR4), self.csr(csr::CSR5));
        self.csr(csr::CSR0) & !self.csr(csr::CSR3) & Status::CAUSES.bits() != 0
            || features >> 1 & !features & csr::CSR4_MASKS != 0
            || features & Features::UINT.bits() != 0
            || extended >> 1 & extended & csr::CSR5_ENABLES != 0
    }

    /// Whether the interrupt pin is asserted.
    #[inline]
    pub fn interrupt(&self) -> bool {
        self.may_interrupt() && self.cause_pending()
    }
}
