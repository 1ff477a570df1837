//! The host side: command line, config, supervisor, I/O worker, back ends.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line: clap definitions and one function per command |
//! | [`config`] | the TOML file: schema, errors with line, column and fix, the effective config, `MachineSpec` |
//! | [`supervise`] | the supervisor process of `vmapp run`: workers, signals, exit status, the control socket |
//! | [`serve`] | the I/O worker process: one wait loop |
//! | [`back`] | back ends the worker drives: consoles (network and disks join them) |
//! | [`observe`] | status, counters, logs |
//! | [`fault`] | scripted faults: what goes wrong on purpose |
//!
//! Nothing here ever maps guest memory or opens `/dev/kvm`.

pub mod back;
pub mod cli;
pub mod config;
pub mod fault;
pub mod observe;
pub mod serve;
pub mod supervise;
