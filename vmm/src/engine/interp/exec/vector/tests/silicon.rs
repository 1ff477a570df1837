//! Every instruction, random operands and states: the host CPU against compile and run.

use super::machine::{BUFFER, RIP, compiled, long_mode, put, redecode, take};
use super::native::{Native, Registers, Stub};
use super::operands::{Random, instruction, quad, state};
use crate::engine::interp::compile::undefined;
use crate::engine::interp::op::Handler;
use crate::engine::soft::cpu::{Cpu, Leave, vector};
use crate::engine::soft::flags::ARITHMETIC;
use iced_x86::{Code, Encoder, EncodingKind, Instruction, Mnemonic};

const RBX: usize = 3;
const RDI: usize = 7;
/// MXCSR.OE and UE.
const RANGE: u32 = 3 << 3;
/// MXCSR.PE.
const PRECISION: u32 = 1 << 5;

#[repr(C, align(64))]
#[derive(Clone)]
struct Buffer([u8; 64]);

/// Codes of this group, but for what moves whole states: `formats` has those.
fn codes() -> Vec<Code> {
    let cpu = long_mode();
    Code::values()
        .filter(|code| {
            let info = code.op_code();
            let state = matches!(
                code.mnemonic(),
                Mnemonic::Fxsave
                    | Mnemonic::Fxsave64
                    | Mnemonic::Fxrstor
                    | Mnemonic::Fxrstor64
                    | Mnemonic::Xsave
                    | Mnemonic::Xsave64
                    | Mnemonic::Xrstor
                    | Mnemonic::Xrstor64
                    | Mnemonic::Ldmxcsr
                    | Mnemonic::Fldenv
                    | Mnemonic::Fnstenv
                    | Mnemonic::Fnsave
                    | Mnemonic::Frstor
            );
            info.encoding() == EncodingKind::Legacy && info.is_instruction() && info.mode64() && !state
        })
        .filter(|&code| {
            let mut random = Random::new(1);
            let Some(instr) = instruction(code, &mut random) else {
                return false;
            };
            // FSTCW and its like are WAIT and another instruction.
            let encodes = Encoder::new(64).encode(&instr, 0).is_ok();
            if !encodes || redecode(&instr, 64).code() != code {
                return false;
            }
            let ours = crate::engine::interp::compile::compile_vector(&cpu, &instr);
            ours.is_some_and(|op| !std::ptr::fn_addr_eq(op.run, undefined as Handler))
        })
        .collect()
}

