//! The capture file, read by a small reader of its own and, where it is installed, by Wireshark's.

use crate::planned::Planned;
use crate::service::Stage;
use shared::abi::counters::AppCounter;
use shared::msg::net::MAX_FRAME;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vmapp::back::net::pcap::Capture;
use vmapp::back::net::{Net, Waits};
use vmapp::serve::service::Service;

/// A packet: nanoseconds since 1970, epb_flags, bytes.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    nanos: u64,
    flags: u32,
    bytes: Vec<u8>,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Pcapng {
    sections: usize,
    names: Vec<String>,
    packets: Vec<Packet>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The options at the end of a block: codes and values.
fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    loop {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let (code, length) = (half(0), usize::from(half(2)));
        if code == 0 {
            assert_eq!(
                (length, bytes.len()),
                (0, 4),
                "nothing behind the end of the options"
            );
            return all;
        }
        all.push((code, &bytes[4..4 + length]));
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
}

impl Pcapng {
    fn parse(mut bytes: &[u8]) -> Self {
        let mut file = Self::default();
        while !bytes.is_empty() {
            let length = word(bytes, 4) as usize;
            assert!(length.is_multiple_of(4) && length >= 12 && length <= bytes.len());
            assert_eq!(
                word(bytes, length - 4) as usize,
                length,
                "the length stands at both ends"
            );
            file.block(word(bytes, 0), &bytes[8..length - 4]);
            bytes = &bytes[length..];
        }
        file
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        match kind {
            0x0a0d_0d0a => {
                assert_eq!((word(body, 0), &body[4..8]), (0x1a2b_3c4d, &[1, 0, 0, 0][..]));
                assert_eq!(body[8..16], [0xff; 8]);
                self.sections += 1;
                options(&body[16..]);
            }
            1 => {
                assert_eq!((body[0], word(body, 4)), (1, 0), "Ethernet, whole frames");
                let options = options(&body[8..]);
                assert!(options.contains(&(9, &[9])), "nanoseconds");
                let name = options.iter().find(|option| option.0 == 2).unwrap().1;
                self.names.push(String::from_utf8(name.to_vec()).unwrap());
            }
            6 => {
                assert_eq!(word(body, 0), 0);
                let length = word(body, 12) as usize;
                assert_eq!(word(body, 16) as usize, length);
                let padded = 20 + length.next_multiple_of(4);
                assert!(
                    body[20 + length..padded].iter().all(|&byte| byte == 0),
                    "bug class 14"
                );
                let options = options(&body[padded..]);
                let flags = options.iter().find(|option| option.0 == 2).unwrap().1;
                self.packets.push(Packet {
                    nanos: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
                    flags: word(flags, 0),
                    bytes: body[20..20 + length].to_vec(),
                });
            }
            other => panic!("block {other:#x}"),
        }
    }
}

fn append(path: &Path) -> OwnedFd {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .into()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// An ARP request or so: what a reader takes for a frame.
fn frame(length: usize, n: u8) -> Vec<u8> {
    let mut frame = vec![n; length];
    frame[..14].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, n, 0x88, 0xb5]);
    frame
}

/// Makes a file of two workers' frames; what was captured.
fn make(path: &Path) -> Vec<(u32, Vec<u8>)> {
    let mut expected = Vec::new();
    for _ in 0..2 {
        let mut stage = Stage::new();
        let back_end = Planned::new(Waits::Here);
        let capture = Capture::new(back_end.clone(), append(path), "net 0");
        let (mut service, _) = stage.worker(capture);
        for (n, length) in (0..).zip([14, 15, 16, 17, 60, 61, 1514, MAX_FRAME]) {
            stage.send(&frame(length, n));
            back_end.arrive([frame(length, n + 100)]);
            service.turn(true).unwrap();
            stage.got();
            expected.extend([(2, frame(length, n)), (1, frame(length, n + 100))]);
        }
    }
    expected
}

#[test]
fn every_frame_either_way_is_in_the_file_with_time_and_direction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.pcapng");
    let begun = now();
    let expected = make(&path);
    let ended = now();
    let file = Pcapng::parse(&fs::read(&path).unwrap());
    assert_eq!(
        (file.sections, &file.names[..]),
        (2, &["net 0".to_owned(), "net 0".to_owned()][..])
    );
    let times = file.packets.iter().map(|packet| packet.nanos);
    assert!(times.clone().is_sorted() && times.clone().all(|time| (begun..=ended).contains(&time)));
    let found: Vec<_> = file
        .packets
        .into_iter()
        .map(|packet| (packet.flags, packet.bytes))
        .collect();
    assert!(found == expected);
}

