//! Two files of records, an old and a new: what differs between them, and what only seems to.
//!
//! Values are paired by key and name. Medians are called different only if they are farther apart than all of this explains,
//! each as a share of the larger median:
//!
//! - the *spread*: the ranges of the old and the new repeats, added and a quarter more ([`MARGIN`]); the usual one of this value
//!   under this workload, whatever the configuration and the sizes ([`Kind`]), if that is more, for three repeats may lie
//!   together by chance; and never less than a floor;
//! - for a value with time in it, the *host*: what nine in ten of such values of machines that are not ours have moved. Nothing of
//!   ours is in them, so it is what the host does between two runs.
//!
//! Of a value measured once nothing is claimed.

use crate::Outcome;
use crate::record::{Better, Key, Record, Value, read};
use crate::report::table;
use crate::stats::{Spread, digits};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
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
    better: Better,
    old: Spread,
    new: Spread,
}

/// A pair that has been judged.
#[derive(Debug)]
struct Judged<'a> {
    pair: Pair<'a>,
    /// What the medians may be apart, as a share of the larger.
    allowed: f64,
    verdict: Verdict,
}

/// Values whose repeats scatter alike: of one bench, machine and engine, under one workload with its numbers left out, of one
/// name.
type Kind<'a> = (&'a str, &'a str, &'a str, String, &'a str);

/// How far values may be apart.
#[derive(Debug)]
struct Measure<'a> {
    floor: f64,
    usual: BTreeMap<Kind<'a>, f64>,
    /// `None`: the files have no value with time in it of a machine that is not ours.
    host: Option<f64>,
}

/// What the machines are called whose figures are our own.
const OURS: [&str; 2] = ["worldswitch", "Worldswitch interp"];

/// Units with no time in them: counts, sizes, shares of counts. The host's speed is not in these.
const COUNTS: [&str; 7] = ["a frame", "a message", "frames", "share", "ratio", "of 20", "MiB"];

/// The share of the foreign values that the host's movement covers.
const NINE_IN_TEN: f64 = 0.9;

/// Prints the comparison.
pub fn run(options: &Options) -> Outcome<()> {
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    println!("{}", compare(&old, &new, options.floor, options.all));
    Ok(())
}

fn compare(old: &[Record], new: &[Record], floor: f64, all: bool) -> String {
    let pairs = pairs(old, new);
    let measure = Measure::of(&pairs, floor);
    let mut judged: Vec<Judged<'_>> = pairs.into_iter().map(|pair| measure.judge(pair)).collect();
    judged.sort_by(Judged::worst_first);
    judged.retain(|judged| all || judged.verdict != Verdict::Other);
    let rows: Vec<Vec<String>> = judged.iter().map(Judged::row).collect();
    let count = |verdict| judged.iter().filter(|judged| judged.verdict == verdict).count();
    let host = |records: &[Record]| {
        records
            .first()
            .map_or("nothing".into(), |record| record.host.to_string())
    };
    format!(
        "old: {}\nnew: {}\n\n{}\n{} values: {} worse, {} better, {} within the spread, {} measured once. Points only in the old file: \
         {}, only in the new: {}.\n{}\n",
        host(old),
        host(new),
        table(
            &["what", "value", "old", "new", "new/old", "spread", "verdict"],
            &rows
        ),
        judged.len(),
        count(Verdict::Worse),
        count(Verdict::Better),
        count(Verdict::Within),
        count(Verdict::Once),
        lonely(old, new),
        lonely(new, old),
        measure.the_host(),
    )
}

/// How many points of the one the other has not.
fn lonely(of: &[Record], other: &[Record]) -> usize {
    let there: BTreeSet<&Key> = other.iter().map(|record| &record.key).collect();
    of.iter().filter(|record| !there.contains(&record.key)).count()
}

/// All values in both.
fn pairs<'a>(old: &[Record], new: &'a [Record]) -> Vec<Pair<'a>> {
    let before: BTreeMap<&Key, &Record> = old.iter().map(|record| (&record.key, record)).collect();
    let mut pairs = Vec::new();
    for record in new {
        let Some(earlier) = before.get(&record.key) else {
            continue;
        };
        for value in &record.values {
            let same = |other: &&Value| other.name == value.name && other.unit == value.unit;
            let other = earlier.values.iter().find(same);
            pairs.extend(other.and_then(|other| Pair::of(&record.key, other, value)));
        }
    }
    pairs
}

