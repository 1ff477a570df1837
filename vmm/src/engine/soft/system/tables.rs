//! LLDT, LTR, and the instructions that look at a descriptor without loading it (Intel SDM volume 2).

use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::descriptor::{Descriptor, is_null, rpl, system_type};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::segment::{SegmentRegister, UNUSABLE};

/// What is asked about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// VERR: may it be read?
    Read,
    /// VERW: may it be written?
    Write,
    /// LAR: its access rights.
    Rights,
    /// LSL: its limit.
    Limit,
}

impl Cpu {
    /// LLDT. The caller has checked mode and CPL.
    pub fn load_ldt(&mut self, selector: u16) -> Step {
        if is_null(selector) {
            self.ldtr = SegmentRegister {
                selector,
                attributes: UNUSABLE,
                ..self.ldtr
            };
            return Ok(());
        }
        let descriptor = self.system_descriptor(selector, &[system_type::LDT])?;
        let base = self.system_base(selector, descriptor)?;
        self.ldtr = SegmentRegister {
            base,
            ..descriptor.register(selector)
        };
        Ok(())
    }

    /// LTR. The caller has checked mode and CPL.
    pub fn load_task_register(&mut self, selector: u16) -> Step {
        if is_null(selector) {
            return self.raise_gp();
        }
        let kinds: &[u8] = if self.mode.contains(Mode::LONG) {
            &[system_type::TSS]
        } else {
            &[system_type::TSS, system_type::TSS16]
        };
        let descriptor = self.system_descriptor(selector, kinds)?;
        let base = self.system_base(selector, descriptor)?;
        self.set_busy(selector, true)?;
        self.tr = SegmentRegister {
            base,
            attributes: descriptor.attributes() | 2,
            ..descriptor.register(selector)
        };
        Ok(())
    }

    /// A system descriptor of one of these types in the GDT, present.
    fn system_descriptor(&mut self, selector: u16, kinds: &[u8]) -> Step<Descriptor> {
        if selector & 4 != 0 {
            return self.raise_selector(vector::GP, selector);
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        if descriptor.is_segment() || !kinds.contains(&descriptor.kind()) {
            return self.raise_selector(vector::GP, selector);
        }
        if !descriptor.present() {
            return self.raise_selector(vector::NP, selector);
        }
        Ok(descriptor)
    }

    /// Its base: 64 bits in long mode, canonical.
    fn system_base(&mut self, selector: u16, descriptor: Descriptor) -> Step<u64> {
        if !self.mode.contains(Mode::LONG) {
            return Ok(descriptor.base());
        }
        let upper = self.upper_half(selector, vector::GP)?;
        let base = descriptor.base() | u64::from(upper) << 32;
        if !crate::engine::check::is_canonical(base) {
            return self.raise_selector(vector::GP, selector);
        }
        Ok(base)
    }

    /// VERR, VERW, LAR, LSL: the answer (access rights or limit), or `None` where ZF is to be clear. Faults only if the
    /// table itself cannot be read.
    pub fn probe_descriptor(&mut self, selector: u16, probe: Probe) -> Step<Option<u32>> {
        if is_null(selector) {
            return Ok(None);
        }
        let Some(at) = self.descriptor_address(selector, 8) else {
            return Ok(None);
        };
        let descriptor = Descriptor(self.load_system(at)?);
        let visible =
            descriptor.is_conforming() || (descriptor.dpl() >= self.cpl && descriptor.dpl() >= rpl(selector));
        let fits = match probe {
            Probe::Read => descriptor.is_readable(),
            Probe::Write => descriptor.is_writable(),
            Probe::Rights | Probe::Limit => {
                descriptor.is_segment() || self.probes_system_type(descriptor.kind(), probe)
            }
        };
        if !visible || !fits {
            return Ok(None);
        }
        Ok(Some(match probe {
            Probe::Limit => descriptor.limit(),
            _ => (descriptor.0 >> 32) as u32 & 0x00ff_ff00,
        }))
    }

    /// Tables "Segment and Gate Types" of LAR and LSL.
    fn probes_system_type(&self, kind: u8, probe: Probe) -> bool {
        let long = self.mode.contains(Mode::LONG);
        match kind {
            system_type::LDT | system_type::TSS | system_type::TSS_BUSY => true,
            system_type::TSS16 | system_type::TSS16_BUSY => !long,
            system_type::CALL => probe == Probe::Rights,
            system_type::CALL16 | system_type::TASK_GATE => probe == Probe::Rights && !long,
            _ => false,
        }
    }
}
