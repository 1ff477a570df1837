//! The bus master of one channel: eight ports, and the walk through a table of physical regions.
//!
//! It moves bytes only while the guest has started it, in the direction the guest has set, between regions of RAM and a
//! drive's buffer; the channel ([`super::cable`]) asks it to. A descriptor is read once, when its region is reached. What
//! is not memory is a bus error: nothing of the access happens, the error bit is set and the master stops. So a
//! descriptor aimed at a device's registers reaches none of them.
//!
//! Two rules of the data sheet bind the guest and are not relied on: a region that crosses 64 KiB goes on linearly, and a
//! table that goes on after 64 KiB, the most it may have, is a bus error, which ends the walk through an endless one.
//!
//! Source: Intel 82371SB data sheet 290550, registers BMICX, BMISX and BMIDTPX, and its bus master function;
//! SFF-8038i, "Programming interface for bus master IDE controller", revision 1.0.

use crate::bus::Width;
use crate::mem::{GuestMemory, MemoryError};
use bitflags::bitflags;

/// Ports of one channel.
pub(super) const PORTS: u16 = 8;

const COMMAND: u16 = 0;
const STATUS: u16 = 2;
const TABLE: u16 = 4;

/// Bytes a descriptor takes.
const DESCRIPTOR: u32 = 8;
/// Most descriptors of a table.
const MOST_DESCRIPTORS: u32 = (64 << 10) / DESCRIPTOR;
/// Second word of a descriptor: it is the last.
const END_OF_TABLE: u32 = 1 << 31;

bitflags! {
    /// BMICX.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Command: u8 {
        const START = 1 << 0;
        /// The master writes memory: the drive is read.
        const TO_MEMORY = 1 << 3;
    }

    /// BMISX. Bit 7 (simplex) is zero: both channels work at a time.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Status: u8 {
        const ACTIVE = 1 << 0;
        const ERROR = 1 << 1;
        const INTERRUPT = 1 << 2;
        /// Notes of the guest's firmware or driver, without effect.
        const DRIVES_CAPABLE = 0x60;
        const CLEARABLE = Self::ERROR.bits() | Self::INTERRUPT.bits();
    }
}

/// Where in its table a master that was started is.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// Where the next descriptor is.
    next: u64,
    fetched: u32,
    /// What is left of the region reached.
    base: u64,
    left: u32,
    last: bool,
}

/// One channel's bus master.
#[derive(Default)]
pub(super) struct BusMaster {
    command: Command,
    status: Status,
    table: u32,
    /// While active.
    walk: Option<Walk>,
    /// The PCI command register lets the function master the bus.
    pub(super) enabled: bool,
}

impl BusMaster {
    /// The guest reads; `offset` is below [`PORTS`].
    pub(super) fn read(&self, offset: u16, width: Width) -> u32 {
        let [t0, t1, t2, t3] = self.table.to_le_bytes();
        let ports = [self.command.bits(), 0, self.status.bits(), 0, t0, t1, t2, t3];
        let wanted = ports.iter().skip(offset.into()).take(width.bytes().min(4).into());
        wanted.rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    /// The guest writes; `offset` is below [`PORTS`].
    pub(super) fn write(&mut self, offset: u16, width: Width, value: u32) {
        for (at, value) in (offset..PORTS)
            .zip(value.to_le_bytes())
            .take(width.bytes().into())
        {
            match at {
                COMMAND => self.write_command(Command::from_bits_truncate(value)),
                STATUS => self.write_status(Status::from_bits_truncate(value)),
                TABLE.. => {
                    let shift = 8 * (at - TABLE);
                    self.table = (self.table & !(0xff << shift) | u32::from(value) << shift) & !3;
                }
                _ => {}
            }
        }
    }

    /// Starting reads the table from its beginning; stopping forgets where in it the master was.
    fn write_command(&mut self, mut command: Command) {
        let was = self.command;
        if self.walk.is_some() && command.contains(Command::START) {
            // The direction may not change while active.
            command.set(Command::TO_MEMORY, was.contains(Command::TO_MEMORY));
        }
        self.command = command;
        if !command.contains(Command::START) {
            self.end();
        } else if !was.contains(Command::START) {
            self.status |= Status::ACTIVE;
            self.walk = Some(Walk {
                next: self.table.into(),
                fetched: 0,
                base: 0,
                left: 0,
                last: false,
            });
        }
    }

    fn write_status(&mut self, value: Status) {
        self.status &= !(value & Status::CLEARABLE) & !Status::DRIVES_CAPABLE;
        self.status |= value & Status::DRIVES_CAPABLE;
    }

    fn end(&mut self) {
        self.walk = None;
        self.status -= Status::ACTIVE;
    }

    /// The channel's interrupt wire rose.
    pub(super) fn interrupt_rose(&mut self) {
        self.status |= Status::INTERRUPT;
    }

    /// Moves as much of `data` to memory as the table has room for; gives how much.
    pub(super) fn store(&mut self, memory: &GuestMemory, data: &[u8]) -> usize {
        self.transfer(memory, true, data.len(), |base, from, to| {
            memory.write(base, data.get(from..to).unwrap_or_default())
        })
    }

    /// Fills as much of `data` from memory as the table has; gives how much.
    pub(super) fn load(&mut self, memory: &GuestMemory, data: &mut [u8]) -> usize {
        self.transfer(memory, false, data.len(), |base, from, to| {
            memory.read(base, data.get_mut(from..to).unwrap_or_default())
        })
    }

    fn transfer(
        &mut self,
        memory: &GuestMemory,
        to_memory: bool,
        len: usize,
        mut copy: impl FnMut(u64, usize, usize) -> Result<(), MemoryError>,
    ) -> usize {
        if !self.enabled || self.command.contains(Command::TO_MEMORY) != to_memory {
            return 0;
        }
        let Some(mut walk) = self.walk.take() else {
            return 0;
        };
        let mut done = 0;
        while done < len && !walk.ended() {
            let moved = walk.reach(memory).and_then(|()| {
                let count = (walk.left as usize).min(len - done);
                copy(walk.base, done, done + count).map(|()| count)
            });
            let Ok(count) = moved else {
                self.status |= Status::ERROR;
                self.end();
                return done;
            };
            done += count;
            walk.pass(count);
        }
        if walk.ended() {
            self.end();
        } else {
            self.walk = Some(walk);
        }
        done
    }

    /// The machine's reset; what PCI allows is told again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Walk {
    /// Makes sure there is a region with something left.
    fn reach(&mut self, memory: &GuestMemory) -> Result<(), MemoryError> {
        if self.left > 0 {
            return Ok(());
        }
        if self.fetched == MOST_DESCRIPTORS {
            let (at, len) = (self.next, DESCRIPTOR.into());
            return Err(MemoryError::NotMemory { at, len });
        }
        let [base, count]: [u32; 2] = memory.read_obj(self.next)?;
        self.fetched += 1;
        self.next += u64::from(DESCRIPTOR);
        self.base = u64::from(base & !1);
        // Bit 0 does not exist, and zero stands for the most.
        self.left = (count & 0xfffe).wrapping_sub(1) % (1 << 16) + 1;
        self.last = count & END_OF_TABLE != 0;
        Ok(())
    }

    fn pass(&mut self, count: usize) {
        self.base += count as u64;
        self.left = self.left.saturating_sub(count as u32);
    }

    fn ended(&self) -> bool {
        self.last && self.left == 0
    }
}
