//! Memory that each process of a machine adds, with an idle guest that has booted; and the time from launch to the first
//! guest instruction.
//!
//! The first instruction shows itself on the serial port: ours is a flat image at 7C00h, QEMU's a firmware image of 64 KiB,
//! each of which writes a byte first thing. The time is of that byte on our standard output, so the way there is in it.

use crate::Outcome;
use crate::machines::media::{Media, root};
use crate::machines::{Cable, Guest, Maker, Running, makers, qemu_program};
use crate::process::{children, memory};
use crate::record::{self, Better, Key, Log, Sample};
use crate::report::{table, write_section};
use crate::stats::Spread;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What the first instructions write: MOV DX, 3F8h; MOV AL, '!'; OUT DX, AL; HLT; JMP $-1.
const FIRST: [u8; 9] = [0xba, 0xf8, 0x03, 0xb0, b'!', 0xee, 0xf4, 0xeb, 0xfd];
/// Seconds a booted guest has to settle.
const SETTLE: f64 = 1.0;

/// Measures everything and reports it.
pub fn run(quick: bool) -> Outcome<()> {
    let media = Media::make()?;
    let mut log = Log::new();
    println!("{}\n", log.host);
    let (makers, left_out) = makers(&media)?;
    let (boots, launches) = if quick { (1, 3) } else { (3, 31) };
    let mut names: Vec<String> = Vec::new();
    let guest = Guest {
        cable: Cable::Nat,
        settings: Vec::new(),
        disk: None,
    };
    for _ in 0..boots {
        for maker in &makers {
            let mut running = maker.start(&guest, &media)?;
            running.agent.ask(&format!("idle seconds={SETTLE}"))?;
            for (process, samples) in processes(&running)? {
                let key = key(maker, &process);
                if !names.contains(&process) {
                    names.push(process);
                }
                log.add(&key, &maker.version(), samples);
            }
            running.stop();
        }
    }
    for _ in 0..launches {
        for maker in &makers {
            let seconds = launch(maker, &media)?;
            let sample = Sample::new("launch to first instruction", "ms", Better::Less, seconds * 1e3);
            log.add(&key(maker, "launch"), &maker.version(), vec![sample]);
        }
    }
    let section = section(&log, &makers, &left_out, &names, [boots, launches]);
    println!("{section}");
    log.write(&record::folder(quick).join("memory.jsonl"))?;
    // A quick run shows that it works; it is not worth keeping.
    if !quick {
        write_section(&root()?.join("bench/RESULTS.md"), "memory", &section)?;
    }
    Ok(())
}

fn key(maker: &Maker, point: &str) -> Key {
    let (machine, engine) = maker.names();
    Key {
        bench: "memory".into(),
        machine: machine.into(),
        engine: engine.into(),
        configuration: "256 MiB".into(),
        point: point.into(),
    }
}

/// The machine's processes, by name: the one started and its children.
fn processes(running: &Running) -> Outcome<Vec<(String, Vec<Sample>)>> {
    let mut found = vec![(running.pid(), "started process".to_owned())];
    found.extend(children(running.pid()).into_iter().map(|(pid, name)| {
        let worker = if name.starts_with("vmm") {
            "vmm"
        } else {
            "I/O worker"
        };
        (pid, worker.to_owned())
    }));
    let samples = |(pid, name): (u32, String)| {
        let memory = memory(pid)?;
        let sample = |name: &str, value| Sample::new(name, "MiB", Better::Less, value);
        let samples = vec![
            sample("RSS", memory.rss),
            sample("PSS", memory.pss),
            sample("private", memory.private),
        ];
        Ok((name, samples))
    };
    found.into_iter().map(samples).collect()
}

/// Seconds from the start of the process to the guest's first byte.
fn launch(maker: &Maker, media: &Media) -> Outcome<f64> {
    let work = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let mut command = match maker {
        Maker::Ours(engine) => ours(engine.name(), media, work.path())?,
        Maker::Qemu => qemu(work.path())?,
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let mut byte = [0];
    let came = child.stdout.take().map(|mut output| output.read_exact(&mut byte));
    let took = began.elapsed();
    // It has halted for good, and writes nothing any more.
    child.kill()?;
    child.wait()?;
    match came {
        Some(Ok(())) if byte == [b'!'] => Ok(took.as_secs_f64()),
        _ => Err(format!("{}: no first instruction", maker.names().0).into()),
    }
}

fn ours(engine: &str, media: &Media, work: &Path) -> Outcome<Command> {
    let (config, image) = (work.join("vm.toml"), work.join("first"));
    fs::write(&image, FIRST)?;
    fs::write(
        &config,
        format!(
            "name = \"first\"\n[machine]\nmemory = \"256M\"\nengine = {engine:?}\n[boot]\nimage = {image:?}\n"
        ),
    )?;
    let mut command = Command::new(&media.vmapp);
    command.arg("run").arg(&config).env("XDG_RUNTIME_DIR", work);
    Ok(command)
}

fn qemu(work: &Path) -> Outcome<Command> {
    // The reset vector is 16 bytes below the top (Intel SDM volume 3, 10.1.4): it holds the whole program.
    let mut firmware = vec![0_u8; 64 << 10];
    let vector = firmware.len() - 16;
    firmware[vector..vector + FIRST.len()].copy_from_slice(&FIRST);
    let image = work.join("firmware");
    fs::write(&image, firmware)?;
    let mut command = Command::new(qemu_program()?);
    command
        .args([
            "-accel", "tcg", "-m", "256", "-display", "none", "-monitor", "none",
        ])
        .args(["-net", "none", "-serial", "stdio", "-bios"])
        .arg(image);
    Ok(command)
}

fn section(
    log: &Log,
    makers: &[Maker],
    left_out: &[String],
    names: &[String],
    [boots, launches]: [usize; 2],
) -> String {
    let value = |maker: &Maker, point: &str, name: &str| -> Option<Spread> {
        let key = key(maker, point);
        let record = log.records().iter().find(|record| record.key == key)?;
        record.spread(name)
    };
    let told = |spread: Option<Spread>| spread.map_or("-".into(), |spread| spread.to_string());
    let mut rows = Vec::new();
    for maker in makers {
        let (machine, engine) = maker.names();
        for name in names {
            let row = ["RSS", "PSS", "private"].map(|kind| told(value(maker, name, kind)));
            if row[0] != "-" {
                rows.push([vec![format!("{machine} {engine}: {name}")], row.to_vec()].concat());
            }
        }
    }
    let memory = table(&["MiB", "RSS", "PSS", "private"], &rows);
    let rows: Vec<Vec<String>> = makers
        .iter()
        .map(|maker| {
            let (machine, engine) = maker.names();
            let spread = value(maker, "launch", "launch to first instruction");
            vec![format!("{machine} {engine}"), told(spread)]
        })
        .collect();
    let mut text = format!(
        "## Memory and launch\n\nHost: {}.\nAn idle Debian guest of 256 MiB, after {boots} boots each; the guest's own memory is in the process that holds it. \
         Launch: of {launches} starts by turns, to the first byte of the guest's first instructions. Medians, smallest and largest in \
         brackets.\n\n{memory}\n{}",
        log.host,
        table(&["launch to first instruction, ms", ""], &rows)
    );
    left_out
        .iter()
        .for_each(|what| text.push_str(&format!("\nLeft out: {what}\n")));
    text
}
