//! The disk: sequential and random access and flushes, past the guest's page cache, natively on the image file, on our IDE
//! disk and on QEMU's.
//!
//! All three use one image file on the host's file system, one after the other, written full before: a hole would be read
//! from nowhere. The guests' host side may cache (QEMU: `cache=writeback`), natively O_DIRECT goes past that cache too: the
//! native row is the medium, the guests' rows are the path to the host's cache.

use crate::Outcome;
use crate::machines::media::{Media, root};
use crate::machines::{Cable, Guest, Maker, Running, makers, start_native};
use crate::process::Part;
use crate::record::{self, Better, Key, Log, Sample};
use crate::report::{table, write_section};
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;

/// Size of the image, and of what is used of it.
const SPAN: u64 = 256 << 20;

/// A workload: name, op, bytes of a block, random, and the value that tells.
struct Point {
    name: &'static str,
    op: &'static str,
    block: u32,
    random: bool,
}

const fn point(name: &'static str, op: &'static str, block: u32, random: bool) -> Point {
    Point {
        name,
        op,
        block,
        random,
    }
}

const POINTS: [Point; 7] = [
    point("sequential read, 128 KiB", "read", 128 << 10, false),
    point("sequential write, 128 KiB", "write", 128 << 10, false),
    point("sequential read, 4 KiB", "read", 4096, false),
    point("random read, 4 KiB", "read", 4096, true),
    point("random write, 4 KiB", "write", 4096, true),
    point("random write and flush, 4 KiB", "flush", 4096, true),
    point("random read, 512 bytes", "read", 512, true),
];

/// Measures everything and reports it.
pub fn run(quick: bool, repeats: usize) -> Outcome<()> {
    let media = Media::make()?;
    let mut log = Log::new();
    println!("{}\n", log.host);
    let image = root()?.join("target/bench/disk.img");
    make_image(&image)?;
    let (makers, left_out) = makers(&media)?;
    let guest = Guest {
        cable: Cable::Nat,
        settings: Vec::new(),
        disk: Some(image.clone()),
    };
    let (rounds, seconds) = if quick { (1, 0.2) } else { (repeats.max(1), 1.0) };
    for round in 1..=rounds {
        eprintln!("disk: round {round} of {rounds}");
        let native = start_native(Ipv4Addr::LOCALHOST, |agent| agent)?;
        let path = image.display().to_string();
        points(&mut log, native, ["native", "native"], "", &path, seconds)?;
        for maker in &makers {
            let running = maker.start(&guest, &media)?;
            let (machine, engine) = maker.names();
            points(
                &mut log,
                running,
                [machine, engine],
                &maker.version(),
                "/dev/sda",
                seconds,
            )?;
        }
    }
    fs::remove_file(&image)?;
    let section = section(&log, &media, &makers, &left_out, rounds, seconds);
    println!("{section}");
    log.write(&record::folder(quick).join("disk.jsonl"))?;
    // A quick run shows that it works; it is not worth keeping.
    if !quick {
        write_section(&root()?.join("bench/RESULTS.md"), "disk", &section)?;
    }
    Ok(())
}

fn make_image(path: &Path) -> Outcome<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::create(path)?;
    let block = vec![0xa5; 1 << 20];
    for _ in 0..SPAN >> 20 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(())
}

/// One machine's points, once.
fn points(
    log: &mut Log,
    mut running: Running,
    [machine, engine]: [&str; 2],
    version: &str,
    path: &str,
    seconds: f64,
) -> Outcome<()> {
    for Point {
        name,
        op,
        block,
        random,
    } in POINTS
    {
        let before: Outcome<Vec<f64>> = running.parts.iter().map(Part::seconds).collect();
        let answer = running.agent.ask(&format!(
            "disk path={path} op={op} block={block} random={} span={SPAN} seconds={seconds}",
            u8::from(random)
        ))?;
        let took = answer.get("seconds")?;
        let operations = answer.get("operations")?;
        let mut samples = vec![
            Sample::new(
                "throughput",
                "MiB/s",
                Better::More,
                answer.get("bytes")? / took / f64::from(1 << 20),
            ),
            Sample::new("operations", "1/s", Better::More, operations / took),
            Sample::new("p50", "us", Better::Less, answer.get("p50_us")?),
            Sample::new("p99", "us", Better::Less, answer.get("p99_us")?),
            Sample::new("max", "us", Better::Neither, answer.get("max_us")?),
        ];
        for (part, before) in running.parts.iter().zip(before?) {
            let each = (part.seconds()? - before) / operations * 1e6;
            samples.push(Sample::new(
                format!("{} cpu an operation", part.name),
                "us",
                Better::Less,
                each,
            ));
        }
        let key = Key {
            bench: "disk".into(),
            machine: machine.into(),
            engine: engine.into(),
            configuration: String::new(),
            point: name.into(),
        };
        log.add(&key, version, samples);
    }
    running.stop();
    Ok(())
}

fn section(
    log: &Log,
    media: &Media,
    makers: &[Maker],
    left_out: &[String],
    rounds: usize,
    seconds: f64,
) -> String {
    let machines: Vec<(&str, &str)> = [("native", "native")]
        .into_iter()
        .chain(makers.iter().map(Maker::names))
        .collect();
    let mut rows = Vec::new();
    for Point { name, block, .. } in POINTS {
        let (value, unit) = if block > 4096 {
            ("throughput", "MiB/s")
        } else {
            ("p50", "us")
        };
        let mut row = vec![format!("{name}: {value}, {unit}")];
        row.extend(machines.iter().map(|(machine, engine)| {
            let mut records = log.records().iter();
            let record = records.find(|record| {
                (record.key.machine.as_str(), record.key.engine.as_str()) == (*machine, *engine)
                    && record.key.point == name
            });
            let spread = record.and_then(|record| record.spread(value));
            spread.map_or("-".into(), |spread| spread.to_string())
        }));
        rows.push(row);
    }
    let heads: Vec<String> = machines
        .iter()
        .map(|(machine, engine)| format!("{machine} {engine}"))
        .collect();
    let heads: Vec<&str> = ["O_DIRECT, one at a time"]
        .into_iter()
        .chain(heads.iter().map(String::as_str))
        .collect();
    let mut text = format!(
        "## Disk\n\nHost: {}.\nGuest: {}, ata_piix. {rounds} rounds by turns, {seconds} s a point, on one image of {} MiB; medians, smallest and \
         largest in brackets. The guests' writes end in the host's cache until a flush; the native ones go past it.\n\n{}",
        log.host,
        media.kernel,
        SPAN >> 20,
        table(&heads, &rows)
    );
    left_out
        .iter()
        .for_each(|what| text.push_str(&format!("\nLeft out: {what}\n")));
    text
}
