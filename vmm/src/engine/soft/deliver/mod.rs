//! Exceptions and interrupts: what happens when one cannot be delivered (double and triple fault), and the way in.
//!
//! | module | what it owns |
//! |---|---|
//! | `gate` | vector to handler: interrupt table, interrupt, trap and task gates, stack switch, frame |
//! | `iret` | the way back |
//!
//! The engine calls [`Cpu::deliver_fault`] and friends between instructions; INT n and its like go through
//! [`Cpu::software_interrupt`]. A delivery that fails leaves the state as it was, and its fault takes the event's place.

mod gate;
mod iret;
#[cfg(test)]
mod tests;

pub use gate::Software;

use super::cpu::{Cpu, Event, Fault, Leave, Step, vector};
use super::debug::{DR7, DR7_GD};
use super::flags::RF;
use gate::Source;

/// An event could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// A fault while delivering a double fault: the processor shuts down.
    TripleFault,
    /// The stack or a table lies in a device's registers, which no engine supports.
    Device(String),
}

/// Faults in a row that one event may cause; what is left then waits for the engine's next round, so that a guest whose
/// handlers fault for ever (an alignment check on the alignment check's own stack) does not hold the engine.
const MOST_IN_A_ROW: usize = 8;

/// How exceptions combine (Intel SDM volume 3, table 6-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

/// What a second exception makes of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combined {
    /// The second is delivered instead.
    Serial,
    Double,
    Triple,
}

fn class(vector: u8) -> Class {
    match vector {
        vector::DE | vector::TS | vector::NP | vector::SS | vector::GP => Class::Contributory,
        vector::PF => Class::PageFault,
        vector::DF => Class::DoubleFault,
        _ => Class::Benign,
    }
}

fn combine(first: Class, second: Class) -> Combined {
    use Class::{Benign, Contributory, DoubleFault, PageFault};
    match (first, second) {
        (Contributory, Contributory) | (PageFault, Contributory | PageFault) => Combined::Double,
        (DoubleFault, Contributory | PageFault) => Combined::Triple,
        (Benign | Contributory | PageFault | DoubleFault, _) => Combined::Serial,
    }
}

/// Exceptions whose error code has an EXT bit: set when an event from outside the program was being delivered.
fn has_external_bit(vector: u8) -> bool {
    matches!(vector, vector::TS | vector::NP | vector::SS | vector::GP)
}

impl Cpu {
    /// Delivers an exception raised at [`Cpu::rip`], and what follows from it (double, triple fault).
    ///
    /// A fault is the end of the debug traps that waited for its instruction, MOV SS's among them: silicon loses them.
    pub fn deliver_fault(&mut self, fault: Fault) -> Result<(), Undelivered> {
        self.attention = true;
        // The single-step trap of HLT.
        self.halted = false;
        if !fault.trap {
            self.debug_hits = 0;
        }
        self.deliver_from(fault, class(fault.vector))
    }

    /// Delivers an external interrupt between two instructions.
    pub fn deliver_interrupt(&mut self, vector: u8) -> Result<(), Undelivered> {
        self.deliver_outside(vector, false)
    }

    /// Delivers an NMI between two instructions; further ones wait for IRET.
    pub fn deliver_nmi(&mut self) -> Result<(), Undelivered> {
        self.deliver_outside(vector::NMI, true)
    }

    /// Delivers what waits in [`Cpu::pending`]; true: something did.
    pub fn deliver_pending(&mut self) -> Result<bool, Undelivered> {
        match self.pending.take() {
            None => return Ok(false),
            Some(Event::Fault(fault)) => self.deliver_fault(fault)?,
            Some(Event::Interrupt(vector)) => self.deliver_interrupt(vector)?,
            Some(Event::Nmi) => self.deliver_nmi()?,
        }
        Ok(true)
    }

    fn deliver_outside(&mut self, vector: u8, nmi: bool) -> Result<(), Undelivered> {
        self.attention = true;
        self.halted = false;
        let delivered = self.attempt(vector, None, Source::External, false);
        self.nmi_masked |= nmi;
        match delivered {
            Ok(()) => Ok(()),
            Err(leave) => {
                let fault = self.fault_of_delivery(leave)?;
                self.deliver_from(fault, class(fault.vector))
            }
        }
    }

    /// Delivers `fault`; `now` is the class of what is being delivered.
    fn deliver_from(&mut self, mut fault: Fault, mut now: Class) -> Result<(), Undelivered> {
        for _ in 0..MOST_IN_A_ROW {
            if fault.vector == vector::PF {
                self.cr2 = fault.address;
            }
            let set_rf = !fault.trap && fault.vector != vector::DF;
            let Err(leave) = self.attempt(fault.vector, fault.code, Source::Exception, set_rf) else {
                if fault.vector == vector::DB {
                    self.debug[DR7] &= !DR7_GD;
                }
                return Ok(());
            };
            let second = self.fault_of_delivery(leave)?;
            match combine(now, class(second.vector)) {
                Combined::Triple => return Err(Undelivered::TripleFault),
                Combined::Double => {
                    if second.vector == vector::PF {
                        self.cr2 = second.address;
                    }
                    fault = Fault::new(vector::DF, Some(0));
                }
                Combined::Serial => fault = second,
            }
            now = class(fault.vector);
        }
        self.pending = Some(Event::Fault(fault));
        Ok(())
    }

    fn attempt(&mut self, vector: u8, code: Option<u32>, source: Source, set_rf: bool) -> Step {
        self.transfer(|cpu| {
            if set_rf {
                cpu.flags.others |= RF;
            }
            let here = cpu.rip;
            cpu.enter_handler(vector, code, source, here)
        })
    }

    /// The exception that kept an event from being delivered.
    fn fault_of_delivery(&mut self, leave: Leave) -> Result<Fault, Undelivered> {
        if leave == Leave::Exit {
            let what = format!("{:?} while an exception was being delivered", self.exit.take());
            self.replay.clear();
            return Err(Undelivered::Device(what));
        }
        let mut fault = self.fault.take().unwrap_or(Fault::new(vector::GP, Some(0)));
        if has_external_bit(fault.vector) {
            fault.code = fault.code.map(|code| code | 1);
        }
        Ok(fault)
    }
}
