//! From a function's interrupt pin to the board's wires.
//!
//! ```text
//!   (device, pin) --swizzle--> PIRQ A..D --+--> GSI 16..19: I/O APIC pins of their own
//!                                          +--> PIRQRC A..D --> ISA IRQ: the 8259s
//! ```
//!
//! A function owns an ordinary [`Line`] on GSI 16 to 19 ([`gsi`]). The ISA bridge follows those four wires and, where
//! its routing registers say so, drives the ISA wire too; so a guest finds the interrupt in either mode, and one that uses
//! the I/O APIC gets four pins that nothing else shares. Refused: the i440FX's real wiring, in which PIRQs
//! reach the I/O APIC only through ISA pins, shared with legacy devices.
//!
//! An ISA wire driven by a PIRQ must be level-triggered at the 8259s. Firmware sets that in ELCR together with PIRQRC;
//! a board that boots without firmware writes [`ELCR`] for it (an ACPI guest does so itself). The I/O APIC pins of the ISA
//! wires see the level as well; a guest in APIC mode leaves them masked, for no table routes anything to them.
//!
//! Source: Intel 82371FB/82371SB (PIIX3) data sheet 290550, "PIRQx Route Control"; PCI to PCI Bridge Architecture
//! Specification for the rotation of pins over devices.

use super::config::Pin;
use crate::bus::{Line, Wires};

/// The first of the four wires of PIRQ A to D.
const FIRST_GSI: u8 = 16;
/// Wires of PIRQ A to D.
pub const PIRQ_GSIS: [u8; 4] = [16, 17, 18, 19];
/// ISA IRQs of PIRQ A to D after reset: what firmware would choose. 9 belongs to ACPI, 5 and 7 to nobody's devices.
pub const PIRQ_IRQS: [u8; 4] = [10, 11, 10, 11];
/// ISA IRQs that are level-triggered after firmware: the SCI and those of [`PIRQ_IRQS`].
pub const ELCR: u16 = 1 << 9 | 1 << 10 | 1 << 11;

/// ISA IRQs a PIRQ can be routed to; the other values are reserved and route nowhere.
const ROUTABLE: [u8; 11] = [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15];

/// PIRQ (0 to 3) of a device's pin.
pub const fn pirq(device: u8, pin: Pin) -> u8 {
    device.wrapping_add(pin as u8).wrapping_sub(1) % 4
}

/// Wire of a device's pin: where the board makes the device's [`Line`].
pub const fn gsi(device: u8, pin: Pin) -> u8 {
    FIRST_GSI + pirq(device, pin)
}

/// The PIRQs' way to the 8259s.
pub(super) struct IsaRouter {
    wires: Wires,
    lines: [Line; ROUTABLE.len()],
}

impl IsaRouter {
    /// `None` if a wire has no source left.
    pub fn new(wires: &Wires) -> Option<Self> {
        let lines: Option<Vec<Line>> = ROUTABLE.iter().map(|&irq| wires.line(irq)).collect();
        Some(Self {
            wires: wires.clone(),
            lines: lines?.try_into().ok()?,
        })
    }

    /// Shows the PIRQs' levels on the ISA wires, by these routing registers. One with bit 7 set routes nowhere: it
    /// equals no IRQ's number.
    pub fn follow(&self, pirqrc: [u8; 4]) {
        for line in &self.lines {
            line.set(
                PIRQ_GSIS
                    .into_iter()
                    .zip(pirqrc)
                    .any(|(gsi, route)| route == line.gsi() && self.wires.level(gsi)),
            );
        }
    }
}
