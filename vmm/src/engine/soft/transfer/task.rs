//! Task switches (Intel SDM volume 3, chapter 7): 16- and 32-bit TSS, outside long mode.
//!
//! Up to the point where all of the new task is read and the old one is saved, a fault belongs to the old task and
//! nothing has changed. Behind it a fault (a bad segment of the new task) belongs to the new one: it goes to
//! [`Cpu::pending`], and the engine delivers it with the new task's registers.

use crate::engine::soft::cpu::{Cpu, Event, Leave, Step, vector};
use crate::engine::soft::debug::{DR6_BT, DR7};
use crate::engine::soft::descriptor::{Descriptor, is_null, rpl, system_type};
use crate::engine::soft::flags::{NT, RF, VM};
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::segment::{SegmentRegister, UNUSABLE};
use crate::engine::soft::word::Word;
use crate::engine::state::{CS, SS};

/// How a task is entered: what happens to busy bits, back link and NT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::soft) enum TaskEntry {
    /// JMP.
    Jump,
    /// CALL: nested.
    Call,
    /// Exception or interrupt with this error code: nested.
    Interrupt(Option<u32>),
    /// IRET with NT.
    Return,
}

impl TaskEntry {
    fn nests(self) -> bool {
        matches!(self, Self::Call | Self::Interrupt(_))
    }
}

/// Offsets in a TSS (Intel SDM volume 3, figures 7-2 and 7-10).
struct Layout {
    /// Smallest limit.
    limit: u32,
    word: u64,
    ip: u64,
    flags: u64,
    gprs: u64,
    segments: u64,
    /// ES, CS, SS, DS (16-bit), and FS, GS (32-bit).
    segment_count: usize,
    ldt: u64,
}

const TSS16: Layout = Layout {
    limit: 0x2b,
    word: 2,
    ip: 14,
    flags: 16,
    gprs: 18,
    segments: 34,
    segment_count: 4,
    ldt: 42,
};
const TSS32: Layout = Layout {
    limit: 0x67,
    word: 4,
    ip: 32,
    flags: 36,
    gprs: 40,
    segments: 72,
    segment_count: 6,
    ldt: 96,
};
const CR3: u64 = 28;
const TRAP: u64 = 100;
const CR0_TS: u64 = 1 << 3;
/// DR7.L0 to L3 and LE.
const LOCAL_ENABLES: u64 = 0x155;

/// A task's registers as read from its TSS.
struct Incoming {
    wide: bool,
    cr3: Option<u64>,
    ip: u64,
    flags: u64,
    gprs: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    selectors: [u16; 6],
    ldt: u16,
    trap: bool,
}

/// Whether a descriptor is a TSS that may be entered.
pub(in crate::engine::soft) fn is_available_tss(descriptor: Descriptor) -> bool {
    !descriptor.is_segment() && matches!(descriptor.kind(), system_type::TSS | system_type::TSS16)
}

fn layout(wide: bool) -> &'static Layout {
    if wide { &TSS32 } else { &TSS16 }
}

impl Cpu {
    /// Loads from the current TSS.
    pub(in crate::engine::soft) fn load_tss<W: Word>(&mut self, at: u64) -> Step<W> {
        self.load_system(self.system_address(self.tr.base.wrapping_add(at)))
    }

    /// Switches to the task of a checked, present TSS descriptor. `return_ip`: where the old task goes on. Runs inside
    /// [`Cpu::transfer`].
    pub(in crate::engine::soft) fn switch_task(
        &mut self,
        selector: u16,
        task: Descriptor,
        entry: TaskEntry,
        return_ip: u64,
    ) -> Step {
        let incoming = self.read_task(selector, task)?;
        self.save_task(selector, entry, return_ip)?;
        let new = SegmentRegister {
            attributes: task.attributes() | 2,
            ..task.register(selector)
        };
        self.enter_task(new, &incoming, entry)?;
        match self.load_task_segments(&incoming, entry) {
            Err(Leave::Fault) => self.pending = self.fault.take().map(Event::Fault),
            other => other?,
        }
        if incoming.trap {
            self.debug_hits |= DR6_BT;
        }
        self.attention = true;
        Ok(())
    }

    fn read_task(&mut self, selector: u16, task: Descriptor) -> Step<Incoming> {
        let wide = task.kind() & 8 != 0;
        let places = layout(wide);
        if task.limit() < places.limit {
            return self.raise_selector(vector::TS, selector);
        }
        let base = task.base();
        let field = |cpu: &mut Self, at: u64| {
            let at = cpu.system_address(base.wrapping_add(at));
            if wide {
                cpu.load_system::<u32>(at)
            } else {
                cpu.load_system::<u16>(at).map(u32::from)
            }
        };
        let mut gprs = [0; 8];
        for (at, gpr) in (places.gprs..).step_by(places.word as usize).zip(&mut gprs) {
            *gpr = field(self, at)?;
        }
        let mut selectors = [0; 6];
        let places_of_segments = (places.segments..).step_by(places.word as usize);
        for (at, selector) in places_of_segments.zip(&mut selectors[..places.segment_count]) {
            *selector = field(self, at)? as u16;
        }
        Ok(Incoming {
            wide,
            cr3: match wide && self.paging() {
                true => Some(field(self, CR3)?.into()),
                false => None,
            },
            ip: field(self, places.ip)?.into(),
            flags: field(self, places.flags)?.into(),
            gprs,
            selectors,
            ldt: field(self, places.ldt)? as u16,
            trap: wide && field(self, TRAP)? & 1 != 0,
        })
    }

