//! Exceptions and interrupts: through the real-mode vector table, the 32-bit and the 64-bit IDT, task gates; double and
//! triple faults; IRET back.

use super::cpu::{Cpu, Fault};

/// An event could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// A fault while delivering a double fault: the processor shuts down.
    TripleFault,
    /// The stack or a table lies in a device's registers, which no engine supports.
    Device(String),
}

impl Cpu {
    /// Delivers an exception raised by the instruction at [`Cpu::rip`], and what follows from it (double, triple fault).
    pub fn deliver_fault(&mut self, _fault: Fault) -> Result<(), Undelivered> {
        Err(Undelivered::TripleFault)
    }

    /// Delivers an external interrupt between two instructions.
    pub fn deliver_interrupt(&mut self, _vector: u8) -> Result<(), Undelivered> {
        Err(Undelivered::TripleFault)
    }

    /// Delivers an NMI between two instructions; further ones wait for IRET.
    pub fn deliver_nmi(&mut self) -> Result<(), Undelivered> {
        Err(Undelivered::TripleFault)
    }
}
