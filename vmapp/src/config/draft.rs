//! The machine as read so far: plain fields, each right by itself, not yet right together.
//!
//! [`schema::ROWS`](super::schema::ROWS) writes the fields; [`cross_check`] judges what no single key can: which keys
//! exclude or need each other, and what the whole comes to.

use super::device::{DiskDraft, DiskMode, NetBackend, NetDraft};
use super::gather::{Entry, Gathered};
use super::read;
use super::report::Findings;
use super::schema::{Fallback, Needs, ROWS, Row, Section};
use crate::back::disk::open::overlay_path;
use crate::fault::armory;
use shared::msg::fault::Fault;
use shared::msg::handover::MAX_BYTES;
use shared::spec::{BootSpec, EngineChoice, IoSpec, KernelEntry, MachineSpec, OnReset};
use std::path::PathBuf;

/// The forms of `console.serial`.
pub const CONSOLE_FORMS: [&str; 5] = ["stdio", "pty", "socket:PATH", "file:PATH", "none"];

/// Share of the start record kept for everything but the machine: descriptor roles and framing, in bytes.
const RECORD_RESERVE: usize = 16 << 10;

/// Where the first serial port goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConsoleBackend {
    /// Standard input and output of `vmapp run`.
    #[default]
    Stdio,
    /// A new pseudo-terminal.
    Pty,
    /// A Unix socket that listens at this path.
    Socket(PathBuf),
    /// Output to this file; no input.
    File(PathBuf),
    /// Output is dropped; no input.
    None,
}

/// What stays on the host side. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPaths {
    /// Kernel; exactly one of this and `image` is there.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk, only beside a kernel.
    pub initrd: Option<PathBuf>,
    /// Multiboot modules, in the order of their command lines in the specification.
    pub modules: Vec<PathBuf>,
    /// Flat image.
    pub image: Option<PathBuf>,
    /// First serial port.
    pub console: ConsoleBackend,
    /// Network cards, in the order of the specification's.
    pub nets: Vec<NetDraft>,
    /// Disks, in the order of the specification's.
    pub disks: Vec<DiskDraft>,
    /// The escape key of the console, as the byte a terminal sends: 1 (ctrl-a) to 26 (ctrl-z); none passes every byte.
    pub escape: Option<u8>,
    /// Milliseconds without a sign of life after which the I/O worker is replaced; 0: never.
    pub watchdog_ms: u32,
    /// Deaths of the I/O worker in any 60 s that are followed by another one.
    pub restart_limit: u32,
    /// Seed of scripted faults that name none.
    pub fault_seed: u32,
    /// Scripted faults armed from the start.
    pub faults: Vec<Fault>,
}

/// A Multiboot module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its file.
    pub path: PathBuf,
    /// Its command line, file name included.
    pub cmdline: String,
}

/// Every field of every key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// `name`.
    pub name: String,
    /// `machine.memory`.
    pub memory_bytes: u64,
    /// `machine.cpus`.
    pub cpus: u32,
    /// `machine.engine`.
    pub engine: EngineChoice,
    /// `machine.debug_exit`.
    pub debug_exit: Option<u16>,
    /// `machine.test_device`.
    pub test_device: bool,
    /// `machine.require_jail`.
    pub require_jail: bool,
    /// `machine.on_reset`.
    pub on_reset: OnReset,
    /// `boot.cmdline`.
    pub cmdline: String,
    /// `boot.entry`.
    pub entry: KernelEntry,
    /// The `[io]` section.
    pub io: IoSpec,
    /// Files, devices' back ends and console.
    pub host: HostPaths,
    module_cmdlines: Vec<String>,
}

impl Draft {
    /// The machine of a file without a key.
    pub fn with_defaults() -> Self {
        let mut draft = Self::default();
        draft.take_defaults(|row| Section::find(row.section()).is_some_and(|section| !section.is_list()));
        draft
    }

    fn take_defaults(&mut self, of: impl Fn(&Row) -> bool) {
        for row in ROWS.iter().filter(|row| of(row)) {
            if let Fallback::Is(text) = row.default {
                read::default(row, text, self);
            }
        }
    }

    /// Starts a section: of one that stands once for each device, another device, with its defaults.
    pub fn open(&mut self, section: &str) {
        match section {
            "net" => self.host.nets.push(NetDraft::default()),
            "disk" => self.host.disks.push(DiskDraft::default()),
            _ => return,
        }
        self.take_defaults(|row| row.section() == section);
    }

    /// The network card whose section is open.
    pub fn net(&mut self) -> &mut NetDraft {
        let nets = &mut self.host.nets;
        if nets.is_empty() {
            nets.push(NetDraft::default());
        }
        let last = nets.len() - 1;
        &mut nets[last]
    }

