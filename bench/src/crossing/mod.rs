//! The crossing against its alternatives: latency of one hand-over, cost of a synchronous call, throughput of a stream.
//!
//! Two processes, as in the product, each bound to a core (the futex, which std offers within a process only, and the bare word
//! have two threads). Every case runs with both on one core, where one must sleep for the other to run, and on two. A run is
//! so many rounds of all cases, so that what the host does meanwhile is in every case's spread.

mod latency;
pub mod peer;
mod throughput;

use crate::Outcome;
use crate::host::Host;
use crate::record::{self, Better, Key, Log, Sample};
use crate::report::{table, write_section};
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

/// How long a case is measured in one round.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: usize,
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
                rounds: 1,
                repeats: 5,
                repeat: Duration::from_millis(10),
                messages: 10_000,
            }
        } else {
            Self {
                rounds: 3,
                repeats: 5,
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
    for round in 1..=effort.rounds {
        eprintln!("crossing: round {round} of {}", effort.rounds);
        measure(&mut log, &placements, effort)?;
    }
    let latencies = rows(
        &log,
        &placements,
        latency::CASES.iter().map(|case| (case.machine, case.name)),
    );
    let latencies = table(&heads(&placements, "one way, ns"), &latencies);
    let streams = rows(
        &log,
        &placements,
        throughput::CASES.iter().map(|case| (case.machine, case.name)),
    );
    let streams = table(&heads(&placements, "ns a message; doorbells a message"), &streams);

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

/// Every case in every place, so often as a round has repeats.
fn measure(log: &mut Log, placements: &[Cores], effort: Effort) -> Outcome<()> {
    for case in latency::CASES {
        for &cores in placements {
            let Some(repeats) = latency::measure(case, cores, effort)? else {
                continue;
            };
            let samples = repeats
                .into_iter()
                .map(|ns| Sample::new("one way", "ns", Better::Less, ns));
            log.add(&key(case.machine, case.name, cores), "", samples.collect());
        }
    }
    for case in throughput::CASES {
        for &cores in placements {
            let Some(flow) = throughput::measure(case, cores, effort)? else {
                continue;
            };
            let samples = flow
                .each
                .into_iter()
                .map(|ns| Sample::new("a message", "ns", Better::Less, ns));
            let doorbells = flow
                .doorbells
                .map(|count| Sample::new("doorbells", "a message", Better::Neither, count));
            let samples = samples.chain(doorbells);
            log.add(&key(case.machine, case.name, cores), "", samples.collect());
        }
    }
    Ok(())
}

/// A table's rows: a case each, its values in every place.
fn rows<'a>(
    log: &Log,
    placements: &[Cores],
    cases: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<Vec<String>> {
    let told = |machine, name, cores| {
        let Key { configuration, .. } = key(machine, name, cores);
        let spread = |value| log.spread(machine, &configuration, name, value);
        let doorbells = spread("doorbells").map_or(String::new(), |count| format!("; {:.3}", count.median));
        spread("one way")
            .or_else(|| spread("a message"))
            .map_or("-".into(), |time| format!("{time}{doorbells}"))
    };
    cases
        .map(|(machine, name)| {
            let places = placements.iter().map(|&cores| told(machine, name, cores));
            [name.to_owned()].into_iter().chain(places).collect()
        })
        .collect()
}

fn key(machine: &str, case: &str, cores: Cores) -> Key {
    Key {
        bench: "crossing".into(),
        machine: machine.into(),
        engine: "native".into(),
        configuration: if cores.shared() { "one core" } else { "two cores" }.into(),
        point: case.into(),
    }
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
         Two processes bound to their cores (futex, word: two threads). Medians of {} rounds of {} repeats, best and worst in\n\
         brackets.\n\n\
         Latency: half a round trip of {} bytes (eventfd, futex: of a count; word: of a cache line, the limit of what spins).\n\
         *spinning*: both sides look all the time;\n\
         *sleeping*: both sleep at once when they run dry; *spin, then sleep*: the product's default. A synchronous call is\n\
         a whole round trip, request to answer.\n\n\
         {latencies}\n\
         Throughput: a stream in one direction, one publication a message unless said. Sleeping rings also say how many\n\
         doorbells a message took.\n\n\
         {streams}",
        effort.rounds,
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
