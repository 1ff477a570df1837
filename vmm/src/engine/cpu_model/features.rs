//! The features of the model: one row per CPUID bit.
//!
//! Offering a feature more is adding its row; an engine that lacks it takes it away by [`super::CpuModel::mask`].
//! Bits: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.

/// A register CPUID answers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// EAX.
    Eax = 0,
    /// EBX.
    Ebx = 1,
    /// ECX.
    Ecx = 2,
    /// EDX.
    Edx = 3,
}

/// Where a feature comes from, and so what can take it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The instruction set: the engine must have it. Missing it is reported.
    Cpu,
    /// The machine around the CPU (APIC, hypervisor bit): no host CPU is asked.
    Machine,
    /// What silicon says about its own leaks and their cures: only offered where guest code runs on the silicon, only
    /// as far as the host does, never missed.
    Silicon,
}

/// One CPUID bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The vendors' name.
    pub name: &'static str,
    /// CPUID leaf; all rows are of subleaf 0.
    pub leaf: u32,
    /// Register.
    pub reg: Reg,
    /// Bit, 0..=31.
    pub bit: u8,
    /// Where it comes from.
    pub origin: Origin,
}

const fn row(origin: Origin, leaf: u32, reg: Reg, bit: u8, name: &'static str) -> Feature {
    Feature {
        name,
        leaf,
        reg,
        bit,
        origin,
    }
}
const fn cpu(leaf: u32, reg: Reg, bit: u8, name: &'static str) -> Feature {
    row(Origin::Cpu, leaf, reg, bit, name)
}
const fn machine(leaf: u32, reg: Reg, bit: u8, name: &'static str) -> Feature {
    row(Origin::Machine, leaf, reg, bit, name)
}
const fn silicon(leaf: u32, reg: Reg, bit: u8, name: &'static str) -> Feature {
    row(Origin::Silicon, leaf, reg, bit, name)
}

/// x2APIC, taken away where an engine cannot pass its registers to the chipset.
pub const X2APIC: &str = "X2APIC";
/// TSC-deadline timer; likewise.
pub const TSC_DEADLINE: &str = "TSC_DEADLINE";
/// IA32_ARCH_CAPABILITIES, taken away where the host refuses the register.
pub const ARCH_CAPABILITIES: &str = "ARCH_CAPABILITIES";

use Reg::{Eax, Ebx, Ecx, Edx};

/// The table. OSXSAVE is not here: it mirrors CR4.
pub const FEATURES: &[Feature] = &[
    // x86-64-v1 and what every x86-64 has.
    cpu(1, Edx, 0, "FPU"),
    cpu(1, Edx, 1, "VME"),
    cpu(1, Edx, 2, "DE"),
    cpu(1, Edx, 3, "PSE"),
    cpu(1, Edx, 4, "TSC"),
    cpu(1, Edx, 5, "MSR"),
    cpu(1, Edx, 6, "PAE"),
    cpu(1, Edx, 7, "MCE"),
    cpu(1, Edx, 8, "CX8"),
    machine(1, Edx, 9, "APIC"),
    cpu(1, Edx, 11, "SEP"),
    cpu(1, Edx, 12, "MTRR"),
    cpu(1, Edx, 13, "PGE"),
    cpu(1, Edx, 14, "MCA"),
    cpu(1, Edx, 15, "CMOV"),
    cpu(1, Edx, 16, "PAT"),
    cpu(1, Edx, 17, "PSE36"),
    cpu(1, Edx, 19, "CLFSH"),
    cpu(1, Edx, 23, "MMX"),
    cpu(1, Edx, 24, "FXSR"),
    cpu(1, Edx, 25, "SSE"),
    cpu(1, Edx, 26, "SSE2"),
    cpu(0x8000_0001, Edx, 11, "SYSCALL"),
    cpu(0x8000_0001, Edx, 20, "NX"),
    cpu(0x8000_0001, Edx, 29, "LM"),
    // x86-64-v2.
    cpu(1, Ecx, 0, "SSE3"),
    cpu(1, Ecx, 9, "SSSE3"),
    cpu(1, Ecx, 13, "CMPXCHG16B"),
    cpu(1, Ecx, 19, "SSE4_1"),
    cpu(1, Ecx, 20, "SSE4_2"),
    cpu(1, Ecx, 23, "POPCNT"),
    cpu(0x8000_0001, Ecx, 0, "LAHF_LM"),
    // Beyond v2: cheap to offer, and kernels are better with them.
    cpu(1, Ecx, 17, "PCID"),
    machine(1, Ecx, 21, X2APIC),
    machine(1, Ecx, 24, TSC_DEADLINE),
    cpu(1, Ecx, 26, "XSAVE"),
    cpu(1, Ecx, 30, "RDRAND"),
    machine(1, Ecx, 31, "HYPERVISOR"),
    machine(6, Eax, 2, "ARAT"),
    cpu(7, Ebx, 0, "FSGSBASE"),
    cpu(7, Ebx, 1, "TSC_ADJUST"),
    cpu(7, Ebx, 7, "SMEP"),
    cpu(7, Ebx, 9, "ERMS"),
    cpu(7, Ebx, 10, "INVPCID"),
    cpu(7, Ebx, 20, "SMAP"),
    cpu(7, Ecx, 2, "UMIP"),
    cpu(0x8000_0001, Edx, 26, "PAGE1GB"),
    cpu(0x8000_0001, Edx, 27, "RDTSCP"),
    cpu(0x8000_0007, Edx, 8, "INVARIANT_TSC"),
    // What the silicon says of itself.
    silicon(7, Edx, 10, "MD_CLEAR"),
    silicon(7, Edx, 26, "SPEC_CTRL"),
    silicon(7, Edx, 27, "INTEL_STIBP"),
    silicon(7, Edx, 29, ARCH_CAPABILITIES),
    silicon(7, Edx, 31, "INTEL_SSBD"),
    silicon(0x8000_0008, Ebx, 12, "IBPB"),
    silicon(0x8000_0008, Ebx, 14, "IBRS"),
    silicon(0x8000_0008, Ebx, 15, "AMD_STIBP"),
    silicon(0x8000_0008, Ebx, 24, "AMD_SSBD"),
    silicon(0x8000_0008, Ebx, 26, "SSB_NO"),
    silicon(0x8000_0008, Ebx, 29, "BTC_NO"),
    silicon(0x8000_0021, Eax, 0, "NO_NESTED_DATA_BP"),
    silicon(0x8000_0021, Eax, 2, "LFENCE_RDTSC"),
    silicon(0x8000_0021, Eax, 6, "NULL_SEL_CLR_BASE"),
    silicon(0x8000_0021, Eax, 29, "SRSO_NO"),
];
