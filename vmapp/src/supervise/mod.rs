//! The supervisor process of `vmapp run`: starts the two workers, watches over them, and is the only one that says how a run
//! ended.
//!
//! | module | what it is |
//! |---|---|
//! | [`life`] | what happened in, what to do out: the pure state machine |
//! | [`supervisor`] | the one poll loop that feeds it and does what it says |
//! | [`io_worker`], [`watchdog`] | its part about the I/O worker: when it is replaced, and how it is found to hang |
//! | [`pair`], [`worker`] | one incarnation of the machine; one worker's words and death |
//! | [`stderr`] | what a worker writes to its standard error, on its way to the user |
//! | [`host_console`] | the host's end of the console: terminal, pty, socket, file |
//! | [`host_net`], [`host_disks`] | taps, captures, ways in; images and their locks |
//! | [`runtime_dir`] | names of running VMs: locks and control sockets |
//! | [`control`] | the control socket's clients |
//! | [`limit`] | how many lines workers and clients may cause |
//! | [`signals`] | signals as a descriptor |
//! | [`verdict`] | exit statuses and reasons |
//!
//! What must never happen here: a read of anything the guest can write (the shared counters and the workers' bounded,
//! checked words excepted), a call that a worker or a client can block, a worker or a file left behind, or a terminal left
//! raw.

pub mod control;
pub mod host_console;
pub mod host_disks;
pub mod host_net;
pub mod io_worker;
pub mod life;
pub mod limit;
pub mod new_file;
pub mod pair;
pub mod runtime_dir;
pub mod signals;
pub mod stderr;
pub mod supervisor;
pub mod verdict;
pub mod watchdog;
pub mod worker;

use crate::back::disk::open::DiskOpenError;
use crate::config::Config;
use crate::observe::{self, LogFormat};
use host_net::HostNetError;
use runtime_dir::RuntimeDirError;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use supervisor::Supervisor;
use thiserror::Error;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Warnings and errors only: no engine line, no escape key line.
    pub quiet: bool,
    /// Form of the log.
    pub log: LogFormat,
}

/// Why a VM could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The runtime folder, or the name is taken.
    #[error(transparent)]
    Name(#[from] RuntimeDirError),
    /// A file to boot from.
    #[error("{path}: {source}")]
    BootFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host's end of the console.
    #[error("console: {what}: {source}")]
    Console {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The other end of a cable.
    #[error(transparent)]
    Net(#[from] HostNetError),
    /// A disk's image.
    #[error(transparent)]
    Disk(#[from] DiskOpenError),
    /// The path of this program is unknown, so its workers cannot be found.
    #[error("cannot find my own program: {0}")]
    Myself(io::Error),
    /// Signals.
    #[error("signals: {}", .0.desc())]
    Signals(nix::errno::Errno),
    /// The I/O worker is not jailed as it must be.
    #[error("I/O worker: {0}")]
    Jail(String),
    /// Shared memory, doorbells, sockets, spawn.
    #[error(transparent)]
    Crossing(Box<dyn Error + Send + Sync>),
}

impl StartError {
    fn crossing(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Crossing(Box::new(error))
    }

    /// 2 for what the user asked for and cannot have, 1 for what this host or installation lacks.
    fn status(&self) -> u8 {
        match self {
            Self::Name(_) | Self::BootFile { .. } | Self::Console { .. } | Self::Net(_) | Self::Disk(_) => {
                verdict::USAGE
            }
            Self::Myself(_) | Self::Signals(_) | Self::Jail(_) | Self::Crossing(_) => verdict::FAILED,
        }
    }
}

/// `vmapp run`: runs the machine to its end and returns the exit status (see [`verdict`]).
pub fn run(config: &Config, options: RunOptions) -> u8 {
    observe::logs::init(options.log, options.quiet);
    let name = &config.spec.name;
    let outcome = runtime_dir::RuntimeDir::open()
        .map_err(StartError::Name)
        .and_then(|dir| {
            let claim = dir.claim(name)?;
            Supervisor::new(config, &claim)?.run()
        });
    match outcome {
        Ok(verdict) if verdict.status == verdict::POWERED_OFF => {
            tracing::debug!(vm = %name, "{}", verdict.reason);
            verdict.status
        }
        Ok(verdict) => {
            tracing::error!(vm = %name, "{}", verdict.reason);
            verdict.status
        }
        Err(error) => {
            tracing::error!(vm = %name, "{error}");
            error.status()
        }
    }
}
