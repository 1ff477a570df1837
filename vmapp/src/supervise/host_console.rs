//! The host's end of the console: opened once by the supervisor, lent to each I/O worker in turn.
//!
//! It outlives the workers: a reset of the machine starts a new pair on the same terminal, pty or socket. Of a socket the
//! listening one stays here; each client is lent to the worker that is there, and to its successors, until one says that
//! the client is gone.
//!
//! What must never happen here: a flag set on a description shared with the user's shell, a terminal left raw, or a
//! descriptor taken from a worker.

use super::StartError;
use super::new_file::create;
use super::runtime_dir::bind_console;
use crate::back::console::terminal;
use crate::config::{ConsoleBackend, HostPaths};
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use shared::msg::handover::{ConsoleSpec, FdRole, TerminalModes};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The console.
pub struct HostConsole {
    spec: ConsoleSpec,
    fds: Vec<(FdRole, OwnedFd)>,
    /// Where a socket's clients come.
    listener: Option<UnixListener>,
    /// The one there is now.
    client: Option<OwnedFd>,
    terminal: Option<UserTerminal>,
    at: Option<String>,
    socket_file: Option<PathBuf>,
}

impl HostConsole {
    /// Opens what the config asks for. The terminal stays as it is until [`HostConsole::enter`].
    pub fn open(host: &HostPaths) -> Result<Self, StartError> {
        match &host.console {
            ConsoleBackend::Stdio => stdio(host.escape).map_err(|source| StartError::Console {
                what: "standard input and output".to_owned(),
                source,
            }),
            ConsoleBackend::Pty => pty().map_err(|errno| StartError::Console {
                what: "pty".to_owned(),
                source: errno.into(),
            }),
            ConsoleBackend::Socket(path) => {
                let listener = bind_console(path).map_err(|source| named(path, source))?;
                let mut console = Self::of(ConsoleSpec::Socket);
                console.listener = Some(listener);
                console.at = Some(path.display().to_string());
                console.socket_file = Some(path.clone());
                Ok(console)
            }
            ConsoleBackend::File(path) => {
                let mut console = Self::of(ConsoleSpec::Stream);
                // A FIFO nobody reads is refused at once instead of waited for.
                let fd = create(path, OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
                    .map_err(|source| named(path, source))?;
                console.fds.push((FdRole::ConsoleOut, fd));
                console.at = Some(path.display().to_string());
                Ok(console)
            }
            ConsoleBackend::None => Ok(Self::of(ConsoleSpec::None)),
        }
    }

    fn of(spec: ConsoleSpec) -> Self {
        Self {
            spec,
            fds: Vec::new(),
            listener: None,
            client: None,
            terminal: None,
            at: None,
            socket_file: None,
        }
    }

    /// What the I/O worker is told.
    pub fn spec(&self) -> &ConsoleSpec {
        &self.spec
    }

    /// What the I/O worker gets.
    pub fn fds(&self) -> impl Iterator<Item = (FdRole, BorrowedFd<'_>)> {
        let client = self.client.iter().map(|fd| (FdRole::ConsoleIn, fd.as_fd()));
        self.fds
            .iter()
            .map(|(role, fd)| (*role, fd.as_fd()))
            .chain(client)
    }

    /// Where the console is, if it has a path.
    pub fn at(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// The escape key, if there is a person at a terminal to use it.
    pub fn escape(&self) -> Option<u8> {
        match self.spec {
            ConsoleSpec::Terminal { escape, .. } => escape,
            _ => None,
        }
    }

    /// What to wait for: the next client of a socket, if there is none now.
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        let listener = self.listener.as_ref().filter(|_| self.client.is_none())?;
        Some(listener.as_fd())
    }

    /// Takes the next client of a socket, if there is none now and one waits. It is the worker's until it is
    /// [dropped](Self::drop_client).
    pub fn next_client(&mut self) -> Option<BorrowedFd<'_>> {
        let listener = self.listener.as_ref().filter(|_| self.client.is_none())?;
        let (client, _) = listener.accept().ok()?;
        self.client = Some(client.into());
        self.client.as_ref().map(AsFd::as_fd)
    }

    /// The client is gone, says the worker that had it.
    pub fn drop_client(&mut self) {
        self.client = None;
    }

