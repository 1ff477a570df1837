//! Processor time as the machine itself accounts for it: this process's, and the idle share of all processors.
//!
//! From /proc (proc(5)), in ticks of 10 ms. In a guest the idle share is the guest's view; natively it is that of the
//! whole host, with everything else that runs there.

use crate::{Answer, Outcome};
use std::fs;

/// Of USER_HZ, which the kernel's interface fixes at 100 on x86.
const TICKS_PER_SECOND: f64 = 100.0;

/// Readings at one moment, in ticks.
pub struct Usage {
    process: u64,
    idle: u64,
    all: u64,
}

impl Usage {
    /// The readings now.
    pub fn now() -> Outcome<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The name may hold anything; what follows its closing bracket does not. utime and stime are fields 14 and 15.
        let rest = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
        let own = numbers(rest.split_whitespace().skip(11).take(2))?;
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().ok_or("/proc/stat is empty")?;
        // user nice system idle iowait irq softirq steal; what follows is part of user already.
        let all = numbers(line.split_whitespace().skip(1).take(8))?;
        Ok(Self {
            process: own.iter().sum(),
            idle: all.iter().skip(3).take(2).sum(),
            all: all.iter().sum(),
        })
    }

    /// What was used between two readings.
    pub fn since(&self, before: &Self) -> Answer {
        let process = self.process.saturating_sub(before.process) as f64 / TICKS_PER_SECOND;
        let (idle, all) = (
            self.idle.saturating_sub(before.idle),
            self.all.saturating_sub(before.all),
        );
        let share = if all == 0 { 0.0 } else { idle as f64 / all as f64 };
        vec![("cpu_s", process), ("idle_share", share)]
    }
}

fn numbers<'a>(words: impl Iterator<Item = &'a str>) -> Outcome<Vec<u64>> {
    Ok(words.map(str::parse).collect::<Result<_, _>>()?)
}
