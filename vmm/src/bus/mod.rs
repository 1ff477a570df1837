//! The bus: how an access of the vCPU reaches a device, and how a device reaches the interrupt controllers.
//!
//! A device is a register machine (pure: numbers and `now` in, numbers out) plus the small traits below that it
//! needs; adding an ability to one never touches another. An access ends in one of two words, [`Access`]. An
//! interrupt is a [`Line`] the device owns, not a number it knows. What concerns the whole machine (reset, power) is
//! a [`Signal`].
//!
//! Called by the run loop only, from the one thread that owns the machine. Nothing here blocks.

mod dispatch;
mod signal;
mod wires;

pub use dispatch::{Claim, MmioMap, Overlap, PortMap, Splitting};
pub use signal::{Signal, Signals};
pub use wires::{Change, GSIS, Line, Wires};

use crate::time::Ns;

/// Width of a port or register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits; memory-mapped accesses only.
    Qword = 8,
}

impl Width {
    /// Bytes.
    pub const fn bytes(self) -> u8 {
        self as u8
    }

    /// All bits of this width set: what an unclaimed read gives.
    pub const fn ones(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
            Self::Qword => u64::MAX,
        }
    }

    /// From a number of bytes.
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        Some(match bytes {
            1 => Self::Byte,
            2 => Self::Word,
            4 => Self::Dword,
            8 => Self::Qword,
            _ => return None,
        })
    }
}

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Access<T = ()> {
    /// Done, with the value of a read.
    Done(T),
    /// No register there, or not of this width: reads give all ones, writes are lost; the bus counts it.
    Bad,
}

impl<T> Access<T> {
    /// The same end with another value.
    pub fn map_value<U>(self, map: impl FnOnce(T) -> U) -> Access<U> {
        match self {
            Self::Done(value) => Access::Done(map(value)),
            Self::Bad => Access::Bad,
        }
    }
}

/// Registers in port space. Ports are absolute numbers inside the device's [`Claim`], or, for a device behind a PCI base
/// address register, offsets from its start; values are in the low bits.
pub trait PortIo {
    /// Reads a register.
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32>;
    /// Writes a register.
    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access;
}

/// Registers in memory space. Offsets count from the start of the device's region.
pub trait Mmio {
    /// Reads a register.
    fn mmio_read(&mut self, now: Ns, offset: u64, width: Width) -> Access<u64>;
    /// Writes a register.
    fn mmio_write(&mut self, now: Ns, offset: u64, width: Width, value: u64) -> Access;
}

/// A device that does something by itself when time passes.
pub trait Timed {
    /// When it next wants [`advance`](Self::advance) called; `None` never.
    fn deadline(&self) -> Option<Ns>;
    /// Brings the device to `now`. However late it is called, it does bounded work, and periods missed are not
    /// delivered in a burst.
    fn advance(&mut self, now: Ns);
}

/// A device with a channel to vmapp.
pub trait Channelled {
    /// Takes what has arrived; called when the channel's bit is set in the IRQ bitmap. Bounded work.
    fn pull(&mut self, now: Ns);
}

/// Back to the power-on state.
pub trait Resettable {
    /// The machine's reset line.
    fn reset(&mut self);
}