    /// Saves the old task and moves busy bits and back link.
    fn save_task(&mut self, new: u16, entry: TaskEntry, return_ip: u64) -> Step {
        let wide = self.tr.attributes & 8 != 0;
        let places = layout(wide);
        if self.tr.limit < places.limit {
            return self.raise_selector(vector::TS, self.tr.selector);
        }
        let kept_flags = if entry == TaskEntry::Return { !NT } else { u64::MAX };
        let flags = self.flags.rflags() & kept_flags;
        self.store_tss(wide, places.ip, return_ip)?;
        self.store_tss(wide, places.flags, flags)?;
        for i in 0..8 {
            let value: u64 = self.regs.get(RegAt::new(i));
            self.store_tss(wide, places.gprs + places.word * u64::from(i), value)?;
        }
        for i in 0..places.segment_count {
            let selector = self.segments[i].selector;
            self.store_tss(false, places.segments + places.word * i as u64, selector.into())?;
        }
        if !entry.nests() {
            self.set_busy(self.tr.selector, false)?;
        }
        if entry != TaskEntry::Return {
            self.set_busy(new, true)?;
        }
        Ok(())
    }

    fn store_tss(&mut self, wide: bool, at: u64, value: u64) -> Step {
        let at = self.system_address(self.tr.base.wrapping_add(at));
        if wide {
            self.store_system(at, value as u32)
        } else {
            self.store_system(at, value as u16)
        }
    }

    /// Makes the new task's registers the processor's; segments only by their selectors.
    fn enter_task(&mut self, tr: SegmentRegister, new: &Incoming, entry: TaskEntry) -> Step {
        let back_link = self.tr.selector;
        if entry.nests() {
            self.store_system(self.system_address(tr.base), back_link)?;
        }
        if let Some(cr3) = new.cr3
            && cr3 != self.cr3
        {
            self.load_cr3(cr3)?;
        }
        self.tr = tr;
        self.cr0 |= CR0_TS;
        self.debug[DR7] &= !LOCAL_ENABLES;
        for (i, &value) in new.gprs.iter().enumerate() {
            let at = RegAt::new(i as u8);
            if new.wide {
                self.regs.set(at, value);
            } else {
                self.regs.set(at, value as u16);
            }
        }
        self.load_flags_of_task(new, entry);
        self.rip = new.ip;
        let v86 = self.flags.others & VM != 0;
        let cpl = if v86 { 3 } else { rpl(new.selectors[CS]) };
        for (segment, &selector) in self.segments.iter_mut().zip(&new.selectors) {
            *segment = SegmentRegister {
                selector,
                base: 0,
                limit: 0,
                attributes: UNUSABLE | u32::from(cpl) << 5,
            };
        }
        self.ldtr = SegmentRegister {
            selector: new.ldt,
            base: 0,
            limit: 0,
            attributes: UNUSABLE,
        };
        self.update_mode();
        Ok(())
    }

    fn load_flags_of_task(&mut self, new: &Incoming, entry: TaskEntry) {
        /// CF PF AF ZF SF TF IF DF OF IOPL NT VM AC ID.
        const DEFINED: u64 = 0x0026_7fd5;
        let resume = if self.breakpoints_on() { RF } else { 0 };
        let nested = if entry.nests() { NT } else { 0 };
        self.flags.set_rflags((new.flags & (DEFINED | resume)) | nested);
    }

    /// The new task's descriptors, checked in its own context.
    fn load_task_segments(&mut self, new: &Incoming, entry: TaskEntry) -> Step {
        self.load_task_ldt(new.ldt)?;
        if self.flags.others & VM != 0 {
            self.install_v86(new.selectors);
            self.update_mode();
        } else {
            let cpl = self.cpl;
            self.load_task_code(new.selectors[CS], cpl)?;
            self.segments[SS] = self.stack_segment(new.selectors[SS], cpl, vector::TS)?;
            self.update_mode();
            for index in [0, 3, 4, 5] {
                let selector = new.selectors[index];
                if !is_null(selector) {
                    self.segments[index] = self.data_segment_or(selector, vector::TS)?;
                }
            }
            self.update_mode();
        }
        if let TaskEntry::Interrupt(Some(code)) = entry {
            self.push_bits(if new.wide { 32 } else { 16 }, code.into())?;
        }
        if self.rip > u64::from(self.segments[CS].limit) {
            return self.raise_gp();
        }
        Ok(())
    }

    fn load_task_ldt(&mut self, selector: u16) -> Step {
        if is_null(selector) {
            return Ok(());
        }
        if selector & 4 != 0 {
            return self.raise_selector(vector::TS, selector);
        }
        let ldt = self.descriptor(selector, vector::TS)?;
        if ldt.is_segment() || ldt.kind() != system_type::LDT || !ldt.present() {
            return self.raise_selector(vector::TS, selector);
        }
        self.ldtr = ldt.register(selector);
        Ok(())
    }

    fn load_task_code(&mut self, selector: u16, cpl: u8) -> Step {
        if is_null(selector) {
            return self.raise_code(vector::TS, 0);
        }
        let code = self.descriptor(selector, vector::TS)?;
        let privilege_fits = if code.is_conforming() {
            code.dpl() <= cpl
        } else {
            code.dpl() == cpl
        };
        if !code.is_code() || !privilege_fits {
            return self.raise_selector(vector::TS, selector);
        }
        if !code.present() {
            return self.raise_selector(vector::NP, selector);
        }
        self.install_code(selector, code, cpl)
    }
}
