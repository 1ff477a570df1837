//! The run loop: look up, enter the engine, serve the exit, again.
//!
//! What can happen while the vCPU is about to enter the engine, and why none of it is missed:
//!
//! 1. vmapp sets an IRQ bit before we announce `InGuest`: `enter_guest` looks at the bitmap after announcing and says
//!    no; we look up first.
//! 2. vmapp sets an IRQ bit after that: it sees `InGuest` and rings the kick doorbell; the ear kicks.
//! 3. The kick comes before the engine has started: the engine's kick is sticky ([`crate::engine::Kick`]).
//! 4. An order of the supervisor comes at any moment: the ear sets the flag first and kicks after (3).
//! 5. A timer becomes due: the alarm set before entry gets us out.
//!
//! A vmapp that signals without end is looked away from now and then ([`super::share`]): its bits stay set, the vCPU does
//! not announce itself, and the alarm ends the spell.
//!
//! While halted, the same with `Asleep` and the doorbell (in the crossing), the ear's wake descriptor, and the sleep's limit.

use super::board::Board;
use super::ear::Ear;
use super::forward::Forwarder;
use super::share::{SPELL, Share};
use crate::bus::{Signal, Width};
use crate::dev::chipset::lapic::{MSR_TSC_DEADLINE, TscScale};
use crate::dev::uart::Uart;
use crate::engine::{Engine, Entry, Exit, Inject, Op, Reply};
use crate::time::{Clock, Ns};
use shared::abi::CONTROL_CHANNEL;
use shared::abi::counters::VmmCounter as Count;
use shared::msg::handover::Outcome;
use shared::spec::Ports;
use std::sync::Arc;
use std::time::Duration;
use vmdriver_shim::crossing::{Crossing, CrossingError};

/// How long the end of a machine waits for vmapp to take the last console bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A machine ready to run.
pub struct Machine {
    engine: Box<dyn Engine>,
    board: Board,
    crossing: Arc<Crossing>,
    ear: Ear,
    clock: Clock,
    /// When the engine was last told to come out; what it still has armed.
    alarm: Option<Ns>,
    nmi_pending: bool,
    forwarder: Option<Forwarder>,
    /// What looks at vmapp's signals may cost a running guest.
    share: Share,
    /// They are put off until then.
    deaf_until: Option<Ns>,
    /// What the engine had run when the counter was last brought up to date.
    instructions: u64,
}

/// What to do after an exit.
enum Next {
    Enter(Reply),
    End(Outcome),
}

impl Machine {
    /// Joins the parts. `clock` is the one the board's devices were made with.
    pub fn new(
        mut engine: Box<dyn Engine>,
        board: Board,
        crossing: Arc<Crossing>,
        ear: Ear,
        clock: Clock,
    ) -> Self {
        engine.watch(crossing.attention().clone());
        Self {
            engine,
            board,
            crossing,
            ear,
            clock,
            alarm: None,
            nmi_pending: false,
            forwarder: None,
            share: Share::new(clock.now()),
            deaf_until: None,
            instructions: 0,
        }
    }

    /// Chooses where accesses to data ports are answered.
    pub fn with_ports(mut self, ports: Ports) -> Result<Self, CrossingError> {
        self.forwarder = match ports {
            Ports::Local => None,
            Ports::Forward => Some(Forwarder::new(self.crossing.channel(CONTROL_CHANNEL)?)),
        };
        Ok(self)
    }

    /// Runs the guest to its end.
    pub fn run(&mut self) -> Outcome {
        let outcome = self.run_guest();
        self.last_words();
        outcome
    }

    fn run_guest(&mut self) -> Outcome {
        let mut reply = Reply::None;
        loop {
            let now = self.clock.now();
            if let Some(outcome) = self.look_up(now) {
                return outcome;
            }
            self.set_alarm(now);
            if !self.engine.polls() && !self.crossing.enter_guest() {
                continue;
            }
            let entry = self.entry(std::mem::take(&mut reply));
            let exit = self.engine.run(entry);
            self.crossing.left_guest();
            self.count_instructions();
            self.board.interrupts().set_cr8(self.engine.view().cr8);
            match self.serve(exit) {
                Next::Enter(answer) => reply = answer,
                Next::End(outcome) => return outcome,
            }
        }
    }

