//! The I/O APIC: an Intel 82093AA with 24 pins (data sheet 290566-001), version 20h as its successors have it,
//! with the EOI register. Pins become messages to the local APIC.
//!
//! Called by the interrupt fabric ([`super::interrupts`]) alone. It holds pins and messages; who receives them
//! is the fabric's knowledge. What must never happen here: a level that is up and open and waits for nothing,
//! because then nobody looks at it again.
//!
//! Choices the data sheet leaves open, or that differ between implementations:
//! - An edge on a masked pin is lost (data sheet section 3.2.4, interrupt mask); Linux expects it, and asks the
//!   8259 for it.
//! - A pin is *asserted* or not; the polarity bit is kept and shown, not applied: a wire of the board already
//!   says asserted.
//! - A message nobody takes is kept and shown as "send pending"; it goes out as soon as somebody takes it.
//! - Making an entry edge-triggered clears its remote IRR, as chips do and operating systems use for an EOI of
//!   their own.
//! - All accesses are aligned 32-bit ones, as the data sheet asks; only IOREGSEL, which has 8 bits, also takes
//!   bytes.

use super::lapic::{Delivery, Destination};
use crate::bus::{Access, GSIS, Mmio, Resettable, Width};
use crate::time::Ns;

/// Where the board has it.
pub const DEFAULT_BASE: u64 = crate::mem::IOAPIC_BASE;
/// Bytes of its region.
pub const REGION_BYTES: u64 = 4096;
/// Pins.
pub const PINS: usize = GSIS;

const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const EOI: u64 = 0x40;

const INDEX_ID: u8 = 0x00;
const INDEX_VERSION: u8 = 0x01;
const INDEX_ARBITRATION: u8 = 0x02;
const INDEX_TABLE: u8 = 0x10;

/// Version 20h, 24 entries.
const VERSION: u32 = (PINS as u32 - 1) << 16 | 0x20;

/// An entry of the redirection table (data sheet section 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    const MASKED: u64 = 1 << 16;
    const LEVEL: u64 = 1 << 15;
    const REMOTE_IRR: u64 = 1 << 14;
    const SEND_PENDING: u64 = 1 << 12;
    const LOGICAL: u64 = 1 << 11;
    /// Vector, delivery mode, destination mode, polarity, trigger, mask, destination.
    const WRITABLE: u64 = 0xff00_0000_0001_afff;

    const fn is(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    fn delivery(self) -> Delivery {
        Delivery::of_bits(self.0)
    }

    /// Whether it stays asserted until an EOI: only vectors do, the other modes are edges whatever the trigger
    /// bit.
    fn level(self) -> bool {
        self.is(Self::LEVEL) && matches!(self.delivery(), Delivery::Fixed | Delivery::Lowest)
    }

    /// Whether an edge on the pin is a message. ExtINT is none: it is a level the fabric looks at.
    fn latches_edges(self) -> bool {
        !self.level() && !self.is(Self::MASKED) && self.delivery() != Delivery::ExtInt
    }

    fn message(self) -> Message {
        Message {
            delivery: self.delivery(),
            vector: self.0 as u8,
            level: self.level(),
            destination: Destination::of_byte(self.is(Self::LOGICAL), (self.0 >> 56) as u8),
        }
    }
}

/// What an asserted pin sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// How.
    pub delivery: Delivery,
    /// Which vector, where the mode has one.
    pub vector: u8,
    /// Level-triggered: an EOI will answer it.
    pub level: bool,
    /// To whom.
    pub destination: Destination,
}

/// The I/O APIC.
pub struct IoApic {
    id: u8,
    select: u8,
    table: [Entry; PINS],
    /// Bit per pin: asserted.
    asserted: u32,
    /// Bit per pin: an edge that has not been taken by a local APIC yet.
    edges: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        Self {
            id: 0,
            select: 0,
            table: [Entry(Entry::MASKED); PINS],
            asserted: 0,
            edges: 0,
        }
    }
}

impl IoApic {
    /// The pin (0..=23; others do not exist) went up at least once (`rose`), and now stands at `level`.
    pub fn wire(&mut self, pin: u8, rose: bool, level: bool) {
        let Some(entry) = self.table.get(usize::from(pin)) else {
            return;
        };
        let bit = 1 << pin;
        self.asserted = if level {
            self.asserted | bit
        } else {
            self.asserted & !bit
        };
        if rose && entry.latches_edges() {
            self.edges |= bit;
        }
    }

