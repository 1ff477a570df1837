//! The life of one VM as a pure state machine: what happened in, what to do out. No descriptor, no clock.
//!
//! ```text
//!   Running ──signal──▶ Asked ──grace over, second signal──▶ Stopping ──time over──▶ (kill)
//!      │  ▲ power button   │                                    │
//!      │  └──(no change)   └────────────── the vmm is over ─────┤
//!      └──────────────────────────────────▶ Draining ◀──────────┘
//!                                              │ all output out, or time over
//!                                              ▼
//!                                             Over
//! ```
//!
//! The I/O worker has a life of its own beside it ([`IoWorker`]): as long as there is another one to come, its death changes
//! no phase. The supervisor feeds every event and does every [`Action`] in order. It must reach `Over` from every state
//! within bounded time once the end was asked for or the vmm died, whatever the workers do or leave undone.

use super::io_worker::{IoWorker, Step};
use super::verdict::{FAILED, VMM_DIED, Verdict, plain};
use shared::msg::handover::{Escape, FromApp, FromVmm, Outcome, ToVmm};
use std::time::{Duration, Instant};

/// How long the guest may take to power off after the first SIGINT, SIGTERM or SIGHUP: a stock Linux guest with
/// services needs 5 to 20 s.
pub const GRACE: Duration = Duration::from_secs(30);
/// How long the vmm may take to obey `Stop`.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long console output may take to drain when the terminal or its reader blocks.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A word of the vmm.
    Vmm(FromVmm),
    /// A record of the vmm that is no word of it, or its socket closed while it lives.
    VmmBroke(String),
    /// The vmm's process is gone: how.
    VmmDied(String),
    /// A word of the I/O worker.
    App(FromApp),
    /// As [`Event::VmmBroke`].
    AppBroke(String),
    /// The I/O worker's process is gone: how.
    AppDied(String),
    /// The I/O worker has shown no sign of life for so long.
    AppSilent(Duration),
    /// `vmapp restart-io`.
    RestartIo,
    /// SIGINT, SIGTERM or SIGHUP, by name.
    Signal(&'static str),
    /// `vmapp stop`.
    PowerButton,
    /// `vmapp stop --now`.
    StopNow,
    /// The deadline may have passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the vmm.
    Tell(Word),
    /// Kill the vmm.
    KillVmm,
    /// Kill the I/O worker.
    KillApp,
    /// Start another I/O worker in the place of a dead one.
    StartApp,
    /// The I/O worker serves: the console is its.
    AppServes,
    /// Tell the I/O worker to drain and exit.
    Finish,
    /// The engine line.
    Announce {
        /// Which engine.
        engine: String,
        /// Why.
        why: String,
    },
    /// Tell the user.
    Say(String),
    /// Warn the user.
    Warn(String),
}

/// What the vmm can be told after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Press the power button.
    PowerButton,
    /// End now.
    Stop,
}

impl From<Word> for ToVmm {
    fn from(word: Word) -> Self {
        match word {
            Word::PowerButton => Self::PowerButton,
            Word::Stop => Self::Stop,
        }
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Running,
    Asked {
        until: Instant,
    },
    Stopping {
        until: Instant,
        end: StopReason,
        killed: bool,
    },
    Draining {
        until: Instant,
        verdict: Verdict,
    },
    Over(Verdict),
}

/// Why the vmm was told to stop.
#[derive(Clone, Debug)]
enum StopReason {
    /// On somebody's word.
    Asked(String),
    /// Something else is broken: this is the verdict whatever the vmm says.
    Broken(Verdict),
}

/// The state machine.
#[derive(Debug)]
pub struct Life {
    phase: Phase,
    started: bool,
    io: IoWorker,
}

impl Life {
    /// Both workers were just started; the I/O worker may die and be replaced `restart_limit` times a minute.
    pub fn new(restart_limit: u32, now: Instant) -> Self {
        Self {
            phase: Phase::Running,
            started: false,
            io: IoWorker::new(restart_limit, now),
        }
    }

    /// The I/O worker's part.
    pub fn io(&self) -> &IoWorker {
        &self.io
    }

