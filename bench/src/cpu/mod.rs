//! How fast guest code runs: loops on the bare interpreter, and small programs in a guest, natively and on QEMU.

mod loops;
mod programs;

use crate::Outcome;
use crate::machines::media::root;
use crate::record::{self, Log};
use crate::report::write_section;
use programs::Programs;

/// Measures everything and reports it. A run is so many rounds of everything, so that what the host does meanwhile is in
/// every value's spread.
pub fn run(quick: bool) -> Outcome<()> {
    let mut log = Log::new();
    println!("{}\n", log.host);
    let (rounds, repeats, seconds) = if quick { (1, 5, 0.1) } else { (3, 7, 0.5) };
    let mut programs = Programs::new()?;
    for round in 1..=rounds {
        eprintln!("cpu: round {round} of {rounds}");
        loops::measure(&mut log, repeats)?;
        programs.measure(&mut log, seconds)?;
    }
    let loops = loops::section(&log, rounds * repeats);
    let programs = programs.section(&log);
    let section = format!("## CPU\n\nHost: {}.\n\n{loops}\n{programs}", log.host);
    println!("{section}");
    log.write(&record::folder(quick).join("cpu.jsonl"))?;
    // A quick run shows that it works; it is not worth keeping.
    if !quick {
        write_section(&root()?.join("bench/RESULTS.md"), "cpu", &section)?;
    }
    Ok(())
}
