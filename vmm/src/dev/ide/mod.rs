//! The IDE function of a PIIX3: two channels at their legacy ports, up to four ATA disks, and a bus master for each
//! channel.
//!
//! ```text
//!  Ide          ports to channels, PCI function
//!   └ Cable     registers of two devices, interrupt wire, the one command under way
//!      ├ Disk        what the guest has set; `execute`: what a command does when it is given
//!      │  └ Requests     the ring to vmapp: ids, answers, credit
//!      ├ Transfer    sectors on their way, in either direction, and flushes
//!      └ BusMaster   descriptor tables and guest memory
//! ```
//!
//! Called by the run loop only. A write to a command register publishes requests to vmapp and sets BSY; what vmapp answers
//! is brought to the guest when the disk's channel is [pulled](Ide::pull), and ends in an interrupt. No access waits
//! for the host, and a vmapp that never answers is a disk that stays busy until the guest's driver resets it.
//!
//! What must never happen: data of a request that is not the one asked for, more of them than asked for, a flush
//! reported before vmapp reported it, and work without bound at one access.

mod bus_master;
mod cable;
mod command;
mod disk;
mod execute;
mod geometry;
mod identify;
mod requests;
mod status;
mod taskfile;
#[cfg(test)]
mod tests;
mod transfer;

pub use disk::Drive;

use crate::bus::{Access, Line, PortIo, Resettable, Timed, Width};
use crate::dev::chipset::pci::chipset;
use crate::dev::chipset::pci::config::ConfigSpace;
use crate::mem::GuestMemory;
use crate::time::Ns;
use cable::Cable;
use disk::Disk;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The controller.
pub struct Ide {
    cables: [Cable; 2],
}

/// What a port is, and of which channel.
enum Register {
    Command { cable: usize, offset: u16 },
    Control { cable: usize },
}

impl Ide {
    /// Ports answered, all widths ([`crate::bus::Splitting::Native`]): command and control block of the primary channel,
    /// then of the secondary. Fixed; the bus master's are where base address register 4 says.
    pub const PORTS: [RangeInclusive<u16>; 4] = [0x1f0..=0x1f7, 0x3f6..=0x3f6, 0x170..=0x177, 0x376..=0x376];
    /// The board's wires: IRQ 14 and 15.
    pub const GSIS: [u8; 2] = [14, 15];
    /// Base address register of the bus masters.
    pub const BAR: usize = 4;
    /// Ports behind it.
    pub const BAR_PORTS: u16 = 2 * bus_master::PORTS;

    /// After power-on. Drives: primary master and slave, secondary master and slave.
    pub fn new(drives: [Option<Drive>; 4], irqs: [Line; 2], memory: Arc<GuestMemory>) -> Self {
        let [first, second, third, fourth] = drives.map(|drive| drive.map(Disk::new));
        let [primary, secondary] = irqs;
        Self {
            cables: [
                Cable::new([first, second], primary, Arc::clone(&memory)),
                Cable::new([third, fourth], secondary, memory),
            ],
        }
    }

    /// The PCI function, to be plugged at [`chipset::IDE`].
    pub fn config_space() -> ConfigSpace {
        chipset::ide()
    }

    /// The PCI command register's master bit changed. The reset line clears it here, too.
    pub fn set_bus_master(&mut self, enabled: bool) {
        for cable in &mut self.cables {
            cable.master.enabled = enabled;
            cable.resume_soon();
        }
    }

    /// Reads a bus master register; `offset` counts from the start of [`BAR`](Self::BAR)'s ports.
    pub fn bus_master_read(&mut self, offset: u16, width: Width) -> Access<u32> {
        match self.master_at(offset, width) {
            Some((cable, offset)) => Access::Done(cable.master.read(offset, width)),
            None => Access::Bad,
        }
    }

    /// Writes a bus master register.
    pub fn bus_master_write(&mut self, now: Ns, offset: u16, width: Width, value: u32) -> Access {
        let Some((cable, offset)) = self.master_at(offset, width) else {
            return Access::Bad;
        };
        cable.master.write(offset, width, value);
        cable.run(now);
        Access::Done(())
    }

