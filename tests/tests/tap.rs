//! A stock Debian guest on a real tap, in a network namespace of the test's own: ping both ways, 100 MB of TCP each way,
//! 10 000 UDP datagrams there and back, and a capture that shows the frames tcpdump saw.
//!
//! Takes root, for the namespace and the tap; says that it skips without, and where kernel, engine or tcpdump is missing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tests::linux::Linux;
use tests::network::noise;
use tests::product::skip;
use tests::tap::{GUEST, HOST, TAP, Tapped, in_namespace};

/// Bytes of the TCP stream.
const STREAM: usize = 100_000_000;
const DATAGRAMS: u32 = 10_000;
/// Datagrams under way at a time: fewer than the card's ring takes.
const WINDOW: u32 = 8;

/// Echo requests each way.
const PINGS: u32 = 5;

/// tcpdump on the tap, of what [`is_ours`], once it listens.
struct Tcpdump(Child);

impl Tcpdump {
    fn start(into: &Path) -> Option<Self> {
        let mut child = Command::new("tcpdump")
            .args(["-i", TAP, "-U", "-B", "16384", "-s", "0", "-Z", "root", "-w"])
            .arg(into)
            .arg("icmp or udp")
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = String::new();
        let mut stderr = child.stderr.take()?;
        let mut buffer = [0; 256];
        while !said.contains("listening on") {
            match stderr.read(&mut buffer) {
                Ok(len @ 1..) => said.push_str(&String::from_utf8_lossy(&buffer[..len])),
                _ => return None,
            }
        }
        std::thread::spawn(move || stderr.read_to_string(&mut String::new()));
        Some(Self(child))
    }

    /// Ends it, with all it saw in its file.
    fn stop(self) {}
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        // SIGTERM makes it write what it has. An error here would hide the test's own.
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.0.wait().ok();
    }
}

/// Frames of a pcap file (pcap-savefile(5), little-endian).
fn pcap(file: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = &file[24..];
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let len = word(head, 8) as usize;
        let Some((frame, tail)) = tail.split_at_checked(len) else {
            break;
        };
        frames.push(frame.to_vec());
        rest = tail;
    }
    frames
}

/// Frames of a pcapng file's enhanced packet blocks (draft-ietf-opsawg-pcapng, section 4.3).
fn pcapng(file: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = file;
    while rest.len() >= 12 {
        let (kind, len) = (word(rest, 0), word(rest, 4) as usize);
        let (block, tail) = rest.split_at(len);
        if kind == 6 {
            let captured = word(block, 20) as usize;
            frames.push(block[28..28 + captured].to_vec());
        }
        rest = tail;
    }
    frames
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn counted(frames: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut counted = BTreeMap::new();
    for frame in frames {
        *counted.entry(frame).or_default() += 1;
    }
    counted
}

/// IPv4 with ICMP or UDP inside: what only the test sends, and nobody any more when the guest ends. ARP and IPv6 go by
/// the kernels' timers, also while the guest takes its card down and the tap is not read.
fn is_ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && matches!(frame.get(23), Some(1 | 17))
}

/// The frame as it came to the guest: of the host's datagrams tcpdump sees what the kernel leaves to a card, which has no
/// checksum yet.
fn signed(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[23] == 17 && frame[26..30] == HOST.octets() {
        frame[40..42].fill(0);
        // The pseudo-header is the addresses, which the datagram follows, its protocol and its length.
        let words = frame[26..].chunks(2);
        let words = words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)));
        // RFC 1071; zero is written as its other form (RFC 768).
        let sum = (words.sum::<u32>() + 17 + (frame.len() - 34) as u32) % 0xffff;
        frame[40..42].copy_from_slice(&(0xffff - sum as u16).to_be_bytes());
    }
    frame
}

