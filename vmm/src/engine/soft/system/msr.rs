//! RDMSR and WRMSR, by the table of [`crate::engine::cpu_model::msrs`]. The caller has checked CPL.

use super::host;
use crate::engine::check::is_canonical;
use crate::engine::cpu_model::msrs::{Answer, Msr, TSC, TSC_ADJUST};
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::state::{FS, GS};
use crate::engine::{Exit, Op};
use std::collections::BTreeMap;

/// MSRs the engine keeps by itself: by name those it uses, the others by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Msrs {
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// IA32_TSC_ADJUST.
    pub tsc_adjust: u64,
    /// Registers that only remember (PAT, MTRRs), where they were written.
    pub(in crate::engine::soft) others: BTreeMap<u32, u64>,
}

const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;

const EFER_SCE: u64 = 1;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

impl Msrs {
    fn named(&mut self, index: u32) -> Option<&mut u64> {
        Some(match index {
            TSC_ADJUST => &mut self.tsc_adjust,
            SYSENTER_CS => &mut self.sysenter_cs,
            SYSENTER_ESP => &mut self.sysenter_esp,
            SYSENTER_EIP => &mut self.sysenter_eip,
            STAR => &mut self.star,
            LSTAR => &mut self.lstar,
            CSTAR => &mut self.cstar,
            SFMASK => &mut self.fmask,
            KERNEL_GS_BASE => &mut self.kernel_gs_base,
            TSC_AUX => &mut self.tsc_aux,
            _ => return None,
        })
    }
}

impl Cpu {
    /// The guest's time stamp counter.
    pub fn tsc(&self) -> u64 {
        host::tsc().wrapping_add(self.tsc_offset)
    }

    /// RDMSR.
    pub fn read_msr(&mut self, index: u32) -> Step<u64> {
        let Some(row) = self.model.msr(index) else {
            return self.raise_gp();
        };
        match row.answer {
            Answer::Saved => Ok(self.saved_msr(index, row)),
            Answer::Elsewhere => match index {
                EFER => Ok(self.efer),
                FS_BASE => Ok(self.segments[FS].base),
                GS_BASE => Ok(self.segments[GS].base),
                _ => self.raise_gp(),
            },
            Answer::Chipset => self.ask(Exit::Msr { index, op: Op::Read }),
            Answer::Constant | Answer::Ignored => Ok(row.reset),
        }
    }

    /// A register the engine keeps.
    pub(in crate::engine::soft) fn saved_msr(&mut self, index: u32, row: &Msr) -> u64 {
        if index == TSC {
            return self.tsc();
        }
        match self.msrs.named(index) {
            Some(value) => *value,
            None => self.msrs.others.get(&index).copied().unwrap_or(row.reset),
        }
    }

    /// WRMSR.
    pub fn write_msr(&mut self, index: u32, value: u64) -> Step {
        let Some(row) = self.model.msr(index) else {
            return self.raise_gp();
        };
        if row.is_address() && !is_canonical(value) {
            return self.raise_gp();
        }
        match row.answer {
            Answer::Saved => self.write_saved_msr(index, value),
            Answer::Elsewhere => match index {
                EFER => self.write_efer(value),
                FS_BASE => self.write_segment_base(FS, value),
                GS_BASE => self.write_segment_base(GS, value),
                _ => self.raise_gp(),
            },
            Answer::Chipset => {
                let op = Op::Write(value);
                self.ask(Exit::Msr { index, op }).map(drop)
            }
            Answer::Constant => self.raise_gp(),
            Answer::Ignored => Ok(()),
        }
    }

    fn write_saved_msr(&mut self, index: u32, value: u64) -> Step {
        match index {
            PAT if !is_pat(value) => return self.raise_gp(),
            TSC => {
                let change = value.wrapping_sub(self.tsc());
                self.tsc_offset = self.tsc_offset.wrapping_add(change);
                // What software adds to the counter shows in TSC_ADJUST (Intel SDM volume 3, section 17.17.3).
                self.msrs.tsc_adjust = self.msrs.tsc_adjust.wrapping_add(change);
            }
            TSC_ADJUST => {
                let change = value.wrapping_sub(self.msrs.tsc_adjust);
                self.tsc_offset = self.tsc_offset.wrapping_add(change);
                self.msrs.tsc_adjust = value;
            }
            // The upper halves do not exist.
            SFMASK | TSC_AUX => self.put_msr(index, value & 0xffff_ffff),
            _ => self.put_msr(index, value),
        }
        Ok(())
    }

    /// Stores a register the engine keeps, unchecked; not the time stamp counter.
    pub(in crate::engine::soft) fn put_msr(&mut self, index: u32, value: u64) {
        match self.msrs.named(index) {
            Some(register) => *register = value,
            None => {
                self.msrs.others.insert(index, value);
            }
        }
    }

    /// EFER: LMA is not written, LME not while paging (AMD APM volume 2, section 3.1.7).
    fn write_efer(&mut self, value: u64) -> Step {
        let writable = EFER_SCE | EFER_LME | EFER_NXE;
        let new = (value & writable) | (self.efer & EFER_LMA);
        let changes_mode = (new ^ self.efer) & EFER_LME != 0 && self.paging();
        if value & !(writable | EFER_LMA) != 0 || changes_mode {
            return self.raise_gp();
        }
        if (new ^ self.efer) & EFER_NXE != 0 {
            self.tlb.flush();
        }
        self.efer = new;
        self.update_mode();
        Ok(())
    }

    /// FS or GS base, by MSR or WRFSBASE: #GP(0) if not canonical.
    pub fn write_segment_base(&mut self, index: usize, value: u64) -> Step {
        if !is_canonical(value) {
            return self.raise_gp();
        }
        self.segments[index].base = value;
        Ok(())
    }
}

/// Memory types of all eight entries exist (Intel SDM volume 3, table 11-10).
fn is_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .iter()
        .all(|kind| matches!(kind, 0 | 1 | 4..=7))
}