    /// Whether a legacy port moves data or commands; the others are latches.
    pub fn is_data_port(port: u16) -> bool {
        matches!(port, 0x1f0 | 0x1f7 | 0x170 | 0x177)
    }

    /// A disk's channel has something; a number that is no disk's is ignored.
    pub fn pull(&mut self, channel: u8, now: Ns) {
        for cable in &mut self.cables {
            if let Some(unit) = cable.disk_of(channel) {
                cable.pull(now, unit);
            }
        }
    }

    /// Whether vmapp has requests it has not done, abandoned ones among them: a machine that powers off waits for them.
    pub fn any_pending(&mut self) -> bool {
        let cables = self.cables.iter_mut();
        cables.fold(false, |pending, cable| cable.any_pending() | pending)
    }

    fn master_at(&mut self, offset: u16, width: Width) -> Option<(&mut Cable, u16)> {
        let cable = self.cables.get_mut(usize::from(offset / bus_master::PORTS))?;
        let offset = offset % bus_master::PORTS;
        (offset + u16::from(width.bytes()) <= bus_master::PORTS).then_some((cable, offset))
    }

    fn register(port: u16) -> Option<Register> {
        let at = Self::PORTS.iter().position(|range| range.contains(&port))?;
        let first = *Self::PORTS.get(at)?.start();
        let cable = at / 2;
        Some(match at % 2 {
            0 => Register::Command {
                cable,
                offset: port - first,
            },
            _ => Register::Control { cable },
        })
    }

    fn read_byte(&mut self, port: u16) -> Option<u8> {
        Some(match Self::register(port)? {
            Register::Command { cable, offset } => self.cables.get_mut(cable)?.read(offset),
            Register::Control { cable } => self.cables.get(cable)?.status(),
        })
    }

    fn write_byte(&mut self, now: Ns, port: u16, value: u8) -> Option<()> {
        match Self::register(port)? {
            Register::Command { cable, offset } => self.cables.get_mut(cable)?.write(now, offset, value),
            Register::Control { cable } => self.cables.get_mut(cable)?.write_control(value),
        }
        Some(())
    }

    /// The channel whose Data register is at `port`.
    fn data_at(&mut self, port: u16) -> Option<&mut Cable> {
        match Self::register(port)? {
            Register::Command {
                cable,
                offset: cable::DATA,
            } => self.cables.get_mut(cable),
            _ => None,
        }
    }
}

/// Wide accesses to anything but the Data register are those of an ISA bus: byte by byte, the low port first.
impl PortIo for Ide {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        if let Some(cable) = self.data_at(port) {
            return Access::Done(cable.read_data(now, width));
        }
        let mut value = 0;
        for i in 0..width.bytes().min(4) {
            let Some(byte) = self.read_byte(port.wrapping_add(i.into())) else {
                return Access::Bad;
            };
            value |= u32::from(byte) << (8 * i);
        }
        Access::Done(value)
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        if let Some(cable) = self.data_at(port) {
            cable.write_data(now, width, value);
            return Access::Done(());
        }
        for (i, value) in (0..width.bytes().into()).zip(value.to_le_bytes()) {
            if self.write_byte(now, port.wrapping_add(i), value).is_none() {
                return Access::Bad;
            }
        }
        Access::Done(())
    }
}

impl Timed for Ide {
    fn deadline(&self) -> Option<Ns> {
        self.cables.iter().filter_map(Cable::resume).min()
    }

    fn advance(&mut self, now: Ns) {
        for cable in &mut self.cables {
            if cable.resume().is_some_and(|at| at <= now) {
                cable.run(now);
            }
        }
    }
}

impl Resettable for Ide {
    /// Requests vmapp has go on; their answers will be dropped.
    fn reset(&mut self) {
        for cable in &mut self.cables {
            cable.reset();
        }
    }
}
