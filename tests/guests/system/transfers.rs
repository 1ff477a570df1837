//! Privilege changes: interrupt, trap and call gates inwards, IRET in every direction, SYSCALL and SYSRET, SYSENTER and
//! SYSEXIT. Sources: Intel SDM volume 3, sections 5.8 and 6.12 to 6.14; volume 2, IRET, CALL, INT n, SYSCALL, SYSRET,
//! SYSENTER, SYSEXIT.

use crate::code;
use crate::probe::*;
use crate::show::{brief, full};
use rt::io::{rdmsr, wrmsr};
use rt::say;
use rt::serial::Hex;

const GATE: usize = 0x40;
const INTERRUPT: u64 = 0x8e;
const TRAP: u64 = 0x8f;
const DPL3: u64 = 3 << 5;
const PROTECTED: [u64; 3] = [0x11, 0, 0];

/// Name, selector, rights of the gate. 8D is no gate in long mode and a task gate never; 82 an LDT.
const GATES: [(&str, u16, u64); 9] = [
    ("interrupt dpl0", 0, INTERRUPT),
    ("interrupt dpl3", 0, INTERRUPT | DPL3),
    ("trap dpl3", 0, TRAP | DPL3),
    ("absent dpl3", 0, INTERRUPT & !0x80 | DPL3),
    ("of a wrong type dpl3", 0, 0x82 | DPL3),
    ("to null dpl3", 4, INTERRUPT | DPL3),
    ("to data dpl3", DATA, INTERRUPT | DPL3),
    ("to user code dpl3", 1, INTERRUPT | DPL3),
    ("beyond the table dpl3", 0x1000, INTERRUPT | DPL3),
];

/// TF, IF, IOPL, NT, VM.
const SYSTEM: u64 = 0x2_7300;

fn handler(seen: &Seen) {
    let [cs, ss, sp, flags] = seen.context.handler;
    say!(
        " cs=",
        Hex(seen.context.cs),
        " ss=",
        Hex(seen.context.ss),
        " handler-cs=",
        Hex(cs),
        " handler-ss=",
        Hex(ss)
    );
    say!(
        " low-sp=",
        Hex(sp & 15),
        " flags=",
        Hex(seen.context.rflags & SYSTEM),
        " handler-flags=",
        Hex(flags & SYSTEM),
        "\n"
    );
}

fn gates(long: bool) {
    for user in [false, true] {
        for (name, selector, rights) in GATES {
            if user && selector == 1 {
                // The probe's handlers do not run there.
                continue;
            }
            let plain = if long { CODE64 } else { CODE32 };
            let other = if long { USER_CODE64 } else { USER_CODE32 };
            let selector = match selector {
                0 => plain,
                1 => other,
                4 => 0,
                other => other,
            };
            if long {
                set_gate64(GATE, selector, rights, 0);
            } else {
                set_gate32(GATE, selector, rights);
            }
            let code = code!("64", "int 0x40");
            let probe = match (long, user) {
                (true, true) => Probe::user(code),
                (true, false) => Probe::kernel(code),
                (false, user) => Probe::legacy(code, user, PROTECTED),
            };
            let probe = probe.flags(IF);
            let seen = if long { probe.run() } else { probe.run_legacy() };
            say!(
                "gate ",
                if long { "64" } else { "32" },
                if user { " user " } else { " kernel " },
                name,
                ": "
            );
            full(&seen);
            handler(&seen);
        }
        plain_gate(GATE);
    }
}

pub fn gates_long() {
    gates(true);
    call_gates();
}

pub fn gates_legacy() {
    gates(false);
    breakpoints_and_overflow();
}

