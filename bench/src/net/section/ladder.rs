//! The ladder: each optimisation of the hosted-I/O paper, what it gained here beyond the spread, and the paper's own figures.

use super::super::WRITE;
use super::super::figures::limited;
use super::super::ladder::{DEFAULT, Io, PAPER_NATIVE, RUNGS, STEPS};
use super::told;
use crate::record::Log;
use crate::report::table;
use crate::stats::{Spread, digits};

/// The table and what it says of each step.
pub fn write(log: &Log) -> String {
    let unlimited = format!("tcp transmit {WRITE}");
    let point = limited(log).unwrap_or_default();
    let percent =
        |spread: Option<Spread>| spread.map_or("-".into(), |spread| format!("{:.1}", spread.median * 100.0));
    let mut rows = Vec::new();
    let line = |name: &str, machine: &str, configuration: &str, paper: Option<f64>| {
        let value = |point: &str, value: &str| log.spread(machine, configuration, point, value);
        vec![
            name.to_owned(),
            told(value(&unlimited, "throughput")),
            told(value(&unlimited, "cpu a frame")),
            told(value(&unlimited, "crossings")),
            told(value(&unlimited, "card interrupts")),
            told(value("round trip", "round trip p50")),
            told(value(&point, "throughput")),
            percent(value(&point, "idle share")),
            paper.map_or("-".into(), |paper| format!("{paper:.1}")),
        ]
    };
    for rung in &RUNGS {
        let configuration = rung.io.name();
        if log.find("worldswitch", &configuration, &unlimited).is_some() {
            rows.push(line(rung.name, "worldswitch", &configuration, rung.paper));
        }
    }
    for (name, machine, configuration, paper) in [
        ("QEMU pcnet, TCG", "qemu", "pcnet", None),
        ("native", "native", "", Some(PAPER_NATIVE)),
    ] {
        if log.find(machine, configuration, &unlimited).is_some() {
            rows.push(line(name, machine, configuration, paper));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let heads = [
        "configuration",
        "transmit, Mbit/s",
        "processor a frame, us",
        "crossings a frame",
        "card interrupts a frame",
        "round trip p50, us",
        "limited, Mbit/s",
        "idle, %",
        "paper: idle, %",
    ];
    format!(
        "### The ladder\n\nWrites of {WRITE} bytes, cumulative from the top, then alone. *Idle* is at the limited rate, the same for all \
         (`{point}`). The paper's are of another machine at 100 Mbit/s: the order and the steps compare, the values do not. Its \
         one processor did the work of both worlds; here each has a core, so that a wait for the other world costs throughput and latency \
         where the paper's cost idleness.\n\n{}\n{}",
        table(&heads, &rows),
        verdicts(log, &point)
    )
}

/// Values by which an optimisation may show, in the point at the equal rate or the unlimited one; whether more is better.
const SHOWS: [(&str, &str, bool); 5] = [
    ("idle share", "limited", true),
    ("throughput", "unlimited", true),
    ("cpu a frame", "unlimited", false),
    ("crossings", "unlimited", false),
    ("round trip p50", "round trip", false),
];

/// What each optimisation gained beyond the spread of the repeats, or that it gained nothing, and what speaks of why.
fn verdicts(log: &Log, point: &str) -> String {
    let unlimited = format!("tcp transmit {WRITE}");
    let of = |io: Io, value: &str, place: &str| {
        let point = match place {
            "limited" => point,
            "unlimited" => &unlimited,
            place => place,
        };
        log.spread("worldswitch", &io.name(), point, value)
    };
    let steps = RUNGS[..STEPS]
        .windows(2)
        .map(|pair| (pair[1].name, pair[0].io, pair[1].io));
    let alone = RUNGS[STEPS..]
        .iter()
        .map(|rung| (rung.name, RUNGS[0].io, rung.io));
    let mut text = String::new();
    for (name, from, to) in steps.chain(alone) {
        let mut gains = Vec::new();
        for (value, place, more) in SHOWS {
            if let (Some(before), Some(after)) = (of(from, value, place), of(to, value, place)) {
                gains.push(gain(value, before, after, more));
            }
        }
        if !gains.is_empty() {
            text.push_str(&format!("- {name}: {}\n", gains.join("; ")));
        }
    }
    let top = DEFAULT;
    let work = [
        of(top, "vcpu cpu a frame", "unlimited"),
        of(top, "vmapp cpu a frame", "unlimited"),
        of(top, "guest instructions", "unlimited"),
    ];
    if let ([Some(vcpu), Some(vmapp), Some(instructions)], false) = (work, text.is_empty()) {
        text.push_str(&format!(
            "\nFor the why: with all of them a frame takes the vCPU {} us, for {} guest instructions, and vmapp {} us. What an optimisation \
             takes off the crossing shows only as far as that is not most of it.\n",
            digits(vcpu.median),
            digits(instructions.median),
            digits(vmapp.median)
        ));
    }
    text
}

/// One value's change, and whether it is one.
fn gain(value: &str, before: Spread, after: Spread, more: bool) -> String {
    let apart = after.min > before.max || after.max < before.min;
    let verdict = if before.repeats < 2 || after.repeats < 2 {
        "one repeat, not judged"
    } else if !apart {
        "no difference beyond the spread"
    } else if (after.median > before.median) == more {
        "better"
    } else {
        "worse"
    };
    format!(
        "{value} {} -> {} ({verdict})",
        digits(before.median),
        digits(after.median)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_is_claimed_only_where_the_repeats_lie_apart() {
        let spread = |repeats: &[f64]| Spread::of(repeats.to_vec()).unwrap();
        for (before, after, more, expected) in [
            (&[1.0, 2.0][..], &[3.0, 4.0][..], true, "better"),
            (&[1.0, 2.0], &[3.0, 4.0], false, "worse"),
            (&[3.0, 4.0], &[1.0, 2.0], false, "better"),
            (&[1.0, 3.5], &[3.0, 4.0], true, "no difference beyond the spread"),
            (&[1.0], &[3.0, 4.0], true, "one repeat, not judged"),
        ] {
            let text = gain("value", spread(before), spread(after), more);
            assert!(text.ends_with(&format!("({expected})")), "{text}");
        }
    }
}
