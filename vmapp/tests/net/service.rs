//! The net service over a real crossing, the test being the vmm.

use crate::planned::Planned;
use shared::abi::counters::AppCounter;
use shared::abi::{ChannelKind, ChannelShape, RingOffsets};
use shared::mem::Memory;
use shared::msg::net::{Down, MAX_FRAME, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use vmapp::back::net::{Net, Waits};
use vmapp::serve::net::NetService;
use vmapp::serve::service::Service;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;

const SLOTS: u32 = 16;
const NET: u8 = 1;

/// The shared memory and the vmm's end.
pub struct Stage {
    memory: SharedMemory,
    bells: Bells,
    pub vmm: Channel,
}

/// What the vmm reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Link(bool),
    Frame(Vec<u8>),
}

impl Stage {
    pub fn new() -> Self {
        let shape = |kind| ChannelShape {
            kind,
            down_slots: SLOTS,
            up_slots: SLOTS,
            slot_bytes: 1600,
        };
        let memory = SharedMemory::create(&[shape(ChannelKind::Control), shape(ChannelKind::Net)]).unwrap();
        let bells = Bells::new().unwrap();
        let crossing = Crossing::new(Side::Vmm, &memory, bells.try_clone().unwrap(), IoSpec::default());
        Self {
            vmm: crossing.channel(NET).unwrap(),
            memory,
            bells,
        }
    }

    /// An I/O worker with this back end.
    pub fn worker(&self, back_end: impl Net + 'static) -> (NetService, Arc<Crossing>) {
        let bells = self.bells.try_clone().unwrap();
        let crossing = Crossing::new(Side::App, &self.memory, bells, IoSpec::default());
        let channel = crossing.channel(NET).unwrap();
        (
            NetService::new(channel, Box::new(back_end), "net 0".into()),
            crossing,
        )
    }

    pub fn send(&mut self, frame: &[u8]) {
        self.vmm.push(Down::Frame as u16, 1, frame).unwrap();
        self.vmm.flush().unwrap();
    }

    /// The next slot, not given back.
    pub fn peek(&mut self) -> Option<Got> {
        let mut payload = Vec::new();
        let header = self.vmm.next(&mut payload).unwrap()?;
        Some(match Up::try_from(header.kind).unwrap() {
            Up::Link => {
                assert_eq!(payload.len(), 1);
                Got::Link(payload[0] == 1)
            }
            Up::Frame => Got::Frame(payload),
        })
    }

    /// All that is there.
    pub fn got(&mut self) -> Vec<Got> {
        let all: Vec<Got> = std::iter::from_fn(|| self.peek()).collect();
        self.vmm.release(all.len() as u32).unwrap();
        all
    }

    /// The shared tail of the down ring: slots given back.
    fn given_back(&self) -> impl Fn() -> u32 + Send + use<> {
        let at = self.memory.layout().channels()[usize::from(NET)].down.at;
        let mem = self.memory.mem();
        move || mem.load_u32(at + RingOffsets::TAIL, Relaxed)
    }
}

fn frame(length: usize, fill: u8) -> Vec<u8> {
    vec![fill; length]
}

#[test]
fn frames_of_every_length_go_both_ways_as_they_are() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::Here);
    let (mut service, crossing) = stage.worker(back_end.clone());
    service.turn(true).unwrap();
    assert_eq!(stage.got(), [Got::Link(true)]);
    for length in 14..=MAX_FRAME {
        let down = frame(length, length as u8);
        let up = frame(14 + MAX_FRAME - length, length as u8 ^ 0xff);
        stage.send(&down);
        back_end.arrive([up.clone()]);
        service.turn(false).unwrap();
        assert_eq!(back_end.plan(|plan| plan.sent.pop()), Some(down));
        // Bug class 14: a short frame brings nothing of the long one before it.
        assert_eq!(stage.got(), [Got::Frame(up)]);
    }
    let count = |counter| crossing.app_counters().get(counter);
    let frames = (MAX_FRAME - 13) as u64;
    assert_eq!(
        (count(AppCounter::NetTx), count(AppCounter::NetRx)),
        (frames, frames)
    );
    assert_eq!(count(AppCounter::PeerErrors), 0);
}

