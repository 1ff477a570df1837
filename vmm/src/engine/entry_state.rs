//! States a boot loader starts a vCPU in, besides RESET: real mode, flat 32-bit, 64-bit.
//!
//! The boot loaders ([`crate::boot`]) take one, set the registers their protocol speaks of (GPRs, GDTR) and
//! load it. Interrupts are off, caching is on (CR0 and MTRRs), and every segment is loaded: nothing here depends on tables in guest
//! memory. A protocol whose guest reloads segments puts a GDT into memory and points [`CpuState::gdtr`] at it.

use super::cpu_model::msrs::MTRR_DEF_TYPE;
use super::state::{CS, CpuState, Segment, Segments, TableRegister};

/// CR0.PE: protected mode.
const CR0_PE: u64 = 1 << 0;
/// CR0.ET: reads as one on every processor since the 486.
const CR0_ET: u64 = 1 << 4;
/// CR0.NE: x87 errors as exceptions.
const CR0_NE: u64 = 1 << 5;
/// CR0.PG: paging.
const CR0_PG: u64 = 1 << 31;
/// CR4.PAE: long mode cannot be without it.
const CR4_PAE: u64 = 1 << 5;
/// EFER.LME and LMA: long mode, on and active.
const EFER_LONG: u64 = 1 << 8 | 1 << 10;

/// MTRRs on, all memory write-back: firmware leaves them so, and no firmware has run. RESET's value means uncached.
const MTRR_WRITE_BACK: (u32, u64) = (MTRR_DEF_TYPE, 1 << 11 | 6);

/// Selector of the flat code segment (`__BOOT_CS` of the Linux x86 boot protocol, 64-bit section).
pub const BOOT_CS: u16 = 0x10;
/// Selector of the flat data segments (`__BOOT_DS`).
pub const BOOT_DS: u16 = 0x18;
/// Selector of the boot task segment (Linux's `GDT_ENTRY_BOOT_TSS`).
pub const BOOT_TSS: u16 = 0x20;

impl CpuState {
    /// Real mode at `cs:ip`, every data segment 0, all general registers 0: how a BIOS enters a boot sector.
    pub fn real_mode(cs: u16, ip: u16) -> Self {
        let mut state = Self::reset();
        state.gprs = [0; 16];
        state.rip = u64::from(ip);
        state.cr0 = CR0_ET;
        state.msrs = vec![MTRR_WRITE_BACK];
        state.segments.user[CS] = Segment {
            selector: cs,
            base: u64::from(cs) << 4,
            limit: 0xffff,
            attributes: 0x9b,
        };
        // The BIOS leaves the interrupt vector table where RESET says: at 0, 256 entries of 4 bytes.
        state.idtr = TableRegister {
            base: 0,
            limit: 0x3ff,
        };
        state
    }

    /// Protected mode without paging at `eip`, flat 4 GiB segments ([`BOOT_CS`], [`BOOT_DS`]), all general
    /// registers 0: what Multiboot 1 (section 3.2) and Xen's PVH entry (`docs/misc/pvh`) ask for.
    pub fn flat32(eip: u32) -> Self {
        let mut state = Self::flat(0xc09b);
        state.rip = u64::from(eip);
        state.cr0 = CR0_PE | CR0_ET;
        state
    }

    /// 64-bit mode at `rip` with the 4-level page tables at `cr3`, flat segments ([`BOOT_CS`], [`BOOT_DS`]), all
    /// general registers 0: what the 64-bit entry of the Linux x86 boot protocol asks for.
    pub fn long64(rip: u64, cr3: u64) -> Self {
        let mut state = Self::flat(0xa09b);
        state.rip = rip;
        state.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
        state.cr3 = cr3;
        state.cr4 = CR4_PAE;
        state.efer = EFER_LONG;
        state
    }

    fn flat(code_attributes: u32) -> Self {
        let data = Segment {
            selector: BOOT_DS,
            base: 0,
            limit: u32::MAX,
            attributes: 0xc093,
        };
        let mut user = [data; 6];
        user[CS] = Segment {
            selector: BOOT_CS,
            attributes: code_attributes,
            ..data
        };
        Self {
            gprs: [0; 16],
            segments: Segments {
                user,
                ldtr: Segment {
                    selector: 0,
                    base: 0,
                    limit: 0xffff,
                    attributes: 0x82,
                },
                tr: Segment {
                    selector: BOOT_TSS,
                    base: 0,
                    limit: 0x67,
                    attributes: 0x8b,
                },
            },
            gdtr: TableRegister::default(),
            idtr: TableRegister::default(),
            msrs: vec![MTRR_WRITE_BACK],
            ..Self::reset()
        }
    }
}
