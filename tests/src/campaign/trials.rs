//! The faults that are no blow to the worker: what crosses is lost or spoilt, signals do not come, disks are slow, fail or are
//! full, everybody is suspended, the vmm dies, a worker never comes up.
//!
//! Each lasts until it has struck a few times and the load has gone on under it, and is then off again.

use super::images::Knowledge;
use super::machine::{Disks, Initrd, LIMIT, Machine, Plan, ended, mend, start};
use super::score::{Score, Stall, add};
use super::{account, begin, count_deaths, stall};
use crate::linux::Linux;
use crate::product::alive;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Strikes of a fault before it has shown what it does.
const STRIKES: u64 = 5;
/// The watchdog's patience with a worker.
pub const PATIENCE: Duration = Duration::from_millis(1000);
/// Longer than that.
const SUSPENDED: Duration = Duration::from_millis(1500);
/// Most time for a worker that hangs to be found out and replaced.
const FOUND_OUT: Duration = Duration::from_secs(10);

/// What the guest may see of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// Nothing but time going by.
    Nothing,
    /// The raw disk's writes refused: said by the kernel and to the program, and never acknowledged.
    Refusals,
}

/// One fault: the row of the table, its text, and whether it takes a tap.
struct Trial {
    row: &'static str,
    spec: &'static str,
    net: bool,
    sees: Sees,
}

const fn net(row: &'static str, spec: &'static str) -> Trial {
    Trial {
        row,
        spec,
        net: true,
        sees: Sees::Nothing,
    }
}

const fn other(row: &'static str, spec: &'static str) -> Trial {
    Trial {
        row,
        spec,
        net: false,
        sees: Sees::Nothing,
    }
}

const fn refused(row: &'static str, spec: &'static str) -> Trial {
    Trial {
        row,
        spec,
        net: false,
        sees: Sees::Refusals,
    }
}

/// Disk 1 is the one without a file system: an error there makes nothing read-only.
const TRIALS: &[Trial] = &[
    net("frames lost", "drop channel=net0 rate=0.03"),
    net("frames twice", "duplicate channel=net0 rate=0.1"),
    net("frames out of order", "reorder channel=net0 rate=0.1"),
    net("frames with a wrong bit", "corrupt channel=net0 rate=0.03"),
    net("frames cut short", "truncate channel=net0 rate=0.03"),
    net("frames late", "delay channel=net0 ms=20 rate=0.1"),
    net("network not served", "stall channel=net0 ms=50 every=100"),
    net("network: doorbells lost", "doorbell-lost channel=net0 rate=0.2"),
    net("network: IRQ bits lost", "irq-lost channel=net0 rate=0.2"),
    other(
        "console: doorbells lost",
        "doorbell-lost channel=console rate=0.5",
    ),
    other("console not served", "stall channel=console ms=50 every=10"),
    other("IRQ bits from nowhere", "irq-spurious rate=0.3"),
    other("disk requests twice", "duplicate channel=disk1 dir=down rate=0.2"),
    other("disk requests late", "delay channel=disk0 ms=5 rate=0.2"),
    other("disk not served", "stall channel=disk1 ms=50 every=20"),
    other("slow disk", "disk-error error=slow ms=50 channel=disk0 every=10"),
    refused("disk: EIO", "disk-error error=EIO op=write channel=disk1"),
    refused("disk: ENOSPC", "disk-error error=ENOSPC op=write channel=disk1"),
    refused("disk: half a write", "disk-error error=short-write channel=disk1"),
];

/// All of them, in one VM that the last of them kills, and its aftermath. `plan.io` must leave `watchdog_ms` and
/// `restart_limit` to this.
pub fn run(plan: &Plan, linux: &Linux, initrd: &Initrd, score: &mut Score) {
    let io = format!("{}\nwatchdog_ms = {}", plan.io, PATIENCE.as_millis());
    let plan = Plan { io, ..plan.clone() };
    let done = Disks::make()
        .map_err(|error| error.to_string())
        .and_then(|disks| {
            under_load(&plan, linux, initrd, &disks, score)?;
            never_comes_up(&plan, linux, initrd, &disks)
        });
    if let Err(why) = done {
        score.hangs.push(format!("{}: {why}", plan.name));
    }
}

fn under_load(
    plan: &Plan,
    linux: &Linux,
    initrd: &Initrd,
    disks: &Disks,
    score: &mut Score,
) -> Result<(), String> {
    score.machines += 1;
    let plan = Plan {
        io: format!("{}\nrestart_limit = 1000000", plan.io),
        ..plan.clone()
    };
    let mut machine = Machine::boot(&plan, linux, initrd, disks)?;
    let done = all_trials(&plan, &mut machine, score);
    if let Err(why) = done {
        account(&machine, score);
        return Err(why);
    }
    // What is said up to the end of the vmm is what it acknowledged.
    let status = machine.status().unwrap_or_default();
    machine.fault("vmm-kill")?;
    machine.ends(3)?;
    for pid in ["/vmm_pid", "/io_worker_pid"] {
        let pid = status.pointer(pid).and_then(serde_json::Value::as_u64);
        let pid = pid.ok_or("no process in the status")?;
        if alive(pid as u32) {
            return Err(format!("process {pid} outlives its VM"));
        }
    }
    // The stream ends with its guest.
    let stream = machine.stream.take();
    score.blocks += stream.map_or(0, |stream| stream.received() + machine.heard.report.down);
    account(&machine, score);
    if disks.files.is_ok() {
        mend(&plan, linux, initrd, disks)?;
    }
    score.judge(machine.verify(disks, Knowledge::AtLeast)?);
    Ok(())
}

