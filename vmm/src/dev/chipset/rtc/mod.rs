//! The MC146818A clock of a PC, its 128 bytes of battery-backed memory, and the second bank of 128 bytes.
//!
//! The guest reaches it through an index and a data port each. The clock starts at a wall time the board gives and
//! goes on with the machine's `now`; what the guest sets stays its own business. One line (IRQ 8) follows IRQF. The
//! chip is brought to `now` at every access and deadline: events missed meanwhile leave their flag set once, so there
//! is never more than one interrupt pending, and phases are kept.
//!
//! Register and section names are the MC146818A data sheet's (Motorola, 1988); NMI mask and second bank: Intel ICH
//! data sheets, "RTC I/O Registers".

mod calendar;
mod cmos;
#[cfg(test)]
mod tests;

pub use cmos::{BootDevice, Cmos};

use crate::bus::{Access, Line, PortIo, Resettable, Timed, Width};
use crate::time::Ns;
use calendar::{Format, at};
use std::ops::RangeInclusive;

const A: usize = 0x0a;
const B: usize = 0x0b;
const C: usize = 0x0c;
const D: usize = 0x0d;

// Register A.
const UIP: u8 = 1 << 7;
/// Divider control 32.768 kHz, 1024 Hz periodic rate: what firmware sets.
const A_AT_START: u8 = 0x26;
// Register B.
const SET: u8 = 1 << 7;
const SQWE: u8 = 1 << 3;
const HOURS_24: u8 = 1 << 1;
// Interrupt enables in B, flags in C; IRQF is C's alone.
const IRQF: u8 = 1 << 7;
const PERIODIC: u8 = 1 << 6;
const ALARM: u8 = 1 << 5;
const UPDATE: u8 = 1 << 4;
const EVENTS: u8 = PERIODIC | ALARM | UPDATE;
// Register D: valid RAM and time.
const VRT: u8 = 1 << 7;
/// Port 0x70.
const NMI_MASK: u8 = 1 << 7;

const SECOND: u128 = Ns::SECOND as u128;
/// The crystal, in hertz.
const CRYSTAL: u128 = 32_768;
/// Length of an update cycle with the 32.768 kHz crystal, ns ("Update Cycle").
const UPDATE_CYCLE: u128 = 1_984_000;
/// From UIP to the begin of the update cycle, ns.
const BEFORE_UPDATE: u128 = 244_000;
/// From the release of the divider to the begin of the first update cycle, ns ("Divider Control").
const FIRST_UPDATE: u128 = SECOND / 2;

/// The clock.
pub struct Rtc {
    index: u8,
    nmi_mask: bool,
    extended_index: u8,
    /// Time, alarm, registers A and B, and memory. C and D are made up when read.
    ram: [u8; 128],
    extended: [u8; 128],
    /// PF, AF, UF of register C.
    flags: u8,
    /// How far the divider chain is ahead of `now`, ns: a second of the clock ends when their sum is whole.
    phase: u64,
    /// The time up to which all of this is true.
    synced: Ns,
    irq: Line,
}

impl Rtc {
    /// Ports answered, 8 bits wide ([`crate::bus::Splitting::Bytes`]).
    pub const PORTS: [RangeInclusive<u16>; 1] = [0x70..=0x73];

    /// A clock that shows `unix_ns`, nanoseconds since 1970, at `Ns(0)`, in 24 hours and BCD.
    pub fn new(irq: Line, unix_ns: u64, cmos: &Cmos) -> Self {
        let mut ram = [0; 128];
        cmos.fill(&mut ram);
        ram[A] = A_AT_START;
        ram[B] = HOURS_24;
        let seconds = i64::try_from(unix_ns / Ns::SECOND).unwrap_or(i64::MAX);
        calendar::set(&mut ram, Format::of_register_b(HOURS_24), seconds);
        Self {
            index: 0,
            nmi_mask: true,
            extended_index: 0,
            ram,
            extended: [0; 128],
            flags: 0,
            phase: unix_ns % Ns::SECOND,
            synced: Ns(0),
            irq,
        }
    }

    /// Whether bit 7 of port 0x70 keeps NMIs from the CPU.
    pub fn nmi_masked(&self) -> bool {
        self.nmi_mask
    }

    // ---- time ----

    /// The divider chain at `now`, ns.
    fn chain(&self, now: Ns) -> u128 {
        u128::from(now.0) + u128::from(self.phase)
    }

    /// When the chain stands at `chain`; `None` if beyond what [`Ns`] can tell.
    fn time_of(&self, chain: u128) -> Option<Ns> {
        let now = chain.checked_sub(self.phase.into())?;
        u64::try_from(now).ok().map(Ns)
    }

    /// Divider reset: DV = 11x. Every other setting counts as the 32.768 kHz the crystal has.
    fn divider_held(&self) -> bool {
        self.ram[A] & 0x60 == 0x60
    }

    fn updating(&self) -> bool {
        self.ram[B] & SET == 0 && !self.divider_held()
    }

    fn format(&self) -> Format {
        Format::of_register_b(self.ram[B])
    }

