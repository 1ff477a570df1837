//! The loop: trace after trace, and what happens between two of them.
//!
//! The hot loop is `Interp::spin`: find a trace, run its operations, look whether anything wants attention. What is not
//! looked at after every trace (kick, IRQ bitmap, the clock) is looked at after every `POLL_EVERY`th: microseconds.
//!
//! An instruction that asked the chipset is run again, alone, when the answer is there (`Interp::step`); nothing can
//! be injected in between ([`View::interruptible`] says so).

use super::alone::Alone;
use super::trace::{Kept, TraceCache};
use crate::engine::soft::cpu::{Cpu, Fault, Leave, vector};
use crate::engine::soft::deliver::Undelivered;
use crate::engine::soft::flags::{IF, RF, TF};
use crate::engine::state::SS;
use crate::engine::{Entry, Exit, Inject, Op, Reply, View};

/// Traces between two looks at the outside world. A look costs a clock reading, some 25 cycles; a trace is 5
/// instructions on average and 64 at most.
const POLL_EVERY: u32 = 64;

/// What the outside world can want.
pub trait Outside {
    /// Whether the vCPU is to come out: kicked, work in a channel, or the alarm is due. Takes the kick and the alarm.
    fn wants_out(&mut self) -> bool;
}

/// What the instruction at rip asked the chipset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// To write a port or a register in memory: no answer is owed.
    Write,
    /// A value is owed, or the access may still fault.
    Answer,
}

/// The interpreter.
pub struct Interp<O> {
    /// The vCPU.
    pub cpu: Cpu,
    /// What it looks at from time to time.
    pub outside: O,
    cache: TraceCache,
    alone: Alone,
    want_window: bool,
    /// An NMI waits that the vCPU could not take when it was entered.
    nmi_may_wait: bool,
    asked: Asked,
    /// What finishing a half-done instruction for a save came upon: the next run comes out with it.
    kept: Option<Exit>,
    /// Instructions run, roughly: those of a trace are counted when it ends.
    instructions: u64,
}

impl<O: Outside> Interp<O> {
    /// An engine around a vCPU.
    pub fn new(cpu: Cpu, outside: O) -> Self {
        Self {
            cpu,
            outside,
            cache: TraceCache::default(),
            alone: Alone::default(),
            want_window: false,
            nmi_may_wait: false,
            asked: Asked::Nothing,
            kept: None,
            instructions: 0,
        }
    }

    /// What the run loop needs to know.
    pub fn view(&self) -> View {
        let interrupts_on = self.cpu.flags.others & IF != 0;
        let ready = !self.cpu.shadow
            && self.asked == Asked::Nothing
            && self.cpu.pending.is_none()
            && self.kept.is_none();
        View {
            interruptible: interrupts_on && ready,
            interrupts_on,
            nmi_ready: !self.cpu.nmi_masked && ready,
            cr8: self.cpu.cr8,
        }
    }

    /// Instructions run so far.
    pub fn instructions(&self) -> u64 {
        self.instructions
    }

    /// Forgets all decoded code and every half-done instruction: the state was replaced.
    pub fn forget(&mut self) {
        self.cache.clear(&mut self.cpu);
        self.cpu.stale_code.clear();
        self.asked = Asked::Nothing;
        self.kept = None;
    }

    /// Brings the vCPU to an instruction's boundary, so that it can be saved. False: it cannot be, for an answer is owed
    /// or the instruction asked again.
    pub fn settle(&mut self) -> bool {
        match self.asked {
            Asked::Nothing => self.kept.is_none(),
            Asked::Answer => false,
            Asked::Write => {
                self.cpu.replay.answer(0);
                self.kept = self.step().err();
                self.cpu.attention = true;
                self.kept.is_none()
            }
        }
    }

    /// Runs until the next exit.
    pub fn run(&mut self, entry: Entry) -> Exit {
        if let Some(exit) = self.kept.take() {
            return exit;
        }
        match self.enter(entry) {
            Ok(()) => match self.spin() {
                Ok(never) => match never {},
                Err(exit) => exit,
            },
            Err(exit) => exit,
        }
    }

