//! The fault campaign in short: a stock Debian guest that writes to two disks and streams over a tap, while the I/O worker
//! is killed at every point of the protocol that this load reaches, and while everything else goes wrong that `vmapp fault`
//! knows. `make faults` is the same at length.
//!
//! Without root there is no tap, and the network's part is left out; it says so. What is measured is in `faults/README.md`.

use tests::campaign::machine::{Initrd, Plan};
use tests::campaign::orders::Orders;
use tests::campaign::score::Score;
use tests::campaign::{Share, reach, run, trials};
use tests::linux::Linux;
use tests::network::enter_namespace;
use tests::product::skip;
use tests::tap::{HOST, TAP};

/// Workers killed at least.
const KILLS: u64 = 50;
const SEED: u64 = 1;

/// Runs `campaign` on a thread with a network of its own, for that is a thread's; its score must be clean.
fn in_short(name: &'static str, campaign: fn(&Plan, &Linux, &Initrd, &mut Score)) {
    let thread = std::thread::spawn(move || {
        let linux = match Linux::get() {
            Ok(linux) => linux,
            Err(why) => return skip(name, why),
        };
        let tap = enter_namespace(TAP, HOST);
        if let Err(why) = &tap {
            skip(&format!("{name}: the network"), why);
        }
        let plan = Plan {
            name: name.to_owned(),
            engine: "interp".to_owned(),
            net: tap.is_ok(),
            io: String::new(),
        };
        let initrd = Initrd::make(linux).expect("an initramfs");
        let mut score = Score::default();
        campaign(&plan, linux, &initrd, &mut score);
        assert!(score.is_clean(), "{score}");
        println!("{score}");
    });
    if let Err(failure) = thread.join() {
        std::panic::resume_unwind(failure);
    }
}

#[test]
fn a_worker_may_be_killed_at_every_point_and_no_acknowledged_write_is_lost() {
    in_short("faults", |plan, linux, initrd, score| {
        let mut orders = Orders::new(SEED, reach(plan));
        let share = Share {
            plan: plan.clone(),
            linux,
            initrd,
            enough: &|orders, score| orders.is_round() && score.kills >= KILLS,
        };
        run(&share, &mut orders, score, &mut |_| {});
    });
}

#[test]
fn whatever_is_lost_spoilt_refused_or_late_the_load_goes_on() {
    in_short("trials", trials::run);
}