/// INT3 and INTO go by the gate's DPL as INT n does; INT1 does not (SDM volume 2, INT n).
fn breakpoints_and_overflow() {
    let cases: [(&str, usize, &'static [u8]); 4] = [
        ("int3", 3, code!("32", "int3")),
        ("int 3", 3, code!("32", ".byte 0xcd, 3")),
        ("into", 4, code!("32", "mov al, 0x7f", "inc al", ".byte 0xce")),
        ("int1", 1, code!("32", ".byte 0xf1")),
    ];
    for (name, vector, code) in cases {
        for dpl3 in [false, true] {
            set_gate32(vector, CODE32, if dpl3 { INTERRUPT | DPL3 } else { INTERRUPT });
            say!("gate 32 user ", name, if dpl3 { " dpl3: " } else { " dpl0: " });
            full(&Probe::legacy(code, true, PROTECTED).run_legacy());
            say!("\n");
        }
        plain_gate(vector);
    }
}

/// 64-bit call gates: to CPL 0 through the TSS's stack, from CPL 0 and 3.
fn call_gates() {
    /// Name, selector, attributes of the gate.
    const GATES: [(&str, u16, u64); 6] = [
        ("dpl3", CODE64, 0xec),
        ("dpl0", CODE64, 0x8c),
        ("absent", CODE64, 0x6c),
        ("to null", 0, 0xec),
        ("to data", DATA, 0xec),
        ("to 32-bit code", CODE32, 0xec),
    ];
    for user in [false, true] {
        for (name, selector, attributes) in GATES {
            // It leads to a UD2 of the code page's end.
            let target = CODE + 0x800;
            // SAFETY: the code page is ours.
            unsafe { (target as *mut u16).write_volatile(0x0b0f) };
            set_descriptor(
                SLOT,
                target & 0xffff | u64::from(selector) << 16 | attributes << 40 | target >> 16 << 48,
            );
            set_descriptor(SLOT + 8, 0);
            let code = code!("64", "push rax", "call fword ptr [rsp]");
            let probe = if user {
                Probe::user(code)
            } else {
                Probe::kernel(code)
            };
            let seen = probe.with(RAX, u64::from(SLOT) << 32).run();
            say!("call-gate ", if user { "user " } else { "kernel " }, name, ": ");
            if seen.context.vector == 6 && seen.context.rip == target {
                say!(
                    "entered cs=",
                    Hex(seen.context.cs),
                    " ss=",
                    Hex(seen.context.ss),
                    "\n"
                );
            } else {
                brief(&seen);
                say!("\n");
            }
        }
    }
    set_descriptor(SLOT, 0);
}

/// IRETQ, from CPL 0 and 3, to frames good and bad. On the stack: RIP, CS, RFLAGS, RSP, SS.
pub fn interrupt_returns() {
    const GOOD_RIP: u64 = USER_CODE + 0x800;
    const BAD_RIP: u64 = 0x8000_0000_0000;
    /// Name, RIP, CS, RFLAGS, SS.
    const FRAMES: [(&str, u64, u16, u64, u16); 13] = [
        ("to user", GOOD_RIP, USER_CODE64, 0x202, USER_DATA),
        (
            "to user with iopl and if",
            GOOD_RIP,
            USER_CODE64,
            0x3202,
            USER_DATA,
        ),
        (
            "to user with nt and ac",
            GOOD_RIP,
            USER_CODE64,
            0x4_4002,
            USER_DATA,
        ),
        ("to user 32-bit", GOOD_RIP, USER_CODE32, 0x202, USER_DATA),
        ("to kernel", CODE + 0x800, CODE64, 0x2, DATA),
        ("to kernel with null ss", CODE + 0x800, CODE64, 0x2, 0),
        ("cs null", GOOD_RIP, 0, 0x2, USER_DATA),
        ("cs data", GOOD_RIP, USER_DATA, 0x2, USER_DATA),
        ("cs of another dpl", GOOD_RIP, CODE64 | 3, 0x2, USER_DATA),
        ("ss null", GOOD_RIP, USER_CODE64, 0x2, 0),
        ("ss of another rpl", GOOD_RIP, USER_CODE64, 0x2, DATA),
        ("ss code", GOOD_RIP, USER_CODE64, 0x2, USER_CODE64),
        ("rip not canonical", BAD_RIP, USER_CODE64, 0x2, USER_DATA),
    ];
    let code = code!(
        "64", "push r11", "push rsi", "push rdx", "push rcx", "push rbx", "iretq"
    );
    for user in [false, true] {
        for (name, rip, cs, flags, ss) in FRAMES {
            for at in [CODE + 0x800] {
                // SAFETY: the code page is ours.
                unsafe { (at as *mut u16).write_volatile(0x0b0f) };
            }
            let probe = if user {
                Probe::user(code)
            } else {
                Probe::kernel(code)
            };
            let seen = probe
                .with(R11, ss.into())
                .with(
                    RSI,
                    if ss & 3 == 3 {
                        USER_STACK_TOP
                    } else {
                        KERNEL_STACK_TOP
                    },
                )
                .with(RDX, flags)
                .with(RCX, cs.into())
                .with(RBX, rip)
                .run();
            say!("iret ", if user { "user " } else { "kernel " }, name, ": ");
            if seen.context.vector == 6 && seen.context.rip == rip {
                say!(
                    "there cs=",
                    Hex(seen.context.cs),
                    " ss=",
                    Hex(seen.context.ss),
                    " flags="
                );
                say!(Hex(seen.context.rflags & 0x4_7202), "\n");
            } else {
                full(&seen);
                say!(" cs=", Hex(seen.context.cs), "\n");
            }
        }
    }
}

const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SFMASK: u32 = 0xc000_0084;

/// SYSCALL and SYSRET of 64-bit code.
pub fn system_calls() {
    let efer = rdmsr(EFER);
    let landing = CODE + 0x800;
    // SAFETY: the code page is ours.
    unsafe { (landing as *mut u16).write_volatile(0x0b0f) };
    wrmsr(STAR, u64::from(CODE64) << 32 | u64::from(TSS32 | 3) << 48);
    wrmsr(LSTAR, landing);
    wrmsr(SFMASK, IF | 1);
    let call = code!("64", "stc", "syscall");
    for (name, user, sce) in [
        ("user", true, true),
        ("kernel", false, true),
        ("user switched-off", true, false),
    ] {
        wrmsr(EFER, if sce { efer | 1 } else { efer & !1 });
        let probe = if user {
            Probe::user(call)
        } else {
            Probe::kernel(call)
        };
        let seen = probe.run();
        say!("syscall ", name, ": ");
        if seen.context.rip == landing {
            let code = if user { USER_CODE } else { CODE };
            say!("there cs=", Hex(seen.context.cs), " ss=", Hex(seen.context.ss));
            say!(
                " rcx=",
                Hex(seen.context.gprs[RCX].wrapping_sub(code)),
                " r11=",
                Hex(seen.context.gprs[R11] & 0x203)
            );
            say!(" flags=", Hex(seen.context.rflags & 0x203), "\n");
        } else {
            full(&seen);
            say!("\n");
        }
    }
    let back = code!("64", "sysretq");
    for (name, user, sce, rip) in [
        ("kernel", false, true, USER_CODE + 0x800),
        ("user", true, true, USER_CODE + 0x800),
        ("kernel switched-off", false, false, USER_CODE + 0x800),
    ] {
        wrmsr(EFER, if sce { efer | 1 } else { efer & !1 });
        let probe = if user {
            Probe::user(back)
        } else {
            Probe::kernel(back)
        };
        let seen = probe.with(RCX, rip).with(R11, 0x3_3203).run();
        say!("sysret ", name, ": ");
        if seen.context.rip == rip {
            say!("there cs=", Hex(seen.context.cs), " ss=", Hex(seen.context.ss));
            say!(" flags=", Hex(seen.context.rflags & 0x3203), "\n");
        } else {
            full(&seen);
            say!("\n");
        }
    }
    wrmsr(EFER, efer);
}

/// SYSENTER and SYSEXIT of 32-bit code; in long mode the vendors differ.
pub fn fast_calls() {
    const SYSENTER_CS: u32 = 0x174;
    let landing = CODE + 0x800;
    let enter = code!("32", "sysenter");
    let leave = code!("32", "sysexit");
    for (name, code, user, selector) in [
        ("sysenter user", enter, true, CODE32),
        ("sysenter kernel", enter, false, CODE32),
        ("sysenter without cs", enter, true, 0),
        ("sysexit kernel", leave, false, CODE32),
        ("sysexit user", leave, true, CODE32),
        ("sysexit without cs", leave, false, 0),
    ] {
        for (msr, value) in [(0, selector.into()), (1, KERNEL_STACK_TOP - 64), (2, landing)] {
            wrmsr(SYSENTER_CS + msr, value);
        }
        let probe = Probe::legacy(code, user, PROTECTED).flags(IF);
        // SAFETY: the code page is ours.
        unsafe { (landing as *mut u16).write_volatile(0x0b0f) };
        let seen = probe
            .with(RDX, landing)
            .with(RCX, KERNEL_STACK_TOP - 128)
            .run_legacy();
        say!("fast-call ", name, ": ");
        if seen.context.rip == landing {
            let below = KERNEL_STACK_TOP - seen.context.gprs[RSP];
            say!(
                "there cs=",
                Hex(seen.context.cs),
                " handler-ss=",
                Hex(seen.context.handler[1])
            );
            say!(" sp=-", Hex(below));
            say!(" flags=", Hex(seen.context.rflags & SYSTEM), "\n");
        } else {
            full(&seen);
            say!("\n");
        }
    }
    wrmsr(SYSENTER_CS, 0);
}
