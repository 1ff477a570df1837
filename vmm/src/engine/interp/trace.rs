//! Traces: straight-line runs of operations, found by physical address and mode.
//!
//! A trace lies in one physical page; only a single instruction that crosses a page's end may reach into the next, and
//! then stands alone in its trace together with the page it reached. A trace ends at a branch, at anything that can
//! change the mode, at the page's end, or when it is long enough.
//!
//! Finding the next trace takes up to three steps: the links of the trace that ends, a table by linear address, and the
//! map by physical address. Links and table hold bare pointers, each with the [`Stamp`] of its moment: it is good for
//! that mode only, and until the TLB forgets anything or any trace goes. A page whose code is written loses all its
//! traces at once.
#![allow(
    unsafe_code,
    reason = "successors are reached by pointer, one load instead of three; their stamps say that they live"
)]

use super::compile::{self, Source};
use super::op::Op;
use crate::engine::soft::cpu::{Cpu, Leave, Step};
use crate::engine::soft::mode::Mode;
use iced_x86::Instruction;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr::NonNull;
use std::rc::Rc;

/// Most operations of a trace.
const MOST_OPS: usize = 64;
/// A trace gets no instruction that starts beyond this offset: [`Op::offset`] is a byte.
const MOST_BYTES: u64 = 240;
/// Operations kept at most (32 bytes each); beyond, all is forgotten and built again.
const MOST_KEPT: usize = 2 << 20;
/// Entries of the table by linear address.
const JUMPS: usize = 8192;
/// Links of a trace. Its end and the last branches before it have one each; most traces have no more.
const LINKS: usize = 4;
pub(super) const PAGE: u64 = 4096;
/// Longest instruction.
pub(super) const LONGEST: usize = 15;

/// A run of operations; the last one always leaves it.
pub struct Trace {
    /// The operations.
    pub ops: Box<[Op]>,
    /// Physical address of the first byte.
    pub phys: u64,
    /// The physical page the last instruction reaches into, if it crosses.
    second: Option<u64>,
    /// What followed when it was left last, by how many operations were left out, folded.
    links: [Cell<Jump>; LINKS],
}

impl Trace {
    fn new(ops: Vec<Op>, phys: u64, second: Option<u64>) -> Self {
        Self {
            ops: ops.into(),
            phys,
            second,
            links: [const { Cell::new(Jump::NOWHERE) }; LINKS],
        }
    }
}

/// Mode, and how often translations or traces had been forgotten: equal stamps, equal meaning of a linear address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

/// Where a linear address leads, if the stamp is the present one.
#[derive(Clone, Copy)]
struct Jump {
    linear: u64,
    stamp: Stamp,
    to: NonNull<Trace>,
}

impl Jump {
    /// Leads nowhere: a stamp of generation 0 is never present.
    const NOWHERE: Self = Self {
        linear: 0,
        stamp: Stamp(0),
        to: NonNull::dangling(),
    };
}

/// Multiplies: the keys are addresses, and a guest that makes them collide slows only itself.
#[derive(Default)]
struct PlaceHasher(u64);

impl PlaceHasher {
    fn mix(&mut self, word: u64) {
        // 2^64 divided by the golden ratio, made odd.
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for PlaceHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.mix(byte.into()));
    }
    fn write_u16(&mut self, word: u16) {
        self.mix(word.into());
    }
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A trace of a cache, if no trace went from it since.
#[derive(Clone, Copy)]
pub struct Kept {
    trace: NonNull<Trace>,
    generation: u64,
}

/// All traces.
pub struct TraceCache {
    by_place: HashMap<(u64, Mode), Rc<Trace>, BuildHasherDefault<PlaceHasher>>,
    by_page: HashMap<u64, Vec<(u64, Mode)>>,
    jumps: Box<[Jump]>,
    /// Raised when traces go; with the TLB's, dates the entries of `jumps`.
    generation: u64,
    kept: usize,
}

impl Default for TraceCache {
    fn default() -> Self {
        Self {
            by_place: HashMap::default(),
            by_page: HashMap::new(),
            jumps: vec![Jump::NOWHERE; JUMPS].into_boxed_slice(),
            generation: 1,
            kept: 0,
        }
    }
}

impl TraceCache {
    /// The present stamp.
    #[inline(always)]
    fn stamp(&self, cpu: &Cpu) -> Stamp {
        let generation = self.generation.wrapping_add(cpu.tlb.generation());
        Stamp(generation << 16 | u64::from(cpu.mode.bits()))
    }

    /// The trace, if it is there still.
    #[inline(always)]
    pub fn get(&self, kept: Kept) -> Option<&Trace> {
        if kept.generation != self.generation {
            return None;
        }
        // SAFETY: the pointer was that of a trace in `by_place` at that generation, and no trace has gone since, which
        // raises `generation`; while the result is in use none can, which takes the cache mutably.
        Some(unsafe { kept.trace.as_ref() })
    }

    /// A trace of this cache to come back to.
    #[inline(always)]
    pub fn hold(&self, trace: &Trace) -> Kept {
        Kept {
            trace: NonNull::from(trace),
            generation: self.generation,
        }
    }

    /// The trace at the vCPU's rip, if `from`, the trace that just ended there, is linked to it. `unused`: how many of
    /// its operations came behind the branch.
    #[inline(always)]
    pub fn follow(&self, cpu: &Cpu, from: &Trace, unused: usize) -> Option<&Trace> {
        let link = from.links[unused % LINKS].get();
        if link.linear != cpu.code_address(cpu.rip) || link.stamp != self.stamp(cpu) {
            return None;
        }
        // SAFETY: as in `get`; the present stamp holds the present generation.
        Some(unsafe { link.to.as_ref() })
    }

