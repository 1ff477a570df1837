//! The model-specific registers of the model: one row per register or run of registers.
//!
//! A register that is not here faults (#GP) in every engine. Indices: Intel SDM volume 4; AMD APM volume 2, appendix A.

/// Who answers RDMSR and WRMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The engine; the value is part of [`crate::engine::state::CpuState::msrs`].
    Saved,
    /// The engine; the value is another field of the state (EFER, segment bases), or it is the silicon's
    /// own, or there is none (a command).
    Elsewhere,
    /// The chipset, through [`crate::engine::Exit::Msr`].
    Chipset,
    /// Reads give the reset value, writes fault.
    Constant,
    /// Reads give the reset value, writes are dropped.
    Ignored,
}

/// One register, or a run of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msr {
    /// First index.
    pub first: u32,
    /// Last index.
    pub last: u32,
    /// The vendors' name.
    pub name: &'static str,
    /// Value after RESET.
    pub reset: u64,
    /// Who answers.
    pub answer: Answer,
    /// Features any of which brings the register; empty: it is always there.
    pub needs: &'static [&'static str],
}

const fn one(index: u32, name: &'static str, reset: u64, answer: Answer) -> Msr {
    run(index, index, name, reset, answer)
}
const fn run(first: u32, last: u32, name: &'static str, reset: u64, answer: Answer) -> Msr {
    Msr {
        first,
        last,
        name,
        reset,
        answer,
        needs: &[],
    }
}
const fn with(needs: &'static [&'static str], msr: Msr) -> Msr {
    Msr { needs, ..msr }
}

/// Time stamp counter.
pub const TSC: u32 = 0x10;
/// What software added to the time stamp counter.
pub const TSC_ADJUST: u32 = 0x3b;
/// Local APIC base and mode.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_ARCH_CAPABILITIES.
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// MTRR default type and enable bits.
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
/// TSC-deadline timer.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// First x2APIC register.
pub const X2APIC_FIRST: u32 = 0x800;
/// Last x2APIC register.
pub const X2APIC_LAST: u32 = 0x8ff;

use Answer::{Chipset, Constant, Elsewhere, Ignored, Saved};

/// The table, ascending.
pub const MSRS: &[Msr] = &[
    one(TSC, "TSC", 0, Saved),
    one(0x17, "PLATFORM_ID", 0, Constant),
    one(APIC_BASE, "APIC_BASE", 0xfee0_0900, Chipset),
    // Locked, with VMX off: Linux on Intel reads it to say so.
    one(0x3a, "FEATURE_CONTROL", 1, Constant),
    with(&["TSC_ADJUST"], one(TSC_ADJUST, "TSC_ADJUST", 0, Saved)),
    with(
        &[
            "SPEC_CTRL",
            "INTEL_STIBP",
            "INTEL_SSBD",
            "IBRS",
            "AMD_STIBP",
            "AMD_SSBD",
        ],
        one(0x48, "SPEC_CTRL", 0, Saved),
    ),
    with(&["SPEC_CTRL", "IBPB"], one(0x49, "PRED_CMD", 0, Elsewhere)),
    one(0x8b, "BIOS_SIGN_ID", 0, Ignored),
    one(0xfe, "MTRRCAP", 0x508, Constant),
    with(
        &[super::features::ARCH_CAPABILITIES],
        one(ARCH_CAPABILITIES, "ARCH_CAPABILITIES", 0, Elsewhere),
    ),
    one(0x174, "SYSENTER_CS", 0, Saved),
    one(0x175, "SYSENTER_ESP", 0, Saved),
    one(0x176, "SYSENTER_EIP", 0, Saved),
    // Machine checks are offered with no banks: nothing here can fail that way.
    one(0x179, "MCG_CAP", 0, Constant),
    one(0x17a, "MCG_STATUS", 0, Ignored),
    one(0x198, "PERF_STATUS", 0, Constant),
    one(0x199, "PERF_CTL", 0, Ignored),
    one(0x1a0, "MISC_ENABLE", 1, Saved),
    one(0x1d9, "DEBUGCTL", 0, Ignored),
    run(0x200, 0x20f, "MTRR_PHYS", 0, Saved),
    one(0x250, "MTRR_FIX_64K", 0, Saved),
    run(0x258, 0x259, "MTRR_FIX_16K", 0, Saved),
    run(0x268, 0x26f, "MTRR_FIX_4K", 0, Saved),
    one(0x277, "PAT", 0x0007_0406_0007_0406, Saved),
    one(MTRR_DEF_TYPE, "MTRR_DEF_TYPE", 0, Saved),
    with(
        &[super::features::TSC_DEADLINE],
        one(TSC_DEADLINE, "TSC_DEADLINE", 0, Chipset),
    ),
    with(
        &[super::features::X2APIC],
        run(X2APIC_FIRST, X2APIC_LAST, "X2APIC", 0, Chipset),
    ),
    one(0xc000_0080, "EFER", 0, Elsewhere),
    one(0xc000_0081, "STAR", 0, Saved),
    one(0xc000_0082, "LSTAR", 0, Saved),
    one(0xc000_0083, "CSTAR", 0, Saved),
    one(0xc000_0084, "SFMASK", 0, Saved),
    one(0xc000_0100, "FS_BASE", 0, Elsewhere),
    one(0xc000_0101, "GS_BASE", 0, Elsewhere),
    one(0xc000_0102, "KERNEL_GS_BASE", 0, Saved),
    with(&["RDTSCP"], one(0xc000_0103, "TSC_AUX", 0, Saved)),
    // Every AMD processor since the K7 has four event selectors and counters; these count nothing.
    run(0xc001_0000, 0xc001_0007, "PERF", 0, Ignored),
    one(0xc001_0010, "SYSCFG", 0, Ignored),
    // Bit 24: the time stamp counter runs at the P0 frequency; Linux calls it a firmware bug when clear.
    one(0xc001_0015, "HWCR", 1 << 24, Ignored),
    one(0xc001_001a, "TOP_MEM", 0, Ignored),
    one(0xc001_001d, "TOP_MEM2", 0, Ignored),
    // Linux sets bit 46 (extended configuration by ports) on every AMD processor from family 10h.
    one(0xc001_001f, "NB_CFG", 0, Ignored),
    one(0xc001_0055, "INTERRUPT_PENDING", 0, Ignored),
    // Bit 1: LFENCE serializes.
    one(0xc001_1029, "DE_CFG", 1 << 1, Ignored),
];

/// The row of a register.
pub fn msr(index: u32) -> Option<&'static Msr> {
    let after = MSRS.partition_point(|row| row.first <= index);
    MSRS.get(after.checked_sub(1)?).filter(|row| index <= row.last)
}

impl Msr {
    /// Whether the value must be a canonical address.
    pub fn is_address(&self) -> bool {
        matches!(
            self.first,
            0x175 | 0x176 | 0xc000_0082 | 0xc000_0083 | 0xc000_0100 | 0xc000_0101 | 0xc000_0102
        )
    }
}
