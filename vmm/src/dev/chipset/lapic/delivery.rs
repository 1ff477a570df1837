//! Interrupts on their way through the local APIC: from a message, a pin or the local vector table into the
//! IRR, to the CPU, and out again with the EOI (Intel SDM volume 3, sections 11.5 to 11.8).

use super::registers::Lvt;
use super::{Destination, LVT_LEVEL, LVT_MASKED, LVT_REMOTE_IRR, LocalApic, Mode, SVR_NO_EOI_BROADCAST};
use crate::bus::Signal;

/// Delivery modes of the ICR, the LVT and the I/O APIC that mean something to one CPU (SDM sections 11.5.1,
/// 11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A vector.
    Fixed,
    /// A vector, for the CPU of lowest priority: with one CPU, [`Fixed`](Self::Fixed).
    Lowest,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// The vector comes from the PIC.
    ExtInt,
    /// SMI, start-up or a reserved encoding: there is no SMM and no CPU waiting for start-up.
    Nothing,
}

impl Delivery {
    /// From the three bits at 8-10 that ICR, LVT and redirection table have in common.
    pub fn of_bits(register: u64) -> Self {
        match register >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::Lowest,
            4 => Self::Nmi,
            5 => Self::Init,
            7 => Self::ExtInt,
            _ => Self::Nothing,
        }
    }
}

/// Errors as bits of the ESR (SDM section 11.5.3). The others belong to the APIC bus of the P6 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ApicError {
    SendIllegalVector = 1 << 5,
    ReceiveIllegalVector = 1 << 6,
    IllegalRegister = 1 << 7,
}

/// Vectors 0..=15 are illegal for everything that goes through the IRR (SDM section 11.5.2).
const FIRST_LEGAL: u8 = 16;

