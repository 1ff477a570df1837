//! What the guest's kernel says while the load runs: an error of a device or file system counts as the guest's error,
//! even where no program was told.

use crate::tally::Tally;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

/// Messages of these levels are errors, whatever they say: KERN_EMERG to KERN_ERR.
const ERROR: u8 = 3;
/// Pieces of messages of other levels that are.
const ERRORS: &[&str] = &[
    "I/O error",
    "failed command",
    "lost interrupt",
    "Remounting filesystem read-only",
    "NETDEV WATCHDOG",
    "blocked for more than",
    "WARNING: ",
    "resetting link",
];
/// How pcnet32 says that its link is gone.
const FLAP: &str = "link down";

/// Follows the kernel's log from here on.
pub fn follow(tally: &Arc<Tally>) -> io::Result<()> {
    let mut log = File::open("/dev/kmsg")?;
    log.seek(SeekFrom::End(0))?;
    let tally = Arc::clone(tally);
    thread::spawn(move || {
        let mut record = [0; 8192];
        loop {
            match log.read(&mut record) {
                Ok(len) => judge(&tally, &String::from_utf8_lossy(&record[..len])),
                // Overwritten before we came: the next is there.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => return tally.error(format!("the kernel's log: {error}")),
            }
        }
    });
    Ok(())
}

/// One record: `PREFIX,...;TEXT`, the lowest three bits of the prefix being the level
/// (Documentation/ABI/testing/dev-kmsg).
fn judge(tally: &Tally, record: &str) {
    let Some((head, text)) = record.split_once(';') else {
        return;
    };
    let prefix = head.split(',').next().and_then(|prefix| prefix.parse::<u32>().ok());
    let level = prefix.map_or(0, |prefix| (prefix & 7) as u8);
    let text = text.lines().next().unwrap_or_default();
    if level <= ERROR || ERRORS.iter().any(|error| text.contains(error)) {
        tally.error(format!("kernel: {text}"));
    }
    if text.contains(FLAP) {
        tally.flaps.fetch_add(1, Relaxed);
    }
}
