//! The live state of one vCPU on a software engine, and the ways an instruction can leave the straight line.
//!
//! An instruction's handler changes the state only when nothing can fault any more; a fault is raised with
//! [`Cpu::raise`] and travels as [`Leave::Fault`]. An access the chipset must do, read or write, travels as
//! [`Leave::Exit`] before anything changed: the instruction runs again and finds the access done ([`Replay`]). So at every
//! exit the state is that of an instruction boundary, and no handler keeps half-done work.

use super::flags::{self, Flags};
use super::mode::Mode;
use super::regs::Regs;
use super::segment::SegmentRegister;
use super::tlb::Tlb;
use super::xstate::XState;
use crate::engine::Exit;
use crate::engine::cpu_model::CpuModel;
use crate::engine::state::{SS, TableRegister};
use crate::mem::{CodeMap, GuestMemory};
use std::sync::Arc;

/// Why an instruction did not simply end with the next one following. `Ok(())` is the straight line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Leave {
    /// Done, and [`Cpu::rip`] holds the next instruction's address: a branch, or anything that ends a trace.
    Jump = 1,
    /// Not done: [`Cpu::fault`] says why. The state is that before the instruction.
    Fault,
    /// Not done: [`Cpu::exit`] asks the chipset. The instruction runs again with the answer.
    Exit,
    /// Not done: it is about to change bytes of the trace it stands in. The engine drops the trace and runs this
    /// instruction alone ([`Cpu::alone`]).
    Restart,
}

/// What handlers return.
pub type Step<T = ()> = Result<T, Leave>;

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Vector 0..=31.
    pub vector: u8,
    /// Error code, for the vectors that have one.
    pub code: Option<u32>,
    /// Fault address, for #PF: becomes CR2 on delivery.
    pub address: u64,
    /// A trap (single step, data breakpoint): rip is past the instruction already, and RF stays as it is in the pushed
    /// flags; a fault sets it there.
    pub trap: bool,
    /// #GP(0) for a non-canonical address, which is #SS(0) if the operand's segment is SS: only the engine knows.
    pub noncanonical: bool,
}

impl Fault {
    /// A fault-class exception with no address.
    pub const fn new(vector: u8, code: Option<u32>) -> Self {
        Self {
            vector,
            code,
            address: 0,
            trap: false,
            noncanonical: false,
        }
    }
}

/// Vectors by name (Intel SDM volume 3, table 6-1).
pub mod vector {
    /// Divide error.
    pub const DE: u8 = 0;
    /// Debug.
    pub const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Breakpoint.
    pub const BP: u8 = 3;
    /// Overflow.
    pub const OF: u8 = 4;
    /// BOUND.
    pub const BR: u8 = 5;
    /// Undefined instruction.
    pub const UD: u8 = 6;
    /// No x87.
    pub const NM: u8 = 7;
    /// Double fault.
    pub const DF: u8 = 8;
    /// Invalid TSS.
    pub const TS: u8 = 10;
    /// Segment not present.
    pub const NP: u8 = 11;
    /// Stack.
    pub const SS: u8 = 12;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// x87 error.
    pub const MF: u8 = 16;
    /// Alignment check.
    pub const AC: u8 = 17;
    /// SIMD error.
    pub const XM: u8 = 19;
}

/// Answers of the chipset to an instruction that asked: when the instruction runs again it takes them in order.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    answers: Vec<u64>,
    next: usize,
}

impl Replay {
    /// Adds the answer to the last question.
    pub fn answer(&mut self, value: u64) {
        self.answers.push(value);
    }

    /// The next answer, if it has come already.
    pub fn take(&mut self) -> Option<u64> {
        let answer = self.answers.get(self.next).copied();
        self.next += usize::from(answer.is_some());
        answer
    }

    /// Whether the running instruction took an answer.
    pub fn used(&self) -> bool {
        self.next > 0
    }

    /// Starts the instruction again.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// The instruction is done: forget.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.next = 0;
    }
}

