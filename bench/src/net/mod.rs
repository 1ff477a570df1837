//! The network: what a frame costs and how many there are, by every rung of the hosted-I/O ladder, beside the host itself
//! and QEMU.
//!
//! A run is so many rounds of the same machines in the same order, so that what the host does meanwhile hits all alike
//! (A B A B). Each machine boots once a round and does all its points. With root, in network namespaces of its own, on a
//! tap; without, on the machines' own address translation, and what that leaves out is said.

mod cost;
mod figures;
mod lab;
mod ladder;
mod limits;
mod load;
mod section;

use crate::Outcome;
use crate::machines::media::{self, Media};
use crate::machines::{Cable, Guest, Maker, Running, engines, qemu_program};
use crate::progress::Progress;
use crate::record::{self, Key, Log, Sample};
use crate::report::write_section;
use clap::ValueEnum;
use lab::Lab;
use ladder::{DEFAULT, Io, MOST, RUNGS, STEPS, TICKS};
use load::{Effort, Load, Near};
use std::net::Ipv4Addr;

/// Bytes of a write in the ladder and the sweeps: the paper's.
const WRITE: usize = 4096;
/// Write sizes of the streams.
const WRITES: [usize; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
/// Datagram sizes: the least, a middle one, and what fills a frame.
const DATAGRAMS: [usize; 3] = [64, 512, DATAGRAM];
/// What fills a frame.
const DATAGRAM: usize = 1472;
/// Seconds of the streams that warm a fresh machine up, either way.
const WARM: f64 = 0.3;

/// Parts of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Every size, both ways, on every machine
    Streams,
    /// The optimisations of the paper
    Ladder,
    /// max_combined and flush_us
    Sweep,
    /// The machines' own address translation
    Nat,
}

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Few points, short ones, once: to see that it works
    #[arg(long)]
    quick: bool,
    /// Rounds: each machine is booted and measured once in each
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Seconds of a point
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of a stream, which then takes as long as it takes (the paper's: 100000000)
    #[arg(long)]
    bytes: Option<u64>,
    /// Mbit/s of the limited stream at which idle shares are compared
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Only this part; may be repeated
    #[arg(long = "part")]
    parts: Vec<Part>,
}

impl Options {
    fn has(&self, part: Part) -> bool {
        if self.parts.is_empty() {
            !(self.quick && part == Part::Sweep)
        } else {
            self.parts.contains(&part)
        }
    }

    fn effort(&self) -> Effort {
        Effort {
            seconds: if self.quick { 0.5 } else { self.seconds },
            bytes: self.bytes,
        }
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.repeats.max(1) }
    }

    fn rungs(&self) -> impl Iterator<Item = Io> {
        let quick = self.quick;
        RUNGS
            .iter()
            .enumerate()
            .filter(move |(n, _)| !quick || [0, STEPS - 1].contains(n))
            .map(|(_, rung)| rung.io)
    }

    /// Every size, both ways.
    fn streams(&self) -> Vec<Load> {
        let writes = if self.quick { &WRITES[3..4] } else { &WRITES[..] };
        let sizes = if self.quick {
            &DATAGRAMS[..1]
        } else {
            &DATAGRAMS[..]
        };
        let mut loads = Vec::new();
        loads.extend(writes.iter().map(|&write| Load::Send { write, rate: None }));
        loads.extend(writes.iter().map(|&write| Load::Receive { write }));
        loads.extend(sizes.iter().map(|&size| Load::DatagramsOut(size)));
        loads.extend(sizes.iter().map(|&size| Load::DatagramsIn(size)));
        loads.push(Load::Ping);
        loads
    }

    /// What every rung does.
    fn rung(&self) -> Vec<Load> {
        vec![
            Load::Send {
                write: WRITE,
                rate: None,
            },
            self.limited(),
            Load::Receive { write: WRITE },
            Load::RoundTrip,
            Load::Idle,
        ]
    }

    /// What every value of a sweep does.
    fn swept(&self) -> Vec<Load> {
        vec![
            Load::Send {
                write: WRITE,
                rate: None,
            },
            self.limited(),
            Load::DatagramsOut(DATAGRAM),
            Load::RoundTrip,
        ]
    }

    fn limited(&self) -> Load {
        Load::Send {
            write: WRITE,
            rate: Some(self.rate),
        }
    }
}

