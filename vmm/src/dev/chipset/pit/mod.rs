//! The 8254 interval timer of a PC, and port 0x61, where its counter 2 meets the speaker.
//!
//! Counter 0 drives one interrupt line. The PC has it on IRQ 0 of the 8259s and on pin 2 of the I/O APIC; the board
//! numbers wires by I/O APIC pin and takes wire 2 to IRQ 0, so that one [`Line`] is enough. Counter 1 refreshed
//! memory once and counter 2 is the speaker's; neither interrupts, so only counter 0 has deadlines.
//!
//! Nothing here ticks: the counters are brought to `now` when somebody looks or the deadline has come. However late
//! that is, the line has risen at most once since, and the next period keeps its phase.
//!
//! Sources: Intel 8254 data sheet 231164; port 0x61: Intel 82371SB (PIIX3) data sheet 290550, "NMI Status and Control".

mod counter;
#[cfg(test)]
mod tests;

use crate::bus::{Access, Line, PortIo, Resettable, Timed, Width};
use crate::time::Ns;
use counter::Counter;
use std::ops::RangeInclusive;

/// The input clock is 14.318181.. MHz / 12 = 105/88 MHz, so a nanosecond is 21/17600 of a tick.
const TICKS: u128 = 21;
/// See [`TICKS`].
const NANOSECONDS: u128 = 17_600;
/// Ticks between two changes of the refresh bit: 15.09 us, what the firmware of a PC sets counter 1 to.
const REFRESH_TICKS: u64 = 18;

// Port 0x61.
const GATE2: u8 = 1 << 0;
/// Bits 3..=0 hold what is written: GATE of counter 2, speaker data, and the two error-enable bits.
const PORT_B_WRITABLE: u8 = 0x0f;
const REFRESH: u8 = 1 << 4;
const OUT2: u8 = 1 << 5;

fn ticks_at(now: Ns) -> u64 {
    (u128::from(now.0) * TICKS / NANOSECONDS) as u64
}

/// The first instant at which the clock has ticked so often; `None` if beyond what [`Ns`] can tell.
fn time_of(ticks: u64) -> Option<Ns> {
    let ns = (u128::from(ticks) * NANOSECONDS).div_ceil(TICKS);
    u64::try_from(ns).ok().map(Ns)
}

/// The timer.
pub struct Pit {
    counters: [Counter; 3],
    /// Ticks of the input clock up to which the counters have run.
    ticks: u64,
    port_b: u8,
    irq: Line,
}

impl Pit {
    /// Ports answered, 8 bits wide ([`crate::bus::Splitting::Bytes`]).
    pub const PORTS: [RangeInclusive<u16>; 2] = [0x40..=0x43, 0x61..=0x61];

    /// After power-on: no counter runs. `irq` follows OUT of counter 0.
    pub fn new(irq: Line) -> Self {
        Self {
            counters: Self::power_on(),
            ticks: 0,
            port_b: 0,
            irq,
        }
    }

    fn power_on() -> [Counter; 3] {
        // The board ties GATE of counters 0 and 1 high; counter 2's is bit 0 of port 0x61.
        [true, true, false].map(Counter::new)
    }

    /// Runs the counters to `now` and lets the line follow.
    fn run_to(&mut self, now: Ns) {
        let passed = ticks_at(now).saturating_sub(self.ticks);
        self.ticks += passed;
        let rose = self.counters[0].next_rise().is_some_and(|ticks| ticks <= passed);
        for counter in &mut self.counters {
            counter.run(passed);
        }
        if rose {
            self.irq.set(false);
            self.irq.set(true);
        }
        self.follow_out();
    }

    fn follow_out(&self) {
        self.irq.set(self.counters[0].out());
    }

    /// Port 0x43.
    fn control(&mut self, value: u8) {
        let select = usize::from(value >> 6);
        match self.counters.get_mut(select) {
            None => self.read_back(value),
            Some(counter) if value & 0x30 == 0 => counter.latch_count(),
            Some(counter) => counter.program(value),
        }
    }

    /// The read-back command: bits 5 and 4, active low, choose count and status; bits 3..=1 the counters.
    fn read_back(&mut self, value: u8) {
        for (n, counter) in self.counters.iter_mut().enumerate() {
            if value >> (n + 1) & 1 != 0 {
                if value & 0x20 == 0 {
                    counter.latch_count();
                }
                if value & 0x10 == 0 {
                    counter.latch_status();
                }
            }
        }
    }

    fn read_port_b(&self) -> u8 {
        let refresh = if (self.ticks / REFRESH_TICKS) & 1 != 0 {
            REFRESH
        } else {
            0
        };
        let out2 = if self.counters[2].out() { OUT2 } else { 0 };
        self.port_b | refresh | out2
    }
}

impl PortIo for Pit {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        if width != Width::Byte {
            return Access::Bad;
        }
        self.run_to(now);
        let value = match port {
            0x40..=0x42 => self.counters[usize::from(port & 3)].read(),
            0x61 => self.read_port_b(),
            _ => return Access::Bad, // 0x43 too: the chip leaves the bus alone
        };
        Access::Done(value.into())
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        if width != Width::Byte {
            return Access::Bad;
        }
        self.run_to(now);
        let value = value as u8;
        match port {
            0x40..=0x42 => self.counters[usize::from(port & 3)].write(value),
            0x43 => self.control(value),
            0x61 => {
                self.port_b = value & PORT_B_WRITABLE;
                self.counters[2].set_gate(value & GATE2 != 0);
            }
            _ => return Access::Bad,
        }
        self.follow_out();
        Access::Done(())
    }
}

impl Timed for Pit {
    /// The next rising edge of counter 0's OUT, the only one an edge-triggered input sees.
    fn deadline(&self) -> Option<Ns> {
        let ticks = self.counters[0].next_rise()?;
        time_of(self.ticks.checked_add(ticks)?)
    }

    fn advance(&mut self, now: Ns) {
        self.run_to(now);
    }
}

impl Resettable for Pit {
    fn reset(&mut self) {
        self.counters = Self::power_on();
        self.port_b = 0;
        self.follow_out();
    }
}
