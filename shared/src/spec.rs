//! The machine specification: the config reduced to what the workers need, passed by value at start.
//!
//! [`MachineSpec`] is plain untrusted data; the vmm and the I/O worker each accept it with [`MachineSpec::check`],
//! whoever sent it. Paths do not appear: files arrive as descriptors.

use crate::abi::{ChannelKind, ChannelShape};
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

/// The `[io]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoSpec {
    /// How the sides learn of each other's work.
    pub notify: Notify,
    /// Longest spin before a side announces sleep, in microseconds; 0 never spins. At most [`IoSpec::MAX_SPIN_US`].
    pub spin_us: u32,
}

impl IoSpec {
    /// Longest spin that may be asked for: beyond one wake-up across cores (about 40 us) nothing is gained.
    pub const MAX_SPIN_US: u32 = 1000;
}

impl Default for IoSpec {
    fn default() -> Self {
        Self {
            notify: Notify::Bitmap,
            spin_us: 50,
        }
    }
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
    /// The crossing's switches.
    pub io: IoSpec,
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
        Ok(())
    }

    /// The channels this machine needs, in table order.
    pub fn channels(&self) -> Vec<ChannelShape> {
        vec![
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
        ]
    }
}
