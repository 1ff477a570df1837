//! The sensitive instructions that are not privileged, by Robin and Irvine's list (Analysis of the Intel Pentium's ability
//! to support a secure virtual machine monitor, 2000, section 3): SGDT SIDT SLDT SMSW PUSHF POPF LAR LSL VERR VERW POP
//! PUSH CALL JMP INT RET STR MOV; what each shows or does at CPL 3. Source: Intel SDM volume 2, under each name.

use crate::code;
use crate::probe::*;
use crate::show::full;
use rt::say;
use rt::serial::Hex;

const PROTECTED: [u64; 3] = [0x11, 0, 0];
const CR4_UMIP: u64 = 1 << 11;
const ZF: u64 = 1 << 6;
const CF: u64 = 1;
const OF: u64 = 1 << 11;

/// Runs user code; RAX is given and what it then is is printed, cut by the mask.
fn show(long: bool, name: &[&str], code: &'static [u8], given: u64, flags: u64, mask: u64) -> Seen {
    let probe = if long {
        Probe::user(code)
    } else {
        Probe::legacy(code, true, PROTECTED)
    };
    let probe = probe.with(RAX, given).with(RBX, 0).flags(flags);
    let seen = if long { probe.run() } else { probe.run_legacy() };
    say!("sensitive ", if long { "64" } else { "32" });
    for part in name {
        say!(" ", *part);
    }
    say!(": ");
    full(&seen);
    if mask != 0 && seen.done {
        say!(" ", Hex(seen.context.gprs[RAX] & mask));
    }
    seen
}

fn line(long: bool, name: &[&str], code: &'static [u8], given: u64, flags: u64, mask: u64) {
    show(long, name, code, given, flags, mask);
    say!("\n");
}

