//! What a workload cost: processor time and counters before and after, and the figures that follow.
//!
//! Figures "a frame" are of the frames in the direction of the workload; acknowledgements that go the other way are part
//! of the cost and not of the count.

use super::lab::tap_drops;
use crate::Outcome;
use crate::machines::Running;
use crate::record::{Better, Sample};
use serde_json::Value;
use std::time::Instant;

/// Upper edges of the groups of `combine_delay_us`, in microseconds, by their names. The last has none: its lower is told.
const DELAYS: [(&str, f64); 7] = [
    ("0_to_9", 9.0),
    ("10_to_49", 49.0),
    ("50_to_99", 99.0),
    ("100_to_249", 249.0),
    ("250_to_499", 499.0),
    ("500_to_999", 999.0),
    ("1000_up", 1000.0),
];

/// Which frames a workload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the machine transmits.
    Out,
    /// What it receives.
    In,
    /// None: a stray one would be divided by.
    Neither,
}

/// Everything readable about a machine at one moment.
pub struct Snapshot {
    status: Option<Value>,
    processors: Vec<f64>,
    drops: f64,
    at: Instant,
}

impl Snapshot {
    /// Before a workload: the clock and the processors last.
    pub fn before(machine: &Running) -> Outcome<Self> {
        let status = machine.status()?;
        let drops = tap_drops();
        Ok(Self {
            status,
            drops,
            processors: processors(machine)?,
            at: Instant::now(),
        })
    }

    /// After it: those first.
    pub fn after(machine: &Running) -> Outcome<Self> {
        let at = Instant::now();
        let processors = processors(machine)?;
        Ok(Self {
            at,
            processors,
            drops: tap_drops(),
            status: machine.status()?,
        })
    }
}

fn processors(machine: &Running) -> Outcome<Vec<f64>> {
    machine.parts.iter().map(|part| part.seconds()).collect()
}

/// The figures of a workload of `direction` between two snapshots. `frames` are the datagrams it counted itself, for machines
/// that count none.
pub fn samples(
    machine: &Running,
    before: &Snapshot,
    after: &Snapshot,
    direction: Direction,
    frames: Option<f64>,
) -> Vec<Sample> {
    let wall = after.at.duration_since(before.at).as_secs_f64();
    let counters = before.status.as_ref().zip(after.status.as_ref());
    let counters = counters.map(|(before, after)| Counters { before, after });
    let counted = counters.as_ref().map(|counters| match direction {
        Direction::Out => counters.grown("/net/tx_frames"),
        Direction::In => counters.grown("/net/rx_frames"),
        Direction::Neither => 0.0,
    });
    let frames = counted.or(frames).filter(|&frames| frames > 0.0);
    let mut samples = Vec::new();
    let mut whole = 0.0;
    for (part, (before, after)) in machine
        .parts
        .iter()
        .zip(before.processors.iter().zip(&after.processors))
    {
        let seconds = after - before;
        if part.tid.is_none() {
            whole += seconds;
        }
        let name = part.name;
        samples.push(Sample::new(
            format!("{name} cpu"),
            "cores",
            Better::Less,
            seconds / wall,
        ));
        if let Some(frames) = frames {
            let each = seconds / frames * 1e6;
            samples.push(Sample::new(
                format!("{name} cpu a frame"),
                "us",
                Better::Less,
                each,
            ));
        }
    }
    if let Some(frames) = frames {
        let each = whole / frames * 1e6;
        samples.push(Sample::new("cpu a frame", "us", Better::Less, each));
    }
    samples.push(Sample::new("busy", "cores", Better::Less, whole / wall));
    samples.push(Sample::new(
        "idle share",
        "of a core",
        Better::More,
        1.0 - whole / wall,
    ));
    let lost = after.drops - before.drops;
    samples.push(Sample::new("dropped at the tap", "frames", Better::Neither, lost));
    if let Some(counters) = counters {
        samples.extend(counters.samples(frames, wall));
    }
    samples
}

/// Counters of two statuses.
struct Counters<'a> {
    before: &'a Value,
    after: &'a Value,
}

