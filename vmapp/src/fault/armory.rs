//! The supervisor's side: what is armed over all lives of the I/O worker, how far it is, and the numbers of what has struck.
//! No process and no clock of its own; the supervisor feeds it and does what it says.
//!
//! A worker is given everything that is armed, and tells what it strikes; what one that died did not tell was not struck.
//! Workers are not trusted: what they tell changes counts and lines, never which faults there are.

use super::spec::{Shown, Spec, SpecError};
use shared::msg::fault::{Action, Fault, Injection, MAX_ORDERS, Order, Progress, Target};
use shared::spec::MachineSpec;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Time between two continuations of a worker that was to stop and may not have stopped yet.
const CONTINUE_EVERY: Duration = Duration::from_millis(20);

/// Why a fault is not armed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ArmError {
    /// Its text.
    #[error("{error}; {help}", error = .0, help = .0.help())]
    Spec(#[from] SpecError),
    /// The machine has no such channel.
    #[error("this VM has no {channel}; it has {}", .there.join(", "))]
    NoChannel {
        /// The channel named.
        channel: Target,
        /// Those there are.
        there: Vec<String>,
    },
    /// There are [`MAX_ORDERS`].
    #[error("{MAX_ORDERS} faults are armed; take them off with `vmapp fault NAME clear`")]
    Full,
}

/// What the supervisor is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Continue the I/O worker.
    Continue,
    /// Kill the vmm.
    KillVmm,
}

/// The armory.
#[derive(Debug)]
pub struct Armory {
    seed: u64,
    /// Channels of the machine.
    channels: Vec<Target>,
    orders: Vec<Order>,
    /// What was armed before all was last taken off: a strike may not be told yet.
    taken_off: Vec<Order>,
    last_id: u32,
    /// Injections up to now.
    sequence: u64,
    struck: BTreeMap<&'static str, u64>,
    /// The worker has stopped: when it is continued next.
    continues: Option<Instant>,
    vmm_dies: Option<(u32, Instant)>,
}

/// The channels of a machine, as users name them.
pub fn channels(spec: &MachineSpec) -> Vec<Target> {
    let nets = (0..).zip(&spec.nets).map(|(number, _)| Target::Net(number));
    let disks = (0..).zip(&spec.disks).map(|(number, _)| Target::Disk(number));
    [Target::Control, Target::Console]
        .into_iter()
        .chain(nets)
        .chain(disks)
        .collect()
}

/// Whether a machine with these channels can have the fault.
pub fn applies(fault: &Fault, channels: &[Target]) -> Result<(), ArmError> {
    match fault.channel.filter(|channel| !channels.contains(channel)) {
        None => Ok(()),
        Some(channel) => Err(ArmError::NoChannel {
            channel,
            there: channels.iter().map(Target::to_string).collect(),
        }),
    }
}

impl Armory {
    /// For this machine; `seed` is for faults that name none, and `armed` (which [applies]) is there from the
    /// start.
    pub fn new(spec: &MachineSpec, seed: u64, armed: &[Fault], now: Instant) -> Self {
        let mut armory = Self {
            seed,
            channels: channels(spec),
            orders: Vec::new(),
            taken_off: Vec::new(),
            last_id: 0,
            sequence: 0,
            struck: BTreeMap::new(),
            continues: None,
            vmm_dies: None,
        };
        for fault in armed {
            // Checked with the configuration.
            armory.arm(*fault, now).ok();
        }
        armory
    }

    /// Does what a user asks; the answer. After it the worker is to be told [`orders`](Self::orders).
    pub fn ask(&mut self, text: &str, now: Instant) -> Result<String, ArmError> {
        match text.parse::<Spec>()? {
            Spec::Arm(fault) => {
                let order = self.arm(fault, now)?;
                Ok(format!("fault {} armed: {}\n", order.id, Shown(&order.fault)))
            }
            Spec::Clear => {
                let live = self.live().count();
                self.taken_off = std::mem::take(&mut self.orders);
                self.vmm_dies = None;
                // One that has stopped goes on.
                self.continues = self.continues.map(|_| now);
                Ok(format!("{live} taken off\n"))
            }
            Spec::List => Ok(self.list()),
        }
    }

