//! How fast guest code runs: loops on the bare interpreter, and small programs in a guest, natively and on QEMU.

mod loops;
mod programs;

use crate::Outcome;
use crate::machines::media::root;
use crate::record::{self, Log};
use crate::report::write_section;

/// Measures everything and reports it.
pub fn run(quick: bool) -> Outcome<()> {
    let mut log = Log::new();
    println!("{}\n", log.host);
    let loops = loops::run(&mut log, quick)?;
    let programs = programs::run(&mut log, quick)?;
    let section = format!("## CPU\n\nHost: {}.\n\n{loops}\n{programs}", log.host);
    println!("{section}");
    log.write(&record::folder(quick).join("cpu.jsonl"))?;
    // A quick run shows that it works; it is not worth keeping.
    if !quick {
        write_section(&root()?.join("bench/RESULTS.md"), "cpu", &section)?;
    }
    Ok(())
}
