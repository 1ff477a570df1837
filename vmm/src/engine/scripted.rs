//! An engine without a CPU: plays a list of exits, checks the answers. For tests of devices and of the run loop.
//!
//! A [`Script`] is built step by step, then handed in as a [`Scripted`] engine; the [`Results`] handle, kept by the
//! test, tells what was answered wrongly and what was injected. A read's answer is judged when the next run brings it.
//! Nothing here panics: a mismatch is recorded, and the script goes on.
//!
//! Interrupts: [`Script::interrupt`] waits for one, the view interruptible, and comes out with `Halt` until it is
//! injected, so that the run loop sleeps and wakes as with a real HLT. The script gives up on an event that stays away
//! for [`PATIENCE`] runs.

use super::state::CpuState;
use super::{Engine, EngineError, Entry, Exit, Inject, Kick, Op, Reply, View};
use crate::bus::Width;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs a wait for an event may take.
pub const PATIENCE: u32 = 10_000;
/// The time stamp counter runs at 1 GHz: a nanosecond a tick.
const TSC_KHZ: u32 = 1_000_000;

/// What a step's answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expect {
    /// Any.
    Anything,
    /// Exactly this.
    Reply(Reply),
}

#[derive(Clone, Debug)]
enum Step {
    /// Come out with this; judge the answer.
    Exit(Exit, Expect),
    /// Come out with `Halt` until this is injected.
    Wait(Inject),
    /// Look like this from here on.
    View(View),
    /// The clock of the guest moves on to this.
    Tsc(u64),
}

/// A list of steps. Each method adds one (or as many as its words say).
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
}

impl Script {
    /// An empty script: shuts down at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// OUT.
    pub fn write_port(self, port: u16, width: Width, value: u64) -> Self {
        let op = Op::Write(value);
        self.exit(Exit::Port { port, width, op })
    }

    /// IN that must give `expected`.
    pub fn read_port(self, port: u16, width: Width, expected: u64) -> Self {
        let op = Op::Read;
        self.expecting(Exit::Port { port, width, op }, Reply::Value(expected))
    }

    /// Write of memory that is not RAM.
    pub fn write_mmio(self, at: u64, width: Width, value: u64) -> Self {
        let op = Op::Write(value);
        self.exit(Exit::Mmio { at, width, op })
    }

    /// Read of memory that is not RAM, which must give `expected`.
    pub fn read_mmio(self, at: u64, width: Width, expected: u64) -> Self {
        let op = Op::Read;
        self.expecting(Exit::Mmio { at, width, op }, Reply::Value(expected))
    }

    /// WRMSR that must be taken.
    pub fn write_msr(self, index: u32, value: u64) -> Self {
        let op = Op::Write(value);
        self.expecting(Exit::Msr { index, op }, Reply::None)
    }

    /// RDMSR that must give `expected` ([`Reply::Fault`] for #GP).
    pub fn read_msr(self, index: u32, expected: Reply) -> Self {
        let op = Op::Read;
        self.expecting(Exit::Msr { index, op }, expected)
    }

    /// HLT until `event` is injected.
    pub fn interrupt(self, vector: u8) -> Self {
        self.step(Step::Wait(Inject::Interrupt(vector)))
    }

    /// HLT until an NMI is injected.
    pub fn nmi(self) -> Self {
        self.step(Step::Wait(Inject::Nmi))
    }

    /// Any exit, its answer not judged.
    pub fn exit(self, exit: Exit) -> Self {
        self.step(Step::Exit(exit, Expect::Anything))
    }

    /// Any exit, and what must be answered.
    pub fn expecting(self, exit: Exit, reply: Reply) -> Self {
        self.step(Step::Exit(exit, Expect::Reply(reply)))
    }

    /// HLT once.
    pub fn halt(self) -> Self {
        self.exit(Exit::Halt)
    }

    /// From the next exit on the vCPU looks like this.
    pub fn view(self, view: View) -> Self {
        self.step(Step::View(view))
    }

    /// From the next exit on the guest's time stamp counter stands at `ticks` (1 GHz). It does not run by itself.
    pub fn tsc(self, ticks: u64) -> Self {
        self.step(Step::Tsc(ticks))
    }

