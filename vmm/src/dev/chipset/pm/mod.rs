//! ACPI fixed hardware: power button, power management timer, sleep.
//!
//! The registers lie as in a PIIX4 (so does [`super::pci::chipset::power_management`] say) and mean what the ACPI
//! specification says. The machine is always in ACPI mode: SCI_EN reads one, and the FADT names no SMI command port,
//! for there is no firmware to take the registers from. There are no general-purpose events, so no GPE block.
//!
//! Called by the run loop only. The SCI is a level, high exactly while an enabled status bit is set; it must never stay
//! up after the guest has cleared its cause.
//!
//! Sources: ACPI Specification 6.5, section 4.8.3 (fixed hardware registers); Intel 82371AB (PIIX4) data sheet 290562,
//! "Power management I/O registers" (offsets, and SLP_TYP 0 for soft off).

#[cfg(test)]
mod tests;

use crate::bus::{Access, Line, PortIo, Resettable, Signal, Signals, Timed, Width};
use crate::time::Ns;
use std::ops::RangeInclusive;

/// The timer runs at 3.579545.. MHz = 315/88 MHz, so a nanosecond is 63/17600 of a tick.
const TICKS: u128 = 63;
/// See [`TICKS`].
const NANOSECONDS: u128 = 17_600;
/// Bits of the timer.
const TIMER_BITS: u32 = 24;
/// TMR_STS is set whenever this bit changes.
const TIMER_TOP_BIT: u32 = TIMER_BITS - 1;

// Status in bits 15:0 of the event block, enable in 31:16, bit for bit.
const TIMER: u16 = 1 << 0;
const GLOBAL: u16 = 1 << 5;
const POWER_BUTTON: u16 = 1 << 8;
/// Kept but without effect: the clock wakes nobody.
const RTC: u16 = 1 << 10;
const ENABLES: u16 = TIMER | GLOBAL | POWER_BUTTON | RTC;

// Control.
const SCI_EN: u16 = 1 << 0;
/// Bus master reload, a matter of C3; and SLP_TYP.
const CONTROL_KEPT: u16 = 1 << 1 | SLP_TYP;
const SLP_TYP: u16 = 7 << SLP_TYP_SHIFT;
const SLP_TYP_SHIFT: u32 = 10;
const SLP_EN: u16 = 1 << 13;

/// The fixed hardware.
pub struct Pm {
    status: u16,
    enable: u16,
    control: u16,
    /// Changes of the timer's top bit up to which status was brought.
    toggles: u64,
    refused_sleeps: u64,
    sci: Line,
    signals: Signals,
}

/// Changes of the timer's top bit since the machine was made.
fn toggles_at(now: Ns) -> u64 {
    ticks_at(now) >> TIMER_TOP_BIT
}

fn ticks_at(now: Ns) -> u64 {
    (u128::from(now.0) * TICKS / NANOSECONDS) as u64
}

impl Pm {
    /// First port of the block.
    pub const FIRST: u16 = 0x600;
    /// Ports answered, all widths ([`crate::bus::Splitting::Native`]).
    pub const PORTS: RangeInclusive<u16> = Self::FIRST..=Self::FIRST + 0x3f;
    /// Port of PM1a_STS and PM1a_EN.
    pub const EVENT: u16 = Self::FIRST;
    /// Port of PM1a_CNT.
    pub const CONTROL: u16 = Self::FIRST + 4;
    /// Port of PM_TMR.
    pub const TIMER: u16 = Self::FIRST + 8;
    /// The board's wire of the SCI: level, active high.
    pub const SCI_GSI: u8 = 9;
    /// SLP_TYP of S5, soft off.
    pub const SLP_TYP_S5: u8 = 0;