    /// The disk whose section is open.
    pub fn disk(&mut self) -> &mut DiskDraft {
        let disks = &mut self.host.disks;
        if disks.is_empty() {
            disks.push(DiskDraft::default());
        }
        let last = disks.len() - 1;
        &mut disks[last]
    }

    /// As [`Draft::with_defaults`], with the required keys filled in so that its specification is right.
    pub fn blank() -> Self {
        Self {
            name: "blank".into(),
            ..Self::with_defaults()
        }
    }

    /// `boot.modules`.
    pub fn set_modules(&mut self, modules: Vec<Module>) {
        (self.host.modules, self.module_cmdlines) = modules
            .into_iter()
            .map(|module| (module.path, module.cmdline))
            .unzip();
    }

    /// What the workers get.
    pub fn spec(&self) -> MachineSpec {
        let boot = match self.host.image {
            Some(_) => BootSpec::Image,
            None => BootSpec::Kernel {
                cmdline: self.cmdline.clone(),
                initrd: self.host.initrd.is_some(),
                modules: self.module_cmdlines.clone(),
                entry: self.entry,
            },
        };
        MachineSpec {
            name: self.name.clone(),
            memory_bytes: self.memory_bytes,
            cpus: self.cpus,
            engine: self.engine,
            boot,
            on_reset: self.on_reset,
            debug_exit: self.debug_exit,
            test_device: self.test_device,
            require_jail: self.require_jail,
            io: self.io,
            nets: (0..)
                .zip(&self.host.nets)
                .map(|(number, net)| net.spec(&self.name, number))
                .collect(),
            disks: (0..)
                .zip(&self.host.disks)
                .map(|(number, disk)| disk.spec(number))
                .collect(),
        }
    }
}

/// Whether a row's key has an effect in this section beside the other keys given; if not, why.
pub fn without_effect(row: &Row, draft: &Draft, item: usize) -> Option<&'static str> {
    let backend = draft.host.nets.get(item).map(|net| net.backend);
    let mode = draft.host.disks.get(item).map(|disk| disk.mode);
    match row.needs {
        Needs::Kernel if draft.host.image.is_some() => Some("no effect on a flat image"),
        Needs::Tap if backend != Some(NetBackend::Tap) => Some("no effect without backend = \"tap\""),
        Needs::Nat if backend != Some(NetBackend::Nat) => Some("no effect without backend = \"nat\""),
        Needs::Overlay if mode != Some(DiskMode::Overlay) => Some("no effect without mode = \"overlay\""),
        Needs::Nothing | Needs::Kernel | Needs::Tap | Needs::Nat | Needs::Overlay => None,
    }
}

/// Judges the keys together.
pub fn cross_check(draft: &Draft, gathered: &Gathered<'_>, findings: &mut Findings) {
    for (section, item) in gathered.sections() {
        for row in ROWS.iter().filter(|row| row.section() == section) {
            let required = row.default == Fallback::Required
                || row.needs == Needs::Tap
                    && row.default == Fallback::Unset
                    && without_effect(row, draft, item).is_none();
            if required && gathered.is_missing(row.key, item) {
                findings.add(
                    gathered.home_of(section, item),
                    format!("`{}` is missing", row.key),
                    format!("add the line {}", row.example_line()),
                );
            }
        }
        for entry in gathered.entries_of(section, item) {
            check_effect(draft, entry, findings);
        }
    }
    check_boot(gathered, findings);
    check_disks(draft, gathered, findings);
    check_nets(draft, gathered, findings);
    check_faults(draft, gathered, findings);
    let spec = draft.spec();
    let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |record| record.len());
    if bytes > MAX_BYTES - RECORD_RESERVE
        && let Some(modules) = gathered.get("boot.modules", 0)
    {
        findings.add(
            modules.key.clone(),
            format!(
                "the command lines of kernel and modules come to {bytes} bytes with the rest of the machine"
            ),
            format!("shorten them to at most {} together", MAX_BYTES - RECORD_RESERVE),
        );
    }
}

fn check_faults(draft: &Draft, gathered: &Gathered<'_>, findings: &mut Findings) {
    let Some(entry) = gathered.get("faults.inject", 0) else {
        return;
    };
    let channels = armory::channels(&draft.spec());
    let texts = entry.value.get_ref().as_array();
    // Read one by one, and all or none of them.
    for (text, fault) in texts.into_iter().flatten().zip(&draft.host.faults) {
        if let Err(error) = armory::applies(fault, &channels) {
            findings.add(
                entry.place(text.span()),
                format!("`faults.inject`: {error}"),
                "name one of them, or remove `channel`",
            );
        }
    }
}

