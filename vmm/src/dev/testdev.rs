//! QEMU's test device for PCs (hw/misc/pc-testdev.c there), as kvm-unit-tests expect it: a latch, interrupt lines that
//! software drives, and memory that is reached as a device's registers are. Only for test guests, when asked for.
//!
//! | where | what |
//! |---|---|
//! | ports E0-E3 | one 32-bit latch, at any width |
//! | ports E4-E7 | takes a page out of the host's tables there; nothing here, where no guest can tell |
//! | ports 2000-2017 | a write drives global interrupt 0 to 23: not 0 is high |
//! | FF000000-FF00FFFF | 64 KiB, at any width |

use crate::bus::{Access, Line, PortIo, Width, Wires};
use crate::time::Ns;
use std::ops::RangeInclusive;

/// The device.
pub struct TestDevice {
    latch: u32,
    /// By global interrupt.
    lines: Vec<Line>,
    memory: Vec<u8>,
}

const LATCH: u16 = 0xe0;
const FLUSH: u16 = 0xe4;
const LINES: u16 = 0x2000;

impl TestDevice {
    /// Ports answered, at any width ([`crate::bus::Splitting::Native`]).
    pub const PORTS: [RangeInclusive<u16>; 2] = [LATCH..=FLUSH + 3, LINES..=LINES + 23];
    /// Where its memory begins.
    pub const MEMORY: u64 = 0xff00_0000;
    /// Bytes of it.
    pub const MEMORY_BYTES: u64 = 0x1_0000;

    /// On these wires; `None` if one has no room.
    pub fn new(wires: &Wires) -> Option<Self> {
        Some(Self {
            latch: 0,
            lines: (0..24).map(|gsi| wires.line(gsi)).collect::<Option<_>>()?,
            memory: vec![0; Self::MEMORY_BYTES as usize],
        })
    }

    /// Reads its memory, `offset` bytes behind [`Self::MEMORY`].
    pub fn memory_read(&self, offset: u64, width: Width) -> Access<u64> {
        let at = offset as usize;
        match at
            .checked_add(width.bytes() as usize)
            .and_then(|end| self.memory.get(at..end))
        {
            Some(bytes) => Access::Done(
                bytes
                    .iter()
                    .rev()
                    .fold(0, |value, &byte| value << 8 | u64::from(byte)),
            ),
            None => Access::Bad,
        }
    }

    /// Writes its memory.
    pub fn memory_write(&mut self, offset: u64, width: Width, value: u64) -> Access {
        let at = offset as usize;
        let end = at.checked_add(width.bytes() as usize);
        match end.and_then(|end| self.memory.get_mut(at..end)) {
            Some(bytes) => {
                for (byte, new) in bytes.iter_mut().zip(value.to_le_bytes()) {
                    *byte = new;
                }
                Access::Done(())
            }
            None => Access::Bad,
        }
    }
}

impl PortIo for TestDevice {
    fn port_read(&mut self, _now: Ns, port: u16, width: Width) -> Access<u32> {
        match port {
            LATCH..FLUSH => {
                let shifted = self.latch >> (8 * u32::from(port - LATCH));
                Access::Done(shifted & width.ones() as u32)
            }
            _ => Access::Bad,
        }
    }

    fn port_write(&mut self, _now: Ns, port: u16, width: Width, value: u32) -> Access {
        match port {
            LATCH..FLUSH => {
                let shift = 8 * u32::from(port - LATCH);
                let mask = (width.ones() as u32) << shift;
                self.latch = self.latch & !mask | value << shift & mask;
            }
            FLUSH..LINES => {}
            _ => match self.lines.get(usize::from(port.wrapping_sub(LINES))) {
                Some(line) => line.set(value != 0),
                None => return Access::Bad,
            },
        }
        Access::Done(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latch_keeps_what_was_written_at_every_width() {
        let mut device = TestDevice::new(&Wires::default()).unwrap();
        for (port, width, value) in [(0xe0, Width::Dword, 0x1234_5678), (0xe1, Width::Byte, 0x9a)] {
            assert_eq!(device.port_write(Ns(0), port, width, value), Access::Done(()));
        }
        for (port, width, value) in [
            (0xe0, Width::Dword, 0x1234_9a78),
            (0xe0, Width::Word, 0x9a78),
            (0xe1, Width::Byte, 0x9a),
            (0xe2, Width::Word, 0x1234),
        ] {
            assert_eq!(
                device.port_read(Ns(0), port, width),
                Access::Done(value),
                "{port:#x}"
            );
        }
        assert_eq!(
            device.port_write(Ns(0), 0xe4, Width::Dword, 0x1000),
            Access::Done(())
        );
        assert_eq!(device.port_read(Ns(0), 0xe4, Width::Dword), Access::Bad);
    }

    #[test]
    fn a_write_drives_the_wire_of_its_number() {
        let wires = Wires::default();
        let mut device = TestDevice::new(&wires).unwrap();
        for (value, level) in [(1, true), (0, false), (3, true)] {
            assert_eq!(
                device.port_write(Ns(0), 0x2000 + 23, Width::Byte, value),
                Access::Done(())
            );
            assert_eq!(wires.level(23), level);
        }
        assert_eq!(device.port_write(Ns(0), 0x2018, Width::Byte, 1), Access::Bad);
    }

    #[test]
    fn its_memory_ends_where_it_ends() {
        let mut device = TestDevice::new(&Wires::default()).unwrap();
        assert_eq!(
            device.memory_write(0xfff8, Width::Qword, 0x0102_0304_0506_0708),
            Access::Done(())
        );
        assert_eq!(
            device.memory_read(0xfffc, Width::Dword),
            Access::Done(0x0102_0304)
        );
        assert_eq!(device.memory_read(0xfffd, Width::Dword), Access::Bad);
        assert_eq!(device.memory_write(u64::MAX, Width::Byte, 1), Access::Bad);
    }
}
