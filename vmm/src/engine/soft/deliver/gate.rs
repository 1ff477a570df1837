//! From a vector to its handler's first instruction (Intel SDM volume 3, sections 6.10 to 6.14 and 20.1.4; AMD APM
//! volume 2, chapter 8).
//!
//! Everything here runs inside [`Cpu::transfer`]: it installs the handler's CS and SS first and pushes with
//! their rights and widths, as the hardware does.

use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::debug::DR6;
use crate::engine::soft::descriptor::{Descriptor, is_null, system_type};
use crate::engine::soft::flags::{AC, IF, IOPL, NT, RF, TF, VM};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::stack::SP;
use crate::engine::soft::transfer::{TaskEntry, is_available_tss};
use crate::engine::state::{CS, DS, ES, FS, GS, SS};

/// Kind of a software interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// INT n: IOPL counts in virtual-8086 mode.
    Int,
    /// INT3 and INTO: the gate's DPL counts, IOPL does not.
    Trap,
    /// INT1: nothing is checked, as for an exception.
    Int1,
}

/// Where an event comes from: what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Software(Software),
    Exception,
    External,
}

impl Source {
    fn gate_privilege_counts(self) -> bool {
        matches!(self, Self::Software(Software::Int | Software::Trap))
    }
}

/// A gate, read and checked.
struct Gate {
    kind: u8,
    selector: u16,
    offset: u64,
    /// Interrupt stack table slot, 0 for none (long mode).
    ist: u8,
}

impl Gate {
    /// Interrupt gates clear IF, trap gates do not.
    fn masks_interrupts(&self) -> bool {
        matches!(self.kind, system_type::INTERRUPT | system_type::INTERRUPT16)
    }
}

impl Cpu {
    /// INT n, INT3, INTO, INT1. `return_ip`: the next instruction, which the handler returns to.
    pub fn software_interrupt(&mut self, vector: u8, kind: Software, return_ip: u64) -> Step {
        let v86 = self.mode.contains(Mode::V86);
        if v86 && kind == Software::Int && self.flags.others & IOPL != IOPL {
            return self.raise_gp();
        }
        let return_ip = self.cut_ip(return_ip);
        self.transfer(|cpu| cpu.enter_handler(vector, None, Source::Software(kind), return_ip))?;
        // The handler runs with TF clear and is not stepped into (Intel SDM volume 3, section 17.3.1.4).
        self.step_taken_over = true;
        if kind == Software::Int1 {
            // Breakpoints that MOV SS held back are part of this #DB, not one of their own.
            let held = std::mem::take(&mut self.debug_hits);
            self.debug[DR6] |= held;
        }
        self.attention = true;
        if kind == Software::Int1 {
            // MOV SS's data breakpoint must not meet the handler of #DB on its first instruction, with its stack in use.
            // Silicon loses it, says Linux's selftests/x86/mov_ss_trap.c; behind other interrupts it is kept.
            self.debug_hits = 0;
        }
        Ok(())
    }

    /// Pushes the frame and goes to the handler. `return_ip` is what it will return to.
    pub(super) fn enter_handler(
        &mut self,
        vector: u8,
        code: Option<u32>,
        source: Source,
        return_ip: u64,
    ) -> Step {
        if !self.mode.contains(Mode::PROTECTED) {
            return self.enter_real_handler(vector, return_ip);
        }
        let gate = self.read_gate(vector, source)?;
        if gate.kind == system_type::TASK_GATE {
            return self.enter_task_handler(&gate, code, return_ip);
        }
        let (target, cpl) = self.handler_code(&gate)?;
        if self.mode.contains(Mode::LONG) {
            self.enter_long_handler(&gate, target, cpl, code, return_ip)
        } else {
            self.enter_protected_handler(&gate, target, cpl, code, return_ip)
        }
    }

    fn enter_real_handler(&mut self, vector: u8, return_ip: u64) -> Step {
        let at = u64::from(vector) * 4;
        if at + 3 > u64::from(self.idtr.limit) {
            return self.raise_code(vector::GP, u32::from(vector) * 8 + 2);
        }
        let entry: u32 = self.load_system(self.system_address(self.idtr.base.wrapping_add(at)))?;
        let flags = self.flags.rflags() as u16;
        self.push(flags)?;
        self.push(self.segments[CS].selector)?;
        self.push(return_ip as u16)?;
        self.flags.others &= !(IF | TF | AC | RF);
        self.segments[CS] = self.real_segment(CS, (entry >> 16) as u16);
        self.rip = u64::from(entry & 0xffff);
        self.update_mode();
        Ok(())
    }

    fn read_gate(&mut self, vector: u8, source: Source) -> Step<Gate> {
        let slot = u32::from(vector) * 8 + 2;
        let long = self.mode.contains(Mode::LONG);
        let size = if long { 16 } else { 8 };
        let at = u64::from(vector) * size;
        if at + size - 1 > u64::from(self.idtr.limit) {
            return self.raise_code(vector::GP, slot);
        }
        let address = self.system_address(self.idtr.base.wrapping_add(at));
        let low = Descriptor(self.load_system(address)?);
        let upper: u64 = if long {
            self.load_system(self.system_address(address.wrapping_add(8)))?
        } else {
            0
        };
        let kind = low.kind();
        let is_gate = match kind {
            system_type::INTERRUPT | system_type::TRAP => true,
            system_type::INTERRUPT16 | system_type::TRAP16 | system_type::TASK_GATE => !long,
            _ => false,
        };
        let privileged = source.gate_privilege_counts() && low.dpl() < self.cpl;
        if low.is_segment() || !is_gate || privileged {
            return self.raise_code(vector::GP, slot);
        }
        if !low.present() {
            return self.raise_code(vector::NP, slot);
        }
        let wide = kind & 8 != 0;
        let offset = u64::from(low.gate_offset()) & if wide { 0xffff_ffff } else { 0xffff };
        Ok(Gate {
            kind,
            selector: low.gate_selector(),
            offset: offset | upper << 32,
            ist: if long { (low.0 >> 32 & 7) as u8 } else { 0 },
        })
    }

