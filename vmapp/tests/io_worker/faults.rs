//! Scripted faults in a real worker process: what each does to what crosses, that every point is passed and can be died at,
//! and that the same seed and the same traffic meet the same faults.

use super::{LONG, SECTOR, SECTORS, Supervisor, done, done_at_last, next, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};
use shared::abi::CONTROL_CHANNEL;
use shared::abi::counters::AppCounter;
use shared::msg::control::{Down as Call, Up as Answer};
use shared::msg::disk::{Completion, Down, Request, Status};
use shared::msg::fault::{Injection, MAX_ORDERS, Order, Point, Scope, Target};
use shared::msg::handover::{ConsoleSpec, FdRole, FromApp, NetBackSpec, ToApp};
use shared::msg::{console, net};
use shared::spec::CONSOLE_CHANNEL;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vmapp::fault::spec::Spec;
use vmdriver_shim::channel::Channel;
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::spawn::{Child, Death};
use zerocopy::{FromBytes, IntoBytes};

/// Orders of these texts, numbered from `first`.
fn orders(first: u32, texts: &[&str]) -> Vec<Order> {
    let read = |text: &&str| match text.parse() {
        Ok(Spec::Arm(fault)) => fault,
        other => panic!("{text}: {other:?}"),
    };
    (first..)
        .zip(texts.iter().map(read))
        .map(|(id, fault)| Order {
            id,
            fault,
            passes: 0,
            struck: 0,
        })
        .collect()
}

fn nat() -> Vec<NetBackSpec> {
    vec![NetBackSpec::Nat {
        network: (Ipv4Addr::new(10, 0, 2, 0), 24),
        dns: vec![],
        forwards: vec![],
    }]
}

/// A worker and what it has said.
struct Worker {
    child: Child,
    socket: Socket,
    words: Vec<FromApp>,
    armed: u32,
}

impl Worker {
    fn start(supervisor: &Supervisor, texts: &[&str]) -> Self {
        let (child, socket) = supervisor.spawn(nat(), orders(1, texts));
        Self {
            child,
            socket,
            words: Vec::new(),
            armed: MAX_ORDERS as u32,
        }
    }

    /// Serving, with nothing armed.
    fn ready(supervisor: &Supervisor) -> Self {
        let mut worker = Self::start(supervisor, &[]);
        worker.wait_for(|words| words.contains(&FromApp::Ready));
        worker
    }

    /// From now on these are armed, and no others; the worker has taken note.
    fn arm(&mut self, texts: &[&str]) {
        self.armed += MAX_ORDERS as u32;
        self.set(orders(self.armed, texts));
        self.words.clear();
    }

    fn set(&mut self, orders: Vec<Order>) {
        self.socket.send(&ToApp::Faults(orders.clone()), &[]).unwrap();
        self.wait_for(|words| {
            words.iter().any(|word| match word {
                FromApp::Injected { progress, .. } => progress
                    .iter()
                    .map(|told| told.order)
                    .eq(orders.iter().map(|order| order.id)),
                _ => false,
            })
        });
    }

    fn hear(&mut self) {
        while let Received::Message(word, _) = self.socket.recv().unwrap() {
            self.words.push(word);
        }
    }

    fn wait_for(&mut self, condition: impl Fn(&[FromApp]) -> bool) {
        let begun = Instant::now();
        loop {
            self.hear();
            if condition(&self.words) {
                return;
            }
            assert!(begun.elapsed() < LONG, "only {:?}", self.words);
            self.socket.wait(Duration::from_millis(100)).unwrap();
        }
    }

    /// What it has told of its injections.
    fn injections(&self) -> Vec<Injection> {
        let told = self.words.iter().filter_map(|word| match word {
            FromApp::Injected { injections, .. } => Some(injections.clone()),
            _ => None,
        });
        told.flatten().collect()
    }

    fn wait_injected(&mut self, times: u64) {
        self.wait_for(|words| {
            let told = words.iter().filter_map(|word| match word {
                FromApp::Injected { injections, .. } => Some(injections),
                _ => None,
            });
            told.flatten().map(|injection| injection.times).sum::<u64>() >= times
        });
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.pid().cast_signed())
    }
}