struct Pair {
    cpu: Cpu,
    native: Native,
    random: Random,
    wrong: Vec<(Code, String)>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self {
            cpu: long_mode(),
            native: Native::new(),
            random: Random::new(seed),
            wrong: Vec::new(),
        }
    }

    /// One instruction on several states.
    fn compare(&mut self, instr: &Instruction, states: u32, masked: bool) {
        let decoded = redecode(instr, 64);
        let stub = self.native.stub(instr);
        for _ in 0..states {
            let before = state(&mut self.random, masked);
            self.compare_state(&decoded, &stub, before);
        }
    }

    fn compare_state(&mut self, instr: &Instruction, stub: &Stub, before: Registers) {
        let content = Buffer(std::array::from_fn(|i| {
            (quad(&mut self.random) >> (8 * (i % 8))) as u8
        }));
        let mut native_buffer = content.clone();
        // The operand's alignment is the same on both sides: both buffers are 32-byte aligned.
        let host = std::ptr::from_mut(&mut native_buffer).expose_provenance() as u64;
        let mut on_host = before.clone();
        (on_host.gprs[RBX], on_host.gprs[RDI]) = (host, host);
        let (mut expected, raised) = stub.run(&on_host);

        let mut on_guest = before.clone();
        (on_guest.gprs[RBX], on_guest.gprs[RDI]) = (BUFFER, BUFFER);
        put(&mut self.cpu, &on_guest);
        self.cpu.memory.write(BUFFER, &content.0).unwrap();
        let op = compiled(&self.cpu, instr);
        self.cpu.rip = RIP;
        let left = (op.run)(&mut self.cpu, &op);
        let mut found = take(&self.cpu);

        let mut wrong = Vec::new();
        let xm = matches!(left, Err(Leave::Fault)) && self.cpu.fault.unwrap().vector == vector::XM;
        if (left.is_err(), xm) != (raised, raised) {
            wrong.push(format!(
                "left {left:?} {:?}, #XM on silicon {raised}",
                self.cpu.fault
            ));
        }
        let mut memory = [0; 64];
        self.cpu.memory.read(BUFFER, &mut memory).unwrap();
        if memory != native_buffer.0 {
            wrong.push(format!("memory {memory:x?}, not {:x?}", native_buffer.0));
        }
        for (registers, buffer, rip) in [(&mut expected, host, 0), (&mut found, BUFFER, RIP)] {
            (registers.gprs[4], registers.gprs[15]) = (0, 0);
            (registers.gprs[RBX], registers.gprs[RDI]) = (0, 0);
            registers.rflags &= ARITHMETIC;
            let legacy = &mut registers.legacy;
            legacy.fip = legacy.fip.saturating_sub(rip);
            legacy.fdp = legacy.fdp.saturating_sub(buffer);
        }
        // Silicon takes PE of an unmasked overflow or underflow from the unbounded result: see `thunked::raised`.
        if raised && expected.legacy.mxcsr & RANGE != 0 {
            expected.legacy.mxcsr |= PRECISION;
            found.legacy.mxcsr |= PRECISION;
        }
        // AMD's FXSAVE shows pointers and opcode only while an exception pends.
        if !expected.legacy.pending() {
            for legacy in [&mut expected.legacy, &mut found.legacy] {
                (legacy.fop, legacy.fip, legacy.fdp) = (0, 0, 0);
            }
        }
        differences(&found, &expected, &mut wrong);
        if !wrong.is_empty() {
            let line = format!("{:?}: {}", instr.code(), wrong.join("; "));
            if !self.wrong.iter().any(|(code, _)| *code == instr.code()) {
                self.wrong.push((instr.code(), line));
            }
        }
    }
}

fn differences(found: &Registers, expected: &Registers, wrong: &mut Vec<String>) {
    let fields = |r: &Registers| {
        let l = &r.legacy;
        let fixed = [
            ("fcw", l.fcw.into()),
            ("fsw", l.fsw.into()),
            ("ftw", l.ftw.into()),
            ("fop", l.fop.into()),
            ("fip", l.fip.into()),
            ("fdp", l.fdp.into()),
            ("mxcsr", l.mxcsr.into()),
            ("rflags", r.rflags.into()),
        ];
        let st = l.st.map(|v| ("st", v)).into_iter();
        let xmm = l.xmm.map(|v| ("xmm", v)).into_iter();
        let gprs = r.gprs.map(|v| ("gpr", v.into())).into_iter();
        fixed
            .into_iter()
            .chain(st)
            .chain(xmm)
            .chain(gprs)
            .collect::<Vec<(&str, u128)>>()
    };
    for (found, expected) in fields(found).into_iter().zip(fields(expected)) {
        if found != expected {
            wrong.push(format!("{} {:#x}, not {:#x}", found.0, found.1, expected.1));
        }
    }
}

fn report(pair: &Pair) {
    let lines: Vec<&str> = pair.wrong.iter().map(|(_, line)| line.as_str()).collect();
    assert!(
        lines.is_empty(),
        "{} instructions differ:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn every_instruction_computes_what_silicon_computes() {
    let mut pair = Pair::new(0x37284);
    let codes = codes();
    for &code in &codes {
        for _ in 0..12 {
            let instr = instruction(code, &mut pair.random).unwrap();
            pair.compare(&instr, 4, true);
        }
    }
    report(&pair);
    // None may drop out unnoticed because its operands are unknown here.
    assert!(codes.len() >= 523, "{} codes", codes.len());
}

#[test]
fn unmasked_exceptions_rise_as_on_silicon() {
    let mut pair = Pair::new(0x37284);
    for code in codes() {
        for _ in 0..6 {
            let instr = instruction(code, &mut pair.random).unwrap();
            pair.compare(&instr, 4, false);
        }
    }
    report(&pair);
}
