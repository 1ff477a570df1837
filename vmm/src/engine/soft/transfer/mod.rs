//! Far jumps, calls and returns, gates, task switches, SYSCALL and SYSENTER.
//!
//! | module | what it owns |
//! |---|---|
//! | `gate` | call gates, and the inner stacks a TSS names |
//! | `task` | task switches |
//! | `fast` | SYSCALL, SYSRET, SYSENTER, SYSEXIT |
//!
//! Everything here either succeeds whole, with [`Cpu::rip`] at the target, and the handler that called returns
//! [`Leave::Jump`](super::cpu::Leave::Jump); or it fails with the state before the instruction. Checks in the order of
//! the Intel SDM's pseudo-code (volume 2, JMP, CALL, RET).

mod fast;
mod gate;
mod task;
#[cfg(test)]
mod tests;

pub use fast::SyscallWidth;
pub(super) use task::{TaskEntry, is_available_tss};

use super::cpu::{Cpu, Step, vector};
use super::descriptor::{Descriptor, is_null, rpl, system_type};
use super::mode::Mode;
use super::segment::SegmentRegister;
use crate::engine::check::is_canonical;
use crate::engine::state::{CS, SS};

/// JMP or CALL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    Jump,
    Call,
}

/// Operands of a far jump or call.
#[derive(Clone, Copy)]
struct FarTransfer {
    kind: Far,
    selector: u16,
    offset: u64,
    op_bits: u32,
    return_ip: u64,
}

impl Cpu {
    /// JMP far, direct or through memory. `offset` is already cut to `op_bits`; `return_ip`: the next instruction (a
    /// task switch saves it).
    pub fn far_jump(&mut self, selector: u16, offset: u64, op_bits: u32, return_ip: u64) -> Step {
        self.far_transfer(FarTransfer {
            kind: Far::Jump,
            selector,
            offset,
            op_bits,
            return_ip,
        })
    }

    /// CALL far. `return_ip`: the next instruction.
    pub fn far_call(&mut self, selector: u16, offset: u64, op_bits: u32, return_ip: u64) -> Step {
        self.far_transfer(FarTransfer {
            kind: Far::Call,
            selector,
            offset,
            op_bits,
            return_ip,
        })
    }

    fn far_transfer(&mut self, far: FarTransfer) -> Step {
        let far = FarTransfer {
            return_ip: self.cut_ip(far.return_ip),
            ..far
        };
        self.transfer(|cpu| {
            if cpu.real_addressing() {
                cpu.far_real(&far)
            } else {
                cpu.far_protected(&far)
            }
        })
    }

    /// Segments are selector times 16: real mode and virtual-8086 mode.
    pub(super) fn real_addressing(&self) -> bool {
        !self.mode.contains(Mode::PROTECTED) || self.mode.contains(Mode::V86)
    }

    fn far_real(&mut self, far: &FarTransfer) -> Step {
        if far.kind == Far::Call {
            self.push_return(far)?;
        }
        if far.offset > u64::from(self.segments[CS].limit) {
            return self.raise_gp();
        }
        self.segments[CS] = self.real_segment(CS, far.selector);
        self.rip = far.offset;
        self.update_mode();
        Ok(())
    }

    fn push_return(&mut self, far: &FarTransfer) -> Step {
        self.push_bits(far.op_bits, self.segments[CS].selector.into())?;
        self.push_bits(far.op_bits, far.return_ip)
    }

    fn far_protected(&mut self, far: &FarTransfer) -> Step {
        if is_null(far.selector) {
            return self.raise_gp();
        }
        let target = self.descriptor(far.selector, vector::GP)?;
        if target.is_code() {
            return self.far_code(far, target);
        }
        let long = self.mode.contains(Mode::LONG);
        match target.kind() {
            _ if target.is_segment() => self.raise_selector(vector::GP, far.selector),
            system_type::CALL => self.far_gate(far, target),
            system_type::CALL16 if !long => self.far_gate(far, target),
            system_type::TASK_GATE | system_type::TSS | system_type::TSS16 if !long => {
                self.far_task(far, target)
            }
            _ => self.raise_selector(vector::GP, far.selector),
        }
    }

    fn far_code(&mut self, far: &FarTransfer, target: Descriptor) -> Step {
        let allowed = if target.is_conforming() {
            target.dpl() <= self.cpl
        } else {
            rpl(far.selector) <= self.cpl && target.dpl() == self.cpl
        };
        if !allowed || self.impossible_code(target) {
            return self.raise_selector(vector::GP, far.selector);
        }
        if !target.present() {
            return self.raise_selector(vector::NP, far.selector);
        }
        if far.kind == Far::Call {
            self.push_return(far)?;
        }
        self.check_target(target, far.offset)?;
        self.install_code(far.selector, target, self.cpl)?;
        self.rip = far.offset;
        self.update_mode();
        Ok(())
    }

