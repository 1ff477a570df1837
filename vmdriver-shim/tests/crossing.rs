//! The crossing, both sides in one process: who is woken, what is counted, what a lying peer can do.

use shared::abi::counters::{AppCounter, VmmCounter};
use shared::abi::words::{IRQ_BITMAP, VMM_WAITING};
use shared::abi::{ChannelKind, ChannelShape, RingOffsets};
use shared::mem::Memory;
use shared::ring::{PushError, Side};
use shared::spec::{IoSpec, Notify};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use vmdriver_shim::crossing::{Bells, CallError, Crossing, CrossingError};
use vmdriver_shim::doorbell::{Doorbell, DoorbellError};
use vmdriver_shim::memory::SharedMemory;

const SLOTS: u32 = 4;
const KINDS: [ChannelKind; 4] = [
    ChannelKind::Control,
    ChannelKind::Console,
    ChannelKind::Net,
    ChannelKind::Disk,
];
const NO_TIME: Option<Duration> = Some(Duration::ZERO);
/// Far more than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(30);

struct Pair {
    memory: SharedMemory,
    bells: Bells,
    vmm: Arc<Crossing>,
    app: Arc<Crossing>,
}

fn spec(notify: Notify, spin_us: u32) -> IoSpec {
    IoSpec {
        notify,
        spin_us,
        ..IoSpec::default()
    }
}

fn pair(io: IoSpec) -> Pair {
    let shapes = KINDS.map(|kind| ChannelShape {
        kind,
        down_slots: SLOTS,
        up_slots: SLOTS,
        slot_bytes: 128,
    });
    let memory = SharedMemory::create(&shapes).unwrap();
    let bells = Bells::new().unwrap();
    Pair {
        vmm: Crossing::new(Side::Vmm, &memory, bells.try_clone().unwrap(), io),
        app: Crossing::new(Side::App, &memory, bells.try_clone().unwrap(), io),
        bells,
        memory,
    }
}

/// A pair that has settled: nothing pending, no bell rung, counters of what follows only.
fn settled(io: IoSpec) -> Pair {
    let pair = pair(io);
    pair.settle();
    pair
}

impl Pair {
    fn settle(&self) {
        for crossing in [&self.vmm, &self.app] {
            crossing.look();
        }
        for bell in [&self.bells.app, &self.bells.vmm, &self.bells.vmm_kick] {
            bell.drain();
        }
    }

    fn vmm_count(&self, counter: VmmCounter) -> u64 {
        self.app.vmm_counters().get(counter)
    }

    fn app_count(&self, counter: AppCounter) -> u64 {
        self.vmm.app_counters().get(counter)
    }
}

const MODES: [Notify; 2] = [Notify::Bitmap, Notify::Select];

#[test]
fn a_new_side_looks_at_every_channel_first() {
    for notify in MODES {
        let pair = pair(spec(notify, 0));
        assert!(pair.app.any());
        assert_eq!(pair.app.look(), 0b1111);
        assert_eq!(pair.app.look(), 0);
        assert!(!pair.app.any());
    }
}

#[test]
fn a_channel_exists_once_and_only_where_the_layout_has_it() {
    let pair = pair(spec(Notify::Bitmap, 0));
    let channel = pair.vmm.channel(2).unwrap();
    assert_eq!((channel.number(), channel.kind()), (2, ChannelKind::Net));
    assert!(matches!(pair.vmm.channel(2), Err(CrossingError::ChannelTaken(2))));
    assert!(matches!(pair.vmm.channel(4), Err(CrossingError::NoChannel(4))));
    assert!(matches!(
        pair.vmm.channel(255),
        Err(CrossingError::NoChannel(255))
    ));
    assert!(pair.app.channel(2).is_ok(), "the other side has its own end");
}

#[test]
fn what_is_pushed_arrives_in_both_directions_after_a_flush() {
    for notify in MODES {
        let pair = pair(spec(notify, 0));
        let (mut vmm, mut app) = (pair.vmm.channel(1).unwrap(), pair.app.channel(1).unwrap());
        pair.settle();
        let mut got = Vec::new();
        vmm.push(1, 7, b"down").unwrap();
        assert_eq!(
            (app.next(&mut got), pair.app.look()),
            (Ok(None), 0),
            "not before the flush"
        );
        vmm.flush().unwrap();
        assert_eq!(pair.app.look(), 1 << 1);
        assert_eq!(app.next(&mut got).unwrap().unwrap().id, 7);
        assert_eq!(got, b"down");
        app.release(1).unwrap();
        app.push(2, 8, b"up").unwrap();
        app.flush().unwrap();
        assert_eq!(pair.vmm.look(), 1 << 1);
        assert_eq!(vmm.next(&mut got).unwrap().unwrap().kind, 2);
        assert_eq!(got, b"up");
        assert!(!vmm.flush().unwrap(), "nothing new, nothing rung");
    }
}

