//! Two files of records, an old and a new: what differs between them, and what only seems to.
//!
//! Values are paired by key and name. A value's spread is the whole range of its repeats, old and new added and a quarter more
//! ([`MARGIN`]), as a share of the larger median, and never less than a floor, for two runs on one host differ by more than two
//! repeats of one run do. Only medians farther apart are called different; of a value measured once nothing is claimed.

use crate::Outcome;
use crate::record::{Better, Key, Record, Value, read};
use crate::report::table;
use crate::stats::{Spread, digits};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Records of the state before
    old: PathBuf,
    /// Records of the state after
    new: PathBuf,
    /// Ratios nearer to 1 than this are no difference, however small the spread of the repeats (0.05: five per cent)
    #[arg(long, default_value_t = 0.05)]
    floor: f64,
    /// Values that say what happened, not how well, too
    #[arg(long)]
    all: bool,
}

/// A value with two levels, of which one run's few repeats hit both and the other's but one, has medians just as far apart as
/// the first run's range is wide: that is no difference yet.
const MARGIN: f64 = 1.25;

/// What is said of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Worse,
    /// Beyond the spread, of a value that is neither good nor bad.
    Other,
    Better,
    Within,
    Once,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Worse => "WORSE",
            Self::Other => "different",
            Self::Better => "better",
            Self::Within => "within the spread",
            Self::Once => "one repeat: not judged",
        }
    }
}

/// A value in both files.
#[derive(Debug)]
struct Pair<'a> {
    key: &'a Key,
    name: &'a str,
    unit: &'a str,
    old: Spread,
    new: Spread,
    /// New over old; `None`: one of them is zero.
    ratio: Option<f64>,
    /// What the medians may be apart, as a share of the larger.
    spread: f64,
    verdict: Verdict,
}

/// What the machines are called whose figures are our own; *host* is that of the crossing's.
const OURS: [&str; 3] = ["worldswitch", "Worldswitch interp", "host"];

/// Prints the comparison.
pub fn run(options: &Options) -> Outcome<()> {
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    println!("{}", compare(&old, &new, options.floor, options.all));
    Ok(())
}

fn compare(old: &[Record], new: &[Record], floor: f64, all: bool) -> String {
    let mut pairs = pairs(old, new, floor);
    pairs.retain(|pair| all || pair.verdict != Verdict::Other);
    let lonely = |of: &[Record], other: &[Record]| {
        let missing = of
            .iter()
            .filter(|record| !other.iter().any(|there| there.key == record.key));
        missing.count()
    };
    let count = |verdict| pairs.iter().filter(|pair| pair.verdict == verdict).count();
    let rows: Vec<Vec<String>> = pairs.iter().map(Pair::row).collect();
    let host = |records: &[Record]| {
        records
            .first()
            .map_or("nothing".into(), |record| record.host.to_string())
    };
    format!(
        "old: {}\nnew: {}\n\n{}\n{} values: {} worse, {} better, {} within the spread, {} measured once. Points only in the old file: \
         {}, only in the new: {}.\n{}",
        host(old),
        host(new),
        table(
            &["what", "value", "old", "new", "new/old", "spread", "verdict"],
            &rows
        ),
        pairs.len(),
        count(Verdict::Worse),
        count(Verdict::Better),
        count(Verdict::Within),
        count(Verdict::Once),
        lonely(old, new),
        lonely(new, old),
        the_host(&pairs)
    )
}