#[test]
fn a_slot_is_given_back_before_its_frame_is_sent_and_no_worker_sends_it_again() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::Here);
    let given_back = stage.given_back();
    back_end.plan(|plan| {
        plan.at_send = Some(Box::new(move || {
            assert_eq!(given_back(), 3, "all three, and before the first is sent");
            panic!("the worker dies here");
        }));
    });
    for n in 0..3 {
        stage.send(&frame(60, n));
    }
    let (mut service, _) = stage.worker(back_end.clone());
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| service.turn(true)));
    let words = *died.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(words, "the worker dies here");
    drop(service);

    let back_end = Planned::new(Waits::Here);
    let (mut service, _) = stage.worker(back_end.clone());
    stage.send(&frame(60, 9));
    service.turn(true).unwrap();
    assert_eq!(back_end.plan(|plan| plan.sent.clone()), [frame(60, 9)]);
}

/// Bug class 17: what is no frame is counted, and the next good one goes.
#[test]
fn what_is_no_frame_is_counted_and_given_back() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::Here);
    let (mut service, crossing) = stage.worker(back_end.clone());
    let cases = [
        (1, 0),
        (1, 13),
        (1, MAX_FRAME + 1),
        (0, 60),
        (2, 60),
        (u16::MAX, 60),
    ];
    for (kind, length) in cases {
        stage.vmm.push(kind, 1, &frame(length, 1)).unwrap();
    }
    stage.send(&frame(60, 7));
    service.turn(false).unwrap();
    assert_eq!(back_end.plan(|plan| plan.sent.clone()), [frame(60, 7)]);
    assert_eq!(
        crossing.app_counters().get(AppCounter::PeerErrors),
        cases.len() as u64
    );
    assert_eq!(stage.vmm.credit(), Ok(SLOTS));
}

/// Bug classes 7 and 9: a length rewritten while it is read.
#[test]
fn a_length_that_changes_under_the_reader_makes_no_frame_too_long() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::Here);
    let (mut service, _) = stage.worker(back_end.clone());
    let mem = stage.memory.mem();
    let ring = stage.memory.layout().channels()[usize::from(NET)].down;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0u32..).take_while(|_| !stop.load(Relaxed)) {
                let length = [0, 13, 14, 1518, 1519, 1584, 1600, u32::MAX][n as usize % 8];
                mem.write(ring.slot_at(n / 8 % SLOTS), &length.to_le_bytes());
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            while stage.vmm.credit().unwrap() != 0 {
                stage.send(&frame(60, 1));
            }
            service.turn(false).unwrap();
            let sent = back_end.plan(|plan| std::mem::take(&mut plan.sent));
            assert!(sent.iter().all(|frame| (14..=MAX_FRAME).contains(&frame.len())));
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn the_cable_is_told_at_the_start_before_any_frame_and_when_it_changes() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::OnHost);
    back_end.arrive([frame(60, 1)]);
    for link in [true, false] {
        back_end.plan(|plan| plan.link = link);
        let (mut service, _) = stage.worker(back_end.clone());
        service.turn(false).unwrap();
        assert_eq!(stage.got()[0], Got::Link(link), "a new worker says how it is");
        service.turn(false).unwrap();
        assert_eq!(stage.got(), []);
        back_end.plan(|plan| plan.link = !link);
        service.turn(false).unwrap();
        assert_eq!(stage.got(), [Got::Link(!link)]);
    }
}

#[test]
fn a_tap_is_read_only_when_something_says_that_it_has_a_frame() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::OnHost);
    let (mut service, _) = stage.worker(back_end.clone());
    assert!(!service.turn(false).unwrap());
    let asked = || back_end.plan(|plan| plan.asked);
    assert_eq!(asked(), 1, "a new worker looks once");
    for n in 0..10 {
        stage.send(&frame(60, n));
        service.turn(false).unwrap();
    }
    assert_eq!(asked(), 1);
    back_end.arrive([frame(60, 1), frame(60, 2)]);
    service.turn(true).unwrap();
    assert_eq!(asked(), 4, "both, and that there is no more");
    assert_eq!(stage.got().len(), 3);
    let within = service.interests();
    assert!(within.fds[0].is_some() && within.within.is_none());
}

