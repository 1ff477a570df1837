//! A process under observation: its lines, each with the instant it was complete, and its end.

use crate::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// A running machine; it is ended when this goes.
pub struct Watched {
    child: Child,
    lines: Receiver<(Instant, String)>,
    /// When the process was started.
    pub began: Instant,
}

impl Watched {
    /// Starts a process; lines come from its standard output and error, and from `more`, a file of whatever kind that is
    /// opened for reading once the process runs.
    pub fn start(command: &mut Command, more: Option<std::path::PathBuf>) -> Outcome<Self> {
        let (tell, lines) = mpsc::channel();
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(output) = child.stdout.take() {
            follow(output, tell.clone());
        }
        if let Some(errors) = child.stderr.take() {
            follow(errors, tell.clone());
        }
        if let Some(path) = more {
            thread::spawn(move || {
                if let Ok(file) = std::fs::File::open(path) {
                    copy(file, &tell);
                }
            });
        }
        Ok(Self { child, lines, began })
    }

    /// When a line that holds `text` was complete; `mark` is the last earlier one that holds that.
    pub fn wait(&self, text: &str, mark: &str, limit: Duration) -> Outcome<(Instant, Option<Instant>)> {
        let mut marked = None;
        let mut said = Vec::new();
        loop {
            let left = limit.saturating_sub(self.began.elapsed());
            let Ok((at, line)) = self.lines.recv_timeout(left) else {
                return Err(format!("no `{text}`; it said: {}", said.join("\n")).into());
            };
            if line.contains(text) {
                return Ok((at, marked));
            }
            if line.contains(mark) {
                marked = Some(at);
            }
            said.push(line);
        }
    }
}

impl Drop for Watched {
    /// Twice politely (vmapp's second SIGTERM does not wait for the guest), then not.
    fn drop(&mut self) {
        let Ok(id) = i32::try_from(self.child.id()) else {
            return;
        };
        for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
            // It may have ended by itself; it is not reaped yet, so the number is still its own.
            kill(Pid::from_raw(id), signal).ok();
            for _ in 0..100 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.child.wait().ok();
    }
}

fn follow(from: impl Read + Send + 'static, tell: Sender<(Instant, String)>) {
    thread::spawn(move || copy(from, &tell));
}

/// Until the end of the stream, or until nobody listens.
fn copy(from: impl Read, tell: &Sender<(Instant, String)>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if tell.send((Instant::now(), text)).is_err() {
            return;
        }
        line.clear();
    }
}
