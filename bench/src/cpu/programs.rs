//! The agent's kernels, natively and in a guest: the same machine code everywhere, so the ratio is the machine's.

use crate::Outcome;
use crate::machines::media::Media;
use crate::machines::{Cable, Guest, Maker, Running, makers, start_native};
use crate::record::{Better, Key, Log, Sample};
use crate::report::table;
use std::net::Ipv4Addr;

/// As the agent knows them, and what each does.
const KERNELS: [(&str, &str); 9] = [
    ("integer", "shifts, exclusive ors, multiplications in registers"),
    ("branches", "a branch on data every few instructions"),
    ("calls", "recursive calls"),
    ("memory", "dependent loads over 256 KiB"),
    ("floating-point", "square roots and divisions"),
    ("copy", "memcpy of 256 KiB"),
    ("sort", "2000 numbers"),
    ("system-calls", "getppid"),
    ("page-faults", "256 fresh pages"),
];

/// What runs the programs, and what they computed so far.
pub struct Programs {
    media: Media,
    makers: Vec<Maker>,
    left_out: Vec<String>,
    sums: Vec<(&'static str, f64)>,
}

impl Programs {
    /// Everybody who can run them here.
    pub fn new() -> Outcome<Self> {
        let media = Media::make()?;
        let (makers, left_out) = makers(&media)?;
        Ok(Self {
            media,
            makers,
            left_out,
            sums: Vec::new(),
        })
    }

    /// Measures all of them on every machine, so many seconds each.
    pub fn measure(&mut self, log: &mut Log, seconds: f64) -> Outcome<()> {
        let guest = Guest {
            cable: Cable::Nat,
            settings: Vec::new(),
            disk: None,
        };
        let native = start_native(Ipv4Addr::LOCALHOST, |agent| agent)?;
        kernels(log, native, ["native", "native"], "", seconds, &mut self.sums)?;
        for maker in &self.makers {
            let (machine, engine) = maker.names();
            let running = maker.start(&guest, &self.media)?;
            let version = maker.version();
            kernels(log, running, [machine, engine], &version, seconds, &mut self.sums)?;
        }
        Ok(())
    }

    /// The table of what was measured.
    pub fn section(&self, log: &Log) -> String {
        section(log, &self.makers, &self.left_out)
    }
}

/// One machine's kernels, once. What they compute must be what they compute everywhere.
fn kernels(
    log: &mut Log,
    mut running: Running,
    [machine, engine]: [&str; 2],
    version: &str,
    seconds: f64,
    sums: &mut Vec<(&'static str, f64)>,
) -> Outcome<()> {
    for (name, _) in KERNELS {
        let answer = running
            .agent
            .ask(&format!("kernel name={name} seconds={seconds}"))?;
        let sum = answer.get("sum")?;
        match sums.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != sum => {
                return Err(format!("{machine} computes {name} wrong").into());
            }
            Some(_) => {}
            None => sums.push((name, sum)),
        }
        let key = Key {
            bench: "cpu".into(),
            machine: machine.into(),
            engine: engine.into(),
            configuration: "program in a guest".into(),
            point: name.into(),
        };
        let rate = answer.get("rounds")? / answer.get("seconds")?;
        log.add(
            &key,
            version,
            vec![Sample::new("rate", "rounds/s", Better::More, rate)],
        );
    }
    running.stop();
    Ok(())
}

fn section(log: &Log, makers: &[Maker], left_out: &[String]) -> String {
    let rate = |machine: &str, engine: &str, kernel: &str| {
        let mut records = log.records().iter();
        let record = records.find(|record| {
            let key = &record.key;
            (key.machine.as_str(), key.engine.as_str(), key.point.as_str()) == (machine, engine, kernel)
        });
        record.and_then(|record| record.spread("rate"))
    };
    let mut rows = Vec::new();
    let mut logs = vec![0.0; makers.len()];
    for (name, what) in KERNELS {
        let native = rate("native", "native", name);
        let mut row = vec![format!("{name}: {what}")];
        row.push(native.map_or("-".into(), |native| native.to_string()));
        for (maker, logs) in makers.iter().zip(&mut logs) {
            let (machine, engine) = maker.names();
            let slower = native
                .zip(rate(machine, engine, name))
                .map(|(native, ours)| native.median / ours.median);
            *logs += slower.map_or(0.0, f64::ln);
            row.push(slower.map_or("-".into(), |slower| format!("{slower:.1}")));
        }
        rows.push(row);
    }
    let means = logs
        .iter()
        .map(|logs| format!("{:.1}", (logs / KERNELS.len() as f64).exp()));
    rows.push(
        ["geometric mean".to_owned(), String::new()]
            .into_iter()
            .chain(means)
            .collect(),
    );
    let mut heads = vec!["program".to_owned(), "native, rounds/s".to_owned()];
    heads.extend(makers.iter().map(|maker| {
        let (machine, engine) = maker.names();
        format!("{machine} {engine}, times slower")
    }));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut text = format!(
        "Programs of the agent, the same static binary natively and in a Debian guest: how many times slower than native. They \
         compute the same sums everywhere.\n\n{}",
        table(&heads, &rows)
    );
    left_out
        .iter()
        .for_each(|what| text.push_str(&format!("\nLeft out: {what}\n")));
    text
}
