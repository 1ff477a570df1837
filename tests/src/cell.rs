//! What /proc says of a jailed process, read from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process.
pub struct Process {
    folder: PathBuf,
}

/// One mapping of a process.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// As in /proc/PID/maps: `rwxp`.
    pub rights: String,
    /// In bytes.
    pub len: u64,
    /// File, kind, or nothing.
    pub name: String,
}

impl Process {
    /// The process with this id.
    pub fn new(pid: u32) -> Self {
        Self {
            folder: Path::new("/proc").join(pid.to_string()),
        }
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// A field of its status, in words.
    pub fn status(&self, field: &str) -> Vec<String> {
        field_of(&self.text("status"), field)
    }

    /// A field of each thread's status, by the thread's name.
    pub fn threads(&self, field: &str) -> BTreeMap<String, String> {
        let tasks = fs::read_dir(self.folder.join("task"))
            .expect("its threads")
            .flatten();
        tasks
            .map(|task| {
                let text = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
                let name = text("comm").trim().to_owned();
                (name, field_of(&text("status"), field).join(" "))
            })
            .collect()
    }

    /// A soft and hard limit, as the kernel names it.
    pub fn limit(&self, name: &str) -> [String; 2] {
        let text = self.text("limits");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let mut words = line.expect("the limit").split_whitespace().map(str::to_owned);
        [words.next(), words.next()].map(|word| word.expect("a limit"))
    }

    /// Identity of its namespace of a kind.
    pub fn namespace(&self, kind: &str) -> PathBuf {
        fs::read_link(self.folder.join("ns").join(kind)).unwrap_or_else(|error| panic!("{kind}: {error}"))
    }

    /// What is in its root folder.
    pub fn root(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.join("root")).expect("its root");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// What it has mounted.
    pub fn mounts(&self) -> usize {
        self.text("mountinfo").lines().count()
    }

    /// Its descriptors by kind, and how many of each: `eventfd`, `unix socket`, `pipe`, or the file's path.
    pub fn descriptors(&self) -> BTreeMap<String, usize> {
        // The sockets were made in our network namespace, all but those a worker makes itself.
        let unix = fs::read_to_string("/proc/thread-self/net/unix").expect("Unix sockets");
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(self.folder.join("fd"))
            .expect("descriptors")
            .flatten()
        {
            // One closed meanwhile is none.
            let Ok(link) = fs::read_link(entry.path()) else {
                continue;
            };
            let link = link.to_string_lossy().into_owned();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            let kind = match inode {
                Some(inode)
                    if unix
                        .lines()
                        .any(|line| line.split_whitespace().any(|word| word == inode)) =>
                {
                    "unix socket".to_owned()
                }
                Some(_) => "inet socket".to_owned(),
                None if link.starts_with("pipe:") => "pipe".to_owned(),
                None => link
                    .strip_prefix("anon_inode:")
                    .map_or(link.clone(), |kind| kind.trim_matches(['[', ']']).to_owned()),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// What is behind one of its descriptors.
    pub fn descriptor(&self, number: u32) -> PathBuf {
        let link = self.folder.join("fd").join(number.to_string());
        fs::read_link(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()))
    }

    /// Opens, for writing, what is behind one of its descriptors.
    pub fn open(&self, number: u32) -> std::io::Result<fs::File> {
        let path = self.folder.join("fd").join(number.to_string());
        fs::File::options().write(true).open(path)
    }

    /// Its mappings.
    pub fn mappings(&self) -> Vec<Mapping> {
        self.text("maps").lines().map(mapping).collect()
    }
}

fn field_of(status: &str, field: &str) -> Vec<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let words = line.unwrap_or_else(|| panic!("no {field}")).split_whitespace();
    words.map(str::to_owned).collect()
}

/// A line of /proc/PID/maps (proc_pid_maps(5)).
fn mapping(line: &str) -> Mapping {
    let mut words = line.split_whitespace();
    let mut next = || words.next().unwrap_or_default();
    let (start, end) = next().split_once('-').expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    let rights = next().to_owned();
    let (_offset, _device, _inode) = (next(), next(), next());
    Mapping {
        len: number(end) - number(start),
        rights,
        name: words.collect::<Vec<_>>().join(" "),
    }
}
