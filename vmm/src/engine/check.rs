//! The one place that accepts a vCPU state from outside: a snapshot, a boot loader, a peer engine.
//!
//! [`CpuState`] is untrusted plain data until [`CpuState::check`] has accepted it; every engine's `load` calls it
//! first. What is refused here is what hardware could never be in (Intel SDM volume 3, sections 2.5, 4.1 and 26.3.1),
//! so that no engine has to ask what it would mean.

use super::EngineError;
use super::cpu_model::{XCR0_SUPPORTED, XSAVE_BYTES, msr};
use super::state::{CpuState, FS};

const CR0_PE: u64 = 1 << 0;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
/// PE MP EM TS ET NE WP AM NW CD PG.
const CR0_DEFINED: u64 = 0xe005_003f;
const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
/// VME..OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP.
const CR4_DEFINED: u64 = 0x0036_0fff;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// SCE LME LMA NXE.
const EFER_DEFINED: u64 = 0xd01;
const RFLAGS_FIXED: u64 = 1 << 1;
const RFLAGS_VM: u64 = 1 << 17;
/// CF PF AF ZF SF TF IF DF OF IOPL NT RF VM AC VIF VIP ID, and the fixed one.
const RFLAGS_DEFINED: u64 = 0x003f_7fd7;
const PHYSICAL_LIMIT: u64 = 1 << 52;
const ATTRIBUTE_L: u32 = 1 << 13;
const ATTRIBUTE_DB: u32 = 1 << 14;
const UNUSABLE: u32 = 1 << 16;
/// Attribute bits with a meaning: 0-7, 12-15, unusable.
const ATTRIBUTES_DEFINED: u32 = 0x1_f0ff;
/// Most an XSAVE image may be: what KVM_GET_XSAVE holds.
const XSAVE_MOST: usize = 4096;
const XSAVE_HEADER: usize = 512;
const MXCSR_DEFINED: u32 = 0xffff;

/// Whether bits 47..=63 are all the same (4-level paging).
pub fn is_canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

impl CpuState {
    /// Accepts or refuses a state from outside; the error names the first thing wrong.
    pub fn check(&self) -> Result<(), EngineError> {
        let long = self.efer & EFER_LMA != 0;
        self.check_control(long)?;
        self.check_addresses(long)?;
        self.check_msrs()?;
        self.check_xsave()?;
        self.check_pending()
    }

    fn check_control(&self, long: bool) -> Result<(), EngineError> {
        let has = |register: u64, bit: u64| register & bit != 0;
        let paging = has(self.cr0, CR0_PG);
        let rules = [
            ("CR0 has reserved bits", self.cr0 & !CR0_DEFINED == 0),
            ("CR0.PG without PE", !paging || has(self.cr0, CR0_PE)),
            (
                "CR0.NW without CD",
                !has(self.cr0, CR0_NW) || has(self.cr0, CR0_CD),
            ),
            (
                "CR3 has reserved bits",
                self.cr3 < PHYSICAL_LIMIT && (long || self.cr3 >> 32 == 0),
            ),
            ("CR4 has bits this CPU model lacks", self.cr4 & !CR4_DEFINED == 0),
            ("CR4.PCIDE outside long mode", !has(self.cr4, CR4_PCIDE) || long),
            ("CR8 is above 15", self.cr8 <= 15),
            (
                "EFER has bits this CPU model lacks",
                self.efer & !EFER_DEFINED == 0,
            ),
            (
                "EFER.LMA is not LME and CR0.PG",
                long == (has(self.efer, EFER_LME) && paging),
            ),
            ("long mode without CR4.PAE", !long || has(self.cr4, CR4_PAE)),
            (
                "XCR0 is not of this CPU model",
                self.xcr0 & 1 == 1 && self.xcr0 & !XCR0_SUPPORTED == 0,
            ),
            ("RFLAGS has reserved bits", self.rflags & !RFLAGS_DEFINED == 0),
            ("RFLAGS bit 1 is clear", has(self.rflags, RFLAGS_FIXED)),
            (
                "virtual-8086 mode outside protected mode",
                !has(self.rflags, RFLAGS_VM) || (has(self.cr0, CR0_PE) && !long),
            ),
            (
                "DR6 or DR7 is wider than 32 bits",
                (self.debug[4] | self.debug[5]) >> 32 == 0,
            ),
        ];
        first_broken(&rules)
    }

