//! Measures the product and its parts: one subcommand each, which prints its tables, rewrites its section of
//! `bench/RESULTS.md` and writes every value, with all repeats, as JSON lines under `bench/results/`; and `compare`, which
//! says what differs between two such files.

mod agent;
mod boot;
mod compare;
mod cpu;
mod crossing;
mod disk;
mod figure;
mod host;
mod machines;
mod memory;
mod net;
mod process;
mod progress;
mod record;
mod report;
mod stats;

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
    /// Throughput, latency and what a frame costs, by every optimisation of the hosted-I/O paper; native and QEMU beside it
    Net(net::Options),
    /// Sequential and random access and flushes of a disk: native, Worldswitch, QEMU
    Disk {
        /// Few and short points: to see that it works
        #[arg(long)]
        quick: bool,
        /// Rounds: each machine is booted and measured once in each
        #[arg(long, default_value_t = 3)]
        repeats: usize,
    },
    /// Memory that each process adds, and the time from launch to the first guest instruction
    Memory {
        /// Few starts: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// A stock Debian kernel to the first line of init, beside QEMU TCG and Bochs
    Boot {
        /// One boot, and none of Bochs: to see that it works
        #[arg(long)]
        quick: bool,
        /// Boots of Worldswitch and of QEMU
        #[arg(long, default_value_t = 5)]
        repeats: usize,
        /// Boots of Bochs, which takes minutes for one; 0 leaves it out
        #[arg(long, default_value_t = 1)]
        bochs: usize,
    },
    /// Guest code: loops on the bare interpreter, and programs in a guest beside native and QEMU TCG
    Cpu {
        /// Fewer and shorter repeats: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// Rings, doorbells and synchronous calls, against what else a Unix has to pass a message
    Crossing {
        /// Fewer and shorter repeats: to see that it works
        #[arg(long)]
        quick: bool,
    },
    /// What differs between two files of records, beyond the spread of their repeats; what got worse first
    Compare(compare::Options),
    /// The other process of a measurement; started by it
    #[command(hide = true)]
    Peer,
}

/// What a measurement may fail with: all of it is for the reader of the terminal.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Net(options) => net::run(&options),
        What::Disk { quick, repeats } => disk::run(quick, repeats),
        What::Memory { quick } => memory::run(quick),
        What::Boot {
            quick,
            repeats,
            bochs,
        } => boot::run(repeats, bochs, quick),
        What::Cpu { quick } => cpu::run(quick),
        What::Crossing { quick } => crossing::run(quick),
        What::Compare(options) => compare::run(&options),
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
