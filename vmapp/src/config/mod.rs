//! The machine's TOML file: read, checked, and reduced to what the workers need.
//!
//! One table, [`schema::ROWS`], knows every key. It drives the reading, the nearest-match suggestions, `vmapp explain`,
//! `vmapp config` and the table in the crate's readme, so a new key is one row there and one field of [`Draft`].
//!
//! The road of a file: `source` (bytes to text) → `syntax` (text to TOML) → `gather` (TOML to known keys, `--set`
//! on top) → `read` (one value to one field) → `draft` (fields to a checked [`Config`]). Every stage adds to one
//! list of findings; `report` renders them, each with file, line, column and what to write instead.
//!
//! Called by the command line; the supervisor gets a [`Config`]. What must never happen here: a panic on any text, an
//! error without a way out for its reader, or a value the vmm would refuse later.

mod device;
mod draft;
mod effective;
pub mod explain;
mod gather;
mod nearest;
mod paths;
mod read;
mod report;
pub mod schema;
mod source;
mod syntax;

pub use device::{DiskDraft, DiskImage, DiskMode, Forward, NetBackend, NetDraft};
pub use draft::{ConsoleBackend, Draft, HostPaths};
pub use nearest::nearest;
pub use report::{MAX_SHOWN, Report, quoted};
pub use source::MAX_FILE_BYTES;

use gather::Gathered;
use report::Findings;
use shared::spec::MachineSpec;
use source::Sources;
use std::path::{Path, PathBuf};

/// A machine whose file is right: every range of [`MachineSpec`] holds and every named file was there and readable.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the workers get.
    pub spec: MachineSpec,
    /// What stays on the host side: files to open, the console.
    pub host: HostPaths,
    /// The file, as the user named it.
    pub file: PathBuf,
    settings: Vec<effective::Setting>,
}

impl Config {
    /// Reads and checks `file` with the `key=value` texts of `sets` on top, in order.
    pub fn load(file: &Path, sets: &[String]) -> Result<Self, Report> {
        let text = source::read_file(file)?;
        Self::parse(file, text, sets)
    }

    /// As [`Config::load`], for text already read. `file` names it in errors, and its folder is where paths start.
    pub fn parse(file: &Path, text: String, sets: &[String]) -> Result<Self, Report> {
        let sources = Sources::new(file, text, sets);
        let mut findings = Findings::default();
        let checked = check(file, &sources, &mut findings);
        match checked {
            Some(config) if findings.is_empty() => Ok(config),
            _ => Err(findings.into_report(sources)),
        }
    }

    /// The full effective configuration as TOML: itself a right file, each value with where it comes from.
    pub fn effective(&self) -> String {
        effective::render(&self.file, &self.settings)
    }
}

fn check(file: &Path, sources: &Sources, findings: &mut Findings) -> Option<Config> {
    let gathered = Gathered::collect(sources, findings);
    let folder = paths::folder_of(file);
    let mut draft = Draft::with_defaults();
    for (section, item) in gathered.sections() {
        draft.open(section);
        for entry in gathered.entries_of(section, item) {
            read::entry(entry, &folder, &mut draft, findings);
        }
    }
    draft::cross_check(&draft, &gathered, findings);
    let settings = effective::settings(&draft, &gathered, sources);
    Some(Config {
        spec: draft.spec(),
        host: draft.host,
        file: file.to_path_buf(),
        settings,
    })
}
