//! The supervisor's one loop: waits for signals, workers and clients, feeds [`Life`], does what it says.

use super::StartError;
use super::control::Clients;
use super::life::{Action, Event, Life};
use super::limit::LineLimit;
use super::pair::{HostDevices, Pair, Program};
use super::runtime_dir::Claim;
use super::signals::{Asked, Signals};
use super::stderr::Quotes;
use super::verdict::Verdict;
use super::watchdog::Watchdog;
use super::worker::Heard;
use crate::back::console::escape::key_name;
use crate::config::Config;
use crate::fault::armory::{Armory, Deed};
use crate::observe::report::{Report, SCHEMA, group};
use crate::observe::wire::{Reply, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use shared::msg::handover::{FromApp, FromVmm, ToApp, ToVmm};
use shared::spec::OnReset;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A machine that lived shorter than this before it reset is started again a little later.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// So much later: a guest in a reset loop must not fill the host's process table and log.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long the reader of a pty may take for the guest's last bytes (4 KiB at most) once the machine is over.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked whether it has: nothing tells of a read.
const READ_RECHECK: Duration = Duration::from_millis(5);

/// All that lasts as long as the run.
pub struct Supervisor<'a> {
    config: &'a Config,
    claim: &'a Claim<'a>,
    signals: Signals,
    host: HostDevices,
    clients: Clients,
    begun: Instant,
    engine: Option<(String, String)>,
    resets: u64,
    lines: LineLimit,
    watchdog: Watchdog,
    /// Scripted faults, and the lines about them: these must not keep others from the log.
    armory: Armory,
    injections: LineLimit,
    /// What the workers write to their standard error: as these.
    vmm_quotes: Quotes,
    app_quotes: Quotes,
    /// What the next I/O worker is to be.
    program: Program,
}

impl<'a> Supervisor<'a> {
    /// Takes over signals and console.
    pub fn new(config: &'a Config, claim: &'a Claim<'a>) -> Result<Self, StartError> {
        Ok(Self {
            config,
            claim,
            signals: Signals::take().map_err(StartError::Signals)?,
            host: HostDevices::open(config)?,
            clients: Clients::default(),
            begun: Instant::now(),
            engine: None,
            resets: 0,
            lines: LineLimit::default(),
            watchdog: Watchdog::new(config.host.watchdog_ms, Instant::now()),
            armory: Armory::new(
                &config.spec,
                config.host.fault_seed.into(),
                &config.host.faults,
                Instant::now(),
            ),
            injections: LineLimit::default(),
            vmm_quotes: Quotes::of("vmm"),
            app_quotes: Quotes::of("I/O worker"),
            program: Program::Same,
        })
    }

    /// Runs the machine, over its resets, to its end.
    pub fn run(mut self) -> Result<Verdict, StartError> {
        if let Some(at) = self.host.console.at() {
            tracing::info!(vm = self.name(), "console: {at}");
        }
        loop {
            let started = Instant::now();
            // The workers before these are gone, with what they were to do.
            self.armory.continued();
            let mut pair = Pair::start(self.config, &self.host, self.armory.orders())?;
            let verdict = self.live(&mut pair);
            // The workers are dead and reaped before anything else is let go.
            self.host.console.leave();
            drop(pair);
            if !verdict.reset || self.config.spec.on_reset == OnReset::Exit {
                self.let_the_reader_finish();
                return Ok(verdict);
            }
            self.resets += 1;
            self.engine = None;
            self.say("guest reset");
            if started.elapsed() < SHORT_LIFE {
                self.back_off();
            }
        }
    }

