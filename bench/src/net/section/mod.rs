//! The section *Net* of the results, from the records of the run alone.

mod ladder;

use super::figures::limited;
use super::ladder::{DEFAULT, Io, MOST, TICKS};
use super::{DATAGRAM, DATAGRAMS, Options, WRITE, WRITES};
use crate::machines::media::Media;
use crate::record::{Log, Record};
use crate::report::table;
use crate::stats::{Spread, digits};

/// The text.
pub fn write(
    log: &Log,
    options: &Options,
    media: &Media,
    left_out: &[String],
    drawn: &[(&str, &str)],
) -> String {
    let mut text = format!(
        "## Net\n\nHost: {}.\nGuest: {}, busybox initramfs, 256 MiB, one CPU, pcnet32. {} rounds of every machine by turns; a point \
         lasts {}; medians, smallest and largest in brackets. Throughput is by the host's clock; *idle share* is what \
         the machine's processes leave of one core. Directions are the guest's.\n",
        log.host,
        media.kernel,
        options.rounds(),
        match options.bytes {
            Some(bytes) => format!("{bytes} bytes (streams) or {} s", options.effort().seconds),
            None => format!("{} s", options.effort().seconds),
        },
    );
    for what in left_out {
        text.push_str(&format!("Left out: {what}\n"));
    }
    let parts = [
        streams(log),
        datagrams(log),
        ladder::write(log),
        frame(log),
        bare(log),
        sweeps(log),
    ];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        text.push('\n');
        text.push_str(part);
    }
    text.push_str(&clocks(log));
    for (file, title) in drawn {
        text.push_str(&format!("\n![{title}](results/{file})\n"));
    }
    text
}

fn told(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |spread| spread.to_string())
}

/// As a column's head or a row's beginning.
fn title(record: &Record) -> String {
    let key = &record.key;
    match (key.machine.as_str(), key.configuration.as_str()) {
        ("native", _) => "native (veth)".into(),
        ("raw tap", _) => "raw tap, bare loop".into(),
        ("qemu", configuration) => {
            let version = record.program.split_whitespace().next().unwrap_or_default();
            format!("QEMU {version} TCG, {configuration}")
        }
        (machine, configuration) => format!("{machine} {}, {configuration}", key.engine),
    }
}

/// One record a machine of the full measurement: those that have ping or the smallest stream.
fn machines(log: &Log) -> Vec<&Record> {
    let mut found: Vec<&Record> = Vec::new();
    for record in log.records() {
        let known = found.iter().any(|other| {
            (&other.key.machine, &other.key.configuration) == (&record.key.machine, &record.key.configuration)
        });
        if !known && (record.key.point.starts_with("tcp receive") || record.key.machine == "raw tap") {
            found.push(record);
        }
    }
    found.retain(|record| {
        let key = &record.key;
        let whole = |point: &str| log.find(&key.machine, &key.configuration, point).is_some();
        key.machine == "raw tap"
            || key.configuration.ends_with("nat")
            || whole("ping")
            || whole("udp transmit 64")
    });
    found
}

fn streams(log: &Log) -> String {
    let machines = machines(log);
    let heads: Vec<String> = machines.iter().map(|record| title(record)).collect();
    let heads: Vec<&str> = ["TCP, Mbit/s"]
        .into_iter()
        .chain(heads.iter().map(String::as_str))
        .collect();
    let mut rows = Vec::new();
    for (direction, raw) in [("transmit", "write 1514"), ("receive", "read 1514")] {
        for write in WRITES {
            let point = format!("tcp {direction} {write}");
            let cell = |record: &&Record| {
                let point = if record.key.machine == "raw tap" {
                    raw
                } else {
                    &point
                };
                told(log.spread(
                    &record.key.machine,
                    &record.key.configuration,
                    point,
                    "throughput",
                ))
            };
            let cells: Vec<String> = machines.iter().map(cell).collect();
            let measured = machines.iter().any(|record| {
                log.find(&record.key.machine, &record.key.configuration, &point)
                    .is_some()
            });
            if measured {
                rows.push([vec![format!("{direction}, {write} bytes a write")], cells].concat());
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let raw = "The raw tap has no write size: frames of 1514 bytes, one a system call, to nobody and out of a flood.";
    format!("### Streams\n\n{raw}\n\n{}", table(&heads, &rows))
}

fn datagrams(log: &Log) -> String {
    let machines = machines(log);
    let machines: Vec<&&Record> = machines
        .iter()
        .filter(|record| record.key.machine != "raw tap")
        .collect();
    let heads: Vec<String> = machines.iter().map(|record| title(record)).collect();
    let heads: Vec<&str> = [""].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let row = |name: String, point: String, value: &'static str, scale: f64| {
        let cell = |record: &&&Record| {
            let spread = log.spread(&record.key.machine, &record.key.configuration, &point, value);
            told(spread.map(|spread| Spread {
                median: spread.median * scale,
                min: spread.min * scale,
                max: spread.max * scale,
                ..spread
            }))
        };
        [vec![name], machines.iter().map(cell).collect()].concat()
    };
    let mut rows = Vec::new();
    for direction in ["transmit", "receive"] {
        for size in DATAGRAMS {
            let name = format!("UDP {direction}, {size} bytes, thousand/s");
            rows.push(row(name, format!("udp {direction} {size}"), "datagrams", 1e-3));
        }
    }
    for value in ["round trip p50", "round trip p99"] {
        rows.push(row(format!("TCP {value}, us"), "round trip".into(), value, 1.0));
    }
    rows.push(row("ping p50, us".into(), "ping".into(), "ping p50", 1.0));
    rows.push(row(
        "processor when idle, % of a core".into(),
        "idle".into(),
        "busy",
        100.0,
    ));
    rows.retain(|row| row.iter().skip(1).any(|cell| cell != "-"));
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "### Datagrams, latency, idleness\n\nReceiving is under a flood: what does not get through is dropped, at the tap or in the \
         card, and counted in the records.\n\n{}",
        table(&heads, &rows)
    )
}

/// What one transmitted and one received frame takes, where we can count it.
fn frame(log: &Log) -> String {
    let (out, into) = (format!("tcp transmit {WRITE}"), format!("tcp receive {WRITE}"));
    let top = DEFAULT.name();
    let mut rows = Vec::new();
    for name in [
        "guest instructions",
        "exits",
        "port accesses",
        "interrupt windows",
        "card interrupts",
        "interrupts injected",
        "crossings",
        "crossings: net",
        "crossings: net_limit",
        "crossings: net_tick",
        "crossings: net_halt",
        "frames a crossing",
        "held frames",
        "vmapp writes",
        "vmapp reads",
        "vmapp wake-ups",
        "vmapp sleeps",
        "vmapp kicks",
        "vcpu cpu a frame",
        "vmapp cpu a frame",
        "cpu a frame",
        "combining delay p50",
        "combining delay p99",
        "combining delay max",
    ] {
        let cells = [&out, &into].map(|point| told(log.spread("worldswitch", &top, point, name)));
        let unit = if name.contains("cpu") || name.contains("delay") {
            ", us"
        } else {
            ""
        };
        rows.push([vec![format!("{name}{unit}")], cells.to_vec()].concat());
    }
    rows.retain(|row| row.iter().skip(1).any(|cell| cell != "-"));
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "### One frame\n\nOf the default configuration; a delay is the upper edge of its group in the histogram (1000: that or more).\n\n{}",
        table(&["a frame", "transmitted", "received"], &rows)
    )
}

