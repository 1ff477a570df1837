//! Scripted faults in a real worker process: what each does to what crosses, and that the same seed and the same traffic
//! meet the same faults.

use super::armed::{Worker, all_given_back, answers, arp, call, end, first_bytes, ids, nat, orders, request};
use super::{LONG, Supervisor, done, next, spec};
use nix::sys::signal::{Signal, kill};
use shared::abi::CONTROL_CHANNEL;
use shared::abi::counters::AppCounter;
use shared::msg::control::Up as Answer;
use shared::msg::disk::{Down, Status};
use shared::msg::handover::ToApp;
use shared::msg::net;
use std::time::{Duration, Instant};
use vmdriver_shim::channel::Channel;
use vmdriver_shim::spawn::Death;

#[test]
fn messages_are_lost_doubled_swapped_and_cut_as_told_and_no_slot_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut control = supervisor.channel(CONTROL_CHANNEL);
    let mut worker = Worker::ready(&supervisor);
    for (text, struck, expected) in [
        ("drop dir=down every=2 count=2", 2, vec![1, 3, 5, 6]),
        ("drop dir=up every=3 count=1", 1, vec![1, 2, 4, 5, 6]),
        ("duplicate dir=down every=2 count=1", 1, vec![1, 2, 2, 3, 4, 5, 6]),
        (
            "duplicate dir=up every=2 count=2",
            2,
            vec![1, 2, 2, 3, 4, 4, 5, 6],
        ),
        ("reorder dir=down after=1 count=1", 1, vec![1, 3, 2, 4, 5, 6]),
        ("reorder dir=up after=1 count=1", 1, vec![1, 3, 2, 4, 5, 6]),
        ("reorder channel=disk0", 0, vec![1, 2, 3, 4, 5, 6]),
    ] {
        worker.arm(&[text]);
        call(&mut control, 1..=6);
        let answers = answers(&mut control, 6);
        assert_eq!(ids(&answers), expected, "{text}");
        assert!(
            answers.iter().all(|(id, payload)| *payload == [*id as u8; 8]),
            "{text}"
        );
        worker.wait_injected(struck);
        all_given_back(&mut control);
    }
    for (text, lengths) in [
        ("truncate dir=down after=1 count=1", [8, 4, 8]),
        ("truncate to=3 dir=up after=1 count=1", [8, 3, 8]),
        ("truncate to=99 dir=up after=1 count=1", [8, 8, 8]),
    ] {
        worker.arm(&[text]);
        call(&mut control, 1..=3);
        let answers = answers(&mut control, 3);
        assert_eq!(
            answers
                .iter()
                .map(|(_, payload)| payload.len())
                .collect::<Vec<_>>(),
            lengths,
            "{text}"
        );
        all_given_back(&mut control);
    }
}

#[test]
fn as_many_bits_are_flipped_as_told_in_the_part_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut control = supervisor.channel(CONTROL_CHANNEL);
    let mut worker = Worker::ready(&supervisor);
    for (text, bits) in [
        ("corrupt dir=up count=1", 1),
        ("corrupt dir=down count=1 bits=5", 5),
        ("corrupt dir=up count=1 bits=64", 64),
    ] {
        worker.arm(&[text]);
        call(&mut control, [1]);
        let (_, payload) = &answers(&mut control, 1)[0];
        let flipped: u32 = payload.iter().map(|byte| (byte ^ 1).count_ones()).sum();
        assert_eq!(flipped, bits, "{text}");
    }
    worker.arm(&["corrupt part=header dir=up count=1 bits=3"]);
    call(&mut control, [0]);
    let begun = Instant::now();
    let mut payload = Vec::new();
    let header = loop {
        if let Some(header) = control.next(&mut payload).unwrap() {
            control.release(1).unwrap();
            break header;
        }
        assert!(begun.elapsed() < LONG);
    };
    let flipped = (header.kind ^ Answer::EchoReply as u16).count_ones()
        + header.flags.count_ones()
        + header.id.count_ones();
    assert_eq!((flipped, payload), (3, vec![0; 8]));
}

