//! Send combining at a real crossing: which frame wakes vmapp, who carries those that wait, and what is counted.

use shared::abi::counters::VmmCounter as Count;
use shared::abi::words::Waiting;
use shared::abi::{ChannelKind, ChannelShape};
use shared::ring::Side;
use shared::spec::{IoSpec, Notify};
use std::sync::Arc;
use std::time::Duration;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;

struct Rig {
    vmm: Arc<Crossing>,
    app: Arc<Crossing>,
    bells: Bells,
    net: Channel,
    console: Channel,
    _memory: SharedMemory,
}

impl Rig {
    fn new(io: IoSpec) -> Self {
        let shapes =
            [ChannelKind::Control, ChannelKind::Console, ChannelKind::Net].map(|kind| ChannelShape {
                kind,
                down_slots: 256,
                up_slots: 2,
                slot_bytes: 64,
            });
        let memory = SharedMemory::create(&shapes).unwrap();
        let bells = Bells::new().unwrap();
        let vmm = Crossing::new(Side::Vmm, &memory, bells.try_clone().unwrap(), io);
        let app = Crossing::new(Side::App, &memory, bells.try_clone().unwrap(), io);
        let rig = Self {
            net: vmm.channel(2).unwrap(),
            console: vmm.channel(1).unwrap(),
            vmm,
            app,
            bells,
            _memory: memory,
        };
        rig.app_sleeps();
        rig.bells.app.drain();
        rig
    }

    /// vmapp takes what is there and goes to sleep.
    fn app_sleeps(&self) {
        self.app.look();
        assert!(self.app.attention().announce(Waiting::Asleep));
    }

    /// The guest transmits a frame: whether that rang.
    fn frame(&mut self) -> bool {
        self.net.push(1, 0, b"frame").unwrap();
        self.net.post().unwrap()
    }

    /// Frames in a row to a vmapp that sleeps again at once, until one waits.
    fn open_the_gate(&mut self) {
        for _ in 0..100 {
            if !self.frame() {
                return;
            }
            self.app_sleeps();
            self.bells.app.drain();
        }
        panic!("no frame ever waited");
    }

    fn count(&self, counter: Count) -> u64 {
        self.vmm.vmm_counters().get(counter)
    }
}

fn patient() -> IoSpec {
    IoSpec {
        flush_us: IoSpec::MAX_FLUSH_US,
        spin_us: 0,
        max_combined: 3,
        ..IoSpec::default()
    }
}

#[test]
fn a_single_frame_wakes_at_once() {
    let mut rig = Rig::new(patient());
    assert!(rig.frame());
    assert_eq!(rig.count(Count::SwitchNet), 1);
    assert_eq!(rig.count(Count::Frames1), 1);
    assert_eq!(rig.count(Count::CombineHeld), 0);
    assert_eq!(rig.vmm.held_until(), None);
}

#[test]
fn frequent_frames_wait_up_to_the_limit_and_are_seen_without_a_doorbell() {
    let mut rig = Rig::new(patient());
    rig.open_the_gate();
    assert!(rig.app.any(), "a vmapp that looks sees the frame that waits");
    assert!(rig.vmm.held_until().is_some());
    assert!(!rig.frame(), "the second waits too");
    assert!(rig.frame(), "the third is as many as may wait");
    assert_eq!(rig.count(Count::SwitchNetLimit), 1);
    assert_eq!(rig.count(Count::Frames3), 1);
    assert_eq!(rig.vmm.held_until(), None);
    let delays: u64 = [
        Count::Delay0,
        Count::Delay10,
        Count::Delay50,
        Count::Delay100,
        Count::Delay250,
        Count::Delay500,
        Count::Delay1000,
    ]
    .map(|counter| rig.count(counter))
    .iter()
    .sum();
    assert_eq!(delays, 3);
}