/// The waiting word set by hand stands for a peer that really sleeps.
fn announce(pair: &Pair, word: usize, value: u32) {
    pair.memory.mem().store_u32(word, value, Relaxed);
}

#[test]
fn a_world_switch_is_a_doorbell_really_rung_counted_by_its_cause() {
    let causes = [
        VmmCounter::SwitchControl,
        VmmCounter::SwitchConsole,
        VmmCounter::SwitchNet,
        VmmCounter::SwitchDisk,
    ];
    for (number, cause) in (0u8..).zip(causes) {
        let pair = pair(spec(Notify::Bitmap, 0));
        let mut channel = pair.vmm.channel(number).unwrap();
        pair.settle();
        let saved = pair.vmm_count(VmmCounter::DoorbellsSaved);
        channel.push(1, 0, b"awake").unwrap();
        assert!(!channel.flush().unwrap());
        assert_eq!(pair.vmm_count(VmmCounter::DoorbellsSaved), saved + 1);
        assert!(!pair.bells.app.drain());
        announce(&pair, shared::abi::words::APP_WAITING, 1);
        channel.push(1, 0, b"asleep").unwrap();
        assert!(channel.flush().unwrap());
        channel.push(1, 0, b"being woken").unwrap();
        assert!(!channel.flush().unwrap(), "one sleep costs one ring");
        assert!(pair.bells.app.drain());
        for other in causes {
            assert_eq!(
                pair.vmm_count(other),
                u64::from(other == cause),
                "{cause:?} {other:?}"
            );
        }
    }
}

#[test]
fn vmapp_rings_a_sleeping_vmm_and_kicks_one_in_the_guest() {
    for notify in MODES {
        let pair = pair(spec(notify, 0));
        let mut channel = pair.app.channel(1).unwrap();
        pair.settle();
        let always = notify == Notify::Select;
        for (waiting, bell, kick) in [(0, always, false), (1, true, false), (2, always, true)] {
            announce(&pair, VMM_WAITING, waiting);
            let mut before = [0; 3];
            let counters = [
                AppCounter::DoorbellsRung,
                AppCounter::KicksRung,
                AppCounter::DoorbellsSaved,
            ];
            for (count, counter) in before.iter_mut().zip(counters) {
                *count = pair.app_count(counter);
            }
            channel.push(1, 0, b"x").unwrap();
            assert_eq!(channel.flush().unwrap(), bell || kick);
            assert_eq!(pair.bells.vmm.drain(), bell, "{notify:?} {waiting}");
            assert_eq!(pair.bells.vmm_kick.drain(), kick, "{notify:?} {waiting}");
            for ((counter, before), more) in
                counters.into_iter().zip(before).zip([bell, kick, !bell && !kick])
            {
                assert_eq!(
                    pair.app_count(counter),
                    before + u64::from(more),
                    "{notify:?} {waiting} {counter:?}"
                );
            }
        }
    }
}

#[test]
fn the_guest_is_not_entered_while_work_waits() {
    for notify in MODES {
        let pair = pair(spec(notify, 0));
        let mut app = pair.app.channel(1).unwrap();
        pair.settle();
        assert!(pair.vmm.enter_guest());
        pair.vmm.left_guest();
        app.push(1, 0, b"x").unwrap();
        app.flush().unwrap();
        assert!(!pair.vmm.enter_guest());
        assert_eq!(pair.vmm.look(), 1 << 1);
        assert!(pair.vmm.enter_guest(), "one look is enough");
        app.push(1, 0, b"y").unwrap();
        assert!(app.flush().unwrap(), "kicked");
        assert!(pair.bells.vmm_kick.drain());
        pair.vmm.left_guest();
    }
}

