//! Instructions that run alone, one at a time: those that asked the chipset, when the answer is there, and those that follow STI or
//! MOV SS.
//!
//! Each is one more way through the decoder at every port a driver touches, so what it was decoded to is kept, by its bytes:
//! they are read and compared each time, and nobody has to say when they change. So an instruction that runs from here may
//! write any code, its own included. It must never be found for other bytes, in another mode, or for one that reaches
//! into a second page, whose bytes are not compared.

use super::op::Op;
use super::trace::{self, LONGEST, PAGE, Trace};
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;

/// Kept at most. A driver's port accesses are some dozens.
const KEPT: usize = 256;

/// An instruction, decoded.
struct Known {
    mode: Mode,
    bytes: [u8; LONGEST],
    /// How many of `bytes` there are.
    len: usize,
    ops: Box<[Op]>,
}

/// Those met last, by where they lie.
pub struct Alone {
    known: Box<[Option<Known>]>,
    /// The last one met that is not kept.
    passing: Box<[Op]>,
}

impl Default for Alone {
    fn default() -> Self {
        Self {
            known: std::iter::repeat_with(|| None).take(KEPT).collect(),
            passing: Box::default(),
        }
    }
}

impl Alone {
    /// The instruction at the vCPU's rip. Raises the fault of a fetch that may not be.
    pub fn at_rip(&mut self, cpu: &mut Cpu) -> Step<&[Op]> {
        let linear = cpu.code_address(cpu.rip);
        let phys = cpu.fetch_address(linear)?;
        cpu.trace_page = phys;
        let mut bytes = [0; LONGEST];
        let in_page = LONGEST.min((PAGE - phys % PAGE) as usize);
        cpu.read_code(phys, &mut bytes[..in_page]);
        let place = &mut self.known[phys as usize % KEPT];
        let same = |known: &Known| {
            known.mode == cpu.mode && known.len <= in_page && known.bytes[..known.len] == bytes[..known.len]
        };
        if place.as_ref().is_some_and(same)
            && let Some(known) = place
        {
            cpu.check_code_limit(cpu.rip, known.len)?;
            return Ok(&known.ops);
        }
        let Trace { ops, second, .. } = trace::build(cpu, linear, phys, 1)?;
        let len = trace::bytes(&ops);
        if second.is_some() || len == 0 {
            self.passing = ops;
            return Ok(&self.passing);
        }
        let known = Known {
            mode: cpu.mode,
            bytes,
            len,
            ops,
        };
        Ok(&place.insert(known).ops)
    }
}
