//! The crossing against its alternatives: latency of one hand-over, cost of a synchronous call, throughput of a stream.
//!
//! Two processes, as in the product, each bound to a core (the futex, which std offers within a process only, has two
//! threads). Every case runs with both on one core, where one must sleep for the other to run, and on two.

mod latency;
pub mod peer;
mod throughput;

use crate::Outcome;
use crate::host::Host;
use crate::record::{self, Better, Key, Log, Sample};
use crate::report::{table, write_section};
use crate::stats::Spread;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The cores of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cores {
    ours: usize,
    theirs: usize,
}

impl Cores {
    fn shared(self) -> bool {
        self.ours == self.theirs
    }
}

/// How long a case is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    repeats: usize,
    /// Of one repeat of a latency.
    repeat: Duration,
    /// In one repeat of a throughput.
    messages: u64,
}

impl Effort {
    fn new(quick: bool) -> Self {
        if quick {
            Self {
                repeats: 5,
                repeat: Duration::from_millis(10),
                messages: 10_000,
            }
        } else {
            Self {
                repeats: 15,
                repeat: Duration::from_millis(50),
                messages: 50_000,
            }
        }
    }
}

/// Measures everything and reports it.
pub fn run(quick: bool) -> Outcome<()> {
    let mut log = Log::new();
    println!("{}\n", log.host);
    let effort = Effort::new(quick);
    let placements = placements()?;
    let mut rows = Vec::new();
    for case in latency::CASES {
        let mut row = vec![case.name.to_owned()];
        for &cores in &placements {
            row.push(match latency::measure(case, cores, effort)? {
                Some(repeats) => {
                    let samples = repeats
                        .iter()
                        .map(|&ns| Sample::new("one way", "ns", Better::Less, ns));
                    log.add(&key(case.name, cores), "", samples.collect());
                    told(repeats)
                }
                None => "-".to_owned(),
            });
        }
        rows.push(row);
    }
    let latencies = table(&heads(&placements, "one way, ns"), &rows);

    let mut rows = Vec::new();
    for case in throughput::CASES {
        let mut row = vec![case.name.to_owned()];
        for &cores in &placements {
            row.push(match throughput::measure(case, cores, effort)? {
                Some(flow) => {
                    let samples = flow
                        .each
                        .iter()
                        .map(|&ns| Sample::new("a message", "ns", Better::Less, ns));
                    let doorbells = flow
                        .doorbells
                        .map(|count| Sample::new("doorbells", "a message", Better::Neither, count));
                    log.add(&key(case.name, cores), "", samples.chain(doorbells).collect());
                    let doorbells = flow.doorbells.map_or(String::new(), |n| format!("; {n:.3}"));
                    format!("{}{doorbells}", told(flow.each))
                }
                None => "-".to_owned(),
            });
        }
        rows.push(row);
    }
    let streams = table(&heads(&placements, "ns a message; doorbells a message"), &rows);

    let section = section(&log.host, effort, &latencies, &streams);
    println!("{section}");
    log.write(&record::folder(quick).join("crossing.jsonl"))?;
    // A quick run shows that it works; it is not worth keeping.
    if !quick {
        write_section(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"),
            "crossing",
            &section,
        )?;
    }
    Ok(())
}

fn key(case: &str, cores: Cores) -> Key {
    Key {
        bench: "crossing".into(),
        machine: "host".into(),
        engine: "native".into(),
        configuration: if cores.shared() { "one core" } else { "two cores" }.into(),
        point: case.into(),
    }
}

fn told(repeats: Vec<f64>) -> String {
    Spread::of(repeats).map_or("-".into(), |spread| spread.to_string())
}

fn heads(placements: &[Cores], what: &'static str) -> Vec<&'static str> {
    let mut heads = vec![what];
    heads.extend(
        placements
            .iter()
            .map(|cores| if cores.shared() { "one core" } else { "two cores" }),
    );
    heads
}

fn section(host: &Host, effort: Effort, latencies: &str, streams: &str) -> String {
    format!(
        "## Crossing\n\n\
         Host: {host}.\n\
         Two processes bound to their cores (futex: two threads). Medians of {} repeats, best and worst in brackets.\n\n\
         Latency: half a round trip of {} bytes (eventfd, futex: of a count). *spinning*: both sides look all the time;\n\
         *sleeping*: both sleep at once when they run dry; *spin, then sleep*: the product's default. A synchronous call is\n\
         a whole round trip, request to answer.\n\n\
         {latencies}\n\
         Throughput: a stream in one direction, one publication a message unless said. Sleeping rings also say how many\n\
         doorbells a message took.\n\n\
         {streams}",
        effort.repeats,
        peer::PAYLOAD,
    )
}

/// Both on one core, and on two if there are two.
fn placements() -> Outcome<Vec<Cores>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let mut usable = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
    let first = usable.next().ok_or("no processor to run on")?;
    let mut placements = vec![Cores {
        ours: first,
        theirs: first,
    }];
    placements.extend(usable.next().map(|second| Cores {
        ours: first,
        theirs: second,
    }));
    Ok(placements)
}

/// Binds this thread, and what it starts, to these cores.
pub fn bind(cores: &[usize]) -> Outcome<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}
