//! Call gates of 16, 32 and 64 bits, and the inner stacks a TSS names (Intel SDM volume 3, sections 5.8.3 to 5.8.5).

use super::{Far, FarTransfer};
use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::descriptor::{Descriptor, is_null, rpl};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::stack::SP;
use crate::engine::state::{CS, SS};

/// Most parameters a gate copies: its count field has five bits.
const MOST_PARAMETERS: usize = 31;

/// Where a call gate leads.
struct Target {
    selector: u16,
    descriptor: Descriptor,
    offset: u64,
    /// 16, 32 or 64: width of what is pushed.
    bits: u32,
    /// Words of that width to copy between stacks.
    parameters: usize,
}

impl Cpu {
    pub(super) fn far_gate(&mut self, far: &FarTransfer, gate: Descriptor) -> Step {
        let target = self.gate_target(far, gate)?;
        let inner =
            far.kind == Far::Call && !target.descriptor.is_conforming() && target.descriptor.dpl() < self.cpl;
        if inner {
            return self.call_inner(far, &target);
        }
        let old_cs = self.segments[CS].selector;
        self.install_code(target.selector, target.descriptor, self.cpl)?;
        self.update_mode();
        if far.kind == Far::Call {
            self.push_bits(target.bits, old_cs.into())?;
            self.push_bits(target.bits, far.return_ip)?;
        }
        self.check_target(target.descriptor, target.offset)?;
        self.rip = target.offset;
        Ok(())
    }

    fn gate_target(&mut self, far: &FarTransfer, gate: Descriptor) -> Step<Target> {
        let long = self.mode.contains(Mode::LONG);
        if gate.dpl() < self.cpl || gate.dpl() < rpl(far.selector) {
            return self.raise_selector(vector::GP, far.selector);
        }
        let upper = if long {
            self.upper_half(far.selector, vector::GP)?
        } else {
            0
        };
        if !gate.present() {
            return self.raise_selector(vector::NP, far.selector);
        }
        let selector = gate.gate_selector();
        if is_null(selector) {
            return self.raise_gp();
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        let privilege_fits = if far.kind == Far::Call || descriptor.is_conforming() {
            descriptor.dpl() <= self.cpl
        } else {
            descriptor.dpl() == self.cpl
        };
        let long_fits = !long || (descriptor.long() && !descriptor.big());
        if !descriptor.is_code() || !privilege_fits || !long_fits {
            return self.raise_selector(vector::GP, selector);
        }
        if !descriptor.present() {
            return self.raise_selector(vector::NP, selector);
        }
        let wide = gate.kind() & 8 != 0;
        let low = u64::from(gate.gate_offset()) & if wide { 0xffff_ffff } else { 0xffff };
        Ok(Target {
            selector,
            descriptor,
            offset: low | u64::from(upper) << 32,
            bits: match (long, wide) {
                (true, _) => 64,
                (false, true) => 32,
                (false, false) => 16,
            },
            parameters: if long { 0 } else { (gate.0 >> 32 & 31) as usize },
        })
    }

    fn call_inner(&mut self, far: &FarTransfer, target: &Target) -> Step {
        let cpl = target.descriptor.dpl();
        let old_cs = self.segments[CS].selector;
        let old_ss = self.segments[SS].selector;
        let old_sp: u64 = self.regs.get(SP);
        let mut parameters = [0; MOST_PARAMETERS];
        for (i, value) in parameters[..target.parameters].iter_mut().enumerate() {
            *value = if target.bits == 16 {
                self.peek::<u16>(2 * i as u64)?.into()
            } else {
                u64::from(self.peek::<u32>(4 * i as u64)?)
            };
        }
        let sp = if self.mode.contains(Mode::LONG) {
            let sp = self.tss_stack64(4 + 8 * u64::from(cpl))?;
            self.segments[SS] = self.null_stack(cpl.into(), cpl);
            sp
        } else {
            let (selector, sp) = self.inner_stack(cpl)?;
            self.segments[SS] = self.stack_segment(selector, cpl, vector::TS)?;
            sp
        };
        self.install_code(target.selector, target.descriptor, cpl)?;
        self.update_mode();
        self.set_stack_pointer(sp);
        self.on_new_stack(|cpu| {
            cpu.push_bits(target.bits, old_ss.into())?;
            cpu.push_bits(target.bits, old_sp)?;
            for &value in parameters[..target.parameters].iter().rev() {
                cpu.push_bits(target.bits, value)?;
            }
            cpu.push_bits(target.bits, old_cs.into())?;
            cpu.push_bits(target.bits, far.return_ip)
        })?;
        self.check_target(target.descriptor, target.offset)?;
        self.rip = target.offset;
        Ok(())
    }

    /// SS and ESP of privilege `cpl` from a 16- or 32-bit TSS.
    pub(in crate::engine::soft) fn inner_stack(&mut self, cpl: u8) -> Step<(u16, u64)> {
        let wide = self.tr.attributes & 8 != 0;
        let at = u64::from(cpl) * if wide { 8 } else { 4 } + if wide { 4 } else { 2 };
        let last = at + if wide { 5 } else { 3 };
        if last > u64::from(self.tr.limit) {
            return self.raise_selector(vector::TS, self.tr.selector);
        }
        let sp = if wide {
            self.load_tss::<u32>(at)?.into()
        } else {
            u64::from(self.load_tss::<u16>(at)?)
        };
        let ss = self.load_tss::<u16>(at + if wide { 4 } else { 2 })?;
        Ok((ss, sp))
    }

    /// A stack pointer of the 64-bit TSS: RSP0 to 2 at 4, IST1 to 7 at 36.
    pub(in crate::engine::soft) fn tss_stack64(&mut self, at: u64) -> Step<u64> {
        if at + 7 > u64::from(self.tr.limit) {
            return self.raise_selector(vector::TS, self.tr.selector);
        }
        self.load_tss(at)
    }
}
