//! The machine specification: the config reduced to what the workers need, passed by value at start.
//!
//! [`MachineSpec`] is plain untrusted data; the vmm and the I/O worker each accept it with [`MachineSpec::check`],
//! whoever sent it. Paths do not appear: files arrive as descriptors.

use crate::abi::{ChannelKind, ChannelShape, SlotHeader};
use crate::msg::disk;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Least guest memory: real mode, the tables and a kernel's first steps fit.
pub const MIN_MEMORY: u64 = 1 << 20;
/// Most guest memory.
pub const MAX_MEMORY: u64 = 1 << 40;
/// Longest kernel command line, in bytes, without the terminating zero (Linux's x86 limit is 2048 with it).
pub const MAX_CMDLINE: usize = 2047;
/// Most Multiboot modules.
pub const MAX_MODULES: usize = 32;
/// Longest machine name.
pub const MAX_NAME: usize = 64;
/// Most network cards.
pub const MAX_NETS: usize = 4;
/// Most disks: master and slave on two IDE channels.
pub const MAX_DISKS: usize = 4;
/// Largest disk in sectors: what 48-bit addressing reaches.
pub const MAX_SECTORS: u64 = 1 << 48;
/// Longest serial number of a disk (ATA IDENTIFY DEVICE words 10 to 19).
pub const MAX_SERIAL: usize = 20;
/// Channel of the first serial port.
pub const CONSOLE_CHANNEL: u8 = 1;

/// Which engine the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// The fastest that works.
    #[default]
    Auto,
    /// Hardware virtualization through `/dev/kvm`.
    Kvm,
    /// Binary translation.
    Bt,
    /// Interpreter.
    Interp,
}

/// By which of its entries a Linux image is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelEntry {
    /// The 64-bit one if there is one, else the 16-bit one.
    #[default]
    Auto,
    /// The 16-bit one, with a BIOS.
    Real16,
}

/// What the vCPU starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootSpec {
    /// bzImage, PVH vmlinux or Multiboot 1 ELF, told apart by their headers.
    Kernel {
        /// Kernel command line.
        cmdline: String,
        /// Whether an initrd descriptor comes along.
        initrd: bool,
        /// Command line of each Multiboot module, one descriptor each.
        modules: Vec<String>,
        /// How a bzImage is entered.
        entry: KernelEntry,
    },
    /// Flat real-mode image, entered at 0000:7C00.
    Image,
}

/// What a guest's reset request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReset {
    /// Starts the machine again.
    #[default]
    Reboot,
    /// Ends it with exit status 4.
    Exit,
}

/// How the sides learn of each other's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    /// A plain load of the shared words; doorbells only for sleepers.
    #[default]
    Bitmap,
    /// A system call on the doorbell descriptors at every look, as `select` did in 2001.
    Select,
}

/// Where an access to a device's data port is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// In the vmm.
    #[default]
    Local,
    /// In the vmm, after a synchronous call to vmapp, as Workstation 2.0 did. Address latches stay local.
    Forward,
}

/// The `[io]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoSpec {
    /// Where accesses to data ports are answered.
    pub ports: Ports,
    /// Whether a transmitted frame may wait for the next world switch while switches are frequent.
    pub send_combining: bool,
    /// Most frames that wait together, 1..=[`IoSpec::MAX_COMBINED`].
    pub max_combined: u32,
    /// Longest a frame waits, in microseconds, 1..=[`IoSpec::MAX_FLUSH_US`].
    pub flush_us: u32,
    /// How the sides learn of each other's work.
    pub notify: Notify,
    /// Longest spin before a side announces sleep, in microseconds; 0 never spins. At most [`IoSpec::MAX_SPIN_US`].
    pub spin_us: u32,
}

impl IoSpec {
    /// Longest spin that may be asked for: beyond one wake-up across cores (about 40 us) nothing is gained.
    pub const MAX_SPIN_US: u32 = 1000;
    /// Most frames that may be asked to wait together.
    pub const MAX_COMBINED: u32 = 64;
    /// Longest a frame may be asked to wait.
    pub const MAX_FLUSH_US: u32 = 1000;
}

impl Default for IoSpec {
    fn default() -> Self {
        Self {
            ports: Ports::Local,
            send_combining: true,
            max_combined: 3,
            flush_us: 1000,
            notify: Notify::Bitmap,
            spin_us: 50,
        }
    }
}

/// A network card: AMD Am79C970A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetSpec {
    /// Its address; not a group address, not zero.
    pub mac: [u8; 6],
}

/// An IDE disk. The first is master of the first channel, then its slave, then those of the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Size in sectors of 512 bytes, 1..=[`MAX_SECTORS`]; does not change while the machine runs.
    pub sectors: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Serial number: printable ASCII, at most [`MAX_SERIAL`].
    pub serial: String,
}

