//! Which chances are struck, as tables.

use super::*;
use shared::msg::fault::{Fault, Part};

const NET: Target = Target::Net(0);
const DISK: Target = Target::Disk(1);
const DOWN: Chance = Chance::Message(NET, Dir::Down);
const UP: Chance = Chance::Message(NET, Dir::Up);

fn fault(action: Action) -> Fault {
    Fault {
        action,
        channel: None,
        dir: None,
        pace: Pace::Every(1),
        after: 0,
        count: None,
        seed: Some(1),
    }
}

fn order(id: u32, fault: Fault) -> Order {
    Order {
        id,
        fault,
        passes: 0,
        struck: 0,
    }
}

fn armed(fault: Fault) -> Armed {
    let mut armed = Armed::default();
    armed.set(vec![order(1, fault)]);
    armed
}

/// The chances of a hundred, counted from 1, that are struck.
fn struck(armed: &mut Armed, chance: Chance) -> Vec<u32> {
    (1..=100).filter(|_| !armed.chance(chance).is_empty()).collect()
}

#[test]
fn pace_after_and_count_choose_among_the_chances() {
    let plain = fault(Action::Drop);
    for (what, fault, expected) in [
        ("every one", plain, (1..=100).collect::<Vec<u32>>()),
        (
            "count",
            Fault {
                count: Some(3),
                ..plain
            },
            vec![1, 2, 3],
        ),
        ("after", Fault { after: 98, ..plain }, vec![99, 100]),
        (
            "every",
            Fault {
                pace: Pace::Every(40),
                ..plain
            },
            vec![40, 80],
        ),
        (
            "every, after those that pass",
            Fault {
                pace: Pace::Every(40),
                after: 15,
                ..plain
            },
            vec![55, 95],
        ),
        (
            "all of them together",
            Fault {
                pace: Pace::Every(2),
                after: 10,
                count: Some(2),
                ..plain
            },
            vec![12, 14],
        ),
        ("a point, once", fault(Action::Kill { at: Point::Turn }), vec![]),
    ] {
        assert_eq!(struck(&mut armed(fault), DOWN), expected, "{what}");
    }
    let turn = Chance::Point(Point::Turn, None);
    assert_eq!(
        struck(&mut armed(fault(Action::Kill { at: Point::Turn })), turn),
        [1]
    );
}

#[test]
fn a_rate_strikes_that_share_and_the_same_chances_again() {
    let rate = Fault {
        pace: Pace::Millionths(100_000),
        ..fault(Action::Drop)
    };
    let run = |fault| {
        let mut armed = armed(fault);
        (0..10_000)
            .filter(|_| !armed.chance(UP).is_empty())
            .collect::<Vec<u32>>()
    };
    let first = run(rate);
    assert!((900..1100).contains(&first.len()), "{}", first.len());
    assert_eq!(first, run(rate));
    assert_ne!(
        first,
        run(Fault {
            seed: Some(2),
            ..rate
        })
    );
    let other = run(Fault {
        action: Action::Duplicate,
        ..rate
    });
    let both = first.iter().filter(|pass| other.contains(pass)).count();
    assert!(
        both < 200,
        "two actions of one seed strike apart: {both} of {} together",
        first.len()
    );
}

#[test]
fn what_strikes_does_not_depend_on_who_counts_the_chances() {
    let rate = Fault {
        pace: Pace::Millionths(300_000),
        ..fault(Action::Drop)
    };
    let whole = struck(&mut armed(rate), DOWN);
    // A worker dies after 40 chances; the next is told how far it was.
    let mut first = armed(rate);
    let mut parts: Vec<u32> = (1..=40).filter(|_| !first.chance(DOWN).is_empty()).collect();
    let Progress { passes, struck, .. } = first.progress()[0];
    let mut second = Armed::default();
    second.set(vec![Order {
        passes,
        struck,
        ..order(1, rate)
    }]);
    parts.extend((41..=100).filter(|_| !second.chance(DOWN).is_empty()));
    assert_eq!(parts, whole);
}

