//! SYSCALL, SYSRET, SYSENTER, SYSEXIT, as AMD processors do them (AMD APM volume 3).
//!
//! SYSCALL and SYSRET are stepped into if they end with TF set, whatever it was before.
//!
//! Against Intel's: SYSCALL and SYSRET work in compatibility and legacy mode too, SYSENTER and SYSEXIT do not exist in
//! long mode, and SYSRET goes to a non-canonical address without a fault of its own (the fetch there faults, at CPL 3).

use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::debug::DR6_BS;
use crate::engine::soft::flags::{IF, RF, TF, VM};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::segment::SegmentRegister;
use crate::engine::soft::stack::SP;
use crate::engine::state::{CS, SS};

const EFER_SCE: u64 = 1;
const CODE64: u32 = 0xa09b;
const CODE32: u32 = 0xc09b;
const DATA: u32 = 0xc093;
const RCX: RegAt = RegAt::new(1);
const RDX: RegAt = RegAt::new(2);
const R11: RegAt = RegAt::new(11);
/// Flags SYSRET takes from R11: all defined ones but RF and VM.
const SYSRET_FLAGS: u64 = 0x003c_7fd7;

/// What SYSRET returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallWidth {
    /// 32-bit code, compatibility mode in long mode.
    Bits32,
    /// 64-bit code (REX.W).
    Bits64,
}

fn flat(selector: u16, attributes: u32, dpl: u8) -> SegmentRegister {
    SegmentRegister {
        selector,
        base: 0,
        limit: u32::MAX,
        attributes: attributes | u32::from(dpl) << 5,
    }
}

impl Cpu {
    /// SYSCALL. `return_ip`: the next instruction.
    pub fn syscall(&mut self, return_ip: u64) -> Step {
        if self.efer & EFER_SCE == 0 {
            return self.raise_ud();
        }
        let star = self.msrs.star;
        let selector = (star >> 32) as u16 & !3;
        let attributes = if self.mode.contains(Mode::LONG) {
            self.regs.set(RCX, self.cut_ip(return_ip));
            self.regs.set(R11, self.flags.rflags() & !RF);
            self.rip = if self.mode.contains(Mode::CODE64) {
                self.msrs.lstar
            } else {
                self.msrs.cstar
            };
            let kept = self.flags.rflags() & !self.msrs.fmask & !RF;
            self.flags.set_rflags(kept);
            self.step_taken_over = kept & TF == 0;
            CODE64
        } else {
            self.regs.set(RCX, self.cut_ip(return_ip) as u32);
            self.rip = star & 0xffff_ffff;
            self.flags.others &= !(IF | RF | VM);
            CODE32
        };
        self.segments[CS] = flat(selector, attributes, 0);
        self.segments[SS] = flat(selector.wrapping_add(8), DATA, 0);
        self.update_mode();
        Ok(())
    }

    /// SYSRET. SS gets flat attributes, as on Intel processors: AMD's leave them, for which kernels must reload SS;
    /// nothing that works with AMD's can tell.
    pub fn sysret(&mut self, width: SyscallWidth) -> Step {
        if self.efer & EFER_SCE == 0 || self.real_addressing() {
            return self.raise_ud();
        }
        if self.cpl != 0 {
            return self.raise_gp();
        }
        let base = (self.msrs.star >> 48) as u16;
        let stack = base.wrapping_add(8) | 3;
        if self.mode.contains(Mode::CODE64) {
            let image: u64 = self.regs.get(R11);
            self.flags.set_rflags(image & SYSRET_FLAGS);
            self.step_taken_over = image & TF == 0;
            if image & TF != 0 {
                self.debug_hits |= DR6_BS;
            }
        } else {
            self.flags.others |= IF;
        }
        if width == SyscallWidth::Bits64 {
            self.rip = self.regs.get(RCX);
            self.segments[CS] = flat(base.wrapping_add(16) | 3, CODE64, 3);
        } else {
            self.rip = self.regs.get::<u32>(RCX).into();
            self.segments[CS] = flat(base | 3, CODE32, 3);
        }
        self.segments[SS] = flat(stack, DATA, 3);
        self.update_mode();
        self.attention = true;
        Ok(())
    }

    /// SYSENTER.
    pub fn sysenter(&mut self) -> Step {
        if self.mode.contains(Mode::LONG) {
            return self.raise_ud();
        }
        let selector = self.msrs.sysenter_cs as u16 & !3;
        if !self.mode.contains(Mode::PROTECTED) || selector == 0 {
            return self.raise_gp();
        }
        self.flags.others &= !(IF | RF | VM);
        self.regs.set(SP, self.msrs.sysenter_esp as u32);
        self.rip = self.msrs.sysenter_eip & 0xffff_ffff;
        self.segments[CS] = flat(selector, CODE32, 0);
        self.segments[SS] = flat(selector.wrapping_add(8), DATA, 0);
        self.update_mode();
        Ok(())
    }

    /// SYSEXIT.
    pub fn sysexit(&mut self) -> Step {
        if self.mode.contains(Mode::LONG) {
            return self.raise_ud();
        }
        let selector = self.msrs.sysenter_cs as u16 & !3;
        if self.real_addressing() || self.cpl != 0 || selector == 0 {
            return self.raise_gp();
        }
        let sp: u32 = self.regs.get(RCX);
        self.rip = self.regs.get::<u32>(RDX).into();
        self.regs.set(SP, sp);
        self.segments[CS] = flat(selector.wrapping_add(16) | 3, CODE32, 3);
        self.segments[SS] = flat(selector.wrapping_add(24) | 3, DATA, 3);
        self.update_mode();
        Ok(())
    }
}
