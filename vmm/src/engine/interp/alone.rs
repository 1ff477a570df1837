//! Instructions that run alone, one at a time: those that asked the chipset, when the answer is there, and those that follow STI or
//! MOV SS.
//!
//! Each is one more way through the decoder at every port a driver touches, so what it was decoded to is kept, by its bytes:
//! they are read and compared each time, and nobody has to say when they change. So an instruction that runs from here may
//! write any code, its own included. It must never be found for other bytes, in another mode, or for one that reaches
//! into a second page, whose bytes are not compared.

use super::compile;
use super::op::Op;
use super::trace::{LONGEST, PAGE, decode_crossing, one};
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;

/// Kept at most. A driver's port accesses are some dozens.
const KEPT: usize = 256;
/// Bytes that are looked at: one more than an instruction has tells one that is too long from one that ends in the next page.
const SEEN: usize = LONGEST + 1;

/// An instruction, decoded.
struct Known {
    mode: Mode,
    bytes: [u8; SEEN],
    /// How many of `bytes` there are.
    len: usize,
    ops: Box<[Op]>,
}

/// Those met last, by where they lie.
pub struct Alone {
    known: Box<[Option<Known>]>,
    /// The last one met that reaches into a second page.
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
        let mut bytes = [0; SEEN];
        let in_page = SEEN.min((PAGE - phys % PAGE) as usize);
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
        let Some(instr) = compile::decode(&bytes[..in_page], cpu.mode, 0) else {
            let (_, instr) = decode_crossing(cpu, linear, &bytes[..in_page])?;
            self.passing = one(cpu, &instr)?.into();
            return Ok(&self.passing);
        };
        let known = Known {
            mode: cpu.mode,
            bytes,
            len: instr.len(),
            ops: one(cpu, &instr)?.into(),
        };
        Ok(&place.insert(known).ops)
    }
}