    /// L and D both set: no mode.
    fn impossible_code(&self, target: Descriptor) -> bool {
        self.mode.contains(Mode::LONG) && target.long() && target.big()
    }

    /// #GP(0) if `offset` lies outside a code segment about to be entered: beyond its limit, or not canonical.
    pub(super) fn check_target(&mut self, target: Descriptor, offset: u64) -> Step {
        let inside = if self.mode.contains(Mode::LONG) && target.long() {
            is_canonical(offset)
        } else {
            offset <= u64::from(target.limit())
        };
        if inside { Ok(()) } else { self.raise_gp() }
    }

    fn far_task(&mut self, far: &FarTransfer, target: Descriptor) -> Step {
        let entry = match far.kind {
            Far::Jump => TaskEntry::Jump,
            Far::Call => TaskEntry::Call,
        };
        if target.dpl() < self.cpl || target.dpl() < rpl(far.selector) {
            return self.raise_selector(vector::GP, far.selector);
        }
        if !target.present() {
            return self.raise_selector(vector::NP, far.selector);
        }
        if target.kind() != system_type::TASK_GATE {
            return self.switch_task(far.selector, target, entry, far.return_ip);
        }
        let selector = target.gate_selector();
        if selector & 4 != 0 || is_null(selector) {
            return self.raise_selector(vector::GP, selector);
        }
        let task = self.descriptor(selector, vector::GP)?;
        if !is_available_tss(task) {
            return self.raise_selector(vector::GP, selector);
        }
        if !task.present() {
            return self.raise_selector(vector::NP, selector);
        }
        self.switch_task(selector, task, entry, far.return_ip)
    }

    /// RET far, with `pop_bytes` of parameters.
    pub fn far_return(&mut self, op_bits: u32, pop_bytes: u16) -> Step {
        self.transfer(|cpu| {
            let ip = cpu.pop_bits(op_bits)?;
            let cs = cpu.pop_bits(op_bits)? as u16;
            cpu.drop_stack(pop_bytes.into());
            if cpu.real_addressing() {
                cpu.return_real(cs, ip)
            } else {
                cpu.return_protected(cs, ip, op_bits, pop_bytes)
            }
        })
    }

    fn return_real(&mut self, cs: u16, ip: u64) -> Step {
        if ip > u64::from(self.segments[CS].limit) {
            return self.raise_gp();
        }
        self.segments[CS] = self.real_segment(CS, cs);
        self.rip = ip;
        self.update_mode();
        Ok(())
    }

    fn return_protected(&mut self, cs: u16, ip: u64, op_bits: u32, pop_bytes: u16) -> Step {
        let cpl = rpl(cs);
        let target = self.return_code(cs)?;
        if cpl == self.cpl {
            self.check_target(target, ip)?;
            self.install_code(cs, target, cpl)?;
            self.update_mode();
        } else {
            let sp = self.pop_bits(op_bits)?;
            let ss = self.pop_bits(op_bits)? as u16;
            self.segments[SS] = self.return_stack(ss, cpl, target)?;
            self.check_target(target, ip)?;
            self.install_code(cs, target, cpl)?;
            self.update_mode();
            self.set_stack_pointer(sp);
            self.drop_stack(pop_bytes.into());
            self.drop_inner_segments();
            self.update_mode();
        }
        self.rip = ip;
        Ok(())
    }

    /// The code segment a RET or IRET goes back to, checked.
    pub(super) fn return_code(&mut self, selector: u16) -> Step<Descriptor> {
        if is_null(selector) {
            return self.raise_gp();
        }
        let target = self.descriptor(selector, vector::GP)?;
        let level = rpl(selector);
        let privilege_fits = if target.is_conforming() {
            target.dpl() <= level
        } else {
            target.dpl() == level
        };
        if !target.is_code() || level < self.cpl || !privilege_fits || self.impossible_code(target) {
            return self.raise_selector(vector::GP, selector);
        }
        if !target.present() {
            return self.raise_selector(vector::NP, selector);
        }
        Ok(target)
    }

    /// The stack segment that goes with it: null is allowed to 64-bit code inside the kernel.
    pub(super) fn return_stack(
        &mut self,
        selector: u16,
        cpl: u8,
        target: Descriptor,
    ) -> Step<SegmentRegister> {
        if is_null(selector) && self.mode.contains(Mode::LONG) && target.long() && cpl != 3 {
            return Ok(self.null_stack(selector, cpl));
        }
        self.stack_segment(selector, cpl, vector::GP)
    }
}
