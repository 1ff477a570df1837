//! MOV to and from control and debug registers, and XSETBV (Intel SDM volume 3, section 2.5; AMD APM volume 2,
//! chapter 3). The caller has checked CPL.

use crate::engine::cpu_model::XCR0_SUPPORTED;
use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::debug::{DR6, DR6_BD, DR6_FIXED, DR7, DR7_GD, DR7_WRITABLE};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::system::{CR0_DEFINED, CR0_ET};

const CR0_PE: u64 = 1;
const CR0_WP: u64 = 1 << 16;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_DE: u64 = 1 << 3;
const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
/// CR3 with PCIDs: the PCID, and in a write the promise that its translations may be kept.
const CR3_PCID: u64 = 0xfff;
const CR3_NO_FLUSH: u64 = 1 << 63;
/// A change of one of these changes what translations mean: PSE, PAE, PGE, PCIDE, SMEP, SMAP.
const CR4_TRANSLATION: u64 = 1 << 4 | 1 << 5 | 1 << 7 | CR4_PCIDE | 1 << 20 | 1 << 21;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// DR6 bits software can set: B0 to B3, BD, BS, BT.
const DR6_WRITABLE: u64 = 0xe00f;
/// Bits a PDPTE must have clear besides the address bits that do not exist: 1, 2, 5 to 8, 63 and what lies between.
const PDPTE_RESERVED: u64 = 0xfff0_0000_0000_01e6;

impl Cpu {
    /// CR0, 2, 3, 4 or 8; #UD for another.
    pub fn read_control(&mut self, number: u8) -> Step<u64> {
        match number {
            0 => Ok(self.cr0),
            2 => Ok(self.cr2),
            3 => Ok(self.cr3),
            4 => Ok(self.cr4),
            8 => Ok(self.cr8.into()),
            _ => self.raise_ud(),
        }
    }

    /// Sets CR0, 2, 3, 4 or 8.
    pub fn write_control(&mut self, number: u8, value: u64) -> Step {
        match number {
            0 => self.write_cr0(value),
            2 => {
                self.cr2 = value;
                Ok(())
            }
            3 => self.write_cr3(value),
            4 => self.write_cr4(value),
            8 => self.write_cr8(value),
            _ => self.raise_ud(),
        }
    }

    /// Sets CR0 (MOV, LMSW, CLTS).
    pub fn write_cr0(&mut self, value: u64) -> Step {
        let new = (value & CR0_DEFINED) | CR0_ET;
        let has = |bit: u64| new & bit != 0;
        let impossible = value >> 32 != 0 || (has(CR0_PG) && !has(CR0_PE)) || (has(CR0_NW) && !has(CR0_CD));
        let turns_on = has(CR0_PG) && !self.paging();
        let turns_off = !has(CR0_PG) && self.paging();
        let enters_long = turns_on && self.efer & EFER_LME != 0;
        let cs = self.segments[crate::engine::state::CS];
        if impossible
            || (enters_long && (self.cr4 & CR4_PAE == 0 || cs.long()))
            || (turns_off && (self.mode.contains(Mode::CODE64) || self.cr4 & CR4_PCIDE != 0))
        {
            return self.raise_gp();
        }
        if turns_on && !enters_long && self.cr4 & CR4_PAE != 0 {
            self.load_pdptes(self.cr3)?;
        }
        if enters_long {
            self.efer |= EFER_LMA;
        } else if turns_off {
            self.efer &= !EFER_LMA;
        }
        if (self.cr0 ^ new) & (CR0_PE | CR0_PG | CR0_WP) != 0 {
            self.tlb.flush();
        }
        self.cr0 = new;
        self.update_mode();
        Ok(())
    }

    /// The TLB holds one PCID's translations: leave to keep another's is not taken (Intel SDM volume 3, section 4.10.4.1).
    fn write_cr3(&mut self, value: u64) -> Step {
        let with_pcids = self.cr4 & CR4_PCIDE != 0;
        let value = if with_pcids { value & !CR3_NO_FLUSH } else { value };
        if value >> 52 != 0 || value & self.beyond_physical() != 0 {
            return self.raise_gp();
        }
        self.load_cr3(value)
    }

    /// Sets CR3, loads the PDPTEs where paging has them, forgets translations that are not global.
    pub(in crate::engine::soft) fn load_cr3(&mut self, value: u64) -> Step {
        if self.paging() && self.uses_pdptes(self.cr4) {
            self.load_pdptes(value)?;
        }
        self.cr3 = value;
        self.tlb.flush_non_global();
        Ok(())
    }

