//! Which ports the running code may touch (Intel SDM volume 1, section 18.5).

use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::flags::IOPL;
use crate::engine::soft::mode::Mode;

/// Where the TSS holds the bitmap's offset.
const BITMAP_POINTER: u64 = 0x66;

impl Cpu {
    /// #GP(0) if the port access is not allowed: CPL above IOPL (always so in virtual-8086 mode) and a bit of the TSS's
    /// bitmap set, or no bitmap. `bytes`: 1, 2 or 4. Notes I/O breakpoints.
    pub fn check_io(&mut self, port: u16, bytes: u16) -> Step {
        self.note_port_access(port, bytes);
        let iopl = ((self.flags.others & IOPL) >> 12) as u8;
        let restricted = self.mode.contains(Mode::V86) || self.cpl > iopl;
        if !self.mode.contains(Mode::PROTECTED) || !restricted {
            return Ok(());
        }
        let limit = u64::from(self.tr.limit);
        let has_bitmap = self.tr.attributes & 8 != 0 && limit > BITMAP_POINTER;
        if !has_bitmap {
            return self.raise_gp();
        }
        let start = u64::from(self.load_tss::<u16>(BITMAP_POINTER)?);
        let at = start + u64::from(port / 8);
        // Two bytes are always read: the access may straddle them.
        if at + 1 > limit {
            return self.raise_gp();
        }
        let bits: u16 = self.load_tss(at)?;
        let wanted = ((1u16 << bytes) - 1) << (port % 8);
        if bits & wanted != 0 {
            return self.raise_gp();
        }
        Ok(())
    }
}
