//! Two devices for people who debug guests: the POST code port among the DMA page registers, and the debug-exit port.
//!
//! Port 0x80 is where firmware leaves its progress and where kernels write to pass a microsecond; the ports after it
//! are the page registers of a DMA controller that this machine does without, which software expects to keep what it
//! wrote. The debug-exit port ends the machine with a number, for test guests. Neither has any effect on the guest.

use crate::bus::{Access, PortIo, Resettable, Signal, Signals, Width};
use crate::time::Ns;
use std::ops::RangeInclusive;

/// Ports 0x80..=0x8f: sixteen latches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostPort {
    latches: [u8; 16],
}

impl PostPort {
    /// Ports answered, 8 bits wide ([`crate::bus::Splitting::Bytes`]).
    pub const PORTS: [RangeInclusive<u16>; 1] = [0x80..=0x8f];

    /// The last POST code.
    pub fn code(&self) -> u8 {
        self.latches[0]
    }

    fn latch(&mut self, port: u16, width: Width) -> Option<&mut u8> {
        if width != Width::Byte {
            return None;
        }
        self.latches.get_mut(usize::from(port.checked_sub(0x80)?))
    }
}

impl PortIo for PostPort {
    fn port_read(&mut self, _now: Ns, port: u16, width: Width) -> Access<u32> {
        match self.latch(port, width) {
            Some(latch) => Access::Done(u32::from(*latch)),
            None => Access::Bad,
        }
    }

    fn port_write(&mut self, _now: Ns, port: u16, width: Width, value: u32) -> Access {
        match self.latch(port, width) {
            Some(latch) => {
                *latch = value as u8;
                Access::Done(())
            }
            None => Access::Bad,
        }
    }
}

impl Resettable for PostPort {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A port whose writes end the machine with the low byte of what was written. It has no state.
#[derive(Clone)]
pub struct DebugExit {
    port: u16,
    signals: Signals,
}

impl DebugExit {
    /// At `port`; the board's configuration says which.
    pub fn new(port: u16, signals: Signals) -> Self {
        Self { port, signals }
    }

    /// Ports answered, at any width ([`crate::bus::Splitting::Native`]): four, as a double word covers them, fewer
    /// at the end of the port space. Only accesses to the first do anything.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.port..=self.port.saturating_add(3)
    }

    fn here(&self, port: u16, width: Width) -> bool {
        port == self.port && width != Width::Qword
    }
}

impl PortIo for DebugExit {
    fn port_read(&mut self, _now: Ns, port: u16, width: Width) -> Access<u32> {
        if self.here(port, width) {
            Access::Done(0)
        } else {
            Access::Bad
        }
    }

    fn port_write(&mut self, _now: Ns, port: u16, width: Width, value: u32) -> Access {
        if !self.here(port, width) {
            return Access::Bad;
        }
        self.signals.raise(Signal::DebugExit(value as u8));
        Access::Done(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_page_register_keeps_its_byte_and_the_first_is_the_post_code() {
        let mut post = PostPort::default();
        for port in 0x80..=0x8f {
            let value = (u32::from(port) * 7) & 0xff;
            assert_eq!(post.port_write(Ns(0), port, Width::Byte, value), Access::Done(()));
        }
        for port in 0x80..=0x8f {
            let value = (u32::from(port) * 7) & 0xff;
            assert_eq!(post.port_read(Ns(0), port, Width::Byte), Access::Done(value));
        }
        assert_eq!(post.code(), 0x80);
        post.reset();
        assert_eq!(post, PostPort::default());
    }

    #[test]
    fn debug_exit_signals_the_low_byte_at_every_width() {
        let signals = Signals::default();
        let mut exit = DebugExit::new(0xf4, signals.clone());
        assert_eq!(exit.ports(), 0xf4..=0xf7);
        for (width, value) in [
            (Width::Byte, 0x2a),
            (Width::Word, 0x12_2a),
            (Width::Dword, 0xdead_be2a),
        ] {
            assert_eq!(exit.port_write(Ns(0), 0xf4, width, value), Access::Done(()));
            assert_eq!(signals.take(), [Signal::DebugExit(0x2a)]);
            assert_eq!(exit.port_read(Ns(0), 0xf4, width), Access::Done(0));
        }
        for port in [0xf3, 0xf5, 0xf6, 0xf7] {
            assert_eq!(exit.port_write(Ns(0), port, Width::Byte, 1), Access::Bad);
            assert_eq!(exit.port_read(Ns(0), port, Width::Byte), Access::Bad);
        }
        assert_eq!(signals.take(), []);
        assert_eq!(DebugExit::new(0xffff, signals).ports(), 0xffff..=0xffff);
    }

    proptest! {
        #[test]
        fn only_byte_accesses_inside_the_range_reach_a_latch(port: u16, value: u32, wide: bool) {
            let mut post = PostPort::default();
            let width = if wide { Width::Word } else { Width::Byte };
            let ours = !wide && (0x80..=0x8f).contains(&port);
            let written = post.port_write(Ns(0), port, width, value);
            prop_assert_eq!(written, if ours { Access::Done(()) } else { Access::Bad });
            let read = post.port_read(Ns(0), port, width);
            prop_assert_eq!(read, if ours { Access::Done(value & 0xff) } else { Access::Bad });
        }
    }
}
