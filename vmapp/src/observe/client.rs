//! Asking a running VM's supervisor: one connection, one question, one answer, a time limit on each step.

use super::report::Report;
use super::wire::{Reply, Request, line};
use crate::supervise::runtime_dir::{RuntimeDir, RuntimeDirError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a supervisor may take to answer; it answers at its next turn, within milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest answer.
const MAX_ANSWER: u64 = 64 << 10;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The runtime folder.
    #[error(transparent)]
    Dir(#[from] RuntimeDirError),
    /// No VM of that name.
    #[error("no VM named {name} is running{}", others(.running))]
    NoSuch {
        /// The name asked for.
        name: String,
        /// The names there are.
        running: Vec<String>,
    },
    /// It is there and does not answer.
    #[error("the VM {name} does not answer: {source}")]
    Silent {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It did not understand: another version.
    #[error("the VM refused: {0}")]
    Refused(String),
    /// Its answer is not understood: another version.
    #[error("the VM's answer is not understood; is it of another version?")]
    Nonsense,
    /// It is still there.
    #[error("the VM did not end within {} s", .0.as_secs())]
    Lives(Duration),
    /// No other I/O worker came.
    #[error("no new I/O worker serves after {} s: it is {state}; the VM's log says why", .limit.as_secs())]
    NoWorker {
        /// What the I/O worker is about.
        state: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The one that was started did not stay.
    #[error(
        "the I/O worker started from the program on disk {how}; I/O worker {serves}, of the program this VM was started with, \
         serves now: mend or put back the program and ask again"
    )]
    OtherWorker {
        /// How it ended.
        how: String,
        /// Process id of the one there is.
        serves: u32,
    },
    /// Our own output.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

fn others(running: &[String]) -> String {
    match running {
        [] => "; none is".to_owned(),
        names => format!("; running: {}", names.join(", ")),
    }
}

/// An answer.
pub struct Answer {
    /// The status, if that was asked.
    pub report: Option<Report>,
    /// What came of it, in words.
    pub text: Option<String>,
    /// The connection; after [`Request::StopNow`] it lasts as long as the supervisor.
    pub stream: UnixStream,
}

/// Asks the VM `name`.
pub fn ask(dir: &RuntimeDir, name: &str, request: Request) -> Result<Answer, ClientError> {
    let silent = |source| ClientError::Silent {
        name: name.to_owned(),
        source,
    };
    // It would leave the folder.
    if name.contains('/') {
        return Err(no_such(dir, name));
    }
    let stream = match dir.connect(name) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_such(dir, name)),
        Err(error) => return Err(silent(error)),
    };
    let reply = converse(&stream, request).map_err(|error| match error.kind() {
        // It ended while we asked.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            no_such(dir, name)
        }
        _ => silent(error),
    })?;
    match serde_json::from_str(&reply) {
        Ok(Reply::Status(report)) => Ok(Answer {
            report: Some(*report),
            text: None,
            stream,
        }),
        Ok(Reply::Done) => Ok(Answer {
            report: None,
            text: None,
            stream,
        }),
        Ok(Reply::Text(text)) => Ok(Answer {
            report: None,
            text: Some(text),
            stream,
        }),
        Ok(Reply::Error(why)) => Err(ClientError::Refused(why)),
        Err(_) => Err(ClientError::Nonsense),
    }
}

fn no_such(dir: &RuntimeDir, name: &str) -> ClientError {
    let mut running = dir.names();
    running.retain(|other| other != name);
    ClientError::NoSuch {
        name: name.to_owned(),
        running,
    }
}

fn converse(mut stream: &UnixStream, request: Request) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(&line(&request))?;
    let mut reply = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut reply)?;
    if reply.ends_with('\n') {
        Ok(reply)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Waits until the supervisor at the other end is gone.
pub fn wait_for_end(mut stream: UnixStream, limit: Duration) -> Result<(), ClientError> {
    let until = Instant::now() + limit;
    let mut byte = [0];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(ClientError::Lives(limit));
        }
        match stream.read(&mut byte) {
            // Not a byte is said after the answer.
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Ok(_) | Err(_) => {}
        }
    }
}