    /// The verdict, once over.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.phase {
            Phase::Over(verdict) => Some(verdict),
            _ => None,
        }
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        [self.until(), self.io.deadline()].into_iter().flatten().min()
    }

    /// How long the present phase may last.
    fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Asked { until } | Phase::Stopping { until, .. } | Phase::Draining { until, .. } => {
                Some(until)
            }
            Phase::Running | Phase::Over(_) => None,
        }
    }

    /// The state's public name.
    pub fn name(&self) -> &'static str {
        match self.phase {
            Phase::Running if !self.started => "starting",
            Phase::Running => "running",
            Phase::Asked { .. } => "powering-off",
            Phase::Stopping { .. } | Phase::Draining { .. } | Phase::Over(_) => "ending",
        }
    }

    /// Takes one event.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Vmm(FromVmm::Started { engine, why }) => {
                if std::mem::replace(&mut self.started, true) {
                    return Vec::new();
                }
                vec![Action::Announce {
                    engine: plain(&engine),
                    why: plain(&why),
                }]
            }
            Event::Vmm(FromVmm::Warning(text)) => vec![Action::Warn(plain(&text))],
            Event::Vmm(FromVmm::Ended(outcome)) => self.vmm_ended(&outcome, now),
            Event::VmmBroke(how) => self.vmm_broke(&how, now),
            Event::VmmDied(how) => self.vmm_died(&how, now),
            Event::App(word) => self.app_word(word, now),
            Event::AppBroke(how) => {
                let steps = self.io.broke(&how, now);
                self.follow(steps, now)
            }
            Event::AppDied(how) => {
                let steps = self.io.died(&how, now);
                self.follow(steps, now)
            }
            Event::AppSilent(since) => {
                let steps = self.io.silent(since, now);
                self.follow(steps, now)
            }
            Event::RestartIo => {
                let steps = self.io.replace(now);
                self.follow(steps, now)
            }
            Event::Signal(name) => self.signal(name, now),
            Event::PowerButton => self.power_button(),
            Event::StopNow => self.stop("vmapp stop --now", now),
            Event::Tick => self.tick(now),
        }
    }

    fn vmm_ended(&mut self, outcome: &Outcome, now: Instant) -> Vec<Action> {
        let verdict = match &self.phase {
            Phase::Running => Verdict::of(outcome, None),
            Phase::Asked { .. } => Verdict::of(outcome, None).without_reset(),
            Phase::Stopping {
                end: StopReason::Asked(who),
                ..
            } => Verdict::of(outcome, Some(who)).without_reset(),
            Phase::Stopping {
                end: StopReason::Broken(verdict),
                ..
            } => verdict.clone(),
            Phase::Draining { .. } | Phase::Over(_) => return Vec::new(),
        };
        self.drain(verdict, now)
    }

    fn vmm_broke(&mut self, how: &str, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Running | Phase::Asked { .. } => {
                let reason = format!("vmm broke the protocol: {}", plain(how));
                self.phase = Phase::Stopping {
                    until: now + STOP_LIMIT,
                    end: StopReason::Broken(Verdict::new(VMM_DIED, reason)),
                    killed: true,
                };
                vec![Action::KillVmm]
            }
            Phase::Stopping { .. } => vec![Action::KillVmm],
            Phase::Draining { .. } | Phase::Over(_) => Vec::new(),
        }
    }

    fn vmm_died(&mut self, how: &str, now: Instant) -> Vec<Action> {
        let died = Verdict::new(VMM_DIED, format!("vmm died: {how}"));
        let verdict = match &self.phase {
            Phase::Running | Phase::Asked { .. } => died,
            Phase::Stopping {
                end: StopReason::Broken(verdict),
                ..
            } => verdict.clone(),
            Phase::Stopping {
                end: StopReason::Asked(who),
                killed: true,
                ..
            } => Verdict::new(
                FAILED,
                format!("ended before the guest powered off: {who}; the vmm had to be killed"),
            ),
            Phase::Stopping {
                end: StopReason::Asked(_),
                killed: false,
                ..
            } => died,
            Phase::Draining { .. } | Phase::Over(_) => return Vec::new(),
        };
        self.drain(verdict, now)
    }

    /// The vmm is over: let the console come out, then end.
    fn drain(&mut self, verdict: Verdict, now: Instant) -> Vec<Action> {
        if self.io.is_lost() {
            self.phase = Phase::Over(verdict);
            return Vec::new();
        }
        self.phase = Phase::Draining {
            until: now + DRAIN_LIMIT,
            verdict,
        };
        // One that is still to come is told when it serves.
        vec![Action::Finish]
    }

    fn app_word(&mut self, word: FromApp, now: Instant) -> Vec<Action> {
        match word {
            FromApp::Ready => {
                let steps = self.io.ready();
                self.follow(steps, now)
            }
            // The supervisor's own business.
            FromApp::Injected { .. } | FromApp::Stopping { .. } | FromApp::Continued => Vec::new(),
            FromApp::Escape(Escape::PowerButton) => self.power_button(),
            FromApp::Escape(Escape::End) => self.stop("escape key", now),
            FromApp::Warning(text) => vec![Action::Warn(plain(&text))],
            // The console keeps it.
            FromApp::ConsoleClientGone => Vec::new(),
            FromApp::Failed(why) => {
                let steps = self.io.failed(&why);
                self.follow(steps, now)
            }
            FromApp::Finished => {
                if let Phase::Draining { verdict, .. } = &self.phase {
                    self.phase = Phase::Over(verdict.clone());
                }
                Vec::new()
            }
        }
    }

    /// What follows from the I/O worker's part.
    fn follow(&mut self, steps: Vec<Step>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for step in steps {
            match step {
                _ if matches!(self.phase, Phase::Over(_)) => {}
                Step::Start => actions.push(Action::StartApp),
                Step::Kill => actions.push(Action::KillApp),
                Step::Say(text) => actions.push(Action::Say(text)),
                Step::Warn(text) => actions.push(Action::Warn(text)),
                Step::Serves => {
                    actions.push(Action::AppServes);
                    if matches!(self.phase, Phase::Draining { .. }) {
                        actions.push(Action::Finish);
                    }
                }
                Step::Lost(why) => actions.extend(self.app_lost(&why, now)),
            }
        }
        actions
    }

    /// There will be no I/O worker any more: the VM ends as cleanly as the vmm lets it.
    fn app_lost(&mut self, reason: &str, now: Instant) -> Vec<Action> {
        match &self.phase {
            Phase::Running | Phase::Asked { .. } => {
                self.phase = Phase::Stopping {
                    until: now + STOP_LIMIT,
                    end: StopReason::Broken(Verdict::new(FAILED, reason)),
                    killed: false,
                };
                vec![Action::Tell(Word::Stop)]
            }
            Phase::Stopping { .. } => vec![Action::Warn(reason.to_owned())],
            Phase::Draining { verdict, .. } => {
                self.phase = Phase::Over(verdict.clone());
                vec![Action::Warn(format!("{reason}; console output may be lost"))]
            }
            Phase::Over(_) => Vec::new(),
        }
    }

    fn signal(&mut self, name: &'static str, now: Instant) -> Vec<Action> {
        match &self.phase {
            Phase::Running => {
                self.phase = Phase::Asked { until: now + GRACE };
                let say = format!(
                    "{name}: pressed the power button; the guest has {} s, a second signal ends it at once",
                    GRACE.as_secs()
                );
                vec![Action::Tell(Word::PowerButton), Action::Say(say)]
            }
            Phase::Asked { .. } => self.stop(name, now),
            // Impatience while stopping or draining: no more waiting.
            Phase::Stopping { .. } => self.kill(now),
            Phase::Draining { verdict, .. } => {
                self.phase = Phase::Over(verdict.clone().without_reset());
                Vec::new()
            }
            Phase::Over(_) => Vec::new(),
        }
    }

    fn power_button(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Running | Phase::Asked { .. } => vec![
                Action::Tell(Word::PowerButton),
                Action::Say("pressed the power button".to_owned()),
            ],
            _ => Vec::new(),
        }
    }

    fn stop(&mut self, who: &str, now: Instant) -> Vec<Action> {
        match &mut self.phase {
            Phase::Running | Phase::Asked { .. } => {
                self.phase = Phase::Stopping {
                    until: now + STOP_LIMIT,
                    end: StopReason::Asked(who.to_owned()),
                    killed: false,
                };
                vec![Action::Tell(Word::Stop)]
            }
            Phase::Draining { verdict, .. } => {
                verdict.reset = false;
                Vec::new()
            }
            Phase::Stopping { .. } | Phase::Over(_) => Vec::new(),
        }
    }

    fn kill(&mut self, now: Instant) -> Vec<Action> {
        if let Phase::Stopping { until, killed, .. } = &mut self.phase {
            // SIGKILL is not refused: the next event is the death. The new deadline only keeps the clock honest.
            *until = now + STOP_LIMIT;
            *killed = true;
        }
        vec![Action::KillVmm]
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        let steps = self.io.tick(now);
        let mut actions = self.follow(steps, now);
        if self.until().is_some_and(|until| now >= until) {
            actions.extend(self.time_over(now));
        }
        actions
    }

    /// The present phase has lasted as long as it may.
    fn time_over(&mut self, now: Instant) -> Vec<Action> {
        match &self.phase {
            Phase::Asked { .. } => {
                let who = format!("the guest did not power off within {} s", GRACE.as_secs());
                self.stop(&who, now)
            }
            Phase::Stopping { .. } => self.kill(now),
            Phase::Draining { verdict, .. } => {
                self.phase = Phase::Over(verdict.clone());
                vec![Action::Warn(
                    "console output was not taken in time and is lost".to_owned(),
                )]
            }
            Phase::Running | Phase::Over(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run {
        life: Life,
        now: Instant,
        done: Vec<Action>,
    }

    impl Run {
        fn new() -> Self {
            Self::with_restarts(0)
        }
        fn with_restarts(limit: u32) -> Self {
            let now = Instant::now();
            Self {
                life: Life::new(limit, now),
                now,
                done: Vec::new(),
            }
        }
        fn on(&mut self, event: Event) -> &mut Self {
            self.done = self.life.on(event, self.now);
            self
        }
        /// Lets the present deadline pass.
        fn wait(&mut self) -> &mut Self {
            self.now = self.life.deadline().expect("a deadline");
            self.on(Event::Tick)
        }
        fn finish(&mut self) -> Verdict {
            assert!(self.done.contains(&Action::Finish), "{:?}", self.done);
            self.on(Event::App(FromApp::Finished));
            self.verdict()
        }
        fn verdict(&self) -> Verdict {
            self.life.verdict().expect("over").clone()
        }
    }

    fn ended(outcome: Outcome) -> Event {
        Event::Vmm(FromVmm::Ended(outcome))
    }

    #[test]
    fn a_power_off_drains_the_console_first() {
        let mut run = Run::new();
        assert_eq!(run.on(ended(Outcome::PoweredOff)).finish().status, 0);
    }

    #[test]
    fn the_first_signal_asks_the_second_ends_the_third_kills() {
        let mut run = Run::new();
        run.on(Event::Signal("SIGINT"));
        assert_eq!(run.done[0], Action::Tell(Word::PowerButton));
        assert_eq!(run.life.name(), "powering-off");
        run.on(Event::Signal("SIGINT"));
        assert_eq!(run.done, [Action::Tell(Word::Stop)]);
        run.on(Event::Signal("SIGINT"));
        assert_eq!(run.done, [Action::KillVmm]);
        let verdict = run
            .on(Event::VmmDied("killed by signal 9 (SIGKILL)".into()))
            .finish();
        assert_eq!(verdict.status, FAILED);
    }

    #[test]
    fn a_guest_that_powers_off_within_its_grace_is_a_good_end() {
        let mut run = Run::new();
        run.on(Event::Signal("SIGTERM"));
        assert_eq!(run.on(ended(Outcome::PoweredOff)).finish().status, 0);
    }

    #[test]
    fn whatever_the_vmm_leaves_undone_the_end_comes_in_bounded_time() {
        let mut run = Run::new();
        let begun = run.now;
        run.on(Event::Signal("SIGTERM")).wait();
        assert_eq!(run.done, [Action::Tell(Word::Stop)]);
        assert_eq!(run.wait().done, [Action::KillVmm]);
        run.on(Event::VmmDied("killed".into()));
        run.wait();
        assert_eq!(run.verdict().status, FAILED);
        assert!(run.now - begun <= GRACE + STOP_LIMIT + DRAIN_LIMIT);
    }

    #[test]
    fn the_power_button_alone_gives_no_deadline() {
        let mut run = Run::new();
        run.on(Event::PowerButton);
        assert_eq!(run.done[0], Action::Tell(Word::PowerButton));
        assert_eq!(run.life.deadline(), None);
    }

    #[test]
    fn a_dead_vmm_is_status_3_unless_we_killed_it() {
        let mut run = Run::new();
        let verdict = run
            .on(Event::VmmDied("killed by signal 9 (SIGKILL)".into()))
            .finish();
        assert_eq!(verdict, Verdict::new(3, "vmm died: killed by signal 9 (SIGKILL)"));
        let mut run = Run::new();
        run.on(Event::StopNow);
        assert_eq!(
            run.on(Event::VmmDied("exited with 101".into())).finish().status,
            3
        );
    }

    #[test]
    fn a_warning_of_the_vmm_is_shown_without_its_control_characters() {
        let mut run = Run::new();
        run.on(Event::Vmm(FromVmm::Warning("KVM lacks\x1b[2J avx".into())));
        let [Action::Warn(text)] = &run.done[..] else {
            panic!("{:?}", run.done);
        };
        assert!(text.contains("KVM lacks") && !text.contains('\x1b'), "{text:?}");
        assert_eq!(run.life.name(), "starting");
    }

    #[test]
    fn a_vmm_that_talks_nonsense_is_killed() {
        let mut run = Run::new();
        assert_eq!(run.on(Event::VmmBroke("not JSON".into())).done, [Action::KillVmm]);
        let verdict = run
            .on(Event::VmmDied("killed by signal 9 (SIGKILL)".into()))
            .finish();
        assert_eq!(verdict.status, VMM_DIED);
        assert!(verdict.reason.contains("not JSON"));
    }

    #[test]
    fn a_worker_lost_for_good_ends_the_vm_without_waiting_for_a_drain() {
        for first in [
            Event::AppDied("killed".into()),
            Event::App(FromApp::Failed("no".into())),
        ] {
            let mut run = Run::new();
            assert_eq!(run.on(first).done, [Action::Tell(Word::Stop)]);
            run.on(Event::AppDied("exited".into()));
            run.on(ended(Outcome::Stopped));
            assert_eq!(run.verdict().status, FAILED);
            assert!(run.verdict().reason.contains("I/O worker"));
        }
    }

    #[test]
    fn a_worker_that_dies_while_draining_does_not_change_the_verdict() {
        let mut run = Run::new();
        run.on(ended(Outcome::PoweredOff));
        run.on(Event::AppDied("killed".into()));
        assert_eq!(run.verdict().status, 0);
    }

    #[test]
    fn a_worker_that_dies_is_replaced_and_the_vm_does_not_change() {
        let mut run = Run::with_restarts(1);
        run.on(Event::App(FromApp::Ready));
        assert_eq!(run.done, [Action::AppServes]);
        run.on(Event::AppDied("killed".into()));
        assert!(matches!(&run.done[..], [Action::Warn(_)]), "{:?}", run.done);
        assert_eq!(run.on(Event::Tick).done, [Action::StartApp]);
        assert_eq!(run.on(Event::App(FromApp::Ready)).done, [Action::AppServes]);
        run.on(ended(Outcome::PoweredOff));
        assert_eq!(run.finish().status, 0);
    }

    #[test]
    fn the_next_worker_drains_what_the_last_one_left() {
        let mut run = Run::with_restarts(1);
        run.on(Event::App(FromApp::Ready));
        run.on(ended(Outcome::PoweredOff));
        run.on(Event::AppDied("killed".into()));
        assert_eq!(run.on(Event::Tick).done, [Action::StartApp]);
        run.on(Event::App(FromApp::Ready));
        assert_eq!(run.done, [Action::AppServes, Action::Finish]);
        assert_eq!(run.finish().status, 0);
    }

    #[test]
    fn both_workers_killed_at_once_is_a_dead_vmm() {
        let mut run = Run::with_restarts(10);
        run.on(Event::App(FromApp::Ready));
        run.on(Event::AppDied("killed".into()));
        run.on(Event::VmmDied("killed".into()));
        assert_eq!(run.on(Event::Tick).done, [Action::StartApp]);
        run.on(Event::App(FromApp::Ready));
        assert_eq!(run.finish().status, VMM_DIED);
    }

    #[test]
    fn a_worker_that_talks_nonsense_or_nothing_is_killed() {
        for event in [
            Event::AppBroke("not JSON".into()),
            Event::AppSilent(Duration::from_secs(5)),
            Event::RestartIo,
        ] {
            let mut run = Run::with_restarts(1);
            assert_eq!(run.on(event).done, [Action::KillApp]);
        }
    }

    #[test]
    fn a_reset_is_no_new_start_once_the_end_was_asked_for() {
        let mut run = Run::new();
        assert!(run.on(ended(Outcome::Reset)).finish().reset);
        let mut run = Run::new();
        run.on(Event::Signal("SIGTERM"));
        assert!(!run.on(ended(Outcome::Reset)).finish().reset);
        let mut run = Run::new();
        run.on(Event::StopNow);
        assert!(!run.on(ended(Outcome::Reset)).finish().reset);
        for asked in [Event::StopNow, Event::Signal("SIGINT")] {
            let mut run = Run::new();
            run.on(ended(Outcome::Reset)).on(asked);
            run.on(Event::App(FromApp::Finished));
            assert!(!run.verdict().reset);
        }
    }

    #[test]
    fn a_second_word_after_the_end_changes_nothing() {
        let mut run = Run::new();
        run.on(ended(Outcome::DebugExit(1)));
        run.on(ended(Outcome::PoweredOff));
        run.on(Event::VmmDied("exited".into()));
        run.on(Event::App(FromApp::Finished));
        assert_eq!(run.verdict().status, 11);
    }
}
