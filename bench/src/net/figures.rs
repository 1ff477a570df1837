//! The figures of the network's section, from the records of the run alone.

use super::WRITES;
use super::ladder::{DEFAULT, Io, MOST, PAPER_NATIVE, RUNGS, TICKS};
use crate::Outcome;
use crate::figure::{Bars, Line, Lines};
use crate::record::Log;
use std::path::Path;

/// Draws all for which there are records; their file names and what they show.
pub fn draw(log: &Log, folder: &Path) -> Outcome<Vec<(&'static str, &'static str)>> {
    let mut drawn = Vec::new();
    let mut keep = |file, title, done: Outcome<bool>| -> Outcome<()> {
        if done? {
            drawn.push((file, title));
        }
        Ok(())
    };
    for (file, title, point) in [
        (
            "net-transmit.svg",
            "TCP out of the guest by write size",
            "tcp transmit",
        ),
        (
            "net-receive.svg",
            "TCP into the guest by write size",
            "tcp receive",
        ),
    ] {
        keep(file, title, streams(log, title, point).draw(&folder.join(file)))?;
    }
    let title = "Idle share at equal throughput, by optimisation";
    keep(
        "net-ladder.svg",
        title,
        rungs(log, title).draw(&folder.join("net-ladder.svg")),
    )?;
    let title = "Crossings a transmitted frame by max_combined";
    let most = sweep(
        log,
        title,
        "max_combined",
        "crossings",
        MOST.map(|n| (n, Io::most(n))),
    );
    keep(
        "net-max-combined.svg",
        title,
        most.draw(&folder.join("net-max-combined.svg")),
    )?;
    let title = "Crossings a transmitted frame by flush tick";
    let tick = sweep(
        log,
        title,
        "flush_us",
        "crossings",
        TICKS.map(|us| (us, Io::tick(us))),
    );
    keep("net-flush.svg", title, tick.draw(&folder.join("net-flush.svg")))?;
    Ok(drawn)
}

/// Machines that are guests, with the configuration in which they come, in the order of their records.
fn guests(log: &Log) -> Vec<(String, String, String)> {
    let mut guests = Vec::new();
    for record in log.records() {
        let key = &record.key;
        let comes = key.machine == "qemu" || key.configuration == DEFAULT.name();
        let guest = (key.machine.clone(), key.engine.clone(), key.configuration.clone());
        if comes && !guests.contains(&guest) {
            guests.push(guest);
        }
    }
    guests
}

fn streams<'a>(log: &Log, title: &'a str, point: &str) -> Lines<'a> {
    let curve = |(machine, engine, configuration): (String, String, String)| {
        let at = |write: usize| {
            let point = format!("{point} {write}");
            let spread = log.spread(&machine, &configuration, &point, "throughput")?;
            Some((write as f64, spread.median))
        };
        Line {
            name: format!("{machine}, {engine}, {configuration}"),
            points: WRITES.iter().filter_map(|&write| at(write)).collect(),
        }
    };
    Lines {
        title,
        x: "bytes of a write",
        y: "Mbit/s",
        doubling: true,
        lines: guests(log).into_iter().map(curve).collect(),
    }
}

/// The name of the limited stream's point, whatever its rate was.
pub fn limited(log: &Log) -> Option<String> {
    let mut names = log.records().iter().map(|record| &record.key.point);
    names.find(|name| name.contains(" at ")).cloned()
}

fn rungs<'a>(log: &Log, title: &'a str) -> Bars<'a> {
    let point = limited(log).unwrap_or_default();
    let idle = |machine: &str, configuration: &str| {
        let spread = log.spread(machine, configuration, &point, "idle share");
        spread.map(|spread| spread.median * 100.0)
    };
    let rungs = RUNGS.iter().map(|rung| {
        let ours = idle("worldswitch", &rung.io.name());
        (rung.name.to_owned(), vec![ours, ours.and(rung.paper)])
    });
    let native = idle("native", "");
    let native = ("native".to_owned(), vec![native, native.and(Some(PAPER_NATIVE))]);
    Bars {
        title,
        y: "% of a core idle",
        series: vec!["here", "the paper's PC of 2001"],
        groups: rungs
            .chain([native])
            .filter(|(_, values)| values[0].is_some())
            .collect(),
    }
}

fn sweep<'a, const N: usize>(
    log: &Log,
    title: &'a str,
    x: &'a str,
    value: &str,
    settings: [(u32, Io); N],
) -> Lines<'a> {
    let unlimited = format!("tcp transmit {}", super::WRITE);
    let points = [Some(unlimited), limited(log)].into_iter().flatten();
    let curve = |point: String| {
        let at = |(setting, io): &(u32, Io)| {
            let spread = log.spread("worldswitch", &io.name(), &point, value)?;
            Some((f64::from(*setting), spread.median))
        };
        Line {
            points: settings.iter().filter_map(at).collect(),
            name: point,
        }
    };
    // One point is no curve: it is the default, measured for another reason.
    let lines = points.map(curve).filter(|line| line.points.len() > 1).collect();
    Lines {
        title,
        x,
        y: "a frame",
        doubling: true,
        lines,
    }
}
