//! The table of every configuration key: the one place to change when a key is added.
//!
//! Read by the whole of [`config`](super). A row's [`Kind`] carries the function that stores the value, so a row cannot
//! name a field of another type; a unit test reads every default and every example through the ordinary road.

use super::draft::{ConsoleBackend, Draft, Module};
use shared::spec::{EngineChoice, IoSpec, MAX_MEMORY, MIN_MEMORY, Notify, OnReset};
use std::path::PathBuf;

/// One key.
pub struct Row {
    /// As in the file, dotted: `machine.memory`.
    pub key: &'static str,
    /// What a value looks like and where it is stored.
    pub kind: Kind,
    /// What holds when the file is silent.
    pub default: Fallback,
    /// What must be there for the key to have an effect.
    pub needs: Needs,
    /// What it does, one or two sentences.
    pub meaning: &'static str,
    /// A right value, as TOML.
    pub example: &'static str,
}

/// What holds for a key the file does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The file must name it.
    Required,
    /// The machine goes without.
    Unset,
    /// This value, as TOML.
    Is(&'static str),
}

/// What a key has an effect on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Every machine.
    Nothing,
    /// A machine started with `boot.kernel`.
    Kernel,
    /// A machine with a network or disk device. This version has none, so only the default is accepted.
    Device,
}

