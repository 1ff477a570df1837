//! The workloads, from the near end: what the agent is told to do, and what is seen of it from outside.
//!
//! A stream is timed at both ends; so are round trips. Where the two differ the guest's clock is wrong, and the record shows it.

use super::cost::{Direction, Snapshot, samples};
use crate::Outcome;
use crate::agent::Reception;
use crate::machines::Running;
use crate::record::{Better, Sample};
use crate::stats::Spread;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Longest wait for the agent's connection.
const CONNECT: Duration = Duration::from_secs(60);
/// Longest point that is limited by bytes.
const LONGEST: f64 = 170.0;
/// How much longer than asked for a flood lasts, so that it does not end before the count does.
const LONGER: Duration = Duration::from_millis(200);

/// How long a point is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds of a point.
    pub seconds: f64,
    /// Bytes of a stream, which then ends it, however long that takes.
    pub bytes: Option<u64>,
}

impl Effort {
    fn stream(self) -> (f64, u64) {
        match self.bytes {
            Some(bytes) => (LONGEST, bytes),
            None => (self.seconds, u64::MAX >> 1),
        }
    }
}

/// A workload. The direction is that of the measured machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// A TCP stream by writes of so many bytes; at most so many Mbit/s, if limited.
    Send {
        /// Bytes of a write.
        write: usize,
        /// Mbit/s.
        rate: Option<f64>,
    },
    /// A TCP stream by reads of at most so many bytes, written so by the other end.
    Receive {
        /// Bytes of a write and a read.
        write: usize,
    },
    /// UDP datagrams of so many bytes as fast as they go.
    DatagramsOut(usize),
    /// The same, as fast as the other end sends them.
    DatagramsIn(usize),
    /// One byte there and back over TCP, again and again.
    RoundTrip,
    /// ICMP echo, asked by the host.
    Ping,
    /// Nothing.
    Idle,
}

/// The near end's place in the network.
pub struct Near<'a> {
    /// Where we listen.
    pub host: Ipv4Addr,
    /// Where the machine finds that.
    pub seen: Ipv4Addr,
    /// The machine's own address, where it has one that we reach.
    pub machine: Option<Ipv4Addr>,
    /// busybox, for its ping.
    pub busybox: &'a Path,
}

impl Load {
    /// Its name in records.
    pub fn name(&self) -> String {
        match self {
            Self::Send { write, rate: None } => format!("tcp transmit {write}"),
            Self::Send {
                write,
                rate: Some(rate),
            } => format!("tcp transmit {write} at {rate} Mbit/s"),
            Self::Receive { write } => format!("tcp receive {write}"),
            Self::DatagramsOut(size) => format!("udp transmit {size}"),
            Self::DatagramsIn(size) => format!("udp receive {size}"),
            Self::RoundTrip => "round trip".into(),
            Self::Ping => "ping".into(),
            Self::Idle => "idle".into(),
        }
    }

    /// Does it once.
    pub fn measure(&self, machine: &mut Running, near: &Near, effort: Effort) -> Outcome<Vec<Sample>> {
        let before = Snapshot::before(machine)?;
        let seen = match *self {
            Self::Send { write, rate } => send(machine, near, effort, write, rate)?,
            Self::Receive { write } => receive(machine, near, effort, write)?,
            Self::DatagramsOut(size) => datagrams_out(machine, near, effort, size)?,
            Self::DatagramsIn(size) => datagrams_in(machine, near, effort, size)?,
            Self::RoundTrip => round_trips(machine, near, effort)?,
            Self::Ping => ping(near)?,
            Self::Idle => {
                let answer = machine.agent.ask(&format!("idle seconds={}", effort.seconds))?;
                let inside = answer.get("idle_share")?;
                Seen::of(vec![Sample::new(
                    "idle inside",
                    "of all cores",
                    Better::More,
                    inside,
                )])
            }
        };
        let after = Snapshot::after(machine)?;
        let direction = match self {
            Self::Receive { .. } | Self::DatagramsIn(_) => Direction::In,
            Self::Idle => Direction::Neither,
            _ => Direction::Out,
        };
        let cost = samples(machine, &before, &after, direction, seen.frames);
        Ok(seen.samples.into_iter().chain(cost).collect())
    }
}

/// What was seen.
struct Seen {
    samples: Vec<Sample>,
    /// Frames, where it knows them.
    frames: Option<f64>,
}

impl Seen {
    fn of(samples: Vec<Sample>) -> Self {
        Self {
            samples,
            frames: None,
        }
    }
}

