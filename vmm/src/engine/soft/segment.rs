//! Segment registers with their hidden parts, descriptors, and the checks of loading one.

use super::cpu::{Cpu, Step, vector};
use super::mode::Mode;
use crate::engine::state::{FS, SS, Segment};

/// A segment register; attributes as in [`Segment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentRegister {
    /// Visible part.
    pub selector: u16,
    /// Linear base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Bits 0-3 type, 4 S, 5-6 DPL, 7 P, 13 L, 14 D/B, 15 G; bit 16: unusable.
    pub attributes: u32,
}

impl SegmentRegister {
    /// 64-bit code.
    pub fn long(&self) -> bool {
        self.attributes >> 13 & 1 != 0
    }

    /// 32-bit code or stack.
    pub fn big(&self) -> bool {
        self.attributes >> 14 & 1 != 0
    }

    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// Whether nothing can be reached through it (null selector).
    pub fn unusable(&self) -> bool {
        self.attributes >> 16 & 1 != 0
    }

    /// Code segment (with S set).
    pub fn is_code(&self) -> bool {
        self.attributes & 0x18 == 0x18
    }

    /// Base 0, limit 4 GiB, present, expand-up, readable and (data) writable: what flat 32-bit addressing assumes. A
    /// code segment counts too: CS is never written through in a flat mode's handlers, which refuse it.
    pub fn flat(&self) -> bool {
        let kind = self.attributes & 0x1f;
        let readable = if self.is_code() {
            kind & 2 != 0
        } else {
            kind & 0b1_0110 == 0b1_0010
        };
        self.base == 0
            && self.limit == u32::MAX
            && self.attributes >> 7 & 1 != 0
            && !self.unusable()
            && readable
    }
}

impl From<Segment> for SegmentRegister {
    fn from(s: Segment) -> Self {
        Self {
            selector: s.selector,
            base: s.base,
            limit: s.limit,
            attributes: s.attributes,
        }
    }
}

impl From<SegmentRegister> for Segment {
    fn from(s: SegmentRegister) -> Self {
        Self {
            selector: s.selector,
            base: s.base,
            limit: s.limit,
            attributes: s.attributes,
        }
    }
}

impl Cpu {
    /// Linear address of `size` bytes at `offset` in segment `segment` (index into [`Cpu::segments`]), checked as a
    /// load or store: type, limit, null selector (Intel SDM volume 3, sections 5.3 to 5.5).
    pub fn segmented(&mut self, segment: u8, offset: u64, size: u32, write: bool) -> Step<u64> {
        let s = self.segments[usize::from(segment)];
        if self.mode.contains(Mode::CODE64) {
            let base = if usize::from(segment) >= FS { s.base } else { 0 };
            return Ok(base.wrapping_add(offset));
        }
        let last = (offset as u32).wrapping_add(size - 1);
        let wraps = last < offset as u32;
        let expand_down = !s.is_code() && s.attributes & 4 != 0;
        let inside = if expand_down {
            let top = if s.big() { u32::MAX } else { 0xffff };
            offset as u32 > s.limit && last <= top && !wraps
        } else {
            last <= s.limit && !wraps
        };
        let real = !self.mode.contains(Mode::PROTECTED) || self.mode.contains(Mode::V86);
        let readable = !s.is_code() || s.attributes & 2 != 0;
        let writable = !s.is_code() && s.attributes & 2 != 0;
        let typed = real || (!s.unusable() && if write { writable } else { readable });
        if !inside || !typed {
            return self.raise_code(
                if usize::from(segment) == SS {
                    vector::SS
                } else {
                    vector::GP
                },
                0,
            );
        }
        Ok(s.base.wrapping_add(offset) & 0xffff_ffff)
    }
}