fn call(control: &mut Channel, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        control.push(Call::Echo as u16, id, &[id as u8; 8]).unwrap();
    }
    control.flush().unwrap();
}

/// The answers up to that to `last`.
fn answers(control: &mut Channel, last: u64) -> Vec<(u64, Vec<u8>)> {
    let mut answers = Vec::new();
    loop {
        let (kind, id, payload) = next(control);
        assert_eq!(kind, Answer::EchoReply as u16);
        answers.push((id, payload));
        if id == last {
            return answers;
        }
    }
}

fn ids(answers: &[(u64, Vec<u8>)]) -> Vec<u64> {
    answers.iter().map(|(id, _)| *id).collect()
}

/// Every slot of the down ring has come back.
fn all_given_back(channel: &mut Channel) {
    let begun = Instant::now();
    loop {
        channel.credit().unwrap();
        if channel.in_flight() == 0 {
            return;
        }
        assert!(begun.elapsed() < LONG, "{} slots are gone", channel.in_flight());
        std::thread::yield_now();
    }
}

fn request(disk: &mut Channel, id: u64, kind: Down, lba: u64, sectors: u32, byte: u8) {
    let request = Request {
        lba,
        sectors,
        reserved: 0,
    };
    let data = match kind {
        Down::Write => vec![byte; sectors as usize * SECTOR],
        Down::Read | Down::Flush => vec![],
    };
    disk.push(kind as u16, id, &[request.as_bytes(), &data].concat())
        .unwrap();
    disk.flush().unwrap();
}

/// The next completion: id, status, sectors that are right.
fn end(disk: &mut Channel) -> (u64, Status, u32) {
    let (_, id, payload) = next(disk);
    let (completion, _) = Completion::read_from_prefix(&payload).unwrap();
    (id, Status::from_shared(completion.status), completion.sectors)
}

fn first_bytes(folder: &Path, sectors: std::ops::Range<u64>) -> Vec<u8> {
    let file = File::open(folder.join("raw")).unwrap();
    sectors
        .map(|lba| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, lba * SECTOR as u64).unwrap();
            byte[0]
        })
        .collect()
}

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

impl Worker {
    fn hear_to_the_end(&mut self) {
        while let Ok(Received::Message(word, _)) = self.socket.recv() {
            self.words.push(word);
        }
    }

    /// Passes and strikes of an order, as last told.
    fn progress(&self, order: u32) -> (u64, u64) {
        let told = self.words.iter().rev().find_map(|word| match word {
            FromApp::Injected { progress, .. } => progress.iter().find(|told| told.order == order),
            _ => None,
        });
        told.map(|told| (told.passes, told.struck)).unwrap()
    }
}

/// One of everything, in both directions.
struct Traffic {
    control: Channel,
    console: Channel,
    net: Channel,
    disk: Channel,
    typed: File,
    printed: File,
}

impl Traffic {
    fn new(supervisor: &mut Supervisor) -> Self {
        let (input, typed) = pipe().unwrap();
        let (printed, output) = pipe().unwrap();
        supervisor.console = ConsoleSpec::Stream;
        let fds: [(FdRole, OwnedFd); 2] = [(FdRole::ConsoleIn, input), (FdRole::ConsoleOut, output)];
        supervisor.fds.extend(fds);
        Self {
            control: supervisor.channel(CONTROL_CHANNEL),
            console: supervisor.channel(CONSOLE_CHANNEL),
            net: supervisor.channel(spec().net_channel(0)),
            disk: supervisor.channel(spec().disk_channel(0)),
            typed: typed.into(),
            printed: printed.into(),
        }
    }

    fn send(&mut self) {
        call(&mut self.control, [1]);
        self.console
            .push(console::Down::Output as u16, 0, b"hello\n")
            .unwrap();
        self.console.flush().unwrap();
        self.typed.write_all(b"in").unwrap();
        self.net.push(net::Down::Frame as u16, 1, &arp()).unwrap();
        self.net.flush().unwrap();
        request(&mut self.disk, 1, Down::Write, 0, 8, 7);
        request(&mut self.disk, 2, Down::Read, 0, 8, 0);
        request(&mut self.disk, 3, Down::Flush, 0, 0, 0);
    }

