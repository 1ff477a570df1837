//! The two 8259A interrupt controllers of a PC, cascaded on input 2, and their edge/level control registers.
//!
//! The board feeds every change of the wires 0..=15 into [`PicPair::wire`], looks at [`PicPair::output`] (INTR) and,
//! when the CPU takes the interrupt, calls [`PicPair::acknowledge`] once. Nothing here keeps time. An input that falls
//! before it is acknowledged takes its request back, and INTR with it, as in the chip; a CPU that had seen INTR and
//! acknowledges all the same gets the spurious vector. Only a pulse that rose and fell between two drains of the
//! wires is kept, because nobody could have seen it up.
//!
//! Sources: Intel 8259A data sheet 231468; ELCR: Intel 82371SB (PIIX3) data sheet 290550, "Edge/Level Control".

mod chip;
#[cfg(test)]
mod tests;

use crate::bus::{Access, PortIo, Resettable, Width};
use crate::time::Ns;
use chip::{Chip, SPURIOUS};
use std::ops::RangeInclusive;

/// Input of the master that carries the slave's INT.
const CASCADE: u8 = 2;
/// Level mode may be chosen for IRQ 3..=7, and for IRQ 9..=12, 14, 15: timer, keyboard, cascade, clock and FPU are
/// always edges.
const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];

/// Both controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicPair {
    master: Chip,
    slave: Chip,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// Ports answered: master, slave, edge/level control. All 8 bits wide ([`crate::bus::Splitting::Bytes`]).
    pub const PORTS: [RangeInclusive<u16>; 3] = [0x20..=0x21, 0xa0..=0xa1, 0x4d0..=0x4d1];

    /// After power-on: delivers nothing before it is initialised.
    pub fn new() -> Self {
        Self {
            master: Chip::new(1 << CASCADE),
            slave: Chip::new(0),
        }
    }

    /// A change of wire `irq`: whether it rose since the last change told, and its level now
    /// ([`crate::bus::Change`]). Wires above 15, and 2, where the cascade is, are not wired to here.
    pub fn wire(&mut self, irq: u8, rose: bool, level: bool) {
        let Some((chip, ir)) = self.input(irq) else {
            return;
        };
        match (rose, level) {
            (true, true) => {
                chip.set(ir, false);
                chip.set(ir, true);
            }
            (true, false) => chip.pulse(ir),
            (false, level) => chip.set(ir, level),
        }
        self.follow_slave();
    }

    /// Puts `irq` (0..=15) at `level`.
    pub fn set_irq(&mut self, irq: u8, level: bool) {
        if let Some((chip, ir)) = self.input(irq) {
            chip.set(ir, level);
            self.follow_slave();
        }
    }

    /// One edge on `irq` (0..=15): up and down again.
    pub fn pulse(&mut self, irq: u8) {
        self.wire(irq, true, false);
    }

    /// INTR: whether the CPU is asked for.
    pub fn output(&self) -> bool {
        self.master.pending().is_some()
    }

    /// The CPU's interrupt acknowledge: takes the request into service and gives its vector; the spurious vector
    /// (level 7 of the chip that lost its request) if there is none. A slave that lost its request leaves the
    /// master's cascade input in service, which is why the guest then owes the master an EOI.
    pub fn acknowledge(&mut self) -> u8 {
        match self.master.acknowledge() {
            None => self.master.vector(SPURIOUS),
            Some(ir) if self.master.cascades(ir) => {
                let ir = self.acknowledge_slave().unwrap_or(SPURIOUS);
                self.slave.vector(ir)
            }
            Some(ir) => self.master.vector(ir),
        }
    }

    /// The slave's INT drops at an acknowledge and rises anew if more is pending: a fresh edge for the master.
    fn acknowledge_slave(&mut self) -> Option<u8> {
        let ir = self.slave.acknowledge();
        self.master.set(CASCADE, false);
        self.follow_slave();
        ir
    }

    fn follow_slave(&mut self) {
        self.master.set(CASCADE, self.slave.pending().is_some());
    }

    fn input(&mut self, irq: u8) -> Option<(&mut Chip, u8)> {
        match irq {
            CASCADE => None,
            0..=7 => Some((&mut self.master, irq)),
            8..=15 => Some((&mut self.slave, irq - 8)),
            _ => None,
        }
    }

    fn poll(&mut self, slave: bool) -> u8 {
        let served = if slave {
            self.acknowledge_slave()
        } else {
            self.master.acknowledge()
        };
        served.map_or(0, |ir| 0x80 | ir)
    }
}

impl PortIo for PicPair {
    fn port_read(&mut self, _now: Ns, port: u16, width: Width) -> Access<u32> {
        if width != Width::Byte {
            return Access::Bad;
        }
        let slave = port & 0x80 != 0;
        let value = match port {
            0x20 | 0x21 | 0xa0 | 0xa1 => {
                let chip = if slave { &mut self.slave } else { &mut self.master };
                if chip.take_poll() {
                    self.poll(slave)
                } else {
                    chip.read(port & 1 != 0)
                }
            }
            0x4d0 => self.master.elcr(),
            0x4d1 => self.slave.elcr(),
            _ => return Access::Bad,
        };
        Access::Done(value.into())
    }

    fn port_write(&mut self, _now: Ns, port: u16, width: Width, value: u32) -> Access {
        if width != Width::Byte {
            return Access::Bad;
        }
        let value = value as u8;
        let [master_writable, slave_writable] = ELCR_WRITABLE;
        match port {
            0x20 | 0x21 => self.master.write(port & 1 != 0, value),
            0xa0 | 0xa1 => self.slave.write(port & 1 != 0, value),
            0x4d0 => self.master.set_elcr(value & master_writable),
            0x4d1 => self.slave.set_elcr(value & slave_writable),
            _ => return Access::Bad,
        }
        self.follow_slave();
        Access::Done(())
    }
}

impl Resettable for PicPair {
    fn reset(&mut self) {
        self.master.reset();
        self.slave.reset();
        self.follow_slave();
    }
}