    /// The period of the rate select, in cycles of the crystal ("Periodic Interrupt Rate").
    fn period(&self) -> Option<u128> {
        match self.ram[A] & 0x0f {
            0 => None,
            rate @ (1 | 2) => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Brings the chip to `now`: each kind of event that came since sets its flag, once.
    fn sync(&mut self, now: Ns) {
        let (from, to) = (self.chain(self.synced), self.chain(now));
        if to <= from {
            return;
        }
        self.synced = now;
        if self.divider_held() {
            return;
        }
        let periods = |chain: u128, period: u128| chain * CRYSTAL / SECOND / period;
        if self.period().is_some_and(|p| periods(from, p) != periods(to, p)) {
            self.flags |= PERIODIC;
        }
        let seconds = (to / SECOND - from / SECOND) as u64;
        if seconds > 0 && self.updating() {
            self.flags |= UPDATE;
            if calendar::seconds_to_alarm(&self.ram, self.format()).is_some_and(|alarm| alarm <= seconds) {
                self.flags |= ALARM;
            }
            let format = self.format();
            calendar::count_on(&mut self.ram, format, seconds);
        }
        self.follow_irqf();
    }

    fn irqf(&self) -> bool {
        self.flags & self.ram[B] & EVENTS != 0
    }

    fn follow_irqf(&self) {
        self.irq.set(self.irqf());
    }

    /// From UIP's rise to the end of the update cycle.
    fn update_in_progress(&self) -> bool {
        let into_second = self.chain(self.synced) % SECOND;
        self.updating() && into_second >= SECOND - UPDATE_CYCLE - BEFORE_UPDATE
    }

    /// When the flag of `event` is next set.
    fn next(&self, event: u8) -> Option<Ns> {
        if self.divider_held() {
            return None;
        }
        let chain = self.chain(self.synced);
        let at = match event {
            PERIODIC => {
                let period = self.period()?;
                let cycles = (chain * CRYSTAL / SECOND / period + 1) * period;
                (cycles * SECOND).div_ceil(CRYSTAL)
            }
            _ if !self.updating() => return None,
            ALARM => {
                let seconds = calendar::seconds_to_alarm(&self.ram, self.format())?;
                (chain / SECOND + u128::from(seconds)) * SECOND
            }
            _ => (chain / SECOND + 1) * SECOND,
        };
        self.time_of(at)
    }

    // ---- registers ----

    fn read(&mut self) -> u8 {
        let place = usize::from(self.index);
        match place {
            A => self.ram[A] | if self.update_in_progress() { UIP } else { 0 },
            C => {
                let irqf = if self.irqf() { IRQF } else { 0 };
                let value = std::mem::take(&mut self.flags) | irqf;
                self.follow_irqf();
                value
            }
            D => VRT,
            _ => self.ram[place & 0x7f],
        }
    }

    fn write(&mut self, value: u8) {
        let place = usize::from(self.index);
        match place {
            A => self.write_a(value & !UIP),
            B => {
                let begins_set = value & SET != 0 && self.ram[B] & SET == 0;
                self.ram[B] = value & if begins_set { !UPDATE } else { 0xff };
                self.follow_irqf();
            }
            C | D => {} // read-only
            at::SECONDS => self.ram[place] = value & 0x7f,
            _ => self.ram[place & 0x7f] = value,
        }
    }

    fn write_a(&mut self, value: u8) {
        let was_held = self.divider_held();
        self.ram[A] = value;
        if was_held && !self.divider_held() {
            // The chain starts anew, so that the first update cycle begins when it should.
            let wanted = SECOND - FIRST_UPDATE - UPDATE_CYCLE;
            let now = u128::from(self.synced.0) % SECOND;
            self.phase = ((wanted + SECOND - now) % SECOND) as u64;
        }
    }
}

impl PortIo for Rtc {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        if width != Width::Byte {
            return Access::Bad;
        }
        self.sync(now);
        let value = match port {
            0x70 | 0x72 => 0xff, // the index latches are write-only: nobody drives the bus
            0x71 => self.read(),
            0x73 => self.extended[usize::from(self.extended_index & 0x7f)],
            _ => return Access::Bad,
        };
        Access::Done(value.into())
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        if width != Width::Byte {
            return Access::Bad;
        }
        self.sync(now);
        let value = value as u8;
        match port {
            0x70 => {
                self.index = value & !NMI_MASK;
                self.nmi_mask = value & NMI_MASK != 0;
            }
            0x71 => self.write(value),
            0x72 => self.extended_index = value & 0x7f,
            0x73 => self.extended[usize::from(self.extended_index & 0x7f)] = value,
            _ => return Access::Bad,
        }
        Access::Done(())
    }
}

impl Timed for Rtc {
    /// The next enabled event. None while IRQF is up: the line cannot rise again before register C is read.
    fn deadline(&self) -> Option<Ns> {
        if self.irqf() {
            return None;
        }
        [PERIODIC, ALARM, UPDATE]
            .into_iter()
            .filter(|event| self.ram[B] & event != 0)
            .filter_map(|event| self.next(event))
            .min()
    }

    fn advance(&mut self, now: Ns) {
        self.sync(now);
    }
}

impl Resettable for Rtc {
    /// The RESET pin: interrupts off, all else runs from the battery and stays.
    fn reset(&mut self) {
        self.ram[B] &= !(EVENTS | SQWE);
        self.flags = 0;
        self.index = 0;
        self.extended_index = 0;
        self.nmi_mask = true;
        self.follow_irqf();
    }
}