    /// What must come whoever died.
    fn receive(&mut self) {
        assert_eq!(done_at_last(&mut self.disk, 3).0, 3);
        answers(&mut self.control, 1);
        let mut hello = [0; 6];
        self.printed.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello\n");
        for channel in [
            &mut self.control,
            &mut self.console,
            &mut self.net,
            &mut self.disk,
        ] {
            all_given_back(channel);
        }
    }
}

/// "Who has 10.0.2.2?", which the router answers.
fn arp() -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 1];
    let mut frame = [
        &[0xff; 6][..],
        &mac,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &mac,
        &[10, 0, 2, 15],
    ]
    .concat();
    frame.extend([0; 6]);
    frame.extend([10, 0, 2, 2]);
    frame.resize(60, 0);
    frame
}

#[test]
fn a_worker_may_die_at_every_point_of_every_channel_and_the_next_one_goes_on() {
    let channels = [Target::Control, Target::Console, Target::Net(0), Target::Disk(0)];
    for &point in Point::ALL {
        let scope = point.facts().scope;
        let mut places: Vec<String> = channels
            .into_iter()
            .filter(|&channel| scope.has(channel))
            .map(|channel| format!(" channel={channel}"))
            .collect();
        if scope == Scope::Worker {
            places.push(String::new());
        }
        for place in places {
            dies_at(point, &place);
        }
    }
}

fn dies_at(point: Point, place: &str) {
    let text = format!("kill at={}{place}", point.name());
    let folder = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::new(folder.path());
    let mut traffic = Traffic::new(&mut supervisor);
    traffic.send();
    let mut worker = Worker::start(&supervisor, &[&text]);
    let begun = Instant::now();
    let death = loop {
        if let Some(death) = worker.child.try_wait() {
            break death;
        }
        assert!(begun.elapsed() < LONG, "{text}: nobody passes there");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(death, Death::Signalled(9), "{text}");
    worker.hear_to_the_end();
    assert_eq!(worker.injections().len(), 1, "{text}: told before");
    assert_eq!(
        worker.words.contains(&FromApp::Ready),
        point != Point::Attached,
        "{text}"
    );
    drop(worker);

    let worker = Worker::ready(&supervisor);
    traffic.receive();
    assert_eq!(first_bytes(folder.path(), 0..8), [7; 8], "{text}");
    let count = |counter| supervisor.crossing.app_counters().get(counter);
    let lost = count(AppCounter::NetTxPossiblyLost);
    // Taken is sent, dropped or possibly lost.
    let begun = Instant::now();
    while count(AppCounter::NetTxTaken) != count(AppCounter::NetTx) + count(AppCounter::NetTxDropped) + lost {
        assert!(begun.elapsed() < LONG, "{text}");
    }
    if matches!(point, Point::TxFrame | Point::TxSent) {
        assert_eq!((lost, count(AppCounter::NetTx)), (1, 0), "{text}");
    }
    drop(worker);
}

#[test]
fn a_worker_that_stops_at_a_point_of_a_disks_thread_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(folder.path());
    let mut disk = supervisor.channel(spec().disk_channel(0));
    let mut worker = Worker::start(&supervisor, &["stop at=disk-half ms=1"]);
    request(&mut disk, 1, Down::Write, 0, 8, 9);
    worker.wait_for(|words| words.contains(&FromApp::Stopping { ms: 1 }));
    let stat = format!("/proc/{}/stat", worker.pid());
    let begun = Instant::now();
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(begun.elapsed() < LONG, "it does not stop");
    }
    assert_eq!(
        first_bytes(folder.path(), 0..8),
        [9, 9, 9, 9, 0, 0, 0, 0],
        "half is written"
    );
    kill(worker.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(end(&mut disk), (1, Status::Good, 8));
    worker.wait_for(|words| words.contains(&FromApp::Continued));
    assert_eq!(first_bytes(folder.path(), 0..8), [9; 8]);
    assert!(SECTORS > 8);
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
