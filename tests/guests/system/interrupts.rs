//! When interrupts are taken: the instruction behind STI goes first, POPF and MOV CR8 hold back nothing, HLT ends at one,
//! an NMI asks for nobody's leave; and which instructions a single step stops behind. A line gives the vector and where it
//! came. Sources: Intel SDM volume 3, sections 6.7, 6.8 and 17.3; AMD APM volume 3, SYSRET.

use crate::code;
use crate::probe::*;
use crate::show::full;
use rt::apic;
use rt::io::{rdmsr, wrmsr};
use rt::say;
use rt::serial::Hex;

const VECTOR: u64 = 0x60;
/// ICR of the local APIC: to this CPU alone.
const ICR: u64 = 0xfee0_0300;
const SELF: u64 = 1 << 18 | 1 << 14;
const NMI: u64 = 4 << 8;

fn line(name: &str, seen: &Seen) {
    say!("interrupt ", name, ": ");
    full(seen);
    say!("\n");
}

pub fn run() {
    let cases: [(&str, &'static [u8], u64); 6] = [
        (
            "sti",
            code!("64", "mov [rbx], eax", "nop", "sti", "nop", "nop", "nop"),
            0,
        ),
        (
            "sti cli",
            code!("64", "mov [rbx], eax", "nop", "sti", "cli", "nop"),
            0,
        ),
        (
            "popf",
            code!("64", "mov [rbx], eax", "push rcx", "nop", "popfq", "nop", "nop"),
            0,
        ),
        (
            "sti hlt",
            code!("64", "mov [rbx], eax", "nop", "sti", "hlt", "nop"),
            0,
        ),
        ("masked", code!("64", "mov [rbx], eax", "nop", "nop", "nop"), 0),
        (
            "cr8",
            code!(
                "64",
                "mov cr8, rdx",
                "mov [rbx], eax",
                "nop",
                "mov cr8, rsi",
                "nop",
                "nop"
            ),
            IF,
        ),
    ];
    for (name, code, flags) in cases {
        let probe = Probe::kernel(code)
            .with(RBX, ICR)
            .with(RAX, SELF | VECTOR)
            .with(RCX, 0x202);
        let seen = probe.with(RDX, 15).with(RSI, 0).flags(flags).run();
        line(name, &seen);
        if seen.context.vector != VECTOR {
            // It still waits: taken here, for the next case to begin without.
            let late = Probe::kernel(code!("64", "sti", "nop", "nop")).run();
            line("then", &late);
        }
        apic::eoi();
    }
    let nmi = Probe::kernel(code!("64", "mov [rbx], eax", "nop", "nop")).with(RBX, ICR);
    line("nmi", &nmi.with(RAX, SELF | NMI).run());
}

const EFER: u32 = 0xc000_0080;

/// With TF set by POPF: which instruction the #DB comes behind, DR6 and TF as it was pushed.
pub fn single_steps() {
    let efer = rdmsr(EFER);
    wrmsr(EFER, efer | 1);
    wrmsr(0xc000_0081, u64::from(CODE64) << 32 | u64::from(TSS32 | 3) << 48);
    wrmsr(0xc000_0082, CODE + 0x800);
    // SAFETY: the code page is ours.
    unsafe { ((CODE + 0x800) as *mut u32).write_volatile(0x0b0f_9090) };
    let cases: [(&str, &'static [u8], bool); 8] = [
        ("nop", code!("64", "popfq", "nop", "nop"), false),
        ("mov ss", code!("64", "popfq", "mov ss, edx", "nop", "nop"), false),
        ("sti", code!("64", "popfq", "sti", "nop", "nop"), false),
        (
            "popf that clears it",
            code!("64", "push 2", "push rax", "popfq", "popfq", "nop", "nop"),
            false,
        ),
        ("int1", code!("64", "popfq", ".byte 0xf1", "nop", "nop"), false),
        ("syscall", code!("64", "popfq", "syscall", "nop"), false),
        (
            "syscall that masks it",
            code!("64", "popfq", "syscall", "nop"),
            true,
        ),
        ("rep movsb", code!("64", "popfq", "rep movsb", "nop"), false),
    ];
    for (name, code, masked) in cases {
        wrmsr(0xc000_0084, if masked { TF } else { 0 });
        set_dr6(0xffff_0ff0);
        let mut probe = Probe::kernel(code)
            .with(RAX, TF | 2)
            .with(RDX, DATA.into())
            .with(RCX, 3);
        probe.context.gprs[RSI] = FRAME;
        probe.context.gprs[RDI] = FRAME + 64;
        // What POPF pops.
        probe.context.gprs[RSP] -= 8;
        // SAFETY: the stack of cases is ours.
        unsafe { (probe.context.gprs[RSP] as *mut u64).write_volatile(TF | 2) };
        let seen = probe.run();
        say!("single step ", name, ": ");
        full(&seen);
        say!(
            " dr6=",
            Hex(dr6() & 0xe00f),
            " tf=",
            seen.context.rflags >> 8 & 1,
            "\n"
        );
    }
    set_dr6(0xffff_0ff0);
    wrmsr(EFER, efer);
}

fn dr6() -> u64 {
    let value: u64;
    // SAFETY: reads.
    unsafe { core::arch::asm!("mov {}, dr6", out(reg) value, options(nostack)) };
    value
}

fn set_dr6(value: u64) {
    // SAFETY: no breakpoint is on.
    unsafe { core::arch::asm!("mov dr6, {}", in(reg) value, options(nostack)) };
}
