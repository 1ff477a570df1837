//! The machine as read so far: plain fields, each right by itself, not yet right together.
//!
//! [`schema::ROWS`](super::schema::ROWS) writes the fields; [`cross_check`] judges what no single key can: which keys
//! exclude or need each other, and what the whole comes to.

use super::gather::Gathered;
use super::read;
use super::report::Findings;
use super::schema::{Fallback, Needs, ROWS};
use shared::msg::handover::MAX_BYTES;
use shared::spec::{BootSpec, EngineChoice, IoSpec, MachineSpec, OnReset};
use std::path::PathBuf;

/// The forms of `console.serial`.
pub const CONSOLE_FORMS: [&str; 5] = ["stdio", "pty", "socket:PATH", "file:PATH", "none"];

/// Share of the start record kept for everything but the machine: descriptor roles and framing, in bytes.
const RECORD_RESERVE: usize = 8 << 10;

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
    /// The escape key of the console, as the byte a terminal sends: 1 (ctrl-a) to 26 (ctrl-z); none passes every byte.
    pub escape: Option<u8>,
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
    /// `machine.on_reset`.
    pub on_reset: OnReset,
    /// `boot.cmdline`.
    pub cmdline: String,
    /// `io.notify` and `io.spin_us`.
    pub io: IoSpec,
    /// `io.ports`: waits for the first device with a data port.
    pub forward_ports: bool,
    /// `io.send_combining`: waits for the first network device.
    pub send_combining: bool,
    /// `io.max_combined`: waits for the first network device.
    pub max_combined: u32,
    /// Files and console.
    pub host: HostPaths,
    module_cmdlines: Vec<String>,
}

impl Draft {
    /// The machine of a file without a key.
    pub fn with_defaults() -> Self {
        let mut draft = Self::default();
        for row in ROWS {
            if let Fallback::Is(text) = row.default {
                read::default(row, text, &mut draft);
            }
        }
        draft
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
            io: self.io,
        }
    }
}

/// Whether a row's key has an effect beside the other keys given; if not, why.
pub fn without_effect(needs: Needs, gathered: &Gathered<'_>) -> Option<&'static str> {
    match needs {
        Needs::Kernel if gathered.get("boot.image").is_some() => Some("no effect on a flat image"),
        Needs::Device => Some("no effect without a network or disk device"),
        Needs::Kernel | Needs::Nothing => None,
    }
}

/// Judges the keys together.
pub fn cross_check(draft: &Draft, gathered: &Gathered<'_>, findings: &mut Findings) {
    for row in ROWS.iter().filter(|row| row.default == Fallback::Required) {
        if gathered.is_missing(row.key) {
            findings.add(
                gathered.home_of(row.section()),
                format!("`{}` is missing", row.key),
                format!("add the line {}", row.example_line()),
            );
        }
    }
    check_boot(gathered, findings);
    let spec = draft.spec();
    let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |record| record.len());
    if bytes > MAX_BYTES - RECORD_RESERVE
        && let Some(modules) = gathered.get("boot.modules")
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

fn check_boot(gathered: &Gathered<'_>, findings: &mut Findings) {
    match (gathered.get("boot.kernel"), gathered.get("boot.image")) {
        (None, None)
            if ["boot.kernel", "boot.image", "boot.firmware"]
                .iter()
                .all(|key| gathered.is_missing(key)) =>
        {
            findings.add(
                gathered.home_of("boot"),
                "nothing to start: neither `boot.kernel` nor `boot.image` is given",
                "under [boot], write kernel = \"vmlinuz\" or image = \"guest.bin\"",
            );
        }
        (Some(kernel), Some(image)) => findings.add(
            kernel.key.clone().max(image.key.clone()),
            "`boot.kernel` and `boot.image` are both given",
            "remove one: a machine starts either a kernel or a flat image",
        ),
        (None, Some(_)) => {
            for entry in gathered
                .entries()
                .filter(|entry| entry.row.needs == Needs::Kernel)
            {
                findings.add(
                    entry.key.clone(),
                    format!("`{}` has no effect on a flat image", entry.row.key),
                    "remove it, or start a kernel: write kernel = \"vmlinuz\" in place of image",
                );
            }
        }
        _ => {}
    }
}
