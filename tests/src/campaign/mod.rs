//! The fault campaign: a real guest under load, and one blow after another to the I/O worker that serves it.
//!
//! | module | what it is |
//! |---|---|
//! | [`orders`] | what is done, and when: a list that follows from a seed |
//! | [`machine`] | a VM under the load of `linux/witness` |
//! | [`heard`] | what its guest says |
//! | [`stream`] | the host's end of the guest's TCP stream |
//! | [`images`] | its disks: made before, read afterwards |
//! | [`trials`] | the other faults: what crosses is spoilt, disks fail, the vmm dies, a worker never comes up |
//! | [`score`] | what it came to, as a table |
//!
//! Used by `tests/faults.rs` in short and by `make faults` at length; see `faults/README.md`. What must never happen here: a
//! blow that counts and did not strike, a record taken for acknowledged that was not, a failure that ends in a panic and
//! is in no table.

pub mod heard;
pub mod images;
pub mod machine;
pub mod orders;
pub mod score;
pub mod stream;
pub mod trials;

use images::Knowledge;
use machine::{Disks, Initrd, Machine, Plan};
use nix::sys::signal::Signal;
use orders::{Blow, Order, Orders, Reach};
use score::{Score, Stall, add};
use std::time::{Duration, Instant};

/// A point that is passed as often as all these are is reached within this time, or not at all.
const STRIKE_LIMIT: Duration = Duration::from_secs(20);
/// Reports that tell of the same wait: a wait told after so many is another's.
const TOLD: u64 = 4;
/// Looks at the load without a blow, for comparison, at the start of each VM.
const CALM: usize = 5;
/// Age at which a worker's death is no sign of a crash loop, which the supervisor would slow down, and a little more.
const GROWN: Duration = Duration::from_millis(520);

/// One VM's share of a campaign.
pub struct Share<'a> {
    /// The machine.
    pub plan: Plan,
    /// The kernel.
    pub linux: &'a crate::linux::Linux,
    /// The initramfs.
    pub initrd: &'a Initrd,
    /// Whether there were blows enough.
    pub enough: &'a dyn Fn(&Orders, &Score) -> bool,
}

/// What the machine's load reaches.
pub fn reach(plan: &Plan) -> Reach {
    Reach {
        net: plan.net,
        forward: plan.io.contains("\"forward\""),
    }
}

/// Boots a VM, strikes it, powers it off and reads its disks. `tell` hears of every blow.
pub fn run(share: &Share<'_>, orders: &mut Orders, score: &mut Score, tell: &mut dyn FnMut(&Score)) {
    if let Err(why) = run_one(share, orders, score, tell) {
        score.hangs.push(format!("{}: {why}", share.plan.name));
    }
}

fn run_one(
    share: &Share<'_>,
    orders: &mut Orders,
    score: &mut Score,
    tell: &mut dyn FnMut(&Score),
) -> Result<(), String> {
    let disks = Disks::make().map_err(|error| error.to_string())?;
    score.machines += 1;
    let plan = Plan {
        io: format!("{}\nrestart_limit = 1000000", share.plan.io),
        ..share.plan.clone()
    };
    let mut machine = Machine::boot(&plan, share.linux, share.initrd, &disks)?;
    for _ in 0..CALM {
        let stall = calm(&mut machine)?;
        score.calm.push(stall);
    }
    while !(share.enough)(orders, score) {
        let Some(order) = orders.next() else { break };
        match strike(&mut machine, order) {
            Ok(Some(stall)) => {
                add(&mut score.blows, order.blow.row(), stall);
                if order.blow.kills() {
                    score.kills += 1
                } else {
                    score.stops += 1
                }
            }
            Ok(None) => score.unreached.push(order.blow.row()),
            Err(why) => {
                account(&machine, score);
                return Err(format!("after {order:?}: {why}"));
            }
        }
        tell(score);
    }
    count_deaths(&machine, score);
    let ended = machine.power_off();
    account(&machine, score);
    ended?;
    score.judge(machine.verify(&disks, Knowledge::All)?);
    Ok(())
}

