//! System instructions: tables, control and debug registers, MSRs, TLB and cache maintenance, SYSCALL and SYSENTER.

use super::{Source, by_form, by_width, undefined};
use crate::engine::interp::exec::system as exec;
use crate::engine::interp::exec::system::selectors::{self, Gdtr, Idtr, InMemory, InRegister, Table};
use crate::engine::interp::op::{Handler, Op};
use crate::engine::soft::mode::Mode;
use crate::engine::state::{FS, GS};
use iced_x86::{Code, Mnemonic, Register};

pub(super) fn compile(source: Source<'_>) -> Option<Op> {
    control(source)
        .or_else(|| tables(source))
        .or_else(|| selectors(source))
        .or_else(|| memory(source))
        .or_else(|| bases(source))
        .or_else(|| plain(source))
}

/// MOV to and from control and debug registers.
fn control(source: Source<'_>) -> Option<Op> {
    if source.instr.mnemonic() != Mnemonic::Mov || source.instr.op_count() != 2 {
        return None;
    }
    let wide = source.mode.contains(Mode::CODE64);
    let pick = |narrow: Handler, full: Handler| if wide { full } else { narrow };
    let (to, from) = (source.instr.op0_register(), source.instr.op1_register());
    let (run, special, first, writes) = if to.is_cr() {
        let run = pick(exec::write_control::<u32>, exec::write_control::<u64>);
        (run, to, Register::CR0, true)
    } else if from.is_cr() {
        let run = pick(exec::read_control::<u32>, exec::read_control::<u64>);
        (run, from, Register::CR0, false)
    } else if to.is_dr() {
        let run = pick(exec::write_debug::<u32>, exec::write_debug::<u64>);
        (run, to, Register::DR0, true)
    } else if from.is_dr() {
        let run = pick(exec::read_debug::<u32>, exec::read_debug::<u64>);
        (run, from, Register::DR0, false)
    } else {
        return None;
    };
    let number = special as u64 - first as u64;
    // CR1, 5, 6, 7 and 9 on do not exist, whoever asks.
    if first == Register::CR0 && !matches!(number, 0 | 2 | 3 | 4 | 8) {
        return Some(source.op(undefined).ending());
    }
    let op = Op {
        imm: number,
        ..source.op(run)
    };
    Some(if writes { op.ending() } else { op })
}

/// SGDT, SIDT, LGDT, LIDT.
fn tables(source: Source<'_>) -> Option<Op> {
    let run = match source.instr.mnemonic() {
        Mnemonic::Sgdt => store_table::<Gdtr>(source),
        Mnemonic::Sidt => store_table::<Idtr>(source),
        Mnemonic::Lgdt => load_table::<Gdtr>(source),
        Mnemonic::Lidt => load_table::<Idtr>(source),
        _ => return None,
    };
    let half_base = matches!(source.instr.code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16);
    Some(Op {
        imm: if half_base { 0xff_ffff } else { u64::MAX },
        ..source.op(run)
    })
}

fn store_table<T: Table>(source: Source<'_>) -> Handler {
    let form = source.form();
    if source.mode.contains(Mode::CODE64) {
        by_form!(form, F => selectors::store_table::<T, u64, F>)
    } else {
        by_form!(form, F => selectors::store_table::<T, u32, F>)
    }
}

fn load_table<T: Table>(source: Source<'_>) -> Handler {
    let form = source.form();
    if source.mode.contains(Mode::CODE64) {
        by_form!(form, F => selectors::load_table::<T, u64, F>)
    } else {
        by_form!(form, F => selectors::load_table::<T, u32, F>)
    }
}

/// Picks the handler for a register or a memory operand `$n`.
macro_rules! by_place {
    ($source:expr, $n:literal, $P:ident => $e:expr) => {
        if $source.is_memory($n) {
            by_form!($source.form(), F => { type $P = InMemory<F>; $e })
        } else {
            type $P = InRegister;
            $e
        }
    };
}