    /// The engine, and the handle on its results.
    pub fn build(self) -> (Scripted, Results) {
        let results = Results::default();
        let engine = Scripted {
            steps: self.steps,
            results: results.clone(),
            kicked: Arc::new(Kicked(AtomicBool::new(false))),
            judged: None,
            view: View::default(),
            tsc: 0,
            waited: 0,
            alarm: None,
            state: CpuState::reset(),
        };
        (engine, results)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

/// What happened, shared with the engine.
#[derive(Clone, Debug, Default)]
pub struct Results(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    mismatches: Vec<String>,
    injected: Vec<Inject>,
    finished: bool,
}

impl Results {
    /// What was not as expected, in words, in order.
    pub fn mismatches(&self) -> Vec<String> {
        self.with(|record| record.mismatches.clone())
    }

    /// Every event injected, in order.
    pub fn injected(&self) -> Vec<Inject> {
        self.with(|record| record.injected.clone())
    }

    /// Whether the script has come to its end.
    pub fn finished(&self) -> bool {
        self.with(|record| record.finished)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Record) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The engine. After the last step: [`Exit::Shutdown`], once and for all.
pub struct Scripted {
    steps: VecDeque<Step>,
    results: Results,
    kicked: Arc<Kicked>,
    /// The exit handed out last and what must come back for it.
    judged: Option<(Exit, Expect)>,
    view: View,
    tsc: u64,
    waited: u32,
    alarm: Option<Instant>,
    state: CpuState,
}

struct Kicked(AtomicBool);

impl Kick for Kicked {
    fn kick(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Scripted {
    fn judge(&mut self, entry: &Entry) {
        let judged = self.judged.take();
        if let Some((exit, Expect::Reply(expected))) = judged
            && entry.reply != expected
        {
            let got = entry.reply;
            self.note(format!("{exit:x?}: expected {expected:x?}, got {got:x?}"));
        }
        if let Some(inject) = entry.inject {
            let allowed = match inject {
                Inject::Interrupt(_) => self.view.interruptible,
                Inject::Nmi => self.view.nmi_ready,
            };
            if !allowed {
                self.note(format!("{inject:x?} injected where it cannot be taken"));
            }
            self.results.with(|record| record.injected.push(inject));
        }
    }

    fn note(&self, mismatch: String) {
        self.results.with(|record| record.mismatches.push(mismatch));
    }

    /// Goes on with a wait; `None` when it is over.
    fn wait(&mut self, wanted: Inject, inject: Option<Inject>) -> Option<Exit> {
        if inject == Some(wanted) {
            (self.waited, self.view) = (0, View::default());
            return None;
        }
        self.view = View {
            interruptible: true,
            interrupts_on: true,
            nmi_ready: true,
            ..self.view
        };
        self.waited += 1;
        if self.waited > PATIENCE {
            self.note(format!("{wanted:x?} never came"));
            return Some(Exit::Failed(format!("the script waits for {wanted:x?} in vain")));
        }
        self.steps.push_front(Step::Wait(wanted));
        Some(Exit::Halt)
    }

    fn due(&mut self) -> bool {
        let rung = self.alarm.is_some_and(|at| at <= Instant::now());
        if rung {
            self.alarm = None;
        }
        self.kicked.0.swap(false, Ordering::SeqCst) || rung
    }
}

impl Engine for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn run(&mut self, entry: Entry) -> Exit {
        self.judge(&entry);
        let mut inject = entry.inject;
        // An event given is for the step that waits; a kick must not come between.
        if inject.is_none() && self.due() {
            return Exit::Kicked;
        }
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::View(view) => self.view = view,
                Step::Tsc(ticks) => self.tsc = ticks,
                Step::Wait(wanted) => {
                    if let Some(exit) = self.wait(wanted, inject.take()) {
                        return exit;
                    }
                }
                Step::Exit(exit, expect) => {
                    self.judged = Some((exit.clone(), expect));
                    return exit;
                }
            }
        }
        self.results.with(|record| record.finished = true);
        Exit::Shutdown
    }

    fn view(&self) -> View {
        self.view
    }

    fn polls(&self) -> bool {
        false
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        Arc::<Kicked>::clone(&self.kicked)
    }

    fn alarm(&mut self, after: Option<Duration>) {
        self.alarm = after.and_then(|after| Instant::now().checked_add(after));
    }

    fn tsc(&self) -> u64 {
        self.tsc
    }

    fn tsc_khz(&self) -> u32 {
        TSC_KHZ
    }

    fn save(&mut self) -> Result<CpuState, EngineError> {
        Ok(self.state.clone())
    }

    fn load(&mut self, state: &CpuState) -> Result<(), EngineError> {
        state.check()?;
        self.state = state.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: u64) -> Entry {
        Entry {
            reply: Reply::Value(value),
            ..Entry::default()
        }
    }

    #[test]
    fn a_script_plays_in_order_and_ends_in_shutdown() {
        let (mut engine, results) = Script::new()
            .write_port(0x70, Width::Byte, 4)
            .read_port(0x71, Width::Byte, 0x12)
            .build();
        let write = engine.run(Entry::default());
        assert_eq!(
            write,
            Exit::Port {
                port: 0x70,
                width: Width::Byte,
                op: Op::Write(4)
            }
        );
        assert!(matches!(
            engine.run(Entry::default()),
            Exit::Port { op: Op::Read, .. }
        ));
        assert_eq!(engine.run(answer(0x12)), Exit::Shutdown);
        assert!(results.finished() && results.mismatches().is_empty());
    }

    #[test]
    fn a_wrong_answer_and_an_unwanted_event_are_named() {
        let (mut engine, results) = Script::new().read_port(0x71, Width::Byte, 0x12).halt().build();
        engine.run(Entry::default());
        engine.run(answer(0x13));
        engine.run(Entry {
            inject: Some(Inject::Interrupt(0x20)),
            ..Entry::default()
        });
        let mismatches = results.mismatches();
        assert!(mismatches[0].contains("12") && mismatches[0].contains("13"));
        assert!(mismatches[1].contains("cannot be taken"), "{mismatches:?}");
        assert_eq!(results.injected(), [Inject::Interrupt(0x20)]);
    }

    #[test]
    fn a_wait_halts_until_its_event_and_gives_up_in_the_end() {
        let (mut engine, results) = Script::new().interrupt(0x30).interrupt(0x31).build();
        assert_eq!(engine.run(Entry::default()), Exit::Halt);
        assert!(engine.view().interruptible);
        engine.kick_handle().kick();
        assert_eq!(engine.run(Entry::default()), Exit::Kicked);
        let inject = Entry {
            inject: Some(Inject::Interrupt(0x30)),
            ..Entry::default()
        };
        assert_eq!(engine.run(inject), Exit::Halt);
        let end = (0..=PATIENCE)
            .map(|_| engine.run(Entry::default()))
            .find(|e| *e != Exit::Halt);
        assert!(matches!(end, Some(Exit::Failed(_))));
        assert_eq!(results.injected().len(), 1);
    }
}
