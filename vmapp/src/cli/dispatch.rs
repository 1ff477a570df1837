//! Hands the commands around a running VM to the parts that do them. Every function returns the exit status.

use super::Log;
use crate::config::Config;
use absent::{observe, serve, supervise};

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

/// The hidden `io-worker`.
pub fn io_worker() -> u8 {
    serve::worker()
}

/// Stands in until the supervisor is merged: delete this module, and import from `crate` above.
mod absent {
    fn absent(what: &str) -> u8 {
        eprintln!("error: {what}: not built in");
        1
    }

    pub mod supervise {
        use super::observe::LogFormat;
        use crate::config::Config;

        #[derive(Debug)]
        pub struct RunOptions {
            pub quiet: bool,
            pub log: LogFormat,
        }

        pub fn run(config: &Config, RunOptions { quiet, log }: RunOptions) -> u8 {
            super::absent(&format!("run {} {quiet} {log:?}", config.spec.name))
        }
    }

    pub mod observe {
        #[derive(Debug)]
        pub enum LogFormat {
            Human,
            Json,
        }

        pub fn list() -> u8 {
            super::absent("list")
        }

        pub fn status(name: &str, json: bool, watch: bool) -> u8 {
            super::absent(&format!("status {name} {json} {watch}"))
        }

        pub fn stop(name: &str, now: bool) -> u8 {
            super::absent(&format!("stop {name} {now}"))
        }
    }

    pub mod serve {
        pub fn worker() -> u8 {
            super::absent("io-worker")
        }
    }
}