/// Instructions with a 16-bit selector or machine status word operand.
fn selectors(source: Source<'_>) -> Option<Op> {
    let mnemonic = source.instr.mnemonic();
    // What is stored to memory has always 16 bits.
    let bits = if source.is_memory(0) { 16 } else { source.bits(0) };
    let run: Handler = match mnemonic {
        Mnemonic::Sldt => by_width!(bits, W => by_place!(source, 0, P => selectors::sldt::<W, P>)),
        Mnemonic::Str => by_width!(bits, W => by_place!(source, 0, P => selectors::str::<W, P>)),
        Mnemonic::Smsw => by_width!(bits, W => by_place!(source, 0, P => selectors::smsw::<W, P>)),
        Mnemonic::Lldt => by_place!(source, 0, P => selectors::lldt::<P>),
        Mnemonic::Ltr => by_place!(source, 0, P => selectors::ltr::<P>),
        Mnemonic::Lmsw => by_place!(source, 0, P => selectors::lmsw::<P>),
        Mnemonic::Verr => by_place!(source, 0, P => selectors::verr::<P>),
        Mnemonic::Verw => by_place!(source, 0, P => selectors::verw::<P>),
        Mnemonic::Arpl => by_place!(source, 0, P => selectors::arpl::<P>),
        Mnemonic::Lar => by_width!(bits, W => by_place!(source, 1, P => selectors::lar::<W, P>)),
        Mnemonic::Lsl => by_width!(bits, W => by_place!(source, 1, P => selectors::lsl::<W, P>)),
        _ => return None,
    };
    let anywhere = matches!(mnemonic, Mnemonic::Smsw | Mnemonic::Lmsw);
    if !anywhere && !selectors::has_descriptors(source.mode) {
        return Some(source.op(undefined).ending());
    }
    let op = source.op(run);
    Some(match mnemonic {
        Mnemonic::Lar | Mnemonic::Lsl => op,
        // Its selector operand comes first: a second register is the RPL's.
        Mnemonic::Arpl if source.is_register(0) => Op {
            reg: op.rm,
            rm: op.reg,
            ..op
        },
        Mnemonic::Arpl => op,
        Mnemonic::Lmsw => Op { rm: op.reg, ..op }.ending(),
        _ => Op { rm: op.reg, ..op },
    })
}

/// TLB and cache maintenance with a memory operand.
fn memory(source: Source<'_>) -> Option<Op> {
    let form = source.form();
    Some(match source.instr.mnemonic() {
        Mnemonic::Invlpg => source.op(by_form!(form, F => exec::invlpg::<F>)).ending(),
        Mnemonic::Clflush => source.op(by_form!(form, F => exec::clflush::<F>)),
        Mnemonic::Invpcid => source
            .op(if source.mode.contains(Mode::CODE64) {
                by_form!(form, F => exec::invpcid::<u64, F>)
            } else {
                by_form!(form, F => exec::invpcid::<u32, F>)
            })
            .ending(),
        _ => return None,
    })
}

/// RDFSBASE and friends: 64-bit code only, which the decoder sees to. RDRAND.
fn bases(source: Source<'_>) -> Option<Op> {
    let bits = source.bits(0);
    let run: Handler = match source.instr.mnemonic() {
        Mnemonic::Rdfsbase => by_width!(bits, W => exec::read_base::<W, FS>),
        Mnemonic::Rdgsbase => by_width!(bits, W => exec::read_base::<W, GS>),
        Mnemonic::Wrfsbase => by_width!(bits, W => exec::write_base::<W, FS>),
        Mnemonic::Wrgsbase => by_width!(bits, W => exec::write_base::<W, GS>),
        Mnemonic::Rdrand => by_width!(bits, W => exec::rdrand::<W>),
        _ => return None,
    };
    Some(source.op(run))
}

/// Without operands, or with implied ones only.
fn plain(source: Source<'_>) -> Option<Op> {
    let (run, ends): (Handler, bool) = match source.instr.mnemonic() {
        Mnemonic::Clts => (exec::clts, true),
        Mnemonic::Wbinvd | Mnemonic::Invd => (exec::caches, false),
        Mnemonic::Rdmsr => (exec::rdmsr, false),
        Mnemonic::Wrmsr => (exec::wrmsr, true),
        Mnemonic::Cpuid => (exec::cpuid, false),
        Mnemonic::Rdtsc => (exec::rdtsc, false),
        Mnemonic::Rdtscp => (exec::rdtscp, false),
        Mnemonic::Rdpmc => (exec::rdpmc, true),
        Mnemonic::Swapgs => (exec::swapgs, false),
        Mnemonic::Xgetbv => (exec::xgetbv, false),
        Mnemonic::Xsetbv => (exec::xsetbv, true),
        Mnemonic::Stac => (exec::set_ac::<true>, false),
        Mnemonic::Clac => (exec::set_ac::<false>, false),
        Mnemonic::Syscall => (exec::syscall, true),
        Mnemonic::Sysret => (exec::sysret32, true),
        Mnemonic::Sysretq => (exec::sysret64, true),
        Mnemonic::Sysenter => (exec::sysenter, true),
        Mnemonic::Sysexit | Mnemonic::Sysexitq => (exec::sysexit, true),
        _ => return None,
    };
    let op = source.op(run);
    Some(if ends { op.ending() } else { op })
}