/// Bug class 12: work for one turn is bounded, however much there is.
#[test]
fn a_flood_is_served_in_turns() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::OnHost);
    let (mut service, _) = stage.worker(back_end.clone());
    back_end.plan(|plan| plan.frames.extend(std::iter::repeat_n(None, 1000)));
    assert!(service.turn(true).unwrap(), "there is more");
    let asked = back_end.plan(|plan| plan.asked);
    assert!(asked <= 64, "{asked}");
    while service.turn(false).unwrap() {}
    assert_eq!(
        back_end.plan(|plan| plan.frames.len()),
        0,
        "no wake-up is needed for the rest"
    );
    assert_eq!(stage.got(), [Got::Link(true)]);
}

/// Bug class 18: a flood with nobody to take it, both rings full, and the card is not deaf afterwards.
#[test]
fn without_credit_host_frames_are_dropped_at_a_bounded_rate_and_with_credit_they_flow_again() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::OnHost);
    let (mut service, crossing) = stage.worker(back_end.clone());
    let count = |counter| crossing.app_counters().get(counter);
    for _ in 0..SLOTS {
        stage.send(&frame(60, 1));
    }
    back_end.arrive((0..1000).map(|_| frame(60, 2)));
    let begun = Instant::now();
    // Three batches of 64, five milliseconds apart, after twenty of grace.
    while count(AppCounter::NetRxNoCredit) < 192 {
        service.turn(true).unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "they are never dropped"
        );
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(30),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(count(AppCounter::NetRx), u64::from(SLOTS) - 1);
    assert!(service.interests().within <= Some(Duration::from_millis(5)));

    back_end.plan(|plan| plan.frames.clear());
    assert_eq!(stage.got().len(), SLOTS as usize);
    assert_ne!(crossing.look() & 1 << NET, 0, "the credit was announced");
    back_end.arrive([frame(60, 3)]);
    service.turn(true).unwrap();
    assert_eq!(stage.got(), [Got::Frame(frame(60, 3))]);
    assert!(service.interests().within.is_none());
}

#[test]
fn frames_a_back_end_makes_wait_for_credit_and_none_is_lost() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::Here);
    let (mut service, crossing) = stage.worker(back_end.clone());
    back_end.arrive((0..100).map(|n| frame(60, n)));
    let mut frames = Vec::new();
    while frames.len() < 100 {
        while service.turn(false).unwrap() {}
        assert!(service.interests().fds[0].is_none() || back_end.plan(|plan| plan.frames.is_empty()));
        crossing.look();
        frames.extend(stage.got().into_iter().filter(|got| *got != Got::Link(true)));
        assert!(
            back_end.plan(|plan| plan.frames.is_empty()) || crossing.any(),
            "the credit is heard of"
        );
    }
    let expected: Vec<Got> = (0..100).map(|n| Got::Frame(frame(60, n))).collect();
    assert_eq!(frames, expected);
    assert_eq!(crossing.app_counters().get(AppCounter::NetRxNoCredit), 0);
}

#[test]
fn lost_frames_are_counted_and_troubles_carry_the_cards_name() {
    let mut stage = Stage::new();
    let back_end = Planned::new(Waits::OnHost);
    back_end.plan(|plan| {
        plan.accepts = false;
        plan.trouble = Some("gone".into());
        plan.frames.push_back(None);
    });
    let (mut service, crossing) = stage.worker(back_end);
    stage.send(&frame(60, 1));
    service.turn(true).unwrap();
    let count = |counter| crossing.app_counters().get(counter);
    assert_eq!(
        [
            AppCounter::NetTx,
            AppCounter::NetTxDropped,
            AppCounter::NetRxRefused
        ]
        .map(count),
        [0, 1, 1]
    );
    assert_eq!(service.trouble().as_deref(), Some("net 0: gone"));
    assert_eq!(service.trouble(), None);
}
