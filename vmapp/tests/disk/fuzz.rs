//! Random requests and random bytes in the ring, and someone who rewrites them meanwhile.

use crate::medium::{Numbers, PlannedImage, SECTOR};
use crate::service::{DISK, SECTORS, Stage};
use shared::abi::SlotHeader;
use shared::mem::Memory;
use shared::msg::disk::{Down, Status};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[test]
fn random_requests_are_each_answered_once_and_the_disk_is_the_model() {
    let mut stage = Stage::new();
    let image = PlannedImage::of_sectors(SECTORS as usize);
    let mut model = image.0.lock().unwrap().bytes.clone();
    let mut worker = stage.worker(image.clone(), false);
    let numbers = &mut Numbers::new(11);
    for round in 0..400u64 {
        let lba = numbers.below(SECTORS + 10);
        let sectors = numbers.below(12) as u32;
        let data = vec![round as u8; (numbers.below(12) as usize) * SECTOR];
        let kind = [Down::Read, Down::Write, Down::Flush][numbers.below(3) as usize];
        let fits = (1..=128).contains(&sectors) && lba + u64::from(sectors) <= SECTORS;
        let bytes = sectors as usize * SECTOR;
        let (expected, sent): (bool, &[u8]) = match kind {
            Down::Read => (fits, &[]),
            Down::Write => (fits && data.len() == bytes, &data),
            Down::Flush => (lba == 0 && sectors == 0, &[]),
        };
        let at = lba as usize * SECTOR;
        let id = stage.ask(kind, lba, sectors, sent);
        let (got, status, good, back) = worker.until(|| stage.done());
        assert_eq!(
            (got, status == Status::Good),
            (id, expected),
            "{kind:?} {lba} {sectors}"
        );
        if expected && kind == Down::Write {
            model[at..at + bytes].copy_from_slice(&data);
        }
        if expected && kind == Down::Read {
            assert!(back == model[at..at + bytes] && good == sectors);
        }
    }
    assert!(image.0.lock().unwrap().bytes == model);
}

#[test]
fn random_payloads_are_answered_and_change_nothing_outside_the_disk() {
    let mut stage = Stage::new();
    let mut worker = stage.worker(PlannedImage::of_sectors(SECTORS as usize), false);
    let numbers = &mut Numbers::new(5);
    for _ in 0..2000 {
        let length = numbers.below(600) as usize;
        let payload: Vec<u8> = (0..length)
            .map(|n| if n % 8 < 2 { numbers.below(256) as u8 } else { 0 })
            .collect();
        let id = stage.ask_raw(numbers.below(5) as u16, &payload);
        assert_eq!(worker.until(|| stage.done()).0, id);
    }
}

/// Bug classes 7 and 9: what was checked is what is used, though the vmm rewrites it between the two.
#[test]
fn requests_rewritten_while_they_are_read_stay_inside_the_disk() {
    let mut stage = Stage::new();
    // An image in memory panics at a sector outside it, and its worker then fails.
    let mut worker = stage.worker(PlannedImage::of_sectors(SECTORS as usize), false);
    let mem = stage.memory.mem();
    let ring = stage.memory.layout().channels()[usize::from(DISK)].down;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let numbers = &mut Numbers::new(17);
            while !stop.load(Relaxed) {
                let slot = ring.slot_at(numbers.below(4) as u32);
                // The header's length, the first sector, or the count.
                let (field, values) = [
                    (0, [0, 16, 528, 66_000, u32::MAX]),
                    (SlotHeader::BYTES, [0, 999, 1000, 1001, u32::MAX]),
                    (SlotHeader::BYTES + 8, [0, 1, 2, 129, u32::MAX]),
                ][numbers.below(3) as usize];
                mem.write(slot + field, &values[numbers.below(5) as usize].to_le_bytes());
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            if stage.vmm.credit().unwrap() != 0 {
                stage.ask(Down::Write, 998, 1, &[1; SECTOR]);
            }
            worker.turn();
            while stage.done().is_some() {}
        }
        stop.store(true, Relaxed);
    });
}