#[test]
fn another_crossing_carries_what_waits() {
    let mut rig = Rig::new(patient());
    rig.open_the_gate();
    rig.console.push(1, 0, b"x").unwrap();
    assert!(rig.console.flush().unwrap());
    assert_eq!(rig.count(Count::CombineCarried), 1);
    assert_eq!(rig.app.look() & 0b110, 0b110);
    assert_eq!(rig.vmm.held_until(), None);
}

#[test]
fn a_guest_that_halts_sends_what_waits() {
    let mut rig = Rig::new(patient());
    rig.open_the_gate();
    rig.vmm.sleep(Some(Duration::ZERO), &[]).unwrap();
    assert_eq!(rig.count(Count::SwitchNetHalt), 1);
    assert_eq!(rig.vmm.held_until(), None);
}

#[test]
fn the_tick_sends_what_has_waited_long_enough_and_nothing_before() {
    let mut rig = Rig::new(patient());
    rig.open_the_gate();
    let due = rig.vmm.held_until().unwrap();
    while std::time::Instant::now() < due {
        let before = rig.count(Count::SwitchNetTick);
        rig.vmm.flush_due().unwrap();
        assert!(before == rig.count(Count::SwitchNetTick) || std::time::Instant::now() >= due);
    }
    rig.vmm.flush_due().unwrap();
    assert_eq!(rig.count(Count::SwitchNetTick), 1);
}

#[test]
fn a_vmapp_that_woke_by_itself_has_found_what_waited() {
    let mut rig = Rig::new(patient());
    rig.open_the_gate();
    rig.app.attention().awake();
    assert!(!rig.frame());
    assert_eq!(rig.count(Count::CombineFound), 1);
    assert_eq!(rig.vmm.held_until(), None);
}

#[test]
fn a_vmapp_that_looked_and_sleeps_again_is_not_woken_for_what_it_took() {
    for (what, notify) in [("bitmap", Notify::Bitmap), ("select", Notify::Select)] {
        let mut rig = Rig::new(IoSpec { notify, ..patient() });
        rig.open_the_gate();
        // A frame for the guest woke it.
        rig.app.attention().awake();
        rig.app_sleeps();
        rig.vmm.sleep(Some(Duration::ZERO), &[]).unwrap();
        assert_eq!(rig.count(Count::SwitchNetHalt), 0, "{what}: the guest halts");
        assert_eq!(rig.count(Count::CombineFound), 1, "{what}");
        assert_eq!(rig.vmm.held_until(), None, "{what}");

        // Nor does what it took count as waiting when the next frame comes.
        rig.open_the_gate();
        rig.app_sleeps();
        let full = rig.count(Count::SwitchNetLimit);
        assert!(!rig.frame(), "{what}: the first of three");
        assert!(!rig.frame(), "{what}: the second");
        assert_eq!(rig.count(Count::SwitchNetLimit), full, "{what}");
        assert_eq!(rig.count(Count::CombineFound), 2, "{what}");
        assert!(
            rig.vmm.held_until().is_some(),
            "{what}: a frame it did not take waits"
        );
    }
}

#[test]
fn with_combining_off_every_frame_wakes_a_sleeper() {
    let mut rig = Rig::new(IoSpec {
        send_combining: false,
        ..patient()
    });
    for n in 1..=50 {
        assert!(rig.frame(), "frame {n}");
        rig.app_sleeps();
    }
    assert_eq!(rig.count(Count::SwitchNet), 50);
    assert_eq!(rig.count(Count::CombineHeld), 0);
}

#[test]
fn with_select_frames_are_combined_all_the_same() {
    let mut rig = Rig::new(IoSpec {
        notify: Notify::Select,
        ..patient()
    });
    let rung: Vec<bool> = (0..12).map(|_| rig.frame()).collect();
    // Two at once until the gate opens, then every third; a slow test may shut the gate in between.
    assert!(
        (4..=8).contains(&rung.iter().filter(|rung| **rung).count()),
        "{rung:?}"
    );
}
