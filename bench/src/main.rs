//! Measures the product's parts: one subcommand each, which prints its tables, rewrites its section of
//! `bench/RESULTS.md` and writes every value as a JSON line under `target/bench/`.

mod boot;
mod cpu;
mod crossing;
mod report;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Worldswitch: measurements")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Rings, doorbells and synchronous calls, against what else a Unix has to pass a message
    Crossing {
        /// Fewer and shorter repeats: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// The interpreter engine on integer, memory, branch, call and string code
    Cpu {
        /// Fewer repeats: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// A stock Debian kernel to the first line of init, beside QEMU TCG and Bochs
    Boot {
        /// Boots of Worldswitch and of QEMU
        #[arg(long, default_value_t = 5)]
        repeats: usize,
        /// Boots of Bochs, which takes minutes for one; 0 leaves it out
        #[arg(long, default_value_t = 1)]
        bochs: usize,
    },
    /// The other process of a measurement; started by it
    #[command(hide = true)]
    Peer,
}

/// What a measurement may fail with: all of it is for the reader of the terminal.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Crossing { quick } => crossing::run(quick),
        What::Cpu { quick } => cpu::run(quick),
        What::Boot { repeats, bochs } => boot::run(repeats, bochs),
        What::Peer => crossing::peer::serve(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
