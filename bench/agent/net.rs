//! nettest: one TCP stream out of a buffer or into nothing, UDP datagrams, one-byte round trips.
//!
//! The agent connects, always, so that the same commands work through an address translation. A stream's time is from its
//! first byte until the other end has seen its last and hung up.

use crate::{Answer, Fields, Outcome};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Longest wait for what should come at once; a lost datagram costs no more.
const SILENCE: Duration = Duration::from_millis(500);
/// Longest silence of a stream before it counts as broken.
const STALLED: Duration = Duration::from_secs(60);
/// Datagrams between two readings of the clock.
const PER_CLOCK: u64 = 16;

fn stream(fields: &Fields) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(fields.get::<String>("to")?)?;
    stream.set_read_timeout(Some(STALLED))?;
    stream.set_write_timeout(Some(STALLED))?;
    Ok(stream)
}

fn told(bytes: u64, took: Duration) -> Answer {
    vec![("bytes", bytes as f64), ("seconds", took.as_secs_f64())]
}

/// Writes of `write` bytes until `bytes` are written or `seconds` are over, at most `rate` bytes a second (0: as fast as it
/// goes).
pub fn send(fields: &Fields) -> Outcome<Answer> {
    let buffer = vec![0x5a; fields.get("write")?];
    let (limit, seconds): (u64, Duration) = (fields.get("bytes")?, fields.seconds("seconds")?);
    let rate: f64 = fields.get("rate")?;
    let mut stream = stream(fields)?;
    let (mut sent, mut writes) = (0, 0_u64);
    let began = Instant::now();
    while sent < limit && began.elapsed() < seconds {
        stream.write_all(&buffer)?;
        sent += buffer.len() as u64;
        writes += 1;
        if rate > 0.0 {
            let due = Duration::from_secs_f64(sent as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut [0; 64])? != 0 {}
    let mut answer = told(sent, began.elapsed());
    answer.push(("writes", writes as f64));
    Ok(answer)
}

/// Reads of at most `write` bytes until the other end has no more.
pub fn receive(fields: &Fields) -> Outcome<Answer> {
    let mut buffer = vec![0; fields.get("write")?];
    let mut stream = stream(fields)?;
    let mut received = stream.read(&mut buffer)? as u64;
    let began = Instant::now();
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            count => received += count as u64,
        }
    }
    Ok(told(received, began.elapsed()))
}

fn socket(fields: &Fields) -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(fields.get::<String>("to")?)?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// Datagrams of `size` bytes for `seconds`.
pub fn datagrams_out(fields: &Fields) -> Outcome<Answer> {
    let (datagram, seconds) = (vec![0x5a; fields.get("size")?], fields.seconds("seconds")?);
    let socket = socket(fields)?;
    let (mut sent, mut refused) = (0_u64, 0_u64);
    let began = Instant::now();
    while !(sent + refused).is_multiple_of(PER_CLOCK) || began.elapsed() < seconds {
        match socket.send(&datagram) {
            Ok(_) => sent += 1,
            // No room, or nobody who listens, as an answer to an earlier one says.
            Err(_) => refused += 1,
        }
    }
    Ok(vec![
        ("datagrams", sent as f64),
        ("refused", refused as f64),
        ("seconds", began.elapsed().as_secs_f64()),
    ])
}

/// Asks for datagrams with one of its own, then counts what comes for `seconds` from the first.
pub fn datagrams_in(fields: &Fields) -> Outcome<Answer> {
    let seconds = fields.seconds("seconds")?;
    let socket = socket(fields)?;
    let mut buffer = [0; 2048];
    let mut asked = 0;
    while {
        socket.send(b"go")?;
        asked += 1;
        socket.recv(&mut buffer).is_err()
    } {
        if asked == 20 {
            return Err("no datagram came".into());
        }
    }
    let began = Instant::now();
    let mut received = 1_u64;
    while !received.is_multiple_of(PER_CLOCK) || began.elapsed() < seconds {
        match socket.recv(&mut buffer) {
            Ok(_) => received += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let took = began.elapsed().min(seconds.max(Duration::from_millis(1)));
    Ok(vec![
        ("datagrams", received as f64),
        ("seconds", took.as_secs_f64()),
    ])
}

/// One-byte questions, each after the answer to the one before, for `seconds`; times in microseconds.
pub fn ask(fields: &Fields) -> Outcome<Answer> {
    let seconds = fields.seconds("seconds")?;
    let mut stream = stream(fields)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    let mut byte = [0x5a];
    let began = Instant::now();
    while began.elapsed() < seconds {
        let asked = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(asked.elapsed());
    }
    let took = began.elapsed();
    Ok([
        vec![("rounds", times.len() as f64), ("seconds", took.as_secs_f64())],
        quantiles(times),
    ]
    .concat())
}

/// Median, 99th percentile and longest, in microseconds.
pub fn quantiles(mut times: Vec<Duration>) -> Answer {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times
            .get(index.min(times.len().saturating_sub(1)))
            .map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    vec![("p50_us", at(0.5)), ("p99_us", at(0.99)), ("max_us", at(1.0))]
}
