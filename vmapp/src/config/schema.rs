//! The table of every configuration key: the one place to change when a key is added.
//!
//! Read by the whole of [`config`](super). A row's [`Kind`] carries the function that stores the value, so a row cannot
//! name a field of another type; a unit test reads every default and every example through the ordinary road.

use super::device::{DiskImage, DiskMode, Forward, NetBackend};
use super::draft::{ConsoleBackend, Draft, Module};
use shared::msg::fault::Fault;
use shared::spec::{
    EngineChoice, IoSpec, KernelEntry, MAX_DISKS, MAX_MEMORY, MAX_NETS, MIN_MEMORY, Notify, OnReset, Ports,
};
use std::net::Ipv4Addr;
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
    /// A network card with `backend = "tap"`.
    Tap,
    /// A network card with `backend = "nat"`.
    Nat,
    /// A disk with `mode = "overlay"`.
    Overlay,
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
    /// A file to write, in an existing folder.
    Output(fn(&mut Draft, PathBuf)),
    /// An existing file or block device of whole sectors.
    Image(fn(&mut Draft, DiskImage)),
    /// A network interface of the host.
    Interface(fn(&mut Draft, String)),
    /// An Ethernet address.
    Mac(fn(&mut Draft, [u8; 6])),
    /// An IPv4 network, as address/prefix length.
    Network(fn(&mut Draft, (Ipv4Addr, u8))),
    /// An array of `"[udp] address:port -> port"`.
    Forwards(fn(&mut Draft, Vec<Forward>)),
    /// An array of scripted faults.
    Faults(fn(&mut Draft, Vec<Fault>)),
    /// An array of `"path arguments..."`.
    Modules(fn(&mut Draft, Vec<Module>)),
    /// Where a serial port goes.
    Console(fn(&mut Draft, ConsoleBackend)),
    /// A control key, `ctrl-a` to `ctrl-z`, or `none`.
    ControlKey(fn(&mut Draft, Option<u8>)),
    /// Planned, not in this version: why, and what to do instead.
    NotYet(&'static str, &'static str),
}

/// A section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty for the keys before any section.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How often it may stand in a file: once as `[name]`, or so many times as `[[name]]`.
    pub most: usize,
}

impl Section {
    const fn once(name: &'static str, about: &'static str) -> Self {
        Self { name, about, most: 1 }
    }

    /// The section of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SECTIONS.iter().find(|section| section.name == name)
    }

    /// Whether it is written in double brackets, once for each device.
    pub fn is_list(&self) -> bool {
        self.most > 1
    }

    /// As it stands in a file.
    pub fn header(&self) -> String {
        match self.is_list() {
            true => format!("[[{}]]", self.name),
            false => format!("[{}]", self.name),
        }
    }
}

