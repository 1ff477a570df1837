//! Numbers, counts and timers over the lives of workers that are only told of.

use super::*;
use shared::msg::fault::Dir;
use shared::spec::{BootSpec, DiskSpec, EngineChoice, IoSpec, NetSpec, OnReset};

fn machine() -> MachineSpec {
    MachineSpec {
        name: "demo".into(),
        memory_bytes: 16 << 20,
        cpus: 1,
        engine: EngineChoice::Auto,
        boot: BootSpec::Image,
        on_reset: OnReset::Exit,
        debug_exit: None,
        test_device: false,
        require_jail: false,
        io: IoSpec::default(),
        nets: vec![NetSpec {
            mac: [2, 0, 0, 0, 0, 1],
        }],
        disks: vec![DiskSpec {
            sectors: 8,
            read_only: false,
            serial: "1".into(),
        }],
    }
}

fn armory() -> Armory {
    Armory::new(&machine(), 7, &[], Instant::now())
}

fn ask(armory: &mut Armory, text: &str) -> Result<String, ArmError> {
    armory.ask(text, Instant::now())
}

fn injection(order: u32, pass: u64, times: u64) -> Injection {
    Injection {
        order,
        pass,
        times,
        channel: Some(Target::Disk(0)),
        dir: None,
    }
}

#[test]
fn injections_are_numbered_over_all_orders_and_counted_by_action() {
    let mut armory = armory();
    ask(&mut armory, "kill at=disk-done count=3").unwrap();
    ask(&mut armory, "drop channel=disk0").unwrap();
    let done = Progress {
        order: 1,
        passes: 231,
        struck: 3,
    };
    assert_eq!(
        armory.struck(&[injection(1, 231, 1), injection(2, 9, 7)], &[done]),
        [
            "fault 1: kill at disk-done (disk0), pass 231",
            "faults 2 to 8: drop (disk0), the last at pass 9"
        ]
    );
    assert_eq!(
        armory.struck(
            &[Injection {
                dir: Some(Dir::Up),
                ..injection(2, 10, 1)
            }],
            &[]
        ),
        ["fault 9: drop (disk0 up), pass 10"]
    );
    assert_eq!(
        armory.counts(),
        BTreeMap::from([("drop".into(), 8), ("kill".into(), 1)])
    );
    // The first is spent: the next worker does not get it.
    assert_eq!(
        armory.orders().iter().map(|order| order.id).collect::<Vec<_>>(),
        [2]
    );
    // One that is not ours changes nothing but the sequence.
    assert_eq!(
        armory.struck(&[injection(99, 1, u64::MAX)], &[]),
        Vec::<String>::new()
    );
    assert_eq!(armory.counts().len(), 2);
}

#[test]
fn a_worker_is_given_the_vms_seed_and_the_progress() {
    let mut armory = armory();
    ask(&mut armory, "drop rate=0.5").unwrap();
    ask(&mut armory, "drop rate=0.5 seed=3").unwrap();
    let progress = Progress {
        order: 2,
        passes: 50,
        struck: 20,
    };
    armory.struck(&[], &[progress]);
    let orders = armory.orders();
    assert_eq!(
        orders.iter().map(|order| order.fault.seed).collect::<Vec<_>>(),
        [Some(7), Some(3)]
    );
    assert_eq!((orders[1].passes, orders[1].struck), (50, 20));
}

#[test]
fn spent_orders_make_room_and_live_ones_do_not() {
    let mut armory = armory();
    for _ in 0..MAX_ORDERS {
        ask(&mut armory, "kill at=turn").unwrap();
    }
    assert_eq!(ask(&mut armory, "drop"), Err(ArmError::Full));
    let spent = Progress {
        order: 5,
        passes: 1,
        struck: 1,
    };
    armory.struck(&[], &[spent]);
    ask(&mut armory, "drop").unwrap();
    assert_eq!(ask(&mut armory, "drop"), Err(ArmError::Full));
    assert_eq!(ask(&mut armory, "clear").unwrap(), "32 taken off\n");
    assert!(armory.orders().is_empty());
    assert_eq!(ask(&mut armory, "drop").unwrap(), "fault 34 armed: drop seed=7\n");
}

#[test]
fn a_stopped_worker_is_continued_until_it_says_so() {
    let mut armory = armory();
    let now = Instant::now();
    armory.stopping(100, now);
    let at = |ms| now + Duration::from_millis(ms);
    assert_eq!(armory.deadline(), Some(at(100)));
    assert_eq!(armory.due(at(99)), []);
    assert_eq!(armory.due(at(100)), [(Deed::Continue, None)]);
    assert_eq!(armory.due(at(119)), []);
    assert_eq!(armory.due(at(120)), [(Deed::Continue, None)]);
    armory.continued();
    assert_eq!((armory.deadline(), armory.due(at(999))), (None, vec![]));
}

#[test]
fn a_worker_that_was_to_stop_for_long_goes_on_when_all_is_taken_off() {
    let mut armory = armory();
    let now = Instant::now();
    armory.stopping(600_000, now);
    armory.ask("clear", now).unwrap();
    assert_eq!(armory.due(now), [(Deed::Continue, None)]);
    armory.continued();
    armory.ask("clear", now).unwrap();
    assert_eq!(armory.due(now), [], "nobody has stopped");
}

#[test]
fn what_struck_before_all_was_taken_off_and_is_told_after_it_is_counted() {
    let mut armory = armory();
    ask(&mut armory, "drop channel=net0").unwrap();
    ask(&mut armory, "clear").unwrap();
    let late = Injection {
        order: 1,
        pass: 9,
        times: 2,
        channel: None,
        dir: None,
    };
    assert_eq!(
        armory.struck(&[late], &[]),
        ["faults 1 to 2: drop, the last at pass 9"]
    );
    assert_eq!(armory.counts()["drop"], 2);
}

#[test]
fn the_vmm_is_killed_once_and_not_after_clear() {
    let mut armory = armory();
    let now = Instant::now();
    armory.ask("vmm-kill after_ms=50", now).unwrap();
    assert!(armory.orders().is_empty(), "no business of the worker");
    assert_eq!(armory.due(now), []);
    let due = armory.due(now + Duration::from_millis(50));
    assert_eq!(due, [(Deed::KillVmm, Some("fault 1: vmm-kill, pass 1".into()))]);
    assert_eq!(armory.deadline(), None);
    armory.ask("vmm-kill", now).unwrap();
    armory.ask("clear", now).unwrap();
    assert_eq!(armory.due(now + Duration::from_secs(1)), []);
}

#[test]
fn channels_the_machine_lacks_are_refused_with_those_it_has() {
    let mut armory = armory();
    let error = ask(&mut armory, "drop channel=disk1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "this VM has no disk1; it has control, console, net0, disk0"
    );
    let error = ask(&mut armory, "drop rate=7").unwrap_err();
    assert!(error.to_string().contains("write rate=0.01"), "{error}");
}
