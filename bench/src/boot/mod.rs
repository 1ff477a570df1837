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
use crate::host::Host;
use crate::machines::media::root;
use crate::record::{self, Better, Key, Log, Sample};
use crate::report::{table, write_section};
use crate::stats::Spread;
use machine::Machine;
use media::Media;

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

/// Boots `repeats` times (Bochs: `bochs` times) and reports.
pub fn run(repeats: usize, bochs: usize, quick: bool) -> Outcome<()> {
    let (repeats, bochs) = if quick { (1, 0) } else { (repeats, bochs) };
    let root = root()?;
    let mut log = Log::new();
    println!("{}\n", log.host);
    let work = root.join("target/bench/boot");
    let media = Media::make(&root, &work)?;
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    for found in machine::all(&root, &work, &media)? {
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
                log.add(&key(&row.machine), &row.machine.version, boot.samples());
                row.boots.push(boot);
            }
        }
    }
    rows.retain(|row| !row.boots.is_empty());
    let section = section(&log.host, &media, &rows, &missing);
    println!("\n{section}");
    log.write(&record::folder(quick).join("boot.jsonl"))?;
    // A quick run shows that it works; it is not worth keeping.
    if !quick {
        write_section(&root.join("bench/RESULTS.md"), "boot", &section)?;
    }
    Ok(())
}

fn key(machine: &Machine) -> Key {
    Key {
        bench: "boot".into(),
        machine: machine.name.into(),
        engine: machine.engine.into(),
        configuration: "512 MiB".into(),
        point: "to init".into(),
    }
}

impl Boot {
    fn samples(&self) -> Vec<Sample> {
        let mut samples = vec![
            Sample::new("whole", "s", Better::Less, self.whole),
            Sample::new("kernel to init", "s", Better::Less, self.kernel),
        ];
        if self.instructions.is_some() {
            samples.push(Sample::new("guest rate", "MIPS", Better::More, mips(self)));
        }
        samples
    }
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