    fn uses_pdptes(&self, cr4: u64) -> bool {
        cr4 & CR4_PAE != 0 && self.efer & EFER_LMA == 0
    }

    /// The four PDPTEs at `cr3`, or #GP(0) for one that is present and has reserved bits.
    fn load_pdptes(&mut self, cr3: u64) -> Step {
        match self.read_pdptes(cr3) {
            Some(pdptes) => {
                self.pdptes = pdptes;
                Ok(())
            }
            None => self.raise_gp(),
        }
    }

    /// The four PDPTEs at `cr3`; `None` if one has reserved bits or is not in memory.
    pub(in crate::engine::soft) fn read_pdptes(&self, cr3: u64) -> Option<[u64; 4]> {
        let reserved = PDPTE_RESERVED | self.beyond_physical();
        let mut pdptes = [0; 4];
        for (at, pdpte) in ((cr3 & 0xffff_ffe0)..).step_by(8).zip(&mut pdptes) {
            *pdpte = self.table_entry::<u64>(at)?;
            if *pdpte & 1 != 0 && *pdpte & reserved != 0 {
                return None;
            }
        }
        Some(pdptes)
    }

    fn write_cr4(&mut self, value: u64) -> Step {
        let drops_pae = self.efer & EFER_LMA != 0 && value & CR4_PAE == 0;
        // Section 4.10.1: PCIDs begin in long mode, with PCID 0.
        let begins_pcids = value & !self.cr4 & CR4_PCIDE != 0;
        let too_early = self.efer & EFER_LMA == 0 || self.cr3 & CR3_PCID != 0;
        if value & !self.cr4_valid != 0 || drops_pae || (begins_pcids && too_early) {
            return self.raise_gp();
        }
        let changed = self.cr4 ^ value;
        if changed & CR4_TRANSLATION != 0 {
            if self.paging() && self.uses_pdptes(value) {
                self.load_pdptes(self.cr3)?;
            }
            self.tlb.flush();
        }
        self.cr4 = value;
        self.update_mode();
        Ok(())
    }

    fn write_cr8(&mut self, value: u64) -> Step {
        if value > 15 {
            return self.raise_gp();
        }
        self.cr8 = value as u8;
        self.cr8_written = true;
        self.attention = true;
        Ok(())
    }

    /// DR0 to DR3, DR6, DR7, as MOV names them.
    pub fn read_debug(&mut self, number: u8) -> Step<u64> {
        let slot = self.debug_slot(number)?;
        Ok(self.debug[slot])
    }

    /// Sets a debug register.
    pub fn write_debug(&mut self, number: u8, value: u64) -> Step {
        let slot = self.debug_slot(number)?;
        if slot >= DR6 && value >> 32 != 0 {
            return self.raise_gp();
        }
        self.debug[slot] = match slot {
            DR6 => (value & DR6_WRITABLE) | DR6_FIXED,
            DR7 => (value & DR7_WRITABLE) | 1 << 10,
            _ => value,
        };
        if slot != DR6 {
            // A watched page is never in the TLB.
            self.tlb.flush();
            self.attention = true;
        }
        Ok(())
    }

    /// DR4 and DR5 are DR6 and DR7 unless CR4.DE; then CPL; then DR7.GD guards them all.
    fn debug_slot(&mut self, number: u8) -> Step<usize> {
        let slot = match number {
            0..=3 => usize::from(number),
            4 | 5 if self.cr4 & CR4_DE != 0 => return self.raise_ud(),
            4 | 6 => DR6,
            5 | 7 => DR7,
            _ => return self.raise_ud(),
        };
        if self.cpl != 0 {
            return self.raise_gp();
        }
        if self.debug[DR7] & DR7_GD != 0 {
            self.debug[DR6] |= DR6_BD;
            return self.raise(vector::DB);
        }
        Ok(slot)
    }

    /// XSETBV of register `index`. The caller has checked CPL and CR4.OSXSAVE.
    pub fn write_xcr(&mut self, index: u32, value: u64) -> Step {
        if index != 0 || value & 1 == 0 || value & !XCR0_SUPPORTED != 0 {
            return self.raise_gp();
        }
        self.xstate.xcr0 = value;
        Ok(())
    }
}
