//! The writers: each writes one record after the other, has it made to last, and only then counts it as acknowledged.

use crate::format::{Found, Kind, SLOT, fill, look, mix, record_bytes};
use crate::tally::Tally;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Past the page cache (open(2), x86).
const O_DIRECT: i32 = 0o40000;
/// Time after which a refused write is done again.
const AGAIN: Duration = Duration::from_millis(20);
/// Of so many records of the raw disk one is read back.
const READ_EVERY: u64 = 4;

/// A record in memory, placed as direct I/O wants it.
#[repr(C, align(4096))]
struct Buffer([u8; SLOT]);

/// Where records go.
trait Place: Send + 'static {
    /// Writes record `number` and makes it last.
    fn write(&mut self, number: u64, record: &[u8]) -> io::Result<()>;
    /// Reads a record back, if that says more than the cache knows.
    fn check(&mut self, _acknowledged: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The two writers of a file system.
pub fn files(tally: &Arc<Tally>, folder: &Path) -> io::Result<[JoinHandle<()>; 2]> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(folder.join("records"))?;
    file.set_len(Kind::File.places() * SLOT as u64)?;
    file.sync_all()?;
    let names = Names {
        folder: folder.into(),
        handle: File::open(folder)?,
    };
    Ok([
        spawn(tally, Kind::File, |tally| &tally.file, Records(file)),
        spawn(tally, Kind::Name, |tally| &tally.name, names),
    ])
}

/// The writer of a disk.
pub fn raw(tally: &Arc<Tally>, device: &Path) -> io::Result<JoinHandle<()>> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_DIRECT)
        .open(device)?;
    let buffer = Box::new(Buffer([0; SLOT]));
    let raw = Raw { device, buffer };
    Ok(spawn(tally, Kind::Raw, |tally| &tally.raw, raw))
}

fn spawn(
    tally: &Arc<Tally>,
    kind: Kind,
    acknowledged: fn(&Tally) -> &AtomicU64,
    mut place: impl Place,
) -> JoinHandle<()> {
    let tally = Arc::clone(tally);
    thread::spawn(move || {
        let mut buffer = Box::new(Buffer([0; SLOT]));
        let mut number = 0;
        while !tally.is_stopped() {
            number += 1;
            let record = &mut buffer.0[..record_bytes(number)];
            fill(record, kind, number);
            let began = Instant::now();
            while let Err(error) = place.write(number, record) {
                tally.error(format!("{kind:?} {number}: {error}"));
                if tally.is_stopped() {
                    return;
                }
                thread::sleep(AGAIN);
            }
            tally.write.note(began.elapsed());
            acknowledged(&tally).store(number, Relaxed);
            if let Err(error) = place.check(number) {
                tally.error(format!("{kind:?} read back after {number}: {error}"));
            }
        }
    })
}

struct Records(File);

impl Place for Records {
    fn write(&mut self, number: u64, record: &[u8]) -> io::Result<()> {
        let place = number % Kind::File.places() * SLOT as u64;
        self.0.write_all_at(record, place)?;
        self.0.sync_data()
    }
}

/// New files that take old names: the file system's journal at work.
struct Names {
    folder: PathBuf,
    handle: File,
}

impl Place for Names {
    fn write(&mut self, number: u64, record: &[u8]) -> io::Result<()> {
        let new = self.folder.join("new");
        let file = File::create(&new)?;
        file.write_all_at(record, 0)?;
        file.sync_all()?;
        let place = number % Kind::Name.places();
        fs::rename(new, self.folder.join(format!("name-{place}")))?;
        self.handle.sync_all()
    }
}

struct Raw {
    device: File,
    /// What is read back.
    buffer: Box<Buffer>,
}

impl Place for Raw {
    fn write(&mut self, number: u64, record: &[u8]) -> io::Result<()> {
        let place = number % Kind::Raw.places() * SLOT as u64;
        self.device.write_all_at(record, place)?;
        self.device.sync_data()
    }

    fn check(&mut self, acknowledged: u64) -> io::Result<()> {
        if acknowledged % READ_EVERY != 0 {
            return Ok(());
        }
        let places = Kind::Raw.places();
        let number = acknowledged - mix(acknowledged) % places.min(acknowledged);
        let slot = &mut self.buffer.0[..];
        self.device
            .read_exact_at(slot, number % places * SLOT as u64)?;
        match look(slot, Kind::Raw) {
            Found::Whole(found) if found == number => Ok(()),
            found => Err(io::Error::other(format!("{found:?} where {number} was written"))),
        }
    }
}
