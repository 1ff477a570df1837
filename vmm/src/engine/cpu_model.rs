//! The CPU model.

/// CPUID leaf 1 EAX.
pub struct CpuModel;
pub const SIGNATURE: u32 = 0x000a_0f11;