/// Takes in how many workers died, by the product's own count: a death that nobody ordered is a failure.
fn count_deaths(machine: &Machine, score: &mut Score) {
    let restarts = machine.number("/io_restarts");
    score.restarts += restarts;
    if restarts != machine.deaths {
        let (name, deaths) = (&machine.vm.name, machine.deaths);
        let last = machine.status().unwrap_or_default()["io_last_death"].clone();
        let why = format!("{name}: {restarts} restarts, {deaths} ordered; the last death: {last}");
        score.strays.push(why);
    }
}

/// Takes in what the guest has said, after the end or at a failure.
pub fn account(machine: &Machine, score: &mut Score) {
    let report = machine.heard.report;
    score.records += report.file + report.name + report.raw;
    score.flaps += report.flaps;
    let told = machine.forgiven + machine.heard.errors.len() as u64;
    score.guest_errors.extend(machine.heard.errors.iter().cloned());
    if report.errors > told {
        score
            .guest_errors
            .push(format!("{} errors whose words were lost", report.errors - told));
    }
    if let Some(stream) = &machine.stream {
        score.blocks += stream.received() + report.down;
        score.stream_breaks.extend(stream.broken());
        if machine.heard.ended && !(stream.is_ended() && stream.received() == report.up) {
            let received = stream.received();
            let why = format!("the guest sent {} blocks and ended, {received} came", report.up);
            score.stream_breaks.push(why);
        }
    }
}

/// Waits until no earlier wait is told of any more, and begins anew.
fn begin(machine: &mut Machine) -> Result<(), String> {
    let reports = machine.heard.reports;
    machine.until("reports", |machine| machine.heard.reports > reports + TOLD)?;
    machine.heard.begin();
    if let Some(stream) = &machine.stream {
        stream.take_worst();
    }
    Ok(())
}

/// The waits since [`begin`].
fn stall(machine: &Machine) -> Stall {
    let host = machine.stream.as_ref().map(|stream| stream.take_worst());
    Stall {
        write: machine.heard.write,
        gap: machine.heard.gap,
        host: host.map_or(0, |host| host.as_micros() as u64),
    }
}

fn calm(machine: &mut Machine) -> Result<Stall, String> {
    begin(machine)?;
    machine.goes_on()?;
    Ok(stall(machine))
}

/// One blow, from the load before it to the load after it. `None`: it was not reached.
fn strike(machine: &mut Machine, order: Order) -> Result<Option<Stall>, String> {
    let until = machine.reborn + GROWN;
    machine.until("time", |_| Instant::now() >= until)?;
    begin(machine)?;
    std::thread::sleep(Duration::from_millis(order.wait));
    let counters = |machine: &Machine| (machine.number("/io_restarts"), machine.number("/faults/stop"));
    let before = counters(machine);
    let mut deaths = u64::from(order.blow.kills());
    match (order.blow, order.blow.spec(order.after)) {
        (Blow::Kill, _) => machine.signal(Signal::SIGKILL)?,
        (Blow::Stop(ms), _) => {
            machine.signal(Signal::SIGSTOP)?;
            std::thread::sleep(Duration::from_millis(ms));
            machine.signal(Signal::SIGCONT)?;
        }
        (Blow::Restart, _) => machine.command(&["restart-io", &machine.vm.name])?,
        (Blow::KillAt(place) | Blow::StopAt(place, _), spec) => {
            machine.fault(&spec.unwrap_or_default())?;
            if place.is_start() {
                // It says no when what it has started dies; that is counted below.
                machine.vm.vmapp(&["restart-io", &machine.vm.name]);
                deaths += 1;
            }
        }
    }
    let stops = u64::from(matches!(order.blow, Blow::StopAt(..)));
    let struck = move |machine: &mut Machine| {
        let now = counters(machine);
        now.0 >= before.0 + deaths && now.1 >= before.1 + stops
    };
    // The word goes both ways over the console, and is what passes the points of its input.
    let typed = machine.types(STRIKE_LIMIT, "the blow and a word said back", struck);
    if typed.is_err() && machine.vm.ended().is_none() {
        machine.fault("clear")?;
        machine.deaths = machine.number("/io_restarts");
        if machine.types(STRIKE_LIMIT, "a word said back", |_| true).is_ok() {
            return Ok(None);
        }
    }
    typed?;
    machine.deaths += deaths;
    if deaths > 0 {
        machine.reborn = Instant::now();
    }
    machine.goes_on()?;
    Ok(Some(stall(machine)))
}
