//! The stack as instructions see it: pushes and pops through SS, at the width the mode gives the stack pointer.
//!
//! General and not quick; engines have faster forms for 64-bit and flat code. Who pushes several values and must not
//! leave half of them counted runs inside [`Cpu::whole_or_nothing`], or uses the peeking forms and moves the pointer last.

use super::cpu::{Cpu, Leave, Step, vector};
use super::mode::Mode;
use super::regs::RegAt;
use super::word::Word;
use crate::engine::state::SS;

/// RSP.
pub const SP: RegAt = RegAt::new(4);

impl Cpu {
    /// Mask of the stack pointer: 64 bits in 64-bit code, else 32 or 16 by SS.B.
    #[inline]
    pub fn stack_mask(&self) -> u64 {
        if self.mode.contains(Mode::CODE64) {
            u64::MAX
        } else if self.mode.contains(Mode::STACK32) {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// The stack pointer, cut to its width.
    #[inline]
    pub fn stack_pointer(&self) -> u64 {
        self.regs.get::<u64>(SP) & self.stack_mask()
    }

    /// Sets the stack pointer: a 16-bit one leaves the rest of RSP.
    #[inline]
    pub fn set_stack_pointer(&mut self, value: u64) {
        match self.stack_mask() {
            0xffff => self.regs.set(SP, value as u16),
            mask => self.regs.set(SP, value & mask),
        }
    }

    /// Linear address of `size` bytes at `offset` in SS, checked.
    pub fn stack_linear(&mut self, offset: u64, size: usize, write: bool) -> Step<u64> {
        let offset = offset & self.stack_mask();
        self.segmented(SS as u8, offset, size as u32, write)
    }

    /// PUSH: the pointer moves only if the store succeeds.
    pub fn push<W: Word>(&mut self, value: W) -> Step {
        let to = self.stack_pointer().wrapping_sub(W::BYTES as u64);
        let at = self.stack_linear(to, W::BYTES, true)?;
        let stored = self.store(at, value);
        self.of_stack(stored)?;
        self.set_stack_pointer(to);
        Ok(())
    }

    /// What the stack holds `depth` bytes above its top.
    pub fn peek<W: Word>(&mut self, depth: u64) -> Step<W> {
        let at = self.stack_linear(self.stack_pointer().wrapping_add(depth), W::BYTES, false)?;
        let loaded = self.load(at);
        self.of_stack(loaded)
    }

    /// POP.
    pub fn pop<W: Word>(&mut self) -> Step<W> {
        let value = self.peek(0)?;
        self.drop_stack(W::BYTES as u64);
        Ok(value)
    }

    /// Moves the stack pointer up.
    pub fn drop_stack(&mut self, bytes: u64) {
        self.set_stack_pointer(self.stack_pointer().wrapping_add(bytes));
    }

    /// PUSH of a value of 16, 32 or 64 bits.
    pub(super) fn push_bits(&mut self, bits: u32, value: u64) -> Step {
        match bits {
            16 => self.push(value as u16),
            32 => self.push(value as u32),
            _ => self.push(value),
        }
    }

    /// POP of a value of 16, 32 or 64 bits.
    pub(super) fn pop_bits(&mut self, bits: u32) -> Step<u64> {
        match bits {
            16 => self.pop::<u16>().map(u64::from),
            32 => self.pop::<u32>().map(u64::from),
            _ => self.pop(),
        }
    }

    /// Pushes onto a stack just switched to: where it ends, the error code names it (Intel SDM volume 2, INT n).
    pub(super) fn on_new_stack<T>(&mut self, pushes: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let result = pushes(self);
        if let (Err(Leave::Fault), Some(fault)) = (&result, &mut self.fault)
            && fault.vector == vector::SS
        {
            fault.code = Some(u32::from(self.segments[SS].selector & !3));
        }
        result
    }

    /// A non-canonical address is #SS(0) when the stack is reached through it (Intel SDM volume 3, section 6.15).
    fn of_stack<T>(&mut self, result: Step<T>) -> Step<T> {
        if let (Err(Leave::Fault), Some(fault)) = (&result, &mut self.fault)
            && fault.noncanonical
        {
            fault.vector = vector::SS;
            fault.noncanonical = false;
        }
        result
    }
}