#[test]
fn sleep_ends_by_its_limit_by_work_and_by_other_descriptors() {
    for notify in MODES {
        let pair = pair(spec(notify, 20));
        let mut app = pair.app.channel(1).unwrap();
        pair.settle();
        let start = Instant::now();
        let limit = Duration::from_millis(5);
        let woken = pair.vmm.sleep(Some(limit), &[]).unwrap();
        assert!(
            (woken.work, woken.ready) == (false, 0) && start.elapsed() >= limit,
            "{woken:?}"
        );
        let (silent, ready) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
        ready.ring().unwrap();
        let woken = pair.vmm.sleep(None, &[silent.as_fd(), ready.as_fd()]).unwrap();
        assert!(
            !woken.work && woken.ready == 0b10 && woken.is_ready(1) && !woken.is_ready(0),
            "{woken:?}"
        );
        app.push(1, 0, b"x").unwrap();
        app.flush().unwrap();
        assert!(pair.vmm.sleep(None, &[]).unwrap().work);
        assert_eq!(pair.vmm.look(), 1 << 1);
        assert!(pair.vmm_count(VmmCounter::Sleeps) >= 2);
        assert!(pair.vmm_count(VmmCounter::SleepNs) >= 1_000_000);
    }
}

#[test]
fn a_peer_that_always_has_work_cannot_starve_the_other_descriptors() {
    let pair = settled(spec(Notify::Bitmap, 0));
    let ready = Doorbell::new().unwrap();
    ready.ring().unwrap();
    let seen = (0..64).any(|_| {
        pair.memory.mem().store_u64(IRQ_BITMAP, 1, Relaxed);
        pair.vmm.sleep(None, &[ready.as_fd()]).unwrap().is_ready(0)
    });
    assert!(seen);
}

#[test]
fn too_many_descriptors_are_an_error() {
    let pair = settled(spec(Notify::Bitmap, 0));
    let bell = Doorbell::new().unwrap();
    let many = vec![bell.as_fd(); 65];
    assert!(matches!(
        pair.vmm.sleep(NO_TIME, &many),
        Err(CrossingError::TooMany(65))
    ));
    assert!(pair.vmm.sleep(NO_TIME, &many[..64]).is_ok());
}

#[test]
fn a_waiting_producer_is_woken_by_credit() {
    for notify in MODES {
        let pair = pair(spec(notify, 0));
        let (mut vmm, mut app) = (pair.vmm.channel(3).unwrap(), pair.app.channel(3).unwrap());
        pair.settle();
        for id in 0..u64::from(SLOTS) {
            vmm.push(1, id, b"x").unwrap();
        }
        assert_eq!(vmm.push(1, 9, b"x"), Err(PushError::Full));
        assert!(vmm.want_credit().unwrap());
        assert_eq!(
            app.next(&mut Vec::new()).unwrap().unwrap().id,
            0,
            "wanting credit published"
        );
        assert_eq!(pair.vmm.look(), 0);
        app.release(1).unwrap();
        assert_eq!(pair.vmm.look(), 1 << 3);
        assert_eq!(vmm.credit(), Ok(1));
        assert!(!vmm.want_credit().unwrap());
    }
}

#[test]
fn bits_of_channels_that_do_not_exist_are_dropped_and_counted() {
    let pair = settled(spec(Notify::Bitmap, 0));
    pair.memory
        .mem()
        .store_u64(IRQ_BITMAP, 1 << 63 | 1 << 4 | 1 << 2, Relaxed);
    assert_eq!(pair.vmm.look(), 1 << 2);
    assert_eq!(pair.vmm_count(VmmCounter::PeerErrors), 1);
}

#[test]
fn a_broken_ring_is_a_typed_error_and_counted_each_time() {
    let pair = pair(spec(Notify::Bitmap, 0));
    let (mut vmm, mut app) = (pair.vmm.channel(1).unwrap(), pair.app.channel(1).unwrap());
    let layout = pair.memory.layout().channels()[1];
    pair.memory
        .mem()
        .store_u32(layout.down.at + RingOffsets::HEAD, 100, Relaxed);
    pair.memory
        .mem()
        .store_u32(layout.down.at + RingOffsets::TAIL, 50, Relaxed);
    for _ in 0..3 {
        assert!(app.next(&mut Vec::new()).is_err());
        assert!(vmm.credit().is_err());
    }
    assert_eq!(pair.app_count(AppCounter::PeerErrors), 3);
    assert_eq!(pair.vmm_count(VmmCounter::PeerErrors), 3);
    drop(app);
    let restarted = Crossing::new(
        Side::App,
        &pair.memory,
        pair.bells.try_clone().unwrap(),
        IoSpec::default(),
    );
    assert!(matches!(
        restarted.channel(1),
        Err(CrossingError::Ring { channel: 1, .. })
    ));
}

