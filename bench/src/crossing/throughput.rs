//! Time a message takes in a stream that never pauses, answered once at its end.

use super::peer::{BytesEnd, PAYLOAD, RingEnd, Task, Waiting};
use super::{Cores, Effort};
use crate::Outcome;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe;
use shared::abi::counters::VmmCounter;
use std::time::Instant;

/// A full Ethernet frame without checksum.
const FRAME: usize = 1514;

/// One row of the table.
pub struct Case {
    /// Whose it is: ours, or the host's to compare with.
    pub machine: &'static str,
    /// Its name in the report.
    pub name: &'static str,
    how: How,
}

enum How {
    Ring {
        waiting: Waiting,
        len: usize,
        /// Messages a publication.
        batch: u32,
    },
    Pipe(usize),
    Seqpacket(usize),
}

/// What a stream costs.
pub struct Flow {
    /// Nanoseconds a message, of each repeat.
    pub each: Vec<f64>,
    /// Doorbells our side rang, a message.
    pub doorbells: Option<f64>,
}

const SLEEP: Waiting = Waiting::Sleep { spin_us: 0 };
const SPIN_SLEEP: Waiting = Waiting::Sleep { spin_us: 50 };

/// What is measured.
pub const CASES: &[Case] = &[
    ring("ring, 64 bytes, spinning", Waiting::Spin, PAYLOAD, 1),
    ring(
        "ring, 64 bytes, spinning, 16 a publication",
        Waiting::Spin,
        PAYLOAD,
        16,
    ),
    ring("ring, 64 bytes, spin, then sleep", SPIN_SLEEP, PAYLOAD, 1),
    ring("ring, 64 bytes, sleeping", SLEEP, PAYLOAD, 1),
    ring("ring, 64 bytes, sleeping, 16 a publication", SLEEP, PAYLOAD, 16),
    ring("ring, 64 bytes, notify = select", Waiting::Select, PAYLOAD, 1),
    ring("ring, 1514 bytes, spinning", Waiting::Spin, FRAME, 1),
    ring("ring, 1514 bytes, spin, then sleep", SPIN_SLEEP, FRAME, 1),
    of_the_host("pipe, 64 bytes", How::Pipe(PAYLOAD)),
    of_the_host("pipe, 1514 bytes", How::Pipe(FRAME)),
    of_the_host("Unix socket (SEQPACKET), 64 bytes", How::Seqpacket(PAYLOAD)),
    of_the_host("Unix socket (SEQPACKET), 1514 bytes", How::Seqpacket(FRAME)),
];

const fn ring(name: &'static str, waiting: Waiting, len: usize, batch: u32) -> Case {
    Case {
        machine: "worldswitch",
        name,
        how: How::Ring { waiting, len, batch },
    }
}

const fn of_the_host(name: &'static str, how: How) -> Case {
    Case {
        machine: "host",
        name,
        how,
    }
}

/// Measures a case; `None` where it makes no sense.
pub fn measure(case: &Case, cores: Cores, effort: Effort) -> Outcome<Option<Flow>> {
    let task = Task::Drain(effort.messages);
    match case.how {
        How::Ring {
            waiting: Waiting::Spin,
            ..
        } if cores.shared() => Ok(None),
        How::Ring { waiting, len, batch } => {
            let (mut end, _peer) = RingEnd::stream(cores, waiting, task)?;
            let payload = vec![7; len];
            let rung = |end: &RingEnd| end.channel.crossing().vmm_counters().get(VmmCounter::SwitchNet);
            let before = rung(&end);
            let each = repeat(effort, || {
                for n in 1..=effort.messages {
                    end.push(&payload)?;
                    if n % u64::from(batch) == 0 || n == effort.messages {
                        end.channel.flush()?;
                    }
                }
                end.recv(1)?;
                Ok(())
            })?;
            let messages = effort.messages as f64 * (effort.repeats + 1) as f64;
            let doorbells = (waiting != Waiting::Spin).then(|| (rung(&end) - before) as f64 / messages);
            Ok(Some(Flow { each, doorbells }))
        }
        How::Pipe(len) => {
            let (there, back) = (pipe()?, pipe()?);
            let (mut end, _peer) =
                BytesEnd::with_peer(cores, (back.0, there.1), (there.0, back.1), len, task)?;
            stream(effort, &mut end)
        }
        How::Seqpacket(len) => {
            let (a, b) = socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )?;
            let (ours, theirs) = ((a.try_clone()?, a), (b.try_clone()?, b));
            let (mut end, _peer) = BytesEnd::with_peer(cores, ours, theirs, len, task)?;
            stream(effort, &mut end)
        }
    }
}

fn stream(effort: Effort, end: &mut BytesEnd) -> Outcome<Option<Flow>> {
    let each = repeat(effort, || {
        for _ in 0..effort.messages {
            end.send()?;
        }
        end.recv(1)?;
        Ok(())
    })?;
    Ok(Some(Flow {
        each,
        doorbells: None,
    }))
}

/// One round to warm up, then the repeats. Nanoseconds a message.
fn repeat(effort: Effort, mut round: impl FnMut() -> Outcome<()>) -> Outcome<Vec<f64>> {
    round()?;
    let mut repeats = Vec::with_capacity(effort.repeats);
    for _ in 0..effort.repeats {
        let start = Instant::now();
        round()?;
        repeats.push(start.elapsed().as_nanos() as f64 / effort.messages as f64);
    }
    Ok(repeats)
}
