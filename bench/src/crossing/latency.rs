//! Half the time of a round trip between two processes that do nothing else.

use super::peer::{BytesEnd, PAYLOAD, Peer, RingEnd, Task, Waiting};
use super::{Cores, Effort, bind};
use crate::Outcome;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One row of the table.
pub struct Case {
    /// Whose it is: ours, or the host's to compare with.
    pub machine: &'static str,
    /// Its name in the report.
    pub name: &'static str,
    how: How,
}

enum How {
    Ring(Waiting),
    Call(Waiting),
    Pipe,
    Seqpacket,
    Eventfd,
    Futex,
    Word,
}

/// What is measured.
pub const CASES: &[Case] = &[
    case("ring, spinning, no doorbells", How::Ring(Waiting::Spin)),
    case(
        "ring, spin, then sleep",
        How::Ring(Waiting::Sleep { spin_us: 50 }),
    ),
    case("ring, sleeping", How::Ring(Waiting::Sleep { spin_us: 0 })),
    case("ring, notify = select", How::Ring(Waiting::Select)),
    case(
        "synchronous call, spin, then sleep (whole)",
        How::Call(Waiting::Sleep { spin_us: 50 }),
    ),
    case(
        "synchronous call, sleeping (whole)",
        How::Call(Waiting::Sleep { spin_us: 0 }),
    ),
    case("eventfd", How::Eventfd),
    case("futex (std park)", How::Futex),
    case("pipe", How::Pipe),
    case("Unix socket (SEQPACKET)", How::Seqpacket),
    case("word in shared memory, spinning", How::Word),
];

const fn case(name: &'static str, how: How) -> Case {
    let machine = match how {
        How::Ring(_) | How::Call(_) => "worldswitch",
        How::Pipe | How::Seqpacket | How::Eventfd | How::Futex | How::Word => "host",
    };
    Case { machine, name, how }
}

/// Nanoseconds of each repeat of a case; `None` where it makes no sense: two that spin on one core only wait for the scheduler.
pub fn measure(case: &Case, cores: Cores, effort: Effort) -> Outcome<Option<Vec<f64>>> {
    let one_way = |round_trips: Vec<f64>| round_trips.into_iter().map(|ns| ns / 2.0).collect();
    let repeats = match case.how {
        How::Ring(Waiting::Spin) | How::Word if cores.shared() => return Ok(None),
        How::Ring(waiting) => {
            let (mut end, _peer) = RingEnd::stream(cores, waiting, Task::Echo)?;
            repeat(effort, || {
                end.send(&[7; PAYLOAD])?;
                end.recv(1)?;
                Ok(())
            })
            .map(one_way)?
        }
        How::Call(waiting) => {
            let (mut end, _peer) = RingEnd::control(cores, waiting)?;
            let mut id = 0;
            repeat(effort, || {
                id += 1;
                let deadline = Instant::now() + Duration::from_secs(10);
                end.channel.call(1, id, &[7; PAYLOAD], deadline)?;
                Ok(())
            })?
        }
        How::Futex => in_turns(cores, effort, std::thread::park, Thread::unpark).map(one_way)?,
        How::Word => in_turns(cores, effort, std::hint::spin_loop, |_| {}).map(one_way)?,
        How::Pipe | How::Seqpacket | How::Eventfd => {
            let (mut end, _peer) = descriptors(&case.how, cores)?;
            repeat(effort, || {
                end.send()?;
                end.recv(1)?;
                Ok(())
            })
            .map(one_way)?
        }
    };
    Ok(Some(repeats))
}

/// Warms up, finds how many round trips fill the time of a repeat, and does the repeats. Nanoseconds a round trip.
fn repeat(effort: Effort, mut round_trip: impl FnMut() -> Outcome<()>) -> Outcome<Vec<f64>> {
    let mut timed = |trips: u64| -> Outcome<f64> {
        let start = Instant::now();
        for _ in 0..trips {
            round_trip()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / trips as f64)
    };
    timed(100)?;
    let each = timed(200)?.max(1.0);
    let trips = (effort.repeat.as_nanos() as f64 / each).clamp(100.0, 1e6) as u64;
    (0..effort.repeats).map(|_| timed(trips)).collect()
}

fn descriptors(how: &How, cores: Cores) -> Outcome<(BytesEnd, Peer)> {
    let (ours, theirs, len) = match how {
        How::Eventfd => {
            let (there, back): (OwnedFd, OwnedFd) = (EventFd::new()?.into(), EventFd::new()?.into());
            ((back.try_clone()?, there.try_clone()?), (there, back), 8)
        }
        How::Seqpacket => {
            let (a, b) = socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )?;
            ((a.try_clone()?, a), (b.try_clone()?, b), PAYLOAD)
        }
        _ => {
            let (there, back) = (pipe()?, pipe()?);
            ((back.0, there.1), (there.0, back.1), PAYLOAD)
        }
    };
    BytesEnd::with_peer(cores, ours, theirs, len, Task::Echo)
}

/// Two threads that take turns at a word, and wait and wake as told; parking is on Linux one futex wait and one futex wake
/// each way.
fn in_turns(cores: Cores, effort: Effort, wait: fn(), wake: fn(&Thread)) -> Outcome<Vec<f64>> {
    bind(&[cores.ours])?;
    let turn = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let us = std::thread::current();
    let other = std::thread::spawn({
        let (turn, done) = (turn.clone(), done.clone());
        move || {
            let bound = bind(&[cores.theirs]).is_ok();
            while !done.load(Ordering::Acquire) {
                if turn.load(Ordering::Acquire) % 2 == 1 {
                    turn.fetch_add(1, Ordering::AcqRel);
                    wake(&us);
                } else {
                    wait();
                }
            }
            bound
        }
    });
    let repeats = repeat(effort, || {
        turn.fetch_add(1, Ordering::AcqRel);
        wake(other.thread());
        while turn.load(Ordering::Acquire) % 2 == 1 {
            wait();
        }
        Ok(())
    });
    done.store(true, Ordering::Release);
    other.thread().unpark();
    match other.join() {
        Ok(true) => repeats,
        _ => Err("the other thread of the measurement failed".into()),
    }
}