/// One vCPU. Fields the hot path touches come first.
pub struct Cpu {
    /// General registers.
    pub regs: Regs,
    /// Linear-offset (CS-relative) address: inside a trace, of the trace's first instruction; else of the next one.
    pub rip: u64,
    /// RFLAGS.
    pub flags: Flags,
    /// Mode bits.
    pub mode: Mode,
    /// Current privilege level.
    pub cpl: u8,
    /// Software TLB.
    pub tlb: Tlb,
    /// ES, CS, SS, DS, FS, GS with hidden parts.
    pub segments: [SegmentRegister; 6],
    /// LDTR.
    pub ldtr: SegmentRegister,
    /// TR.
    pub tr: SegmentRegister,
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR.
    pub idtr: TableRegister,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8 (task priority).
    pub cr8: u8,
    /// EFER.
    pub efer: u64,
    /// DR0..DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// Other MSRs the engine itself keeps.
    pub msrs: super::system::Msrs,
    /// x87, MMX, SSE.
    pub xstate: XState,
    /// Set with [`Leave::Fault`].
    pub fault: Option<Fault>,
    /// Set with [`Leave::Exit`].
    pub exit: Option<Exit>,
    /// The running instruction is in no trace: it may change any code.
    pub alone: bool,
    /// Physical page of the running trace.
    pub trace_page: u64,
    /// The access under way is the processor's own (descriptor tables, TSS): SMAP has no override.
    pub implicit_access: bool,
    /// The four page-directory-pointer registers of PAE paging.
    pub pdptes: [u64; 4],
    /// Answers already given to the running instruction.
    pub replay: Replay,
    /// No interrupt before one more instruction (STI, MOV SS, POP SS).
    pub shadow: bool,
    /// The shadow is MOV SS's or POP SS's: debug traps wait too.
    pub shadow_is_mov_ss: bool,
    /// An NMI handler runs.
    pub nmi_masked: bool,
    /// In HLT.
    pub halted: bool,
    /// The engine must look after this trace: halted, an interrupt shadow, IF just set, TF set, stale code.
    pub attention: bool,
    /// Address line 20 open.
    pub a20: bool,
    /// Physical pages written that hold decoded code; the engine drops that code before it runs on.
    pub stale_code: Vec<u64>,
    /// Guest memory.
    pub memory: Arc<GuestMemory>,
    /// Which physical pages hold decoded code, and which of them devices wrote.
    pub code_pages: Arc<CodeMap>,
    /// CPUID and MSRs.
    pub model: Arc<CpuModel>,
    /// Guest TSC minus host TSC.
    pub tsc_offset: u64,
    /// An exception or interrupt to be delivered before the next instruction: one that was under way when the state
    /// was saved, or a task switch's fault that belongs to the new task. See [`Cpu::deliver_pending`].
    pub pending: Option<Event>,
    /// Breakpoints of DR6 bits 0 to 3 hit by the running instruction, and BT of a task switch (bit 15).
    pub debug_hits: u64,
    /// The instruction that just ended owes no single-step trap although TF was set before it: it entered a handler, or
    /// was a SYSCALL or SYSRET that cleared TF.
    pub step_taken_over: bool,
    /// MOV to CR8 changed the task priority: the engine comes out with [`Exit::Kicked`] and clears this.
    pub cr8_written: bool,
    /// CR4 bits the CPU model has.
    pub cr4_valid: u64,
    /// Width of a physical address.
    pub physical_bits: u32,
    /// Loading a null selector clears the segment's base.
    pub null_clears_base: bool,
}

/// What waits to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An exception.
    Fault(Fault),
    /// An external interrupt already acknowledged.
    Interrupt(u8),
    /// An NMI.
    Nmi,
}

/// What [`Cpu::whole_or_nothing`] puts back.
struct Before {
    regs: Regs,
    rip: u64,
    flags: Flags,
    segments: [SegmentRegister; 6],
    ldtr: SegmentRegister,
    tr: SegmentRegister,
    cr0: u64,
    cr3: u64,
    pdptes: [u64; 4],
}

impl Cpu {
    /// Raises an exception.
    #[cold]
    pub fn raise_fault<T>(&mut self, fault: Fault) -> Step<T> {
        self.fault = Some(fault);
        Err(Leave::Fault)
    }

    /// Raises an exception without error code.
    #[cold]
    pub fn raise<T>(&mut self, vector: u8) -> Step<T> {
        self.raise_fault(Fault::new(vector, None))
    }

    /// Raises an exception with an error code.
    #[cold]
    pub fn raise_code<T>(&mut self, vector: u8, code: u32) -> Step<T> {
        self.raise_fault(Fault::new(vector, Some(code)))
    }

    /// Raises a page fault.
    #[cold]
    pub fn raise_page_fault<T>(&mut self, address: u64, code: u32) -> Step<T> {
        self.raise_fault(Fault {
            address,
            ..Fault::new(vector::PF, Some(code))
        })
    }

    /// #GP(0).
    #[cold]
    pub fn raise_gp<T>(&mut self) -> Step<T> {
        self.raise_code(vector::GP, 0)
    }

    /// #UD.
    #[cold]
    pub fn raise_ud<T>(&mut self) -> Step<T> {
        self.raise(vector::UD)
    }