/// A whole machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Name of the VM: letters, digits, `-`, `_`, `.`, at most [`MAX_NAME`].
    pub name: String,
    /// Guest memory in bytes, a multiple of 4096, [`MIN_MEMORY`]..=[`MAX_MEMORY`].
    pub memory_bytes: u64,
    /// vCPUs; 1 for now.
    pub cpus: u32,
    /// Engine asked for.
    pub engine: EngineChoice,
    /// What to start.
    pub boot: BootSpec,
    /// What a reset does.
    pub on_reset: OnReset,
    /// Debug-exit port, if any: a guest byte n written there ends the VM with status 10 + n.
    pub debug_exit: Option<u16>,
    /// Whether there is QEMU's test device, for test guests.
    pub test_device: bool,
    /// Whether a wall of the jail that the host cannot build is an error.
    pub require_jail: bool,
    /// The crossing's switches.
    pub io: IoSpec,
    /// Network cards, at most [`MAX_NETS`].
    pub nets: Vec<NetSpec>,
    /// Disks, at most [`MAX_DISKS`].
    pub disks: Vec<DiskSpec>,
}

/// What is wrong with a specification.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// Empty, too long or with other characters.
    #[error("name {0:?}: use 1 to {MAX_NAME} of letters, digits, '-', '_' and '.', not starting with '.'")]
    Name(String),
    /// Out of range or not whole pages.
    #[error("memory of {0} bytes: use a multiple of 4096 from 1M to 1T")]
    Memory(u64),
    /// More than one.
    #[error("cpus = {0}: this version runs exactly one vCPU; write cpus = 1")]
    Cpus(u32),
    /// Too long or with a zero byte.
    #[error("kernel command line of {0} bytes: at most {MAX_CMDLINE} fit, without zero bytes")]
    Cmdline(usize),
    /// Too many.
    #[error("{0} modules: at most {MAX_MODULES}")]
    Modules(usize),
    /// Collides with a device.
    #[error("debug_exit port {0:#x}: {1}")]
    DebugExit(u16, &'static str),
    /// Beyond the limit.
    #[error("spin_us = {0}: at most {max}", max = IoSpec::MAX_SPIN_US)]
    Spin(u32),
    /// Out of range.
    #[error("max_combined = {0}: use 1 to {max}", max = IoSpec::MAX_COMBINED)]
    Combined(u32),
    /// Out of range.
    #[error("flush_us = {0}: use 1 to {max}", max = IoSpec::MAX_FLUSH_US)]
    FlushTick(u32),
    /// More cards than fit.
    #[error("{0} network cards: at most {MAX_NETS}")]
    Nets(usize),
    /// Not the address of one card.
    #[error("network card {number}: address {} is {why}", mac_text(mac))]
    Mac {
        /// Index of the card.
        number: usize,
        /// The address.
        mac: [u8; 6],
        /// What is wrong with it.
        why: &'static str,
    },
    /// More disks than two IDE channels take.
    #[error("{0} disks: at most {MAX_DISKS}")]
    Disks(usize),
    /// Nothing, or more than can be addressed.
    #[error("disk {number} of {sectors} sectors: use 1 to {MAX_SECTORS}")]
    DiskSize {
        /// Index of the disk.
        number: usize,
        /// Its size.
        sectors: u64,
    },
    /// Too long or with other characters.
    #[error("disk {number}: serial {serial:?}: at most {MAX_SERIAL} printable ASCII characters")]
    Serial {
        /// Index of the disk.
        number: usize,
        /// Its serial number.
        serial: String,
    },
}

/// Ports the debug-exit port may not take: the chipset's own.
const CHIPSET_PORTS: &[(u16, u16)] = &[
    (0x00, 0x1f),
    (0x20, 0x21),
    (0x40, 0x43),
    (0x60, 0x64),
    (0x70, 0x71),
    (0x80, 0x8f),
    (0x92, 0x92),
    (0xa0, 0xa1),
    (0xc0, 0xdf),
    (0x1f0, 0x1f7),
    (0x170, 0x177),
    (0x376, 0x376),
    (0x3f6, 0x3f6),
    (0x3f8, 0x3ff),
    (0x4d0, 0x4d1),
    (0x600, 0x6ff),
    (0xcf8, 0xcff),
];

/// Room for 256 frames either way: at full speed about two milliseconds of the other side's absence.
const NET_SHAPE: ChannelShape = ChannelShape {
    kind: ChannelKind::Net,
    down_slots: 256,
    up_slots: 256,
    slot_bytes: 1536,
};

/// Room for four requests of the largest size: an IDE channel has one command at a time, which may be several.
const DISK_SHAPE: ChannelShape = ChannelShape {
    kind: ChannelKind::Disk,
    down_slots: 4,
    up_slots: 4,
    slot_bytes: (64 << 10) + 64,
};

