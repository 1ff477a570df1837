//! Hands the commands around a running VM to the parts that do them. Every function returns the exit status.

use super::Log;
use crate::config::Config;
use crate::{observe, serve, supervise};

/// `vmapp run`, the file being right.
pub fn run(config: &Config, quiet: bool, log: Log) -> u8 {
    let log = match log {
        Log::Human => observe::LogFormat::Human,
        Log::Json => observe::LogFormat::Json,
    };
    supervise::run(config, supervise::RunOptions { quiet, log })
}

/// `vmapp list`.
pub fn list() -> u8 {
    observe::list()
}

/// `vmapp status`.
pub fn status(name: &str, json: bool, watch: bool) -> u8 {
    observe::status(name, json, watch)
}

/// `vmapp stop`.
pub fn stop(name: &str, now: bool) -> u8 {
    observe::stop(name, now)
}

/// `vmapp restart-io`.
pub fn restart_io(name: &str) -> u8 {
    observe::restart_io(name)
}

/// The hidden `io-worker`.
pub fn io_worker() -> u8 {
    serve::worker()
}
