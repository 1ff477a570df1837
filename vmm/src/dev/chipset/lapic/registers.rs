//! The register map of the local APIC (Intel SDM volume 3, sections 11.4.1 and 11.12.1.2): which numbers are
//! registers, in which mode they exist, and which bits software may write. Both interfaces, memory and MSR,
//! decode here and nowhere else.

/// One register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Id,
    Version,
    /// Task priority.
    Tpr,
    /// Arbitration priority.
    Apr,
    /// Processor priority.
    Ppr,
    Eoi,
    /// Remote read.
    Rrd,
    /// Logical destination.
    Ldr,
    /// Destination format.
    Dfr,
    /// Spurious-interrupt vector and software enable.
    Svr,
    /// In service, 32 vectors each.
    Isr(u8),
    /// Trigger mode, 32 vectors each.
    Tmr(u8),
    /// Requested, 32 vectors each.
    Irr(u8),
    /// Error status.
    Esr,
    /// Interrupt command: the low half, and in x2APIC mode all of it.
    IcrLow,
    /// Interrupt command: the high half, xAPIC mode only.
    IcrHigh,
    Lvt(Lvt),
    /// Initial count of the timer.
    InitialCount,
    /// Current count of the timer.
    CurrentCount,
    /// Divide configuration of the timer.
    Divide,
    /// Self IPI, x2APIC mode only.
    SelfIpi,
}

/// An entry of the local vector table, in the order of the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl Lvt {
    /// Entries there are.
    pub const COUNT: usize = 6;

    /// Bits software may write (SDM section 11.5.1); vector, and mask in bit 16, are in all of them.
    pub const fn writable(self) -> u32 {
        match self {
            Self::Timer => 0x0007_00ff,
            Self::Thermal | Self::Performance => 0x0001_07ff,
            Self::Lint0 | Self::Lint1 => 0x0001_a7ff,
            Self::Error => 0x0001_00ff,
        }
    }

    /// Bits hardware shows in addition: delivery status, and the remote IRR of the pins.
    const fn read_only(self) -> u32 {
        match self {
            Self::Lint0 | Self::Lint1 => 0x5000,
            _ => 0x1000,
        }
    }
}

/// Bits of the SVR software may write: vector, software enable, focus check (kept, without effect),
/// EOI-broadcast suppression.
pub(super) const SVR_WRITABLE: u32 = 0x13ff;
/// Bits of the low half of the ICR software may write in xAPIC mode.
pub(super) const ICR_WRITABLE: u32 = 0x000c_cfff;
/// Divide configuration: bits 0, 1 and 3.
pub(super) const DIVIDE_WRITABLE: u32 = 0xb;

impl Register {
    /// The register at offset `16 * index` of the page, which is also MSR `800h + index`; `None` where nothing
    /// is.
    pub const fn decode(index: u32) -> Option<Self> {
        Some(match index {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::Tpr,
            0x09 => Self::Apr,
            0x0a => Self::Ppr,
            0x0b => Self::Eoi,
            0x0c => Self::Rrd,
            0x0d => Self::Ldr,
            0x0e => Self::Dfr,
            0x0f => Self::Svr,
            0x10..=0x17 => Self::Isr((index & 7) as u8),
            0x18..=0x1f => Self::Tmr((index & 7) as u8),
            0x20..=0x27 => Self::Irr((index & 7) as u8),
            0x28 => Self::Esr,
            0x30 => Self::IcrLow,
            0x31 => Self::IcrHigh,
            0x32 => Self::Lvt(Lvt::Timer),
            0x33 => Self::Lvt(Lvt::Thermal),
            0x34 => Self::Lvt(Lvt::Performance),
            0x35 => Self::Lvt(Lvt::Lint0),
            0x36 => Self::Lvt(Lvt::Lint1),
            0x37 => Self::Lvt(Lvt::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f => Self::SelfIpi,
            _ => return None,
        })
    }

    /// Whether the memory interface has it.
    pub const fn in_xapic(self) -> bool {
        !matches!(self, Self::SelfIpi)
    }

    /// Whether RDMSR of it works in x2APIC mode. The rest faults.
    pub const fn x2apic_readable(self) -> bool {
        !matches!(
            self,
            Self::Apr | Self::Rrd | Self::Dfr | Self::IcrHigh | Self::Eoi | Self::SelfIpi
        )
    }

    /// Values WRMSR takes in x2APIC mode: the bits that need not be zero. `None`: every write faults.
    ///
    /// Bits the xAPIC shows as status (delivery status of the ICR, the read-only ones of an LVT) may be written
    /// back as read and are ignored.
    pub const fn x2apic_writable(self) -> Option<u64> {
        Some(match self {
            Self::Tpr | Self::SelfIpi => 0xff,
            Self::Eoi | Self::Esr => 0,
            Self::Svr => SVR_WRITABLE as u64,
            Self::IcrLow => 0xffff_ffff_0000_0000 | ICR_WRITABLE as u64 | 0x1000,
            Self::Lvt(lvt) => (lvt.writable() | lvt.read_only()) as u64,
            Self::InitialCount => 0xffff_ffff,
            Self::Divide => DIVIDE_WRITABLE as u64,
            _ => return None,
        })
    }
}
