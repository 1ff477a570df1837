//! A vmapp whose disk answers what nobody asked, twice, out of order, or not at all: the guest sees errors, or a slow disk,
//! and goes on when the answers are right again.

use crate::usage::share;
use crate::vmm::{Console, Vmm};
use shared::abi::SlotHeader;
use shared::abi::counters::VmmCounter;
use shared::msg::disk::{Completion, Down, Request, Status, Up};
use shared::spec::Notify;
use std::time::Duration;
use vmdriver_shim::crossing::Channel;
use zerocopy::{FromBytes, IntoBytes};

const SECTOR: usize = 512;
const SILENCE: Duration = Duration::from_millis(500);
/// Lies of each kind: some cost the guest its patience.
const MOST_LIES: u32 = 1;

/// The disk's end: honest unless told otherwise.
pub struct Disk {
    pub channel: Channel,
    sectors: Vec<u8>,
}

impl Disk {
    pub fn new(vmm: &Vmm) -> Self {
        Self {
            channel: vmm.channel(vmm.spec.disk_channel(0)),
            sectors: vec![0; crate::vmm::SECTORS as usize * SECTOR],
        }
    }

    pub fn take(&mut self) -> Option<(SlotHeader, Request, Vec<u8>)> {
        let mut payload = Vec::new();
        let header = self.channel.next(&mut payload).expect("an honest vmm")?;
        let (request, data) = Request::read_from_prefix(&payload).expect("a request");
        Some((header, request, data.to_vec()))
    }

    /// What an honest disk answers.
    pub fn do_it(&mut self, header: SlotHeader, request: Request, data: &[u8]) -> Vec<u8> {
        let at = request.lba as usize * SECTOR;
        let end = at + request.sectors as usize * SECTOR;
        let mut answer = completion(Status::Good, request.sectors);
        match Down::try_from(header.kind).expect("a kind") {
            Down::Read => answer.extend_from_slice(&self.sectors[at..end]),
            Down::Write => self.sectors[at..end].copy_from_slice(data),
            Down::Flush => {}
        }
        answer
    }

    /// Puts a completion into the ring, if there is room.
    pub fn say(&mut self, id: u64, payload: &[u8]) {
        self.channel.push(Up::Done as u16, id, payload).ok();
        self.channel.flush().expect("a doorbell");
    }

    pub fn serve(&mut self) {
        while let Some((header, request, data)) = self.take() {
            let answer = self.do_it(header, request, &data);
            self.say(header.id, &answer);
            self.channel.release(1).expect("a doorbell");
        }
    }
}

fn completion(status: Status, sectors: u32) -> Vec<u8> {
    let completion = Completion {
        status: status as u32,
        sectors,
    };
    completion.as_bytes().to_vec()
}

/// The number in the last line of this kind.
fn last(text: &str, what: &str) -> u64 {
    let line = text.lines().rev().find_map(|line| line.strip_prefix(what));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// The guest gets on, by two of its reports and without an error.
fn goes_on(console: &mut Console, disk: &mut Disk) {
    let from = console.text.len();
    // The first line may still tell of what was wrong before.
    let fresh = |text: &str| {
        text[from..]
            .split_once("\nround ")
            .map_or(String::new(), |(_, fresh)| fresh.into())
    };
    console.until(|text| fresh(text).contains("round "), || disk.serve());
    let (text, fresh) = (&console.text[from..], fresh(&console.text));
    assert!(!fresh.contains("ERROR") && !fresh.contains("WRONG"), "{text}");
}

/// What a disk can say wrongly, given what it was asked.
type Lie = fn(&mut Disk, SlotHeader, Request, &[u8]);

const LIES: &[(&str, Lie)] = &[
    ("an answer before it to nothing", |disk, header, request, data| {
        disk.say(header.id + 1000, &completion(Status::Good, 1));
        disk.say(0, &completion(Status::Good, 1));
        disk.say(u64::MAX, &completion(Status::Good, 1));
        let answer = disk.do_it(header, request, data);
        disk.say(header.id, &answer);
    }),
    ("the answer twice", |disk, header, request, data| {
        let answer = disk.do_it(header, request, data);
        disk.say(header.id, &answer);
        disk.say(header.id, &answer);
    }),
    ("the one before again", |disk, header, request, data| {
        let answer = disk.do_it(header, request, data);
        disk.say(header.id - 1, &answer);
        disk.say(header.id, &answer);
    }),
    ("a status that is none", |disk, header, _, _| {
        disk.say(header.id, &[0xff; 8]);
    }),
    ("too many sectors", |disk, header, _, _| {
        disk.say(header.id, &completion(Status::Good, u32::MAX));
    }),
    ("a failure that did all", |disk, header, request, _| {
        disk.say(header.id, &completion(Status::Medium, request.sectors));
    }),
    ("too much data", |disk, header, request, _| {
        let mut answer = completion(Status::Good, request.sectors);
        answer.resize(answer.len() + 4 * SECTOR, 0xee);
        disk.say(header.id, &answer);
    }),
    ("no completion at all in it", |disk, header, _, _| {
        disk.say(header.id, &[]);
        disk.say(header.id, &[0; 7]);
    }),
    ("nothing", |_, _, _, _| {}),
    ("the next one's answer", |disk, header, _, _| {
        disk.say(header.id + 1, &completion(Status::Good, 1));
    }),
];

#[test]
fn a_disk_that_lies_gives_the_guest_errors_at_worst_and_serves_again_when_it_is_honest() {
    let mut vmm = Vmm::start("disk.elf", "load impatient", Notify::Bitmap);
    let (mut console, mut disk) = (vmm.console(), Disk::new(&vmm));
    goes_on(&mut console, &mut disk);
    for (what, lie) in LIES {
        let mut lies = 0;
        let errors = vmm.counter(VmmCounter::PeerErrors);
        let before = last(&console.text, "round ");
        console.until(
            |text| last(text, "round ") > before,
            || {
                while let Some((header, request, data)) = disk.take() {
                    // Now and then, so that there is something right to be got wrong.
                    if header.id % 4 == 0 && lies < MOST_LIES {
                        lie(&mut disk, header, request, &data);
                        lies += 1;
                    } else {
                        let answer = disk.do_it(header, request, &data);
                        disk.say(header.id, &answer);
                    }
                    disk.channel.release(1).expect("a doorbell");
                }
            },
        );
        vmm.lives(what);
        let counted = vmm.counter(VmmCounter::PeerErrors) - errors;
        println!("{what}: told {lies} times, counted {counted} times");
        goes_on(&mut console, &mut disk);
    }
    vmm.process.stop("a disk that lies");
}

#[test]
fn a_disk_that_says_nothing_is_waited_for_at_no_cost_but_a_guests_patience() {
    let mut vmm = Vmm::start("disk.elf", "load", Notify::Bitmap);
    let (mut console, mut disk) = (vmm.console(), Disk::new(&vmm));
    goes_on(&mut console, &mut disk);
    let before = console.text.clone();
    // The guest polls its disk meanwhile, as it may: what the vmm takes is the guest's.
    let taken = share(vmm.pid(), || std::thread::sleep(SILENCE));
    console.take();
    let printed = &console.text[before.len()..];
    assert!(printed.matches("round ").count() <= 1, "{printed}");
    assert!(taken < 1.5, "{taken:.2} cores");
    vmm.lives("silence");
    goes_on(&mut console, &mut disk);
    // Silence again, and an end in the middle of it.
    std::thread::sleep(SILENCE / 5);
    vmm.process.stop("silence");
}
