//! The overlay against every way to die: the worker at each step, the host with any part of what was not flushed.
//!
//! The model keeps, for each sector, the values a reader may find: one, but for sectors written since the last flush
//! (host dies) or by the write that was cut (worker dies).

use crate::medium::{Numbers, PoweredMedium, SECTOR};
use std::collections::BTreeSet;
use vmapp::back::disk::Image;
use vmapp::back::disk::overlay::{BootId, Identity, Layout, Overlay, OverlayError, PER_BLOCK, make_empty};
use vmapp::back::disk::raw::Raw;

/// A little more than one block of the map.
const SECTORS: u64 = PER_BLOCK + 40;
/// The sectors used: around the block's edge, where writes span both.
const FIRST: u64 = PER_BLOCK - 24;
const USED: u64 = 64;

fn boot(n: u64) -> BootId {
    BootId::parse(&format!("{n:032x}")).unwrap()
}

fn identity() -> Identity {
    Identity {
        sectors: SECTORS,
        modified: Some((7, 8)),
    }
}

/// What the base holds in a sector; never what a write holds, and never zeros.
fn base_value(lba: u64) -> u32 {
    0x8000_0000 | lba as u32
}

fn base() -> PoweredMedium {
    let medium = PoweredMedium::of_size(SECTORS as usize * SECTOR);
    let mut raw = Raw::new(medium.clone(), SECTORS, false);
    for lba in 0..SECTORS {
        raw.write(lba, &sector(base_value(lba))).unwrap();
    }
    raw.flush().unwrap();
    medium
}

fn sector(value: u32) -> Vec<u8> {
    value.to_le_bytes().repeat(SECTOR / 4)
}

/// The value a sector holds; a torn one fails.
fn value(bytes: &[u8]) -> u32 {
    let value = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(bytes, sector(value), "a sector that nobody wrote");
    value
}

type Disk = Overlay<PoweredMedium, PoweredMedium>;

fn open(base: &PoweredMedium, file: &PoweredMedium, boot: BootId) -> Result<Disk, OverlayError> {
    Overlay::open(
        Raw::new(base.clone(), SECTORS, true),
        file.clone(),
        identity(),
        boot,
    )
}

/// What may be found.
struct Model {
    /// Values since the last flush, the newest last; the first is flushed.
    sectors: Vec<Vec<u32>>,
    /// Values of the write that was cut, if one was.
    cut: Vec<Option<u32>>,
    next: u32,
}

impl Model {
    fn new() -> Self {
        Self {
            sectors: (FIRST..FIRST + USED).map(|lba| vec![base_value(lba)]).collect(),
            cut: vec![None; USED as usize],
            next: 1,
        }
    }

    /// Writes some sectors; whether it was acknowledged.
    fn write(&mut self, disk: &mut Disk, numbers: &mut Numbers) -> bool {
        let first = numbers.below(USED);
        let count = 1 + numbers.below((USED - first).min(20));
        let values: Vec<u32> = (0..count as u32).map(|n| self.next + n).collect();
        self.next += 100;
        let data: Vec<u8> = values.iter().flat_map(|&value| sector(value)).collect();
        let done = disk.write(FIRST + first, &data).is_ok();
        for (n, value) in (first as usize..).zip(values) {
            if done {
                self.sectors[n].push(value);
            } else {
                self.cut[n] = Some(value);
            }
        }
        done
    }

    fn flushed(&mut self) {
        for values in &mut self.sectors {
            values.drain(..values.len() - 1);
        }
    }

    /// Reads every sector, and takes what it finds for the truth from now on. `power`: the host died.
    fn check(&mut self, disk: &mut Disk, power: bool, what: &str) {
        let mut bytes = vec![0; USED as usize * SECTOR];
        disk.read(FIRST, &mut bytes).unwrap();
        for (n, bytes) in bytes.chunks(SECTOR).enumerate() {
            let values = &mut self.sectors[n];
            let mut may: BTreeSet<u32> = values.iter().rev().take(1).copied().collect();
            if power {
                may.extend(values.iter());
            }
            may.extend(self.cut[n]);
            let found = value(bytes);
            assert!(
                may.contains(&found),
                "{what}: sector {n} holds {found:#x}, not one of {may:x?}"
            );
            // A host's death leaves what is flushed; a worker's leaves what is to be flushed.
            if power {
                *values = vec![found];
            } else if values.last() != Some(&found) {
                values.push(found);
            }
        }
        self.cut.fill(None);
    }
}

#[test]
fn a_host_that_loses_power_loses_nothing_flushed_and_leaves_no_sector_nobody_wrote() {
    for seed in 0..60 {
        let numbers = &mut Numbers::new(seed);
        let (base, file) = (base(), PoweredMedium::default());
        make_empty(&mut file.clone(), identity()).unwrap();
        let mut model = Model::new();
        for life in 0..8 {
            let mut disk = open(&base, &file, boot(seed * 100 + life)).unwrap();
            model.check(&mut disk, true, &format!("seed {seed}, life {life}"));
            for _ in 0..numbers.below(30) {
                if numbers.below(6) == 0 {
                    disk.flush().unwrap();
                    model.flushed();
                } else {
                    model.write(&mut disk, numbers);
                }
            }
            drop(disk);
            file.lose_power(numbers);
        }
    }
}

