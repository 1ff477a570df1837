//! The interpreter engine on guest code written for the purpose: millions of instructions a second by kind of code.
//!
//! The guest runs in 64-bit mode over identity-mapped memory, with no board around it: each case is a loop of so many
//! rounds that ends with OUT, so that the time between entry and exit is that of the loop alone.

use crate::Outcome;
use crate::record::{Better, Key, Log, Sample};
use crate::report::table;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, eax, ebx, ecx, edx, ptr, r8, r9, rax, rbx, rcx, rdi, rdx, rsi, rsp,
};
use std::sync::Arc;
use std::time::Instant;
use vmm::engine::cpu_model::CpuModel;
use vmm::engine::interp::engine::InterpEngine;
use vmm::engine::soft::state_io::software_model;
use vmm::engine::state::CpuState;
use vmm::engine::{Engine, Entry, Exit};
use vmm::mem::GuestMemory;

const MEMORY: u64 = 16 << 20;
const CODE: u64 = 0x10_0000;
const TABLES: u64 = 0x20_0000;
const STACK: u64 = 0x30_0000;
const DATA: u64 = 0x40_0000;
/// Bytes of data the memory cases walk over: half of a first-level cache.
const DATA_BYTES: i32 = 16 << 10;
/// Bytes of a repeated string instruction.
const STRING_BYTES: u64 = 4096;
/// Where the guest says that it is done.
const DONE: u32 = 0x80;

type Body = fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>;

/// A loop: what one round does, and how many instructions it is without the count and the branch back.
struct Case {
    name: &'static str,
    instructions: u64,
    rounds: u64,
    body: Body,
}

const CASES: &[Case] = &[
    Case {
        name: "integer: 8 register operations",
        instructions: 8,
        rounds: 400_000,
        body: integer,
    },
    Case {
        name: "memory: loads, stores, read-modify-write in 16 KiB",
        instructions: 8,
        rounds: 400_000,
        body: memory,
    },
    Case {
        name: "branches: half taken, by data",
        instructions: 9,
        rounds: 400_000,
        body: branches,
    },
    Case {
        name: "calls: call, push, pop, ret",
        instructions: 6,
        rounds: 400_000,
        body: calls,
    },
    Case {
        name: "strings: rep movsq of 4 KiB",
        instructions: 4,
        rounds: 20_000,
        body: copy,
    },
    Case {
        name: "strings: rep stosb of 4 KiB",
        instructions: 3,
        rounds: 20_000,
        body: fill,
    },
];

fn integer(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    a.add(rax, rbx)?;
    a.lea(rdx, ptr(rax + rbx * 4 + 17))?;
    a.xor(rbx, rdx)?;
    a.shr(rdx, 7)?;
    a.sub(eax, 12345)?;
    a.and(edx, ebx)?;
    a.mov(rsi, rdx)?;
    a.inc(rsi)
}

fn memory(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    a.add(rdi, 64)?;
    a.and(rdi, DATA_BYTES - 1)?;
    a.mov(rax, ptr(r8 + rdi))?;
    a.add(rax, ptr(r8 + rdi + 8))?;
    a.mov(ptr(r8 + rdi + 16), rax)?;
    a.mov(edx, ptr(r8 + 128))?;
    a.add(ptr(r8 + rdi + 24), edx)?;
    a.mov(ptr(r8 + 192), edx)
}

/// A linear congruential generator decides; the shorter way is filled up with as many instructions.
fn branches(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let (mut other, mut join): (CodeLabel, CodeLabel) = (a.create_label(), a.create_label());
    a.imul_3(eax, eax, 1_103_515_245)?;
    a.add(eax, 12345)?;
    a.test(eax, 0x10000)?;
    a.jne(other)?;
    a.add(rbx, 1)?;
    a.xor(rdx, rbx)?;
    a.jmp(join)?;
    a.set_label(&mut other)?;
    a.sub(rbx, 1)?;
    a.or(rdx, rbx)?;
    a.nop()?;
    a.set_label(&mut join)?;
    a.test(ebx, ebx)?;
    let mut next = a.create_label();
    a.js(next)?;
    a.set_label(&mut next)?;
    a.zero_bytes()
}

fn calls(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let (mut function, mut after) = (a.create_label(), a.create_label());
    a.call(function)?;
    a.jmp(after)?;
    a.set_label(&mut function)?;
    a.push(rbx)?;
    a.add(rax, 1)?;
    a.pop(rbx)?;
    a.ret()?;
    a.set_label(&mut after)?;
    a.zero_bytes()
}