/// A stream's rate by the agent's clock and by ours, which is the one that counts.
fn rates(bytes: f64, inside: f64, outside: Duration) -> Vec<Sample> {
    let outside = bytes * 8e-6 / outside.as_secs_f64();
    let inside = bytes * 8e-6 / inside;
    vec![
        Sample::new("throughput", "Mbit/s", Better::More, outside),
        Sample::new("throughput inside", "Mbit/s", Better::Neither, inside),
        Sample::new("inside to outside", "ratio", Better::Neither, inside / outside),
    ]
}

/// Tells the agent what to do with the stream it is to open, and accepts that.
fn open(machine: &mut Running, near: &Near, command: &str) -> Outcome<TcpStream> {
    let reception = Reception::new(near.host)?;
    machine
        .agent
        .tell(&format!("{command} to={}:{}", near.seen, reception.port))?;
    let accepted = reception.accept(CONNECT, || Ok(()));
    accepted.map_err(|error| format!("`{command}`: {error}").into())
}

fn send(
    machine: &mut Running,
    near: &Near,
    effort: Effort,
    write: usize,
    rate: Option<f64>,
) -> Outcome<Seen> {
    // A limited rate is measured over a time.
    let (seconds, bytes) = match rate {
        Some(_) => (effort.seconds, u64::MAX >> 1),
        None => effort.stream(),
    };
    let rate = rate.map_or(0.0, |rate| rate * 1e6 / 8.0);
    let command = format!("send write={write} seconds={seconds} bytes={bytes} rate={rate}");
    let mut stream = open(machine, near, &command)?;
    let began = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut received = 0;
    while let count @ 1.. = stream.read(&mut buffer)? {
        received += count;
    }
    let took = began.elapsed();
    drop(stream);
    let answer = machine.agent.answer()?;
    if answer.get("bytes")? != received as f64 {
        return Err(format!("{} bytes sent, {received} received", answer.get("bytes")?).into());
    }
    Ok(Seen::of(rates(received as f64, answer.get("seconds")?, took)))
}

fn receive(machine: &mut Running, near: &Near, effort: Effort, write: usize) -> Outcome<Seen> {
    let (seconds, bytes) = effort.stream();
    let mut stream = open(machine, near, &format!("receive write={write}"))?;
    let buffer = vec![0x5a; write];
    let began = Instant::now();
    let mut sent = 0;
    while sent < bytes && began.elapsed().as_secs_f64() < seconds {
        stream.write_all(&buffer)?;
        sent += write as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut [0; 64])? != 0 {}
    let took = began.elapsed();
    let answer = machine.agent.answer()?;
    if answer.get("bytes")? != sent as f64 {
        return Err(format!("{sent} bytes sent, {} received", answer.get("bytes")?).into());
    }
    Ok(Seen::of(rates(sent as f64, answer.get("seconds")?, took)))
}

fn socket(near: &Near) -> Outcome<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind(SocketAddrV4::new(near.host, 0))?;
    let port = socket.local_addr()?.port();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20))?;
    Ok((socket, SocketAddrV4::new(near.seen, port).into()))
}

fn datagrams_out(machine: &mut Running, near: &Near, effort: Effort, size: usize) -> Outcome<Seen> {
    let (socket, to) = socket(near)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            // What was sent before the agent's answer is here by the first silence after it.
            loop {
                match socket.recv(&mut buffer) {
                    Ok(_) => {
                        count.fetch_add(1, Relaxed);
                    }
                    Err(_) if over.load(Relaxed) => break,
                    Err(_) => {}
                }
            }
        });
        let command = format!("datagrams-out to={to} size={size} seconds={}", effort.seconds);
        let answer = machine.agent.ask(&command);
        over.store(true, Relaxed);
        answer
    })?;
    let sent = answer.get("datagrams")?;
    let received = count.load(Relaxed) as f64;
    let seconds = answer.get("seconds")?;
    Ok(Seen {
        samples: vec![
            Sample::new("datagrams", "1/s", Better::More, received / seconds),
            Sample::new("datagrams sent", "1/s", Better::Neither, sent / seconds),
            Sample::new("lost", "share", Better::Neither, 1.0 - received / sent),
        ],
        frames: Some(received),
    })
}