/// Who is measured.
#[derive(Clone, Debug, PartialEq)]
enum Who {
    /// The agent at the other end of a veth pair.
    Native,
    /// Bare loops at the tap.
    RawTap,
    /// A guest.
    Guest(Maker, Cable, Io),
}

/// A machine and what it does in every round.
struct Setup {
    key: Key,
    who: Who,
    loads: Vec<Load>,
}

impl Setup {
    fn new(who: Who, mut loads: Vec<Load>) -> Self {
        // A rung's stream is one of the streams too.
        let mut once: Vec<Load> = Vec::new();
        loads.retain(|load| {
            let new = !once.contains(load);
            once.extend(new.then_some(*load));
            new
        });
        let (machine, engine) = match &who {
            Who::Native => ("native", "native"),
            Who::RawTap => ("raw tap", "native"),
            Who::Guest(maker, ..) => maker.names(),
        };
        let configuration = match &who {
            Who::Guest(Maker::Ours(_), _, io) => io.name(),
            Who::Guest(Maker::Qemu, ..) => "pcnet".to_owned(),
            _ => String::new(),
        };
        let key = Key {
            bench: "net".into(),
            machine: machine.into(),
            engine: engine.into(),
            configuration,
            point: String::new(),
        };
        Self { key, who, loads }
    }

    /// Neither ours nor the host.
    fn is_peer(&self) -> bool {
        matches!(self.who, Who::Guest(Maker::Qemu, ..))
    }

    fn points(&self) -> usize {
        if self.who == Who::RawTap {
            3
        } else {
            self.loads.len()
        }
    }
}

/// Measures everything and reports it.
pub fn run(options: &Options) -> Outcome<()> {
    let media = Media::make()?;
    // The namespaces are a thread's: the rest of this process stays where it is.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| measure(options, &media).map_err(|error| error.to_string()));
        measured
            .join()
            .map_err(|_| "a thread failed")?
            .map_err(Into::into)
    })
}

fn measure(options: &Options, media: &Media) -> Outcome<()> {
    let mut left_out = Vec::new();
    let lab = match Lab::enter() {
        Ok(lab) => Some(lab),
        Err(why) => {
            left_out.push(format!("native, raw tap, ping, and guests on a tap: {why}"));
            None
        }
    };
    let setups = plan(options, lab.as_ref(), media, &mut left_out)?;
    let mut log = Log::new();
    println!("{}\n", log.host);
    left_out.iter().for_each(|what| println!("left out: {what}"));
    let folder = record::folder(options.quick);
    let points: usize = setups.iter().map(Setup::points).sum();
    let mut progress = Progress::new(points * options.rounds());
    for round in 1..=options.rounds() {
        for setup in &setups {
            let name = format!("{} {}", setup.key.machine, setup.key.configuration);
            progress.chapter(&format!("round {round} of {}: {name}", options.rounds()));
            match one(setup, lab.as_ref(), media, options, &mut log, &mut progress) {
                // A peer that fails is told of, and costs nobody else's figures.
                Err(error) if setup.is_peer() => {
                    left_out.push(format!("from here on in round {round}: {error}"))
                }
                measured => measured?,
            }
        }
        // What there is survives an interruption.
        log.write(&folder.join("net.jsonl"))?;
    }
    progress.wipe();
    let drawn = figures::draw(&log, &folder)?;
    let section = section::write(&log, options, media, &left_out, &drawn);
    println!("{section}");
    if !options.quick {
        write_section(&media::root()?.join("bench/RESULTS.md"), "net", &section)?;
    }
    Ok(())
}

