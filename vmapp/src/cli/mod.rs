//! The command line of `vmapp`: what may be typed, and the commands that need no VM (check, config, explain).
//!
//! Called by `main` alone. The commands around a running VM are handed on in `dispatch`. Exit status 2 means the
//! user's words or file were wrong, here and everywhere. What must never happen here: a guest's or a worker's business.

mod disk;
mod dispatch;

use crate::config::{Config, explain};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status of all that went as asked.
const DONE: u8 = 0;
/// Exit status of output that could not be written.
const FAILED: u8 = 1;
/// Exit status of a usage or configuration error; clap's own is the same.
const WRONG: u8 = 2;

const AFTER_RUN: &str = "\
Exit status:
  0       the guest powered off
  1       the VM failed; the message says why
  2       usage or configuration error
  3       the vmm died
  4       the guest reset with on_reset = \"exit\", or triple-faulted
  10 + n  the guest wrote n to the debug-exit port

A --set value is TOML; a string needs no quotes. Relative paths start at the folder of FILE, as in the file.

Examples:
  vmapp run vm.toml
  vmapp run vm.toml --set machine.memory=1G --set boot.cmdline='console=ttyS0 quiet'
  vmapp run vm.toml --log json 2>vm.log

Logs go to standard error; the guest's console never mixes with them.";

const AFTER_SET: &str = "\
A --set value is TOML; a string needs no quotes. Relative paths start at the folder of FILE, as in the file.

Exit status: 0 the configuration is right; 2 usage or configuration error.";

/// Hosted virtual machine monitor for x86-64: one TOML file is the machine.
#[derive(Debug, Parser)]
#[command(name = "vmapp", version, propagate_version = false, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a VM until its guest powers off
    #[command(after_help = AFTER_RUN)]
    Run(RunArgs),
    /// Checks a machine's file; prints nothing if it is right
    #[command(after_help = AFTER_SET)]
    Check(Machine),
    /// Prints the full effective configuration, each value with where it comes from
    #[command(after_help = AFTER_SET)]
    Config(Machine),
    /// Explains a key or a section: type, values, default, meaning; without a word, lists all keys
    Explain {
        /// Key (machine.memory), section (machine) or last part of a key (memory)
        key: Option<String>,
        /// Print all keys as a Markdown table
        #[arg(long, conflicts_with = "key")]
        markdown: bool,
    },
    /// Lists the running VMs
    List,
    /// Shows a running VM: engine, exits, world switches by cause, interrupts
    Status {
        /// Name of the VM
        name: String,
        /// As one JSON object
        #[arg(long)]
        json: bool,
        /// Again every second, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Presses a running VM's power button
    Stop {
        /// Name of the VM
        name: String,
        /// End it at once instead, as if the power were cut
        #[arg(long)]
        now: bool,
    },
    /// Replaces a running VM's I/O worker by a new one, of the program now on disk; the guest goes on
    RestartIo {
        /// Name of the VM
        name: String,
    },
    /// Makes and looks after disk images of VMs that do not run
    Disk {
        #[command(subcommand)]
        command: disk::DiskCommand,
    },
    /// The I/O worker process; started by `run` only
    #[command(hide = true)]
    IoWorker,
}

/// A machine: its file and the settings on top.
#[derive(Debug, Args)]
struct Machine {
    /// The machine's TOML file
    file: PathBuf,
    /// Sets a key over the file's value; repeatable, the last one of a key holds
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    machine: Machine,
    /// Form of the log on standard error: lines for a person, or one JSON object a line
    #[arg(long, value_enum, default_value_t = Log::Human)]
    log: Log,
    /// Log warnings and errors only
    #[arg(long)]
    quiet: bool,
    /// Refuse to run where a part of the workers' jail is missing; as --set machine.require_jail=true
    #[arg(long)]
    require_jail: bool,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    Human,
    Json,
}

impl Machine {
    /// The checked machine; its errors are on standard error when this is `None`.
    fn load(&self) -> Option<Config> {
        match Config::load(&self.file, &self.set) {
            Ok(config) => Some(config),
            Err(report) => {
                complain(&report);
                None
            }
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::from(run(Cli::parse().command))
}

fn run(command: Command) -> u8 {
    match command {
        Command::Check(machine) => machine.load().map_or(WRONG, |_| DONE),
        Command::Config(machine) => machine.load().map_or(WRONG, |config| print(&config.effective())),
        Command::Explain { markdown: true, .. } => print(&explain::markdown()),
        Command::Explain { key, .. } => match explain::explain(key.as_deref()) {
            Ok(text) => print(&text),
            Err(report) => {
                complain(&report);
                WRONG
            }
        },
        Command::Run(mut args) => {
            if args.require_jail {
                // After the user's own, so that it holds.
                args.machine.set.push("machine.require_jail=true".to_owned());
            }
            match args.machine.load() {
                Some(config) => dispatch::run(&config, args.quiet, args.log),
                None => WRONG,
            }
        }
        Command::List => dispatch::list(),
        Command::Status { name, json, watch } => dispatch::status(&name, json, watch),
        Command::Stop { name, now } => dispatch::stop(&name, now),
        Command::RestartIo { name } => dispatch::restart_io(&name),
        Command::Disk { command } => disk::run(&command),
        Command::IoWorker => dispatch::io_worker(),
    }
}

/// To standard output. A reader that went away (`| head`) has what it wanted.
fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("error: cannot write to standard output: {error}\n"));
            FAILED
        }
        _ => DONE,
    }
}

/// To standard error. Where nobody listens the exit status says it alone; `eprint` would panic there.
fn complain(report: &impl Display) {
    let _unheard = io::stderr().write_all(report.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn command_line_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
