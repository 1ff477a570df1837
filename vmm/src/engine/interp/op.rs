//! One decoded instruction.

use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::regs::RegAt;

/// What runs an [`Op`]. Arithmetic, memory and everything else: the handler knows its own operand size and form.
pub type Handler = fn(&mut Cpu, &Op) -> Step;

/// One instruction, ready to run. Two to a cache line.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Op {
    /// Runs it.
    pub run: Handler,
    /// Immediate, sign-extended; for a RIP-relative or direct-branch operand: the target's distance from the trace's
    /// first byte (so the handler adds [`Cpu::rip`]); for rare instructions: whatever the handler wants.
    pub imm: u64,
    /// Displacement of the memory operand, sign-extended by the handler's form.
    pub disp: i32,
    /// First register operand (destination as a rule).
    pub reg: RegAt,
    /// Second register operand.
    pub rm: RegAt,
    /// Base register of the memory operand, or [`RegAt::ZERO`].
    pub base: RegAt,
    /// Index register of the memory operand, or [`RegAt::ZERO`].
    pub index: RegAt,
    /// Shift of the index, 0..=3.
    pub scale: u8,
    /// Segment of the memory operand (index into `Cpu::segments`), overrides applied.
    pub segment: u8,
    /// Bytes of the instruction, 1..=15.
    pub len: u8,
    /// Distance of its first byte from the trace's first.
    pub offset: u8,
    /// Never simply ends with `Ok`: a branch, or an instruction that can change the mode ([`Op::finish`]).
    pub ends: bool,
}

const _: () = assert!(size_of::<Op>() == 32);

impl Op {
    /// Address of the instruction itself, in a running trace.
    #[inline(always)]
    pub fn here(&self, cpu: &Cpu) -> u64 {
        cpu.rip.wrapping_add(u64::from(self.offset))
    }

    /// Ends the trace behind this instruction: the next one is found anew, by the mode there is then.
    #[inline(always)]
    pub fn finish(&self, cpu: &mut Cpu) -> Step {
        cpu.rip = cpu.cut_ip(self.next(cpu));
        Err(Leave::Jump)
    }

    /// The same operation, said to end its trace.
    pub fn ending(self) -> Self {
        Self { ends: true, ..self }
    }

    /// Address of the next instruction, not yet cut to the mode's width.
    #[inline(always)]
    pub fn next(&self, cpu: &Cpu) -> u64 {
        self.here(cpu).wrapping_add(u64::from(self.len))
    }
}
