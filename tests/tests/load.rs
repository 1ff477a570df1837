//! The network path under load, a stock Debian guest on a real tap: a flood that never leaves the card deaf and whose
//! frames are all accounted for, and how many world switches a transmitted frame costs.
//!
//! Counts, not times: they hold on a slow host too. Takes root; says that it skips without.

use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tests::linux::Linux;
use tests::product::LIMIT;
use tests::tap::{ECHO_PORT, GUEST, HOST, Tapped, counter, handed_over, in_namespace, sum};

/// Makes the guest transmit.
type Transmission<'a> = &'a dyn Fn(&mut Tapped);

/// How long a flood lasts at least.
const FLOOD: Duration = Duration::from_secs(3);
/// Time in which a ping must be answered after a flood: what the rings hold is before it, and a slow engine needs its
/// time for that.
const AT_ONCE: &str = "5";
/// Frames a second at which three fall into a tick of 1 ms, the first of them being what starts it.
const LOADED: f64 = 2500.0;
/// Where nobody listens.
const DISCARD_PORT: u16 = 9;

/// A UDP flood at the guest, as fast as the host can, small datagrams to where nobody listens and large ones to be
/// echoed, until told to stop.
struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: std::thread::JoinHandle<()>,
    began: Instant,
}

impl Flood {
    fn start() -> Self {
        let sockets = [(DISCARD_PORT, 1), (ECHO_PORT, 1472)].map(|(port, bytes)| {
            let socket = UdpSocket::bind(SocketAddrV4::new(HOST, 0)).expect("a socket");
            socket.connect(SocketAddrV4::new(GUEST, port)).expect("a peer");
            (socket, vec![0xaa; bytes])
        });
        let over = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (told, count) = (Arc::clone(&over), Arc::clone(&sent));
        let sender = std::thread::spawn(move || {
            while !told.load(Relaxed) {
                for (socket, datagram) in &sockets {
                    match socket.send(datagram) {
                        Ok(_) => {
                            count.fetch_add(1, Relaxed);
                        }
                        // Nobody listens, as the guest says; the tap's queue is full.
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                        Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                        Err(error) => panic!("the flood: {error}"),
                    }
                }
            }
        });
        Self {
            over,
            sent,
            sender,
            began: Instant::now(),
        }
    }

    /// Lets it last [`FLOOD`]; how many datagrams that was.
    fn end(self) -> u64 {
        std::thread::sleep(FLOOD.saturating_sub(self.began.elapsed()));
        self.over.store(true, Relaxed);
        self.sender.join().expect("the flood went well");
        self.sent.load(Relaxed)
    }
}

#[test]
fn a_flood_never_leaves_the_card_deaf_and_every_lost_frame_is_counted() {
    in_namespace("load: a flood", |linux| {
        let Some(mut guest) = Tapped::boot("flood", linux, "") else {
            return;
        };
        guest.bring_udp();
        let host = guest.start_echo();
        echoes(&host, 0);
        let joined = joined(&guest.status());
        for round in 1..=2 {
            let flood = Flood::start();
            let answer = guest.run("echo con\"\"sole");
            assert!(answer.contains("console"), "{answer}");
            let during = counter(&guest.status(), "/net/rx_frames");
            let sent = flood.end();
            hears(&host, linux, round);
            let account = accounted_for(&guest, joined);
            println!(
                "flood {round}: {sent} datagrams sent; {during} frames in the guest when asked; {account}"
            );
        }
        guest.vm.type_in("exit\n");
        assert_eq!(guest.vm.end().code(), Some(0), "{}", guest.vm.errors());
    });
}

/// Ping and echo work.
fn hears(host: &UdpSocket, linux: &Linux, round: u32) {
    let ping = |count: &str| {
        let ping = linux
            .busybox()
            .args(["ping", "-c", count, "-W", AT_ONCE, &GUEST.to_string()])
            .output()
            .expect("busybox runs");
        String::from_utf8_lossy(&ping.stdout).into_owned()
    };
    // The first may find the tap's queue still full of the flood, and be dropped by the host.
    let first = ping("1");
    let then = ping("3");
    assert!(
        then.contains("3 packets received"),
        "after flood {round}: {first}{then}"
    );
    echoes(host, round);
}

fn echoes(host: &UdpSocket, round: u32) {
    for number in 0..20_u32 {
        let datagram = [round.to_le_bytes(), number.to_le_bytes()].concat();
        host.send(&datagram).expect("a datagram goes out");
        let mut buffer = [0; 16];
        let len = host.recv(&mut buffer).expect("the datagram comes back");
        assert_eq!(buffer[..len], datagram, "after flood {round}");
    }
}

/// What vmapp counts as lost: for want of credit, and refused.
fn lost_at(status: &Value) -> [u64; 2] {
    ["/io_worker/net/rx_no_credit", "/io_worker/net/rx_refused"].map(|path| counter(status, path))
}

/// Frames from the host that came together with one before: segments of TCP, and no datagrams.
fn joined(status: &Value) -> u64 {
    let frames = counter(status, "/io_worker/net/rx_frames") + lost_at(status).iter().sum::<u64>();
    // Both go on while they are looked at.
    frames.saturating_sub(counter(status, "/io_worker/net/rx_reads"))
}

