//! The status of one running VM: what the supervisor tells and `vmapp status --json` prints. The schema is public:
//!
//! ```json
//! { "schema": 1, "name": "demo", "state": "running", "pid": 4711,
//!   "engine": "kvm", "engine_why": "...", "uptime_s": 12.5, "memory_bytes": 536870912, "resets": 0,
//!   "vmm_pid": 4713, "io_worker_pid": 4712, "io_state": "serving", "io_restarts": 0, "io_last_death": null,
//!   "console_at": "/dev/pts/7",
//!   "exits": { "port": 10, "mmio": 0, ... }, "irq": { ... }, "world_switches": { "console": 3, ... },
//!   "doorbells": { ... }, "halt": { ... }, "console": { ... }, "peer": { "errors": 0 }, "bus": { ... },
//!   "io_worker": { "doorbells": { ... }, "loop": { ... }, "console": { ... }, "peer": { "errors": 0 } } }
//! ```
//!
//! Groups and members are the counters' public names (`group.what`, see [`shared::abi::counters`]), so a new counter
//! appears by itself; a key once there keeps its meaning, and a change that breaks that raises `schema`. Counters start
//! at 0 with each start and each reset of the machine. `state` is `starting`, `running`, `powering-off` (the power
//! button was pressed by a signal and its grace runs) or `ending`; `engine` is `null` while starting. `io_state` is
//! `starting`, `serving`, `restarting` or `lost`. The I/O workers of one machine share their counters.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The present value of [`Report::schema`].
pub const SCHEMA: u32 = 1;

/// Counters by group and member.
pub type Groups = BTreeMap<String, BTreeMap<String, u64>>;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The VM's name.
    pub name: String,
    /// What it is about.
    pub state: String,
    /// The supervisor's process id.
    pub pid: u32,
    /// The engine in use.
    pub engine: Option<String>,
    /// Why that one.
    pub engine_why: Option<String>,
    /// Seconds since `vmapp run`.
    pub uptime_s: f64,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Times the guest reset the machine.
    pub resets: u64,
    /// The vmm's process id.
    pub vmm_pid: u32,
    /// The I/O worker's process id; while none runs, that of the last one.
    pub io_worker_pid: u32,
    /// What the I/O worker is about.
    pub io_state: String,
    /// Times the I/O worker was replaced since the machine's last reset.
    pub io_restarts: u64,
    /// How the last I/O worker ended that did.
    pub io_last_death: Option<String>,
    /// Where the console is, if it has a path.
    pub console_at: Option<String>,
    /// Kept by the I/O worker.
    pub io_worker: Groups,
    /// Kept by the vmm.
    #[serde(flatten)]
    pub vmm: Groups,
}

/// Groups counters by the part of their name before the first dot.
pub fn group(counters: impl Iterator<Item = (&'static str, u64)>) -> Groups {
    let mut groups = Groups::new();
    for (name, value) in counters {
        let (group, member) = name.split_once('.').unwrap_or(("other", name));
        groups
            .entry(group.to_owned())
            .or_default()
            .insert(member.to_owned(), value);
    }
    groups
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use shared::abi::counters::{AppCounter, VmmCounter};

    pub fn sample() -> Report {
        Report {
            schema: SCHEMA,
            name: "demo".to_owned(),
            state: "running".to_owned(),
            pid: 4711,
            engine: Some("interp".to_owned()),
            engine_why: Some("asked for".to_owned()),
            uptime_s: 12.5,
            memory_bytes: 512 << 20,
            resets: 0,
            vmm_pid: 4713,
            io_worker_pid: 4712,
            io_state: "serving".to_owned(),
            io_restarts: 0,
            io_last_death: None,
            console_at: None,
            io_worker: group((0..).zip(AppCounter::ALL).map(|(n, counter)| (counter.name(), n))),
            vmm: group((0..).zip(VmmCounter::ALL).map(|(n, counter)| (counter.name(), n))),
        }
    }

    #[test]
    fn the_json_is_what_the_documentation_says() {
        let json = serde_json::to_value(sample()).unwrap();
        for path in [
            "/schema",
            "/exits/port",
            "/exits/halt",
            "/world_switches/console",
            "/world_switches/sync",
            "/doorbells/saved",
            "/halt/sleeps",
            "/console/bytes_out",
            "/peer/errors",
            "/bus/unclaimed",
            "/io_worker/loop/wakeups",
            "/io_worker/console/bytes_dropped",
            "/io_worker/peer/errors",
        ] {
            assert!(
                json.pointer(path).is_some_and(serde_json::Value::is_u64),
                "{path}"
            );
        }
        let back: Report = serde_json::from_value(json).unwrap();
        assert_eq!(back, sample());
    }

    #[test]
    fn no_counter_group_hides_a_field() {
        let json = serde_json::to_value(sample()).unwrap();
        let fields = 16;
        assert_eq!(json.as_object().unwrap().len(), fields + sample().vmm.len());
    }
}