fn check_boot(gathered: &Gathered<'_>, findings: &mut Findings) {
    match (gathered.get("boot.kernel", 0), gathered.get("boot.image", 0)) {
        (None, None)
            if ["boot.kernel", "boot.image", "boot.firmware"]
                .iter()
                .all(|key| gathered.is_missing(key, 0)) =>
        {
            findings.add(
                gathered.home_of("boot", 0),
                "nothing to start: neither `boot.kernel` nor `boot.image` is given",
                "under [boot], write kernel = \"vmlinuz\" or image = \"guest.bin\"",
            );
        }
        (Some(kernel), Some(image)) => findings.add(
            kernel.key.clone().max(image.key.clone()),
            "`boot.kernel` and `boot.image` are both given",
            "remove one: a machine starts either a kernel or a flat image",
        ),
        _ => {}
    }
}

/// A key that does nothing was meant to do something.
fn check_effect(draft: &Draft, entry: &Entry<'_>, findings: &mut Findings) {
    let Some(why) = without_effect(entry.row, draft, entry.item) else {
        return;
    };
    let net = draft.host.nets.get(entry.item);
    let instead = match entry.row.needs {
        // Both at once is told of the two keys themselves.
        Needs::Kernel if draft.host.kernel.is_some() => return,
        Needs::Kernel => "start a kernel: write kernel = \"vmlinuz\" in place of image",
        Needs::Tap => "write backend = \"tap\"",
        Needs::Nat if net.is_some_and(|net| net.backend == NetBackend::Tap) => {
            "let the host route to the tap; or write backend = \"nat\""
        }
        Needs::Nat => "write backend = \"nat\"",
        Needs::Overlay => "write mode = \"overlay\"",
        Needs::Nothing => return,
    };
    findings.add(
        entry.key.clone(),
        format!("`{}` has {why}", entry.row.key),
        format!("remove it, or {instead}"),
    );
}

/// Two disks with one file to write, and files that cannot be written.
fn check_disks(draft: &Draft, gathered: &Gathered<'_>, findings: &mut Findings) {
    let written = |disk: &DiskDraft| match disk.mode {
        DiskMode::ReadWrite => Some(disk.image.path.clone()),
        DiskMode::ReadOnly => None,
        DiskMode::Overlay => {
            let beside = || overlay_path(&disk.image.path);
            Some(disk.overlay.clone().unwrap_or_else(beside))
        }
    };
    for (item, disk) in draft.host.disks.iter().enumerate() {
        let Some(path_entry) = gathered.get("disk.path", item) else {
            continue;
        };
        let known = |disk: &&DiskDraft| disk.image.path.file_name().is_some();
        let others = || draft.host.disks.iter().take(item).filter(known);
        let mine = Some(disk).filter(known).and_then(written);
        let shared = others().any(|other| {
            let theirs = written(other);
            mine.as_ref()
                .is_some_and(|mine| theirs.as_ref() == Some(mine) || *mine == other.image.path)
                || theirs.is_some_and(|theirs| known(&disk) && theirs == disk.image.path)
        });
        if shared {
            findings.add(
                path_entry.key.clone(),
                "an earlier disk has the same file, and one of them writes to it",
                "write mode = \"ro\" or mode = \"overlay\" for both, with two overlays, or name another file",
            );
        }
        let read_only = std::fs::metadata(&disk.image.path).is_ok_and(|file| file.permissions().readonly());
        if disk.mode == DiskMode::ReadWrite && read_only {
            findings.add(
                path_entry.key.clone(),
                "the file may not be written",
                "write mode = \"ro\" or mode = \"overlay\", or chmod u+w the file",
            );
        }
    }
}

/// Two cards with one address or one tap.
fn check_nets(draft: &Draft, gathered: &Gathered<'_>, findings: &mut Findings) {
    let nets = &draft.host.nets;
    for (item, net) in nets.iter().enumerate() {
        let earlier = || nets.iter().take(item);
        if let Some(entry) = gathered.get("net.mac", item)
            && net.mac.is_some()
            && earlier().any(|other| other.mac == net.mac)
        {
            findings.add(
                entry.key.clone(),
                "an earlier card has this address",
                "change one digit, or remove the line: an address is made for each card",
            );
        }
        if let Some(entry) = gathered.get("net.tap", item)
            && net.tap.is_some()
            && earlier().any(|other| other.tap == net.tap)
        {
            findings.add(
                entry.key.clone(),
                "an earlier card has this tap",
                "name another; a bridge joins two taps",
            );
        }
    }
}