impl<'a> Pair<'a> {
    fn of(key: &'a Key, old: &Value, new: &'a Value) -> Option<Self> {
        Some(Self {
            key,
            name: &new.name,
            unit: &new.unit,
            better: new.better,
            old: Spread::of(old.repeats.clone())?,
            new: Spread::of(new.repeats.clone())?,
        })
    }

    fn larger(&self) -> f64 {
        self.old.median.abs().max(self.new.median.abs())
    }

    /// How far the medians are apart, as a share of the larger; of two zeros not at all.
    fn apart(&self) -> f64 {
        let apart = (self.new.median - self.old.median).abs() / self.larger();
        if apart.is_nan() { 0.0 } else { apart }
    }

    /// What its own repeats say it may be; `None`: they are one, or their medians zero.
    fn spread(&self) -> Option<f64> {
        let ranges = (self.old.max - self.old.min) + (self.new.max - self.new.min);
        let judged = self.old.repeats.min(self.new.repeats) > 1 && self.larger() > 0.0;
        judged.then(|| MARGIN * ranges / self.larger())
    }

    /// New over old; `None`: one of them is zero.
    fn ratio(&self) -> Option<f64> {
        (self.old.median > 0.0 && self.new.median > 0.0).then(|| self.new.median / self.old.median)
    }

    fn kind(&self) -> Kind<'a> {
        let mut workload = String::new();
        for letter in self.key.point.chars() {
            let letter = if letter.is_ascii_digit() { '#' } else { letter };
            if letter != '#' || !workload.ends_with('#') {
                workload.push(letter);
            }
        }
        let key = self.key;
        (&key.bench, &key.machine, &key.engine, workload, self.name)
    }

    fn has_time(&self) -> bool {
        !COUNTS.contains(&self.unit)
    }

    fn is_ours(&self) -> bool {
        OURS.contains(&self.key.machine.as_str())
    }
}

impl<'a> Measure<'a> {
    fn of(pairs: &[Pair<'a>], floor: f64) -> Self {
        let mut kinds: BTreeMap<Kind<'a>, Vec<f64>> = BTreeMap::new();
        for pair in pairs {
            kinds.entry(pair.kind()).or_default().extend(pair.spread());
        }
        let usual = kinds
            .into_iter()
            .filter_map(|(kind, spreads)| Some((kind, Spread::of(spreads)?.median)));
        let foreign = |pair: &&Pair<'a>| {
            !pair.is_ours() && pair.has_time() && pair.better != Better::Neither && pair.spread().is_some()
        };
        let mut moved: Vec<f64> = pairs.iter().filter(foreign).map(Pair::apart).collect();
        moved.sort_by(f64::total_cmp);
        let nine_in_ten = (moved.len() as f64 * NINE_IN_TEN).ceil() as usize;
        Self {
            floor,
            usual: usual.collect(),
            host: nine_in_ten.checked_sub(1).and_then(|at| moved.get(at)).copied(),
        }
    }

    fn judge(&self, pair: Pair<'a>) -> Judged<'a> {
        let usual = self.usual.get(&pair.kind()).copied().unwrap_or(0.0);
        let host = self.host.filter(|_| pair.has_time()).unwrap_or(0.0);
        let allowed = pair.spread().unwrap_or(0.0).max(usual).max(self.floor) + host;
        let rose = pair.new.median > pair.old.median;
        let verdict = match pair.better {
            _ if pair.old.repeats.min(pair.new.repeats) < 2 => Verdict::Once,
            _ if pair.apart() <= allowed => Verdict::Within,
            Better::Neither => Verdict::Other,
            Better::More if rose => Verdict::Better,
            Better::Less if !rose => Verdict::Better,
            Better::More | Better::Less => Verdict::Worse,
        };
        Judged {
            pair,
            allowed,
            verdict,
        }
    }

    /// What the host has to do with it.
    fn the_host(&self) -> String {
        match self.host {
            Some(moved) => format!(
                "The host: nine in ten of the values with time in them of machines that are not ours moved by at most {:.1} % between the \
                 two runs; that is in the spread of every such value.",
                moved * 100.0
            ),
            None => "The host: no machine but ours is in both files, so what the host did between the two runs is not known.".into(),
        }
    }
}

impl Judged<'_> {
    /// What got worse first, and of that what got worst.
    fn worst_first(&self, other: &Self) -> Ordering {
        let size = |judged: &Self| judged.pair.ratio().map_or(f64::MAX, |ratio| ratio.ln().abs());
        self.verdict
            .cmp(&other.verdict)
            .then(size(other).total_cmp(&size(self)))
    }

