//! Mode bits: everything a decoded instruction depends on besides its bytes. Part of the key of every trace.

use bitflags::bitflags;

bitflags! {
    /// Recomputed by [`super::cpu::Cpu::update_mode`] whenever CR0, CR4, EFER, RFLAGS.VM, CS, SS or a data segment changes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Mode: u16 {
        /// 64-bit code (EFER.LMA and CS.L).
        const CODE64 = 1;
        /// 32-bit default operand and address size (CS.D); never with `CODE64`.
        const CODE32 = 1 << 1;
        /// 32-bit stack pointer (SS.B); 64-bit code always uses RSP.
        const STACK32 = 1 << 2;
        /// CR0.PE.
        const PROTECTED = 1 << 3;
        /// RFLAGS.VM.
        const V86 = 1 << 4;
        /// EFER.LMA: long mode active (64-bit or compatibility).
        const LONG = 1 << 5;
        /// ES, CS, SS and DS are writable/readable, base 0, limit 4 GiB: addresses need no segmentation. Always set
        /// in 64-bit code. FS and GS are never covered.
        const FLAT = 1 << 6;
        /// CPL 3.
        const USER = 1 << 7;
        /// CR0.TS or EM set, or CR4.OSFXSR clear: an x87, MMX or SSE instruction must check before it runs.
        const FPU_TRAPS = 1 << 8;
    }
}

impl Mode {
    /// Default operand size in bits: 16, 32 (also in 64-bit code).
    pub fn operand_bits(self) -> u32 {
        if self.intersects(Self::CODE64 | Self::CODE32) {
            32
        } else {
            16
        }
    }

    /// Bitness for the decoder: 16, 32 or 64.
    pub fn bitness(self) -> u32 {
        if self.contains(Self::CODE64) {
            64
        } else {
            self.operand_bits()
        }
    }
}