/// What vmapp takes for a frame, against loops that do nothing else than the system call.
fn bare(log: &Log) -> String {
    let datagrams = format!("udp transmit {DATAGRAM}");
    let received = "write 1514, received";
    let mut rows = Vec::new();
    for (name, io, point, bare) in [
        ("a full datagram out", DEFAULT, datagrams.clone(), received),
        ("the same, max_combined = 16", Io::most(16), datagrams, received),
        ("TCP out", DEFAULT, format!("tcp transmit {WRITE}"), "write 1514"),
        ("TCP in", DEFAULT, format!("tcp receive {WRITE}"), "read 1514"),
    ] {
        let each = |count: &str| log.spread("worldswitch", &io.name(), &point, count);
        let bare = log.spread("raw tap", "", bare, "loop cpu a frame");
        if let (Some(ours), Some(bare)) = (each("vmapp cpu a frame"), bare) {
            rows.push(vec![
                name.into(),
                told(Some(ours)),
                told(Some(bare)),
                digits(ours.median / bare.median),
                told(each("vmapp writes")),
                told(each("vmapp reads")),
                told(each("vmapp sleeps")),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "### vmapp and a bare loop\n\nThe loop has the next frame at hand and never sleeps. Its datagrams go to a socket that is read, \
         as the guest's do; its other frames are dropped right behind the tap, or read from a flood, while TCP's wake a reader and are \
         answered within the same system call.\n\n{}",
        table(
            &[
                "frames",
                "vmapp, us",
                "bare loop, us",
                "ratio",
                "vmapp's writes",
                "vmapp's reads",
                "vmapp's sleeps",
            ],
            &rows
        )
    )
}

fn sweeps(log: &Log) -> String {
    let unlimited = format!("tcp transmit {WRITE}");
    let limited = limited(log).unwrap_or_default();
    let datagrams = format!("udp transmit {DATAGRAM}");
    let most = MOST.map(|n| (format!("max_combined = {n}"), Io::most(n)));
    let ticks = TICKS.map(|us| (format!("flush_us = {us}"), Io::tick(us)));
    let mut rows = Vec::new();
    for (name, io) in most.into_iter().chain(ticks) {
        let value = |point: &str, value: &str| told(log.spread("worldswitch", &io.name(), point, value));
        rows.push(vec![
            name,
            value(&unlimited, "throughput"),
            value(&unlimited, "crossings"),
            value(&datagrams, "datagrams"),
            value(&datagrams, "vmapp cpu a frame"),
            value(&limited, "crossings"),
            value(&limited, "vmapp cpu"),
            value(&limited, "combining delay p99"),
            value("round trip", "round trip p50"),
        ]);
    }
    rows.retain(|row| row.iter().skip(1).any(|cell| cell != "-"));
    if rows.len() < 3 {
        return String::new();
    }
    let heads = [
        "setting",
        "transmit, Mbit/s",
        "crossings a frame",
        "datagrams a second",
        "datagrams: vmapp, us a frame",
        "limited: crossings a frame",
        "limited: vmapp, cores",
        "limited: delay p99, us",
        "round trip p50, us",
    ];
    format!("### Combining, swept\n\n{}", table(&heads, &rows))
}

/// How far the two clocks are apart, over all streams and round trips of guests.
fn clocks(log: &Log) -> String {
    let guests = log
        .records()
        .iter()
        .filter(|record| record.key.engine != "native");
    let ratios = guests.filter_map(|record| record.spread("inside to outside"));
    let (mut least, mut most) = (f64::MAX, 0.0_f64);
    for ratio in ratios {
        least = least.min(ratio.min);
        most = most.max(ratio.max);
    }
    if most == 0.0 {
        return String::new();
    }
    format!(
        "\nRates by the guest's clock were {} to {} of those by the host's, over all streams and round trips of guests.\n",
        digits(least),
        digits(most)
    )
}