    fn check_addresses(&self, long: bool) -> Result<(), EngineError> {
        let [_, cs, _, _, fs, gs] = &self.segments.user;
        let (ldtr, tr) = (&self.segments.ldtr, &self.segments.tr);
        let all = || self.segments.user.iter().chain([ldtr, tr]);
        let bases = [
            fs.base,
            gs.base,
            ldtr.base,
            tr.base,
            self.gdtr.base,
            self.idtr.base,
        ];
        let in_64_bit = long && cs.attributes & ATTRIBUTE_L != 0;
        let narrow = self.segments.user[..FS].iter().all(|s| s.base >> 32 == 0);
        let rules = [
            (
                "a segment or table base is not canonical",
                bases.into_iter().all(is_canonical),
            ),
            ("an ES, CS, SS or DS base is wider than 32 bits", narrow),
            (
                "RIP is not canonical",
                is_canonical(self.rip) && (in_64_bit || self.rip >> 32 == 0),
            ),
            (
                "CS is both 64-bit and 32-bit",
                !in_64_bit || cs.attributes & ATTRIBUTE_DB == 0,
            ),
            (
                "a segment has reserved attributes",
                all().all(|s| s.attributes & !ATTRIBUTES_DEFINED == 0),
            ),
            (
                "TR is not a busy task segment",
                tr.attributes & UNUSABLE == 0 && matches!(tr.attributes & 0x9f, 0x8b | 0x83),
            ),
        ];
        first_broken(&rules)
    }

    fn check_msrs(&self) -> Result<(), EngineError> {
        let ascending = self.msrs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        first_broken(&[("model-specific registers are not ascending", ascending)])?;
        for &(index, value) in &self.msrs {
            let row = msr(index).filter(|row| row.answer == super::cpu_model::Answer::Saved);
            let row = row.ok_or_else(|| bad(format!("MSR {index:#x} is not of this CPU model")))?;
            if row.is_address() && !is_canonical(value) {
                return Err(bad(format!("{} holds {value:#x}, not canonical", row.name)));
            }
        }
        Ok(())
    }

    fn check_xsave(&self) -> Result<(), EngineError> {
        let sized = (XSAVE_BYTES..=XSAVE_MOST).contains(&self.xsave.len());
        first_broken(&[("the XSAVE image has no possible size", sized)])?;
        let word = |at: usize| {
            let bytes = self.xsave.get(at..at + 8).and_then(|b| b.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or([0; 8]))
        };
        // Bytes 8..24 of the header: XCOMP_BV (0 in standard format) and reserved; the rest is reserved, too.
        let header_clear = (XSAVE_HEADER + 8..XSAVE_BYTES).step_by(8).all(|at| word(at) == 0);
        let mxcsr = word(24) as u32;
        first_broken(&[
            (
                "the XSAVE image holds components this CPU model lacks",
                word(XSAVE_HEADER) & !XCR0_SUPPORTED == 0,
            ),
            ("the XSAVE header is not of the standard format", header_clear),
            ("MXCSR has reserved bits", mxcsr & !MXCSR_DEFINED == 0),
        ])
    }

    fn check_pending(&self) -> Result<(), EngineError> {
        let exception_ok = self
            .pending
            .exception
            .is_none_or(|(vector, _)| vector < 32 && vector != 2);
        let at_most_one = self.pending.exception.is_none() || self.pending.interrupt.is_none();
        first_broken(&[
            ("the pending exception has no exception's vector", exception_ok),
            (
                "an exception and an interrupt are both being delivered",
                at_most_one,
            ),
        ])
    }
}

fn first_broken(rules: &[(&str, bool)]) -> Result<(), EngineError> {
    match rules.iter().find(|(_, holds)| !holds) {
        Some((broken, _)) => Err(bad((*broken).to_owned())),
        None => Ok(()),
    }
}

