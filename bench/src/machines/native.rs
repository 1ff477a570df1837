//! The host itself as a machine: the agent as a process, in whatever network the caller's thread is in.

use super::Running;
use super::media::AGENT;
use crate::Outcome;
use crate::agent::Reception;
use crate::process::Part;
use std::net::Ipv4Addr;
use std::process::Command;

/// Starts the agent, by `spawner`'s thread if that is in another network namespace; it finds the host at `host`.
pub fn start(host: Ipv4Addr, wrap: impl FnOnce(Command) -> Command) -> Outcome<Running> {
    let reception = Reception::new(host)?;
    let mut agent = Command::new(AGENT);
    agent.arg(format!("{host}:{}", reception.port));
    let work = tempfile::Builder::new().prefix("bench-").tempdir()?;
    Running::start(wrap(agent), work, None, &reception, |pid| {
        Ok(vec![Part {
            name: "agent",
            pid,
            tid: None,
        }])
    })
}
