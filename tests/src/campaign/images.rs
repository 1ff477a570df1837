//! The disks of a campaign's VM on the host: made before it starts, and read when it has ended, to see whether all that was
//! acknowledged is there.

use super::heard::Report;
use super::heard::format::{Found, Kind, SLOT, look};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Bytes of the file system.
const FILES_BYTES: u64 = 48 << 20;

/// Both disks.
pub struct Images {
    folder: PathBuf,
}

/// What was found after the end of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records looked for.
    pub checked: u64,
    /// Acknowledged and not there, or an older one in their place.
    pub lost: Vec<String>,
    /// Of an acknowledged record, a part.
    pub torn: Vec<String>,
    /// What e2fsck found.
    pub unclean: Vec<String>,
}

/// What is known of the last record acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// The guest has said its last: there is nothing behind it.
    All,
    /// The guest was cut off: it had acknowledged at least this one, and may have written more.
    AtLeast,
}

/// The error says what is missing for a file system to be made and looked into.
pub fn e2fsprogs() -> Result<(), String> {
    for tool in ["mke2fs", "e2fsck", "debugfs"] {
        let run = tool_command(tool).arg("-V").output();
        if !run.is_ok_and(|output| output.status.success()) {
            return Err(format!("no {tool} (e2fsprogs)"));
        }
    }
    Ok(())
}

/// They are where a plain user's PATH does not look.
fn tool_command(tool: &str) -> Command {
    let homes = ["/usr/sbin", "/sbin"].map(|home| Path::new(home).join(tool));
    let home = homes.into_iter().find(|path| path.exists());
    Command::new(home.unwrap_or_else(|| tool.into()))
}

impl Images {
    /// Makes both in `folder`; `files`: with an ext4 file system on the first.
    pub fn make(folder: &Path, files: bool) -> io::Result<Self> {
        let images = Self {
            folder: folder.into(),
        };
        File::create(images.files())?.set_len(FILES_BYTES)?;
        File::create(images.raw())?.set_len(Kind::Raw.places() * SLOT as u64)?;
        if files {
            let made = tool_command("mke2fs")
                .args(["-q", "-F", "-t", "ext4"])
                .arg(images.files())
                .output()?;
            done(&made)?;
        }
        Ok(images)
    }

    /// The disk with the file system.
    pub fn files(&self) -> PathBuf {
        self.folder.join("files.img")
    }

    /// The disk without.
    pub fn raw(&self) -> PathBuf {
        self.folder.join("raw.img")
    }

    /// Reads both. `files`: the first has a file system, which was put away.
    pub fn verify(&self, heard: &Report, knowledge: Knowledge, files: bool) -> io::Result<Verdict> {
        let mut verdict = Verdict::default();
        let raw = File::open(self.raw())?;
        verdict.judge(Kind::Raw, heard.raw, knowledge, |place| read_slot(&raw, place))?;
        if files {
            self.verify_files(heard, knowledge, &mut verdict)?;
        }
        Ok(verdict)
    }

    fn verify_files(&self, heard: &Report, knowledge: Knowledge, verdict: &mut Verdict) -> io::Result<()> {
        let check = tool_command("e2fsck").arg("-fn").arg(self.files()).output()?;
        if !check.status.success() {
            verdict.unclean.push(words(&check));
        }
        let out = tempfile::tempdir_in(&self.folder)?;
        let dump = format!("rdump / {}", out.path().display());
        let dumped = tool_command("debugfs")
            .args(["-R", &dump])
            .arg(self.files())
            .output()?;
        done(&dumped)?;
        let records = File::open(out.path().join("records"))?;
        verdict.judge(Kind::File, heard.file, knowledge, |place| {
            read_slot(&records, place)
        })?;
        verdict.judge(Kind::Name, heard.name, knowledge, |place| {
            match fs::read(out.path().join(format!("name-{place}"))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![0; SLOT]),
                other => other,
            }
        })
    }
}

