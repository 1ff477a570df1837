//! A vmm that asks the worker for nonsense: each request is answered as the messages say, or passed over, and counted.

use crate::worker::{Disk, SECTOR, Worker, one, wait};
use shared::abi::counters::AppCounter;
use shared::msg::disk::{Down, MAX_SECTORS, Request, Status};
use shared::msg::{console, control, net};
use std::time::Duration;
use vmdriver_shim::counters::Counters;

fn request(lba: u64, sectors: u32, reserved: u32) -> Request {
    Request {
        lba,
        sectors,
        reserved,
    }
}

#[test]
fn no_disk_request_that_is_none_reaches_the_disk() {
    let mut worker = Worker::start();
    let mut disk = worker.disk();
    disk.works(0x55);
    let last = crate::vmm::SECTORS;
    let (read, write, flush) = (Down::Read as u16, Down::Write as u16, Down::Flush as u16);
    let nonsense: [(u16, Request, usize); 16] = [
        (0, one(0), 0),
        (4, one(0), 0),
        (u16::MAX, one(0), 0),
        (read, request(last, 1, 0), 0),
        (read, request(u64::MAX, 1, 0), 0),
        (read, request(last - 1, 2, 0), 0),
        (read, request(u64::MAX - 1, 3, 0), 0),
        (read, request(0, 0, 0), 0),
        (read, request(0, MAX_SECTORS + 1, 0), 0),
        (read, request(0, u32::MAX, 0), 0),
        (read, request(0, 1, 1), 0),
        (read, one(3), SECTOR),
        (write, one(3), 0),
        (write, one(3), SECTOR - 1),
        (write, one(3), 2 * SECTOR),
        (flush, one(0), 0),
    ];
    for (kind, request, data) in nonsense {
        assert!(disk.ask(kind, request, &vec![0; data]));
        assert_eq!(
            disk.last(),
            (Status::Refused, vec![]),
            "{kind} {request:?} {data}"
        );
    }
    assert!(disk.read(3));
    assert_eq!(disk.last(), (Status::Good, vec![0x55; SECTOR]), "a refused write");
    let errors = Counters::<AppCounter>::new(worker.mem()).get(AppCounter::PeerErrors);
    assert!(errors >= nonsense.len() as u64, "{errors} counted");
    worker.process.finish("nonsense for the disk");
}

/// An id is the vmm's affair: the worker repeats it, whatever it is.
#[test]
fn ids_used_twice_and_backwards_are_answered_in_order() {
    let mut worker = Worker::start();
    let Disk { mut channel, .. } = worker.disk();
    let crossing = worker.vmm.clone();
    let payload = zerocopy::IntoBytes::as_bytes(&one(0)).to_vec();
    for ids in [[7, 7, 7], [3, 2, 1], [u64::MAX, 0, u64::MAX]] {
        for id in ids {
            channel.push(Down::Read as u16, id, &payload).expect("room");
        }
        channel.flush().expect("a doorbell");
        for id in ids {
            let mut data = Vec::new();
            let next = wait(&crossing, || channel.next(&mut data).expect("an honest worker"));
            channel.release(1).expect("a doorbell");
            assert_eq!(next.map(|header| header.id), Some(id));
        }
    }
    worker.process.finish("ids");
}

#[test]
fn slots_of_other_kinds_and_sizes_are_passed_over_and_the_next_is_served() {
    let mut worker = Worker::start();
    let printed = worker.printed();
    let mut console = worker.console();
    for kind in [0, 2, u16::MAX] {
        console.push(kind, 0, b"never").expect("room");
    }
    console.push(console::Down::Output as u16, 0, b"").expect("room");
    console
        .push(console::Down::Output as u16, u64::MAX, b"printed")
        .expect("room");
    console.flush().expect("a doorbell");
    let text = printed.recv_timeout(Duration::from_secs(30));
    assert_eq!(text.as_deref(), Ok(&b"printed"[..]));

    let mut frames = worker.net();
    let crossing = worker.vmm.clone();
    let asked = crate::worker::who_has_router();
    for (kind, bytes) in [(0, 60), (2, 60), (1, 0), (1, 13), (1, net::MAX_FRAME + 1)] {
        frames.push(kind, 0, &vec![0xff; bytes]).expect("room");
    }
    frames.push(net::Down::Frame as u16, 0, &asked).expect("room");
    frames.flush().expect("a doorbell");
    let mut frame = Vec::new();
    let answer = wait(&crossing, || {
        loop {
            let header = frames.next(&mut frame).expect("an honest worker")?;
            frames.release(1).expect("a doorbell");
            if header.kind == net::Up::Frame as u16 {
                return Some(());
            }
        }
    });
    assert_eq!(answer, Some(()));
    assert_eq!(frame[..6], asked[6..12], "to who asked");

    let mut control = worker.channel(0);
    control.push(99, 5, b"?").expect("room");
    control.push(control::Down::Echo as u16, 6, b"!").expect("room");
    control.flush().expect("a doorbell");
    let mut echo = Vec::new();
    let header = wait(&crossing, || control.next(&mut echo).expect("an honest worker"));
    assert_eq!((header.map(|header| header.id), echo), (Some(6), b"!".to_vec()));
    let errors = Counters::<AppCounter>::new(worker.mem()).get(AppCounter::PeerErrors);
    assert_eq!(errors, 4 + 5 + 1);
    worker.process.finish("slots of other kinds");
}

/// A vmm that is gone takes no answers: what it asked is done all the same, and the worker does not wait for it.
#[test]
fn at_the_end_answers_that_nobody_takes_hold_nobody() {
    let mut worker = Worker::start();
    let mut disk = worker.disk();
    let crossing = worker.vmm.clone();
    // Twice what the rings hold: the first half is answered into a ring that is then full.
    for lba in 0..8 {
        wait(&crossing, || disk.write(lba, 0x40 + lba as u8).then_some(()));
    }
    worker.process.finish("answers that nobody takes");
    assert!((0..8).all(|lba| worker.means.sector(lba) == vec![0x40 + lba as u8; SECTOR]));
}
