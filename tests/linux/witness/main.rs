//! The witness: a program for a Linux guest that writes to disks and speaks over TCP without a pause, and says on the
//! console what was acknowledged to it, what went wrong, and how long it had to wait.
//!
//! `witness [files=FOLDER] [raw=DEVICE] [peer=ADDRESS:PORT]` runs until `stop` is typed, ends what it has begun and says all
//! of it once more. `say WORD` is answered with `said WORD`. A write counts as acknowledged once its fsync has returned.
//! An error is said and the write done again, with the same content: no number is ever left out.
//!
//! Built by `../../build.rs` as a static program with nothing but the toolchain.

mod disk;
mod format;
mod kernel;
mod stream;
mod tally;

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tally::Tally;

/// Time between two reports.
const REPORT: Duration = Duration::from_millis(25);
/// The last report is said so often: once might fall into a message of the kernel's.
const LAST_WORDS: usize = 3;

fn main() -> ExitCode {
    let tally = Arc::new(Tally::default());
    match start(&tally) {
        Ok(load) => {
            listen(&tally);
            watch(&tally, load);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", format::line(&format!("failed {error}")));
            ExitCode::FAILURE
        }
    }
}

type Load = Vec<JoinHandle<()>>;

fn start(tally: &Arc<Tally>) -> Result<Load, Box<dyn std::error::Error>> {
    let mut load = Load::new();
    kernel::follow(tally)?;
    for word in std::env::args().skip(1) {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("what is {word}?"))?;
        match key {
            "files" => load.extend(disk::files(tally, &PathBuf::from(value))?),
            "raw" => load.push(disk::raw(tally, &PathBuf::from(value))?),
            "peer" => load.extend(stream::open(tally, value.parse::<SocketAddr>()?)?),
            _ => return Err(format!("what is {word}?").into()),
        }
    }
    Ok(load)
}

/// Hears what is typed.
fn listen(tally: &Arc<Tally>) {
    let tally = Arc::clone(tally);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.trim().split_once(' ') {
                Some(("say", word)) => println!("{}", format::line(&format!("said {word}"))),
                None if line.trim() == "stop" => tally.stop(),
                // A line whose half was lost with a worker.
                _ => {}
            }
        }
    });
}

/// Reports until all have ended.
fn watch(tally: &Tally, load: Load) {
    while !load.iter().all(JoinHandle::is_finished) {
        println!("{}", format::line(&tally.report("now")));
        for error in tally.errors() {
            println!("{}", format::line(&format!("error {error}")));
        }
        thread::sleep(REPORT);
    }
    for _ in 0..LAST_WORDS {
        println!("{}", format::line(&tally.report("ended")));
    }
}
