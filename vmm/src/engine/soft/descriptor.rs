//! Descriptors: their fields, and reading them out of GDT and LDT (Intel SDM volume 3, sections 3.4.5 and 3.5).

use super::cpu::{Cpu, Step};
use super::mode::Mode;
use super::segment::{SegmentRegister, UNUSABLE};

/// An 8-byte descriptor, as it stands in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u64);

/// System descriptor and gate types (Intel SDM volume 3, table 3-2).
pub mod system_type {
    /// 16-bit TSS, available.
    pub const TSS16: u8 = 1;
    /// Local descriptor table.
    pub const LDT: u8 = 2;
    /// 16-bit TSS, busy.
    pub const TSS16_BUSY: u8 = 3;
    /// 16-bit call gate.
    pub const CALL16: u8 = 4;
    /// Task gate.
    pub const TASK_GATE: u8 = 5;
    /// 16-bit interrupt gate.
    pub const INTERRUPT16: u8 = 6;
    /// 16-bit trap gate.
    pub const TRAP16: u8 = 7;
    /// 32-bit TSS (64-bit in long mode), available.
    pub const TSS: u8 = 9;
    /// 32-bit TSS (64-bit in long mode), busy.
    pub const TSS_BUSY: u8 = 11;
    /// 32-bit call gate (64-bit in long mode).
    pub const CALL: u8 = 12;
    /// 32-bit interrupt gate (64-bit in long mode).
    pub const INTERRUPT: u8 = 14;
    /// 32-bit trap gate (64-bit in long mode).
    pub const TRAP: u8 = 15;
}

/// Whether a selector is null.
pub const fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// Requested privilege level.
pub const fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

impl Descriptor {
    /// Access byte and flags in the places of [`SegmentRegister::attributes`].
    pub const fn attributes(self) -> u32 {
        (self.0 >> 40) as u32 & 0xf0ff
    }

    /// Base of a segment.
    pub const fn base(self) -> u64 {
        (self.0 >> 16 & 0xff_ffff) | (self.0 >> 32 & 0xff00_0000)
    }

    /// Limit in bytes.
    pub const fn limit(self) -> u32 {
        let raw = (self.0 & 0xffff) as u32 | (self.0 >> 32) as u32 & 0xf_0000;
        if self.0 >> 55 & 1 != 0 {
            raw << 12 | 0xfff
        } else {
            raw
        }
    }

    /// Type, 0..=15.
    pub const fn kind(self) -> u8 {
        (self.0 >> 40 & 15) as u8
    }

    /// Code or data, not system.
    pub const fn is_segment(self) -> bool {
        self.0 >> 44 & 1 != 0
    }

    /// Code segment.
    pub const fn is_code(self) -> bool {
        self.is_segment() && self.kind() & 8 != 0
    }

    /// Conforming code segment.
    pub const fn is_conforming(self) -> bool {
        self.is_code() && self.kind() & 4 != 0
    }

    /// Data, or code that may be read.
    pub const fn is_readable(self) -> bool {
        self.is_segment() && (self.kind() & 8 == 0 || self.kind() & 2 != 0)
    }

    /// Writable data.
    pub const fn is_writable(self) -> bool {
        self.is_segment() && self.kind() & 0b1010 == 0b0010
    }

    /// Descriptor privilege level.
    pub const fn dpl(self) -> u8 {
        (self.0 >> 45 & 3) as u8
    }

    /// Present.
    pub const fn present(self) -> bool {
        self.0 >> 47 & 1 != 0
    }

    /// L: 64-bit code.
    pub const fn long(self) -> bool {
        self.0 >> 53 & 1 != 0
    }

    /// D or B.
    pub const fn big(self) -> bool {
        self.0 >> 54 & 1 != 0
    }

    /// Of a gate: the code segment (or task) it leads to.
    pub const fn gate_selector(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Of a gate: the offset's low 32 bits.
    pub const fn gate_offset(self) -> u32 {
        (self.0 & 0xffff) as u32 | ((self.0 >> 32) as u32 & 0xffff_0000)
    }

    /// The segment register this descriptor fills.
    pub const fn register(self, selector: u16) -> SegmentRegister {
        SegmentRegister {
            selector,
            base: self.base(),
            limit: self.limit(),
            attributes: self.attributes(),
        }
    }
}

impl Cpu {
    /// Linear address of a selector's descriptor of `bytes` (8 or 16); `None` beyond the table's limit.
    pub(super) fn descriptor_address(&self, selector: u16, bytes: u32) -> Option<u64> {
        let (base, limit) = if selector & 4 == 0 {
            (self.gdtr.base, u32::from(self.gdtr.limit))
        } else if self.ldtr.attributes & UNUSABLE == 0 {
            (self.ldtr.base, self.ldtr.limit)
        } else {
            return None;
        };
        let index = u32::from(selector & !7);
        (index + bytes - 1 <= limit).then(|| self.system_address(base.wrapping_add(index.into())))
    }

    /// Linear addresses of tables have 64 bits in long mode, compatibility mode included.
    pub(super) fn system_address(&self, linear: u64) -> u64 {
        if self.mode.contains(Mode::LONG) {
            linear
        } else {
            linear & 0xffff_ffff
        }
    }

    /// Reads a selector's descriptor. Beyond the table's limit: `vector` with the selector.
    pub(super) fn descriptor(&mut self, selector: u16, vector: u8) -> Step<Descriptor> {
        match self.descriptor_address(selector, 8) {
            Some(at) => Ok(Descriptor(self.load_system(at)?)),
            None => self.raise_selector(vector, selector),
        }
    }

    /// Reads the upper half of a 16-byte descriptor: base or offset bits 32 to 63. `vector` with the selector if it
    /// lies beyond the table or its type bits are not 0 (AMD APM volume 2, section 4.8.3).
    pub(super) fn upper_half(&mut self, selector: u16, vector: u8) -> Step<u32> {
        let Some(at) = self.descriptor_address(selector, 16) else {
            return self.raise_selector(vector, selector);
        };
        let upper: u64 = self.load_system(self.system_address(at.wrapping_add(8)))?;
        if upper >> 40 & 0x1f != 0 {
            return self.raise_selector(vector, selector);
        }
        Ok(upper as u32)
    }

    /// Sets the accessed bit where it is not set.
    pub(super) fn set_accessed(&mut self, selector: u16, descriptor: Descriptor) -> Step<Descriptor> {
        if descriptor.0 >> 40 & 1 == 0
            && let Some(at) = self.descriptor_address(selector, 8)
        {
            let access = (descriptor.0 >> 40) as u8 | 1;
            self.store_system(self.system_address(at.wrapping_add(5)), access)?;
        }
        Ok(Descriptor(descriptor.0 | 1 << 40))
    }

    /// Sets or clears the busy bit of a TSS descriptor.
    pub(super) fn set_busy(&mut self, selector: u16, busy: bool) -> Step {
        let Some(at) = self.descriptor_address(selector, 8) else {
            return Ok(());
        };
        let at = self.system_address(at.wrapping_add(5));
        let access: u8 = self.load_system(at)?;
        self.store_system(at, (access & !2) | u8::from(busy) << 1)
    }

    /// Raises an exception whose error code names a selector.
    #[cold]
    pub(super) fn raise_selector<T>(&mut self, vector: u8, selector: u16) -> Step<T> {
        self.raise_code(vector, u32::from(selector & !3))
    }
}