impl LocalApic {
    /// The vector the CPU should take now, if one beats the processor priority. Valid until the next access.
    ///
    /// An APIC that software switched off still gives what it had accepted (SDM section 11.4.7.2).
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest().filter(|_| self.enabled())?;
        (vector >> 4 > self.ppr() >> 4).then_some(vector)
    }

    /// The CPU takes the pending vector: from requested to in service. `None` if there is none; the spurious
    /// vector is never given, because nothing can come between [`pending`](Self::pending) and this.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending()?;
        self.irr.set(vector, false);
        self.isr.set(vector, true);
        Some(vector)
    }

    /// A vector arrives. False if the APIC is off, and the sender keeps it; an illegal vector counts as taken.
    pub fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.software_enabled() {
            return false;
        }
        if vector < FIRST_LEGAL {
            self.error(ApicError::ReceiveIllegalVector);
        } else {
            self.irr.set(vector, true);
            self.tmr.set(vector, level);
        }
        true
    }

    /// A message arrives that [`is_for`](Self::is_for) this CPU. False if it was not taken. ExtINT is no
    /// message to accept: it is a level the fabric looks at.
    pub fn receive(&mut self, delivery: Delivery, vector: u8, level: bool) -> bool {
        match delivery {
            Delivery::Fixed | Delivery::Lowest => self.accept(vector, level),
            Delivery::Nmi => {
                self.signals.raise(Signal::Nmi);
                true
            }
            Delivery::Init => {
                // INIT of the only CPU starts it at the reset vector: the machine knows no lesser restart.
                self.signals.raise(Signal::Reset);
                true
            }
            Delivery::ExtInt | Delivery::Nothing => true,
        }
    }

    /// Whether a message to `destination` is for this CPU (SDM section 11.6.2).
    pub fn is_for(&self, destination: Destination) -> bool {
        match (self.mode, destination) {
            (Mode::Disabled, _) => false,
            (_, Destination::Physical(u32::MAX) | Destination::Logical(u32::MAX)) => true,
            (Mode::Xapic, Destination::Physical(id)) => id == u32::from(self.id),
            (Mode::Xapic, Destination::Logical(mda)) => self.in_logical_xapic(mda as u8),
            (Mode::X2apic, Destination::Physical(id)) => id == u32::from(Self::ID),
            (Mode::X2apic, Destination::Logical(mda)) => {
                let ldr = Self::x2apic_ldr();
                mda >> 16 == ldr >> 16 && mda & ldr & 0xffff != 0
            }
        }
    }

    /// Flat model: any bit in common. Cluster model: the same cluster, or all of them (15), and a bit in common.
    fn in_logical_xapic(&self, mda: u8) -> bool {
        let common = mda & self.ldr;
        match self.dfr {
            0xf => common != 0,
            _ => (mda >> 4 == self.ldr >> 4 || mda >> 4 == 0xf) && common & 0xf != 0,
        }
    }

    /// LDR in x2APIC mode: derived from the id (SDM section 11.12.10.2).
    pub(super) const fn x2apic_ldr() -> u32 {
        let id = Self::ID as u32;
        (id >> 4) << 16 | 1 << (id & 0xf)
    }

    /// Processor priority (SDM section 11.8.3.1).
    pub(super) fn ppr(&self) -> u8 {
        let serving = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= serving {
            self.tpr
        } else {
            serving
        }
    }

    /// Arbitration priority of the P6 family, which later processors no longer use (SDM section 11.6.2.4).
    pub(super) fn apr(&self) -> u8 {
        let class = |vector: Option<u8>| vector.unwrap_or(0) & 0xf0;
        let (task, serving, requested) = (
            self.tpr & 0xf0,
            class(self.isr.highest()),
            class(self.irr.highest()),
        );
        if task >= requested && task > serving {
            self.tpr
        } else {
            (task & serving).max(requested)
        }
    }

    /// End of the interrupt in service with the highest priority; none is no error.
    pub(super) fn end_of_interrupt(&mut self) {
        let Some(vector) = self.isr.highest() else { return };
        self.isr.set(vector, false);
        if !self.tmr.contains(vector) {
            return;
        }
        let lint0 = &mut self.lvt[Lvt::Lint0 as usize];
        if *lint0 & LVT_REMOTE_IRR != 0 && *lint0 as u8 == vector {
            *lint0 &= !LVT_REMOTE_IRR;
            self.sample_lint0();
        }
        if self.svr & SVR_NO_EOI_BROADCAST == 0 {
            self.ended.set(vector, true);
        }
    }

    /// A level-triggered vector whose EOI the I/O APIC has yet to hear of; each is given once.
    pub fn take_ended(&mut self) -> Option<u8> {
        let vector = self.ended.highest()?;
        self.ended.set(vector, false);
        Some(vector)
    }

    /// Drives the LINT0 pin: the PIC's INTR. An ExtINT entry follows the level
    /// ([`lint0_extint`](Self::lint0_extint)).
    pub fn set_lint0(&mut self, level: bool) {
        let rose = level && !self.lint0;
        self.lint0 = level;
        let entry = self.lvt(Lvt::Lint0);
        let level_triggered = entry & LVT_LEVEL != 0 && Delivery::of_bits(entry.into()) == Delivery::Fixed;
        if level_triggered {
            self.sample_lint0();
        } else if rose {
            self.deliver_local(Lvt::Lint0);
        }
    }

    /// Delivers LINT0 if it is a level-triggered vector, is high, and the last one has been ended.
    pub(super) fn sample_lint0(&mut self) {
        let entry = self.lvt(Lvt::Lint0);
        let level_triggered = entry & LVT_LEVEL != 0 && Delivery::of_bits(entry.into()) == Delivery::Fixed;
        if self.lint0 && level_triggered && entry & (LVT_MASKED | LVT_REMOTE_IRR) == 0 {
            self.lvt[Lvt::Lint0 as usize] |= LVT_REMOTE_IRR;
            self.deliver_local(Lvt::Lint0);
        }
    }

    /// One edge on LINT1: the board's NMI. With the APIC off it is the CPU's NMI pin.
    pub fn pulse_lint1(&mut self) {
        if self.enabled() {
            self.deliver_local(Lvt::Lint1);
        } else {
            self.signals.raise(Signal::Nmi);
        }
    }

    /// Whether the PIC's INTR reaches the CPU as it is: LINT0 is open for ExtINT, or there is no APIC in between.
    pub fn lint0_extint(&self) -> bool {
        let entry = self.lvt(Lvt::Lint0);
        !self.enabled() || entry & LVT_MASKED == 0 && Delivery::of_bits(entry.into()) == Delivery::ExtInt
    }

    /// Delivers a local interrupt as its LVT entry says. Timer and error know only fixed.
    pub(super) fn deliver_local(&mut self, source: Lvt) {
        let entry = self.lvt(source);
        if entry & LVT_MASKED != 0 || !self.enabled() {
            return;
        }
        let level = source == Lvt::Lint0 && entry & LVT_LEVEL != 0;
        let _taken = self.receive(Delivery::of_bits(entry.into()), entry as u8, level);
    }

    /// Notes an error, and signals the first since the last write of the ESR (SDM section 11.5.3).
    pub(super) fn error(&mut self, error: ApicError) {
        self.errors |= error as u32;
        if !self.error_signalled {
            self.error_signalled = true;
            self.deliver_local(Lvt::Error);
        }
    }

    /// Acts on a write of the ICR (SDM section 11.6.1).
    pub(super) fn send(&mut self, icr: u64) {
        let delivery = Delivery::of_bits(icr);
        let vector = icr as u8;
        let logical = icr >> 11 & 1 != 0;
        let destination = match self.mode {
            Mode::X2apic => Destination::of(logical, (icr >> 32) as u32),
            Mode::Xapic | Mode::Disabled => Destination::of_byte(logical, (icr >> 56) as u8),
        };
        let to_us = match icr >> 18 & 3 {
            0 => self.is_for(destination),
            1 | 2 => true, // self, all including self
            _ => false,    // all excluding self: there is nobody else
        };
        if matches!(delivery, Delivery::Fixed | Delivery::Lowest) && vector < FIRST_LEGAL {
            self.error(ApicError::SendIllegalVector);
            return;
        }
        // INIT with level de-asserted only synchronises arbitration ids of old APICs; ExtINT cannot be sent.
        let deassert = delivery == Delivery::Init && icr >> 14 & 3 == 0b10;
        if to_us && !deassert {
            let _taken = self.receive(delivery, vector, false);
        }
    }
}