#[test]
fn a_worker_killed_at_any_step_leaves_every_acknowledged_write_and_then_the_host_every_flushed_one() {
    for seed in 0..120 {
        let numbers = &mut Numbers::new(seed);
        let (base, file) = (base(), PoweredMedium::default());
        make_empty(&mut file.clone(), identity()).unwrap();
        let mut model = Model::new();
        for life in 0..6 {
            file.revive();
            let mut disk = open(&base, &file, boot(seed)).unwrap();
            model.check(&mut disk, false, &format!("seed {seed}, life {life}"));
            file.die_after(1 + numbers.below(40));
            loop {
                let alive = if numbers.below(6) == 0 {
                    let flushed = disk.flush().is_ok();
                    if flushed {
                        model.flushed();
                    }
                    flushed
                } else {
                    model.write(&mut disk, numbers)
                };
                if !alive {
                    break;
                }
            }
        }
        file.lose_power(numbers);
        let mut disk = open(&base, &file, boot(seed + 1)).unwrap();
        model.check(&mut disk, true, &format!("seed {seed}, at the end"));
    }
}

#[test]
fn the_base_is_never_written_to() {
    let (base, file) = (base(), PoweredMedium::default());
    let before = base.bytes();
    make_empty(&mut file.clone(), identity()).unwrap();
    let mut disk = open(&base, &file, boot(1)).unwrap();
    let numbers = &mut Numbers::new(3);
    let mut model = Model::new();
    for _ in 0..200 {
        model.write(&mut disk, numbers);
    }
    disk.flush().unwrap();
    assert!(before == base.bytes());
}

/// What the base is known by once it was written to.
const CHANGED: Identity = Identity {
    sectors: SECTORS,
    modified: Some((9, 9)),
};

/// Merges as the command does, dying after `steps` steps of the overlay and `base_steps` of the base; whether it was
/// done.
fn merge(
    base: &PoweredMedium,
    file: &PoweredMedium,
    known_by: Identity,
    (steps, base_steps): (u64, u64),
    boot: BootId,
) -> bool {
    file.die_after(steps);
    base.die_after(base_steps);
    let raw = Raw::new(base.clone(), SECTORS, false);
    let merged = match Overlay::open_to_merge(raw, file.clone(), known_by, boot) {
        Err(OverlayError::Emptying) => true,
        opened => opened.is_ok_and(|mut disk| disk.merge().is_ok()),
    };
    let done = merged && make_empty(&mut file.clone(), CHANGED).is_ok();
    file.revive();
    base.revive();
    done
}

#[test]
fn a_commit_cut_at_any_step_can_be_given_again_and_loses_nothing() {
    for power in [false, true] {
        let mut cuts = 0;
        for step in 1.. {
            let numbers = &mut Numbers::new(step);
            let (base, file) = (base(), PoweredMedium::default());
            make_empty(&mut file.clone(), identity()).unwrap();
            let mut model = Model::new();
            let mut disk = open(&base, &file, boot(1)).unwrap();
            for _ in 0..10 {
                model.write(&mut disk, numbers);
            }
            disk.flush().unwrap();
            model.flushed();
            drop(disk);
            // Every third dies in the base.
            let steps = if step % 3 == 0 {
                (1000, step / 3)
            } else {
                (step, 1000)
            };
            let before = base.bytes();
            let done = merge(&base, &file, identity(), steps, boot(1));
            if power {
                file.lose_power(numbers);
                base.lose_power(numbers);
            }
            if !done {
                cuts += 1;
                let untouched = base.bytes() == before;
                let known_by = if untouched { identity() } else { CHANGED };
                let again = merge(&base, &file, known_by, (u64::MAX, u64::MAX), boot(2));
                assert!(again, "step {step}");
            }
            let mut raw = Raw::new(base.clone(), SECTORS, true);
            for (lba, values) in (FIRST..).zip(&model.sectors) {
                let mut bytes = [0; SECTOR];
                raw.read(lba, &mut bytes).unwrap();
                assert_eq!(value(&bytes), *values.last().unwrap(), "step {step}");
            }
            let mut first = [0; SECTOR];
            raw.read(0, &mut first).unwrap();
            assert_eq!(value(&first), base_value(0), "what the overlay did not hold");
            if done && step > 60 {
                break;
            }
        }
        assert!(cuts >= 10, "only {cuts} steps cut");
    }
}

#[test]
fn an_overlay_whose_base_changed_is_refused() {
    let (base, file) = (base(), PoweredMedium::default());
    make_empty(&mut file.clone(), identity()).unwrap();
    let with = |identity| {
        Overlay::open(
            Raw::new(base.clone(), SECTORS, true),
            file.clone(),
            identity,
            boot(1),
        )
        .err()
    };
    let touched = Identity {
        modified: Some((7, 9)),
        ..identity()
    };
    assert!(matches!(
        with(touched),
        Some(OverlayError::BaseChanged { was: (7, 8) })
    ));
    let longer = Identity {
        sectors: SECTORS + 1,
        ..identity()
    };
    assert!(matches!(with(longer), Some(OverlayError::BaseSize { .. })));
    assert!(with(identity()).is_none());
}

#[test]
fn a_damaged_map_is_an_error_and_not_old_data() {
    let (base, mut file) = (base(), PoweredMedium::default());
    make_empty(&mut file, identity()).unwrap();
    let mut disk = open(&base, &file, boot(1)).unwrap();
    disk.write(3, &sector(1)).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let layout = Layout::new(SECTORS);
    use vmapp::back::disk::medium::Medium;
    for at in [layout.current_at, layout.lasting_at] {
        let mut block = [0; SECTOR];
        file.read_at(at, &mut block).unwrap();
        let good = block;
        block[100] ^= 1;
        file.write_at(at, &block).unwrap();
        let opened = open(&base, &file, boot(1)).err();
        assert!(
            matches!(
                opened,
                Some(OverlayError::Disk(vmapp::back::disk::DiskError::Damaged(0)))
            ),
            "{opened:?}"
        );
        file.write_at(at, &good).unwrap();
    }
    assert!(open(&base, &file, boot(1)).is_ok());
}
