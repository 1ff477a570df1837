//! One worker as the supervisor sees it: what it says, and its death, in the right order.

use super::stderr::Stderr;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use vmdriver_shim::handover::{HandoverError, Received, Socket};
use vmdriver_shim::spawn::{Child, Death};

/// Most records of one worker taken in one round: a flood must not keep the supervisor from the rest.
const PER_ROUND: usize = 16;
/// How long a worker may live after it has closed its socket. A dying process closes it a moment before it is dead.
const CLOSED_LIMIT: Duration = Duration::from_secs(1);

/// What came from a worker.
#[derive(Debug)]
pub enum Heard<T> {
    /// A word.
    Word(T),
    /// A line of its standard error.
    Line(String),
    /// Not a word, or the socket closed while it lives on.
    Broke(String),
    /// It is gone.
    Died(String),
}

/// A worker.
pub struct Worker {
    child: Child,
    socket: Socket,
    stderr: Stderr,
    /// Since when there is nothing more to hear.
    closed: Option<Instant>,
    told_death: bool,
}

impl Worker {
    /// A worker just spawned, and the socket to it, on which it can send nothing but words.
    pub fn new(child: Child, socket: Socket, stderr: Stderr) -> Self {
        Self {
            child,
            socket,
            stderr,
            closed: None,
            told_death: false,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What to wait for.
    pub fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let socket = self.closed.is_none().then(|| self.socket.as_fd());
        let death = (!self.told_death).then(|| self.child.pidfd());
        let fds = socket.into_iter().chain(self.stderr.as_fd()).chain(death);
        fds.map(|fd| (fd, PollFlags::POLLIN))
    }

    /// When to look again at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let closed = self.closed.filter(|_| !self.told_death);
        let deadlines = [closed.map(|at| at + CLOSED_LIMIT), self.stderr.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Everything said up to now, a bounded amount, and the death after the last word and line.
    pub fn hear<T: DeserializeOwned>(&mut self, now: Instant) -> Vec<Heard<T>> {
        // Asked before anything is read: who is dead by now says nothing after what is read below.
        let death = self.child.try_wait();
        let mut heard = Vec::new();
        let mut all = self.closed.is_some();
        while !all && heard.len() < PER_ROUND {
            match self.socket.recv() {
                Ok(Received::Message(word, _)) => heard.push(Heard::Word(word)),
                Ok(Received::Nothing) => all = true,
                Ok(Received::HungUp) => {
                    self.closed = Some(now);
                    all = true;
                }
                Err(error) => {
                    heard.push(Heard::Broke(error.to_string()));
                    self.closed = Some(now);
                    all = true;
                }
            }
        }
        if self.told_death {
            return heard;
        }
        let lines = match death {
            Some(_) if all => self.stderr.last_look(),
            _ => self.stderr.look(now),
        };
        heard.extend(lines.into_iter().map(Heard::Line));
        match death {
            Some(death) if all => {
                self.told_death = true;
                heard.push(Heard::Died(describe(death)));
            }
            None if self.closed.is_some_and(|at| now >= at + CLOSED_LIMIT) => {
                heard.push(Heard::Broke("it closed its socket and lives on".to_owned()));
            }
            _ => {}
        }
        heard
    }

    /// Waits for its first word, before any is heard otherwise. `None`: it died, or said nothing that is one in time.
    pub fn first_word<T: DeserializeOwned>(&self, limit: Duration) -> Option<T> {
        match self.socket.wait(limit).and_then(|_| self.socket.recv()) {
            Ok(Received::Message(word, _)) => Some(word),
            Ok(Received::Nothing | Received::HungUp) | Err(_) => None,
        }
    }

    /// What it wrote to its standard error, for when nothing more is heard of it.
    pub fn last_lines(&mut self) -> Vec<String> {
        self.stderr.last_look()
    }

    /// Says something. A worker that does not listen is found out by its deadline or its death.
    pub fn tell(&self, word: &impl Serialize) {
        self.socket.send(word, &[]).ok();
    }

    /// Says something with a descriptor, whose copy here stays ours. False: it has heard nothing for so long that there is
    /// no room for another word. One that is dead is found out by its death.
    pub fn lend(&self, word: &impl Serialize, fd: BorrowedFd<'_>) -> bool {
        !matches!(self.socket.send(word, &[fd]), Err(HandoverError::Busy))
    }

    /// Ends it.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Stops it or lets it go on, with the supervisor.
    pub fn signal(&mut self, signal: Signal) {
        // Not reaped as long as `try_wait` has not said so: the number is still its own.
        if self.child.try_wait().is_none()
            && let Ok(pid) = i32::try_from(self.child.pid())
        {
            kill(Pid::from_raw(pid), signal).ok();
        }
    }
}

/// As a user wants to read it.
fn describe(death: Death) -> String {
    match death {
        Death::Exited(code) => format!("exited with status {code}"),
        // Its jail's doing, and never the guest's or the peer's with a right list.
        Death::Signalled(number) if number == Signal::SIGSYS as i32 => {
            "killed by SIGSYS: a system call outside its list, which the kernel's log names".to_owned()
        }
        Death::Signalled(number) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by signal {number} ({signal})"),
            Err(_) => format!("killed by signal {number}"),
        },
    }
}
