//! Where and of what a measurement was made: machine, kernel, revision, date. It is part of every record.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine under the measurement, and what was measured on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Kernel name and release.
    pub kernel: String,
    /// Load averages when the measurement began.
    pub load: String,
    /// When it began, UTC.
    pub date: String,
    /// Revision of this tree, with `-dirty` behind it if other files than the results are not as they are there.
    pub git: String,
    /// Version of this tree.
    pub version: String,
    /// The compiler.
    pub rustc: String,
}

impl Host {
    /// This machine, now.
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let kernel = nix::sys::utsname::uname().map_or_else(
            |_| String::new(),
            |name| {
                let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
                format!("{} {}", text(name.sysname()), text(name.release()))
            },
        );
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            cpu: model
                .map_or("unknown", |text| text.trim_start_matches([' ', '\t', ':']))
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel,
            load: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            date: utc(since.map_or(0, |since| since.as_secs())),
            git: revision(),
            version: env!("CARGO_PKG_VERSION").into(),
            rustc: env!("RUSTC_VERSION").into(),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cpu,
            cores,
            kernel,
            load,
            date,
            git,
            version,
            rustc,
        } = self;
        write!(
            f,
            "{cpu}, {cores} cores usable, {kernel}, load at the start {load}; Worldswitch {version} ({git}), {rustc}; {date}"
        )
    }
}

fn revision() -> String {
    let git = |words: &[&str]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let output = Command::new("git")
            .args(words)
            .current_dir(folder)
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    // A run writes its results one after the other.
    let others = [
        "status",
        "--porcelain",
        "-uno",
        "--",
        ":!bench/RESULTS.md",
        ":!bench/results",
    ];
    match (git(&["describe", "--always"]), git(&others)) {
        (Some(revision), Some(changed)) if changed.is_empty() => revision,
        (Some(revision), _) => format!("{revision}-dirty"),
        (None, _) => "unknown".into(),
    }
}

/// ISO 8601 of seconds since 1970: the civil calendar in eras of 400 years that begin in March.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        of_year - (153 * march + 2) / 5 + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
