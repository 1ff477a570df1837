//! Traces: straight-line runs of operations, found by physical address and mode.
//!
//! A trace lies in one physical page; only a single instruction that crosses a page's end may reach into the next, and
//! then stands alone in its trace together with the page it reached. A trace ends at a branch, at anything that can
//! change the mode, at the page's end, or when it is long enough.
//!
//! Finding the next trace takes two steps: a small table by linear address, good until the TLB forgets anything, and
//! behind it the map by physical address. A page whose code is written loses all its traces at once.

use super::compile::{self, Source};
use super::op::Op;
use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::mode::Mode;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::collections::HashMap;

/// Most operations of a trace.
const MOST_OPS: usize = 64;
/// A trace gets no instruction that starts beyond this offset: [`Op::offset`] is a byte.
const MOST_BYTES: u64 = 240;
/// Operations kept at most (32 bytes each); beyond, all is forgotten and built again.
const MOST_KEPT: usize = 2 << 20;
/// Entries of the table by linear address.
const JUMPS: usize = 8192;
const PAGE: u64 = 4096;
/// Longest instruction.
const LONGEST: usize = 15;

/// A run of operations; the last one always leaves it.
pub struct Trace {
    /// The operations.
    pub ops: Box<[Op]>,
    /// Physical address of the first byte.
    pub phys: u64,
    /// The physical page the last instruction reaches into, if it crosses.
    second: Option<u64>,
}

#[derive(Clone, Copy)]
struct Jump {
    linear: u64,
    mode: Mode,
    generation: u64,
    trace: u32,
}

/// Number of a trace; good until the next change of the cache.
pub type TraceId = u32;

/// All traces.
pub struct TraceCache {
    traces: Vec<Option<Trace>>,
    free: Vec<TraceId>,
    by_place: HashMap<(u64, Mode), TraceId>,
    by_page: HashMap<u64, Vec<(u64, Mode)>>,
    jumps: Box<[Jump]>,
    /// Raised when traces go; with the TLB's, dates the entries of `jumps`.
    generation: u64,
    kept: usize,
}

impl Default for TraceCache {
    fn default() -> Self {
        let none = Jump {
            linear: 0,
            mode: Mode::empty(),
            generation: 0,
            trace: 0,
        };
        Self {
            traces: Vec::new(),
            free: Vec::new(),
            by_place: HashMap::new(),
            by_page: HashMap::new(),
            jumps: vec![none; JUMPS].into_boxed_slice(),
            generation: 1,
            kept: 0,
        }
    }
}

impl TraceCache {
    /// The operations of a trace.
    #[inline(always)]
    pub fn get(&self, id: TraceId) -> Option<&Trace> {
        self.traces.get(id as usize)?.as_ref()
    }

    /// The trace at the vCPU's rip, built if need be. Raises the fault of a fetch that may not be.
    #[inline(always)]
    pub fn find(&mut self, cpu: &mut Cpu) -> Step<TraceId> {
        let linear = cpu.code_address(cpu.rip);
        let date = self.generation.wrapping_add(cpu.tlb.generation());
        let jump = &self.jumps[slot(linear)];
        if jump.linear == linear && jump.generation == date && jump.mode == cpu.mode {
            return Ok(jump.trace);
        }
        self.find_slow(cpu, linear)
    }

    #[inline(never)]
    fn find_slow(&mut self, cpu: &mut Cpu, linear: u64) -> Step<TraceId> {
        cpu.check_code_limit(cpu.rip, 1)?;
        let phys = cpu.fetch_address(linear)?;
        let known = self.by_place.get(&(phys, cpu.mode)).copied();
        let fits = known
            .and_then(|id| self.get(id))
            .is_some_and(|trace| match trace.second {
                None => true,
                Some(second) => cpu
                    .fetch_address(next_page(cpu, linear))
                    .is_ok_and(|phys| phys / PAGE == second / PAGE),
            });
        let id = match known {
            Some(id) if fits => id,
            _ => {
                cpu.fault = None;
                let trace = build(cpu, linear, phys, MOST_OPS)?;
                self.keep(cpu, trace)
            }
        };
        // A trace that reaches into a second page is looked up anew each time: only its first page is dated.
        if self.get(id).is_some_and(|trace| trace.second.is_none()) {
            let date = self.generation.wrapping_add(cpu.tlb.generation());
            self.jumps[slot(linear)] = Jump {
                linear,
                mode: cpu.mode,
                generation: date,
                trace: id,
            };
        }
        Ok(id)
    }