#[test]
fn a_successor_finds_what_its_predecessor_took_and_did_not_finish() {
    let pair = pair(spec(Notify::Bitmap, 0));
    let (mut vmm, mut app) = (pair.vmm.channel(3).unwrap(), pair.app.channel(3).unwrap());
    for id in 0..3 {
        vmm.push(1, id, b"request").unwrap();
    }
    vmm.flush().unwrap();
    pair.app.look();
    for _ in 0..3 {
        app.next(&mut Vec::new()).unwrap().unwrap();
    }
    app.release(1).unwrap();
    drop(app);
    pair.vmm.look();
    let successor = Crossing::new(
        Side::App,
        &pair.memory,
        pair.bells.try_clone().unwrap(),
        IoSpec::default(),
    );
    let mut app = successor.channel(3).unwrap();
    assert_eq!(successor.look() & 1 << 3, 1 << 3);
    let ids = std::iter::from_fn(|| app.next(&mut Vec::new()).unwrap().map(|header| header.id));
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2]);
    assert_eq!(pair.vmm.look(), 1 << 3, "and tells the peer to look");
}

/// Answers every request on the control channel until told to stop.
fn echo(app: &Arc<Crossing>, requests: u64) {
    let mut channel = app.channel(0).unwrap();
    let mut payload = Vec::new();
    let mut answered = 0;
    while answered < requests {
        app.look();
        while let Some(header) = channel.next(&mut payload).unwrap() {
            channel.push(1, header.id, &payload).unwrap();
            channel.release(1).unwrap();
            channel.flush().unwrap();
            answered += 1;
        }
        if answered < requests {
            app.sleep(Some(LONG), &[]).unwrap();
        }
    }
}

#[test]
fn a_call_waits_for_its_own_answer_and_counts_one_world_switch() {
    const CALLS: u64 = 2000;
    for notify in MODES {
        for spin_us in [0, 50] {
            let pair = pair(spec(notify, spin_us));
            let mut control = pair.vmm.channel(0).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| echo(&pair.app, CALLS));
                for id in 0..CALLS {
                    let text = id.to_le_bytes();
                    let (header, payload) = control.call(1, id, &text, Instant::now() + LONG).unwrap();
                    assert_eq!((header.id, payload), (id, text.to_vec()));
                }
            });
            assert_eq!(pair.vmm_count(VmmCounter::SwitchSync), CALLS);
            assert_eq!(pair.vmm_count(VmmCounter::SwitchControl), 0);
            assert_eq!(pair.vmm_count(VmmCounter::PeerErrors), 0);
        }
    }
}

#[test]
fn a_call_without_answer_times_out_and_a_wrong_answer_is_thrown_away() {
    let pair = pair(spec(Notify::Bitmap, 20));
    let (mut vmm, mut app) = (pair.vmm.channel(0).unwrap(), pair.app.channel(0).unwrap());
    pair.settle();
    app.push(1, 99, b"unasked").unwrap();
    app.flush().unwrap();
    let outcome = vmm.call(1, 5, b"?", Instant::now() + Duration::from_millis(5));
    assert!(matches!(outcome, Err(CallError::TimedOut)), "{outcome:?}");
    assert_eq!(pair.vmm_count(VmmCounter::PeerErrors), 1);
    assert_eq!(vmm.held(), 0, "its slot was given back");
}

#[test]
fn a_call_keeps_what_other_channels_got_meanwhile() {
    for notify in MODES {
        let pair = pair(spec(notify, 0));
        let mut vmm = pair.vmm.channel(0).unwrap();
        let mut console = pair.app.channel(1).unwrap();
        pair.settle();
        console.push(1, 0, b"key").unwrap();
        console.flush().unwrap();
        let outcome = vmm.call(1, 5, b"?", Instant::now() + Duration::from_millis(1));
        assert!(matches!(outcome, Err(CallError::TimedOut)));
        assert!(pair.vmm.any());
        assert_eq!(pair.vmm.look(), 1 << 1);
    }
}