    fn enter(&mut self, entry: Entry) -> Result<(), Exit> {
        self.cpu.cr8 = entry.cr8;
        self.want_window = entry.want_window;
        match (entry.reply, self.asked) {
            (_, Asked::Nothing) => {}
            (Reply::Value(value), _) => self.cpu.replay.answer(value),
            (Reply::None, _) => self.cpu.replay.answer(0),
            (Reply::Fault, _) => self.deliver(Fault::new(vector::GP, Some(0)))?,
        }
        match entry.inject {
            None => {}
            Some(Inject::Nmi) => self.cpu.deliver_nmi().map_err(undelivered)?,
            Some(Inject::Interrupt(vector)) => self.cpu.deliver_interrupt(vector).map_err(undelivered)?,
        }
        self.nmi_may_wait = entry.nmi_waits && !self.view().nmi_ready;
        Ok(())
    }

    /// The hot loop. Only ever ends with an exit.
    fn spin(&mut self) -> Result<std::convert::Infallible, Exit> {
        // An instruction waits for its answer, or the entry changed what is to be looked at.
        self.cpu.attention = true;
        let mut countdown = POLL_EVERY;
        let mut from = None;
        loop {
            if countdown == 0 {
                countdown = POLL_EVERY;
                self.poll()?;
            }
            // Here too: a round may run nothing, when the fetch at every handler of a fault faults.
            countdown -= 1;
            if self.cpu.attention {
                // What comes next need not follow from what was.
                from = None;
                self.attend()?;
                continue;
            }
            match self.cache.find(&mut self.cpu, from.take()) {
                Ok(kept) => from = self.run_linked(kept, &mut countdown)?,
                Err(leave) => self.left(leave, 0, false)?,
            }
        }
    }

    /// Runs a trace and those linked to it, until one is linked to nothing (it is returned, and how many of its
    /// operations came behind the branch), something wants attention, or it is time for a look at the outside world.
    #[inline(always)]
    fn run_linked(&mut self, first: Kept, countdown: &mut u32) -> Result<Option<(Kept, usize)>, Exit> {
        let Some(mut trace) = self.cache.get(first) else {
            return Ok(None);
        };
        loop {
            self.cpu.trace_page = trace.phys;
            let mut ops = trace.ops.iter();
            let mut unusual = None;
            for op in ops.by_ref() {
                match (op.run)(&mut self.cpu, op) {
                    Ok(()) => {}
                    Err(Leave::Jump) => break,
                    Err(leave) => {
                        unusual = Some((leave, op.offset, usize::from(op.segment) == SS));
                        break;
                    }
                }
            }
            let unused = ops.len();
            self.instructions += (trace.ops.len() - unused) as u64;
            if let Some((leave, offset, stack)) = unusual {
                self.left(leave, offset, stack)?;
                return Ok(None);
            }
            if *countdown == 0 || self.cpu.attention {
                return Ok(None);
            }
            *countdown -= 1;
            match self.cache.follow(&self.cpu, trace, unused) {
                Some(next) => trace = next,
                None => return Ok(Some((self.cache.hold(trace), unused))),
            }
        }
    }

    /// An instruction `offset` bytes behind rip did not end by itself. `stack`: its memory operand is in SS.
    #[cold]
    fn left(&mut self, leave: Leave, offset: u8, stack: bool) -> Result<(), Exit> {
        self.cpu.rip = self.cpu.cut_ip(self.cpu.rip.wrapping_add(offset.into()));
        match leave {
            Leave::Jump => Ok(()),
            Leave::Fault => {
                let Some(mut fault) = self.cpu.fault.take() else {
                    return Err(Exit::Failed("an instruction faulted without saying how".into()));
                };
                if fault.noncanonical && stack {
                    fault.vector = vector::SS;
                }
                self.deliver(fault)
            }
            Leave::Exit => {
                self.cpu.replay.rewind();
                let Some(exit) = self.cpu.exit.take() else {
                    return Err(Exit::Failed("an instruction asked without a question".into()));
                };
                self.asked = match exit {
                    Exit::Port { op: Op::Write(_), .. } | Exit::Mmio { op: Op::Write(_), .. } => Asked::Write,
                    _ => Asked::Answer,
                };
                Err(exit)
            }
            Leave::Restart => self.step(),
        }
    }

