//! Making a vCPU, and its state in and out: [`CpuState`] to [`Cpu`] and back.

use super::cpu::{Cpu, Event, Fault, Replay, vector};
use super::debug::{DR6, DR6_FIXED, DR7};
use super::flags::Flags;
use super::mode::Mode;
use super::regs::Regs;
use super::segment::SegmentRegister;
use super::system::{CR0_ET, Msrs, host};
use super::tlb::Tlb;
use super::xstate::XState;
use crate::engine::EngineError;
use crate::engine::cpu_model::{CpuModel, Dynamic, msrs};
use crate::engine::state::{CpuState, Pending, Segment, Segments};
use crate::mem::GuestMemory;
use std::sync::Arc;

/// Features of the default model the software CPU does not have. VME: no virtual interrupt flag.
const LACKS: [&str; 1] = ["VME"];

/// CR4 bits, and the feature each needs.
const CR4_BITS: [(u64, &str); 15] = [
    (1 << 2, "TSC"),
    (1 << 3, "DE"),
    (1 << 4, "PSE"),
    (1 << 5, "PAE"),
    (1 << 6, "MCE"),
    (1 << 7, "PGE"),
    // PCE: RDPMC faults anyway, there are no counters.
    (1 << 8, "MSR"),
    (1 << 9, "FXSR"),
    (1 << 10, "SSE"),
    (1 << 11, "UMIP"),
    (1 << 16, "FSGSBASE"),
    (1 << 17, "PCID"),
    (1 << 18, "XSAVE"),
    (1 << 20, "SMEP"),
    (1 << 21, "SMAP"),
];

/// The CPU model a software engine offers by default: the default one without what these engines lack.
pub fn interp_model() -> CpuModel {
    software_model(CpuModel::default_level())
}

/// What a software engine can offer of a CPU model.
pub fn software_model(mut model: CpuModel) -> CpuModel {
    for feature in LACKS {
        model.hide(feature);
    }
    if !host::has_random() {
        model.hide("RDRAND");
    }
    model
}

impl Cpu {
    /// A vCPU as RESET leaves it.
    pub fn new(model: Arc<CpuModel>, memory: Arc<GuestMemory>) -> Self {
        let cr4_valid = CR4_BITS
            .iter()
            .filter(|(_, feature)| model.has(feature))
            .fold(0, |bits, (bit, _)| bits | bit);
        let physical_bits = model.cpuid(0x8000_0008, 0, &Dynamic::default())[0] & 0xff;
        let null_clears_base = model.has("NULL_SEL_CLR_BASE");
        let mut cpu = Self {
            regs: Regs::default(),
            rip: 0,
            flags: Flags::default(),
            mode: Mode::empty(),
            cpl: 0,
            tlb: Tlb::default(),
            segments: [SegmentRegister::default(); 6],
            ldtr: SegmentRegister::default(),
            tr: SegmentRegister::default(),
            gdtr: Default::default(),
            idtr: Default::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            efer: 0,
            debug: [0; 6],
            msrs: Msrs::default(),
            xstate: XState::default(),
            fault: None,
            exit: None,
            alone: false,
            trace_page: 0,
            implicit_access: false,
            pdptes: [0; 4],
            replay: Replay::default(),
            shadow: false,
            shadow_is_mov_ss: false,
            nmi_masked: false,
            halted: false,
            step_taken_over: false,
            attention: true,
            a20: true,
            stale_code: Vec::new(),
            code_pages: memory.code_map(),
            memory,
            model,
            tsc_offset: 0,
            pending: None,
            debug_hits: 0,
            cr8_written: false,
            cr4_valid,
            physical_bits: physical_bits.clamp(32, 52),
            null_clears_base,
        };
        cpu.put(&CpuState::reset());
        cpu
    }

    /// Replaces the whole state. What the state says of memory (decoded code) is the engine's to forget.
    pub fn load_state(&mut self, state: &CpuState) -> Result<(), EngineError> {
        state.check()?;
        if state.cr4 & !self.cr4_valid != 0 {
            return Err(EngineError::BadState(format!(
                "CR4 is {:#x}: this engine has only {:#x}",
                state.cr4, self.cr4_valid
            )));
        }
        self.put(state);
        Ok(())
    }