    /// Takes in everything that happened outside the vCPU.
    fn look_up(&mut self, now: Ns) -> Option<Outcome> {
        self.hear(now);
        if self.ear.orders.any() {
            self.ear.orders.seen();
            if self.ear.orders.stop() {
                return Some(Outcome::Stopped);
            }
            if self.ear.orders.take_power_button() {
                self.board.press_power_button();
            }
        }
        if let Err(error) = self.crossing.flush_due() {
            return Some(Outcome::Failed(format!("cannot reach vmapp: {error}")));
        }
        self.board.advance(now);
        self.board.settle();
        self.signals()
    }

    /// Takes what vmapp has signalled, unless looks have had their share of the guest's time.
    fn hear(&mut self, now: Ns) {
        if self.deaf_until.is_some_and(|until| now < until) {
            return;
        }
        self.listen_again();
        if self.crossing.any() {
            let bits = self.crossing.look();
            self.board.pull(bits, now);
            let over = self.clock.now();
            if self.share.spent(now, over) {
                self.deaf_until = Some(over.after(SPELL));
                self.crossing.set_deaf(true);
                self.count(Count::LooksPutOff);
            }
        }
    }

    /// Looks are put off no more.
    fn listen_again(&mut self) {
        if self.deaf_until.take().is_some() {
            self.crossing.set_deaf(false);
        }
    }

    /// Acts on what devices told the whole machine.
    fn signals(&mut self) -> Option<Outcome> {
        for signal in self.board.take_signals() {
            match signal {
                Signal::PowerOff => return Some(Outcome::PoweredOff),
                Signal::Reset => return Some(Outcome::Reset),
                Signal::DebugExit(code) => return Some(Outcome::DebugExit(code)),
                Signal::Nmi => self.nmi_pending = true,
                Signal::A20(open) => self.engine.set_a20(open),
            }
        }
        None
    }

    fn set_alarm(&mut self, now: Ns) {
        let frames = self.crossing.held_until().map(|at| self.clock.at(at));
        let due = self
            .board
            .deadline()
            .into_iter()
            .chain(frames)
            .chain(self.deaf_until)
            .min();
        if due != self.alarm {
            self.alarm = due;
            self.engine
                .alarm(due.map(|at| Duration::from_nanos(at.since(now))));
        }
    }

    fn entry(&mut self, reply: Reply) -> Entry {
        let view = self.engine.view();
        let mut inject = None;
        if self.nmi_pending && view.nmi_ready {
            self.nmi_pending = false;
            inject = Some(Inject::Nmi);
        } else if view.interruptible && self.board.interrupts().pending() {
            inject = self.board.interrupts().take().map(Inject::Interrupt);
        }
        if inject.is_some() {
            self.count(Count::Interrupts);
        }
        let want_window = self.nmi_pending || self.board.interrupts().pending();
        Entry {
            reply,
            inject,
            want_window,
            nmi_waits: self.nmi_pending,
            cr8: self.board.interrupts().cr8(),
        }
    }

    fn serve(&mut self, exit: Exit) -> Next {
        let now = self.clock.now();
        // A guest that writes its console keeps to the console's ports; output goes together until it does something else.
        if !matches!(exit, Exit::Port { port, .. } if Uart::PORTS.contains(&port)) {
            self.board.flush_console(now);
        }
        match exit {
            Exit::Port { port, width, op } => {
                self.count(Count::ExitPort);
                let value = self.board.port(now, port, width, op);
                if self.forwarder.is_some() && self.board.is_data_port(port) {
                    self.forward(port, width, op, value);
                }
                Next::Enter(answer(op, value))
            }
            Exit::Mmio { at, width, op } => {
                self.count(Count::ExitMmio);
                let value = self.board.mmio(now, at, width, op);
                Next::Enter(answer(op, value))
            }
            Exit::Msr { index, op } => {
                self.count(Count::ExitMsr);
                // Afresh for each deadline: the two clocks drift apart, and the guest may have set its own.
                if index == MSR_TSC_DEADLINE {
                    self.board
                        .interrupts()
                        .set_tsc(tsc_scale(&*self.engine, &self.clock));
                }
                Next::Enter(self.board.msr(now, index, op))
            }
            Exit::Halt => {
                self.count(Count::ExitHalt);
                match self.halt() {
                    None => Next::Enter(Reply::None),
                    Some(outcome) => Next::End(outcome),
                }
            }
            Exit::Window => {
                self.count(Count::ExitWindow);
                Next::Enter(Reply::None)
            }
            Exit::Kicked => {
                self.count(Count::ExitKicked);
                // The alarm may be what kicked; the engine has nothing armed any more.
                self.alarm = None;
                Next::Enter(Reply::None)
            }
            Exit::Debug => {
                self.count(Count::ExitDebug);
                Next::Enter(Reply::None)
            }
            Exit::Shutdown => {
                self.count(Count::ExitShutdown);
                Next::End(Outcome::TripleFault)
            }
            Exit::Failed(why) => {
                self.count(Count::ExitFailed);
                Next::End(Outcome::Failed(why))
            }
        }
    }