    fn arm(&mut self, fault: Fault, now: Instant) -> Result<Order, ArmError> {
        applies(&fault, &self.channels)?;
        if self.orders.len() >= MAX_ORDERS {
            let spent = self.orders.iter().position(Order::is_spent);
            self.orders.remove(spent.ok_or(ArmError::Full)?);
        }
        self.last_id = self.last_id.wrapping_add(1);
        let order = Order {
            id: self.last_id,
            fault: Fault {
                seed: fault.seed.or(Some(self.seed)),
                ..fault
            },
            passes: 0,
            struck: 0,
        };
        if let Action::VmmKill { after_ms } = fault.action {
            self.vmm_dies = Some((order.id, now + Duration::from_millis(after_ms.into())));
        }
        self.orders.push(order);
        Ok(order)
    }

    fn live(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(|order| !order.is_spent())
    }

    /// What the worker is to have armed.
    pub fn orders(&self) -> Vec<Order> {
        self.live()
            .filter(|order| !matches!(order.fault.action, Action::VmmKill { .. }))
            .copied()
            .collect()
    }

    /// The worker has struck: a line for each.
    pub fn struck(&mut self, injections: &[Injection], progress: &[Progress]) -> Vec<String> {
        for told in progress {
            if let Some(order) = self.orders.iter_mut().find(|order| order.id == told.order) {
                order.passes = told.passes;
                order.struck = told.struck;
            }
        }
        injections
            .iter()
            .filter_map(|injection| self.number(injection))
            .collect()
    }

    /// Numbers and counts an injection; what it was, in words.
    fn number(&mut self, injection: &Injection) -> Option<String> {
        let mut orders = self.orders.iter().chain(&self.taken_off);
        let order = orders.find(|order| order.id == injection.order);
        let first = self.sequence.saturating_add(1);
        self.sequence = self.sequence.saturating_add(injection.times);
        let action = order?.fault.action;
        let count = self.struck.entry(action.name()).or_default();
        *count = count.saturating_add(injection.times);
        let mut line = match injection.times {
            1 => format!("fault {first}: {}", action.name()),
            _ => format!("faults {first} to {}: {}", self.sequence, action.name()),
        };
        // Writing to a string does not fail.
        if let Some(point) = action.point() {
            write!(line, " at {}", point.name()).ok();
        }
        match (injection.channel, injection.dir) {
            (Some(channel), Some(dir)) => write!(line, " ({channel} {})", dir.name()).ok(),
            (Some(channel), None) => write!(line, " ({channel})").ok(),
            (None, _) => None,
        };
        let last = if injection.times == 1 { "" } else { "the last at " };
        write!(line, ", {last}pass {}", injection.pass).ok();
        Some(line)
    }

    /// The worker is about to stop.
    pub fn stopping(&mut self, ms: u32, now: Instant) {
        self.continues = Some(now + Duration::from_millis(ms.into()));
    }

    /// It has gone on, or is no more.
    pub fn continued(&mut self) {
        self.continues = None;
    }

    /// When [`due`](Self::due) is to be asked.
    pub fn deadline(&self) -> Option<Instant> {
        let dies = self.vmm_dies.map(|(_, at)| at);
        [self.continues, dies].into_iter().flatten().min()
    }

    /// What is to be done now, with a line for what is an injection.
    pub fn due(&mut self, now: Instant) -> Vec<(Deed, Option<String>)> {
        let mut deeds = Vec::new();
        if self.continues.is_some_and(|at| at <= now) {
            // Again until it says so: it may have been about to stop.
            self.continues = Some(now + CONTINUE_EVERY);
            deeds.push((Deed::Continue, None));
        }
        if let Some((id, _)) = self.vmm_dies.filter(|(_, at)| *at <= now) {
            self.vmm_dies = None;
            let line = self.struck(
                &[Injection {
                    order: id,
                    pass: 1,
                    times: 1,
                    channel: None,
                    dir: None,
                }],
                &[Progress {
                    order: id,
                    passes: 1,
                    struck: 1,
                }],
            );
            deeds.push((Deed::KillVmm, line.into_iter().next()));
        }
        deeds
    }

    /// Injections by action.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.struck
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    /// What is armed or was, for a person.
    fn list(&self) -> String {
        let mut text = String::new();
        for order in &self.orders {
            let state = if order.is_spent() { "done" } else { "armed" };
            let line = format!(
                "fault {:<3} {state:6} struck {} of {} passes: {}\n",
                order.id,
                order.struck,
                order.passes,
                Shown(&order.fault)
            );
            text.push_str(&line);
        }
        if text.is_empty() {
            text.push_str("nothing is armed\n");
        }
        text.push_str(&format!("injections so far: {}\n", self.sequence));
        text
    }
}

#[cfg(test)]
mod tests;
