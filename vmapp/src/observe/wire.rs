//! The control socket's language: one JSON line asks, one JSON line answers.
//!
//! After [`Request::StopNow`] the supervisor answers and keeps the connection until it is gone, so that the asker can
//! wait for the end by waiting for the end of file.

use super::report::Report;
use serde::{Deserialize, Serialize};

/// Longest request with its line feed, in bytes.
pub const MAX_REQUEST: usize = 256;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Answered with [`Reply::Status`].
    Status,
    /// Presses the power button.
    PowerButton,
    /// Ends the VM at once.
    StopNow,
    /// Replaces the I/O worker.
    RestartIo,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The status.
    Status(Box<Report>),
    /// Done as asked.
    Done,
    /// Not understood.
    Error(String),
}

/// One line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // Plain data with string keys: serialising cannot fail. An empty line would read as an error at the other end.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
