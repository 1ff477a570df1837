//! PCI: configuration mechanism 1, bus 0, and the machine's reset control register that lives among its ports.
//!
//! [`PciBus`] owns the configuration space of every function; the devices behind them stay the board's. The board plugs
//! functions in, and after each access to these ports asks [`PciBus::take_moved`] whose windows changed, to give up
//! and make claims in its port and address maps. It also tells [`PciBus::follow`] of interrupt wires that changed.
//!
//! An access must never reach a function beside the one addressed, nor leave the 256 bytes of its space.
//!
//! Sources: PCI Local Bus Specification 2.1, section 3.7.4; Intel 82441FX data sheet 290549; for the reset
//! control register Intel 82371SB data sheet 290550, "RC: Reset Control Register".

pub mod chipset;
pub mod config;
pub mod intx;
#[cfg(test)]
mod tests;

use crate::bus::{Access, Change, PortIo, Resettable, Signal, Signals, Width, Wires};
use crate::time::Ns;
use config::{ConfigSpace, Decode};
use intx::IsaRouter;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use thiserror::Error;

const CONFIG_ADDRESS: u16 = 0xcf8;
/// Reset control register: ACPI's reset register too.
pub const RESET_CONTROL: u16 = 0xcf9;
const CONFIG_DATA: u16 = 0xcfc;

/// CONFIG_ADDRESS: accesses to CONFIG_DATA are configuration cycles.
const ENABLE: u32 = 1 << 31;
/// CONFIG_ADDRESS: bits that exist. 30:24 are reserved, 1:0 are zero.
const ADDRESS_BITS: u32 = 0x80ff_fffc;

/// Reset control: a rise of this bit resets.
const RESET_CPU: u8 = 1 << 2;
/// Reset control: bits kept. Bit 1 chooses hard or soft; both reset the whole machine here.
const RESET_CONTROL_BITS: u8 = 0x06;

/// A function's place on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DevFn(u8);

impl DevFn {
    /// Device 0 to 31, function 0 to 7; higher bits are cut off.
    pub const fn new(device: u8, function: u8) -> Self {
        Self((device & 31) << 3 | function & 7)
    }

    /// Device, 0 to 31.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// Function, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }
}

/// A function cannot be plugged there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PlugError {
    /// Something is there.
    #[error("PCI device {:#04x} function {} is taken", .0.device(), .0.function())]
    Taken(DevFn),
    /// Guests look for functions 1 to 7 only where they found function 0.
    #[error("PCI device {:#04x} has no function 0, so a guest would not find function {}", .0.device(), .0.function())]
    Hidden(DevFn),
}

/// A function answers at other places now, or its right to master the bus changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub devfn: DevFn,
    /// All its windows as they are now; those it had before are void.
    pub decode: Decode,
}

/// Bus 0 and its ports.
pub struct PciBus {
    address: u32,
    reset_control: u8,
    functions: BTreeMap<DevFn, ConfigSpace>,
    moved: BTreeSet<DevFn>,
    router: IsaRouter,
    signals: Signals,
}

impl PciBus {
    /// Ports answered, all widths ([`crate::bus::Splitting::Native`]).
    pub const PORTS: RangeInclusive<u16> = 0xcf8..=0xcff;

    /// With the chipset's functions. `None` if `wires` has no source left.
    pub fn new(wires: &Wires, signals: Signals) -> Option<Self> {
        let mut bus = Self {
            address: 0,
            reset_control: 0,
            functions: BTreeMap::new(),
            moved: BTreeSet::new(),
            router: IsaRouter::new(wires)?,
            signals,
        };
        for (devfn, config) in [
            (chipset::HOST_BRIDGE, chipset::host_bridge()),
            (chipset::ISA_BRIDGE, chipset::isa_bridge()),
            (chipset::POWER_MANAGEMENT, chipset::power_management()),
        ] {
            bus.plug(devfn, config).ok()?;
        }
        Some(bus)
    }

