//! IRET in every mode (Intel SDM volume 2, IRET; AMD APM volume 3, IRET).

use crate::engine::soft::cpu::{Cpu, Step, vector};
use crate::engine::soft::descriptor::{is_null, rpl, system_type};
use crate::engine::soft::flags::{AC, ARITHMETIC, DF, ID, IF, IOPL, NT, RF, TF, VM};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::stack::SP;
use crate::engine::soft::transfer::TaskEntry;
use crate::engine::state::{CS, SS};

/// What IRET takes from the stack always.
struct Frame {
    ip: u64,
    cs: u16,
    flags: u64,
}

impl Cpu {
    /// IRET, IRETD, IRETQ. `return_ip`: the next instruction (a task switch saves it).
    pub fn iret(&mut self, op_bits: u32, return_ip: u64) -> Step {
        let return_ip = self.cut_ip(return_ip);
        self.transfer(|cpu| cpu.return_from_handler(op_bits, return_ip))?;
        // An NMI may have come in the handler of another.
        self.attention |= std::mem::take(&mut self.nmi_masked);
        // A handler may have been the reason to wait: the engine looks at IF, TF and breakpoints anew.
        self.attention |= self.flags.others & IF != 0 || self.debugging();
        Ok(())
    }

    fn return_from_handler(&mut self, op_bits: u32, return_ip: u64) -> Step {
        let protected = self.mode.contains(Mode::PROTECTED);
        if !protected || self.mode.contains(Mode::V86) {
            return self.iret_real(op_bits);
        }
        if self.flags.others & NT != 0 {
            return if self.mode.contains(Mode::LONG) {
                self.raise_gp()
            } else {
                self.iret_task(return_ip)
            };
        }
        let frame = self.pop_frame(op_bits)?;
        if frame.flags & VM != 0 && self.cpl == 0 && op_bits == 32 && !self.mode.contains(Mode::LONG) {
            return self.iret_to_v86(&frame);
        }
        self.iret_protected(&frame, op_bits)
    }

    fn pop_frame(&mut self, op_bits: u32) -> Step<Frame> {
        let ip = self.pop_bits(op_bits)?;
        let cs = self.pop_bits(op_bits)? as u16;
        let flags = self.pop_bits(op_bits)?;
        Ok(Frame { ip, cs, flags })
    }

    fn iret_real(&mut self, op_bits: u32) -> Step {
        if self.mode.contains(Mode::V86) && self.flags.others & IOPL != IOPL {
            return self.raise_gp();
        }
        let frame = self.pop_frame(op_bits)?;
        if frame.ip > u64::from(self.segments[CS].limit) {
            return self.raise_gp();
        }
        self.segments[CS] = self.real_segment(CS, frame.cs);
        self.rip = frame.ip;
        self.return_flags(frame.flags, op_bits, self.cpl);
        self.update_mode();
        Ok(())
    }

    /// To the task the current one is nested in (Intel SDM volume 3, section 7.4).
    fn iret_task(&mut self, return_ip: u64) -> Step {
        let link: u16 = self.load_system(self.system_address(self.tr.base))?;
        if link & 4 != 0 || is_null(link) {
            return self.raise_selector(vector::TS, link);
        }
        let task = self.descriptor(link, vector::TS)?;
        let busy = matches!(task.kind(), system_type::TSS_BUSY | system_type::TSS16_BUSY);
        if task.is_segment() || !busy {
            return self.raise_selector(vector::TS, link);
        }
        if !task.present() {
            return self.raise_selector(vector::NP, link);
        }
        self.switch_task(link, task, TaskEntry::Return, return_ip)
    }

    /// ESP, SS, ES, DS, FS, GS follow the flags.
    fn iret_to_v86(&mut self, frame: &Frame) -> Step {
        let mut above = [0; 6];
        for value in &mut above {
            *value = self.pop::<u32>()?;
        }
        if frame.ip > 0xffff {
            return self.raise_gp();
        }
        let [esp, ss, es, ds, fs, gs] = above;
        let selectors = [es, frame.cs.into(), ss, ds, fs, gs].map(|s| s as u16);
        self.return_flags(frame.flags, 32, 0);
        self.flags.others |= VM;
        self.install_v86(selectors);
        self.regs.set(SP, esp);
        self.rip = frame.ip;
        self.update_mode();
        Ok(())
    }

    fn iret_protected(&mut self, frame: &Frame, op_bits: u32) -> Step {
        let was_64 = self.mode.contains(Mode::CODE64);
        let old_cpl = self.cpl;
        let cpl = rpl(frame.cs);
        let target = self.return_code(frame.cs)?;
        // 64-bit code always pops SS:RSP (AMD APM volume 2, section 8.9.3).
        let outer = if was_64 || cpl > old_cpl {
            let sp = self.pop_bits(op_bits)?;
            let ss = self.pop_bits(op_bits)? as u16;
            Some((ss, sp))
        } else {
            None
        };
        self.check_target(target, frame.ip)?;
        if let Some((ss, sp)) = outer {
            self.segments[SS] = self.return_stack(ss, cpl, target)?;
            self.install_code(frame.cs, target, cpl)?;
            self.update_mode();
            self.set_stack_pointer(sp);
        } else {
            self.install_code(frame.cs, target, cpl)?;
            self.update_mode();
        }
        if cpl > old_cpl {
            self.drop_inner_segments();
        }
        self.rip = frame.ip;
        self.return_flags(frame.flags, op_bits, old_cpl);
        self.update_mode();
        Ok(())
    }

    /// The flags IRET at privilege `cpl` may change. RF is only worth keeping while there are breakpoints it could
    /// suppress: the next instruction clears it.
    fn return_flags(&mut self, image: u64, op_bits: u32, cpl: u8) {
        let mut changed = ARITHMETIC | TF | DF | NT;
        if op_bits > 16 {
            changed |= AC | ID;
            if self.breakpoints_on() {
                changed |= RF;
            }
        }
        let iopl = (self.flags.others & IOPL) >> 12;
        if u64::from(cpl) <= iopl {
            changed |= IF;
        }
        if cpl == 0 {
            changed |= IOPL;
        }
        let kept = self.flags.rflags() & !changed & !RF;
        self.flags.set_rflags(kept | (image & changed));
    }
}