fn datagrams(host: &UdpSocket) {
    let (mut sent, mut back) = (0_u32, 0_u32);
    let mut buffer = [0; 2048];
    while back < DATAGRAMS {
        while sent < DATAGRAMS && sent - back < WINDOW {
            // Lengths from the shortest that carries the number to the longest that fits a frame.
            let mut datagram = vec![(sent >> 3) as u8; 4 + sent as usize % 1469];
            datagram[..4].copy_from_slice(&sent.to_le_bytes());
            host.send(&datagram).expect("a datagram goes out");
            sent += 1;
        }
        let len = host.recv(&mut buffer).expect("every datagram comes back");
        assert_eq!(word(&buffer, 0), back, "in order, none lost");
        assert_eq!(len, 4 + back as usize % 1469);
        assert!(buffer[4..len].iter().all(|&byte| byte == (back >> 3) as u8));
        back += 1;
    }
}

/// 100 MB to the guest and back again.
fn streams(tapped: &mut Tapped, linux: &Linux) {
    let listener = TcpListener::bind(SocketAddrV4::new(HOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let bytes = noise(STREAM, 7);
    let sum = linux.sha256(&bytes);
    let sender = std::thread::spawn(move || {
        let (mut there, _) = listener.accept().expect("the guest connects");
        there.write_all(&bytes).expect("the guest reads");
        drop(there);
        let (mut back, _) = listener.accept().expect("the guest connects again");
        let mut returned = Vec::with_capacity(STREAM);
        back.read_to_end(&mut returned).expect("the guest writes");
        returned == bytes
    });
    let said = tapped.run(&format!(
        "nc {HOST} {port} </dev/null >/tmp/stream; sha256sum /tmp/stream"
    ));
    assert!(said.contains(&sum), "{said}");
    tapped.run(&format!("nc {HOST} {port} </tmp/stream"));
    assert!(
        sender.join().expect("no assertion failed"),
        "what came back is what was sent"
    );
}

#[test]
fn a_guest_on_a_tap_pings_streams_and_is_captured_as_tcpdump_sees_it() {
    in_namespace("tap", on_a_tap);
}

fn on_a_tap(linux: &Linux) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (dump, trace) = (
        folder.path().join("dump.pcap"),
        folder.path().join("trace.pcapng"),
    );
    let tcpdump = Tcpdump::start(&dump);
    if tcpdump.is_none() {
        skip("tap: the comparison with tcpdump", "no tcpdump");
    }
    let net = format!("[[net]]\nbackend = \"tap\"\ntap = {TAP:?}\npcap = {trace:?}");
    let config = linux.config("tap", &format!("address={GUEST}/24"), &net);
    let Some(mut tapped) = Tapped::of("tap", &config.replace("256M", "512M")) else {
        return;
    };

    let all_answered = format!("{PINGS} packets received");
    let ping = tapped.run(&format!("ping -c {PINGS} -W 5 {HOST}"));
    assert!(ping.contains(&all_answered), "{ping}");
    let ping = linux
        .busybox()
        .args(["ping", "-c", &PINGS.to_string(), "-W", "5", &GUEST.to_string()])
        .output()
        .expect("busybox runs");
    let ping = String::from_utf8_lossy(&ping.stdout);
    assert!(ping.contains(&all_answered), "{ping}");

    tapped.bring_udp();
    datagrams(&tapped.start_echo());
    streams(&mut tapped, linux);
    let mut vm = tapped.vm;
    vm.type_in("exit\n");
    assert_eq!(vm.end().code(), Some(0), "{}\n{}", vm.output(), vm.errors());

    if let Some(tcpdump) = tcpdump {
        tcpdump.stop();
        let seen = pcap(&std::fs::read(&dump).expect("tcpdump's file"));
        let seen = counted(seen.into_iter().map(signed));
        let ours = pcapng(&std::fs::read(&trace).expect("our capture"));
        let ours = counted(ours.into_iter().filter(|frame| is_ours(frame)));
        // Each is another: of the echoes the direction and the number, of the datagrams the number.
        let sent = 2 * (DATAGRAMS + 2 * PINGS) as usize;
        assert_eq!((seen.len(), ours.len()), (sent, sent), "seen by tcpdump, by us");
        let differs = seen.iter().find(|(frame, n)| ours.get(*frame) != Some(*n));
        assert_eq!(differs, None, "not in our capture so often");
    }
}