/// The sections, in the order of the file.
pub const SECTIONS: &[Section] = &[
    Section::once("", "the machine as a whole"),
    Section::once("machine", "the board: memory, processors, engine"),
    Section::once("boot", "what the machine starts: one of kernel and image"),
    Section {
        name: "net",
        about: "a network card; one section each",
        most: MAX_NETS,
    },
    Section {
        name: "disk",
        about: "a disk; one section each",
        most: MAX_DISKS,
    },
    Section::once("console", "the first serial port (COM1)"),
    Section::once("io", "how the two worlds wake each other"),
    Section::once("faults", "what goes wrong on purpose, repeatably"),
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
        key: "machine.require_jail",
        kind: Kind::Boolean(|draft, on| draft.require_jail = on),
        default: Fallback::Is("false"),
        needs: Needs::Nothing,
        meaning: "Whether the VM is refused where the host cannot put its workers in a whole jail (own user for root, \
                  namespaces, Landlock, system-call filters); else what is missing is a warning. `vmapp run \
                  --require-jail` sets it.",
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
        meaning: "Kernel to start: a bzImage, a real-mode Linux image such as ipxe.lkrn, a PVH vmlinux or a Multiboot 1 \
                  ELF, told apart by their headers. Either this or boot.image.",
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
        key: "boot.entry",
        kind: Kind::Choice(&[
            ("auto", |draft| draft.entry = KernelEntry::Auto),
            ("real16", |draft| draft.entry = KernelEntry::Real16),
        ]),
        default: Fallback::Is(r#""auto""#),
        needs: Needs::Kernel,
        meaning: "How a Linux image is entered: in 64-bit mode, or in real mode with a small BIOS where it has no 64-bit \
                  entry, as iPXE's ipxe.lkrn (auto); or always in real mode (real16).",
        example: r#""real16""#,
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
        key: "net.model",
        kind: Kind::Choice(&[("lance", |_| {})]),
        default: Fallback::Is(r#""lance""#),
        needs: Needs::Nothing,
        meaning: "Which network card: an AMD Am79C970A PCnet-PCI II (lance), for which guests have had drivers since the \
                  nineties: pcnet32 in Linux.",
        example: r#""lance""#,
    },
    Row {
        key: "net.backend",
        kind: Kind::Choice(&[
            ("tap", |draft| draft.net().backend = NetBackend::Tap),
            ("nat", |draft| draft.net().backend = NetBackend::Nat),
            ("none", |draft| draft.net().backend = NetBackend::None),
        ]),
        default: Fallback::Is(r#""nat""#),
        needs: Needs::Nothing,
        meaning: "What the cable is plugged into: a tap interface of the host (tap), a private network whose router \
                  speaks to the world through the host's sockets and needs no rights (nat), or nothing (none).",
        example: r#""tap""#,
    },
    Row {
        key: "net.tap",
        kind: Kind::Interface(|draft, name| draft.net().tap = Some(name)),
        default: Fallback::Unset,
        needs: Needs::Tap,
        meaning: "Tap interface: an existing one that the user owns, or a new one if the user may make it.",
        example: r#""tap0""#,
    },
    Row {
        key: "net.gso",
        kind: Kind::Boolean(|draft, on| draft.net().gso = on),
        default: Fallback::Is("true"),
        needs: Needs::Tap,
        meaning: "Whether frames of one TCP or UDP flow that leave together are written to the tap as one, to be cut into \
                  segments by whoever needs them apart (generic segmentation offload), and segments of TCP over IPv4 that \
                  the host sends together are read as one and cut for the guest: fewer system calls, and fewer \
                  acknowledgements for the guest to take. tcpdump on the host shows them joined and, to the guest, without \
                  checksums, pcap as the guest has them.",
        example: "false",
    },
    Row {
        key: "net.mac",
        kind: Kind::Mac(|draft, mac| draft.net().mac = Some(mac)),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "Ethernet address of the card. Not set, it is made from the VM's name and the card's number, and so \
                  the same at every start.",
        example: r#""52:54:00:12:34:56""#,
    },
    Row {
        key: "net.pcap",
        kind: Kind::Output(|draft, path| draft.net().pcap = Some(path)),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "File that gets a copy of every frame, either way, in the pcapng format of tcpdump and Wireshark. An \
                  older one is replaced.",
        example: r#""trace.pcapng""#,
    },
    Row {
        key: "net.network",
        kind: Kind::Network(|draft, network| draft.net().network = network),
        default: Fallback::Is(r#""10.0.2.0/24""#),
        needs: Needs::Nat,
        meaning: "The private network of nat: its second address is the router, the third the DNS server, and the \
                  guest gets the fifteenth by DHCP. A guest reaches services of the host itself at the router's address.",
        example: r#""192.168.7.0/24""#,
    },
    Row {
        key: "net.forward",
        kind: Kind::Forwards(|draft, forwards| draft.net().forwards = forwards),
        default: Fallback::Is("[]"),
        needs: Needs::Nat,
        meaning: "Ways into the private network of nat, at most 16: what connects to an address and port of the host \
                  reaches a port of the guest. TCP, unless it starts with udp.",
        example: r#"["127.0.0.1:2222 -> 22"]"#,
    },
    Row {
        key: "disk.model",
        kind: Kind::Choice(&[("ide", |_| {})]),
        default: Fallback::Is(r#""ide""#),
        needs: Needs::Nothing,
        meaning: "Which kind of disk: an ATA disk at the IDE controller of the PIIX3 chipset (ide). The first is master \
                  of the first channel, the second its slave, the others those of the second channel.",
        example: r#""ide""#,
    },
    Row {
        key: "disk.path",
        kind: Kind::Image(|draft, image| draft.disk().image = image),
        default: Fallback::Required,
        needs: Needs::Nothing,
        meaning: "What holds the sectors: a file or block device, taken as it is, whatever is in it. Its size is the \
                  disk's, a multiple of 512 bytes.",
        example: r#""disk.img""#,
    },
    Row {
        key: "disk.mode",
        kind: Kind::Choice(&[
            ("rw", |draft| draft.disk().mode = DiskMode::ReadWrite),
            ("ro", |draft| draft.disk().mode = DiskMode::ReadOnly),
            ("overlay", |draft| draft.disk().mode = DiskMode::Overlay),
        ]),
        default: Fallback::Is(r#""rw""#),
        needs: Needs::Nothing,
        meaning: "Whether the guest's writes go into the image (rw), are refused (ro), or are kept apart in a second \
                  file and leave the image untouched (overlay).",
        example: r#""overlay""#,
    },
    Row {
        key: "disk.overlay",
        kind: Kind::Output(|draft, path| draft.disk().overlay = Some(path)),
        default: Fallback::Unset,
        needs: Needs::Overlay,
        meaning: "File that keeps the writes of an overlay disk; made when it is not there. Not set, it is beside the \
                  image, with .overlay added to its name. `vmapp disk` says what is in it, merges or empties it.",
        example: r#""disk.changes""#,
    },
    Row {
        key: "disk.serial",
        kind: Kind::Text(|draft, serial| draft.disk().serial = Some(serial)),
        default: Fallback::Unset,
        needs: Needs::Nothing,
        meaning: "Serial number the disk tells the guest, at most 20 printable ASCII characters. Not set, it is made from \
                  the disk's number.",
        example: r#""WS0001""#,
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
            ("local", |draft| draft.io.ports = Ports::Local),
            ("forward", |draft| draft.io.ports = Ports::Forward),
        ]),
        default: Fallback::Is(r#""local""#),
        needs: Needs::Nothing,
        meaning: "Where an access to a device's data port is answered: in the vmm (local), or by a synchronous call to \
                  vmapp, as Workstation 2.0 did (forward).",
        example: r#""local""#,
    },
    Row {
        key: "io.send_combining",
        kind: Kind::Boolean(|draft, on| draft.io.send_combining = on),
        default: Fallback::Is("true"),
        needs: Needs::Nothing,
        meaning: "Whether a transmitted frame may wait for the next world switch while switches are frequent.",
        example: "true",
    },
    Row {
        key: "io.max_combined",
        kind: Kind::Integer {
            min: 1,
            max: IoSpec::MAX_COMBINED,
            store: |draft, frames| draft.io.max_combined = frames,
        },
        default: Fallback::Is("3"),
        needs: Needs::Nothing,
        meaning: "Most frames that wait together under send combining.",
        example: "3",
    },
    Row {
        key: "io.flush_us",
        kind: Kind::Integer {
            min: 1,
            max: IoSpec::MAX_FLUSH_US,
            store: |draft, us| draft.io.flush_us = us,
        },
        default: Fallback::Is("1000"),
        needs: Needs::Nothing,
        meaning: "Longest a frame waits under send combining while the guest computes, in microseconds. A guest that \
                  halts sends at once.",
        example: "1000",
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
    Row {
        key: "io.watchdog_ms",
        kind: Kind::Integer {
            min: 0,
            max: 600_000,
            store: |draft, ms| draft.host.watchdog_ms = ms,
        },
        default: Fallback::Is("5000"),
        needs: Needs::Nothing,
        meaning: "How long the I/O worker may show no sign of life before another takes its place, in milliseconds; less \
                  than 100 counts as 100, and 0 lets it hang.",
        example: "2000",
    },
    Row {
        key: "io.restart_limit",
        kind: Kind::Integer {
            min: 0,
            max: 1_000_000,
            store: |draft, deaths| draft.host.restart_limit = deaths,
        },
        default: Fallback::Is("10"),
        needs: Needs::Nothing,
        meaning: "How often the I/O worker may die in any 60 s and be replaced, while the guest waits; one death more ends \
                  the VM. 0 lets the first one end it.",
        example: "100",
    },
    Row {
        key: "faults.seed",
        kind: Kind::Integer {
            min: 0,
            max: u32::MAX,
            store: |draft, seed| draft.host.fault_seed = seed,
        },
        default: Fallback::Is("1"),
        needs: Needs::Nothing,
        meaning: "Seed of scripted faults that name none, here and by `vmapp fault`: the same seed and the same traffic meet \
                  the same faults again.",
        example: "7",
    },
    Row {
        key: "faults.inject",
        kind: Kind::Faults(|draft, faults| draft.host.faults = faults),
        default: Fallback::Is("[]"),
        needs: Needs::Nothing,
        meaning: "Scripted faults armed from the start, at most 32, each as `vmapp fault` takes it: an action and its keys. \
                  `vmapp fault --list` explains them all.",
        example: r#"["drop dir=up rate=0.01"]"#,
    },
];

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

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
            Self::Path(_) | Self::Output(_) | Self::Image(_) => "a path",
            Self::Interface(_) => "an interface name",
            Self::Mac(_) => "an Ethernet address",
            Self::Network(_) => "an IPv4 network",
            Self::Forwards(_) | Self::Faults(_) => "an array of strings",
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
            Self::Output(_) => "a file to write, relative to the folder of the configuration file".into(),
            Self::Image(_) => {
                "a file or block device of whole 512-byte sectors, relative to the folder of the configuration file".into()
            }
            Self::Interface(_) => "1 to 15 characters, no space or slash".into(),
            Self::Mac(_) => "six bytes in hexadecimal with colons, the first of them even".into(),
            Self::Network(_) => "address/prefix length, 8 to 27, the address's other bits zero".into(),
            Self::Forwards(_) => "strings \"[udp] [address:]port -> port\"".into(),
            Self::Faults(_) => "strings as `vmapp fault` takes them".into(),
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
            Self::Text(_)
                | Self::Choice(_)
                | Self::Console(_)
                | Self::ControlKey(_)
                | Self::Path(_)
                | Self::Output(_)
                | Self::Image(_)
                | Self::Interface(_)
                | Self::Mac(_)
                | Self::Network(_)
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
mod tests;