#[test]
fn an_order_strikes_only_where_it_is_armed_for() {
    let write = Chance::Disk(DISK, DiskOp::Write, 100, 8);
    let read = Chance::Disk(DISK, DiskOp::Read, 100, 8);
    let flush = Chance::Disk(DISK, DiskOp::Flush, 0, 0);
    let disk = |error, op, lba| fault(Action::DiskError { error, op, lba });
    let eio = DiskFault::Eio;
    for (fault, hits, misses) in [
        (
            fault(Action::Drop),
            vec![DOWN, UP],
            vec![Chance::Signal(NET), write],
        ),
        (
            Fault {
                channel: Some(NET),
                ..fault(Action::Drop)
            },
            vec![DOWN],
            vec![
                Chance::Message(DISK, Dir::Down),
                Chance::Message(Target::Net(1), Dir::Down),
            ],
        ),
        (
            Fault {
                dir: Some(Dir::Up),
                ..fault(Action::Drop)
            },
            vec![UP],
            vec![DOWN],
        ),
        (
            fault(Action::DoorbellLost),
            vec![Chance::Rung(NET), Chance::Signal(NET)],
            vec![DOWN, Chance::Crossed(NET)],
        ),
        (
            Fault {
                dir: Some(Dir::Up),
                ..fault(Action::DoorbellLost)
            },
            vec![Chance::Signal(NET)],
            vec![Chance::Rung(NET)],
        ),
        (
            fault(Action::IrqLost),
            vec![Chance::Signal(NET)],
            vec![Chance::Rung(NET)],
        ),
        (
            fault(Action::IrqSpurious),
            vec![Chance::Crossed(NET)],
            vec![Chance::Signal(NET)],
        ),
        (disk(eio, None, None), vec![write, read, flush], vec![DOWN]),
        (
            disk(eio, Some(DiskOp::Read), None),
            vec![read],
            vec![write, flush],
        ),
        (disk(eio, None, Some((107, 107))), vec![write, read], vec![flush]),
        (disk(eio, None, Some((0, 100))), vec![write], vec![]),
        (
            disk(eio, None, Some((108, 200))),
            vec![],
            vec![write, read, flush],
        ),
        (disk(eio, None, Some((0, 99))), vec![], vec![write, read, flush]),
        (
            disk(DiskFault::Enospc, None, None),
            vec![write, flush],
            vec![read],
        ),
        (
            disk(DiskFault::ShortWrite, None, None),
            vec![write],
            vec![read, flush],
        ),
        (
            Fault {
                channel: Some(NET),
                ..fault(Action::Kill { at: Point::Taken })
            },
            vec![Chance::Point(Point::Taken, Some(NET))],
            vec![
                Chance::Point(Point::Taken, Some(DISK)),
                Chance::Point(Point::Pushed, Some(NET)),
            ],
        ),
    ] {
        for chance in hits {
            assert_eq!(armed(fault).chance(chance).len(), 1, "{fault:?} at {chance:?}");
        }
        for chance in misses {
            let mut armed = armed(fault);
            assert_eq!(armed.chance(chance), [], "{fault:?} at {chance:?}");
            assert_eq!(armed.progress()[0].passes, 0, "and it is no chance of it");
        }
    }
}

#[test]
fn a_new_set_keeps_the_progress_of_what_stays() {
    let mut armed = Armed::default();
    armed.set(vec![
        order(1, fault(Action::Drop)),
        order(2, fault(Action::Reorder)),
    ]);
    armed.chance(DOWN);
    armed.set(vec![
        order(2, fault(Action::Reorder)),
        order(3, fault(Action::Duplicate)),
    ]);
    let progress: Vec<_> = armed.progress().iter().map(|p| (p.order, p.struck)).collect();
    assert_eq!(progress, [(2, 1), (3, 0)]);
    armed.set(vec![]);
    assert!(!armed.is_live());
}

#[test]
fn injections_are_told_one_by_one_and_a_flood_of_them_added_up() {
    let corrupt = fault(Action::Corrupt {
        part: Part::Payload,
        bits: 1,
    });
    let mut armed = Armed::default();
    armed.set(vec![
        order(1, corrupt),
        order(
            2,
            Fault {
                count: Some(2),
                ..corrupt
            },
        ),
    ]);
    for _ in 0..1000 {
        armed.chance(DOWN);
    }
    let news = armed.news();
    assert_eq!(news.len(), MAX_NEWS);
    let total = |id| {
        news.iter()
            .filter(|news| news.order == id)
            .map(|news| news.times)
            .sum::<u64>()
    };
    assert_eq!((total(1), total(2)), (1000, 2));
    assert_eq!(news.last().unwrap().pass, 1000);
    armed.told();
    assert!(armed.news().is_empty());
}

#[test]
fn dice_fall_on_every_side_and_below_nothing_on_zero() {
    let mut seen = [0; 6];
    for pass in 0..6000 {
        seen[Dice::new(1, "drop", pass).below(6) as usize] += 1;
    }
    assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    assert_eq!(Dice::new(1, "drop", 1).below(0), 0);
}
