//! The tables that are plain structures: FADT and MADT.
//!
//! The MADT is written entry by entry: the `acpi_tables` crate has no interrupt source override, no local APIC NMI, and
//! no way to say that there are 8259s (PCAT_COMPAT).
//!
//! Source: ACPI Specification 6.5, sections 5.2.9 (FADT) and 5.2.12 (MADT).

use super::{AcpiConfig, OEM, OEM_REVISION, OEM_TABLE};
use crate::dev::chipset::pm::Pm;
use crate::mem::{IOAPIC_BASE, LAPIC_BASE};
use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::sdt::Sdt;

/// The reset control register of [`crate::dev::chipset::pci`], and what to write there.
const RESET_REGISTER: (u64, u8) = (crate::dev::chipset::pci::RESET_CONTROL as u64, 0x06);
/// CMOS byte of the century.
const CENTURY: u8 = 0x32;
/// Latencies that mean "no C2" and "no C3": more than 100 and 1000 microseconds.
const NO_C2_C3: (u16, u16) = (101, 1001);

/// IAPC_BOOT_ARCH: ISA devices, an 8042, and no VGA to be probed for.
const BOOT_ARCH: u16 = 1 << 0 | 1 << 1 | 1 << 2;

fn port(at: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, at.into())
}

/// The fixed ACPI description table. The addresses are those of FACS and DSDT.
///
/// SMI_CMD is zero: the machine never leaves ACPI mode. The power button is the fixed one (its flag says "not fixed" when
/// set), there is no sleep button, and the clock wakes nobody.
pub(super) fn fadt(facs: u32, dsdt: u32) -> FADT {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Desktop)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    fadt.firmware_ctrl = facs.into();
    fadt.dsdt = dsdt.into();
    fadt.x_dsdt = u64::from(dsdt).into();
    fadt.sci_int = u16::from(Pm::SCI_GSI).into();
    fadt.pm1a_evt_blk = u32::from(Pm::EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = port(Pm::EVENT, 32, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(Pm::CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = port(Pm::CONTROL, 16, AccessSize::WordAccess);
    fadt.pm_tmr_blk = u32::from(Pm::TIMER).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = port(Pm::TIMER, 32, AccessSize::DwordAccess);
    fadt.p_lvl2_lat = NO_C2_C3.0.into();
    fadt.p_lvl3_lat = NO_C2_C3.1.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    let (reset_port, reset_value) = RESET_REGISTER;
    fadt.reset_reg = GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, reset_port);
    fadt.reset_value = reset_value;
    fadt.finalize()
}

/// There are two 8259s beside the APICs.
const PCAT_COMPAT: u32 = 1;
/// The I/O APIC's ID after reset.
const IOAPIC_ID: u8 = 0;
/// Override flags: as ISA has it, edge and active high.
const AS_ISA: u16 = 0;
/// Override flags: level, active high.
const LEVEL_HIGH: u16 = 0b11 << 2 | 0b01;
/// Every processor.
const ALL_CPUS: u8 = 0xff;

/// The multiple APIC description table.
pub(super) fn madt(config: &AcpiConfig) -> Sdt {
    let mut madt = Sdt::new(*b"APIC", 44, 5, OEM, OEM_TABLE, OEM_REVISION);
    madt.write_u32(36, LAPIC_BASE as u32);
    madt.write_u32(40, PCAT_COMPAT);
    for cpu in 0..config.cpus {
        // Local APIC: processor UID, APIC ID, enabled.
        madt.append_slice(&[0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    // I/O APIC: ID, reserved, address, first GSI.
    madt.append_slice(&[1, 12, IOAPIC_ID, 0]);
    madt.append_slice(&(IOAPIC_BASE as u32).to_le_bytes());
    madt.append_slice(&0u32.to_le_bytes());
    // The timer is on pin 2, where a cascade would be; the SCI is a level.
    for (irq, gsi, flags) in [(0, 2, AS_ISA), (Pm::SCI_GSI, Pm::SCI_GSI, LEVEL_HIGH)] {
        let [low, high] = u16::to_le_bytes(flags);
        madt.append_slice(&[2, 10, 0, irq, gsi, 0, 0, 0, low, high]);
    }
    // NMI on LINT1 of every local APIC, as ISA has it.
    madt.append_slice(&[4, 6, ALL_CPUS, 0, 0, 1]);
    madt
}
