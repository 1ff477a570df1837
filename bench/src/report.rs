//! What was measured, on which host, how it is told: medians with their spread, Markdown sections, JSON lines.

use crate::Outcome;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The repeats of one measurement, each a mean over many operations.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The middle repeat.
    pub median: f64,
    /// The best repeat.
    pub min: f64,
    /// The worst repeat.
    pub max: f64,
    /// How many there were.
    pub repeats: usize,
}

impl Spread {
    /// Of at least one repeat; `None` of none.
    pub fn of(mut repeats: Vec<f64>) -> Option<Self> {
        repeats.sort_by(f64::total_cmp);
        Some(Self {
            median: *repeats.get(repeats.len() / 2)?,
            min: *repeats.first()?,
            max: *repeats.last()?,
            repeats: repeats.len(),
        })
    }
}

/// Median and, in brackets, best and worst repeat, in nanoseconds, to three digits.
impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({}..{})",
            digits(self.median),
            digits(self.min),
            digits(self.max)
        )
    }
}

/// Three significant digits are more than such a measurement has.
fn digits(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        let step = 10f64.powf(value.log10().floor() - 2.0);
        format!("{:.0}", (value / step).round() * step)
    }
}

/// The machine under the measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Kernel name and release.
    pub kernel: String,
    /// Load averages when the measurement began.
    pub load: String,
}

impl Host {
    /// This machine.
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
        Self {
            cpu: model
                .map_or("unknown", |text| text.trim_start_matches([' ', '\t', ':']))
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel,
            load: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
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
        } = self;
        write!(
            f,
            "{cpu}, {cores} cores usable, {kernel}, load at the start {load}"
        )
    }
}

/// A Markdown table.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
    let mut text = line(heads.to_vec());
    text.push_str(&format!("|{}\n", rule.collect::<String>()));
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// Puts `body` in the place of section `name` of the Markdown file, which is kept between two comments, or at its end.
pub fn write_section(path: &Path, name: &str, body: &str) -> Outcome<()> {
    const TITLE: &str =
        "# Results\n\nWritten by the programs of this folder; do not edit between the markers.\n";
    let old = fs::read_to_string(path).unwrap_or_else(|_| TITLE.to_owned());
    fs::write(path, replace_section(&old, name, body))?;
    Ok(())
}

fn replace_section(old: &str, name: &str, body: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->\n"),
    );
    let section = format!("{begin}{body}{end}");
    let place = old
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    match place {
        Some((before, after)) => format!("{before}{section}{after}"),
        None => format!("{old}\n{section}"),
    }
}

/// Writes one JSON object a line, in the place of what the last run left.
pub fn write_lines(path: &Path, records: &[impl Serialize]) -> Outcome<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::create(path)?;
    for record in records {
        writeln!(file, "{}", serde_json::to_string(record)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_predecessor_and_no_other() {
        let text = replace_section("head\n", "a", "one\n");
        let text = replace_section(&text, "b", "two\n");
        let text = replace_section(&text, "a", "three\n");
        assert_eq!(
            text,
            "head\n\n<!-- begin a -->\nthree\n<!-- end a -->\n\n<!-- begin b -->\ntwo\n<!-- end b -->\n"
        );
    }

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.min, spread.median, spread.max, spread.repeats),
            (1.0, 2.0, 3.0, 3)
        );
        assert!(Spread::of(vec![]).is_none());
    }

    #[test]
    fn three_digits_are_told() {
        for (value, text) in [
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (12_345.0, "12300"),
        ] {
            assert_eq!(digits(value), text);
        }
    }
}
