//! `serial = "stdio"` and `"file:PATH"`: descriptors of the host as they are, and the user's terminal.
//!
//! [`Stream`] is binary clean: nothing is interpreted, end of input just stops input. [`Terminal`] is for a person: it
//! watches for the escape key. The supervisor puts the terminal into raw mode and back; this side only puts it back when
//! the supervisor has vanished.

use super::escape::{EscapeKey, Typed, help};
use super::host_fd::{HostFd, Io};
use super::{Console, RECHECK, Wanted, Wrote, terminal};
use crate::back::{Interest, Interests};
use nix::errno::Errno;
use nix::poll::PollFlags;
use shared::msg::handover::{Escape, TerminalModes};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::Duration;

/// Commands of the escape key waiting to be told; a person types no faster than they are taken.
const MAX_ASKED: usize = 16;

/// Pipes, files, sockets handed over by whoever started us.
#[derive(Debug)]
pub struct Stream {
    input: Option<HostFd>,
    output: Output,
}

impl Stream {
    /// Either end may be missing.
    pub fn new(input: Option<HostFd>, output: Option<HostFd>) -> Self {
        Self {
            input,
            output: Output::new(output),
        }
    }
}

impl Console for Stream {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        self.output.write(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        match self.input.as_ref().map(|fd| fd.read(into)) {
            Some(Io::Done(count)) => count,
            Some(Io::Closed | Io::Failed(_)) => {
                self.input = None;
                0
            }
            Some(Io::WouldBlock) | None => 0,
        }
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let input = self.input.as_ref().filter(|_| wanted.input);
        Interests {
            within: input.is_some_and(HostFd::is_regular).then_some(Duration::ZERO),
            fds: [
                input.filter(|fd| !fd.is_regular()).map(|fd| Interest {
                    fd: fd.as_fd(),
                    events: PollFlags::POLLIN,
                }),
                self.output.interest(wanted),
            ],
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.output.trouble.take()
    }
}

/// The user's terminal.
#[derive(Debug)]
pub struct Terminal {
    input: HostFd,
    output: Output,
    key: Option<u8>,
    escape: EscapeKey,
    restore: TerminalModes,
    asked: VecDeque<Escape>,
    /// Reading was refused: another job has the terminal.
    background: bool,
}

impl Terminal {
    /// `input` is the terminal, opened for reading and writing; `output` may be it or something else.
    pub fn new(input: HostFd, output: Option<HostFd>, key: Option<u8>, restore: TerminalModes) -> Self {
        Self {
            input,
            output: Output::new(output),
            key,
            escape: EscapeKey::new(key),
            restore,
            asked: VecDeque::new(),
            background: false,
        }
    }

    /// Filters `typed` in place; returns how many bytes at its front are the guest's.
    fn filter(&mut self, typed: &mut [u8]) -> usize {
        let mut kept = 0;
        for at in 0..typed.len() {
            match self.escape.typed(typed[at]) {
                Typed::Guest(byte) => {
                    typed[kept] = byte;
                    kept += 1;
                }
                Typed::Ask(what) if self.asked.len() < MAX_ASKED => self.asked.push_back(what),
                Typed::Help => {
                    // The help goes to the terminal itself, not into what may be a redirected output; if it does not
                    // fit, the user asks again.
                    if let Some(key) = self.key {
                        self.input.write(help(key).as_bytes());
                    }
                }
                Typed::Ask(_) | Typed::Nothing => {}
            }
        }
        kept
    }
}

impl Console for Terminal {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        self.output.write(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        if self.background && !terminal::is_foreground(&self.input) {
            return 0;
        }
        self.background = false;
        match self.input.read(into) {
            Io::Done(count) => self.filter(&mut into[..count]),
            Io::WouldBlock => 0,
            // EIO: we are in the background (our SIGTTIN is blocked), or the terminal is gone for good.
            Io::Closed | Io::Failed(_) => {
                self.background = true;
                0
            }
        }
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        Interests {
            within: (wanted.input && self.background).then_some(RECHECK),
            fds: [
                (wanted.input && !self.background).then(|| Interest {
                    fd: self.input.as_fd(),
                    events: PollFlags::POLLIN,
                }),
                self.output.interest(wanted),
            ],
        }
    }