impl Verdict {
    /// Looks at every place of a kind, of which `last` was acknowledged last.
    fn judge(
        &mut self,
        kind: Kind,
        last: u64,
        knowledge: Knowledge,
        mut read: impl FnMut(u64) -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let places = kind.places();
        let found: Vec<Found> = (0..places)
            .map(|place| Ok(look(&read(place)?, kind)))
            .collect::<io::Result<_>>()?;
        let newest = found.iter().filter_map(|found| match found {
            Found::Whole(number) => Some(*number),
            Found::Nothing | Found::Torn => None,
        });
        let newest = newest.max().unwrap_or_default();
        for (place, &found) in (0..places).zip(&found) {
            // The last one acknowledged at this place; 0 is none.
            let due = last.saturating_sub((last + places - place) % places);
            let what = || format!("{kind:?} {due} at place {place}: {found:?}");
            self.checked += u64::from(due != 0);
            match found {
                Found::Whole(number) if number == due => {}
                // On its way when the guest was cut off.
                Found::Whole(number)
                    if number > due && number % places == place && knowledge == Knowledge::AtLeast => {}
                Found::Torn if (newest + 1) % places == place && knowledge == Knowledge::AtLeast => {}
                Found::Nothing if due == 0 => {}
                Found::Torn => self.torn.push(what()),
                Found::Whole(_) | Found::Nothing => self.lost.push(what()),
            }
        }
        Ok(())
    }
}

fn read_slot(file: &File, place: u64) -> io::Result<Vec<u8>> {
    let mut slot = vec![0; SLOT];
    file.read_exact_at(&mut slot, place * SLOT as u64)?;
    Ok(slot)
}

fn done(output: &Output) -> io::Result<()> {
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(words(output)))
    }
}

fn words(output: &Output) -> String {
    let words = [&output.stdout, &output.stderr].map(|words| String::from_utf8_lossy(words).into_owned());
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::super::heard::format::{fill, record_bytes};
    use super::*;

    /// A disk after `last` records, as it should be.
    fn slots(last: u64) -> Vec<Vec<u8>> {
        let mut slots = vec![vec![0; SLOT]; Kind::Raw.places() as usize];
        for number in 1..=last {
            let slot = &mut slots[(number % Kind::Raw.places()) as usize];
            fill(&mut slot[..record_bytes(number)], Kind::Raw, number);
        }
        slots
    }

    fn judge(slots: &[Vec<u8>], last: u64, knowledge: Knowledge) -> (u64, usize, usize) {
        let mut verdict = Verdict::default();
        let read = |place: u64| Ok(slots[place as usize].clone());
        verdict.judge(Kind::Raw, last, knowledge, read).unwrap();
        (verdict.checked, verdict.lost.len(), verdict.torn.len())
    }

    #[test]
    fn what_was_acknowledged_is_found() {
        let places = Kind::Raw.places();
        for last in [0, 1, 2, places - 1, places, places + 1, 10 * places + 7] {
            for knowledge in [Knowledge::All, Knowledge::AtLeast] {
                let checked = last.min(places);
                assert_eq!(judge(&slots(last), last, knowledge), (checked, 0, 0), "{last}");
            }
        }
    }

    #[test]
    fn an_older_record_a_missing_one_and_half_a_one_are_found_out() {
        let places = Kind::Raw.places();
        let last = 3 * places;
        let older = slots(last - 1);
        for knowledge in [Knowledge::All, Knowledge::AtLeast] {
            assert_eq!(judge(&older, last, knowledge), (places, 1, 0));
            let mut missing = slots(last);
            missing[5].fill(0);
            assert_eq!(judge(&missing, last, knowledge), (places, 1, 0));
            // The last sector of a record is that of the one before it at that place.
            let mut torn = slots(last);
            let number = last - places + 9;
            let end = record_bytes(number);
            torn[9][end - 512..end].fill(0xa5);
            assert_eq!(judge(&torn, last, knowledge), (places, 0, 1));
        }
    }

    #[test]
    fn what_was_on_its_way_at_a_cut_is_no_loss_and_from_nowhere_is() {
        let places = Kind::Raw.places();
        let last = 2 * places + 3;
        let newer = slots(last + 2);
        assert_eq!(judge(&newer, last, Knowledge::AtLeast), (places, 0, 0));
        assert_eq!(judge(&newer, last, Knowledge::All), (places, 2, 0));
        let mut torn = slots(last);
        torn[4][600] ^= 1;
        assert_eq!(judge(&torn, last, Knowledge::AtLeast), (places, 0, 0));
        assert_eq!(judge(&torn, last, Knowledge::All), (places, 0, 1));
    }
}