fn bad(why: String) -> EngineError {
    EngineError::BadState(why)
}

#[cfg(test)]
mod tests {
    use super::super::state::CS;
    use super::*;

    #[test]
    fn every_entry_state_is_accepted() {
        for state in [
            CpuState::reset(),
            CpuState::real_mode(0, 0x7c00),
            CpuState::flat32(0x10_0000),
            CpuState::long64(0x10_0000, 0x1000),
        ] {
            state.check().unwrap();
        }
    }

    #[test]
    fn each_impossible_field_is_refused_by_name() {
        type Break = fn(&mut CpuState);
        let table: &[(&str, Break)] = &[
            ("CR0 has reserved", |s| s.cr0 |= 1 << 40),
            ("CR0.PG without PE", |s| s.cr0 &= !1),
            ("CR0.NW without CD", |s| s.cr0 |= CR0_NW),
            ("CR3", |s| s.cr3 = 1 << 63),
            ("CR4 has bits", |s| s.cr4 |= 1 << 13),
            ("CR8", |s| s.cr8 = 16),
            ("EFER has bits", |s| s.efer |= 1 << 12),
            ("EFER.LMA", |s| s.efer &= !EFER_LME),
            ("without CR4.PAE", |s| s.cr4 = 0),
            ("XCR0", |s| s.xcr0 = 0),
            ("XCR0", |s| s.xcr0 = 7),
            ("RFLAGS has reserved", |s| s.rflags |= 1 << 3),
            ("RFLAGS bit 1", |s| s.rflags = 0),
            ("virtual-8086", |s| s.rflags |= RFLAGS_VM),
            ("DR6 or DR7", |s| s.debug[5] = 1 << 32),
            ("base is not canonical", |s| {
                s.segments.user[4].base = 0x8000_0000_0000;
            }),
            ("base is not canonical", |s| s.gdtr.base = 1 << 63),
            ("ES, CS, SS or DS base", |s| s.segments.user[3].base = 1 << 32),
            ("RIP", |s| s.rip = 0x8000_0000_0000),
            ("both 64-bit and 32-bit", |s| {
                s.segments.user[CS].attributes |= ATTRIBUTE_DB;
            }),
            ("reserved attributes", |s| {
                s.segments.user[0].attributes |= 1 << 8;
            }),
            ("TR is not", |s| s.segments.tr.attributes = 0x89),
            ("not ascending", |s| s.msrs = vec![(0x10, 0), (0x10, 0)]),
            ("MSR 0x11", |s| s.msrs = vec![(0x11, 0)]),
            ("MSR 0xc0000080", |s| s.msrs = vec![(0xc000_0080, 0)]),
            ("LSTAR", |s| s.msrs = vec![(0xc000_0082, 1 << 50)]),
            ("no possible size", |s| s.xsave.truncate(575)),
            ("no possible size", |s| s.xsave.resize(4097, 0)),
            ("components", |s| s.xsave[512] = 4),
            ("standard format", |s| s.xsave[527] = 0x80),
            ("MXCSR", |s| s.xsave[26] = 1),
            ("no exception's vector", |s| {
                s.pending.exception = Some((2, None));
            }),
            ("both being delivered", |s| {
                s.pending.exception = Some((13, Some(0)));
                s.pending.interrupt = Some(32);
            }),
        ];
        for (name, break_it) in table {
            let mut state = CpuState::long64(0x10_0000, 0x1000);
            break_it(&mut state);
            let message = state.check().unwrap_err().to_string();
            assert!(message.contains(name), "expected {name:?}, got {message:?}");
        }
    }

    #[test]
    fn canonical_means_the_upper_bits_repeat_bit_47() {
        for (address, expected) in [
            (0, true),
            (0x7fff_ffff_ffff, true),
            (0x8000_0000_0000, false),
            (0xffff_7fff_ffff_ffff, false),
            (0xffff_8000_0000_0000, true),
            (u64::MAX, true),
        ] {
            assert_eq!(is_canonical(address), expected, "{address:#x}");
        }
    }
}
