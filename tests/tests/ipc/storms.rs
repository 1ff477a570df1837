//! Signals without end: bits of the shared words, doorbells, doorbells that block.
//!
//! Speeds are guest instructions per second of the vmm's own processor time, and shares are of one core, so that what
//! else the host does changes neither.

use crate::usage::{for_a_while, share};
use crate::vmm::{Vmm, all_bits, clear_nonblock};
use crate::worker::Worker;
use shared::abi::counters::VmmCounter;
use shared::abi::words::PENDING;
use shared::mem::Memory;
use shared::spec::Notify;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tests::product::until;
use vmdriver_shim::doorbell::Doorbell;

/// How long a storm lasts.
const STORM: Duration = Duration::from_millis(1200);
/// Most of a core that a side with nothing to do may take in a storm. It takes a tenth of that.
const BOUND: f64 = 0.15;
/// Threads that storm: on a busy host one of them runs.
const STORMERS: usize = 3;
/// A counter one ring below its most (eventfd(2)).
const NEARLY_FULL: u64 = u64::MAX - 1;

/// Does `what` while other threads storm.
fn storm(gust: impl Fn() + Sync, what: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..STORMERS {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    gust();
                }
            });
        }
        what();
        over.store(true, Relaxed);
    });
}

#[test]
fn a_guest_keeps_half_its_speed_in_a_storm_of_irq_bits() {
    let mut vmm = Vmm::start("hello.elf", "spin", Notify::Bitmap);
    vmm.console().until(|text| text.contains("spinning"), || {});
    let wait = || std::thread::sleep(STORM);
    let quiet = vmm.speed(wait);
    let mem = vmm.mem();
    let mut stormy = 0.0;
    storm(
        || all_bits(&mem),
        || {
            until("a look put off", || vmm.counter(VmmCounter::LooksPutOff) > 0);
            stormy = vmm.speed(wait);
        },
    );
    println!("instructions per second: quiet {quiet:.0}, in a storm {stormy:.0}");
    assert!(stormy > quiet / 2.0, "{stormy:.0} of {quiet:.0}");
    vmm.process.stop("a storm of IRQ bits");
}

#[test]
fn a_guest_keeps_half_its_speed_in_a_flood_of_frames() {
    let mut vmm = Vmm::start("hello.elf", "spin", Notify::Bitmap);
    vmm.console().until(|text| text.contains("spinning"), || {});
    let wait = || std::thread::sleep(STORM);
    let quiet = vmm.speed(wait);
    let frames = Mutex::new(vmm.channel(vmm.spec.net_channel(0)));
    let mut stormy = 0.0;
    let gust = || {
        let mut frames = frames.lock().expect("nobody panics");
        while frames.push(1, 0, &[0xff; 1514]).is_ok() {}
        frames.flush().expect("a doorbell");
    };
    storm(gust, || stormy = vmm.speed(wait));
    println!("instructions per second: quiet {quiet:.0}, in a flood {stormy:.0}");
    assert!(stormy > quiet / 2.0, "{stormy:.0} of {quiet:.0}");
    vmm.process.stop("a flood of frames");
}

#[test]
fn a_vmm_whose_guest_sleeps_rests_in_a_storm_and_hears_what_is_honest() {
    let mut vmm = Vmm::start("hello.elf", "echo", Notify::Bitmap);
    let mut console = vmm.console();
    console.until(|text| text.contains("echo until q"), || {});
    let mem = vmm.mem();
    let gust = || {
        all_bits(&mem);
        vmm.ring();
    };
    let mut taken = 0.0;
    storm(gust, || {
        taken = share(vmm.pid(), || std::thread::sleep(STORM));
        console.channel.push(1, 0, b"still here").expect("credit");
        console.channel.flush().expect("a doorbell");
        console.until(|text| text.ends_with("still here"), || {});
    });
    println!("share of a core: {taken:.2}");
    assert!(taken < BOUND, "{taken:.2} of a core");
    vmm.process.stop("a storm of doorbells");
}

#[test]
fn a_worker_rests_in_a_storm_and_hears_what_is_honest() {
    let mut worker = Worker::start();
    let mem = worker.mem();
    let mut disk = worker.disk();
    let bell = worker.means.bells.app.try_clone().expect("a descriptor");
    let gust = || {
        mem.store_u64(PENDING, u64::MAX, Relaxed);
        bell.ring().expect("a doorbell");
    };
    let mut taken = 0.0;
    storm(gust, || {
        taken = share(worker.pid(), || std::thread::sleep(STORM));
        disk.works(1);
    });
    println!("share of a core: {taken:.2}");
    assert!(taken < BOUND, "{taken:.2} of a core");
    worker.process.finish("a storm of doorbells");
}

#[test]
fn neither_side_is_held_by_a_bell_that_its_peer_made_blocking_and_emptied() {
    let mut worker = Worker::start();
    let mut vmm = Vmm::start("hello.elf", "echo", Notify::Bitmap);
    for bells in [&worker.means.bells, &vmm.bells] {
        for bell in [&bells.app, &bells.vmm, &bells.vmm_kick] {
            clear_nonblock(bell);
        }
    }
    // The peer wins the race for what it rings itself: the wake-up is for nothing, and the drain finds the bell empty.
    let race = |bell: &Doorbell, other: &Doorbell| {
        let gust = || {
            bell.ring().expect("a doorbell");
            bell.drain();
            other.drain();
        };
        storm(gust, || std::thread::sleep(STORM / 4));
    };
    race(&worker.means.bells.app, &worker.means.bells.vmm);
    worker.disk().works(1);
    worker.process.finish("a blocking bell");
    race(&vmm.bells.vmm, &vmm.bells.app);
    let mut console = vmm.console();
    console.channel.push(1, 0, b"still here").expect("credit");
    console.channel.flush().expect("a doorbell");
    console.until(|text| text.ends_with("still here"), || {});
    vmm.process.stop("a blocking bell");
}

#[test]
fn a_bell_rung_to_its_limit_is_rung() {
    let mut worker = Worker::start();
    let fill = |bell: &Doorbell| {
        nix::unistd::write(bell, &NEARLY_FULL.to_ne_bytes()).expect("room in the counter");
    };
    for bell in [&worker.means.bells.vmm, &worker.means.bells.vmm_kick] {
        fill(bell);
    }
    let mut disk = worker.disk();
    for_a_while(STORM / 4, || {
        disk.works(1);
        if worker.means.bells.vmm.drain() {
            fill(&worker.means.bells.vmm);
        }
    });
    worker.process.finish("a full bell");
}