#[test]
fn wireshark_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.pcapng");
    let expected = make(&path);
    let fields = [
        "frame.len",
        "frame.packet_flags_direction",
        "frame.time_epoch",
        "frame.interface_name",
    ];
    let arguments = fields.iter().flat_map(|field| ["-e", field]);
    let output = Command::new("tshark")
        .args(["-T", "fields"])
        .args(arguments)
        .arg("-r")
        .arg(&path)
        .output();
    let Ok(output) = output else {
        println!("skipped: wireshark_reads_the_same: tshark is not installed");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(text.lines().count(), expected.len(), "{stderr}");
    for (line, (flags, frame)) in text.lines().zip(&expected) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns[0], frame.len().to_string());
        let direction = columns[1].trim_start_matches("0x").trim_start_matches('0');
        assert_eq!(direction, flags.to_string(), "{line}");
        assert_eq!(columns[2].split('.').next_back().unwrap().len(), 9, "{line}");
        assert_eq!(columns[3], "net 0");
    }
}

#[test]
fn a_frame_no_cable_carried_is_in_no_capture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.pcapng");
    let back_end = Planned::new(Waits::Here);
    back_end.plan(|plan| plan.accepts = false);
    let mut stage = Stage::new();
    let (mut service, _) = stage.worker(Capture::new(back_end, append(&path), "net 0"));
    stage.send(&frame(60, 1));
    service.turn(true).unwrap();
    assert_eq!(Pcapng::parse(&fs::read(&path).unwrap()).packets, []);
}

/// The pipe stands for a disk that is full for a while: it takes parts of blocks, then nothing, then goes on.
#[test]
fn a_file_that_cannot_be_written_costs_captured_frames_and_never_half_a_block() {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
    let back_end = Planned::new(Waits::Here);
    let mut stage = Stage::new();
    let (mut service, crossing) = stage.worker(Capture::new(back_end.clone(), writer, "net 0"));
    let frames = 1000;
    for n in 0..frames {
        stage.send(&frame(1514, n as u8));
        service.turn(true).unwrap();
    }
    assert_eq!(
        back_end.plan(|plan| plan.sent.len()),
        frames,
        "the network goes on"
    );
    let lost = crossing.app_counters().get(AppCounter::PcapLost) as usize;
    assert!(lost > 100 && lost < frames, "{lost}");
    assert_eq!(service.trouble(), None, "a slow reader is no trouble");
    let mut bytes = Vec::new();
    let mut pipe = File::from(reader);
    let begun = std::time::Instant::now();
    while Pcapng::is_cut(&bytes, frames - lost) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        pipe.read_to_end(&mut bytes).unwrap_err();
        let within = service.interests().within;
        std::thread::sleep(within.unwrap_or_default().min(Duration::from_millis(100)));
        service.turn(false).unwrap();
    }
    assert_eq!(Pcapng::parse(&bytes).packets.len(), frames - lost);
    assert_eq!(crossing.app_counters().get(AppCounter::PcapLost) as usize, lost);
}

impl Pcapng {
    /// Whether the bytes are fewer than so many packets of 1514 bytes take.
    fn is_cut(bytes: &[u8], packets: usize) -> bool {
        let packet = 28 + 1514usize.next_multiple_of(4) + 12 + 4;
        bytes.len() < packets * packet
    }
}

#[test]
fn a_full_disk_is_told_once_and_the_network_goes_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let back_end = Planned::new(Waits::Here);
    let mut capture = Capture::new(back_end.clone(), full.into(), "net 0");
    let mut stage = Stage::new();
    let (_, crossing) = stage.worker(back_end.clone());
    for n in 0..2000 {
        capture.send(&frame(1514, n as u8));
        capture.end_turn(crossing.app_counters());
    }
    let told = capture.trouble().unwrap();
    assert!(told.starts_with("capture: No space left on device"), "{told}");
    assert_eq!(capture.trouble(), None);
    assert_eq!(back_end.plan(|plan| plan.sent.len()), 2000);
    assert!(crossing.app_counters().get(AppCounter::PcapLost) > 1000);
    assert_eq!(stage.got(), []);
}
