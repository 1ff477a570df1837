//! Code that changes code: the next instruction, one far ahead, one behind, by every kind of store, through another linear
//! address, across a page, and itself. A line gives RAX at the end. x86 runs what was written last, at the latest behind a
//! jump (Intel SDM volume 3, section 8.1.3 and 11.6); by the same linear address at once.

use crate::code;
use crate::probe::*;
use crate::show::full;
use rt::say;
use rt::serial::Hex;

pub fn run() {
    // Each writes 0x22 into the immediate of a MOV that was assembled with 0x11.
    let cases: [(&str, &'static [u8]); 9] = [
        (
            "next instruction",
            code!("64", "mov byte ptr [rip + 2f - 4], 0x22", "mov eax, 0x11", "2:"),
        ),
        (
            "next but by a jump",
            code!(
                "64",
                "mov byte ptr [rip + 2f - 4], 0x22",
                "jmp 1f",
                "1:",
                "mov eax, 0x11",
                "2:"
            ),
        ),
        (
            "behind, in a loop",
            code!(
                "64",
                "xor ebx, ebx",
                "3:",
                "mov eax, 0x11",
                "2:",
                "inc ebx",
                "mov byte ptr [rip + 2b - 4], 0x22",
                "cmp ebx, 2",
                "jne 3b"
            ),
        ),
        (
            "by a string store",
            code!(
                "64",
                "lea rdi, [rip + 2f - 4]",
                "mov eax, 0x22",
                "stosb",
                "xor eax, eax",
                "mov eax, 0x11",
                "2:"
            ),
        ),
        (
            "by a locked exchange",
            code!(
                "64",
                "mov ecx, 0x22",
                "lock xchg [rip + 2f - 4], cl",
                "mov eax, 0x11",
                "2:"
            ),
        ),
        (
            "by a push",
            code!(
                "64",
                "mov rdx, rsp",
                "lea rsp, [rip + 2f + 4]",
                "mov rcx, 0x9090909000000022",
                "push rcx",
                "mov eax, 0x11",
                "2:",
                "nop",
                "nop",
                "nop",
                "nop",
                "nop",
                "nop",
                "nop",
                "nop",
                "mov rsp, rdx"
            ),
        ),
        (
            "a word over its end",
            code!("64", "mov word ptr [rip + 2f - 5], 0x22b8", "mov eax, 0x11", "2:"),
        ),
        (
            "an opcode",
            code!(
                "64",
                "mov eax, 7",
                "mov byte ptr [rip + 2f - 1], 0xc8",
                "inc eax",
                "2:"
            ),
        ),
        (
            "twice",
            code!(
                "64",
                "mov ecx, 2",
                "xor eax, eax",
                "3:",
                "add eax, 0x11",
                "2:",
                "inc byte ptr [rip + 2b - 1]",
                "loop 3b"
            ),
        ),
    ];
    for (name, code) in cases {
        line(name, Probe::kernel(code));
    }
    through_an_alias();
    itself();
}

fn line(name: &str, probe: Probe) {
    let seen = probe.run();
    say!("changing ", name, ": ");
    full(&seen);
    say!(" ", Hex(seen.context.gprs[RAX] & 0xffff_ffff), "\n");
}

/// The user's view of the code page runs while the kernel's is written, by a kernel that maps both.
fn through_an_alias() {
    let code = code!(
        "64",
        "3:",
        "lea rdx, [rip + 2f - 4]",
        "lea rcx, [rip + 3b]",
        "sub rdx, rcx",
        "mov byte ptr [rbx + rdx], 0x22",
        "jmp 5f",
        "5:",
        "mov eax, 0x11",
        "2:"
    );
    line("through an alias", Probe::kernel(code).with(RBX, USER_CODE));
}

/// What was fetched already is no older than what a jump would fetch.
fn itself() {
    let code = code!("64", "mov word ptr [rip], 0x9090", "inc eax", "2:");
    line("what follows into nothing", Probe::kernel(code).with(RAX, 5));
}
