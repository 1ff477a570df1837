//! A worker's standard error: a pipe of its own, which the supervisor reads and tells the user line by line.
//!
//! What a worker knows it says in words, on its socket. What comes here nobody planned: a panic's message, the C
//! library's last words. It must reach the user, and before the line that tells of the death; but a worker that is taken
//! over may write anything here, as fast as it can. So both ends of the pipe are non-blocking (each has its own open file
//! description): one whose supervisor does not read loses words. A line has a length, a look takes a bounded amount, who
//! floods is read a little at a time, and of a flood of lines a trickle is told.
//!
//! What must never happen here: the user's own standard error in a worker's hands, a wait on either side, or memory or
//! lines without a bound.

use super::limit::LineLimit;
use super::verdict::plain;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most bytes kept of a line: more than [`plain`] shows, whatever the characters, so that a line cut here is seen to be.
const LONGEST: usize = 2048;
/// Most bytes read at one look.
const CHUNK: usize = 4096;
/// After a look that found so much there is none for this long: a flood costs 80 KB a second, and no core. What comes
/// meanwhile waits in the pipe.
const REST: Duration = Duration::from_millis(50);
/// What a pipe holds (pipe(7)). Of a dead worker all is read at once: its last words are at the end.
const PIPE: usize = 64 << 10;

/// The reading end.
pub struct Stderr {
    /// `None` when there is nothing more to come.
    pipe: Option<File>,
    lines: Lines,
    rests: Option<Instant>,
}

impl Stderr {
    /// A pipe: this end, and the one for the worker.
    pub fn pipe() -> nix::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let stderr = Self {
            pipe: Some(File::from(ours)),
            lines: Lines::default(),
            rests: None,
        };
        Ok((stderr, theirs))
    }

    /// What to wait for, if anything.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipe.as_ref()?;
        self.rests.is_none().then(|| pipe.as_fd())
    }

    /// When to look again at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.rests
    }

    /// The lines that are whole, of a bounded amount of what it has written.
    pub fn look(&mut self, now: Instant) -> Vec<String> {
        if self.rests.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let taken = self.take(&mut lines);
        self.rests = (taken == CHUNK).then(|| now + REST);
        lines
    }

    /// It is dead: all that is left, with or without an end of its last line.
    pub fn last_look(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut total = 0;
        // Somebody it gave its end to may go on writing.
        while total < PIPE {
            match self.take(&mut lines) {
                0 => break,
                taken => total += taken,
            }
        }
        self.lines.end(&mut lines);
        self.pipe = None;
        self.rests = None;
        lines
    }

    fn take(&mut self, lines: &mut Vec<String>) -> usize {
        let Some(pipe) = &mut self.pipe else {
            return 0;
        };
        let mut bytes = [0; CHUNK];
        match pipe.read(&mut bytes) {
            Ok(0) => {
                self.pipe = None;
                0
            }
            Ok(taken) => {
                self.lines.take(bytes.get(..taken).unwrap_or_default(), lines);
                taken
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.pipe = None;
                0
            }
        }
    }
}

/// Bytes cut into lines fit for a terminal and a log.
#[derive(Default)]
struct Lines {
    /// The beginning of one whose end has not come.
    begun: Vec<u8>,
    /// It is told already, for it was too long: the rest is passed over.
    told: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            if !self.told {
                let text = text.unwrap_or(piece);
                let room = LONGEST - self.begun.len();
                self.begun.extend_from_slice(text.get(..room).unwrap_or(text));
                if self.begun.len() == LONGEST {
                    self.end(lines);
                    self.told = true;
                }
            }
            if text.is_some() {
                self.end(lines);
                self.told = false;
            }
        }
    }

    fn end(&mut self, lines: &mut Vec<String>) {
        let line = plain(&String::from_utf8_lossy(&self.begun));
        self.begun.clear();
        if !line.trim().is_empty() {
            lines.push(line);
        }
    }
}

/// What one worker's lines become on their way to the user. Lasts longer than a worker: the limit is for all that come one
/// after the other.
#[derive(Debug)]
pub struct Quotes {
    /// Who is quoted.
    who: &'static str,
    limit: LineLimit,
    /// The last line, if it was held back.
    held: Option<String>,
}

impl Quotes {
    /// Of a worker of this name.
    pub fn of(who: &'static str) -> Self {
        Self {
            who,
            limit: LineLimit::default(),
            held: None,
        }
    }