    fn name(&self) -> &'a str {
        &self.config.spec.name
    }

    /// One incarnation.
    fn live(&mut self, pair: &mut Pair) -> Verdict {
        let mut life = Life::new(self.config.host.restart_limit, Instant::now());
        self.watchdog.starts(Instant::now());
        loop {
            if let Some(verdict) = life.verdict() {
                return verdict.clone();
            }
            self.wait(&life, pair);
            let now = Instant::now();
            for event in self.events(&life, pair, now) {
                self.take(event, &mut life, pair, now);
            }
        }
    }

    fn take(&mut self, event: Event, life: &mut Life, pair: &mut Pair, now: Instant) {
        let mut actions = life.on(event, now);
        while !actions.is_empty() {
            // What cannot be done is an event in its turn.
            let failed = std::mem::take(&mut actions)
                .into_iter()
                .filter_map(|action| self.act(action, pair));
            actions = failed.flat_map(|event| life.on(event, now)).collect();
        }
    }

    /// Blocks until something may have happened. What, the non-blocking looks that follow find out.
    fn wait(&self, life: &Life, pair: &Pair) {
        let listener = self.claim.listener().map(|l| (l.as_fd(), PollFlags::POLLIN));
        // A client waits for a worker.
        let client = self.host.console.interest().filter(|_| life.io().serves());
        let watched: Vec<(BorrowedFd, PollFlags)> =
            std::iter::once((self.signals.as_fd(), PollFlags::POLLIN))
                .chain(pair.vmm.interests())
                .chain(pair.app.interests())
                .chain(listener)
                .chain(client.map(|fd| (fd, PollFlags::POLLIN)))
                .chain(self.clients.interests())
                .collect();
        let deadline = [
            life.deadline(),
            self.watchdog.deadline().filter(|_| life.io().is_watched()),
            pair.vmm.deadline(),
            pair.app.deadline(),
            self.clients.deadline(),
            self.armory.deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
        wait_for(&watched, deadline);
    }

    /// What happened since the last look, in the order in which it should count.
    fn events(&mut self, life: &Life, pair: &mut Pair, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(asked) = self.signals.take_next() {
            match asked {
                Asked::End(name) => events.push(Event::Signal(name)),
                Asked::Suspend => self.suspend(life, pair),
                Asked::Resume => self.resume(life, pair),
            }
        }
        if let Some(word) = pair.early.take() {
            self.hear_of_faults(&word, now);
            events.push(Event::App(word));
        }
        for heard in pair.app.hear::<FromApp>(now) {
            events.push(match heard {
                Heard::Word(word) => {
                    match word {
                        FromApp::ConsoleClientGone => self.host.console.drop_client(),
                        _ => self.hear_of_faults(&word, now),
                    }
                    Event::App(word)
                }
                Heard::Line(line) => {
                    warn(self.name(), self.app_quotes.quote(line, now));
                    continue;
                }
                Heard::Broke(how) => Event::AppBroke(how),
                Heard::Died(how) => {
                    warn(self.name(), self.app_quotes.last());
                    self.armory.continued();
                    // Raw only while a worker is there to put the terminal back should we be killed.
                    self.host.console.leave();
                    Event::AppDied(how)
                }
            });
        }
        if life.io().serves() && !self.lend_client(pair) {
            events.push(Event::AppBroke("it does not listen".to_owned()));
        }
        if life.io().is_watched()
            && let Some(since) = self.watchdog.look(pair.heartbeat(), now)
        {
            events.push(Event::AppSilent(since));
        }
        for heard in pair.vmm.hear::<FromVmm>(now) {
            events.push(match heard {
                Heard::Word(word) => Event::Vmm(word),
                Heard::Line(line) => {
                    warn(self.name(), self.vmm_quotes.quote(line, now));
                    continue;
                }
                Heard::Broke(how) => Event::VmmBroke(how),
                Heard::Died(how) => {
                    warn(self.name(), self.vmm_quotes.last());
                    Event::VmmDied(how)
                }
            });
        }
        self.serve_clients(life, pair, now, &mut events);
        self.do_faults(pair, now);
        events.push(Event::Tick);
        events
    }

    /// Takes the console's next client and lends it to the I/O worker. False: it takes no more words; its successor gets
    /// the client.
    fn lend_client(&mut self, pair: &Pair) -> bool {
        let client = self.host.console.next_client();
        client.is_none_or(|client| pair.app.lend(&ToApp::ConsoleClient, client))
    }

    fn serve_clients(&mut self, life: &Life, pair: &Pair, now: Instant, events: &mut Vec<Event>) {
        // Out of the way while it is answered from the rest of `self`.
        let mut clients = std::mem::take(&mut self.clients);
        if let Some(listener) = self.claim.listener() {
            clients.accept(listener, now);
        }
        clients.serve(now, |request| match request {
            Request::Status => Reply::Status(Box::new(self.report(life, pair))),
            Request::PowerButton => {
                events.push(Event::PowerButton);
                Reply::Done
            }
            Request::StopNow => {
                events.push(Event::StopNow);
                Reply::Done
            }
            Request::RestartIo => {
                self.program = Program::OnDisk;
                events.push(Event::RestartIo);
                Reply::Done
            }
            Request::Fault(text) => match self.armory.ask(&text, now) {
                Ok(answer) => {
                    pair.app.tell(&ToApp::Faults(self.armory.orders()));
                    Reply::Text(answer)
                }
                Err(error) => Reply::Error(error.to_string()),
            },
        });
        self.clients = clients;
    }

    /// What the I/O worker says of scripted faults.
    fn hear_of_faults(&mut self, word: &FromApp, now: Instant) {
        match word {
            FromApp::Injected { injections, progress } => {
                for line in self.armory.struck(injections, progress) {
                    self.say_injection(&line);
                }
            }
            FromApp::Stopping { ms } => self.armory.stopping(*ms, now),
            FromApp::Continued => self.armory.continued(),
            _ => {}
        }
    }

    /// What scripted faults make the supervisor do.
    fn do_faults(&mut self, pair: &mut Pair, now: Instant) {
        for (deed, line) in self.armory.due(now) {
            if let Some(line) = line {
                self.say_injection(&line);
            }
            match deed {
                Deed::Continue => pair.app.signal(Signal::SIGCONT),
                Deed::KillVmm => pair.vmm.kill(),
            }
        }
    }

    fn say_injection(&mut self, line: &str) {
        match self.injections.allow(Instant::now()) {
            Some(0) => tracing::info!(vm = self.name(), "{line}"),
            Some(count) => tracing::info!(
                vm = self.name(),
                "{count} lines about faults were held back; {line}"
            ),
            None => {}
        }
    }

    /// Does one thing; what came of it, if that is not as wanted.
    fn act(&mut self, action: Action, pair: &mut Pair) -> Option<Event> {
        match action {
            Action::Tell(word) => pair.vmm.tell(&ToVmm::from(word)),
            Action::KillVmm => pair.vmm.kill(),
            Action::KillApp => pair.app.kill(),
            Action::StartApp => return self.start_app(pair),
            Action::AppServes => {
                self.program = Program::Same;
                self.watchdog.serves(Instant::now());
                self.host.console.enter();
            }
            Action::Finish => pair.app.tell(&ToApp::Finish),
            Action::Announce { engine, why } => self.announce(engine, why),
            Action::Say(text) => self.say(&text),
            Action::Warn(text) => {
                if self.may_write() {
                    tracing::warn!(vm = self.name(), "{text}");
                }
            }
        }
        None
    }

    /// One that was asked for may be of another version; should it not fit, the one after it is ours.
    fn start_app(&mut self, pair: &mut Pair) -> Option<Event> {
        let program = std::mem::replace(&mut self.program, Program::Same);
        self.host.disks.change_worker();
        self.watchdog.starts(Instant::now());
        let started = pair.replace_app(program, &self.host, self.armory.orders());
        started.err().map(|error| Event::AppDied(error.to_string()))
    }

    fn say(&mut self, text: &str) {
        if self.may_write() {
            tracing::info!(vm = self.name(), "{text}");
        }
    }

    fn may_write(&mut self) -> bool {
        let held_back = self.lines.allow(Instant::now());
        if let Some(count @ 1..) = held_back {
            tracing::warn!(vm = self.name(), "{count} lines were held back");
        }
        held_back.is_some()
    }

    fn announce(&mut self, engine: String, why: String) {
        self.say(&format!("engine {engine}: {why}"));
        if self.resets == 0
            && let Some(key) = self.host.console.escape()
        {
            let key = key_name(key);
            tracing::info!(
                vm = self.name(),
                "{key} x ends the VM, {key} p presses the power button, {key} h helps"
            );
        }
        self.engine = Some((engine, why));
    }

    fn report(&self, life: &Life, pair: &Pair) -> Report {
        let (engine, engine_why) = self.engine.clone().unzip();
        Report {
            schema: SCHEMA,
            name: self.name().to_owned(),
            state: life.name().to_owned(),
            pid: std::process::id(),
            engine,
            engine_why,
            uptime_s: self.begun.elapsed().as_secs_f64(),
            memory_bytes: self.config.spec.memory_bytes,
            resets: self.resets,
            vmm_pid: pair.vmm.pid(),
            io_worker_pid: pair.app.pid(),
            io_state: life.io().name().to_owned(),
            io_restarts: life.io().restarts(),
            io_last_death: life.io().last_death().map(str::to_owned),
            faults: self.armory.counts(),
            console_at: self.host.console.at().map(str::to_owned),
            io_worker: group(pair.app_counters().all().map(|(counter, n)| (counter.name(), n))),
            vmm: group(pair.vmm_counters().all().map(|(counter, n)| (counter.name(), n))),
        }
    }

    /// The user suspends the job: the terminal goes back, the workers stop, and then we do, to go on in the line after.
    fn suspend(&mut self, life: &Life, pair: &mut Pair) {
        self.host.console.leave();
        pair.vmm.signal(Signal::SIGSTOP);
        pair.app.signal(Signal::SIGSTOP);
        // SIGSTOP cannot be refused; its error would mean that we go on at once, which resuming handles.
        raise(Signal::SIGSTOP).ok();
        self.resume(life, pair);
    }

    fn resume(&mut self, life: &Life, pair: &mut Pair) {
        if life.io().serves() {
            self.host.console.enter();
        }
        self.watchdog.restart(Instant::now());
        pair.app.signal(Signal::SIGCONT);
        pair.vmm.signal(Signal::SIGCONT);
    }

    /// A pty dies with us, and what its reader has not read dies with it: waits for the reader, a little, and no longer
    /// than until the next signal.
    fn let_the_reader_finish(&mut self) {
        let end = Instant::now() + READ_LIMIT;
        while Instant::now() < end && self.host.console.is_unread() && self.signals.take_next().is_none() {
            let next = Instant::now() + READ_RECHECK;
            wait_for(&[(self.signals.as_fd(), PollFlags::POLLIN)], Some(next));
        }
    }

    /// Waits a little; a signal cuts it short and is handled by the next incarnation.
    fn back_off(&self) {
        wait_for(
            &[(self.signals.as_fd(), PollFlags::POLLIN)],
            Some(Instant::now() + BACK_OFF),
        );
    }
}

fn warn(vm: &str, text: Option<String>) {
    if let Some(text) = text {
        tracing::warn!(vm, "{text}");
    }
}

fn wait_for(watched: &[(BorrowedFd, PollFlags)], deadline: Option<Instant>) {
    let mut fds: Vec<PollFd> = watched
        .iter()
        .map(|&(fd, events)| PollFd::new(fd, events))
        .collect();
    let limit = deadline.map_or(PollTimeout::NONE, |at| {
        // A millisecond more, lest the rest of one make us look again and again before it is over.
        let millis = at.saturating_duration_since(Instant::now()).as_millis() + 1;
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    });
    // Interrupted or refused, the caller looks at everything and comes back.
    poll(&mut fds, limit).ok();
}
