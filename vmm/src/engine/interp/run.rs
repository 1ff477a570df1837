//! The engine: trace after trace, and what happens between two of them.
//!
//! The hot loop is [`Interp::spin`]: find a trace, run its operations, look whether anything wants attention. What is not
//! looked at after every trace (kick, IRQ bitmap, the clock) is looked at after every [`POLL_EVERY`]th: about a microsecond.
//!
//! An instruction that asked the chipset is run again, alone, when the answer is there ([`Interp::step`]); nothing can
//! be injected in between ([`View::interruptible`] says so).

use super::trace::{TraceCache, build};
use crate::engine::soft::cpu::{Cpu, Fault, Leave, vector};
use crate::engine::soft::deliver::Undelivered;
use crate::engine::soft::flags;
use crate::engine::{Entry, Exit, Inject, Reply, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed};

/// Traces between two looks at the outside world.
const POLL_EVERY: u32 = 128;

/// What the outside world can want.
pub trait Outside {
    /// Whether a channel has something for the vmm: one plain load.
    fn work(&self) -> bool;
    /// Whether the alarm is due.
    fn due(&self) -> bool;
}

/// The interpreter.
pub struct Interp<O> {
    /// The vCPU.
    pub cpu: Cpu,
    cache: TraceCache,
    outside: O,
    kicked: Arc<AtomicBool>,
    want_window: bool,
    /// The instruction at rip asked the chipset and was answered.
    answered: bool,
    /// Instructions run, roughly: whole traces are counted when they end.
    instructions: u64,
}

impl<O: Outside> Interp<O> {
    /// An engine around a vCPU.
    pub fn new(cpu: Cpu, outside: O, kicked: Arc<AtomicBool>) -> Self {
        Self {
            cpu,
            cache: TraceCache::default(),
            outside,
            kicked,
            want_window: false,
            answered: false,
            instructions: 0,
        }
    }

    /// What the run loop needs to know.
    pub fn view(&self) -> View {
        let interrupts_on = self.cpu.flags.others & flags::IF != 0;
        View {
            interruptible: interrupts_on && !self.cpu.shadow && !self.answered,
            interrupts_on,
            nmi_ready: !self.cpu.nmi_masked && !self.cpu.shadow && !self.answered,
            cr8: self.cpu.cr8,
        }
    }

    /// Instructions run so far.
    pub fn instructions(&self) -> u64 {
        self.instructions
    }

    /// Drops everything known of code in a physical page that a device wrote.
    pub fn code_changed(&mut self, phys: u64) {
        self.cache.drop_page(&mut self.cpu, phys);
    }

    /// Runs until the next exit.
    pub fn run(&mut self, entry: Entry) -> Exit {
        match entry.reply {
            Reply::Value(value) => self.cpu.replay.answer(value),
            Reply::None if self.answered => self.cpu.replay.answer(0),
            Reply::None => {}
            Reply::Fault => {
                self.answered = false;
                self.cpu.replay.clear();
                let fault = Fault {
                    vector: vector::GP,
                    code: Some(0),
                    address: 0,
                    trap: false,
                    noncanonical: false,
                };
                if let Err(exit) = self.deliver(fault) {
                    return exit;
                }
            }
        }
        self.cpu.cr8 = entry.cr8;
        self.want_window = entry.want_window;
        let injected = match entry.inject {
            None => Ok(()),
            Some(Inject::Nmi) => self.cpu.deliver_nmi(),
            Some(Inject::Interrupt(vector)) => self.cpu.deliver_interrupt(vector),
        };
        if let Err(why) = injected {
            return undelivered(why);
        }
        if entry.inject.is_some() {
            self.cpu.halted = false;
        }
        match self.spin() {
            Ok(never) => match never {},
            Err(exit) => exit,
        }
    }

    /// The hot loop. Only ever ends with an exit.
    fn spin(&mut self) -> Result<std::convert::Infallible, Exit> {
        // An instruction waits for its answer, or the entry changed what is to be looked at.
        self.cpu.attention = true;
        let mut countdown = POLL_EVERY;
        loop {
            if self.cpu.attention {
                self.attend()?;
            }
            countdown -= 1;
            if countdown == 0 {
                countdown = POLL_EVERY;
                self.poll()?;
            }
            let id = match self.cache.find(&mut self.cpu) {
                Ok(id) => id,
                Err(leave) => {
                    self.left(leave, 0, false)?;
                    continue;
                }
            };
            let Some(trace) = self.cache.get(id) else { continue };
            self.cpu.trace_page = trace.phys;
            let mut done = 0;
            for op in &trace.ops {
                done += 1;
                match (op.run)(&mut self.cpu, op) {
                    Ok(()) => {}
                    Err(Leave::Jump) => break,
                    Err(leave) => {
                        let (offset, stack) =
                            (op.offset, usize::from(op.segment) == crate::engine::state::SS);
                        self.left(leave, offset, stack)?;
                        break;
                    }
                }
            }
            self.instructions += done;
        }
    }