    fn forward(&mut self, port: u16, width: Width, op: Op, value: u64) {
        let value = match op {
            Op::Read => value,
            Op::Write(written) => written,
        };
        // The answer comes with a signal.
        self.listen_again();
        if let Some(forwarder) = &mut self.forwarder {
            let orders = &self.ear.orders;
            forwarder.forward(port, width.bytes(), op, value, || orders.stop());
        }
    }

    /// The guest waits for an interrupt: so do we, asleep, until one can be injected or the machine ends.
    fn halt(&mut self) -> Option<Outcome> {
        loop {
            let now = self.clock.now();
            if let Some(outcome) = self.look_up(now) {
                return Some(outcome);
            }
            let interruptible = self.engine.view().interrupts_on && self.board.interrupts().pending();
            if interruptible || self.nmi_pending {
                return None;
            }
            if self.board.idle() {
                continue;
            }
            // The sleep ends by itself when a device is due. The alarm would cut it short by a signal and then throw the
            // vCPU out again for nothing.
            if self.alarm.take().is_some() {
                self.engine.alarm(None);
            }
            // Nor has a halted guest anything to be spared.
            self.listen_again();
            let limit = self
                .board
                .deadline()
                .map(|at| Duration::from_nanos(at.since(now)));
            match self.crossing.sleep(limit, &[self.ear.wake_fd()]) {
                Ok(woken) => {
                    if woken.is_ready(0) {
                        self.ear.woken();
                    }
                }
                Err(error) => {
                    return Some(Outcome::Failed(format!(
                        "cannot sleep for a halted guest: {error}"
                    )));
                }
            }
        }
    }

    /// Gives vmapp a bounded time to take what the guest printed last.
    fn last_words(&mut self) {
        let end = self.clock.now().after(LAST_WORDS.as_nanos() as u64);
        self.listen_again();
        loop {
            let now = self.clock.now();
            let bits = self.crossing.look();
            self.board.pull(bits, now);
            self.board.flush_console(now);
            if self.board.console_drained() || now >= end || self.ear.orders.stop() {
                return;
            }
            if self
                .crossing
                .sleep(Some(Duration::from_nanos(end.since(now))), &[])
                .is_err()
            {
                return;
            }
        }
    }

    fn count_instructions(&mut self) {
        if let Some(now) = self.engine.instructions() {
            let more = now.wrapping_sub(self.instructions);
            self.crossing.vmm_counters().add(Count::Instructions, more);
            self.instructions = now;
        }
    }

    fn count(&self, what: Count) {
        self.crossing.vmm_counters().add(what, 1);
    }
}

fn answer(op: Op, value: u64) -> Reply {
    match op {
        Op::Read => Reply::Value(value),
        Op::Write(_) => Reply::None,
    }
}

/// How the guest's time stamp counter runs against the machine's clock, as of now. Whoever is held up between the two
/// readings has its timers late, never early: a guest with nothing to do for an early one asks for the rest again.
pub(super) fn tsc_scale(engine: &dyn Engine, clock: &Clock) -> TscScale {
    TscScale {
        tsc: engine.tsc(),
        at: clock.now(),
        khz: engine.tsc_khz(),
    }
}