    fn asked(&mut self) -> Option<Escape> {
        self.asked.pop_front()
    }

    fn trouble(&mut self) -> Option<String> {
        self.output.trouble.take()
    }

    fn abandoned(&mut self) {
        // Nobody is left to tell of a failure, and nothing else to try.
        terminal::restore(&self.input, &self.restore).ok();
    }
}

/// The writing half both share.
#[derive(Debug)]
struct Output {
    fd: Option<HostFd>,
    told: bool,
    trouble: Option<String>,
}

impl Output {
    fn new(fd: Option<HostFd>) -> Self {
        Self {
            fd,
            told: false,
            trouble: None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Wrote {
        match self.fd.as_ref().map(|fd| fd.write(bytes)) {
            Some(Io::Done(count)) => {
                self.told = false;
                Wrote::Out(count)
            }
            Some(Io::WouldBlock) => Wrote::Blocked,
            Some(Io::Closed) => {
                self.fd = None;
                Wrote::Dropped(bytes.len())
            }
            // A full disk may have room again: the descriptor stays, the user is told once.
            Some(Io::Failed(errno)) => {
                if !std::mem::replace(&mut self.told, true) && errno != Errno::EIO {
                    self.trouble = Some(format!("console output is being lost: {}", errno.desc()));
                }
                Wrote::Dropped(bytes.len())
            }
            None => Wrote::Dropped(bytes.len()),
        }
    }

    fn interest(&self, wanted: Wanted) -> Option<Interest<'_>> {
        let fd = self.fd.as_ref().filter(|fd| wanted.output && !fd.is_regular())?;
        Some(Interest {
            fd: fd.as_fd(),
            events: PollFlags::POLLOUT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::unistd::{pipe, read, write};

    #[test]
    fn commands_are_told_and_kept_from_the_guest() {
        let pty = openpty(None, None).unwrap();
        let saved = terminal::modes(&pty.slave).unwrap();
        terminal::make_raw(&pty.slave, &saved).unwrap();
        let input = HostFd::new(pty.slave).unwrap();
        let mut console = Terminal::new(input, None, Some(1), saved);
        write(&pty.master, b"a\x01pb\x01x\x01h").unwrap();
        let mut into = [0; 64];
        let got = console.read(&mut into);
        assert_eq!(&into[..got], b"ab");
        assert_eq!(console.asked(), Some(Escape::PowerButton));
        assert_eq!(console.asked(), Some(Escape::End));
        assert_eq!(console.asked(), None);
        let mut screen = [0; 512];
        let got = read(&pty.master, &mut screen).unwrap();
        assert!(String::from_utf8_lossy(&screen[..got]).contains("C-a x"));
    }

    #[test]
    fn end_of_input_stops_input_only() {
        let (input, typist) = pipe().unwrap();
        let (reader, output) = pipe().unwrap();
        let mut console = Stream::new(
            Some(HostFd::new(input).unwrap()),
            Some(HostFd::new(output).unwrap()),
        );
        drop(typist);
        let wanted = Wanted {
            input: true,
            output: false,
        };
        assert_eq!(console.read(&mut [0; 8]), 0);
        assert!(
            console.interests(wanted).fds.iter().all(Option::is_none),
            "end of file must not be polled forever"
        );
        assert_eq!(console.write(b"x"), Wrote::Out(1));
        drop(reader);
        assert_eq!(console.write(b"xyz"), Wrote::Dropped(3));
    }

    #[test]
    fn a_full_disk_is_told_once_and_the_output_counted_as_dropped() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut console = Stream::new(None, Some(HostFd::new(full.into()).unwrap()));
        assert_eq!(console.write(b"lost"), Wrote::Dropped(4));
        assert!(console.trouble().is_some_and(|text| text.contains("No space")));
        assert_eq!(console.write(b"lost"), Wrote::Dropped(4));
        assert_eq!(console.trouble(), None);
    }
}
