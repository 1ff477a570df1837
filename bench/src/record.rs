//! Measured values on their way to a file and back: one JSON line a point, with every repeat in it, and where it was made.
//!
//! A record is found again in another run by its [`Key`]. The names are an interface: `bench compare` joins files of
//! different revisions by them.

use crate::Outcome;
use crate::host::Host;
use crate::stats::Spread;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Of the lines; a change that old readers would misunderstand takes the next number.
pub const SCHEMA: u32 = 1;

/// Which way of a value is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The larger.
    More,
    /// The smaller.
    Less,
    /// It says what happened, not how well.
    Neither,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The subcommand.
    pub bench: String,
    /// Whose figure it is: native, worldswitch, qemu, ...
    pub machine: String,
    /// What ran the guest's code.
    pub engine: String,
    /// How the machine was set; empty: as it comes.
    pub configuration: String,
    /// The workload.
    pub point: String,
}

/// One value of one repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    name: String,
    unit: &'static str,
    better: Better,
    value: f64,
}

impl Sample {
    /// `name` is unique within a point.
    pub fn new(name: impl Into<String>, unit: &'static str, better: Better, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            better,
            value,
        }
    }

    /// What it is called.
    #[cfg(test)]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In its unit.
    #[cfg(test)]
    pub fn value(&self) -> f64 {
        self.value
    }
}

/// One value's repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Unique within the record.
    pub name: String,
    /// Of every repeat.
    pub unit: String,
    /// How to read it.
    pub better: Better,
    /// In the order of measuring.
    pub repeats: Vec<f64>,
}

/// One point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured.
    #[serde(flatten)]
    pub key: Key,
    /// Version of the measured program; ours is the host's `version` and `git`.
    pub program: String,
    /// What came out.
    pub values: Vec<Value>,
    /// Where.
    pub host: Host,
}

impl Record {
    /// A value's repeats, if it has any.
    pub fn spread(&self, name: &str) -> Option<Spread> {
        let value = self.values.iter().find(|value| value.name == name)?;
        Spread::of(value.repeats.clone())
    }
}

/// The records of a run, as they come in.
#[derive(Debug)]
pub struct Log {
    /// Where the run is.
    pub host: Host,
    records: Vec<Record>,
}

impl Log {
    /// None yet.
    pub fn new() -> Self {
        Self {
            host: Host::here(),
            records: Vec::new(),
        }
    }

    /// One repeat of a point.
    pub fn add(&mut self, key: &Key, program: &str, samples: Vec<Sample>) {
        let place = match self.records.iter().position(|record| record.key == *key) {
            Some(place) => place,
            None => {
                self.records.push(Record {
                    schema: SCHEMA,
                    key: key.clone(),
                    program: program.to_owned(),
                    values: Vec::new(),
                    host: self.host.clone(),
                });
                self.records.len() - 1
            }
        };
        let values = &mut self.records[place].values;
        for sample in samples.into_iter().filter(|sample| sample.value.is_finite()) {
            match values.iter_mut().find(|value| value.name == sample.name) {
                Some(value) => value.repeats.push(sample.value),
                None => values.push(Value {
                    name: sample.name,
                    unit: sample.unit.to_owned(),
                    better: sample.better,
                    repeats: vec![sample.value],
                }),
            }
        }
    }

    /// All so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// A machine's record of a point.
    pub fn find(&self, machine: &str, configuration: &str, point: &str) -> Option<&Record> {
        self.records.iter().find(|record| {
            let key = &record.key;
            key.machine == machine && key.configuration == configuration && key.point == point
        })
    }

    /// A value of it.
    pub fn spread(&self, machine: &str, configuration: &str, point: &str, name: &str) -> Option<Spread> {
        self.find(machine, configuration, point)?.spread(name)
    }

    /// Writes them all, in the place of what an earlier run left. Whoever reads meanwhile finds the one or the other.
    pub fn write(&self, path: &Path) -> Outcome<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("jsonl.new");
        let mut file = fs::File::create(&new)?;
        for record in &self.records {
            writeln!(file, "{}", serde_json::to_string(record)?)?;
        }
        fs::rename(new, path)?;
        Ok(())
    }
}

/// The records of a file; a line that is none is an error that names it.
pub fn read(path: &Path) -> Outcome<Vec<Record>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn parse(text: &str) -> Result<Vec<Record>, String> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let wrong = |why: String| format!("line {}: {why}", number + 1);
            let record: Record = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            if record.schema != SCHEMA {
                return Err(wrong(format!("schema {}, not {SCHEMA}", record.schema)));
            }
            Ok(record)
        })
        .collect()
}

/// Where a run's files go: a quick one, which only shows that it works, leaves the kept results alone.
pub fn folder(quick: bool) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if quick {
        here.join("../target/bench/quick")
    } else {
        here.join("results")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(point: &str) -> Key {
        Key {
            bench: "net".into(),
            machine: "native".into(),
            point: point.into(),
            ..Key::default()
        }
    }

    fn sample(value: f64) -> Sample {
        Sample::new("rate", "Mbit/s", Better::More, value)
    }

    #[test]
    fn repeats_of_a_point_gather_in_one_line_that_reads_back() {
        let mut log = Log::new();
        log.add(&key("a"), "1", vec![sample(1.0)]);
        log.add(&key("b"), "1", vec![sample(5.0)]);
        log.add(
            &key("a"),
            "1",
            vec![sample(3.0), Sample::new("lost", "", Better::Less, f64::NAN)],
        );
        assert_eq!(log.spread("native", "", "a", "rate").unwrap().median, 2.0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/net.jsonl");
        log.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.starts_with("{\"schema\":1,\"bench\":\"net\",\"machine\":\"native\""),
            "{text}"
        );
        assert_eq!(read(&path).unwrap(), log.records());
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        for (text, expected) in [
            ("\n{}\n", "line 2: missing field"),
            ("nonsense", "line 1: expected"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let mut log = Log::new();
        log.add(&key("a"), "1", vec![sample(1.0)]);
        let line = serde_json::to_string(&log.records()[0]).unwrap();
        let error = parse(&line.replace("\"schema\":1", "\"schema\":9")).unwrap_err();
        assert_eq!(error, "line 1: schema 9, not 1");
    }
}