fn datagrams_in(machine: &mut Running, near: &Near, effort: Effort, size: usize) -> Outcome<Seen> {
    let (socket, to) = socket(near)?;
    socket.set_read_timeout(Some(CONNECT))?;
    let command = format!("datagrams-in to={to} seconds={}", effort.seconds);
    machine.agent.tell(&command)?;
    let (_, from) = socket.recv_from(&mut [0; 64])?;
    socket.connect(from)?;
    let datagram = vec![0x5a; size];
    let began = Instant::now();
    let mut sent = 0_u64;
    while began.elapsed() < Duration::from_secs_f64(effort.seconds) + LONGER {
        // A full queue is the point of it.
        sent += u64::from(socket.send(&datagram).is_ok());
    }
    let offered = sent as f64 / began.elapsed().as_secs_f64();
    let answer = machine.agent.answer()?;
    let received = answer.get("datagrams")?;
    let rate = received / answer.get("seconds")?;
    Ok(Seen {
        samples: vec![
            Sample::new("datagrams", "1/s", Better::More, rate),
            Sample::new("datagrams sent", "1/s", Better::Neither, offered),
            Sample::new("lost", "share", Better::Neither, 1.0 - received / sent as f64),
        ],
        frames: Some(received),
    })
}

fn round_trips(machine: &mut Running, near: &Near, effort: Effort) -> Outcome<Seen> {
    let mut stream = open(machine, near, &format!("ask seconds={}", effort.seconds))?;
    stream.set_nodelay(true)?;
    let began = Instant::now();
    let (mut byte, mut rounds) = ([0], 0_u64);
    while stream.read(&mut byte)? != 0 {
        stream.write_all(&byte)?;
        rounds += 1;
    }
    let outside = began.elapsed().as_secs_f64() * 1e6 / rounds as f64;
    let answer = machine.agent.answer()?;
    let inside = answer.get("seconds")? * 1e6 / answer.get("rounds")?;
    let sample = |name: &str, value| Sample::new(name, "us", Better::Less, value);
    Ok(Seen {
        samples: vec![
            sample("round trip mean", outside),
            sample("round trip p50", answer.get("p50_us")?),
            sample("round trip p99", answer.get("p99_us")?),
            Sample::new("inside to outside", "ratio", Better::Neither, outside / inside),
        ],
        frames: Some(answer.get("rounds")?),
    })
}

fn ping(near: &Near) -> Outcome<Seen> {
    let Some(machine) = near.machine else {
        return Ok(Seen::of(Vec::new()));
    };
    let output = Command::new(near.busybox)
        .args(["ping", "-c", "20", "-i", "0.05", "-W", "5", &machine.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = parse_ping(&text);
    let mut samples = vec![Sample::new(
        "ping lost",
        "of 20",
        Better::Less,
        20.0 - times.len() as f64,
    )];
    if let Some(spread) = Spread::of(times) {
        let sample = |name: &str, value| Sample::new(name, "us", Better::Less, value);
        samples.extend([sample("ping p50", spread.median), sample("ping min", spread.min)]);
        samples.push(Sample::new("ping max", "us", Better::Neither, spread.max));
    }
    Ok(Seen::of(samples))
}

/// The times of all answers, in microseconds, as busybox's ping tells them.
fn parse_ping(text: &str) -> Vec<f64> {
    let times = text
        .lines()
        .filter_map(|line| line.split_once(" time=")?.1.split_once(" ms"));
    times
        .filter_map(|(time, _)| time.parse::<f64>().ok())
        .map(|ms| ms * 1000.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_is_read_as_busybox_writes_it() {
        let text = "PING 10.0.0.2 (10.0.0.2): 56 data bytes\n64 bytes from 10.0.0.2: seq=0 ttl=64 time=1.500 ms\n\
                    64 bytes from 10.0.0.2: seq=2 ttl=64 time=0.201 ms\n\n--- 10.0.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 packets received, 33% packet loss\n\
                    round-trip min/avg/max = 0.201/0.850/1.500 ms\n";
        assert_eq!(parse_ping(text), [1500.0, 201.0]);
        assert!(parse_ping("ping: sendto: Network is unreachable").is_empty());
    }

    #[test]
    fn a_stream_is_limited_by_bytes_or_by_time() {
        let effort = |bytes| Effort { seconds: 2.0, bytes };
        assert_eq!(effort(None).stream().0, 2.0);
        assert_eq!(effort(Some(100)).stream(), (LONGEST, 100));
    }

    #[test]
    fn both_clocks_are_told() {
        let samples = rates(1e6, 0.5, Duration::from_secs(1));
        let values: Vec<f64> = samples.iter().map(Sample::value).collect();
        assert_eq!(values, [8.0, 16.0, 2.0]);
    }
}
