//! What a campaign has come to, as numbers and as the table that `make faults` prints.

use super::images::Verdict;
use std::fmt::{self, Write};
use std::time::Duration;

/// The longest waits around one fault, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    /// Longest write with its fsync, by the guest's clock.
    pub write: u64,
    /// Longest time between two blocks from the host, by the guest's clock.
    pub gap: u64,
    /// Longest time between two blocks from the guest, by the host's.
    pub host: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Blows to the worker, by row of the table, in the order of their first.
    pub blows: Vec<(String, Vec<Stall>)>,
    /// The other faults.
    pub trials: Vec<(String, Vec<Stall>)>,
    /// The load without either.
    pub calm: Vec<Stall>,
    /// Workers that died, by the product's own count.
    pub restarts: u64,
    /// Blows that killed.
    pub kills: u64,
    /// Blows that stopped and continued.
    pub stops: u64,
    /// VMs booted.
    pub machines: u64,
    /// Records acknowledged.
    pub records: u64,
    /// Blocks of the stream, both ways.
    pub blocks: u64,
    /// Links that went down.
    pub flaps: u64,
    /// Acknowledged and not there.
    pub lost: Vec<String>,
    /// Acknowledged and only partly there.
    pub torn: Vec<String>,
    /// Errors the guest saw, and file systems that are not clean.
    pub guest_errors: Vec<String>,
    /// The stream's.
    pub stream_breaks: Vec<String>,
    /// VMs that did not go on, or ended otherwise than they should.
    pub hangs: Vec<String>,
    /// VMs in which another number of workers died than was ordered.
    pub strays: Vec<String>,
    /// Faults that were armed and never struck.
    pub unreached: Vec<String>,
}

impl Score {
    /// Nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.wrong() == 0
    }

    /// What happened that must not.
    pub fn wrong(&self) -> usize {
        self.failures().iter().map(|(_, what)| what.len()).sum()
    }

    /// Everything that must be empty.
    fn failures(&self) -> [(&'static str, &[String]); 7] {
        [
            ("lost acknowledged writes", &self.lost),
            ("torn acknowledged writes", &self.torn),
            ("guest errors", &self.guest_errors),
            ("stream breaks", &self.stream_breaks),
            ("hangs and wrong ends", &self.hangs),
            ("deaths nobody ordered", &self.strays),
            ("points not reached", &self.unreached),
        ]
    }

    /// Takes in what was found on the disks.
    pub fn judge(&mut self, verdict: Verdict) {
        self.lost.extend(verdict.lost);
        self.torn.extend(verdict.torn);
        self.guest_errors.extend(verdict.unclean);
    }
}

/// Adds to a row, which is new if there is none.
pub fn add(rows: &mut Vec<(String, Vec<Stall>)>, name: String, stall: Stall) {
    match rows.iter_mut().find(|(row, _)| *row == name) {
        Some((_, stalls)) => stalls.push(stall),
        None => rows.push((name, vec![stall])),
    }
}

/// One of a stall's times.
type Time = fn(&Stall) -> u64;

/// Median and longest.
fn spread(stalls: &[Stall], time: Time) -> String {
    // Nobody waits for nothing at all: where all are 0 there was no stream.
    let mut times: Vec<u64> = stalls.iter().map(time).filter(|&time| time != 0).collect();
    times.sort_unstable();
    let Some(&worst) = times.last() else {
        return format!("{:>7} {:>7}", "-", "-");
    };
    format!("{} {}", ms(times[times.len() / 2]), ms(worst))
}

fn ms(us: u64) -> String {
    format!("{:>7.1}", Duration::from_micros(us).as_secs_f64() * 1e3)
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        writeln!(text, "{:38} longest write+fsync    longest stream gap", "")?;
        writeln!(
            text,
            "{:30} {:>7} {:>7} {:>7} ms   {:>7} {:>7} ms",
            "", "times", "median", "worst", "median", "worst"
        )?;
        let mut row = |name: &str, stalls: &[Stall]| {
            let write = spread(stalls, |stall| stall.write);
            let gap = spread(stalls, |stall| stall.gap.max(stall.host));
            writeln!(text, "{name:30} {:>7} {write}      {gap}", stalls.len())
        };
        for (name, stalls) in self.blows.iter().chain(&self.trials) {
            row(name, stalls)?;
        }
        let blows = self.blows.iter().flat_map(|(_, stalls)| stalls);
        row("all kills and stops", &blows.copied().collect::<Vec<_>>())?;
        row("nothing, for comparison", &self.calm)?;
        writeln!(
            text,
            "\n{} kills, {} stops; {} restarts counted; {} VMs, {} records acknowledged, {} blocks streamed, {} link flaps",
            self.kills, self.stops, self.restarts, self.machines, self.records, self.blocks, self.flaps
        )?;
        for (what, found) in self.failures() {
            writeln!(text, "{what:30} {:>7}  (must be 0)", found.len())?;
            for line in found.iter().take(MOST_SHOWN) {
                writeln!(text, "    {}", line.trim_end().replace('\n', "\n    "))?;
            }
        }
        f.write_str(&text)
    }
}

/// Failures of a kind that are told in full.
const MOST_SHOWN: usize = 10;