#[test]
fn late_messages_keep_their_order_and_a_stall_holds_all() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut control = supervisor.channel(CONTROL_CHANNEL);
    let mut worker = Worker::ready(&supervisor);
    for (text, at_least) in [
        ("delay ms=150 dir=down", 150),
        ("delay ms=150 dir=up", 150),
        ("delay ms=100", 200),
        ("stall ms=150 dir=down count=1", 150),
        ("stall ms=150 dir=up after=2 count=1", 150),
    ] {
        worker.arm(&[text]);
        let begun = Instant::now();
        call(&mut control, 1..=9);
        assert_eq!(ids(&answers(&mut control, 9)), Vec::from_iter(1..=9), "{text}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(at_least), "{text}: {took:?}");
        // One after the other it would be nine times as long.
        assert!(took < Duration::from_millis(at_least * 6), "{text}: {took:?}");
        all_given_back(&mut control);
    }
    // Taken off, what is held up goes on.
    worker.arm(&["delay ms=600000 count=1"]);
    call(&mut control, [1]);
    worker.wait_injected(1);
    worker.arm(&[]);
    assert_eq!(ids(&answers(&mut control, 1)), [1]);
}

#[test]
fn lost_and_spurious_signals_are_that_and_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut control = supervisor.channel(CONTROL_CHANNEL);
    let crossing = supervisor.crossing.clone();
    let mut worker = Worker::ready(&supervisor);
    call(&mut control, [7]);
    answers(&mut control, 7);
    let mut payload = Vec::new();
    // The start's own signals of other channels.
    let seen = |bit: u8| crossing.look() >> bit & 1 != 0;
    let settle = |worker: &mut Worker, texts: &[&str]| {
        worker.arm(texts);
        crossing.look();
    };

    settle(&mut worker, &["irq-lost channel=control count=1"]);
    call(&mut control, [1]);
    worker.wait_injected(1);
    assert!(!seen(CONTROL_CHANNEL), "published, and not said");
    assert_eq!(control.next(&mut payload).unwrap().unwrap().id, 1);
    control.release(1).unwrap();

    settle(&mut worker, &["doorbell-lost dir=up channel=control count=1"]);
    let rung = crossing.app_counters().get(AppCounter::DoorbellsRung);
    call(&mut control, [2]);
    let slept = Instant::now();
    while slept.elapsed() < Duration::from_millis(200) {
        crossing.sleep(Some(Duration::from_millis(200)), &[]).unwrap();
        if crossing.any() {
            break;
        }
    }
    worker.wait_injected(1);
    assert_eq!(crossing.app_counters().get(AppCounter::DoorbellsRung), rung);
    assert!(seen(CONTROL_CHANNEL), "said, and nobody woken");
    assert_eq!(ids(&answers(&mut control, 2)), [2]);

    settle(
        &mut worker,
        &[
            "drop channel=control dir=down count=1",
            "irq-spurious channel=control count=1",
        ],
    );
    call(&mut control, [3]);
    worker.wait_injected(2);
    assert!(seen(CONTROL_CHANNEL));
    assert_eq!(control.next(&mut payload).unwrap(), None);
    all_given_back(&mut control);

    settle(&mut worker, &["doorbell-lost dir=down channel=control count=1"]);
    call(&mut control, [4]);
    worker.wait_injected(1);
    assert_eq!(control.next(&mut payload).unwrap(), None, "it did not look");
    call(&mut control, [5]);
    assert_eq!(ids(&answers(&mut control, 5)), [4, 5]);
    all_given_back(&mut control);
}

#[test]
fn a_lost_doorbell_costs_a_heartbeat_at_most() {
    let heartbeat = Duration::from_millis(200);
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor {
        heartbeat_ms: Some(200),
        ..Supervisor::new(folder.path())
    };
    let mut control = supervisor.channel(CONTROL_CHANNEL);
    let mut worker = Worker::ready(&supervisor);
    call(&mut control, [1]);
    assert_eq!(ids(&answers(&mut control, 1)), [1]);

    worker.arm(&["doorbell-lost dir=down channel=control count=1"]);
    let rung = Instant::now();
    call(&mut control, [2]);
    worker.wait_injected(1);
    assert_eq!(ids(&answers(&mut control, 2)), [2], "nobody rang again");
    assert!(rung.elapsed() >= heartbeat, "it was not lost");
    all_given_back(&mut control);
}