    /// A pin that is a level by nature (0..=23; others do not exist): an edge is where it rises.
    pub fn set_level(&mut self, pin: u8, level: bool) {
        let was = self
            .asserted
            .checked_shr(pin.into())
            .is_some_and(|pins| pins & 1 != 0);
        self.wire(pin, level && !was, level);
    }

    fn ready(&self, pin: usize) -> bool {
        let entry = self.table[pin];
        if entry.level() {
            self.asserted >> pin & 1 != 0 && !entry.is(Entry::MASKED | Entry::REMOTE_IRR)
        } else {
            self.edges >> pin & 1 != 0
        }
    }

    /// Offers every waiting message to `take`, lowest pin first; those it returns false for wait on.
    pub fn send(&mut self, mut take: impl FnMut(Message) -> bool) {
        let mut candidates = self.edges | self.asserted;
        while candidates != 0 {
            let pin = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            if self.ready(pin) && take(self.table[pin].message()) {
                if self.table[pin].level() {
                    self.table[pin].0 |= Entry::REMOTE_IRR;
                } else {
                    self.edges &= !(1 << pin);
                }
            }
        }
    }

    /// The destinations of asserted, open pins in ExtINT mode: through them the PIC's INTR reaches a CPU.
    pub fn extint(&self) -> impl Iterator<Item = Destination> {
        let asserted = self.asserted;
        (self.table.iter().enumerate())
            .filter(move |(pin, entry)| asserted >> pin & 1 != 0 && !entry.is(Entry::MASKED))
            .filter(|(_, entry)| entry.delivery() == Delivery::ExtInt)
            .map(|(_, entry)| entry.message().destination)
    }

    /// EOI of a vector, by broadcast or through the EOI register: every level-triggered entry with this vector
    /// may send again, and does with the next [`send`](Self::send) if its pin is still asserted.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.table {
            if entry.0 as u8 == vector && entry.level() {
                entry.0 &= !Entry::REMOTE_IRR;
            }
        }
    }

    fn read(&self) -> u32 {
        match self.select {
            INDEX_ID | INDEX_ARBITRATION => u32::from(self.id) << 24,
            INDEX_VERSION => VERSION,
            index => self.half(index).map_or(0, |(pin, high)| {
                let waits = if self.ready(pin) { Entry::SEND_PENDING } else { 0 };
                let entry = self.table[pin].0 | waits;
                if high { (entry >> 32) as u32 } else { entry as u32 }
            }),
        }
    }

    fn write(&mut self, value: u32) {
        if self.select == INDEX_ID {
            self.id = (value >> 24) as u8 & 0xf;
        } else if let Some((pin, high)) = self.half(self.select) {
            let old = self.table[pin];
            let (shift, keep) = if high {
                (32, 0xffff_ffff)
            } else {
                (0, !0xffff_ffff)
            };
            let value = (old.0 & keep | u64::from(value) << shift) & Entry::WRITABLE;
            let mut entry = Entry(value | old.0 & Entry::REMOTE_IRR);
            if !entry.level() {
                entry.0 &= !Entry::REMOTE_IRR;
            }
            if !entry.latches_edges() {
                self.edges &= !(1 << pin);
            }
            self.table[pin] = entry;
        }
    }

    /// The entry an index names, and whether its high half.
    fn half(&self, index: u8) -> Option<(usize, bool)> {
        let half = usize::from(index.checked_sub(INDEX_TABLE)?);
        (half / 2 < PINS).then_some((half / 2, half % 2 != 0))
    }
}

impl Mmio for IoApic {
    fn mmio_read(&mut self, _now: Ns, offset: u64, width: Width) -> Access<u64> {
        match (offset, width) {
            (IOREGSEL, Width::Byte | Width::Dword) => Access::Done(self.select.into()),
            (IOWIN, Width::Dword) => Access::Done(self.read().into()),
            _ => Access::Bad,
        }
    }

    fn mmio_write(&mut self, _now: Ns, offset: u64, width: Width, value: u64) -> Access {
        match (offset, width) {
            (IOREGSEL, Width::Byte | Width::Dword) => self.select = value as u8,
            (IOWIN, Width::Dword) => self.write(value as u32),
            (EOI, Width::Dword) => self.end_of_interrupt(value as u8),
            _ => return Access::Bad,
        }
        Access::Done(())
    }
}

impl Resettable for IoApic {
    /// The pins stay as the board drives them.
    fn reset(&mut self) {
        *self = Self {
            asserted: self.asserted,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests;