    /// The handler's code segment and the privilege it runs at.
    fn handler_code(&mut self, gate: &Gate) -> Step<(Descriptor, u8)> {
        if is_null(gate.selector) {
            return self.raise_gp();
        }
        let target = self.descriptor(gate.selector, vector::GP)?;
        let long_fits = !self.mode.contains(Mode::LONG) || (target.long() && !target.big());
        if !target.is_code() || target.dpl() > self.cpl || !long_fits {
            return self.raise_selector(vector::GP, gate.selector);
        }
        if !target.present() {
            return self.raise_selector(vector::NP, gate.selector);
        }
        let cpl = if target.is_conforming() {
            self.cpl
        } else {
            target.dpl()
        };
        if self.mode.contains(Mode::V86) && cpl != 0 {
            return self.raise_selector(vector::GP, gate.selector);
        }
        Ok((target, cpl))
    }

    fn enter_protected_handler(
        &mut self,
        gate: &Gate,
        target: Descriptor,
        cpl: u8,
        code: Option<u32>,
        return_ip: u64,
    ) -> Step {
        let bits = if gate.kind & 8 != 0 { 32 } else { 16 };
        let v86 = self.mode.contains(Mode::V86);
        let old = self.segments.map(|s| s.selector);
        let flags = self.flags.rflags();
        let common = [
            Some(flags),
            Some(old[CS].into()),
            Some(return_ip),
            code.map(u64::from),
        ];
        if cpl < self.cpl {
            let old_sp = self.regs.get::<u32>(SP).into();
            self.switch_to_inner(gate, target, cpl)?;
            let segments = [GS, FS, DS, ES].map(|index| v86.then_some(old[index].into()));
            let stack = [Some(old[SS].into()), Some(old_sp)];
            let frame = segments.into_iter().chain(stack).chain(common);
            self.on_new_stack(|cpu| frame.flatten().try_for_each(|word| cpu.push_bits(bits, word)))?;
        } else {
            self.install_code(gate.selector, target, cpl)?;
            self.update_mode();
            let frame = common.into_iter();
            frame.flatten().try_for_each(|word| self.push_bits(bits, word))?;
        }
        if v86 {
            for index in [GS, FS, DS, ES] {
                self.segments[index] = self.null_segment(index, 0);
            }
        }
        if gate.offset > u64::from(self.segments[CS].limit) {
            return self.raise_gp();
        }
        self.rip = gate.offset;
        self.enter_flags(gate);
        Ok(())
    }

    /// The stack the TSS has for privilege `cpl`, and the handler's code; out of virtual-8086 mode.
    fn switch_to_inner(&mut self, gate: &Gate, target: Descriptor, cpl: u8) -> Step {
        let (selector, sp) = self.inner_stack(cpl)?;
        self.segments[SS] = self.stack_segment(selector, cpl, vector::TS)?;
        self.flags.others &= !VM;
        self.install_code(gate.selector, target, cpl)?;
        self.update_mode();
        self.set_stack_pointer(sp);
        Ok(())
    }

    fn enter_long_handler(
        &mut self,
        gate: &Gate,
        target: Descriptor,
        cpl: u8,
        code: Option<u32>,
        return_ip: u64,
    ) -> Step {
        let flags = self.flags.rflags();
        let (old_cs, old_ss) = (self.segments[CS].selector, self.segments[SS].selector);
        let old_sp: u64 = self.regs.get(SP);
        let inner = cpl < self.cpl;
        let sp = match gate.ist {
            0 if !inner => old_sp,
            0 => self.tss_stack64(4 + 8 * u64::from(cpl))?,
            ist => self.tss_stack64(28 + 8 * u64::from(ist))?,
        };
        if inner {
            self.segments[SS] = self.null_stack(cpl.into(), cpl);
        }
        self.install_code(gate.selector, target, cpl)?;
        self.update_mode();
        self.regs.set(SP, sp & !0xf);
        self.push::<u64>(old_ss.into())?;
        self.push(old_sp)?;
        self.push(flags)?;
        self.push::<u64>(old_cs.into())?;
        self.push(return_ip)?;
        if let Some(code) = code {
            self.push::<u64>(code.into())?;
        }
        self.check_target(target, gate.offset)?;
        self.rip = gate.offset;
        self.enter_flags(gate);
        Ok(())
    }

    fn enter_flags(&mut self, gate: &Gate) {
        self.flags.others &= !(TF | NT | RF | VM);
        if gate.masks_interrupts() {
            self.flags.others &= !IF;
        }
        self.update_mode();
    }

    fn enter_task_handler(&mut self, gate: &Gate, code: Option<u32>, return_ip: u64) -> Step {
        let selector = gate.selector;
        if selector & 4 != 0 {
            return self.raise_selector(vector::GP, selector);
        }
        let task = self.descriptor(selector, vector::GP)?;
        if !is_available_tss(task) {
            return self.raise_selector(vector::GP, selector);
        }
        if !task.present() {
            return self.raise_selector(vector::NP, selector);
        }
        self.switch_task(selector, task, TaskEntry::Interrupt(code), return_ip)
    }
}