fn copy(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    a.mov(rsi, r8)?;
    a.lea(rdi, ptr(r8 + 0x10000))?;
    a.mov(ecx, (STRING_BYTES / 8) as u32)?;
    a.rep().movsq()
}

fn fill(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    a.mov(rdi, r8)?;
    a.mov(ecx, STRING_BYTES as u32)?;
    a.rep().stosb()
}

fn assemble(case: &Case) -> Outcome<Vec<u8>> {
    let mut a = CodeAssembler::new(64)?;
    let mut again = a.create_label();
    a.mov(r9, case.rounds)?;
    a.mov(r8, DATA)?;
    a.set_label(&mut again)?;
    (case.body)(&mut a)?;
    a.dec(r9)?;
    a.jne(again)?;
    a.out(DONE, eax)?;
    a.mov(rsp, STACK)?;
    a.mov(rcx, CODE)?;
    a.jmp(rcx)?;
    Ok(a.assemble(CODE)?)
}

impl Case {
    fn key(&self) -> Key {
        Key {
            bench: "cpu".into(),
            machine: "worldswitch".into(),
            engine: "interp".into(),
            configuration: "engine alone".into(),
            point: self.name.into(),
        }
    }

    /// The unit of its rate, and what a nanosecond is divided into for it.
    fn rate(&self) -> (&'static str, f64) {
        if self.name.starts_with("strings") {
            ("GB/s", (self.rounds * STRING_BYTES) as f64)
        } else {
            ("MIPS", (self.rounds * (self.instructions + 2)) as f64 * 1000.0)
        }
    }
}

/// Measures all of them so many times.
pub fn measure(log: &mut Log, repeats: usize) -> Outcome<()> {
    for case in CASES {
        let (unit, per) = case.rate();
        let samples = times(case, repeats)?
            .into_iter()
            .map(|ns| Sample::new("rate", unit, Better::More, per / ns));
        log.add(&case.key(), env!("CARGO_PKG_VERSION"), samples.collect());
    }
    Ok(())
}

/// The table of what was measured.
pub fn section(log: &Log, repeats: usize) -> String {
    let rate = |case: &Case| {
        let key = case.key();
        log.spread(&key.machine, &key.configuration, &key.point, "rate")
            .map_or("-".into(), |rate| rate.to_string())
    };
    let rows = CASES
        .iter()
        .map(|case| vec![case.name.to_owned(), rate(case), case.rate().0.to_owned()]);
    format!(
        "Engine `interp` with no machine around it, 64-bit guest code with paging. Medians of {repeats} repeats, smallest and \
         largest in brackets; a round is the instructions named, a DEC and a JNE.\n\n{}",
        table(&["guest code", "rate", "unit"], &rows.collect::<Vec<_>>())
    )
}

/// Nanoseconds of each repeat; a first one warms up and is not told.
fn times(case: &Case, repeats: usize) -> Outcome<Vec<f64>> {
    let memory = Arc::new(GuestMemory::new(MEMORY)?);
    memory.write(CODE, &assemble(case)?)?;
    identity_map(&memory)?;
    let mut engine = InterpEngine::new(memory, software_model(CpuModel::default_level()));
    let mut state = CpuState::long64(CODE, TABLES);
    state.gprs[4] = STACK;
    engine.load(&state)?;
    let mut times = Vec::new();
    for _ in 0..=repeats {
        let start = Instant::now();
        match engine.run(Entry::default()) {
            Exit::Port { .. } => times.push(start.elapsed().as_nanos() as f64),
            other => return Err(format!("{}: unexpected {other:?}", case.name).into()),
        }
    }
    times.remove(0);
    Ok(times)
}

/// The first 2 MiB by pages of 4 KiB, the rest of the first GiB by large ones.
fn identity_map(memory: &GuestMemory) -> Outcome<()> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let (directories, directory, small) = (TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000);
    memory.write_obj(TABLES, &(directories | PRESENT_WRITABLE))?;
    memory.write_obj(directories, &(directory | PRESENT_WRITABLE))?;
    for i in 0..512u64 {
        let large = i << 21 | PRESENT_WRITABLE | LARGE;
        let entry = if i == 0 { small | PRESENT_WRITABLE } else { large };
        memory.write_obj(directory + i * 8, &entry)?;
        memory.write_obj(small + i * 8, &(i << 12 | PRESENT_WRITABLE))?;
    }
    Ok(())
}
