//! Debug registers: instruction, data and I/O breakpoints, single step (Intel SDM volume 3, sections 17.2 and 17.3).
//!
//! While [`Cpu::debugging`] says so the engine runs one instruction at a time: [`Cpu::begin_instruction`] before it,
//! [`Cpu::debug_trap`] behind it. Nothing else pays: a page with a data breakpoint is never in the TLB, so that all its
//! accesses come by `note_data_access`.

use super::cpu::{Cpu, Fault, Step, vector};
use super::flags::{RF, TF};

/// DR6 in [`Cpu::debug`].
pub const DR6: usize = 4;
/// DR7 in [`Cpu::debug`].
pub const DR7: usize = 5;
/// DR6: MOV DR while DR7.GD.
pub const DR6_BD: u64 = 1 << 13;
/// DR6: single step.
pub const DR6_BS: u64 = 1 << 14;
/// DR6: a task switch to a TSS with T set.
pub const DR6_BT: u64 = 1 << 15;
/// DR6 bits that always read 1.
pub const DR6_FIXED: u64 = 0xffff_0ff0;
/// DR7 bits software can set; bit 10 always reads 1.
pub const DR7_WRITABLE: u64 = 0xffff_23ff;
/// DR7: debug registers guarded.
pub const DR7_GD: u64 = 1 << 13;

const ENABLES: u64 = 0xff;
const CR4_DE: u64 = 1 << 3;

/// What a breakpoint waits for (R/W field of DR7).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Execute,
    Write,
    Io,
    Access,
}

impl Cpu {
    /// Whether the engine must run instruction by instruction: TF set, or a breakpoint on.
    pub fn debugging(&self) -> bool {
        self.flags.others & TF != 0 || self.breakpoints_on()
    }

    /// Whether DR7 has any breakpoint on.
    pub(super) fn breakpoints_on(&self) -> bool {
        self.debug[DR7] & ENABLES != 0
    }

    /// The breakpoints that are on: number, kind, first address, bytes.
    fn breakpoints(&self) -> impl Iterator<Item = (usize, Kind, u64, u64)> {
        let dr7 = self.debug[DR7];
        let io_on = self.cr4 & CR4_DE != 0;
        let at = self.debug;
        (0..4).filter_map(move |i| {
            if dr7 >> (2 * i) & 3 == 0 {
                return None;
            }
            let kind = match dr7 >> (16 + 4 * i) & 3 {
                0 => Kind::Execute,
                1 => Kind::Write,
                2 if io_on => Kind::Io,
                2 => return None,
                _ => Kind::Access,
            };
            let bytes = [1, 2, 8, 4][(dr7 >> (18 + 4 * i) & 3) as usize];
            Some((i, kind, at[i] & !(bytes - 1), bytes))
        })
    }

    /// Whether a data breakpoint watches the linear page: the TLB must not hold it.
    pub fn watched(&self, linear: u64) -> bool {
        self.breakpoints_on()
            && self.breakpoints().any(|(_, kind, at, _)| {
                matches!(kind, Kind::Write | Kind::Access) && at >> 12 == linear >> 12
            })
    }

    /// Notes the data breakpoints an access hits.
    pub(super) fn note_data_access(&mut self, linear: u64, len: usize, write: bool) {
        if self.breakpoints_on() && !self.implicit_access {
            let wanted = |kind| kind == Kind::Access || (write && kind == Kind::Write);
            self.note_hits(wanted, linear, len as u64);
        }
    }

    /// Notes the I/O breakpoints a port access hits.
    pub(super) fn note_port_access(&mut self, port: u16, bytes: u16) {
        if self.breakpoints_on() {
            self.note_hits(|kind| kind == Kind::Io, port.into(), bytes.into());
        }
    }

    fn note_hits(&mut self, wanted: impl Fn(Kind) -> bool, first: u64, len: u64) {
        let hits = self
            .breakpoints()
            .filter(|&(_, kind, at, bytes)| {
                wanted(kind) && (first.wrapping_sub(at) < bytes || at.wrapping_sub(first) < len)
            })
            .fold(0, |hits, (i, ..)| hits | 1 << i);
        self.debug_hits |= hits;
    }

    /// To be called before an instruction while [`debugging`](Self::debugging): raises #DB if an instruction
    /// breakpoint stands at rip and RF does not suppress it.
    pub fn begin_instruction(&mut self) -> Step {
        self.debug_hits = 0;
        if self.flags.others & RF != 0 {
            self.flags.others &= !RF;
            return Ok(());
        }
        let here = self.code_address(self.rip);
        let hits = self
            .breakpoints()
            .filter(|&(_, kind, at, _)| kind == Kind::Execute && at == here)
            .fold(0, |hits, (i, ..)| hits | 1 << i);
        if hits == 0 {
            return Ok(());
        }
        self.debug[DR6] = (self.debug[DR6] & !0xf) | hits;
        // Taken like a trap: the processor does not set RF in the pushed flags for this fault (section 17.3.1.1).
        self.raise_fault(Fault {
            trap: true,
            ..Fault::new(vector::DB, None)
        })
    }

    /// To be called behind an instruction that ended well while [`debugging`](Self::debugging), or when
    /// [`debug_hits`](Self::debug_hits) is not 0: the #DB it owes, DR6 set. `stepped`: TF was set before it.
    pub fn debug_trap(&mut self, stepped: bool) -> Option<Fault> {
        let hits = std::mem::take(&mut self.debug_hits);
        if hits == 0 && !stepped {
            return None;
        }
        let step = if stepped { DR6_BS } else { 0 };
        self.debug[DR6] = (self.debug[DR6] & !0xf) | hits | step;
        Some(Fault {
            trap: true,
            ..Fault::new(vector::DB, None)
        })
    }
}

#[cfg(test)]
mod tests;