    /// Asks the chipset, or takes the answer it already gave.
    pub fn ask(&mut self, question: Exit) -> Step<u64> {
        match self.replay.take() {
            Some(answer) => Ok(answer),
            None => {
                self.exit = Some(question);
                Err(Leave::Exit)
            }
        }
    }

    /// Runs `change`; if it fails, registers, flags, segments and paging are as before. What it stored to memory stays
    /// stored, as on silicon: below the stack pointer.
    pub fn whole_or_nothing<T>(&mut self, change: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let before = Before {
            regs: self.regs.clone(),
            rip: self.rip,
            flags: self.flags,
            segments: self.segments,
            ldtr: self.ldtr,
            tr: self.tr,
            cr0: self.cr0,
            cr3: self.cr3,
            pdptes: self.pdptes,
        };
        let result = change(self);
        if result.is_err() {
            self.put_back(before);
        }
        result
    }

    /// [`whole_or_nothing`](Self::whole_or_nothing) for what always ends its trace: it may overwrite the trace's bytes.
    pub(super) fn transfer(&mut self, change: impl FnOnce(&mut Self) -> Step) -> Step {
        let alone = std::mem::replace(&mut self.alone, true);
        let result = self.whole_or_nothing(change);
        self.alone = alone;
        result
    }

    #[cold]
    fn put_back(&mut self, before: Before) {
        if self.cr3 != before.cr3 {
            self.tlb.flush();
        }
        self.regs = before.regs;
        self.rip = before.rip;
        self.flags = before.flags;
        self.segments = before.segments;
        self.ldtr = before.ldtr;
        self.tr = before.tr;
        self.cr0 = before.cr0;
        self.cr3 = before.cr3;
        self.pdptes = before.pdptes;
        self.update_mode();
    }

    /// Whether address translation is on.
    pub fn paging(&self) -> bool {
        self.cr0 >> 31 & 1 != 0
    }

    /// Linear address of an instruction.
    #[inline(always)]
    pub fn code_address(&self, rip: u64) -> u64 {
        if self.mode.contains(Mode::CODE64) {
            rip
        } else {
            self.segments[crate::engine::state::CS].base.wrapping_add(rip) & 0xffff_ffff
        }
    }

    /// Cuts an instruction pointer to the width of the code.
    #[inline(always)]
    pub fn cut_ip(&self, rip: u64) -> u64 {
        if self.mode.contains(Mode::CODE64) {
            rip
        } else if self.mode.contains(Mode::CODE32) {
            rip & 0xffff_ffff
        } else {
            rip & 0xffff
        }
    }

    /// #GP(0) if the instruction bytes lie beyond the code segment's limit.
    pub fn check_code_limit(&mut self, rip: u64, len: usize) -> Step {
        let limit = u64::from(self.segments[crate::engine::state::CS].limit);
        if self.mode.contains(Mode::CODE64) || rip.saturating_add(len as u64 - 1) <= limit {
            return Ok(());
        }
        self.raise_gp()
    }

    /// Recomputes [`Cpu::mode`], and tells the TLB which of its sets is current.
    pub fn update_mode(&mut self) {
        let cs = &self.segments[crate::engine::state::CS];
        let long = self.efer & (1 << 10) != 0;
        let code64 = long && cs.long();
        let protected = self.cr0 & 1 != 0;
        let v86 = self.flags.others & flags::VM != 0;
        self.cpl = if !protected {
            0
        } else if v86 {
            3
        } else {
            self.segments[SS].dpl()
        };
        let mut mode = Mode::empty();
        mode.set(Mode::CODE64, code64);
        mode.set(Mode::CODE32, !code64 && cs.big());
        // Not in 64-bit code, where it means nothing: kernels run with SS null after an interrupt and flat after SYSCALL,
        // and must not have every trace twice.
        mode.set(Mode::STACK32, !code64 && self.segments[SS].big());
        mode.set(Mode::PROTECTED, protected);
        mode.set(Mode::V86, v86);
        mode.set(Mode::LONG, long);
        mode.set(
            Mode::FLAT,
            code64 || (protected && !v86 && self.segments[..4].iter().all(SegmentRegister::flat)),
        );
        mode.set(Mode::USER, self.cpl == 3);
        mode.set(
            Mode::FPU_TRAPS,
            self.cr0 & (1 << 2 | 1 << 3) != 0 || self.cr4 & (1 << 9) == 0,
        );
        self.mode = mode;
        self.select_tlb();
    }

    /// Makes the TLB set current that matches CPL, SMAP and alignment checks.
    pub fn select_tlb(&mut self) {
        let smap_override = self.flags.others & flags::AC != 0 && self.cr4 & (1 << 21) != 0;
        self.tlb.select(self.cpl == 3, smap_override);
        self.tlb.set_slow(self.alignment_checked());
    }
}
