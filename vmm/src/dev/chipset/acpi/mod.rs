//! The ACPI tables: what this machine tells an operating system about itself where nothing can be probed.
//!
//! [`build`] is called once, before the guest runs; the board writes the result into the BIOS area, where a scan for the root
//! pointer finds it and where boot protocols are told of it. The numbers come from the devices' own constants: a
//! table that disagrees with the board is the bug that must never happen here.
//!
//! | table | says |
//! |---|---|
//! | RSDP, XSDT | where the others are (revision 2: no RSDT) |
//! | FADT | the registers of [`super::pm`], the reset register, which legacy devices there are |
//! | FACS | nothing; OSes expect one |
//! | MADT | local APICs, I/O APIC, and where its pins differ from ISA IRQs |
//! | DSDT | the devices, by name (`dsdt`) |
//!
//! Source: ACPI Specification 6.5, chapter 5.

mod dsdt;
mod fixed;
#[cfg(test)]
mod tests;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use thiserror::Error;

/// Where the tables may lie: the lower half of the BIOS area, in which OSes scan for the root pointer. A BIOS, if the guest
/// needs one, has the upper half.
const AREA: std::ops::Range<u64> = 0xe_0000..0xf_0000;

const OEM: [u8; 6] = *b"WSWTCH";
const OEM_TABLE: [u8; 8] = *b"WORLDSWI";
const OEM_REVISION: u32 = 1;

/// What differs from machine to machine.
#[derive(Clone, Copy, Debug)]
pub struct AcpiConfig {
    /// Virtual CPUs; their local APIC IDs count from 0.
    pub cpus: u8,
}

impl Default for AcpiConfig {
    fn default() -> Self {
        Self { cpus: 1 }
    }
}

/// The tables cannot be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AcpiError {
    /// They do not fit into the BIOS area.
    #[error("the ACPI tables need {0} bytes, the BIOS area has {room}", room = AREA.end - AREA.start)]
    TooLarge(u64),
}

/// The tables, ready to be written.
#[derive(Clone, Debug)]
pub struct AcpiTables {
    /// Guest-physical address of the root pointer, on a 16-byte boundary.
    pub rsdp_at: u64,
    /// Guest-physical addresses and what to write there; no two overlap.
    pub blobs: Vec<(u64, Vec<u8>)>,
}

/// Makes all tables.
pub fn build(config: &AcpiConfig) -> Result<AcpiTables, AcpiError> {
    let rsdp_at = AREA.start;
    let mut placed = Placed {
        next: rsdp_at + Rsdp::len() as u64,
        blobs: Vec::new(),
    };
    // 64 bytes: the FACS must not cross a cache line.
    let facs = placed.put(64, bytes(&FACS::new()))?;
    let dsdt = placed.put(16, bytes(&dsdt::table(config)))?;
    let fadt = placed.put(16, bytes(&fixed::fadt(facs, dsdt)))?;
    let madt = placed.put(16, bytes(&fixed::madt(config)))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt.into());
    xsdt.add_entry(madt.into());
    let xsdt = placed.put(16, bytes(&xsdt))?;
    placed.blobs.push((rsdp_at, bytes(&Rsdp::new(OEM, xsdt.into()))));
    Ok(AcpiTables {
        rsdp_at,
        blobs: placed.blobs,
    })
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

struct Placed {
    next: u64,
    blobs: Vec<(u64, Vec<u8>)>,
}

impl Placed {
    /// Gives a table the next address with this alignment; the area is below 4 GiB.
    fn put(&mut self, align: u64, bytes: Vec<u8>) -> Result<u32, AcpiError> {
        let at = self.next.next_multiple_of(align);
        let end = at + bytes.len() as u64;
        if end > AREA.end {
            return Err(AcpiError::TooLarge(end - AREA.start));
        }
        self.next = end;
        self.blobs.push((at, bytes));
        Ok(at as u32)
    }
}