/// Who is measured, in the order of a round.
fn plan(
    options: &Options,
    lab: Option<&Lab>,
    media: &Media,
    left_out: &mut Vec<String>,
) -> Outcome<Vec<Setup>> {
    let (engines, why) = engines(media)?;
    left_out.extend(why);
    let qemu = qemu_program().map_err(|why| left_out.push(why)).is_ok();
    let cable = lab.map_or(Cable::Nat, Lab::cable);
    let mut setups = Vec::new();
    let both = |with: &[Load]| -> Vec<Load> { [options.streams(), with.to_vec()].concat() };
    if options.has(Part::Streams) && lab.is_some() {
        setups.push(Setup::new(Who::RawTap, Vec::new()));
        setups.push(Setup::new(Who::Native, both(&options.rung())));
    }
    for &engine in &engines {
        let ours = |io, loads| Setup::new(Who::Guest(Maker::Ours(engine), cable.clone(), io), loads);
        let mut io = Vec::new();
        if options.has(Part::Streams) {
            setups.push(ours(DEFAULT, both(&options.rung())));
            io.push(DEFAULT);
        }
        if qemu && options.has(Part::Streams) && engine == engines[0] {
            let who = Who::Guest(Maker::Qemu, cable.clone(), DEFAULT);
            setups.push(Setup::new(who, both(&options.rung())));
        }
        let ladder = options.rungs().map(|io| (io, options.rung()));
        let most = MOST.iter().map(|&most| Io::most(most));
        let sweeps = most.chain(TICKS.iter().map(|&tick| Io::tick(tick)));
        let sweeps = sweeps.map(|io| (io, options.swept()));
        let ladder = ladder.filter(|_| options.has(Part::Ladder));
        for (each, loads) in ladder.chain(sweeps.filter(|_| options.has(Part::Sweep))) {
            if !io.contains(&each) {
                io.push(each);
                setups.push(ours(each, loads));
            }
        }
        if options.has(Part::Nat) && cable != Cable::Nat {
            let who = Who::Guest(Maker::Ours(engine), Cable::Nat, DEFAULT);
            let mut setup = Setup::new(who, options.rung());
            // A plain user has no other, and no need to be told each time.
            setup.key.configuration.push_str(", nat");
            setups.push(setup);
        }
    }
    Ok(setups)
}

/// One machine's points, once.
fn one(
    setup: &Setup,
    lab: Option<&Lab>,
    media: &Media,
    options: &Options,
    log: &mut Log,
    progress: &mut Progress,
) -> Outcome<()> {
    let effort = options.effort();
    let mut keep = |point: String, program: &str, samples: Vec<Sample>| {
        let key = Key {
            point,
            ..setup.key.clone()
        };
        log.add(&key, program, samples);
    };
    let (mut machine, near, program): (Running, Near, String) = match (&setup.who, lab) {
        (Who::RawTap, _) => {
            keep("write 1514".into(), "", limits::write(effort.seconds)?);
            progress.done();
            keep(
                "write 1514, received".into(),
                "",
                limits::write_received(effort.seconds)?,
            );
            progress.done();
            keep("read 1514".into(), "", limits::read(effort.seconds)?);
            progress.done();
            return Ok(());
        }
        (Who::Native, Some(lab)) => {
            let (machine, host) = lab.native()?;
            (machine, near(host, host, Some(lab::NATIVE), media), String::new())
        }
        (Who::Native, None) => return Err("no second network".into()),
        (Who::Guest(maker, cable, io), _) => {
            progress.step("boots");
            let guest = Guest {
                cable: cable.clone(),
                settings: io.settings(),
                disk: None,
            };
            let address = (*cable != Cable::Nat).then_some(lab::GUEST);
            let near = near(cable.host(), cable.seen(), address, media);
            (maker.start(&guest, media)?, near, maker.version())
        }
    };
    let warm = Effort {
        seconds: WARM,
        bytes: None,
    };
    let out = Load::Send {
        write: WRITE,
        rate: None,
    };
    let mut measure = |load: &Load, effort| {
        let measured = load.measure(&mut machine, &near, effort);
        measured.map_err(|error| format!("{} {}: {error}", setup.key.machine, load.name()))
    };
    let mut all = || -> Outcome<()> {
        for load in [out, Load::Receive { write: WRITE }] {
            measure(&load, warm)?;
        }
        for load in &setup.loads {
            progress.step(&load.name());
            keep(load.name(), &program, measure(load, effort)?);
            progress.done();
        }
        Ok(())
    };
    let measured = all();
    machine.stop();
    measured
}

fn near(host: Ipv4Addr, seen: Ipv4Addr, machine: Option<Ipv4Addr>, media: &Media) -> Near<'_> {
    Near {
        host,
        seen,
        machine,
        busybox: &media.busybox,
    }
}