#[test]
fn a_request_that_is_slow_on_purpose_goes_on_when_all_faults_are_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor {
        heartbeat_ms: Some(50),
        ..Supervisor::new(folder.path())
    };
    let mut disk = supervisor.channel(spec().disk_channel(0));
    let mut worker = Worker::ready(&supervisor);
    worker.arm(&["disk-error error=slow ms=600000 channel=disk0"]);
    request(&mut disk, 1, Down::Write, 0, 8, 1);
    worker.wait_injected(1);
    worker.arm(&[]);
    assert_eq!(end(&mut disk), (1, Status::Good, 8));
}

#[test]
fn a_disk_fails_as_told_and_the_guest_hears_at_which_sector() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut disk = supervisor.channel(spec().disk_channel(0));
    let mut worker = Worker::ready(&supervisor);
    let mut id = 0;
    let mut ask = |disk: &mut Channel, kind, lba, sectors, byte| {
        id += 1;
        request(disk, id, kind, lba, sectors, byte);
        let end = end(disk);
        assert_eq!(end.0, id);
        (end.1, end.2)
    };
    let strike = |worker: &mut Worker, text: &str| worker.arm(&[text]);

    strike(
        &mut worker,
        "disk-error error=EIO op=read lba=5-100 channel=disk0",
    );
    assert_eq!(ask(&mut disk, Down::Write, 0, 8, 1), (Status::Good, 8));
    assert_eq!(ask(&mut disk, Down::Read, 0, 5, 0), (Status::Good, 5));
    assert_eq!(ask(&mut disk, Down::Read, 0, 8, 0), (Status::Medium, 5));
    assert_eq!(ask(&mut disk, Down::Read, 6, 2, 0), (Status::Medium, 0));

    strike(&mut worker, "disk-error error=ENOSPC lba=3 count=1");
    assert_eq!(
        ask(&mut disk, Down::Read, 0, 8, 0),
        (Status::Good, 8),
        "reads need no room"
    );
    assert_eq!(ask(&mut disk, Down::Write, 0, 8, 2), (Status::Medium, 3));
    assert_eq!(first_bytes(folder.path(), 0..8), [2, 2, 2, 1, 1, 1, 1, 1]);
    assert_eq!(
        ask(&mut disk, Down::Write, 0, 8, 3),
        (Status::Good, 8),
        "the next has room"
    );

    strike(&mut worker, "disk-error error=short-write count=2");
    assert_eq!(ask(&mut disk, Down::Write, 0, 8, 4), (Status::Medium, 4));
    assert_eq!(first_bytes(folder.path(), 0..8), [4, 4, 4, 4, 3, 3, 3, 3]);
    assert_eq!(ask(&mut disk, Down::Write, 0, 1, 5), (Status::Medium, 0));

    strike(&mut worker, "disk-error error=slow ms=120 op=write count=1");
    let begun = Instant::now();
    assert_eq!(ask(&mut disk, Down::Write, 0, 1, 6), (Status::Good, 1));
    assert!(begun.elapsed() >= Duration::from_millis(120));

    strike(&mut worker, "disk-error error=EIO op=flush count=1");
    assert_eq!(ask(&mut disk, Down::Flush, 0, 0, 0).0, Status::Medium);
    worker.wait_injected(1);
    assert_eq!(
        ask(&mut disk, Down::Flush, 0, 0, 0).0,
        Status::Medium,
        "lost is lost"
    );
    assert_eq!(ask(&mut disk, Down::Read, 0, 1, 0), (Status::Good, 1));
}