/// A stream through a small ring, both sides sleeping whenever they can: a single lost wake-up stops it.
#[test]
fn a_stream_with_two_sleeping_sides_never_stalls() {
    const MESSAGES: u64 = 20_000;
    for notify in MODES {
        for spin_us in [0, 10] {
            let pair = pair(spec(notify, spin_us));
            let mut vmm = pair.vmm.channel(3).unwrap();
            let mut app = pair.app.channel(3).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let (mut payload, mut expected) = (Vec::new(), 0);
                    while expected < MESSAGES {
                        app.crossing().look();
                        while let Some(header) = app.next(&mut payload).unwrap() {
                            assert_eq!(header.id, expected);
                            assert_eq!(payload, expected.to_le_bytes());
                            expected += 1;
                            app.release(1).unwrap();
                        }
                        if expected < MESSAGES {
                            let start = Instant::now();
                            app.crossing().sleep(Some(LONG), &[]).unwrap();
                            assert!(start.elapsed() < LONG, "reader stalled at {expected}");
                        }
                    }
                });
                let mut id = 0u64;
                while id < MESSAGES {
                    pair.vmm.look();
                    match vmm.push(1, id, &id.to_le_bytes()) {
                        Ok(()) => {
                            id += 1;
                            vmm.flush().unwrap();
                        }
                        Err(PushError::Full) => {
                            if vmm.want_credit().unwrap() {
                                let start = Instant::now();
                                pair.vmm.sleep(Some(LONG), &[]).unwrap();
                                assert!(start.elapsed() < LONG, "writer stalled at {id}");
                            }
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            });
            assert_eq!(
                pair.vmm_count(VmmCounter::PeerErrors) + pair.app_count(AppCounter::PeerErrors),
                0
            );
        }
    }
}

#[test]
fn nobody_spins_where_the_peer_could_not_run() {
    let spins = |io| {
        let pair = settled(io);
        for _ in 0..3 {
            pair.vmm.sleep(Some(Duration::from_micros(100)), &[]).unwrap();
        }
        pair.vmm_count(VmmCounter::SpinMisses) + pair.vmm_count(VmmCounter::SpinHits)
    };
    assert_eq!(spins(spec(Notify::Select, 50)), 0);
    assert_eq!(spins(spec(Notify::Bitmap, 0)), 0);
    let one = std::thread::spawn(move || {
        let mut set = nix::sched::CpuSet::new();
        let all = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let first = (0..nix::sched::CpuSet::count())
            .find(|&cpu| all.is_set(cpu).unwrap())
            .unwrap();
        set.set(first).unwrap();
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).unwrap();
        spins(spec(Notify::Bitmap, 50))
    });
    assert_eq!(one.join().unwrap(), 0, "bound to one core");
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert!(spins(spec(Notify::Bitmap, 50)) > 0, "on several cores");
    }
}

#[test]
fn a_full_bell_is_a_rung_bell_and_never_blocks() {
    let bell = Doorbell::new().unwrap();
    nix::unistd::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    bell.ring().unwrap();
    assert!(bell.drain());
    assert!(!bell.drain());
}

#[test]
fn only_a_non_blocking_eventfd_is_a_doorbell() {
    let (pipe, _w) = nix::unistd::pipe().unwrap();
    assert!(matches!(
        Doorbell::from_fd(pipe),
        Err(DoorbellError::NotEventFd(_))
    ));
    let blocking = nix::sys::eventfd::EventFd::new().unwrap();
    assert!(matches!(
        Doorbell::from_fd(blocking.into()),
        Err(DoorbellError::Blocking)
    ));
    let good = Doorbell::new().unwrap();
    let passed = Doorbell::from_fd(good.as_fd().try_clone_to_owned().unwrap()).unwrap();
    passed.ring().unwrap();
    assert!(good.drain());
}

#[test]
fn heartbeat_and_counters_are_seen_by_the_other_side() {
    let pair = settled(spec(Notify::Bitmap, 0));
    let beat = || {
        pair.memory
            .mem()
            .load_u64(shared::abi::words::APP_HEARTBEAT, Relaxed)
    };
    let before = beat();
    pair.app.heartbeat();
    assert_eq!(beat(), before + 1);
    pair.vmm.vmm_counters().add(VmmCounter::ExitPort, 3);
    assert_eq!(pair.vmm_count(VmmCounter::ExitPort), 3);
    let all: Vec<_> = pair.app.vmm_counters().all().collect();
    assert_eq!(all.len(), VmmCounter::ALL.len());
    assert!(all.contains(&(VmmCounter::ExitPort, 3)));
}
