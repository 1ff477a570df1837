//! Boots the same stock Debian kernel and busybox initramfs on our `interp`, QEMU TCG and Bochs, by turns in one run, and
//! tells how long each took to the first line of init.
//!
//! Everything is measured from outside, by the clock time at which lines appear on the guest's serial port. A machine that
//! is not installed gets a row that says what to install; nothing is fetched or installed here. A boot that does not
//! reach init ends the measurement: a time of something else is not told.

mod machine;
mod media;
mod watch;

use crate::Outcome;
use crate::report::{Host, Spread, table, write_lines, write_section};
use machine::Machine;
use media::Media;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a boot gave.
struct Boot {
    /// Seconds from the start of the process to init.
    whole: f64,
    /// Seconds from the kernel's start (Bochs: the loader's) to init.
    kernel: f64,
    /// Guest instructions run, where the machine says.
    instructions: Option<u64>,
}

/// One machine's boots.
struct Row {
    machine: Machine,
    boots: Vec<Boot>,
}

impl Row {
    fn spread(&self, of: impl Fn(&Boot) -> f64) -> Option<Spread> {
        Spread::of(self.boots.iter().map(of).collect())
    }
}

/// What a boot's value is called, its unit, and how it follows.
type Value = (&'static str, &'static str, fn(&Boot) -> f64);

/// One measured value.
#[derive(Serialize)]
struct Record<'a> {
    bench: &'static str,
    machine: &'a str,
    version: &'a str,
    kernel: &'a str,
    unit: &'static str,
    value: &'static str,
    #[serde(flatten)]
    spread: Spread,
    host: &'a Host,
}

/// Boots `repeats` times (Bochs: `bochs` times) and reports.
pub fn run(repeats: usize, bochs: usize) -> Outcome<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let host = Host::here();
    println!("{host}\n");
    let work = root.join("target/bench/boot");
    let media = Media::make(&root, &work)?;
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    for found in machine::all(&root, &work, &media) {
        match found {
            Ok(machine) => rows.push(Row {
                machine,
                boots: Vec::new(),
            }),
            Err(absent) => missing.push(absent),
        }
    }
    for round in 0..repeats.max(bochs) {
        for row in &mut rows {
            let wanted = if row.machine.slow { bochs } else { repeats };
            if round < wanted {
                let boot = row.machine.boot(&work)?;
                println!(
                    "{}: {:.2} s, kernel {:.2} s",
                    row.machine.name, boot.whole, boot.kernel
                );
                row.boots.push(boot);
            }
        }
    }
    rows.retain(|row| !row.boots.is_empty());
    let section = section(&host, &media, &rows, &missing);
    println!("\n{section}");
    write_lines(
        &root.join("target/bench/boot.jsonl"),
        &records(&host, &media, &rows),
    )?;
    write_section(&root.join("bench/RESULTS.md"), "boot", &section)
}

fn records<'a>(host: &'a Host, media: &'a Media, rows: &'a [Row]) -> Vec<Record<'a>> {
    let values: [Value; 3] = [
        ("whole", "s", |boot| boot.whole),
        ("kernel to init", "s", |boot| boot.kernel),
        ("guest instructions", "MIPS", mips),
    ];
    let mut records = Vec::new();
    for row in rows {
        for (value, unit, of) in values {
            if let Some(spread) = row.spread(of).filter(|spread| spread.median > 0.0) {
                records.push(Record {
                    bench: "boot",
                    machine: row.machine.name,
                    version: &row.machine.version,
                    kernel: &media.kernel,
                    unit,
                    value,
                    spread,
                    host,
                });
            }
        }
    }
    records
}

/// Millions of guest instructions a second; 0 where they are not counted.
fn mips(boot: &Boot) -> f64 {
    boot.instructions.unwrap_or(0) as f64 / boot.kernel / 1e6
}

fn section(host: &Host, media: &Media, rows: &[Row], missing: &[machine::Missing]) -> String {
    let median = |name: &str| {
        let row = rows.iter().find(|row| row.machine.name == name)?;
        row.spread(|boot| boot.kernel).map(|spread| spread.median)
    };
    let ratio = |ours: Option<Spread>, name: &str| match (ours, median(name)) {
        (Some(ours), Some(theirs)) => format!("{:.2}", ours.median / theirs),
        _ => "-".into(),
    };
    let told = |spread: Option<Spread>| spread.map_or("-".into(), |spread| spread.to_string());
    let mut lines = Vec::new();
    for row in rows {
        let kernel = row.spread(|boot| boot.kernel);
        let counted = row.boots.iter().any(|boot| boot.instructions.is_some());
        lines.push(vec![
            format!("{} ({})", row.machine.name, row.machine.version),
            row.boots.len().to_string(),
            told(row.spread(|boot| boot.whole)),
            told(kernel),
            ratio(kernel, machine::TCG),
            ratio(kernel, machine::BOCHS),
            if counted {
                told(row.spread(mips))
            } else {
                "-".into()
            },
        ]);
    }
    for machine::Missing { name, install } in missing {
        let mut line = vec![format!("{name}: not installed; {install}")];
        line.resize(7, "-".into());
        lines.push(line);
    }
    let heads = [
        "machine",
        "boots",
        "whole, s",
        "kernel to init, s",
        "of TCG's",
        "of Bochs'",
        "guest MIPS",
    ];
    format!(
        "## Boot\n\nHost: {host}.\nGuest: {}, busybox initramfs, 512 MiB, one CPU, `{}`. By turns in one run; medians, best and \
         worst in brackets, to the first line of init on the serial port. Ratios are of *kernel to init*; MIPS too \
         are over that time.\n*Kernel* begins where the vmm says which engine runs (Worldswitch), where SeaBIOS says that \
         it boots (QEMU), where the boot loader says its name (Bochs has to load kernel and initramfs from \
         a CD image by ISOLINUX). *Whole* begins with the process: firmware included.\n\n{}",
        media.kernel,
        media::CMDLINE,
        table(&heads, &lines)
    )
}

/// The path of a program that is needed, if it is there.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