const _: () = {
    assert!(NET_SHAPE.slot_bytes as usize >= SlotHeader::BYTES + crate::msg::net::MAX_FRAME);
    assert!(
        DISK_SHAPE.slot_bytes as usize
            >= SlotHeader::BYTES + disk::HEADER_BYTES + disk::MAX_SECTORS as usize * disk::SECTOR
    );
};

/// An Ethernet address as users write it.
pub fn mac_text(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl MachineSpec {
    /// Accepts or refuses the specification. Everything downstream may rely on the ranges in the field docs.
    pub fn check(&self) -> Result<(), SpecError> {
        let name_ok = !self.name.is_empty()
            && self.name.len() <= MAX_NAME
            && !self.name.starts_with('.')
            && self
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !name_ok {
            return Err(SpecError::Name(self.name.clone()));
        }
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&self.memory_bytes) || !self.memory_bytes.is_multiple_of(4096)
        {
            return Err(SpecError::Memory(self.memory_bytes));
        }
        if self.cpus != 1 {
            return Err(SpecError::Cpus(self.cpus));
        }
        if let BootSpec::Kernel { cmdline, modules, .. } = &self.boot {
            for line in std::iter::once(cmdline).chain(modules) {
                if line.len() > MAX_CMDLINE || line.contains('\0') {
                    return Err(SpecError::Cmdline(line.len()));
                }
            }
            if modules.len() > MAX_MODULES {
                return Err(SpecError::Modules(modules.len()));
            }
        }
        if let Some(port) = self.debug_exit
            && CHIPSET_PORTS
                .iter()
                .any(|&(first, last)| (first..=last).contains(&port))
        {
            return Err(SpecError::DebugExit(
                port,
                "a chipset device is there; 0xf4 and 0x501 are usual and free",
            ));
        }
        if self.io.spin_us > IoSpec::MAX_SPIN_US {
            return Err(SpecError::Spin(self.io.spin_us));
        }
        if !(1..=IoSpec::MAX_COMBINED).contains(&self.io.max_combined) {
            return Err(SpecError::Combined(self.io.max_combined));
        }
        if !(1..=IoSpec::MAX_FLUSH_US).contains(&self.io.flush_us) {
            return Err(SpecError::FlushTick(self.io.flush_us));
        }
        self.check_nets()?;
        self.check_disks()
    }

    fn check_nets(&self) -> Result<(), SpecError> {
        if self.nets.len() > MAX_NETS {
            return Err(SpecError::Nets(self.nets.len()));
        }
        for (number, &NetSpec { mac }) in self.nets.iter().enumerate() {
            let wrong = |why| Err(SpecError::Mac { number, mac, why });
            if mac[0] & 1 != 0 {
                return wrong("a group address: its first byte must be even");
            }
            if mac == [0; 6] {
                return wrong("zero");
            }
            if self.nets.iter().take(number).any(|other| other.mac == mac) {
                return wrong("another card's too");
            }
        }
        Ok(())
    }

    fn check_disks(&self) -> Result<(), SpecError> {
        if self.disks.len() > MAX_DISKS {
            return Err(SpecError::Disks(self.disks.len()));
        }
        for (number, disk) in self.disks.iter().enumerate() {
            if !(1..=MAX_SECTORS).contains(&disk.sectors) {
                let sectors = disk.sectors;
                return Err(SpecError::DiskSize { number, sectors });
            }
            let printable = disk.serial.bytes().all(|byte| (0x20..0x7f).contains(&byte));
            if disk.serial.len() > MAX_SERIAL || !printable {
                let serial = disk.serial.clone();
                return Err(SpecError::Serial { number, serial });
            }
        }
        Ok(())
    }

    /// Channel of network card `n`.
    pub fn net_channel(&self, n: u8) -> u8 {
        CONSOLE_CHANNEL + 1 + n
    }

    /// Channel of disk `n`.
    pub fn disk_channel(&self, n: u8) -> u8 {
        self.net_channel(self.nets.len() as u8) + n
    }

    /// The channels this machine needs, in table order.
    pub fn channels(&self) -> Vec<ChannelShape> {
        let mut channels = vec![
            ChannelShape {
                kind: ChannelKind::Control,
                down_slots: 16,
                up_slots: 16,
                slot_bytes: 256,
            },
            ChannelShape {
                kind: ChannelKind::Console,
                down_slots: 64,
                up_slots: 16,
                slot_bytes: 512,
            },
        ];
        channels.extend(self.nets.iter().map(|_| NET_SHAPE));
        channels.extend(self.disks.iter().map(|_| DISK_SHAPE));
        channels
    }
}
