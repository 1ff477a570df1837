//! The functions every board has: an i440FX host bridge, a PIIX3 ISA bridge and a PIIX4 power management function, as
//! guests know them; and the PIIX3's IDE function, which boards with disks have. Only registers that a guest acts on have a meaning; a few more keep what is written.
//!
//! Sources: Intel 82441FX (PMC) data sheet 290549; 82371SB (PIIX3) data sheet 290550; 82371AB (PIIX4) data sheet 290562.

use super::DevFn;
use super::config::{Bar, ConfigSpace, Identity};
use super::intx::PIRQ_IRQS;
use crate::dev::chipset::pm;

const INTEL: u16 = 0x8086;

/// Place of the host bridge.
pub const HOST_BRIDGE: DevFn = DevFn::new(0, 0);
/// Place of the ISA bridge.
pub const ISA_BRIDGE: DevFn = DevFn::new(1, 0);
/// Place of the IDE function.
pub const IDE: DevFn = DevFn::new(1, 1);
/// Place of the power management function.
pub const POWER_MANAGEMENT: DevFn = DevFn::new(1, 3);

/// First of the ISA bridge's four routing registers.
pub const PIRQRC: u8 = 0x60;

/// 8086:1237. PAM and SMRAM keep what is written and do nothing: the ROM area is plain RAM, readable and writable.
pub fn host_bridge() -> ConfigSpace {
    ConfigSpace::new(Identity {
        vendor: INTEL,
        device: 0x1237,
        revision: 2,
        class: 0x06_0000,
    })
    .preset(0x04, &[0x06])
    .writable(0x59, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33])
    .preset(0x72, &[0x02])
    .writable(0x72, &[0x78])
}

/// 8086:7000.
pub fn isa_bridge() -> ConfigSpace {
    ConfigSpace::new(Identity {
        vendor: INTEL,
        device: 0x7000,
        revision: 0,
        class: 0x06_0100,
    })
    // I/O and memory decoding and mastering cannot be turned off.
    .preset(0x04, &[0x07])
    .writable(0x04, &[0x00, 0x01])
    // I/O recovery timer; X-bus chip select.
    .preset(0x4c, &[0x4d])
    .writable(0x4c, &[0xff])
    .preset(0x4e, &[0x03, 0x00])
    .writable(0x4e, &[0xff, 0x01])
    .preset(PIRQRC, &PIRQ_IRQS)
    .writable(PIRQRC, &[0x8f; 4])
    // Deterministic latency control: Linux turns passive release and delayed transactions on.
    .writable(0x82, &[0x0f])
}

/// 8086:7010, both channels at their legacy ports and interrupts, bus master at base address register 4. The timing
/// registers keep what is written: a transfer takes the time it takes. UDMACTL and its timings, 48h to 4Bh, are the
/// PIIX4's; a driver knows by the device's number that they are not here.
pub fn ide() -> ConfigSpace {
    ConfigSpace::new(Identity {
        vendor: INTEL,
        device: 0x7010,
        revision: 0,
        class: 0x01_0180,
    })
    .bars([None, None, None, None, Some(Bar::io(16)), None])
    // Only I/O decoding and mastering can be turned on.
    .writable(0x04, &[0x05, 0x00])
    // Where firmware would have put the bus master, which is not decoded yet.
    .preset(0x20, &[0xa1, 0xff])
    // IDETIM of both channels, with the decoding that firmware would have enabled; SIDETIM.
    .preset(0x40, &[0x00, 0x80, 0x00, 0x80])
    .writable(0x40, &[0xff; 5])
}

/// 8086:7113, which tells a guest where the registers of [`pm`] are. It interrupts by the SCI, not by a pin, and its SMBus
/// host is off.
pub fn power_management() -> ConfigSpace {
    let [low, high] = pm::Pm::FIRST.to_le_bytes();
    ConfigSpace::new(Identity {
        vendor: INTEL,
        device: 0x7113,
        revision: 3,
        class: 0x06_8000,
    })
    // PMBASE, with the bit that says "I/O"; fixed, as the ACPI tables name the same place.
    .preset(0x40, &[low | 1, high])
    // PMREGMISC: the registers are enabled.
    .preset(0x80, &[0x01])
}
