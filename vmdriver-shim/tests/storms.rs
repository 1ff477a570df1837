//! A peer that signals without end, and doorbells that would block: what a side does about them by itself.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use shared::abi::counters::{AppCounter, VmmCounter};
use shared::abi::{ChannelKind, ChannelShape};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmdriver_shim::crossing::{Bells, Crossing, Woken};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::memory::SharedMemory;

const CONSOLE: u8 = 1;
/// Rounds after which nobody takes a storm for work.
const MANY: usize = 200;
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn pair() -> (Arc<Crossing>, Arc<Crossing>, Bells) {
    let shape = |kind| ChannelShape {
        kind,
        down_slots: 4,
        up_slots: 4,
        slot_bytes: 128,
    };
    let memory = SharedMemory::create(&[ChannelKind::Control, ChannelKind::Console].map(shape)).unwrap();
    let bells = Bells::new().unwrap();
    let io = IoSpec {
        spin_us: 0,
        ..IoSpec::default()
    };
    let [vmm, app] =
        [Side::Vmm, Side::App].map(|side| Crossing::new(side, &memory, bells.try_clone().unwrap(), io));
    vmm.look();
    app.look();
    (vmm, app, bells)
}

/// What a side does for each of many bits that mean nothing: the last sleep's end, and how long it was.
fn storm(side: &Crossing, peer: &Crossing) -> (Woken, Duration) {
    let mut last = (Woken::default(), Duration::ZERO);
    for _ in 0..MANY {
        peer.attention().signal_for_nothing();
        let begun = Instant::now();
        let woken = side.sleep(Some(LONG), &[]).unwrap();
        last = (woken, begun.elapsed());
        side.look();
    }
    last
}

/// A bit without anything published.
trait ForNothing {
    fn signal_for_nothing(&self);
}

impl<M: shared::mem::Memory> ForNothing for shared::ring::Attention<M> {
    fn signal_for_nothing(&self) {
        // What it owes is not paid: a hostile peer rings or does not, as it likes.
        let _owed = self.signal(CONSOLE);
    }
}

#[test]
fn either_side_sits_a_storm_out_a_spell_at_a_time() {
    let (vmm, app, _bells) = pair();
    for (side, peer) in [(&vmm, &app), (&app, &vmm)] {
        let (woken, slept) = storm(side, peer);
        assert!(woken.work, "what was signalled is looked at after the spell");
        assert!(slept >= Duration::from_micros(900), "{slept:?}: no rest");
    }
    let sleeps = app.vmm_counters().get(VmmCounter::Sleeps);
    assert!(sleeps >= MANY as u64 / 2, "{sleeps} of {MANY}");
    assert!(vmm.app_counters().get(AppCounter::Sleeps) >= MANY as u64 / 2);
}

#[test]
fn what_is_honest_in_a_storm_is_heard_and_ends_it() {
    let (vmm, app, _bells) = pair();
    let (mut out, mut inn) = (vmm.channel(CONSOLE).unwrap(), app.channel(CONSOLE).unwrap());
    storm(&app, &vmm);
    let mut payload = Vec::new();
    for id in 0..2 * MANY as u64 {
        out.push(1, id, b"x").unwrap();
        out.flush().unwrap();
        let begun = Instant::now();
        app.sleep(Some(LONG), &[]).unwrap();
        app.look();
        assert_eq!(inn.next(&mut payload).unwrap().map(|slot| slot.id), Some(id));
        inn.release(1).unwrap();
        assert!(begun.elapsed() < LONG / 2);
    }
    let before = vmm.app_counters().get(AppCounter::Sleeps);
    out.push(1, 0, b"x").unwrap();
    out.flush().unwrap();
    app.sleep(Some(LONG), &[]).unwrap();
    assert_eq!(
        vmm.app_counters().get(AppCounter::Sleeps),
        before,
        "it still sits out"
    );
}

#[test]
fn a_storm_delays_no_other_descriptor() {
    let (vmm, app, _bells) = pair();
    storm(&app, &vmm);
    let other = Doorbell::new().unwrap();
    other.ring().unwrap();
    vmm.attention().signal_for_nothing();
    let woken = app.sleep(Some(LONG), &[other.as_fd()]).unwrap();
    assert!(woken.is_ready(0));
}

#[test]
fn a_deaf_vmm_finds_nothing_is_not_kicked_and_finds_all_of_it_later() {
    let (vmm, app, bells) = pair();
    let mut up = app.channel(CONSOLE).unwrap();
    vmm.look();
    up.push(1, 0, b"x").unwrap();
    up.flush().unwrap();
    vmm.set_deaf(true);
    assert!(!vmm.any() && !vmm.attention().any());
    assert_eq!(vmm.look(), 0);
    assert!(vmm.enter_guest(), "it goes, whatever is signalled");
    up.push(1, 1, b"x").unwrap();
    assert!(!up.flush().unwrap(), "and announces nothing that would be kicked");
    vmm.left_guest();
    assert!(!bells.vmm_kick.drain());
    vmm.set_deaf(false);
    assert!(vmm.any());
    assert!(!vmm.enter_guest());
    assert_eq!(vmm.look(), 1 << CONSOLE);
}

#[test]
fn draining_does_not_wait_though_the_peer_says_so() {
    let bell = Doorbell::new().unwrap();
    fcntl(&bell, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    assert!(!bell.drain());
    bell.ring().unwrap();
    bell.ring().unwrap();
    assert!(bell.drain());
    assert!(!bell.drain());
}