    /// After power-on.
    pub fn new(sci: Line, signals: Signals) -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            toggles: 0,
            refused_sleeps: 0,
            sci,
            signals,
        }
    }

    /// Somebody pressed the power button. What comes of it is the guest's affair; one that has not enabled the event
    /// yet sees the status bit when it does.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.show();
    }

    /// Sleep states asked for that this machine does not have: each was ignored.
    pub fn refused_sleeps(&self) -> u64 {
        self.refused_sleeps
    }

    fn show(&self) {
        self.sci.set(self.status & self.enable != 0);
    }

    /// The timer's top bit may have changed, however often: that is one status bit.
    fn catch_up(&mut self, now: Ns) {
        let toggles = toggles_at(now);
        if toggles > self.toggles {
            self.toggles = toggles;
            self.status |= TIMER;
            self.show();
        }
    }

    /// The dword of registers at `offset` of the block.
    fn dword(&self, now: Ns, offset: u16) -> u32 {
        match Self::FIRST + offset {
            Self::EVENT => u32::from(self.enable) << 16 | u32::from(self.status),
            Self::CONTROL => u32::from(self.control | SCI_EN),
            Self::TIMER => ticks_at(now) as u32 & ((1 << TIMER_BITS) - 1),
            _ => 0,
        }
    }

    /// Writes the bits under `mask` of the dword at `offset`.
    fn write_dword(&mut self, offset: u16, mask: u32, value: u32) {
        let (low, high) = (value & mask, (value & mask) >> 16);
        match Self::FIRST + offset {
            Self::EVENT => {
                self.status &= !(low as u16);
                let kept = self.enable & !((mask >> 16) as u16);
                self.enable = (kept | high as u16) & ENABLES;
                self.show();
            }
            Self::CONTROL => {
                let kept = self.control & !(mask as u16);
                self.control = (kept | low as u16) & CONTROL_KEPT;
                if low as u16 & SLP_EN != 0 {
                    self.sleep();
                }
            }
            // The timer is read-only, the rest is not there.
            _ => {}
        }
    }

    fn sleep(&mut self) {
        let slp_typ = (self.control & SLP_TYP) >> SLP_TYP_SHIFT;
        if slp_typ == u16::from(Self::SLP_TYP_S5) {
            self.signals.raise(Signal::PowerOff);
        } else {
            self.refused_sleeps = self.refused_sleeps.saturating_add(1);
        }
    }
}

/// Where an access lies: offset of its dword, its shift there, its mask. `None` if it crosses a dword.
fn lane(port: u16, width: Width) -> Option<(u16, u32, u32)> {
    let offset = port.checked_sub(Pm::FIRST)?;
    let within = (offset & 3) as u8;
    (within + width.bytes() <= 4).then(|| {
        let shift = u32::from(within) * 8;
        (offset & !3, shift, (width.ones() as u32) << shift)
    })
}

impl PortIo for Pm {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        let Some((offset, shift, mask)) = lane(port, width) else {
            return Access::Bad;
        };
        self.catch_up(now);
        Access::Done((self.dword(now, offset) & mask) >> shift)
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        let Some((offset, shift, mask)) = lane(port, width) else {
            return Access::Bad;
        };
        self.catch_up(now);
        self.write_dword(offset, mask, value << shift);
        Access::Done(())
    }
}

impl Timed for Pm {
    /// The next change of the timer's top bit, while it would raise an interrupt.
    fn deadline(&self) -> Option<Ns> {
        if self.enable & TIMER == 0 || self.status & TIMER != 0 {
            return None;
        }
        let ticks = (u128::from(self.toggles) + 1) << TIMER_TOP_BIT;
        let ns = (ticks * NANOSECONDS).div_ceil(TICKS);
        u64::try_from(ns).ok().map(Ns)
    }

    fn advance(&mut self, now: Ns) {
        self.catch_up(now);
    }
}

impl Resettable for Pm {
    /// The timer runs on.
    fn reset(&mut self) {
        self.status = 0;
        self.enable = 0;
        self.control = 0;
        self.show();
    }
}
