//! `pcap = FILE`: every frame of a card, either way, in a pcapng file.
//!
//! The format is draft-ietf-opsawg-pcapng (sections named below), in the host's byte order; a reader sees that by the
//! magic number. [`Capture`] wraps any other back end. Frames gather in a buffer of fixed size, written at the end of
//! the turn. A file that cannot be written costs frames of the capture, never of the network, and never half a block:
//! what a write left over goes on where it stopped once there is room again.
//!
//! A file may have several sections, one for each worker that wrote it. One that died may have left a part of a block, which
//! its successor cuts off (`tail`) before it appends.

mod tail;

use super::burst::Burst;
use super::{Net, Received, Sent, Waits, Wanted};
use crate::back::Interests;
use nix::errno::Errno;
use nix::unistd::write;
use shared::abi::counters::AppCounter;
use shared::msg::handover::Joins;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vmdriver_shim::counters::Counters;

/// Bytes of blocks not yet written, at most: a turn's frames both ways, and more when the disk is slow.
const BUFFER: usize = 512 << 10;
/// How long a file that could not be written is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Block types (sections 4.1 to 4.3).
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// What a reader tells the byte order by (section 4.1).
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// Options: end, and of a section the application, of an interface the name and the resolution, of a packet the flags.
const OPT_END: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
/// Bytes of an enhanced packet block around its frame, padding and all, at most.
const AROUND: usize = 64;

/// Which way a frame goes, seen from the guest's card; the value of epb_flags (section 4.3.1, bits 0 and 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Inbound = 1,
    Outbound = 2,
}

/// A back end and the file its frames are noted in.
pub struct Capture<N> {
    net: N,
    file: File,
    blocks: Vec<u8>,
    /// Frames that found no room since the counters were told.
    lost: u64,
    /// The file failed then.
    failed: Option<Instant>,
    told: bool,
    trouble: Option<String>,
}

impl<N: Net> Capture<N> {
    /// Captures what goes through `net` to `file`, open for reading and appending; `name` is the interface's in the file.
    pub fn new(net: N, file: OwnedFd, name: &str) -> Self {
        let file = File::from(file);
        let trouble = match tail::mend(&file) {
            Ok(0) => None,
            Ok(cut) => Some(format!(
                "capture: {cut} bytes of a block that was not written whole are cut off"
            )),
            Err(error) => Some(format!(
                "capture: its end cannot be looked at, and may be no whole block: {error}"
            )),
        };
        let mut blocks = Vec::with_capacity(BUFFER);
        section_header(&mut blocks);
        interface(&mut blocks, name);
        Self {
            net,
            file,
            blocks,
            lost: 0,
            failed: None,
            told: false,
            trouble,
        }
    }

    fn note(&mut self, direction: Direction, frame: &[u8]) {
        if self.blocks.len() + frame.len() + AROUND > BUFFER {
            self.flush();
        }
        if self.blocks.len() + frame.len() + AROUND > BUFFER {
            self.lost += 1;
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        enhanced_packet(&mut self.blocks, since, direction, frame);
    }

    /// Writes what the file takes.
    fn flush(&mut self) {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        let mut written = 0;
        while let Some(rest) = self.blocks.get(written..).filter(|rest| !rest.is_empty()) {
            match write(&self.file, rest) {
                Ok(0) => break,
                Ok(count) => {
                    written += count;
                    self.failed = None;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    self.cannot(errno);
                    break;
                }
            }
        }
        self.blocks.drain(..written);
    }

    fn cannot(&mut self, errno: Errno) {
        // A full pipe is no trouble: its reader is slow.
        if !self.told && errno != Errno::EAGAIN {
            self.told = true;
            self.trouble = Some(format!(
                "capture: {}; frames are left out of it until it can be written again",
                errno.desc()
            ));
        }
        self.failed = Some(Instant::now());
    }
}

impl<N: Net> Net for Capture<N> {
    fn send(&mut self, frame: &[u8]) -> Sent {
        let sent = self.net.send(frame);
        // What no cable carried is in no capture: tcpdump on the other end would not see it either.
        if sent == Sent::Out {
            self.note(Direction::Outbound, frame);
        }
        sent
    }

    fn joins(&self) -> Joins {
        self.net.joins()
    }

    fn send_burst(&mut self, burst: &Burst<'_>) -> Sent {
        let sent = self.net.send_burst(burst);
        if sent == Sent::Out {
            for frame in burst.frames() {
                self.note(Direction::Outbound, frame);
            }
        }
        sent
    }

    fn receive(&mut self, into: &mut [u8]) -> Received {
        let received = self.net.receive(into);
        if let Received::Frame(bytes) = received {
            self.note(Direction::Inbound, into.get(..bytes).unwrap_or_default());
        }
        received
    }

    fn link(&mut self) -> bool {
        self.net.link()
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let mut interests = self.net.interests(wanted);
        if !self.blocks.is_empty() {
            interests.within = Some(interests.within.map_or(RETRY, |within| within.min(RETRY)));
        }
        interests
    }

    fn waits(&self) -> Waits {
        self.net.waits()
    }

    fn end_turn(&mut self, counters: &Counters<AppCounter>) {
        self.flush();
        if self.lost != 0 {
            counters.add(AppCounter::PcapLost, std::mem::take(&mut self.lost));
        }
        self.net.end_turn(counters);
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take().or_else(|| self.net.trouble())
    }
}

/// Appends a block: its type, its length before and after `body` (section 3.1).
fn block(into: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend(kind.to_ne_bytes());
    into.extend([0; 4]);
    body(into);
    let length = ((into.len() - start + 4) as u32).to_ne_bytes();
    into.extend(length);
    if let Some(field) = into.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&length);
    }
}

/// Appends an option (section 3.5); `value` is short.
fn option(into: &mut Vec<u8>, code: u16, value: &[u8]) {
    into.extend(code.to_ne_bytes());
    into.extend((value.len() as u16).to_ne_bytes());
    into.extend(value);
    pad(into, value.len());
}

/// Fills up to 32 bits with zeros.
fn pad(into: &mut Vec<u8>, bytes: usize) {
    into.resize(into.len() + bytes.next_multiple_of(4) - bytes, 0);
}

fn section_header(into: &mut Vec<u8>) {
    block(into, SECTION_HEADER, |body| {
        body.extend(BYTE_ORDER.to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        // Length of the section: not known.
        body.extend(u64::MAX.to_ne_bytes());
        option(body, SHB_USERAPPL, b"Worldswitch");
        option(body, OPT_END, &[]);
    });
}

fn interface(into: &mut Vec<u8>, name: &str) {
    block(into, INTERFACE, |body| {
        body.extend(ETHERNET.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        // Frames are never cut.
        body.extend(0u32.to_ne_bytes());
        option(body, IF_NAME, name.as_bytes());
        option(body, IF_TSRESOL, &[9]);
        option(body, OPT_END, &[]);
    });
}

fn enhanced_packet(into: &mut Vec<u8>, since_epoch: Duration, direction: Direction, frame: &[u8]) {
    let nanos = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
    block(into, ENHANCED_PACKET, |body| {
        body.extend(0u32.to_ne_bytes());
        body.extend(((nanos >> 32) as u32).to_ne_bytes());
        body.extend((nanos as u32).to_ne_bytes());
        body.extend((frame.len() as u32).to_ne_bytes());
        body.extend((frame.len() as u32).to_ne_bytes());
        body.extend(frame);
        pad(body, frame.len());
        option(body, EPB_FLAGS, &(direction as u32).to_ne_bytes());
        option(body, OPT_END, &[]);
    });
}
