//! What a process uses: memory at most, processor time. Shares of time are compared, never durations, so that a busy host
//! changes nothing.

use std::time::{Duration, Instant};

/// Most memory a process ever had, in KiB.
pub fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Processor time of all its threads.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    // utime and stime are fields 14 and 15, the state is 3 (proc_pid_stat(5)); a tick is 10 ms on every Linux there is.
    let ticks: u64 = (fields.split_whitespace().skip(11).take(2))
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

/// The share of one core a process takes while `meanwhile` runs.
pub fn share(pid: u32, meanwhile: impl FnOnce()) -> f64 {
    let (begun, before) = (Instant::now(), cpu(pid));
    meanwhile();
    let took = begun.elapsed();
    (cpu(pid) - before).as_secs_f64() / took.as_secs_f64()
}

/// Does something over and over for a while.
pub fn for_a_while(how_long: Duration, mut what: impl FnMut()) {
    let end = Instant::now() + how_long;
    while Instant::now() < end {
        what();
    }
}
