//! The interrupt fabric: how a board's wires reach the CPU through two 8259s, the I/O APIC and the local APIC.
//!
//! ```text
//!   wire 1, 3..=15 ──┬──▶ 8259s ── INTR ──┬──▶ LINT0 ─▶┐
//!   wire 2 ── IRQ 0 ─┤                    └──▶ pin 0   │ local APIC ──▶ CPU
//!                    └──▶ I/O APIC pins 1..=23 ───────▶┘
//!   wire 16..=23 ────────▶     ◀── EOI of level-triggered vectors ──
//! ```
//!
//! Wire 2 is the PIT's: IRQ 0 of the PIC, pin 2 of the I/O APIC (an interrupt source override says so in the
//! MADT). Wire 0 is unused: IRQ 2 of the PIC is its cascade, pin 0 of the I/O APIC is the PIC's output, as on
//! PCs of old.
//!
//! Called by the board: accesses, changes of wires, time, and before each entry
//! [`pending`](Interrupts::pending) and [`take`](Interrupts::take). What must never happen here: a change in
//! one controller that the others are not told of before the call returns; every mutation ends in `settle`.

use super::ioapic::IoApic;
use super::lapic::{LocalApic, MsrFault, TscScale};
use super::pic::PicPair;
use crate::bus::{Access, Change, Mmio, PortIo, Resettable, Timed, Width};
use crate::time::Ns;

/// Wire of the PIT: IRQ 0 of the PIC, pin 2 of the I/O APIC.
pub const PIT_WIRE: u8 = 2;
/// Pin of the I/O APIC the PIC's INTR goes to.
const INTR_PIN: u8 = 0;

/// The three controllers and the wiring between them.
pub struct Interrupts {
    pics: PicPair,
    ioapic: IoApic,
    lapic: LocalApic,
}

impl Interrupts {
    /// Wires up the controllers as they are after power-on. A boot without firmware also needs
    /// [`virtual_wire`](Self::virtual_wire).
    pub fn new(pics: PicPair, ioapic: IoApic, lapic: LocalApic) -> Self {
        Self { pics, ioapic, lapic }
    }

    /// What firmware does for an operating system that knows only the PIC; see [`LocalApic::virtual_wire`].
    pub fn virtual_wire(&mut self) {
        self.lapic.virtual_wire();
        self.settle();
    }

    /// Carries changes of the board's wires ([`crate::bus::Wires::take`]) to the controllers.
    pub fn wires(&mut self, changes: impl IntoIterator<Item = Change>) {
        for Change { gsi, rose, level } in changes {
            match gsi {
                0 => continue,
                PIT_WIRE => self.irq(0, rose, level),
                1..=15 => self.irq(gsi, rose, level),
                _ => {}
            }
            self.ioapic.wire(gsi, rose, level);
        }
        self.settle();
    }

    /// A wire that rose was low before: the PIC takes back what nobody had acknowledged, and INTR may fall and
    /// rise. An edge-triggered LINT0 must see that, or it hears of a timer whose pulses are shorter than a
    /// drain only once.
    fn irq(&mut self, irq: u8, rose: bool, level: bool) {
        if rose {
            self.pics.wire(irq, false, false);
            self.lapic.set_lint0(self.pics.output());
        }
        self.pics.wire(irq, rose, level);
        self.lapic.set_lint0(self.pics.output());
    }

    /// Whether an interrupt waits that the CPU would take with EFLAGS.IF set and its present CR8.
    pub fn pending(&self) -> bool {
        self.lapic.pending().is_some() || self.extint()
    }

    /// The vector to inject now. The local APIC's comes before the PIC's, which no priority orders against it.
    /// Only call it when the vCPU can take an interrupt: the vector counts as acknowledged.
    pub fn take(&mut self) -> Option<u8> {
        if let Some(vector) = self.lapic.acknowledge() {
            return Some(vector);
        }
        let vector = self.extint().then(|| self.pics.acknowledge())?;
        self.settle();
        Some(vector)
    }