    /// The trace at the vCPU's rip, built if need be, and linked to `from` if that is given: the trace that just ended,
    /// and `unused` as in [`follow`](Self::follow). Raises the fault of a fetch that may not be.
    #[inline(always)]
    pub fn find(&mut self, cpu: &mut Cpu, from: Option<(Kept, usize)>) -> Step<Kept> {
        let linear = cpu.code_address(cpu.rip);
        let jump = self.jumps[slot(linear)];
        if jump.linear != linear || jump.stamp != self.stamp(cpu) {
            return self.find_slow(cpu, linear);
        }
        if let Some((kept, unused)) = from
            && let Some(trace) = self.get(kept)
        {
            trace.links[unused % LINKS].set(jump);
        }
        Ok(Kept {
            trace: jump.to,
            generation: self.generation,
        })
    }

    #[inline(never)]
    fn find_slow(&mut self, cpu: &mut Cpu, linear: u64) -> Step<Kept> {
        cpu.check_code_limit(cpu.rip, 1)?;
        let phys = cpu.fetch_address(linear)?;
        let known = self.by_place.get(&(phys, cpu.mode)).cloned();
        let mut fits = |trace: &Trace| match trace.second {
            None => true,
            Some(second) => cpu
                .fetch_address(next_page(cpu, linear))
                .is_ok_and(|phys| phys / PAGE == second / PAGE),
        };
        let trace = match known.filter(|trace| fits(trace)) {
            Some(trace) => trace,
            None => {
                cpu.fault = None;
                let trace = Rc::new(build(cpu, linear, phys)?);
                self.keep(cpu, Rc::clone(&trace));
                trace
            }
        };
        // A trace that reaches into a second page is looked up anew each time: only its first page is dated.
        if trace.second.is_none() {
            self.jumps[slot(linear)] = Jump {
                linear,
                stamp: self.stamp(cpu),
                to: NonNull::from(&*trace),
            };
        }
        Ok(self.hold(&trace))
    }

    fn keep(&mut self, cpu: &mut Cpu, trace: Rc<Trace>) {
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
        if let Some(old) = self.by_place.insert(place, trace) {
            self.forget(&old);
        }
    }

    /// A trace went.
    fn forget(&mut self, trace: &Trace) {
        self.kept -= trace.ops.len();
        self.generation += 1;
    }

    /// Drops every trace with bytes in the physical page: it was written.
    pub fn drop_page(&mut self, cpu: &mut Cpu, phys: u64) {
        cpu.code_pages.remove(phys);
        for place in self.by_page.remove(&(phys / PAGE)).unwrap_or_default() {
            if let Some(trace) = self.by_place.remove(&place) {
                self.forget(&trace);
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, cpu: &mut Cpu) {
        self.by_place.clear();
        for (page, _) in self.by_page.drain() {
            cpu.code_pages.remove(page * PAGE);
        }
        self.kept = 0;
        self.generation += 1;
    }
}

fn slot(linear: u64) -> usize {
    (linear ^ linear >> 13) as usize & (JUMPS - 1)
}

fn next_page(cpu: &Cpu, linear: u64) -> u64 {
    cpu.wrap((linear & !(PAGE - 1)).wrapping_add(PAGE))
}

/// Decodes and compiles from `linear`, which lies at `phys`.
fn build(cpu: &mut Cpu, linear: u64, phys: u64) -> Step<Trace> {
    let in_page = (PAGE - phys % PAGE) as usize;
    let mut bytes = [0; MOST_BYTES as usize + LONGEST];
    let have = in_page.min(bytes.len());
    cpu.read_code(phys, &mut bytes[..have]);
    let mut ops = Vec::with_capacity(8);
    let mut at = 0u64;
    while ops.len() < MOST_OPS && at <= MOST_BYTES && (at as usize) < have {
        let Some(instr) = compile::decode(&bytes[at as usize..have], cpu.mode, at) else {
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
            return Ok(Trace::new(ops, phys, None));
        }
    }
    ops.push(Op {
        offset: at as u8,
        ..compile::END
    });
    Ok(Trace::new(ops, phys, None))
}

/// The first instruction reaches into the next page.
fn crossing(cpu: &mut Cpu, linear: u64, phys: u64, head: &[u8]) -> Step<Trace> {
    let (second, instr) = decode_crossing(cpu, linear, head)?;
    Ok(Trace::new(one(cpu, &instr)?, phys, Some(second)))
}

/// The instruction at `linear`, whose first bytes, all there are in their page, are `head`, and where its others lie.
pub(super) fn decode_crossing(cpu: &mut Cpu, linear: u64, head: &[u8]) -> Step<(u64, Instruction)> {
    let mut bytes = [0; 2 * LONGEST];
    bytes[..head.len()].copy_from_slice(head);
    let second = cpu.fetch_address(next_page(cpu, linear))?;
    let have = head.len() + LONGEST;
    cpu.read_code(second, &mut bytes[head.len()..have]);
    match compile::decode(&bytes[..have.min(LONGEST)], cpu.mode, 0) {
        Some(instr) => Ok((second, instr)),
        None => cpu.raise_gp(),
    }
}

/// The operations of the one instruction at the vCPU's rip.
pub(super) fn one(cpu: &mut Cpu, instr: &Instruction) -> Step<Vec<Op>> {
    cpu.check_code_limit(cpu.rip, instr.len())?;
    let op = compile::compile(Source {
        instr,
        mode: cpu.mode,
        model: &cpu.model,
    });
    let ends = op.ends;
    let mut ops = vec![op];
    if !ends {
        ops.push(Op {
            offset: instr.len() as u8,
            ..compile::END
        });
    }
    Ok(ops)
}
