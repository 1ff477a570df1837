//! What may be written, what it means, and every refusal in its words.

use super::*;
use proptest::prelude::*;

fn arm(text: &str) -> Fault {
    match text.parse() {
        Ok(Spec::Arm(fault)) => fault,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let drop = arm("drop");
    let plain = Fault {
        action: Action::Drop,
        channel: None,
        dir: None,
        pace: Pace::Every(1),
        after: 0,
        count: None,
        seed: None,
    };
    assert_eq!(drop, plain);
    assert_eq!(drop.limit(), u64::MAX);
    assert_eq!(arm("kill at=43").limit(), 1);
    assert_eq!(arm("stop at=turn ms=1 count=7").limit(), 7);
    assert_eq!(arm("vmm-kill").action, Action::VmmKill { after_ms: 0 });
    assert_eq!(
        arm("corrupt").action,
        Action::Corrupt {
            part: Part::Payload,
            bits: 1
        }
    );
    assert_eq!(arm("  drop\tdir=up ").dir, Some(Dir::Up));
    assert_eq!("clear".parse(), Ok(Spec::Clear));
    assert_eq!("list".parse(), Ok(Spec::List));
}

#[test]
fn a_point_is_called_by_number_or_name() {
    for &point in Point::ALL {
        for name in [point.name().to_owned(), (point as u8).to_string()] {
            assert_eq!(arm(&format!("kill at={name}")).action, Action::Kill { at: point });
        }
    }
}

#[test]
fn probabilities_are_read_to_the_millionth() {
    for (text, rate) in [
        ("1", 1_000_000),
        ("1.0", 1_000_000),
        ("0.5", 500_000),
        (".25", 250_000),
        ("0.000001", 1),
        ("0.010000", 10_000),
    ] {
        assert_eq!(
            arm(&format!("drop rate={text}")).pace,
            Pace::Millionths(rate),
            "{text}"
        );
    }
    for text in [
        "0",
        "0.0",
        "1.000001",
        "2",
        "0.0000001",
        "-0.5",
        "1e-3",
        "0,1",
        "",
        ".",
        "1.",
        "nan",
    ] {
        let refused = format!("drop rate={text}").parse::<Spec>();
        // "1." is as good as "1".
        assert_eq!(refused.is_ok(), text == "1.", "{text}: {refused:?}");
    }
}

#[test]
fn every_action_is_read_and_every_form_is_its_own() {
    for action in ACTIONS {
        let mut text = action.name.to_owned();
        for word in action
            .form
            .split_whitespace()
            .filter(|word| !word.starts_with('['))
        {
            let (key, value) = word.split_once('=').unwrap();
            let value = match value {
                "N" => "5",
                "POINT" => "turn",
                words => words.split('|').next().unwrap(),
            };
            text.push_str(&format!(" {key}={value}"));
        }
        let read: Result<Spec, SpecError> = text.parse();
        if let Ok(Spec::Arm(fault)) = read {
            assert_eq!(fault.action.name(), action.name);
        }
        assert!(read.is_ok(), "{text}: {read:?}");
        for key in action
            .form
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
        {
            let key = key.0.trim_start_matches('[');
            assert!(action.keys.contains(&key), "{} {key}", action.name);
        }
    }
}

#[test]
fn every_refusal_names_the_key_and_the_way_out() {
    let mut all = String::new();
    for text in [
        "",
        "dorp",
        "explode",
        "drop net0",
        "drop chanel=net0",
        "drop colour=red",
        "clear channel=net0",
        "drop every=2 every=3",
        "drop rate=0.5 every=2",
        "drop rate=2",
        "drop every=0",
        "drop count=-1",
        "drop channel=net64",
        "drop channel=nett0",
        "drop channel=usb0",
        "drop dir=sideways",
        "drop dir=uo",
        "delay",
        "delay ms=soon",
        "delay ms=600001",
        "corrupt part=head",
        "corrupt bits=65",
        "disk-error",
        "disk-error error=eio",
        "disk-error error=EPERM",
        "disk-error error=slow",
        "disk-error error=EIO ms=5",
        "disk-error error=ENOSPC op=read",
        "disk-error error=short-write op=flush",
        "disk-error error=EIO op=flush lba=5",
        "disk-error error=EIO lba=9-5",
        "disk-error error=EIO channel=net0",
        "disk-error error=EIO dir=up",
        "irq-lost dir=up",
        "kill",
        "kill at=disk-dune",
        "kill at=99",
        "kill at=turn channel=net0",
        "kill at=tx-frame channel=disk0",
        "kill at=in-read channel=disk0",
        "stop at=turn",
        "vmm-kill rate=0.1",
    ] {
        let error = text.parse::<Spec>().expect_err(text);
        all.push_str(&format!("{text}\n  {error}\n  {}\n", error.help()));
    }
    let long = "x".repeat(MAX_SPEC + 1);
    assert_eq!(long.parse::<Spec>(), Err(SpecError::TooLong(MAX_SPEC + 1)));
    insta::with_settings!({ snapshot_path => "../../../tests/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("fault_refusals", all);
    });
}

fn device() -> impl Strategy<Value = u8> {
    0..=MAX_DEVICE
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Control),
        Just(Target::Console),
        device().prop_map(Target::Net),
        device().prop_map(Target::Disk),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let ms = || 1..=MAX_MS;
    let part = prop_oneof![Just(Part::Payload), Just(Part::Header)];
    let point = || proptest::sample::select(Point::ALL);
    let error = prop_oneof![
        Just(DiskFault::Eio),
        Just(DiskFault::Enospc),
        Just(DiskFault::ShortWrite),
        ms().prop_map(|ms| DiskFault::Slow { ms }),
    ];
    let op = proptest::option::of(proptest::sample::select(DISK_OPS.map(|(_, op)| op).to_vec()));
    let lba = proptest::option::of((0..u64::MAX / 2, 0..1_u64 << 40));
    let disk = (error, op, lba).prop_map(|(error, op, lba)| {
        let op = op.filter(|&op| can_fail(error, op));
        let lba = lba.filter(|_| op != Some(DiskOp::Flush));
        Action::DiskError {
            error,
            op,
            lba: lba.map(|(from, more)| (from, from + more)),
        }
    });
    prop_oneof![
        Just(Action::Drop),
        Just(Action::Duplicate),
        Just(Action::Reorder),
        Just(Action::DoorbellLost),
        Just(Action::IrqLost),
        Just(Action::IrqSpurious),
        ms().prop_map(|ms| Action::Delay { ms }),
        ms().prop_map(|ms| Action::Stall { ms }),
        (part, 1..=MAX_BITS).prop_map(|(part, bits)| Action::Corrupt { part, bits }),
        proptest::option::of(0..=1_u32 << 20).prop_map(|to| Action::Truncate { to }),
        disk,
        point().prop_map(|at| Action::Kill { at }),
        (point(), ms()).prop_map(|(at, ms)| Action::Stop { at, ms }),
        (0..=MAX_MS).prop_map(|after_ms| Action::VmmKill { after_ms }),
    ]
}