/// Waits until no frame is under way: then the guest has got, or somebody has counted as lost, each one the kernel handed
/// over; `before`: those that were [`joined`] before the flood.
fn accounted_for(guest: &Tapped, before: u64) -> String {
    let lost_in = |status: &Value| ["/net/rx_missed", "/net/rx_filtered"].map(|path| counter(status, path));
    let status = guest.status_when("accounted for", |status| {
        let handed = handed_over().0;
        let taken = counter(status, "/io_worker/net/rx_frames");
        let given = counter(status, "/net/rx_frames") + lost_in(status).iter().sum::<u64>();
        handed == counter(status, "/io_worker/net/rx_reads") && joined(status) == before && given == taken
    });
    let (handed, dropped) = handed_over();
    assert!(
        dropped + lost_at(&status)[0] + lost_in(&status)[0] > 0,
        "no flood: {status}"
    );
    format!(
        "the kernel dropped {dropped} and handed over {handed}, vmapp dropped {:?}, the card missed {:?}",
        lost_at(&status),
        lost_in(&status)
    )
}

/// What a transmission cost: the difference of two statuses.
struct Cost {
    frames: u64,
    took: Duration,
    crossings: u64,
    /// Doorbells because the tick came.
    ticks: u64,
    held: u64,
    /// Doorbells because as many frames waited as may.
    full: u64,
    delays: u64,
    /// Doorbells by the frames published since the one before.
    per_crossing: u64,
    /// Doorbells that could carry a frame.
    doorbells: u64,
    by_cause: String,
}

impl Cost {
    fn of(guest: &mut Tapped, transmission: impl FnOnce(&mut Tapped)) -> Self {
        let before = guest.status();
        let began = Instant::now();
        transmission(guest);
        let took = began.elapsed();
        let after = guest.status();
        let grown = |path: &str| counter(&after, path) - counter(&before, path);
        let total = |group: &str| sum(&after, group) - sum(&before, group);
        let causes = after["world_switches"].as_object().expect("a group");
        let by_cause: Vec<String> = causes
            .keys()
            .map(|cause| (cause, grown(&format!("/world_switches/{cause}"))))
            .filter(|(_, count)| *count != 0)
            .map(|(cause, count)| format!("{cause} {count}"))
            .collect();
        Self {
            frames: grown("/net/tx_frames"),
            took,
            ticks: grown("/world_switches/net_tick"),
            crossings: total("world_switches"),
            held: grown("/combine/held"),
            full: grown("/world_switches/net_limit"),
            delays: total("combine_delay_us"),
            per_crossing: total("frames_per_crossing"),
            doorbells: total("world_switches") - grown("/world_switches/sync"),
            by_cause: by_cause.join(", "),
        }
    }

    fn per_frame(&self) -> f64 {
        self.crossings as f64 / self.frames as f64
    }
}

/// The guest sends a stream.
fn tcp(guest: &mut Tapped, bytes: u64) {
    let listener = TcpListener::bind(SocketAddrV4::new(HOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let reader = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the guest connects");
        let mut enough = stream.take(bytes);
        std::io::copy(&mut enough, &mut std::io::sink()).expect("the guest writes")
    });
    // Ends when the host hangs up.
    guest.run(&format!("nc {HOST} {port} </dev/zero"));
    assert_eq!(reader.join().expect("the stream ends"), bytes);
}

/// The guest sends datagrams.
fn udp(guest: &mut Tapped, count: usize) {
    let host = UdpSocket::bind(SocketAddrV4::new(HOST, 0)).expect("a socket");
    host.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let to = host.local_addr().expect("an address");
    guest.run(&format!("udp send {to} {count} 1000"));
    let mut buffer = [0; 2048];
    assert_eq!(host.recv(&mut buffer).expect("at least one arrives"), 1000);
}

#[test]
fn combining_needs_at_most_two_world_switches_for_five_frames() {
    in_namespace("load: combining", |linux| {
        let mut rates = Vec::new();
        for combining in [true, false] {
            let io = format!("send_combining = {combining}\n");
            let Some(mut guest) = Tapped::boot("combining", linux, &io) else {
                return;
            };
            guest.bring_udp();
            let transmissions: [(&str, Transmission<'_>); 2] = [
                ("TCP", &|guest| tcp(guest, 8 << 20)),
                ("UDP", &|guest| udp(guest, 5000)),
            ];
            for (what, transmission) in transmissions {
                let cost = Cost::of(&mut guest, transmission);
                let rate = cost.per_frame();
                println!(
                    "{what}, send_combining = {combining}: {} frames in {:?}, {rate:.3} crossings a frame: {}; held {}",
                    cost.frames, cost.took, cost.by_cause, cost.held
                );
                assert!(cost.frames > 4000, "{what}: {}", cost.frames);
                // So has the frame that was one too many to wait: none.
                assert_eq!(
                    cost.delays,
                    cost.held + cost.full,
                    "{what}: every frame that waited has its delay"
                );
                assert_eq!(cost.held > 0, combining, "{what}");
                // A doorbell with no frame behind the last one counts in no row.
                assert!(
                    (1..=cost.doorbells).contains(&cost.per_crossing),
                    "{what}: {}",
                    cost.per_crossing
                );
                // A guest too slow for three frames a tick needs the ticks' doorbells; no others.
                let excused = if cost.frames as f64 / cost.took.as_secs_f64() < LOADED {
                    cost.ticks
                } else {
                    0
                };
                let due = (cost.crossings - excused) as f64 / cost.frames as f64;
                assert!(!combining || due <= 0.4, "{what}: {due} crossings a frame");
                rates.push((what, rate));
            }
            guest.vm.type_in("exit\n");
            assert_eq!(guest.vm.end().code(), Some(0), "{}", guest.vm.errors());
        }
        let (on, off) = rates.split_at(2);
        for ((what, on), (_, off)) in on.iter().zip(off) {
            assert!(on < off, "{what}: {on} with combining, {off} without");
        }
    });
}