    /// Adds a function. Its interrupt line register gets what firmware would write there.
    pub fn plug(&mut self, devfn: DevFn, config: ConfigSpace) -> Result<(), PlugError> {
        if self.functions.contains_key(&devfn) {
            return Err(PlugError::Taken(devfn));
        }
        if devfn.function() != 0 {
            self.functions
                .get_mut(&DevFn::new(devfn.device(), 0))
                .ok_or(PlugError::Hidden(devfn))?
                .multi_function();
        }
        let irq = config
            .pin()
            .and_then(|pin| intx::PIRQ_IRQS.get(usize::from(intx::pirq(devfn.device(), pin))));
        let config = match irq {
            Some(&irq) => config.interrupt_line(irq),
            None => config,
        };
        if config.decode().windows.iter().any(Option::is_some) {
            self.moved.insert(devfn);
        }
        self.functions.insert(devfn, config);
        Ok(())
    }

    /// A function's registers.
    pub fn function(&self, devfn: DevFn) -> Option<&ConfigSpace> {
        self.functions.get(&devfn)
    }

    /// The functions whose windows or mastering changed since the last call, as they stand now; for one plugged in since
    /// then, changed from nothing.
    pub fn take_moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
            .into_iter()
            .filter_map(|devfn| {
                let decode = self.functions.get(&devfn)?.decode();
                Some(Moved { devfn, decode })
            })
            .collect()
    }

    /// The board tells of every change of a wire; those of the PIRQs go on to the ISA wires they are routed to.
    pub fn follow(&self, change: Change) {
        if intx::PIRQ_GSIS.contains(&change.gsi) {
            self.route();
        }
    }

    fn route(&self) {
        if let Some(bridge) = self.functions.get(&chipset::ISA_BRIDGE) {
            self.router
                .follow(std::array::from_fn(|n| bridge.byte(chipset::PIRQRC + n as u8)));
        }
    }

    /// The function CONFIG_ADDRESS names, and the register's offset for an access to `port`. `None`: not a
    /// configuration cycle.
    fn target(&self, port: u16, width: Width) -> Option<(Option<DevFn>, u8)> {
        let within = u8::try_from(port.checked_sub(CONFIG_DATA)?).ok()?;
        if self.address & ENABLE == 0 || within.saturating_add(width.bytes()) > 4 {
            return None;
        }
        let [register, devfn, bus, _] = self.address.to_le_bytes();
        Some(((bus == 0).then_some(DevFn(devfn)), register | within))
    }

    fn write_config(&mut self, devfn: DevFn, offset: u8, width: Width, value: u32) {
        // A write to a function that is not there is a master abort: lost.
        let Some(config) = self.functions.get_mut(&devfn) else {
            return;
        };
        let before = config.decode();
        config.write(offset, width, value);
        if config.decode() != before {
            self.moved.insert(devfn);
        }
        if devfn == chipset::ISA_BRIDGE {
            self.route();
        }
    }

    fn write_reset_control(&mut self, value: u8) {
        if value & !self.reset_control & RESET_CPU != 0 {
            self.signals.raise(Signal::Reset);
        }
        self.reset_control = value & RESET_CONTROL_BITS;
    }
}

impl PortIo for PciBus {
    /// CONFIG_ADDRESS is a register for whole dwords only; narrower accesses there are ordinary I/O, of which the reset
    /// control register is one.
    fn port_read(&mut self, _now: Ns, port: u16, width: Width) -> Access<u32> {
        match (port, width) {
            (CONFIG_ADDRESS, Width::Dword) => return Access::Done(self.address),
            (RESET_CONTROL, Width::Byte) => return Access::Done(self.reset_control.into()),
            _ => {}
        }
        let Some((devfn, offset)) = self.target(port, width) else {
            return Access::Bad;
        };
        let config = devfn.and_then(|devfn| self.functions.get(&devfn));
        Access::Done(config.map_or(width.ones() as u32, |config| config.read(offset, width)))
    }

    fn port_write(&mut self, _now: Ns, port: u16, width: Width, value: u32) -> Access {
        match (port, width) {
            (CONFIG_ADDRESS, Width::Dword) => self.address = value & ADDRESS_BITS,
            (RESET_CONTROL, Width::Byte) => self.write_reset_control(value as u8),
            _ => match self.target(port, width) {
                Some((Some(devfn), offset)) => self.write_config(devfn, offset, width, value),
                Some((None, _)) => {}
                None => return Access::Bad,
            },
        }
        Access::Done(())
    }
}

impl Resettable for PciBus {
    fn reset(&mut self) {
        self.address = 0;
        self.reset_control = 0;
        for (&devfn, config) in &mut self.functions {
            let before = config.decode();
            config.reset();
            if config.decode() != before {
                self.moved.insert(devfn);
            }
        }
        self.route();
    }
}