    /// Delivers a fault of the instruction at rip, which is over thereby.
    fn deliver(&mut self, fault: Fault) -> Result<(), Exit> {
        self.over();
        self.cpu.deliver_fault(fault).map_err(undelivered)
    }

    fn over(&mut self) {
        self.cpu.replay.clear();
        self.asked = Asked::Nothing;
    }

    /// Runs the one instruction at rip, alone, with its debug traps.
    fn step(&mut self) -> Result<(), Exit> {
        let again = self.asked != Asked::Nothing;
        let stepped = self.cpu.flags.others & TF != 0;
        self.cpu.step_taken_over = false;
        // MOV SS and POP SS hold debug traps back for one instruction; its own breakpoint counts, as on AMD's processors.
        let held = std::mem::take(&mut self.cpu.shadow_is_mov_ss);
        self.cpu.shadow = false;
        if self.cpu.debugging() && !again {
            let hits = self.cpu.debug_hits;
            if let Err(leave) = self.cpu.begin_instruction() {
                return self.left(leave, 0, false);
            }
            if held {
                self.cpu.debug_hits = hits;
            }
        }
        let ops = match self.alone.at_rip(&mut self.cpu) {
            Ok(ops) => ops,
            Err(leave) => return self.left(leave, 0, false),
        };
        // In no trace that is kept, it may overwrite any code, its own included.
        self.cpu.alone = true;
        let result = ops.iter().try_for_each(|op| {
            (op.run)(&mut self.cpu, op).map_err(|leave| (leave, op.offset, usize::from(op.segment) == SS))
        });
        self.cpu.alone = false;
        self.instructions += 1;
        match result {
            Ok(()) | Err((Leave::Jump, ..)) => {
                self.over();
                self.trap(stepped && !self.cpu.step_taken_over)
            }
            Err((Leave::Restart, ..)) => Err(Exit::Failed("an instruction met its own trace".into())),
            Err((leave, offset, stack)) => self.left(leave, offset, stack),
        }
    }

    /// The debug trap an instruction owes when it is done, unless it holds them back.
    fn trap(&mut self, stepped: bool) -> Result<(), Exit> {
        if self.cpu.shadow_is_mov_ss {
            return Ok(());
        }
        match self.cpu.debug_trap(stepped) {
            Some(fault) => self.deliver(fault),
            None => Ok(()),
        }
    }

    /// What cannot wait for the next poll: answered questions, changed code, HLT, shadows, single step, open windows.
    /// Ends with attention still asked for unless plain traces may run.
    #[cold]
    fn attend(&mut self) -> Result<(), Exit> {
        self.drop_stale_code();
        if std::mem::take(&mut self.cpu.cr8_written) {
            return Err(Exit::Kicked);
        }
        if self.asked != Asked::Nothing {
            return self.step();
        }
        if self.cpu.debug_hits != 0 {
            self.trap(false)?;
        }
        if self.cpu.deliver_pending().map_err(undelivered)? {
            return Ok(());
        }
        if self.cpu.halted {
            return Err(Exit::Halt);
        }
        if self.cpu.shadow || self.cpu.debugging() {
            return self.step();
        }
        // With no breakpoint on, RF has nothing to suppress: as good as over with the next instruction.
        self.cpu.flags.others &= !RF;
        self.cpu.attention = false;
        if self.want_window {
            let view = self.view();
            if view.interruptible || (self.nmi_may_wait && view.nmi_ready) {
                self.nmi_may_wait = false;
                return Err(Exit::Window);
            }
        }
        Ok(())
    }

    fn drop_stale_code(&mut self) {
        while let Some(phys) = self.cpu.stale_code.pop() {
            self.cache.drop_page(&mut self.cpu, phys);
        }
        if self.cpu.code_pages.any_written() {
            for phys in self.cpu.code_pages.take_written() {
                self.cache.drop_page(&mut self.cpu, phys);
            }
        }
    }

    /// Looks at the outside world.
    fn poll(&mut self) -> Result<(), Exit> {
        if self.outside.wants_out() {
            return Err(Exit::Kicked);
        }
        // A device may write decoded code from another thread while guest code runs.
        if self.cpu.code_pages.any_written() {
            self.drop_stale_code();
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