/// What differs of machines that are not ours: nothing we have changed is in them, so it is the host that has.
fn the_host(pairs: &[Pair<'_>]) -> String {
    let differs = |pair: &&Pair<'_>| [Verdict::Worse, Verdict::Better].contains(&pair.verdict);
    let others = pairs
        .iter()
        .filter(differs)
        .filter(|pair| !OURS.contains(&pair.key.machine.as_str()));
    match others.count() {
        0 => String::new(),
        count => format!(
            "{count} of those that differ are of machines that are not ours: the host was another in the two runs, for ours too.\n"
        ),
    }
}

/// All values in both, what got worse first, and of that what got worst.
fn pairs<'a>(old: &'a [Record], new: &'a [Record], floor: f64) -> Vec<Pair<'a>> {
    let before: BTreeMap<&Key, &Record> = old.iter().map(|record| (&record.key, record)).collect();
    let mut pairs = Vec::new();
    for record in new {
        let Some(earlier) = before.get(&record.key) else {
            continue;
        };
        for value in &record.values {
            let same = |other: &&Value| other.name == value.name && other.unit == value.unit;
            let other = earlier.values.iter().find(same);
            pairs.extend(other.and_then(|other| Pair::of(&record.key, other, value, floor)));
        }
    }
    pairs.sort_by(|a, b| {
        let size = |pair: &Pair| pair.ratio.map_or(f64::MAX, |ratio| ratio.ln().abs());
        a.verdict
            .cmp(&b.verdict)
            .then(size(b).partial_cmp(&size(a)).unwrap_or(Ordering::Equal))
    });
    pairs
}

impl<'a> Pair<'a> {
    fn of(key: &'a Key, old: &Value, new: &'a Value, floor: f64) -> Option<Self> {
        let (before, after) = (Spread::of(old.repeats.clone())?, Spread::of(new.repeats.clone())?);
        let ratio = (before.median > 0.0 && after.median > 0.0).then(|| after.median / before.median);
        let larger = before.median.abs().max(after.median.abs());
        let ranges = (before.max - before.min) + (after.max - after.min);
        let spread = if larger > 0.0 {
            (MARGIN * ranges / larger).max(floor)
        } else {
            floor
        };
        let differs = (after.median - before.median).abs() > spread * larger;
        let rose = after.median > before.median;
        let verdict = match new.better {
            _ if before.repeats < 2 || after.repeats < 2 => Verdict::Once,
            _ if !differs => Verdict::Within,
            Better::Neither => Verdict::Other,
            Better::More if rose => Verdict::Better,
            Better::Less if !rose => Verdict::Better,
            Better::More | Better::Less => Verdict::Worse,
        };
        Some(Self {
            key,
            name: &new.name,
            unit: &new.unit,
            old: before,
            new: after,
            ratio,
            spread,
            verdict,
        })
    }

    fn row(&self) -> Vec<String> {
        let key = self.key;
        let what = [
            &key.bench,
            &key.machine,
            &key.engine,
            &key.configuration,
            &key.point,
        ];
        let what: Vec<&str> = what
            .iter()
            .map(|part| part.as_str())
            .filter(|part| !part.is_empty())
            .collect();
        vec![
            what.join(" | "),
            format!("{}, {}", self.name, self.unit),
            digits(self.old.median),
            digits(self.new.median),
            self.ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
            format!("{:.1} %", self.spread * 100.0),
            self.verdict.text().to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::record::SCHEMA;

    fn record(point: &str, better: Better, repeats: &[f64]) -> Record {
        Record {
            schema: SCHEMA,
            key: Key {
                bench: "net".into(),
                machine: "worldswitch".into(),
                point: point.into(),
                ..Key::default()
            },
            program: String::new(),
            values: vec![Value {
                name: "value".into(),
                unit: "u".into(),
                better,
                repeats: repeats.to_vec(),
            }],
            host: Host::default(),
        }
    }

    fn verdict(better: Better, old: &[f64], new: &[f64]) -> Verdict {
        let (old, new) = ([record("p", better, old)], [record("p", better, new)]);
        pairs(&old, &new, 0.05)[0].verdict
    }

    #[test]
    fn only_what_lies_beyond_the_spread_is_a_difference() {
        use Better::{Less, More, Neither};
        for (better, old, new, expected) in [
            (
                More,
                &[100.0, 101.0, 102.0][..],
                &[80.0, 81.0, 82.0][..],
                Verdict::Worse,
            ),
            (Less, &[100.0, 101.0, 102.0], &[80.0, 81.0, 82.0], Verdict::Better),
            (
                Neither,
                &[100.0, 101.0, 102.0],
                &[80.0, 81.0, 82.0],
                Verdict::Other,
            ),
            // The medians are as far apart, the repeats too.
            (More, &[80.0, 101.0, 102.0], &[80.0, 81.0, 100.0], Verdict::Within),
            // Two levels, and one run met one of them only.
            (More, &[27.4, 92.2, 93.9], &[27.4, 27.4, 27.4], Verdict::Within),
            (Less, &[0.06, 0.06, 0.64], &[0.64, 0.64, 0.65], Verdict::Within),
            // Close together, but no further apart than two runs of the same are.
            (More, &[100.0, 100.0, 100.0], &[96.0, 96.0, 96.0], Verdict::Within),
            // Once is not enough, on either side.
            (More, &[100.0], &[10.0, 10.0], Verdict::Once),
            (More, &[100.0, 100.0], &[10.0], Verdict::Once),
            // Zero has no ratio.
            (Less, &[0.0, 0.0, 0.0], &[0.0, 0.0, 0.0], Verdict::Within),
            (Less, &[0.0, 0.0, 0.0], &[5.0, 6.0, 7.0], Verdict::Worse),
            (Less, &[0.0, 0.0, 5.0], &[0.0, 5.0, 7.0], Verdict::Within),
        ] {
            assert_eq!(verdict(better, old, new), expected, "{better:?} {old:?} {new:?}");
        }
    }

    #[test]
    fn a_file_compared_with_itself_differs_in_nothing() {
        let records = [
            record("a", Better::More, &[1.0, 1.0, 1.0]),
            record("b", Better::Less, &[0.0, 3.0, 90.0]),
            record("c", Better::Neither, &[7.0]),
        ];
        let pairs = pairs(&records, &records, 0.0);
        assert!(
            pairs.iter().all(|pair| pair.verdict >= Verdict::Within),
            "{pairs:?}"
        );
    }

    #[test]
    fn what_got_worst_is_first_and_what_has_no_partner_is_counted() {
        let old = [
            record("same", Better::More, &[50.0, 50.0]),
            record("better", Better::More, &[50.0, 50.0]),
            record("worse", Better::More, &[50.0, 50.0]),
            record("worst", Better::Less, &[50.0, 50.0]),
            record("gone", Better::Less, &[50.0, 50.0]),
        ];
        let new = [
            record("better", Better::More, &[90.0, 90.0]),
            record("same", Better::More, &[50.0, 50.0]),
            record("worse", Better::More, &[40.0, 40.0]),
            record("worst", Better::Less, &[500.0, 500.0]),
        ];
        let text = compare(&old, &new, 0.05, false);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
        assert!(
            at("| worst") < at("| worse") && at("| worse") < at("| better"),
            "{text}"
        );
        assert!(at("| better") < at("| same"), "{text}");
        assert!(!text.contains("not ours"), "{text}");
        let sum = "4 values: 2 worse, 1 better, 1 within the spread, 0 measured once. Points only in the old file: 1, only in the new: 0.";
        assert!(text.contains(sum), "{text}");
    }

    #[test]
    fn a_peer_that_differs_tells_of_the_host() {
        let with = |machine: &str, repeats: &[f64]| {
            let mut record = record("p", Better::More, repeats);
            record.key.machine = machine.into();
            record
        };
        let old = [with("qemu", &[50.0, 50.0]), with(OURS[0], &[50.0, 50.0])];
        let new = [with("qemu", &[30.0, 30.0]), with(OURS[0], &[30.0, 30.0])];
        let text = compare(&old, &new, 0.05, false);
        assert!(
            text.contains("2 worse") && text.contains("\n1 of those that differ"),
            "{text}"
        );
    }
}
