//! Looking at running VMs from outside, and the log.
//!
//! | module | what it is |
//! |---|---|
//! | [`report`] | the status of one VM: the public JSON schema |
//! | [`wire`] | the control socket's language |
//! | [`client`] | asking a running VM's supervisor |
//! | [`table`] | a status as a table for a person |
//! | [`logs`] | the log on standard error |
//!
//! The commands here are clients: they never touch a VM's memory or workers, only its supervisor's socket.

pub mod client;
pub mod logs;
pub mod report;
pub mod table;
pub mod wire;

use crate::supervise::runtime_dir::RuntimeDir;
use client::{Answer, ClientError, ask, wait_for_end};
use report::Report;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use wire::Request;

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for a person.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Exit status of what went as asked.
const DONE: u8 = 0;
/// Exit status of a VM that is not there or does not answer, or of output that could not be written.
const FAILED: u8 = 1;

/// Time between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long `stop --now` waits for the end: the supervisor's own limits for a vmm and a terminal that do not obey, and some.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long `restart-io` waits for another I/O worker: one that does not fit, and has ten seconds to show that, is followed
/// by one that does.
const RESTART_LIMIT: Duration = Duration::from_secs(15);
/// Time between two looks for it.
const RESTART_RECHECK: Duration = Duration::from_millis(10);

/// Up to the top left corner, and erase everything: `--watch` on a terminal.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

/// `vmapp list`: the running VMs of this user. Exit status 0 also when there is none.
pub fn list() -> u8 {
    finish(RuntimeDir::open().map_err(ClientError::from).and_then(|dir| {
        let mut rows = Vec::new();
        for name in dir.names() {
            match ask(&dir, &name, Request::Status) {
                Ok(Answer { report, .. }) => rows.push((name, report)),
                // It ended meanwhile, or had left its socket behind.
                Err(ClientError::NoSuch { .. }) => {}
                Err(_) => rows.push((name, None)),
            }
        }
        print(&table::list(&rows))
    }))
}

/// `vmapp status`: one VM, once or again every second until it ends.
pub fn status(name: &str, json: bool, watch: bool) -> u8 {
    finish(RuntimeDir::open().map_err(ClientError::from).and_then(|dir| {
        let report = get(&dir, name)?;
        if !watch {
            return print(&show(&report, None, json));
        }
        self::watch(&dir, report, json)
    }))
}

fn watch(dir: &RuntimeDir, first: Report, json: bool) -> Result<(), ClientError> {
    let in_place = !json && io::stdout().is_terminal();
    let name = first.name.clone();
    let mut before: Option<(Report, Instant)> = None;
    let mut now = (first, Instant::now());
    loop {
        let rates = before
            .as_ref()
            .map(|(report, at)| (report, now.1.duration_since(*at)));
        let text = show(&now.0, rates, json);
        let pace = if in_place { CLEAR_SCREEN } else { "" };
        let gap = if in_place || json { "" } else { "\n" };
        print(&format!("{pace}{text}{gap}"))?;
        std::thread::sleep(WATCH_EVERY);
        let next = match get(dir, &name) {
            // The end of the VM is the end of watching it, not a failure.
            Err(ClientError::NoSuch { .. }) => return Ok(()),
            other => other?,
        };
        before = Some(std::mem::replace(&mut now, (next, Instant::now())));
    }
}

fn show(report: &Report, before: Option<(&Report, Duration)>, json: bool) -> String {
    if json {
        return String::from_utf8_lossy(&wire::line(report)).into_owned();
    }
    table::status(report, before)
}

/// `vmapp stop`: presses the power button and returns; with `now`, ends the VM and waits until it is gone.
pub fn stop(name: &str, now: bool) -> u8 {
    finish(RuntimeDir::open().map_err(ClientError::from).and_then(|dir| {
        if !now {
            ask(&dir, name, Request::PowerButton)?;
            return print(&format!(
                "{name}: pressed the power button; the guest decides when to power off (--now ends it at once)\n"
            ));
        }
        let answer = ask(&dir, name, Request::StopNow)?;
        wait_for_end(answer.stream, END_LIMIT)?;
        print(&format!("{name}: ended\n"))
    }))
}

/// `vmapp restart-io`: returns when another I/O worker serves. One that was not the first to be started is not what was
/// asked for.
pub fn restart_io(name: &str) -> u8 {
    finish(RuntimeDir::open().map_err(ClientError::from).and_then(|dir| {
        let before = get(&dir, name)?;
        ask(&dir, name, Request::RestartIo)?;
        let until = Instant::now() + RESTART_LIMIT;
        loop {
            let now = get(&dir, name)?;
            if now.io_state == "serving" && now.io_worker_pid != before.io_worker_pid {
                if now.io_restarts != before.io_restarts + 1 {
                    return Err(ClientError::OtherWorker {
                        how: now.io_last_death.unwrap_or_default(),
                        serves: now.io_worker_pid,
                    });
                }
                return print(&format!("{name}: I/O worker {} serves\n", now.io_worker_pid));
            }
            if Instant::now() >= until {
                return Err(ClientError::NoWorker {
                    state: now.io_state,
                    limit: RESTART_LIMIT,
                });
            }
            std::thread::sleep(RESTART_RECHECK);
        }
    }))
}

/// `vmapp fault`: each text in turn, up to the first that is refused.
pub fn fault(name: &str, texts: &[String]) -> u8 {
    finish(RuntimeDir::open().map_err(ClientError::from).and_then(|dir| {
        for text in texts {
            let answer = ask(&dir, name, Request::Fault(text.clone()))?;
            print(&format!("{name}: {}", answer.text.ok_or(ClientError::Nonsense)?))?;
        }
        Ok(())
    }))
}

fn get(dir: &RuntimeDir, name: &str) -> Result<Report, ClientError> {
    ask(dir, name, Request::Status)?
        .report
        .ok_or(ClientError::Nonsense)
}

fn print(text: &str) -> Result<(), ClientError> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that went away (`| head`) has what it wanted, but a watch must end.
        Err(error) => Err(ClientError::Output(error)),
        Ok(()) => Ok(()),
    }
}

fn finish(outcome: Result<(), ClientError>) -> u8 {
    match outcome {
        Ok(()) => DONE,
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
        Err(error) => {
            eprintln!("error: {error}");
            FAILED
        }
    }
}