fn all_trials(plan: &Plan, machine: &mut Machine, score: &mut Score) -> Result<(), String> {
    for trial in TRIALS.iter().filter(|trial| plan.net || !trial.net) {
        let tried = try_one(machine, trial);
        let stall = tried.map_err(|why| format!("{}: {why}", trial.row))?;
        add(&mut score.trials, trial.row.to_owned(), stall);
    }
    let row = "worker hangs";
    begin(machine)?;
    hangs(machine).map_err(|why| format!("{row}: {why}"))?;
    add(&mut score.trials, row.to_owned(), stall(machine));
    score.kills += 1;
    machine.deaths += 1;
    let row = "everybody suspended";
    begin(machine)?;
    suspended(machine).map_err(|why| format!("{row}: {why}"))?;
    add(&mut score.trials, row.to_owned(), stall(machine));
    score.stops += 1;
    count_deaths(machine, score);
    Ok(())
}

fn try_one(machine: &mut Machine, trial: &Trial) -> Result<Stall, String> {
    begin(machine)?;
    let action = trial.spec.split(' ').next().unwrap_or_default();
    let counter = format!("/faults/{action}");
    let before = machine.number(&counter);
    machine.fault(trial.spec)?;
    // Without the typing the console has nothing to say upwards.
    machine.types(LIMIT, "its strikes", |machine| {
        machine.number(&counter) >= before + STRIKES
    })?;
    match trial.sees {
        Sees::Nothing => machine.goes_on()?,
        // The guest's driver tries a few times before it tells.
        Sees::Refusals => machine.until("a refused write", |machine| {
            let mut errors = machine.heard.errors.iter();
            errors.any(|error| error.starts_with("error Raw"))
        })?,
    }
    machine.fault("clear")?;
    machine.goes_on()?;
    let stall = stall(machine);
    if trial.sees == Sees::Refusals {
        forgive(machine)?;
    }
    Ok(stall)
}

/// Takes back the errors that were meant, all of them about the disk without a file system.
fn forgive(machine: &mut Machine) -> Result<(), String> {
    // What the kernel has to say may come behind what the program was told.
    begin(machine)?;
    machine.forgiven = machine.heard.report.errors;
    let errors = std::mem::take(&mut machine.heard.errors);
    let others = ["error File", "error Name", "error stream", "EXT4", "JBD2"];
    match errors
        .iter()
        .find(|error| others.iter().any(|other| error.contains(other)))
    {
        None => Ok(()),
        Some(error) => Err(format!("an error elsewhere: {error}")),
    }
}

/// A worker that stops and is never continued is found out and replaced.
fn hangs(machine: &mut Machine) -> Result<(), String> {
    let before = machine.number("/io_restarts");
    machine.signal(Signal::SIGSTOP)?;
    machine.within(FOUND_OUT, "another worker", |machine| {
        machine.number("/io_restarts") > before
    })?;
    machine.goes_on()
}

/// The host is suspended: nobody is to be taken for hung.
fn suspended(machine: &mut Machine) -> Result<(), String> {
    let status = machine.status().unwrap_or_default();
    let pids = ["/pid", "/vmm_pid", "/io_worker_pid"].map(|path| {
        let pid = status.pointer(path).and_then(serde_json::Value::as_i64);
        Pid::from_raw(pid.unwrap_or_default() as i32)
    });
    if pids.contains(&Pid::from_raw(0)) {
        return Err(format!("no process in {status}"));
    }
    let before = machine.number("/io_restarts");
    let all = |signal| pids.iter().try_for_each(|&pid| kill(pid, signal));
    all(Signal::SIGSTOP).map_err(|errno| errno.to_string())?;
    std::thread::sleep(SUSPENDED);
    all(Signal::SIGCONT).map_err(|errno| errno.to_string())?;
    machine.goes_on()?;
    match machine.number("/io_restarts") - before {
        0 => Ok(()),
        restarts => Err(format!("{restarts} restarts")),
    }
}

/// A worker that dies at once, every time, ends the VM with the reason. Nothing of the guest is needed for that.
fn never_comes_up(plan: &Plan, linux: &Linux, initrd: &Initrd, disks: &Disks) -> Result<(), String> {
    let name = format!("{}-loop", plan.name);
    let plan = Plan { name, ..plan.clone() };
    let mut vm = start(&plan, linux, initrd, disks, "mend");
    let arm = ["fault", &plan.name, "kill at=turn count=1000"];
    // There is somebody to ask a little after the start.
    while !vm.vmapp(&arm).status.success() {
        if let Some(status) = vm.ended() {
            return Err(format!("{status} before its first worker\n{}", vm.errors()));
        }
    }
    let began = Instant::now();
    // Its own success is not to be had: no worker will serve.
    vm.vmapp(&["restart-io", &plan.name]);
    let status = ended(&mut vm)?;
    let errors = vm.errors();
    if status.code() != Some(1) || !errors.contains("I/O worker died") {
        return Err(format!("{status}\n{errors}"));
    }
    let took = began.elapsed();
    if took > Duration::from_millis(500) {
        Ok(())
    } else {
        Err(format!("no pause between the deaths: over in {took:?}"))
    }
}
