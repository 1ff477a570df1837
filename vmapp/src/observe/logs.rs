//! The log on standard error: lines for a person, or one JSON object a line. Guest bytes never go here.
//!
//! Whoever logs must not wait for a reader: standard error may be a pipe that nobody reads, or that the guest's console
//! fills. A line that finds no room for a moment is lost, and its loss told with the next.

use super::LogFormat;
use libc::PIPE_BUF;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Environment variable with a filter for the log (`debug`, `vmapp=trace`).
const FILTER_VARIABLE: &str = "WORLDSWITCH_LOG";
/// How long a line waits for room, in milliseconds. Once one has waited in vain, those after it wait no more until there
/// is room again.
const PATIENCE: u8 = 200;

/// Starts logging for this process; later calls change nothing.
pub fn init(format: LogFormat, quiet: bool) {
    let level = if quiet {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var(FILTER_VARIABLE)
        .from_env_lossy();
    // Without a descriptor left nothing else works either: then nothing is said.
    let Ok(out) = standard_error() else {
        return;
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Mutex::new(Out { out, format, lost: 0 }));
    // Fails if somebody logs already: then it is done.
    match format {
        LogFormat::Human => log.event_format(Human).try_init().ok(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).try_init().ok(),
    };
}

/// A pipe or terminal as an open file description of our own, non-blocking: the flag on the user's would stay after us.
/// Anything else (a file, a socket), or what refuses that, as it is.
fn standard_error() -> io::Result<OwnedFd> {
    let stderr = io::stderr();
    let kind = SFlag::from_bits_truncate(fstat(&stderr)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFIFO || stderr.is_terminal() {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        if let Ok(opened) = open("/proc/self/fd/2", flags, Mode::empty()) {
            return Ok(opened);
        }
    }
    stderr.as_fd().try_clone_to_owned()
}

/// Where lines go.
struct Out {
    out: OwnedFd,
    format: LogFormat,
    /// Lines since the last that found room.
    lost: u64,
}

impl Out {
    /// Writes all of a line, in pieces that fit where a pipe or socket has room at all; or some, or nothing.
    fn put(&self, line: &[u8]) -> nix::Result<()> {
        let patience = if self.lost == 0 { PATIENCE } else { 0 };
        let mut left = line;
        while let Some(piece) = left
            .get(..left.len().min(PIPE_BUF))
            .filter(|piece| !piece.is_empty())
        {
            let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(patience))? == 0 {
                return Err(Errno::EAGAIN);
            }
            let written = nix::unistd::write(&self.out, piece)?;
            left = left.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn of_the_lost(&self) -> String {
        let text = format!("{} lines of the log found no room here and are lost", self.lost);
        match self.format {
            LogFormat::Human => format!("worldswitch: warning: {text}\n"),
            LogFormat::Json => format!("{{\"level\":\"WARN\",\"message\":\"{text}\"}}\n"),
        }
    }
}

impl io::Write for Out {
    /// A line. Never fails: a log that cannot be written is no reason to end.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let told = self.lost == 0 || self.put(self.of_the_lost().as_bytes()).is_ok();
        if told {
            self.lost = 0;
        }
        if !told || self.put(line).is_err() {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `worldswitch: NAME: message`, with the level where it is not the usual one.
struct Human;

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        write!(out, "worldswitch: ")?;
        if !line.vm.is_empty() {
            write!(out, "{}: ", line.vm)?;
        }
        match *event.metadata().level() {
            Level::WARN => write!(out, "warning: ")?,
            Level::DEBUG | Level::TRACE => write!(out, "debug: ")?,
            _ => {}
        }
        writeln!(out, "{}{}", line.message, line.rest)
    }
}

#[derive(Default)]
struct Line {
    vm: String,
    message: String,
    rest: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "vm" => value.clone_into(&mut self.vm),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        let written = match name {
            "vm" => write!(self.vm, "{value:?}"),
            "message" => write!(self.message, "{value:?}"),
            _ => write!(self.rest, " {name}={value:?}"),
        };
        // Writing to a string does not fail; a broken Debug would only cut its own text.
        written.ok();
    }
}