#[test]
fn a_request_is_given_back_with_its_answer_and_not_before_unless_that_is_lost_on_purpose() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut disk = supervisor.channel(spec().disk_channel(0));
    for text in [
        "delay ms=600000 dir=up channel=disk0",
        "stall ms=600000 dir=up channel=disk0",
        "delay ms=600000 dir=down channel=disk0",
        "reorder dir=down after=1 count=1 channel=disk0",
        "duplicate channel=disk0",
    ] {
        let mut worker = Worker::start(&supervisor, &[text]);
        let base = disk.in_flight();
        assert_eq!(base, 0, "{text}");
        for id in 1..=4 {
            request(&mut disk, id, Down::Write, id, 1, id as u8);
        }
        worker.wait_injected(1);
        kill(worker.pid(), Signal::SIGKILL).unwrap();
        drop(worker);
        // Whatever was answered before, every one of them is answered at last.
        let worker = Worker::ready(&supervisor);
        let mut answered = [false; 4];
        while answered != [true; 4] {
            let (id, status, _) = done(&mut disk);
            assert_eq!(status, Status::Good);
            answered[id as usize - 1] = true;
        }
        all_given_back(&mut disk);
        drop(worker);
        // Answers the last worker may still have given twice.
        let mut payload = Vec::new();
        while disk.next(&mut payload).unwrap().is_some() {
            disk.release(1).unwrap();
        }
    }
    let mut worker = Worker::start(&supervisor, &["drop dir=up channel=disk0 count=1"]);
    request(&mut disk, 1, Down::Write, 1, 1, 1);
    worker.wait_injected(1);
    all_given_back(&mut disk);
    request(&mut disk, 2, Down::Write, 1, 1, 1);
    assert_eq!(done(&mut disk).0, 2, "the first is lost for good");
}

#[test]
fn the_same_seed_and_traffic_meet_the_same_faults_again_and_another_seed_others() {
    let run = |seed: u32, restart: bool| {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::new(folder.path());
        let mut control = supervisor.channel(CONTROL_CHANNEL);
        let text = format!("corrupt dir=up rate=0.3 bits=3 seed={seed} channel=control");
        let mut worker = Worker::start(&supervisor, &[&text]);
        let mut answered = Vec::new();
        for id in 1..=100 {
            call(&mut control, [id]);
            answered.extend(answers(&mut control, id));
            if restart && id == 40 {
                all_given_back(&mut control);
                let mut both = orders(1, &[&text, "kill at=turn"]);
                worker.socket.send(&ToApp::Faults(both.clone()), &[]).unwrap();
                assert_eq!(worker.child.wait(), Death::Signalled(9));
                worker.hear_to_the_end();
                (both[0].passes, both[0].struck) = worker.progress(1);
                both.truncate(1);
                let (child, socket) = supervisor.spawn(nat(), both);
                worker = Worker {
                    child,
                    socket,
                    words: Vec::new(),
                    armed: 0,
                };
            }
        }
        answered
    };
    let first = run(5, false);
    assert_eq!(first, run(5, false));
    assert_eq!(first, run(5, true), "over a worker's death");
    assert_ne!(first, run(6, false));
    let corrupted = first
        .iter()
        .filter(|(id, payload)| *payload != [*id as u8; 8])
        .count();
    assert!((15..45).contains(&corrupted), "{corrupted} of 100");
}

#[test]
fn a_frame_that_waits_in_a_stall_is_not_taken_for_stale() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut net = supervisor.channel(spec().net_channel(0));
    let mut worker = Worker::start(&supervisor, &["stall ms=200 dir=up channel=net0 count=1"]);
    let begun = Instant::now();
    for id in 1..=5 {
        net.push(net::Down::Frame as u16, id, &arp()).unwrap();
    }
    net.flush().unwrap();
    let mut frames = 0;
    while frames < 5 {
        frames += u32::from(next(&mut net).0 == net::Up::Frame as u16);
    }
    assert!(begun.elapsed() >= Duration::from_millis(200));
    worker.wait_injected(1);
    let counters = supervisor.crossing.app_counters();
    assert_eq!(counters.get(AppCounter::NetRxNoCredit), 0);
    assert_eq!(counters.get(AppCounter::NetTx), 5);
}