impl Counters<'_> {
    /// By how much one has grown.
    fn grown(&self, path: &str) -> f64 {
        let at = |status: &Value| status.pointer(path).and_then(Value::as_f64);
        match (at(self.before), at(self.after)) {
            (Some(before), Some(after)) => after - before,
            _ => f64::NAN,
        }
    }

    /// By how much each member of a group has.
    fn group(&self, group: &str) -> Vec<(String, f64)> {
        let members = self.after.get(group).and_then(Value::as_object);
        members.map_or_else(Vec::new, |members| {
            let grown = |name: &String| (name.clone(), self.grown(&format!("/{group}/{name}")));
            members.keys().map(grown).collect()
        })
    }

    fn samples(&self, frames: Option<f64>, wall: f64) -> Vec<Sample> {
        let total = |group: &str| self.group(group).iter().map(|(_, count)| count).sum::<f64>();
        let exits = total("exits");
        let crossings = total("world_switches");
        let mut samples = vec![
            Sample::new("exits a second", "1/s", Better::Neither, exits / wall),
            Sample::new("crossings a second", "1/s", Better::Neither, crossings / wall),
            Sample::new(
                "guest rate",
                "MIPS",
                Better::Neither,
                self.grown("/guest/instructions") / wall / 1e6,
            ),
        ];
        for (name, path) in [
            ("dropped by the card, out", "/net/tx_dropped"),
            ("dropped by the card, in", "/net/rx_missed"),
            ("dropped by vmapp, out", "/io_worker/net/tx_dropped"),
            ("dropped by vmapp, in", "/io_worker/net/rx_no_credit"),
        ] {
            samples.push(Sample::new(name, "frames", Better::Neither, self.grown(path)));
        }
        let delays = self.group("combine_delay_us");
        for (name, share) in [
            ("combining delay p50", 0.5),
            ("combining delay p99", 0.99),
            ("combining delay max", 1.0),
        ] {
            if let Some(delay) = delay(&delays, share) {
                samples.push(Sample::new(name, "us at most", Better::Neither, delay));
            }
        }
        let Some(frames) = frames else {
            return samples;
        };
        let mut each = |name: String, better, count: f64| {
            samples.push(Sample::new(name, "a frame", better, count / frames));
        };
        each(
            "guest instructions".into(),
            Better::Less,
            self.grown("/guest/instructions"),
        );
        each("exits".into(), Better::Less, exits);
        each("port accesses".into(), Better::Less, self.grown("/exits/port"));
        each(
            "interrupt windows".into(),
            Better::Less,
            self.grown("/exits/window"),
        );
        each("crossings".into(), Better::Less, crossings);
        for (cause, count) in self.group("world_switches") {
            each(format!("crossings: {cause}"), Better::Neither, count);
        }
        each("card interrupts".into(), Better::Less, self.grown("/net/irqs"));
        each(
            "interrupts injected".into(),
            Better::Less,
            self.grown("/irq/injected"),
        );
        each("held frames".into(), Better::Neither, self.grown("/combine/held"));
        each(
            "vmapp writes".into(),
            Better::Less,
            self.grown("/io_worker/net/tx_bursts"),
        );
        each(
            "vmapp reads".into(),
            Better::Less,
            self.grown("/io_worker/net/rx_reads"),
        );
        each(
            "vmapp wake-ups".into(),
            Better::Neither,
            self.grown("/io_worker/loop/wakeups"),
        );
        each(
            "vmapp sleeps".into(),
            Better::Neither,
            self.grown("/io_worker/loop/sleeps"),
        );
        each(
            "vmapp kicks".into(),
            Better::Neither,
            self.grown("/io_worker/doorbells/kicks"),
        );
        if crossings > 0.0 {
            samples.push(Sample::new(
                "frames a crossing",
                "frames",
                Better::More,
                frames / crossings,
            ));
        }
        samples
    }
}

/// The edge of the group in which the frame at `share` of all that waited is; `None` if none did.
fn delay(groups: &[(String, f64)], share: f64) -> Option<f64> {
    let count = |name: &str| {
        groups
            .iter()
            .find(|(group, _)| group == name)
            .map_or(0.0, |(_, count)| *count)
    };
    let all: f64 = DELAYS.iter().map(|(name, _)| count(name)).sum();
    if all == 0.0 {
        return None;
    }
    let mut passed = 0.0;
    DELAYS.iter().find_map(|(name, edge)| {
        passed += count(name);
        (passed >= all * share).then_some(*edge)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_groups_are_those_the_vmm_counts() {
        use shared::abi::counters::VmmCounter;
        let names: Vec<&str> = VmmCounter::ALL
            .iter()
            .filter_map(|counter| counter.name().strip_prefix("combine_delay_us."))
            .collect();
        assert_eq!(names, DELAYS.map(|(name, _)| name));
    }

    #[test]
    fn delays_are_told_as_the_upper_edge_of_their_group() {
        let groups = |counts: &[(&str, f64)]| -> Vec<(String, f64)> {
            counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let some = groups(&[("0_to_9", 98.0), ("100_to_249", 1.0), ("1000_up", 1.0)]);
        assert_eq!(delay(&some, 0.5), Some(9.0));
        assert_eq!(delay(&some, 0.99), Some(249.0));
        assert_eq!(delay(&some, 1.0), Some(1000.0));
        assert_eq!(delay(&groups(&[("0_to_9", 0.0)]), 0.5), None);
    }

    #[test]
    fn figures_a_frame_are_differences_over_the_frames() {
        let status = |tx: u64, port: u64, tick: u64| {
            json!({
                "net": {"tx_frames": tx, "irqs": 0, "tx_dropped": 0, "rx_missed": 0},
                "exits": {"port": port, "mmio": 10, "window": 1},
                "world_switches": {"net": 5, "net_tick": tick},
                "guest": {"instructions": 1000 * tx},
            })
        };
        let (before, after) = (status(100, 50, 0), status(300, 250, 40));
        let counters = Counters {
            before: &before,
            after: &after,
        };
        let samples = counters.samples(Some(200.0), 2.0);
        let value = |name: &str| {
            let sample = samples.iter().find(|sample| sample.name() == name);
            sample.unwrap_or_else(|| panic!("no {name}")).value()
        };
        assert_eq!(value("port accesses"), 1.0);
        assert_eq!(value("crossings"), 0.2);
        assert_eq!(value("crossings: net_tick"), 0.2);
        assert_eq!(value("crossings: net"), 0.0);
        assert_eq!(value("frames a crossing"), 5.0);
        assert_eq!(value("guest instructions"), 1000.0);
        assert_eq!(value("exits a second"), 100.0);
        assert!(
            value("held frames").is_nan(),
            "a counter that is not there is no zero"
        );
    }
}