    fn row(&self) -> Vec<String> {
        let Pair {
            key,
            name,
            unit,
            old,
            new,
            ..
        } = &self.pair;
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
            format!("{name}, {unit}"),
            digits(old.median),
            digits(new.median),
            self.pair
                .ratio()
                .map_or("-".into(), |ratio| format!("{ratio:.3}")),
            format!("{:.1} %", self.allowed * 100.0),
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

    fn of(machine: &str, mut record: Record) -> Record {
        record.key.machine = machine.into();
        record
    }

    fn verdicts(old: &[Record], new: &[Record], floor: f64) -> Vec<Verdict> {
        let pairs = pairs(old, new);
        let measure = Measure::of(&pairs, floor);
        pairs
            .into_iter()
            .map(|pair| measure.judge(pair).verdict)
            .collect()
    }

    fn verdict(better: Better, old: &[f64], new: &[f64]) -> Verdict {
        let (old, new) = ([record("p", better, old)], [record("p", better, new)]);
        verdicts(&old, &new, 0.05)[0]
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
        let verdicts = verdicts(&records, &records, 0.0);
        assert!(
            verdicts.iter().all(|&verdict| verdict >= Verdict::Within),
            "{verdicts:?}"
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
        assert!(text.contains("is not known"), "{text}");
        let sum = "4 values: 2 worse, 1 better, 1 within the spread, 0 measured once. Points only in the old file: 1, only in the new: 0.";
        assert!(text.contains(sum), "{text}");
    }

    #[test]
    fn repeats_that_lie_together_by_chance_are_no_narrower_than_is_usual() {
        let narrow = |point: &str| record(point, Better::More, &[100.0, 101.0, 102.0]);
        let moved = |point: &str| record(point, Better::More, &[80.0, 81.0, 82.0]);
        let wide = |point: &str| record(point, Better::More, &[70.0, 100.0, 130.0]);
        let judged = |[other, another]: [&str; 2]| {
            let old = [narrow("tcp 512"), wide(other), wide(another)];
            let new = [moved("tcp 512"), wide(other), wide(another)];
            verdicts(&old, &new, 0.05)[0]
        };
        assert_eq!(
            judged(["tcp 1024", "tcp 16384"]),
            Verdict::Within,
            "the same workload"
        );
        assert_eq!(judged(["udp 1024", "udp 16384"]), Verdict::Worse, "another");
    }

    #[test]
    fn what_the_host_did_to_others_is_in_the_spread_of_what_has_time_in_it() {
        let timed = |repeats: &[f64]| record("p", Better::More, repeats);
        let counted = |repeats: &[f64]| {
            let mut record = record("q", Better::Less, repeats);
            record.values[0].unit = "a frame".into();
            record
        };
        let old = [
            of("qemu", timed(&[50.0, 50.0])),
            timed(&[50.0, 50.0]),
            counted(&[3.0, 3.0]),
        ];
        let slower = [
            of("qemu", timed(&[40.0, 40.0])),
            timed(&[40.0, 40.0]),
            counted(&[4.0, 4.0]),
        ];
        // The host's fifth explains ours; a count it does not.
        assert_eq!(
            verdicts(&old, &slower, 0.05),
            [Verdict::Within, Verdict::Within, Verdict::Worse]
        );
        let ours_alone = [of("qemu", timed(&[50.0, 50.0])), timed(&[40.0, 40.0])];
        assert_eq!(
            verdicts(&old, &ours_alone, 0.05),
            [Verdict::Within, Verdict::Worse]
        );
        let text = compare(&old, &slower, 0.05, false);
        assert!(text.contains("moved by at most 20.0 %"), "{text}");
    }
}