    fn put(&mut self, state: &CpuState) {
        self.regs.set_all(&state.gprs);
        self.rip = state.rip;
        self.flags.set_rflags(state.rflags);
        self.segments = state.segments.user.map(SegmentRegister::from);
        self.ldtr = state.segments.ldtr.into();
        self.tr = state.segments.tr.into();
        self.gdtr = state.gdtr;
        self.idtr = state.idtr;
        self.cr0 = state.cr0 | CR0_ET;
        self.cr2 = state.cr2;
        self.cr3 = state.cr3;
        self.cr4 = state.cr4;
        self.cr8 = state.cr8 as u8;
        self.efer = state.efer;
        self.debug = state.debug;
        self.debug[DR6] |= DR6_FIXED;
        self.debug[DR7] |= 1 << 10;
        self.put_msrs(state);
        self.xstate.load(&state.xsave, state.xcr0);
        self.pdptes = self.read_pdptes(state.cr3).unwrap_or_default();
        self.put_pending(state);
        self.tlb.flush();
        self.update_mode();
    }

    fn put_msrs(&mut self, state: &CpuState) {
        self.msrs = Msrs::default();
        for &(index, value) in &state.msrs {
            if index == msrs::TSC {
                self.tsc_offset = value.wrapping_sub(host::tsc());
            } else {
                self.put_msr(index, value);
            }
        }
    }

    fn put_pending(&mut self, state: &CpuState) {
        let pending = &state.pending;
        self.shadow = pending.sti_shadow || pending.mov_ss_shadow;
        self.shadow_is_mov_ss = pending.mov_ss_shadow;
        self.nmi_masked = pending.nmi_masked;
        self.halted = pending.halted;
        let exception = pending.exception.map(|(vector, code)| {
            Event::Fault(Fault {
                address: state.cr2,
                trap: matches!(vector, vector::DB | vector::BP | vector::OF),
                ..Fault::new(vector, code)
            })
        });
        self.pending = exception
            .or(pending.interrupt.map(Event::Interrupt))
            .or(pending.nmi_pending.then_some(Event::Nmi));
        self.fault = None;
        self.exit = None;
        self.replay.clear();
        self.debug_hits = 0;
        self.cr8_written = false;
        self.attention = true;
    }

    /// The whole state; only between instructions.
    pub fn save_state(&mut self) -> CpuState {
        let model = Arc::clone(&self.model);
        let saved = model.saved_msrs().into_iter();
        let msrs = saved
            .filter_map(|index| Some((index, self.saved_msr(index, msrs::msr(index)?))))
            .collect();
        let cr2 = match self.pending {
            Some(Event::Fault(fault)) if fault.vector == vector::PF => fault.address,
            _ => self.cr2,
        };
        CpuState {
            gprs: self.regs.all(),
            rip: self.rip,
            rflags: self.flags.rflags(),
            segments: Segments {
                user: self.segments.map(Segment::from),
                ldtr: self.ldtr.into(),
                tr: self.tr.into(),
            },
            gdtr: self.gdtr,
            idtr: self.idtr,
            cr0: self.cr0,
            cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            cr8: self.cr8.into(),
            xcr0: self.xstate.xcr0,
            debug: self.debug,
            efer: self.efer,
            msrs,
            xsave: self.xstate.save(),
            pending: self.saved_pending(),
        }
    }

    fn saved_pending(&self) -> Pending {
        let mut pending = Pending {
            sti_shadow: self.shadow && !self.shadow_is_mov_ss,
            mov_ss_shadow: self.shadow_is_mov_ss,
            nmi_masked: self.nmi_masked,
            halted: self.halted,
            ..Pending::default()
        };
        match self.pending {
            Some(Event::Fault(fault)) => pending.exception = Some((fault.vector, fault.code)),
            Some(Event::Interrupt(vector)) => pending.interrupt = Some(vector),
            Some(Event::Nmi) => pending.nmi_pending = true,
            None => {}
        }
        pending
    }
}

#[cfg(test)]
mod tests;
