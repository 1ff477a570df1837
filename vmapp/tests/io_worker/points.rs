//! Every numbered point is passed by ordinary traffic; a worker may die there, or stop, and all goes on.

use super::armed::{Worker, all_given_back, answers, arp, call, end, first_bytes, request};
use super::{LONG, Supervisor, done_at_last, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::pipe;
use shared::abi::CONTROL_CHANNEL;
use shared::abi::counters::AppCounter;
use shared::msg::disk::{Down, Status};
use shared::msg::fault::{Point, Scope, Target};
use shared::msg::handover::{ConsoleSpec, FdRole, FromApp};
use shared::msg::{console, net};
use shared::spec::CONSOLE_CHANNEL;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use vmdriver_shim::channel::Channel;
use vmdriver_shim::spawn::Death;

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

/// Every place of every point: the filter of a fault that is to strike there.
fn places() -> impl Iterator<Item = (Point, String)> {
    let channels = [Target::Control, Target::Console, Target::Net(0), Target::Disk(0)];
    Point::ALL.iter().flat_map(move |&point| {
        let scope = point.facts().scope;
        let there = channels.into_iter().filter(move |&channel| scope.has(channel));
        let everywhere = (scope == Scope::Worker).then(String::new);
        there
            .map(|channel| format!(" channel={channel}"))
            .chain(everywhere)
            .map(move |place| (point, place))
    })
}

#[test]
fn a_worker_may_die_at_every_point_of_every_channel_and_the_next_one_goes_on() {
    places().for_each(|(point, place)| dies_at(point, &place));
}

#[test]
fn a_worker_may_stop_at_every_point_of_every_channel_and_goes_on_itself() {
    places().for_each(|(point, place)| stops_at(point, &place));
}

fn stops_at(point: Point, place: &str) {
    let text = format!("stop at={}{place} ms=1", point.name());
    let folder = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::new(folder.path());
    let mut traffic = Traffic::new(&mut supervisor);
    traffic.send();
    let mut worker = Worker::start(&supervisor, &[&text]);
    worker.wait_for(|words| words.contains(&FromApp::Stopping { ms: 1 }));
    wait_stopped(&worker);
    assert_eq!(worker.injections().len(), 1, "{text}: told before");
    kill(worker.pid(), Signal::SIGCONT).unwrap();
    worker.wait_for(|words| words.contains(&FromApp::Continued));
    traffic.receive();
    assert_eq!(first_bytes(folder.path(), 0..8), [7; 8], "{text}");
    // Nothing is lost by a stop.
    let count = |counter| supervisor.crossing.app_counters().get(counter);
    assert_eq!(count(AppCounter::NetTxPossiblyLost), 0, "{text}");
    assert_eq!(worker.child.try_wait(), None, "{text}");
}

fn wait_stopped(worker: &Worker) {
    let stat = format!("/proc/{}/stat", worker.pid());
    let begun = Instant::now();
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(begun.elapsed() < LONG, "it does not stop");
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
    wait_stopped(&worker);
    assert_eq!(
        first_bytes(folder.path(), 0..8),
        [9, 9, 9, 9, 0, 0, 0, 0],
        "half is written"
    );
    kill(worker.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(end(&mut disk), (1, Status::Good, 8));
    worker.wait_for(|words| words.contains(&FromApp::Continued));
    assert_eq!(first_bytes(folder.path(), 0..8), [9; 8]);
}
