//! Far jumps, calls and returns, gates, task switches, SYSCALL and SYSENTER.
//!
//! Everything here either succeeds whole, with [`Cpu::rip`] at the target, and the handler that called returns
//! [`Leave::Jump`](super::cpu::Leave::Jump); or it fails with the state before the instruction.

use super::cpu::{Cpu, Step};

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

impl Cpu {
    /// JMP far, direct or through memory. `offset` is already cut to `op_bits`; `return_ip`: the next instruction (a
    /// task switch saves it).
    pub fn far_jump(&mut self, selector: u16, offset: u64, op_bits: u32, return_ip: u64) -> Step {
        let _ = (selector, offset, op_bits, return_ip);
        self.raise_ud()
    }

    /// CALL far. `return_ip`: the next instruction.
    pub fn far_call(&mut self, selector: u16, offset: u64, op_bits: u32, return_ip: u64) -> Step {
        let _ = (selector, offset, op_bits, return_ip);
        self.raise_ud()
    }

    /// RET far, with `pop_bytes` of parameters.
    pub fn far_return(&mut self, op_bits: u32, pop_bytes: u16) -> Step {
        let _ = (op_bits, pop_bytes);
        self.raise_ud()
    }

    /// IRET, IRETD, IRETQ. `return_ip`: the next instruction (a task switch saves it).
    pub fn iret(&mut self, op_bits: u32, return_ip: u64) -> Step {
        let _ = (op_bits, return_ip);
        self.raise_ud()
    }

    /// INT n, INT3, INTO, INT1. `return_ip`: the next instruction, which the handler returns to.
    pub fn software_interrupt(&mut self, vector: u8, kind: Software, return_ip: u64) -> Step {
        let _ = (vector, kind, return_ip);
        self.raise_ud()
    }

    /// MOV to Sreg, POP Sreg, LDS and friends: checks and loads. Not for CS. For SS the caller sets the shadow.
    pub fn load_segment(&mut self, index: usize, selector: u16) -> Step {
        let _ = (index, selector);
        self.raise_ud()
    }

    /// Whether the port access is allowed (IOPL, I/O permission bitmap), else #GP(0). `bytes`: 1, 2 or 4.
    pub fn check_io(&mut self, port: u16, bytes: u16) -> Step {
        let _ = (port, bytes);
        self.raise_ud()
    }
}