/// A fault whose parts go together, which is all that can be written.
fn fault() -> impl Strategy<Value = Fault> {
    use proptest::option::of;
    let dir = of(prop_oneof![Just(Dir::Down), Just(Dir::Up)]);
    let pace = prop_oneof![
        (1..=MAX_COUNT).prop_map(Pace::Every),
        (1..=1_000_000_u32).prop_map(Pace::Millionths),
    ];
    let filters = (
        of(target()),
        dir,
        pace,
        0..=MAX_COUNT,
        of(1..=MAX_COUNT),
        of(any::<u64>()),
    );
    (action(), filters).prop_map(|(action, (channel, dir, pace, after, count, seed))| {
        let facts = ACTIONS.iter().find(|facts| facts.name == action.name()).unwrap();
        let has = |key| facts.keys.contains(&key);
        Fault {
            action,
            channel: channel.filter(|&channel| has("channel") && fits(&action, channel).is_ok()),
            dir: dir.filter(|_| has("dir")),
            pace: if has("rate") { pace } else { Pace::Every(1) },
            after: if has("after") { after } else { 0 },
            count: count.filter(|_| has("count")),
            seed: seed.filter(|_| has("seed")),
        }
    })
}

proptest! {
    #[test]
    fn writing_and_reading_are_inverse(fault in fault()) {
        let text = Shown(&fault).to_string();
        prop_assert_eq!(text.parse::<Spec>(), Ok(Spec::Arm(fault)), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_way_out(text in ".{0,80}") {
        match text.parse::<Spec>() {
            Ok(Spec::Arm(fault)) => prop_assert_eq!(Shown(&fault).to_string().parse::<Spec>(), Ok(Spec::Arm(fault))),
            Ok(_) => {}
            Err(error) => prop_assert!(!error.help().is_empty()),
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_are_read_or_refused(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "drop", "kill", "disk-error", "at=turn", "at=disk-half", "rate=0.5", "every=3", "channel=disk0", "ms=5",
            "error=EIO", "error=slow", "op=read", "lba=1-2", "count=2", "dir=down", "=", "x=",
        ]), 0..6)
    ) {
        let text = words.join(" ");
        if let Ok(Spec::Arm(fault)) = text.parse::<Spec>() {
            prop_assert_eq!(Shown(&fault).to_string().parse::<Spec>(), Ok(Spec::Arm(fault)));
        }
    }
}