    /// Whether the PIC asks for the CPU, and LINT0 or the I/O APIC lets it through.
    fn extint(&self) -> bool {
        self.pics.output()
            && (self.lapic.lint0_extint() || self.ioapic.extint().any(|to| self.lapic.is_for(to)))
    }

    /// The board's NMI, one edge: what becomes of it is LINT1's business, and comes out as
    /// [`crate::bus::Signal::Nmi`].
    pub fn nmi(&mut self) {
        self.lapic.pulse_lint1();
    }

    /// CR8 for the next entry.
    pub fn cr8(&self) -> u8 {
        self.lapic.cr8()
    }

    /// Takes over the CPU's CR8 (0..=15); after every exit.
    pub fn set_cr8(&mut self, cr8: u8) {
        self.lapic.set_cr8(cr8);
    }

    /// Reads the local APIC's page.
    pub fn lapic_read(&mut self, now: Ns, offset: u64, width: Width) -> Access<u64> {
        self.lapic.mmio_read(now, offset, width)
    }

    /// Writes the local APIC's page.
    pub fn lapic_write(&mut self, now: Ns, offset: u64, width: Width, value: u64) -> Access {
        let done = self.lapic.mmio_write(now, offset, width, value);
        self.settle();
        done
    }

    /// Reads the I/O APIC.
    pub fn ioapic_read(&mut self, now: Ns, offset: u64, width: Width) -> Access<u64> {
        self.ioapic.mmio_read(now, offset, width)
    }

    /// Writes the I/O APIC.
    pub fn ioapic_write(&mut self, now: Ns, offset: u64, width: Width, value: u64) -> Access {
        let done = self.ioapic.mmio_write(now, offset, width, value);
        self.settle();
        done
    }

    /// Reads an MSR of the local APIC; see [`LocalApic::msr_read`].
    pub fn msr_read(&mut self, now: Ns, index: u32) -> Result<u64, MsrFault> {
        self.lapic.msr_read(now, index)
    }

    /// Writes an MSR of the local APIC; see [`LocalApic::msr_write`]. Writing IA32_APIC_BASE may move
    /// [`LocalApic::base`].
    pub fn msr_write(&mut self, now: Ns, index: u32, value: u64) -> Result<(), MsrFault> {
        let done = self.lapic.msr_write(now, index, value);
        self.settle();
        done
    }

    /// The local APIC, to look at.
    pub fn lapic(&self) -> &LocalApic {
        &self.lapic
    }

    /// Replaces the relation of the time stamp counter to the clock; see [`LocalApic::set_tsc`].
    pub fn set_tsc(&mut self, tsc: TscScale) {
        self.lapic.set_tsc(tsc);
    }

    /// Carries what one controller has for another: EOIs out, the PIC's INTR and the I/O APIC's messages in.
    /// One pass is enough, since taking a message ends no interrupt and moves no wire.
    fn settle(&mut self) {
        while let Some(vector) = self.lapic.take_ended() {
            self.ioapic.end_of_interrupt(vector);
        }
        let intr = self.pics.output();
        self.lapic.set_lint0(intr);
        self.ioapic.set_level(INTR_PIN, intr);
        let lapic = &mut self.lapic;
        self.ioapic.send(|message| {
            lapic.is_for(message.destination)
                && lapic.receive(message.delivery, message.vector, message.level)
        });
    }
}

/// The ports are the PICs'.
impl PortIo for Interrupts {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        let value = self.pics.port_read(now, port, width);
        self.settle(); // a poll acknowledges
        value
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        let done = self.pics.port_write(now, port, width, value);
        self.settle();
        done
    }
}

/// The time is the local APIC timer's.
impl Timed for Interrupts {
    fn deadline(&self) -> Option<Ns> {
        self.lapic.deadline()
    }

    fn advance(&mut self, now: Ns) {
        self.lapic.advance(now);
    }
}

impl Resettable for Interrupts {
    /// Power-on state of all three; a boot without firmware also needs
    /// [`virtual_wire`](Interrupts::virtual_wire).
    fn reset(&mut self) {
        self.pics.reset();
        self.ioapic.reset();
        self.lapic.reset();
        self.settle();
    }
}

#[cfg(test)]
mod tests;