    /// Whether somebody has the pty's slave open and has not yet read all that was written: closing the master would
    /// throw that away.
    pub fn is_unread(&self) -> bool {
        let (ConsoleSpec::Pty, Some((_, master)), Some(path)) = (&self.spec, self.fds.first(), &self.at)
        else {
            return false;
        };
        if polled(master, PollFlags::empty()).contains(PollFlags::POLLHUP) {
            return false;
        }
        // Only the slave's side knows. It is ours for a moment: held open, nobody's leaving would show as a hang-up.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        open(path.as_str(), flags, Mode::empty())
            .is_ok_and(|slave| polled(&slave, PollFlags::POLLIN).contains(PollFlags::POLLIN))
    }

    /// Puts the terminal into raw mode if we are its foreground job. A worker that can put it back must be there.
    pub fn enter(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.enter();
        }
    }

    /// Puts the terminal back.
    pub fn leave(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.leave();
        }
    }
}

impl Drop for HostConsole {
    fn drop(&mut self) {
        if let Some(path) = &self.socket_file {
            // Somebody may have removed it before us.
            std::fs::remove_file(path).ok();
        }
    }
}

/// The user's terminal while it is in our hands.
struct UserTerminal {
    fd: OwnedFd,
    saved: TerminalModes,
    raw: bool,
}

impl UserTerminal {
    fn enter(&mut self) {
        if terminal::is_foreground(&self.fd) {
            // A terminal that refuses stays usable line by line.
            self.raw = terminal::make_raw(&self.fd, &self.saved).is_ok();
        }
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.raw) {
            // Fails only for a terminal that is gone.
            terminal::restore(&self.fd, &self.saved).ok();
        }
    }
}

impl Drop for UserTerminal {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What poll(2) says of `fd` now.
fn polled(fd: &OwnedFd, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(1) => fds[0].revents().unwrap_or(PollFlags::empty()),
        _ => PollFlags::empty(),
    }
}

fn named(path: &Path, source: io::Error) -> StartError {
    StartError::Console {
        what: path.display().to_string(),
        source,
    }
}

fn stdio(escape: Option<u8>) -> io::Result<HostConsole> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let output = anew(stdout.as_fd(), OFlag::O_WRONLY)?;
    if !stdin.is_terminal() {
        let mut console = HostConsole::of(ConsoleSpec::Stream);
        console
            .fds
            .push((FdRole::ConsoleIn, anew(stdin.as_fd(), OFlag::O_RDONLY)?));
        console.fds.push((FdRole::ConsoleOut, output));
        return Ok(console);
    }
    let saved = terminal::modes(&stdin)?;
    let mut console = HostConsole::of(ConsoleSpec::Terminal {
        escape,
        restore: saved.clone(),
    });
    console
        .fds
        .push((FdRole::ConsoleIn, anew(stdin.as_fd(), OFlag::O_RDWR)?));
    console.fds.push((FdRole::ConsoleOut, output));
    console.terminal = Some(UserTerminal {
        fd: stdin.as_fd().try_clone_to_owned()?,
        saved,
        raw: false,
    });
    Ok(console)
}

/// A description of our own of a terminal or pipe, non-blocking: the flag on the user's would stay after us and break the
/// shell. What cannot be opened anew (or need not: a file, whose offset is shared on purpose, or a socket) is duplicated.
fn anew(fd: BorrowedFd<'_>, mode: OFlag) -> io::Result<OwnedFd> {
    let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFIFO || fd.is_terminal() {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = mode | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        if let Ok(opened) = open(path.as_str(), flags, Mode::empty()) {
            return Ok(opened);
        }
    }
    fd.try_clone_to_owned()
}

/// A new pseudo-terminal, raw, its slave opened and closed once: from then on an unplugged slave shows as a hang-up.
fn pty() -> nix::Result<HostConsole> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname_r(&master)?;
    let slave = open(
        path.as_str(),
        OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut termios = tcgetattr(&slave)?;
    cfmakeraw(&mut termios);
    tcsetattr(&slave, SetArg::TCSANOW, &termios)?;
    let mut console = HostConsole::of(ConsoleSpec::Pty);
    console.fds.push((FdRole::ConsoleIn, master.into()));
    console.at = Some(path);
    Ok(console)
}