    /// What to tell of a line.
    pub fn quote(&mut self, line: String, now: Instant) -> Option<String> {
        let who = self.who;
        let Some(missing) = self.limit.allow(now) else {
            self.held = Some(line);
            return None;
        };
        self.held = None;
        Some(match missing {
            0 => format!("{who} says: {line}"),
            _ => format!("{who} says, after {missing} lines that were held back: {line}"),
        })
    }

    /// It is dead. Its last line says most about why, and is told however much came before: one line a death.
    pub fn last(&mut self) -> Option<String> {
        let line = self.held.take()?;
        Some(format!("{} said last: {line}", self.who))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece, &mut told);
        }
        lines.end(&mut told);
        told
    }

    #[test]
    fn lines_come_whole_plain_and_without_the_empty_ones() {
        assert_eq!(
            cut(&[b"one\ntw", b"o\n", b"", b"\n \r\n", b"three"]),
            ["one", "two", "three"]
        );
        let hostile = b"\x1b]0;pwned\x07\xff\xc2\x9b31m\n";
        let told = cut(&[hostile]);
        assert_eq!(told.len(), 1);
        assert!(!told[0].chars().any(char::is_control), "{told:?}");
    }

    #[test]
    fn an_endless_line_is_one_line_and_the_next_is_another() {
        for letter in ["x", "\u{10348}"] {
            let endless = letter.repeat(1 << 16);
            let mut lines = Lines::default();
            let mut told = Vec::new();
            for piece in endless.as_bytes().chunks(1000) {
                lines.take(piece, &mut told);
                assert!(lines.begun.capacity() <= 2 * LONGEST);
            }
            assert_eq!(told.len(), 1, "told as soon as it is long enough");
            assert!(
                told[0].ends_with('…') && told[0].chars().count() == 501,
                "{told:?}"
            );
            lines.take(b"its end\nnext\n", &mut told);
            assert_eq!(told[1..], ["next"]);
        }
        let exact = [b"y".repeat(LONGEST), b"\nnext\n".to_vec()].concat();
        assert_eq!(cut(&[&exact])[1..], ["next"]);
    }

    #[test]
    fn neither_end_of_the_pipe_waits_and_a_flood_is_read_a_little_at_a_time() {
        let (mut ours, theirs) = Stderr::pipe().unwrap();
        let now = Instant::now();
        assert_eq!(ours.look(now), [""; 0]);
        assert!(ours.as_fd().is_some());
        let mut theirs = File::from(theirs);
        let flood = b"flood\n".repeat(PIPE);
        let written = theirs.write(&flood).unwrap();
        assert!(written <= PIPE, "the rest is lost");
        assert_eq!(theirs.write(b"more").unwrap_err().kind(), ErrorKind::WouldBlock);
        let most = CHUNK / 6 + 1;
        for look in 0..5 {
            let now = now + look * REST;
            assert!((1..=most).contains(&ours.look(now).len()));
            assert!(ours.as_fd().is_none() && ours.look(now).is_empty(), "it rests");
            assert_eq!(ours.deadline(), Some(now + REST));
        }
        theirs.write_all(b"\nlast words").unwrap();
        let lines = ours.last_look();
        assert_eq!(lines.last().unwrap(), "last words");
        assert!(ours.as_fd().is_none() && ours.deadline().is_none());
        assert_eq!(ours.last_look(), [""; 0]);
    }

    #[test]
    fn a_closed_pipe_is_waited_for_no_more() {
        let (mut ours, theirs) = Stderr::pipe().unwrap();
        drop(theirs);
        assert_eq!(ours.look(Instant::now()), [""; 0]);
        assert!(ours.as_fd().is_none());
    }

    #[test]
    fn the_last_line_is_told_whatever_came_before() {
        let (mut quotes, now) = (Quotes::of("vmm"), Instant::now());
        assert_eq!(quotes.quote("hm".into(), now).unwrap(), "vmm says: hm");
        assert_eq!(quotes.last(), None);
        let told = (0..1000).filter_map(|n| quotes.quote(n.to_string(), now)).count();
        assert!(told < 50, "{told}");
        assert_eq!(quotes.last().unwrap(), "vmm said last: 999");
        assert_eq!(quotes.last(), None);
        let later = quotes.quote("on".into(), now + Duration::from_secs(60)).unwrap();
        assert!(
            later.starts_with("vmm says, after 9") && later.ends_with(": on"),
            "{later}"
        );
    }
}