/// A word of a [`Kind::Choice`], and what choosing it stores.
pub type Choice = (&'static str, fn(&mut Draft));

/// What a value looks like, with where it is stored.
pub enum Kind {
    /// Any string.
    Text(fn(&mut Draft, String)),
    /// Bytes: a string with K, M or G, or an integer.
    Size {
        /// Least, in bytes.
        min: u64,
        /// Most, in bytes.
        max: u64,
        /// Where it is stored.
        store: fn(&mut Draft, u64),
    },
    /// A whole number.
    Integer {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
        /// Where it is stored.
        store: fn(&mut Draft, u32),
    },
    /// `true` or `false`.
    Boolean(fn(&mut Draft, bool)),
    /// An I/O port.
    Port(fn(&mut Draft, u16)),
    /// One word of a list.
    Choice(&'static [Choice]),
    /// An existing, readable file.
    Path(fn(&mut Draft, PathBuf)),
    /// An array of `"path arguments..."`.
    Modules(fn(&mut Draft, Vec<Module>)),
    /// Where a serial port goes.
    Console(fn(&mut Draft, ConsoleBackend)),
    /// A control key, `ctrl-a` to `ctrl-z`, or `none`.
    ControlKey(fn(&mut Draft, Option<u8>)),
    /// Planned, not in this version: why, and what to do instead.
    NotYet(&'static str, &'static str),
}

/// The sections, in the order of the file, each with what it is about. Keys before any section have the empty name.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "the machine as a whole"),
    ("machine", "the board: memory, processors, engine"),
    ("boot", "what the machine starts: one of kernel and image"),
    ("console", "the first serial port (COM1)"),
    ("io", "how the two worlds wake each other"),
];

/// Every key, in the order of the file.
pub const ROWS: &[Row] = &[
    Row {
        key: "name",
        kind: Kind::Text(|draft, name| draft.name = name),
        default: Fallback::Required,
        needs: Needs::Nothing,
        meaning: "Name of the VM, for list, status and stop: 1 to 64 letters, digits, '-', '_' and '.', not \
                  starting with '.'.",
        example: r#""demo""#,
    },
    Row {
        key: "machine.memory",
        kind: Kind::Size {
            min: MIN_MEMORY,
            max: MAX_MEMORY,
            store: |draft, bytes| draft.memory_bytes = bytes,
        },
        default: Fallback::Is(r#""512M""#),
        needs: Needs::Nothing,
        meaning: "Guest memory, in whole pages of 4096 bytes.",
        example: r#""512M""#,
    },
    Row {
        key: "machine.cpus",
        kind: Kind::Integer {
            min: 1,
            max: 1,
            store: |draft, cpus| draft.cpus = cpus,
        },
        default: Fallback::Is("1"),
        needs: Needs::Nothing,
        meaning: "Number of vCPUs; this version runs exactly one.",
        example: "1",
    },
    Row {
        key: "machine.engine",
        kind: Kind::Choice(&[
            ("auto", |draft| draft.engine = EngineChoice::Auto),
            ("kvm", |draft| draft.engine = EngineChoice::Kvm),
            ("bt", |draft| draft.engine = EngineChoice::Bt),
            ("interp", |draft| draft.engine = EngineChoice::Interp),
        ]),
        default: Fallback::Is(r#""auto""#),
        needs: Needs::Nothing,
        meaning: "What executes guest code: hardware virtualization (kvm), binary translation (bt), an interpreter \
                  (interp), or the fastest of them that works (auto). This version has no bt: it is accepted here \
                  and refused when the VM starts.",
        example: r#""kvm""#,
    },
    Row {
        key: "machine.debug_exit",
        kind: Kind::Port(|draft, port| draft.debug_exit = Some(port)),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "I/O port that ends the VM: a guest that writes the byte n there makes `vmapp run` exit with status \
                  10 + n. For test guests; the chipset's own ports are refused.",
        example: "0xf4",
    },
    Row {
        key: "machine.test_device",
        kind: Kind::Boolean(|draft, on| draft.test_device = on),
        default: Fallback::Is("false"),
        needs: Needs::Nothing,
        meaning: "Whether there is QEMU's test device, which kvm-unit-tests use: a latch at port 0xe0, interrupt lines \
                  at 0x2000, memory reached like registers at 0xff000000. For test guests.",
        example: "true",
    },
    Row {
        key: "machine.on_reset",
        kind: Kind::Choice(&[
            ("reboot", |draft| draft.on_reset = OnReset::Reboot),
            ("exit", |draft| draft.on_reset = OnReset::Exit),
        ]),
        default: Fallback::Is(r#""reboot""#),
        needs: Needs::Nothing,
        meaning: "What a reset by the guest does: start the machine again (reboot), or end `vmapp run` with status 4 \
                  (exit).",
        example: r#""exit""#,
    },
    Row {
        key: "boot.kernel",
        kind: Kind::Path(|draft, path| draft.host.kernel = Some(path)),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "Kernel to start without firmware: a bzImage, a PVH vmlinux or a Multiboot 1 ELF, told apart by their \
                  headers. Either this or boot.image.",
        example: r#""vmlinuz""#,
    },
    Row {
        key: "boot.initrd",
        kind: Kind::Path(|draft, path| draft.host.initrd = Some(path)),
        default: Fallback::Unset,
        needs: Needs::Kernel,
        meaning: "Initial RAM disk of the kernel.",
        example: r#""initrd.img""#,
    },
    Row {
        key: "boot.cmdline",
        kind: Kind::Text(|draft, cmdline| draft.cmdline = cmdline),
        default: Fallback::Is(r#""""#),
        needs: Needs::Kernel,
        meaning: "Kernel command line, at most 2047 bytes. Linux writes to the serial port with console=ttyS0.",
        example: r#""console=ttyS0""#,
    },
    Row {
        key: "boot.modules",
        kind: Kind::Modules(|draft, modules| draft.set_modules(modules)),
        default: Fallback::Is("[]"),
        needs: Needs::Kernel,
        meaning: "Multiboot modules, at most 32. The text up to the first space is the file; the whole text is the \
                  module's command line.",
        example: r#"["server.elf --verbose"]"#,
    },
    Row {
        key: "boot.image",
        kind: Kind::Path(|draft, path| draft.host.image = Some(path)),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "Flat image, loaded at 0x7c00 and entered there in real mode. Either this or boot.kernel.",
        example: r#""guest.bin""#,
    },
    Row {
        key: "boot.firmware",
        kind: Kind::NotYet(
            "this version starts no firmware",
            "remove it, and start a kernel or a flat image: write kernel = \"vmlinuz\"",
        ),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "Firmware image to start.",
        example: r#""bios.bin""#,
    },
    Row {
        key: "net",
        kind: Kind::NotYet(
            "this version has no network device yet",
            "remove the [[net]] section",
        ),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "A network device.",
        example: r#"[{ model = "lance" }]"#,
    },
    Row {
        key: "disk",
        kind: Kind::NotYet(
            "this version has no disk device yet",
            "remove the [[disk]] section; an initial RAM disk can hold a root file system: boot.initrd",
        ),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "A disk.",
        example: r#"[{ model = "ide" }]"#,
    },
    Row {
        key: "console.serial",
        kind: Kind::Console(|draft, console| draft.host.console = console),
        default: Fallback::Is(r#""stdio""#),
        needs: Needs::Nothing,
        meaning: "Where the first serial port goes: this terminal (stdio), a new pseudo-terminal (pty), a listening \
                  Unix socket (socket:PATH), a file that receives the output (file:PATH), or nowhere (none).",
        example: r#""socket:console.sock""#,
    },
    Row {
        key: "console.escape",
        kind: Kind::ControlKey(|draft, key| draft.host.escape = key),
        default: Fallback::Is(r#""ctrl-a""#),
        needs: Needs::Nothing,
        meaning: "Key that starts a command to vmapp on a terminal console (stdio) instead of going to the guest; none gives \
                  the guest every key.",
        example: r#""ctrl-b""#,
    },
    Row {
        key: "io.ports",
        kind: Kind::Choice(&[
            ("local", |draft| draft.forward_ports = false),
            ("forward", |draft| draft.forward_ports = true),
        ]),
        default: Fallback::Is(r#""local""#),
        needs: Needs::Device,
        meaning: "Where an access to a device's data port is answered: in the vmm (local), or by a synchronous call to \
                  vmapp, as Workstation 2.0 did (forward).",
        example: r#""local""#,
    },
    Row {
        key: "io.send_combining",
        kind: Kind::Boolean(|draft, on| draft.send_combining = on),
        default: Fallback::Is("true"),
        needs: Needs::Device,
        meaning: "Whether a transmitted frame may wait for the next world switch while switches are frequent.",
        example: "true",
    },
    Row {
        key: "io.max_combined",
        kind: Kind::Integer {
            min: 1,
            max: 64,
            store: |draft, frames| draft.max_combined = frames,
        },
        default: Fallback::Is("3"),
        needs: Needs::Device,
        meaning: "Most frames that wait together under send combining.",
        example: "3",
    },
    Row {
        key: "io.notify",
        kind: Kind::Choice(&[
            ("bitmap", |draft| draft.io.notify = Notify::Bitmap),
            ("select", |draft| draft.io.notify = Notify::Select),
        ]),
        default: Fallback::Is(r#""bitmap""#),
        needs: Needs::Nothing,
        meaning: "How a side learns of the other's work: a plain load of a shared word (bitmap), or a system call on \
                  its doorbell at every look, as Workstation 2.0 did (select).",
        example: r#""select""#,
    },
    Row {
        key: "io.spin_us",
        kind: Kind::Integer {
            min: 0,
            max: IoSpec::MAX_SPIN_US,
            store: |draft, us| draft.io.spin_us = us,
        },
        default: Fallback::Is("50"),
        needs: Needs::Nothing,
        meaning: "Longest a side that ran dry spins before it sleeps, in microseconds; 0 never spins.",
        example: "50",
    },
];

impl Row {
    /// The section the key is in, empty for keys before any.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key as written inside its section.
    pub fn leaf(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, leaf)| leaf)
    }

    /// A right line of the section, `leaf = example`.
    pub fn example_line(&self) -> String {
        format!("{} = {}", self.leaf(), self.example)
    }

    /// The key at `leaf` of `section`, if there is one.
    pub fn find(section: &str, leaf: &str) -> Option<&'static Row> {
        ROWS.iter()
            .find(|row| row.section() == section && row.leaf() == leaf)
    }

    /// Whether the key names something this version does not have.
    pub fn is_not_yet(&self) -> bool {
        matches!(self.kind, Kind::NotYet(..))
    }
}

impl Kind {
    /// What a value is, with its article: "a size", "an integer".
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Choice(_) | Self::Console(_) | Self::ControlKey(_) => "a string",
            Self::Size { .. } => "a size",
            Self::Integer { .. } => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Port(_) => "an I/O port",
            Self::Path(_) => "a path",
            Self::Modules(_) => "an array of strings",
            Self::NotYet(..) => "not in this version",
        }
    }

    /// The values taken, in words.
    pub fn range(&self) -> String {
        match self {
            Self::Text(_) => "any text, in quotes".into(),
            Self::Size { min, max, .. } => format!(
                "{} to {}, as a string with K, M or G or as an integer in bytes",
                in_units(*min),
                in_units(*max)
            ),
            Self::Integer { min, max, .. } if min == max => format!("only {min}"),
            Self::Integer { min, max, .. } => format!("{min} to {max}"),
            Self::Boolean(_) => "true or false".into(),
            Self::Port(_) => "0x0 to 0xffff, free of chipset devices".into(),
            Self::Choice(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "),
            Self::Path(_) => "a readable file, relative to the folder of the configuration file".into(),
            Self::Modules(_) => "strings that start with a readable file".into(),
            Self::Console(_) => super::draft::CONSOLE_FORMS.join(", "),
            Self::ControlKey(_) => "ctrl-a to ctrl-z, or none".into(),
            Self::NotYet(why, _) => (*why).into(),
        }
    }

    /// Whether an unquoted `--set` value is meant as a string, whatever TOML would make of it.
    pub fn takes_text(&self) -> bool {
        matches!(
            self,
            Self::Text(_) | Self::Choice(_) | Self::Console(_) | Self::ControlKey(_) | Self::Path(_)
        )
    }
}

/// Bytes in the largest unit that divides them, as the configuration writes sizes.
pub fn in_units(bytes: u64) -> String {
    [(30, "G"), (20, "M"), (10, "K")]
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or(bytes.to_string(), |(shift, unit)| {
            format!("{}{unit}", bytes >> shift)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use shared::spec::{MAX_CMDLINE, MAX_MODULES, MAX_NAME};
    use std::path::Path;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/right/vm.toml");

    /// A machine with this one key, as TOML, beside what every machine must have.
    fn machine_with(row: &Row, value: &str) -> Result<Config, String> {
        let mut text = String::new();
        if row.key != "name" {
            text.push_str("name = \"demo\"\n");
        }
        if !["boot.kernel", "boot.image"].contains(&row.key) {
            text.push_str("boot.kernel = \"vmlinuz\"\n");
        }
        text.push_str(&format!("{} = {value}\n", row.key));
        Config::parse(Path::new(FOLDER), text, &[]).map_err(|report| report.to_string())
    }

    #[test]
    fn every_default_is_right_and_changes_nothing() {
        for row in ROWS {
            if let Fallback::Is(text) = row.default {
                let named = machine_with(row, text).unwrap_or_else(|report| panic!("{report}"));
                let name = &ROWS[0];
                let silent = machine_with(name, name.example).unwrap_or_else(|report| panic!("{report}"));
                assert_eq!(
                    (named.spec, named.host),
                    (silent.spec, silent.host),
                    "{}",
                    row.key
                );
            }
        }
    }

    #[test]
    fn every_example_is_right() {
        for row in ROWS.iter().filter(|row| !row.is_not_yet()) {
            machine_with(row, row.example).unwrap_or_else(|report| panic!("{report}"));
        }
    }

    #[test]
    fn what_this_version_lacks_is_refused() {
        for row in ROWS.iter().filter(|row| row.is_not_yet()) {
            let report = machine_with(row, row.example).expect_err(row.key);
            assert!(report.contains("this version"), "{report}");
        }
    }

    #[test]
    fn keys_are_unique_and_of_a_known_section() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(
                SECTIONS.iter().any(|(name, _)| *name == row.section()),
                "{}",
                row.key
            );
            assert!(
                ROWS[..index].iter().all(|other| other.key != row.key),
                "{}",
                row.key
            );
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_whole_unit() {
        let cases = [
            (0, "0"),
            (1000, "1000"),
            (1 << 10, "1K"),
            (1 << 20, "1M"),
            (3 << 29, "1536M"),
            (1 << 40, "1024G"),
        ];
        for (bytes, text) in cases {
            assert_eq!(in_units(bytes), text);
        }
    }

    #[test]
    fn limits_in_words_are_the_limits_of_the_specification() {
        let meaning = |key: &str| ROWS.iter().find(|row| row.key == key).unwrap().meaning;
        assert!(meaning("name").contains(&format!("1 to {MAX_NAME} ")));
        assert!(meaning("boot.cmdline").contains(&format!("at most {MAX_CMDLINE} bytes")));
        assert!(meaning("boot.modules").contains(&format!("at most {MAX_MODULES}.")));
    }

    #[test]
    fn defaults_are_those_of_the_specification() {
        let draft = Draft::with_defaults();
        assert_eq!(draft.io, IoSpec::default());
        assert_eq!(draft.engine, EngineChoice::default());
        assert_eq!(draft.on_reset, OnReset::default());
    }
}
