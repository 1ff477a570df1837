//! The limits of a tap on this host: bare loops that write frames to it, to nobody and to a socket, and one that reads a flood
//! from it. No VM can be cheaper a frame.

use super::lab::{GUEST, NOBODY, TAP, TAP_HOST};
use crate::Outcome;
use crate::process::Part;
use crate::record::{Better, Sample};
use etherparse::PacketBuilder;
use nix::ifaddrs::getifaddrs;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use vmdriver_shim::tap::Framing;

/// A full Ethernet frame without its check sequence.
const FRAME: usize = 1514;
/// Payload of a datagram that makes one.
const PAYLOAD: usize = 1472;
/// Frames between two readings of the clock.
const PER_CLOCK: u64 = 64;

fn attach() -> Outcome<File> {
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    vmdriver_shim::tap::attach(&tap, TAP, Framing::Bare)?;
    Ok(tap)
}

/// Processor seconds of this thread.
fn own() -> Outcome<f64> {
    let part = Part {
        name: "loop",
        pid: std::process::id(),
        tid: Some(nix::unistd::gettid().as_raw().try_into()?),
    };
    part.seconds()
}

fn told(frames: u64, took: Duration, processor: f64) -> Vec<Sample> {
    let (frames, seconds) = (frames as f64, took.as_secs_f64());
    vec![
        Sample::new("frames", "1/s", Better::More, frames / seconds),
        Sample::new(
            "throughput",
            "Mbit/s",
            Better::More,
            frames * FRAME as f64 * 8e-6 / seconds,
        ),
        Sample::new("loop cpu a frame", "us", Better::Less, processor / frames * 1e6),
    ]
}

/// Writes frames to nobody for so long.
pub fn write(seconds: f64) -> Outcome<Vec<Sample>> {
    let mut tap = attach()?;
    // To an Ethernet address that is not the host's, of a protocol nobody has: dropped right behind the tap.
    let mut frame = [0x5a_u8; FRAME];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    flood(&mut tap, &frame, seconds)
}

/// Writes full datagrams, as from the guest, to a socket that a thread reads, for so long.
pub fn write_received(seconds: f64) -> Outcome<Vec<Sample>> {
    let mut tap = attach()?;
    let socket = UdpSocket::bind((TAP_HOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let frame = datagram(own_address()?, socket.local_addr()?.port())?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            while !over.load(Relaxed) {
                socket.recv(&mut buffer).ok();
            }
        });
        let done = flood(&mut tap, &frame, seconds);
        over.store(true, Relaxed);
        done
    })
}

/// The tap's own Ethernet address.
fn own_address() -> Outcome<[u8; 6]> {
    let mut all = getifaddrs()?.filter(|each| each.interface_name == TAP);
    let address = all.find_map(|each| each.address?.as_link_addr()?.addr());
    address.ok_or_else(|| "the tap has no Ethernet address".into())
}

fn datagram(to: [u8; 6], port: u16) -> Outcome<Vec<u8>> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], to)
        .ipv4(GUEST.octets(), TAP_HOST.octets(), 64)
        .udp(9, port);
    let mut frame = Vec::with_capacity(FRAME);
    builder.write(&mut frame, &[0x5a; PAYLOAD])?;
    Ok(frame)
}

fn flood(tap: &mut File, frame: &[u8], seconds: f64) -> Outcome<Vec<Sample>> {
    let (began, processor) = (Instant::now(), own()?);
    let mut frames = 0_u64;
    while !frames.is_multiple_of(PER_CLOCK) || began.elapsed().as_secs_f64() < seconds {
        tap.write_all(frame)?;
        frames += 1;
    }
    Ok(told(frames, began.elapsed(), own()? - processor))
}

/// Reads the frames of a flood for so long.
pub fn read(seconds: f64) -> Outcome<Vec<Sample>> {
    let mut tap = attach()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(SocketAddrV4::new(NOBODY, 9))?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                // A full queue is the point of it.
                socket.send(&[0x5a; PAYLOAD]).ok();
            }
        });
        let done = drain(&mut tap, seconds);
        over.store(true, Relaxed);
        done
    })
}

fn drain(tap: &mut File, seconds: f64) -> Outcome<Vec<Sample>> {
    let mut buffer = [0; 2048];
    let (began, processor) = (Instant::now(), own()?);
    let mut frames = 0_u64;
    while began.elapsed().as_secs_f64() < seconds {
        match tap.read(&mut buffer) {
            Ok(FRAME) => frames += 1,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(told(frames, began.elapsed(), own()? - processor))
}
