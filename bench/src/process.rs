//! What a process uses, from the outside: processor time of it and of its threads, memory, children. All from proc(5).

use crate::Outcome;
use std::fs;

/// Processor seconds of one thread, in nanoseconds' resolution where the kernel has it (schedstat), else in ticks.
fn thread_seconds(pid: u32, tid: u32) -> Option<f64> {
    let folder = format!("/proc/{pid}/task/{tid}");
    if let Ok(text) = fs::read_to_string(format!("{folder}/schedstat")) {
        let nanos: f64 = text.split_whitespace().next()?.parse().ok()?;
        return Some(nanos / 1e9);
    }
    let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let ticks: Option<u64> = after_name(&stat)?
        .skip(11)
        .take(2)
        .map(|word| word.parse::<u64>().ok())
        .sum();
    Some(ticks? as f64 / 100.0)
}

/// The fields of a stat file behind the name, which may hold anything but ends with the last bracket: the first of these
/// is the third of proc(5).
fn after_name(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

/// Whose processor time is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in records.
    pub name: &'static str,
    /// The process.
    pub pid: u32,
    /// One thread of it; `None`: all.
    pub tid: Option<u32>,
}

impl Part {
    /// Processor seconds so far. A thread that has ended takes its seconds along: the workers have none that do.
    pub fn seconds(&self) -> Outcome<f64> {
        let threads = match self.tid {
            Some(tid) => vec![tid],
            None => threads(self.pid),
        };
        let seconds: f64 = threads
            .iter()
            .filter_map(|&tid| thread_seconds(self.pid, tid))
            .sum();
        if threads.is_empty() {
            return Err(format!("{} (process {}) is gone", self.name, self.pid).into());
        }
        Ok(seconds)
    }
}

/// The thread ids of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// The name of a thread.
pub fn thread_name(pid: u32, tid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
    name.unwrap_or_default().trim().to_owned()
}

/// Processes whose parent is `parent`: id and name.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let of: u32 = after_name(&stat)?.nth(1)?.parse().ok()?;
        (of == parent).then(|| (pid, thread_name(pid, pid)))
    })
    .collect()
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Resident, what others share counted whole.
    pub rss: f64,
    /// Resident, what others share counted by share.
    pub pss: f64,
    /// Resident and nobody else's.
    pub private: f64,
}

/// Memory of a process now.
pub fn memory(pid: u32) -> Outcome<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(parse_memory(&text))
}

fn parse_memory(text: &str) -> Memory {
    let mib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        number.unwrap_or(0.0) / 1024.0
    };
    Memory {
        rss: mib("Rss:"),
        pss: mib("Pss:"),
        private: mib("Private_Clean:") + mib("Private_Dirty:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 1 2 3 4 500 250 0 0";
        let fields: Vec<&str> = after_name(stat).unwrap().collect();
        assert_eq!((fields[1], fields[11], fields[12]), ("1", "500", "250"));
    }

    #[test]
    fn this_process_has_threads_time_and_memory() {
        let pid = std::process::id();
        let part = Part {
            name: "bench",
            pid,
            tid: None,
        };
        let before = part.seconds().unwrap();
        let began = std::time::Instant::now();
        let mut n = 0_u64;
        while part.seconds().unwrap() <= before {
            n = std::hint::black_box(n + 1);
            assert!(began.elapsed().as_secs() < 30, "no processor time passes");
        }
        assert!(threads(pid).contains(&pid));
        assert!(memory(pid).unwrap().rss > 0.1);
        let gone = Part {
            name: "none",
            pid: u32::MAX,
            tid: None,
        };
        assert!(gone.seconds().is_err());
    }

    #[test]
    fn memory_adds_what_is_private() {
        let text =
            "Rss:  2048 kB\nPss: 1024 kB\nPss_Dirty: 1 kB\nPrivate_Clean: 512 kB\nPrivate_Dirty:  256 kB\n";
        let expected = Memory {
            rss: 2.0,
            pss: 1.0,
            private: 0.75,
        };
        assert_eq!(parse_memory(text), expected);
    }
}
