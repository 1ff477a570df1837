//! Segment registers with their hidden parts, descriptors, and the checks of loading one.

use super::cpu::{Cpu, Step, vector};
use super::descriptor::{Descriptor, is_null, rpl};
use super::mode::Mode;
use crate::engine::state::{CS, DS, ES, FS, GS, SS, Segment};

/// In [`SegmentRegister::attributes`]: nothing can be reached through it.
pub const UNUSABLE: u32 = 1 << 16;
/// Present, S: what a load in real mode makes of whatever was there.
const PRESENT_SEGMENT: u32 = 0x90;
/// Present, DPL 3, read-write data, accessed: every segment in virtual-8086 mode.
const V86: u32 = 0xf3;

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
        self.attributes & UNUSABLE != 0
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

/// Segment loads.
impl Cpu {
    /// MOV to Sreg, POP Sreg, LDS and friends: checks and loads. Not for CS. For SS the caller sets the shadow.
    pub fn load_segment(&mut self, index: usize, selector: u16) -> Step {
        let loaded = if !self.mode.contains(Mode::PROTECTED) || self.mode.contains(Mode::V86) {
            self.real_segment(index, selector)
        } else if index == SS {
            self.stack_segment_for_load(selector)?
        } else {
            self.data_segment(index, selector)?
        };
        self.segments[index] = loaded;
        self.update_mode();
        Ok(())
    }

    /// What a real-mode or virtual-8086 load makes of a segment register. In real mode limit and kind stay as they
    /// were: that is how "unreal mode" works.
    pub(super) fn real_segment(&self, index: usize, selector: u16) -> SegmentRegister {
        let old = self.segments[index];
        let v86 = self.mode.contains(Mode::V86);
        SegmentRegister {
            selector,
            base: u64::from(selector) << 4,
            limit: if v86 { 0xffff } else { old.limit },
            attributes: if v86 {
                V86
            } else {
                (old.attributes & !UNUSABLE) | PRESENT_SEGMENT
            },
        }
    }

    /// A null selector in a data segment register. AMD processors keep the base that was there unless CPUID says
    /// NULL_SEL_CLR_BASE.
    pub(super) fn null_segment(&self, index: usize, selector: u16) -> SegmentRegister {
        let old = self.segments[index];
        SegmentRegister {
            selector,
            base: if self.null_clears_base { 0 } else { old.base },
            limit: if self.null_clears_base { 0 } else { old.limit },
            attributes: UNUSABLE,
        }
    }

    /// The null stack segment of 64-bit code at privilege `cpl`: its DPL still says CPL.
    pub(super) fn null_stack(&self, selector: u16, cpl: u8) -> SegmentRegister {
        SegmentRegister {
            attributes: UNUSABLE | u32::from(cpl) << 5,
            ..self.null_segment(SS, selector)
        }
    }

    fn stack_segment_for_load(&mut self, selector: u16) -> Step<SegmentRegister> {
        if !is_null(selector) {
            return self.stack_segment(selector, self.cpl, vector::GP);
        }
        if self.mode.contains(Mode::CODE64) && self.cpl != 3 && rpl(selector) == self.cpl {
            return Ok(self.null_stack(selector, self.cpl));
        }
        self.raise_gp()
    }

    /// A stack segment fit for privilege `cpl`; else `vector` (#GP, or #TS when a TSS named it) with the selector.
    pub(super) fn stack_segment(&mut self, selector: u16, cpl: u8, vector: u8) -> Step<SegmentRegister> {
        if is_null(selector) {
            return self.raise_code(vector, 0);
        }
        let descriptor = self.descriptor(selector, vector)?;
        if rpl(selector) != cpl || !descriptor.is_writable() || descriptor.dpl() != cpl {
            return self.raise_selector(vector, selector);
        }
        if !descriptor.present() {
            return self.raise_selector(vector::SS, selector);
        }
        Ok(self.set_accessed(selector, descriptor)?.register(selector))
    }

    fn data_segment(&mut self, index: usize, selector: u16) -> Step<SegmentRegister> {
        if is_null(selector) {
            return Ok(self.null_segment(index, selector));
        }
        self.data_segment_or(selector, vector::GP)
    }

    /// A data segment CPL and RPL may load; else `vector` with the selector.
    pub(super) fn data_segment_or(&mut self, selector: u16, vector: u8) -> Step<SegmentRegister> {
        let descriptor = self.descriptor(selector, vector)?;
        let privileged =
            !descriptor.is_conforming() && (rpl(selector) > descriptor.dpl() || self.cpl > descriptor.dpl());
        if !descriptor.is_readable() || privileged {
            return self.raise_selector(vector, selector);
        }
        if !descriptor.present() {
            return self.raise_selector(vector::NP, selector);
        }
        Ok(self.set_accessed(selector, descriptor)?.register(selector))
    }

    /// Fills CS from a checked code descriptor; its RPL becomes `cpl`. The caller follows with
    /// [`update_mode`](Self::update_mode).
    pub(super) fn install_code(&mut self, selector: u16, descriptor: Descriptor, cpl: u8) -> Step {
        let selector = (selector & !3) | u16::from(cpl);
        self.segments[CS] = self.set_accessed(selector, descriptor)?.register(selector);
        Ok(())
    }

    /// After a return to an outer level: data segments the new CPL may not have become null, and null selectors lose
    /// their RPL (Intel SDM volume 2, RET and IRET).
    pub(super) fn drop_inner_segments(&mut self) {
        for index in [ES, FS, DS, GS] {
            let s = self.segments[index];
            let conforming = s.is_code() && s.attributes & 4 != 0;
            if s.unusable() {
                // The base stays: in 64-bit code FS and GS have one without a selector.
                self.segments[index].selector = 0;
            } else if !conforming && s.dpl() < self.cpl {
                self.segments[index] = self.null_segment(index, 0);
            }
        }
    }

    /// Makes all six segments those of virtual-8086 mode (RFLAGS.VM is set already).
    pub(super) fn install_v86(&mut self, selectors: [u16; 6]) {
        for (segment, selector) in self.segments.iter_mut().zip(selectors) {
            *segment = SegmentRegister {
                selector,
                base: u64::from(selector) << 4,
                limit: 0xffff,
                attributes: V86,
            };
        }
    }
}

#[cfg(test)]
mod tests;