    /// An instruction `offset` bytes behind rip did not end by itself.
    #[cold]
    fn left(&mut self, leave: Leave, offset: u8, stack: bool) -> Result<(), Exit> {
        self.cpu.rip = self.cpu.cut_ip(self.cpu.rip.wrapping_add(offset.into()));
        match leave {
            Leave::Jump => Ok(()),
            Leave::Fault => {
                self.cpu.replay.clear();
                self.answered = false;
                let Some(mut fault) = self.cpu.fault.take() else {
                    return Err(Exit::Failed("an instruction faulted without saying how".into()));
                };
                if fault.noncanonical && stack {
                    fault.vector = vector::SS;
                }
                self.deliver(fault)
            }
            Leave::Exit => {
                self.answered = true;
                self.cpu.replay.rewind();
                Err(self
                    .cpu
                    .exit
                    .take()
                    .unwrap_or_else(|| Exit::Failed("an exit without a question".into())))
            }
            Leave::Restart => {
                self.cpu.alone = true;
                let result = self.step();
                self.cpu.alone = false;
                result
            }
        }
    }

    fn deliver(&mut self, fault: Fault) -> Result<(), Exit> {
        self.cpu.attention = true;
        self.cpu.deliver_fault(fault).map_err(undelivered)
    }

    /// Runs the one instruction at rip, from a trace of its own that is not kept.
    fn step(&mut self) -> Result<(), Exit> {
        let linear = self.cpu.code_address(self.cpu.rip);
        let built = match self.cpu.fetch_address(linear) {
            Ok(phys) => build(&mut self.cpu, linear, phys, 1),
            Err(leave) => Err(leave),
        };
        let trace = match built {
            Ok(trace) => trace,
            Err(leave) => return self.left(leave, 0, false),
        };
        self.instructions += 1;
        for op in &trace.ops {
            match (op.run)(&mut self.cpu, op) {
                Ok(()) => {}
                Err(Leave::Jump) => break,
                Err(leave) => {
                    let stack = usize::from(op.segment) == crate::engine::state::SS;
                    return self.left(leave, op.offset, stack);
                }
            }
        }
        self.cpu.replay.clear();
        self.answered = false;
        Ok(())
    }

    /// What cannot wait for the next poll: answered questions, changed code, HLT, shadows, single step, open windows.
    fn attend(&mut self) -> Result<(), Exit> {
        while let Some(phys) = self.cpu.stale_code.pop() {
            self.cache.drop_page(&mut self.cpu, phys);
        }
        if self.cpu.halted {
            return Err(Exit::Halt);
        }
        let single_step = self.cpu.flags.others & flags::TF != 0;
        if self.answered || self.cpu.shadow || single_step {
            self.cpu.shadow = false;
            self.cpu.shadow_is_mov_ss = false;
            self.step()?;
            if single_step && !self.cpu.shadow_is_mov_ss {
                self.single_step_trap()?;
            }
            // Look again before the next trace: the instruction may have halted, or set a shadow of its own.
            self.cpu.attention = true;
            return Ok(());
        }
        self.cpu.attention = false;
        if self.want_window && self.view().interruptible {
            return Err(Exit::Window);
        }
        Ok(())
    }

    /// DR6.BS, and #DB behind the instruction.
    fn single_step_trap(&mut self) -> Result<(), Exit> {
        self.cpu.debug[4] |= 1 << 14;
        self.deliver(Fault {
            vector: vector::DB,
            code: None,
            address: 0,
            trap: true,
            noncanonical: false,
        })
    }

    /// Looks at the outside world.
    fn poll(&mut self) -> Result<(), Exit> {
        if self.kicked.load(Relaxed) && self.kicked.swap(false, Acquire)
            || self.outside.work()
            || self.outside.due()
        {
            return Err(Exit::Kicked);
        }
        Ok(())
    }
}

fn undelivered(why: Undelivered) -> Exit {
    match why {
        Undelivered::TripleFault => Exit::Shutdown,
        Undelivered::Device(what) => Exit::Failed(what),
    }
}
