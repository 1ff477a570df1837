//! What a device tells the whole machine. The run loop drains the signals after every access.

use std::sync::{Arc, Mutex, PoisonError};

/// An event that is nobody's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Reset line pulled: i8042, port 0x92, reset control register, PCI.
    Reset,
    /// Soft off: ACPI S5.
    PowerOff,
    /// The A20 gate now stands so.
    A20(bool),
    /// A byte on the debug-exit port.
    DebugExit(u8),
    /// Non-maskable interrupt.
    Nmi,
}

/// The machine's mailbox; clones share it.
#[derive(Clone, Default)]
pub struct Signals(Arc<Mutex<Vec<Signal>>>);

impl Signals {
    /// Most signals kept between two drains; more are duplicates of a guest gone wild, and dropped.
    const MOST: usize = 16;

    /// Tells the machine.
    pub fn raise(&self, signal: Signal) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < Self::MOST {
            pending.push(signal);
        }
    }

    /// Takes all that was raised, in order.
    pub fn take(&self) -> Vec<Signal> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