    fn keep(&mut self, cpu: &mut Cpu, trace: Trace) -> TraceId {
        if self.kept + trace.ops.len() > MOST_KEPT {
            self.clear(cpu);
        }
        self.kept += trace.ops.len();
        let place = (trace.phys, cpu.mode);
        let bytes = trace
            .ops
            .last()
            .map_or(0, |op| u64::from(op.offset) + u64::from(op.len));
        let in_page = bytes.min(PAGE - trace.phys % PAGE);
        for (at, len) in [(Some(trace.phys), in_page), (trace.second, bytes - in_page)] {
            if let Some(at) = at {
                if cpu.code_pages.add(at, len) {
                    cpu.tlb.protect(at);
                }
                self.by_page.entry(at / PAGE).or_default().push(place);
            }
        }
        if let Some(old) = self.by_place.get(&place).copied() {
            self.forget(old);
        }
        let id = match self.free.pop() {
            Some(id) => {
                self.traces[id as usize] = Some(trace);
                id
            }
            None => {
                self.traces.push(Some(trace));
                (self.traces.len() - 1) as TraceId
            }
        };
        self.by_place.insert(place, id);
        id
    }

    fn forget(&mut self, id: TraceId) {
        if let Some(trace) = self.traces[id as usize].take() {
            self.kept -= trace.ops.len();
            self.free.push(id);
            self.generation += 1;
        }
    }

    /// Drops every trace with bytes in the physical page: it was written.
    pub fn drop_page(&mut self, cpu: &mut Cpu, phys: u64) {
        cpu.code_pages.remove(phys);
        for place in self.by_page.remove(&(phys / PAGE)).unwrap_or_default() {
            if let Some(id) = self.by_place.remove(&place) {
                self.forget(id);
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, cpu: &mut Cpu) {
        self.traces.clear();
        self.free.clear();
        self.by_place.clear();
        self.by_page.clear();
        self.kept = 0;
        self.generation += 1;
        cpu.code_pages.clear();
    }
}

fn slot(linear: u64) -> usize {
    (linear ^ linear >> 13) as usize & (JUMPS - 1)
}

fn next_page(cpu: &Cpu, linear: u64) -> u64 {
    cpu.wrap((linear & !(PAGE - 1)).wrapping_add(PAGE))
}

/// Decodes and compiles from `linear`, which lies at `phys`: at most `most` operations.
pub fn build(cpu: &mut Cpu, linear: u64, phys: u64, most: usize) -> Step<Trace> {
    let in_page = (PAGE - phys % PAGE) as usize;
    let mut bytes = [0; MOST_BYTES as usize + LONGEST];
    let have = in_page.min(bytes.len());
    cpu.read_code(phys, &mut bytes[..have]);
    let mut ops = Vec::with_capacity(8);
    let mut at = 0u64;
    while ops.len() < most && at <= MOST_BYTES && (at as usize) < have {
        let Some(instr) = decode(cpu, &bytes[at as usize..have], at) else {
            if have < in_page || !ops.is_empty() {
                break;
            }
            return crossing(cpu, linear, phys, &bytes[..have]);
        };
        if cpu
            .check_code_limit(cpu.rip.wrapping_add(at), instr.len())
            .is_err()
        {
            if ops.is_empty() {
                return Err(Leave::Fault);
            }
            cpu.fault = None;
            break;
        }
        let op = compile::compile(Source {
            instr: &instr,
            mode: cpu.mode,
            model: &cpu.model,
        });
        let ends = op.ends;
        ops.push(op);
        at += instr.len() as u64;
        if ends {
            return Ok(Trace {
                ops: ops.into(),
                phys,
                second: None,
            });
        }
    }
    ops.push(Op {
        offset: at as u8,
        ..compile::END
    });
    Ok(Trace {
        ops: ops.into(),
        phys,
        second: None,
    })
}

/// The first instruction reaches into the next page.
fn crossing(cpu: &mut Cpu, linear: u64, phys: u64, head: &[u8]) -> Step<Trace> {
    let mut bytes = [0; 2 * LONGEST];
    bytes[..head.len()].copy_from_slice(head);
    let second = cpu.fetch_address(next_page(cpu, linear))?;
    let have = head.len() + LONGEST;
    cpu.read_code(second, &mut bytes[head.len()..have]);
    let mut ops = Vec::with_capacity(2);
    let Some(instr) = decode(cpu, &bytes[..have.min(LONGEST)], 0) else {
        return cpu.raise_gp();
    };
    cpu.check_code_limit(cpu.rip, instr.len())?;
    let op = compile::compile(Source {
        instr: &instr,
        mode: cpu.mode,
        model: &cpu.model,
    });
    ops.push(op);
    if !op.ends {
        ops.push(Op {
            offset: instr.len() as u8,
            ..compile::END
        });
    }
    Ok(Trace {
        ops: ops.into(),
        phys,
        second: Some(second),
    })
}

/// `None`: the bytes end before the instruction does. An invalid instruction decodes to one that raises #UD.
fn decode(cpu: &Cpu, bytes: &[u8], at: u64) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(cpu.mode.bitness(), bytes, at, DecoderOptions::NONE);
    let instr = decoder.decode();
    (decoder.last_error() != iced_x86::DecoderError::NoMoreBytes).then_some(instr)
}