pub fn long() {
    for umip in [false, true] {
        let cr4 = control().2;
        set_cr4(if umip { cr4 | CR4_UMIP } else { cr4 });
        let stores: [(&str, &'static [u8], u64); 5] = [
            // The limit; the base is the kernel's business.
            (
                "sgdt",
                code!("64", "sgdt [rsp - 16]", "movzx eax, word ptr [rsp - 16]"),
                0xffff,
            ),
            (
                "sidt",
                code!("64", "sidt [rsp - 16]", "movzx eax, word ptr [rsp - 16]"),
                0xffff,
            ),
            ("sldt", code!("64", "sldt eax"), 0xffff),
            ("smsw", code!("64", "smsw eax"), 0x11),
            ("str", code!("64", "str eax"), 0xffff),
        ];
        for (name, code, mask) in stores {
            line(
                true,
                &[name, if umip { "with umip" } else { "without umip" }],
                code,
                0,
                0,
                mask,
            );
        }
        set_cr4(cr4);
    }
    flags(
        true,
        code!("64", "pushfq", "pop rax"),
        code!("64", "push rax", "popfq", "pushfq", "pop rax"),
    );
    selectors(true);
    // In bytes where the assembler would take 16-bit operands.
    let far: [(&str, &'static [u8]); 4] = [
        ("push fs", code!("64", ".byte 0x0f, 0xa0", "pop rax")),
        (
            "pop fs of the kernel",
            code!("64", "push 0x10", ".byte 0x0f, 0xa1"),
        ),
        (
            "pop fs",
            code!("64", "push 0x3b", ".byte 0x0f, 0xa1", "mov eax, fs"),
        ),
        ("mov from ss", code!("64", "mov eax, ss")),
    ];
    for (name, code) in far {
        line(true, &[name], code, 0, 0, 0xffff);
    }
    let transfers: [(&str, &'static [u8]); 6] = [
        (
            "call to the kernel",
            code!(
                "64",
                "push rax",
                "mov dword ptr [rsp + 4], 0x08",
                "call fword ptr [rsp]"
            ),
        ),
        (
            "jmp to the kernel",
            code!(
                "64",
                "push rax",
                "mov dword ptr [rsp + 4], 0x08",
                "jmp fword ptr [rsp]"
            ),
        ),
        (
            "jmp to user code",
            code!(
                "64",
                "lea rbx, [rip + 1f]",
                "push rbx",
                "mov dword ptr [rsp + 4], 0x43",
                "jmp fword ptr [rsp]",
                "1:",
                "mov eax, cs"
            ),
        ),
        ("ret to the kernel", code!("64", "push 0x08", "push rax", "retfq")),
        (
            "ret to user code",
            code!(
                "64",
                "lea rbx, [rip + 1f]",
                "push 0x43",
                "push rbx",
                "retfq",
                "1:",
                "mov eax, cs"
            ),
        ),
        ("int of the kernel", code!("64", "int 0x41")),
    ];
    for (name, code) in transfers {
        line(true, &[name], code, 0, 0, 0xffff);
    }
}

pub fn legacy() {
    let stores: [(&str, &'static [u8], u64); 5] = [
        (
            "sgdt",
            code!("32", "sgdt [esp - 16]", "movzx eax, word ptr [esp - 16]"),
            0xffff,
        ),
        (
            "sidt",
            code!("32", "sidt [esp - 16]", "movzx eax, word ptr [esp - 16]"),
            0xffff,
        ),
        ("sldt", code!("32", "sldt eax"), 0xffff),
        ("smsw", code!("32", "smsw eax"), 0x11),
        ("str", code!("32", "str eax"), 0xffff),
    ];
    for (name, code, mask) in stores {
        line(false, &[name], code, 0, 0, mask);
    }
    flags(
        false,
        code!("32", "pushfd", "pop eax"),
        code!("32", "push eax", "popfd", "pushfd", "pop eax"),
    );
    selectors(false);
    let others: [(&str, &'static [u8]); 9] = [
        ("push cs", code!("32", ".byte 0x0e", "pop eax")),
        ("push ss", code!("32", ".byte 0x16", "pop eax")),
        ("pop ds of the kernel", code!("32", "push 0x10", ".byte 0x1f")),
        ("pop es", code!("32", "push 0x3b", ".byte 0x07", "mov eax, es")),
        ("mov from cs", code!("32", "mov eax, cs")),
        ("call to the kernel", code!("32", ".byte 0x9a, 0, 0, 0, 0, 8, 0")),
        ("jmp to the kernel", code!("32", ".byte 0xea, 0, 0, 0, 0, 8, 0")),
        (
            "ret to the kernel",
            code!("32", "push 8", "push eax", ".byte 0xcb"),
        ),
        ("int of the kernel", code!("32", "int 0x41")),
    ];
    for (name, code) in others {
        line(false, &[name], code, 0, 0, 0xffff);
    }
}

/// PUSHF shows IF and IOPL as they are; POPF changes them in silence only where it may. CLI and STI are refused instead.
fn flags(long: bool, push: &'static [u8], pop: &'static [u8]) {
    for (state, flags) in [
        ("under 0", 0),
        ("under if", IF),
        ("under iopl3", IOPL3),
        ("under iopl3 if", IOPL3 | IF),
    ] {
        line(long, &["pushf", state], push, 0, flags, IOPL3 | IF);
        for (what, given) in [("0", 0x2), ("if", 0x202), ("iopl3", 0x3002), ("iopl3 if", 0x3202)] {
            line(long, &["popf", what, state], pop, given, flags, IOPL3 | IF);
        }
        line(long, &["cli", state], code!("64", "cli"), 0, flags, 0);
        line(long, &["sti", state], code!("64", "sti", "cli"), 0, flags, 0);
    }
    for (name, changed) in [
        ("nt", 0x4000u64),
        ("ac", 1 << 18),
        ("of df", OF | 1 << 10),
        ("rf", 1 << 16),
        ("vm", 1 << 17),
    ] {
        line(long, &["popf", name], pop, changed | 2, 0, 0x3_4c00 | 1 << 18);
    }
}

/// LAR, LSL, VERR, VERW tell about descriptors of the kernel by ZF, without fault.
fn selectors(long: bool) {
    for (name, selector) in [
        ("null", 0u64),
        ("kernel code", CODE64.into()),
        ("kernel data", DATA.into()),
        ("tss", TSS64.into()),
        ("user data", USER_DATA.into()),
        ("user code", if long { USER_CODE64 } else { USER_CODE32 }.into()),
        ("beyond the table", 0x1003),
    ] {
        let queries: [(&str, &'static [u8]); 4] = [
            ("lar", code!("64", "lar ecx, eax")),
            ("lsl", code!("64", "lsl ecx, eax")),
            ("verr", code!("64", "verr ax")),
            ("verw", code!("64", "verw ax")),
        ];
        for (query, code) in queries {
            let seen = show(long, &[query, name], code, selector, CF, 0);
            let found = seen.context.rflags & ZF != 0;
            say!(if found { " zf" } else { "" });
            if found && (query == "lar" || query == "lsl") {
                // Not whether it was accessed or is busy.
                let mask = if query == "lar" {
                    0x00ff_fe00 & !0x0200
                } else {
                    u64::MAX
                };
                say!(" ", Hex(seen.context.gprs[RCX] & mask));
            }
            say!("\n");
        }
    }
}
