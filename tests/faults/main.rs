//! `make faults`: the fault campaign at length. N workers killed (1000), at every point of the protocol and at random, in
//! several VMs one after the other, each with other `[io]` switches; then the other faults; then a table. SEED (1) is where
//! all that is random comes from, ENGINE (interp) what runs the guest.
//!
//! Ends with 1 if anything happened that must not, with 2 if it cannot run here. See README.md.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tests::campaign::machine::{Initrd, Plan};
use tests::campaign::orders::Orders;
use tests::campaign::score::Score;
use tests::campaign::{Share, reach, run, trials};
use tests::linux::Linux;
use tests::network::enter_namespace;
use tests::tap::{HOST, TAP};

/// Workers killed in one VM.
const SHARE: u64 = 125;
/// Where standard error is no terminal: kills between two words about the progress.
const WORD_EVERY: u64 = 50;
/// VMs that may fail before there is no point in going on.
const PATIENCE: usize = 3;

/// The switches, by VM.
const SWITCHES: &[&str] = &[
    "",
    "ports = \"forward\"",
    "send_combining = false",
    "notify = \"select\"",
];

fn main() -> ExitCode {
    // One thread, whose network is its own from here on; all it starts is in there too.
    match campaign() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("faults: {why}");
            ExitCode::from(2)
        }
    }
}

/// What a variable of the environment says, or else `otherwise`.
fn setting(name: &str, otherwise: u64) -> Result<u64, String> {
    let Ok(value) = std::env::var(name) else {
        return Ok(otherwise);
    };
    value.parse().map_err(|_| format!("{name}={value} is no number"))
}

fn campaign() -> Result<bool, String> {
    let kills = setting("N", 1000)?;
    let seed = setting("SEED", 1)?;
    let engine = std::env::var("ENGINE").unwrap_or_else(|_| "interp".to_owned());
    let linux = Linux::get()?;
    let initrd = Initrd::make(linux).map_err(|error| error.to_string())?;
    let tap = enter_namespace(TAP, HOST);
    let heading = format!("{kills} kills, seed {seed}, engine {engine}, {}", host());
    println!("{heading}");
    if let Err(why) = &tap {
        println!("without the network, its points and the stream: {why}");
    }
    let plan = |number: usize| Plan {
        name: format!("faults-{number}"),
        engine: engine.clone(),
        net: tap.is_ok(),
        io: SWITCHES[number % SWITCHES.len()].to_owned(),
    };
    let mut score = Score::default();
    let mut orders = Orders::new(seed, reach(&plan(0)));
    let mut progress = Progress::new(kills);
    for number in 0.. {
        if score.kills >= kills || score.hangs.len() >= PATIENCE {
            break;
        }
        let plan = plan(number);
        orders.reach(reach(&plan));
        let share = kills.min(score.kills + SHARE);
        let share = Share {
            plan,
            linux,
            initrd: &initrd,
            enough: &|_, score| score.kills >= share,
        };
        run(&share, &mut orders, &mut score, &mut |score| progress.tell(score));
    }
    let trial = Plan {
        name: "faults-other".to_owned(),
        ..plan(0)
    };
    trials::run(&trial, linux, &initrd, &mut score);
    progress.end();
    println!(
        "{score}\n{heading}: {}",
        if score.is_clean() { "ok" } else { "FAILED" }
    );
    Ok(score.is_clean())
}

/// What this ran on.
fn host() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "host: {cores} x {model}, Linux {}, load {load} at the start",
        release.trim()
    )
}

/// How far it is, for whoever waits.
struct Progress {
    kills: u64,
    told: u64,
    terminal: bool,
}

impl Progress {
    fn new(kills: u64) -> Self {
        Self {
            kills,
            told: 0,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, score: &Score) {
        if score.kills == self.told || !(self.terminal || score.kills.is_multiple_of(WORD_EVERY)) {
            return;
        }
        self.told = score.kills;
        let end = if self.terminal { "\r" } else { "\n" };
        let text = format!(
            "{} of {} kills, VM {}, {} wrong{end}",
            score.kills,
            self.kills,
            score.machines,
            score.wrong()
        );
        // Nobody to tell is no reason to stop.
        std::io::stderr().write_all(text.as_bytes()).ok();
    }

    fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
