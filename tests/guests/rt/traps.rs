//! Interrupts and exceptions: one table of functions, by vector.
//!
//! The precompiled `core` keeps data in the red zone below RSP, so handlers never run on the interrupted stack: every
//! gate switches to an IST stack, one for interrupts and one for exceptions (an exception in a handler must not
//! overwrite its frame). Handlers are compiled without SSE and reach nothing of `core` that returns, so the vector
//! registers are left alone.

use crate::{check, entry, say, serial::Hex};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the processor and the stub pushed.
#[repr(C)]
pub struct Frame {
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

global_asm!(
    r#"
    .section .text.traps, "ax"
    .global trap_stubs
    .align 16
    .set vector, 0
trap_stubs:
    .rept 256
    .align 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    .byte 0x6a, 0                   // push 0 for an error code
    .endif
    .byte 0x68                      // push vector
    .long vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    lea rdi, [rsp + 72]
    call trap_dispatch
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

    .section .bss.traps, "aw", @nobits
    .align 16
    .global trap_tss, trap_idt
trap_tss: .skip 112
trap_idt: .skip 4096
    .skip 8192
interrupt_stack_top:
    .skip 8192
exception_stack_top:
    "#
);

unsafe extern "C" {
    static trap_stubs: u8;
    static mut boot_gdt: [u64; 5];
    static mut trap_tss: [u32; 28];
    static mut trap_idt: [[u64; 2]; 256];
    static interrupt_stack_top: u8;
    static exception_stack_top: u8;
}

/// IST numbers.
const FOR_INTERRUPTS: u64 = 1;
const FOR_EXCEPTIONS: u64 = 2;
/// Vectors below are the processor's own.
const FIRST_INTERRUPT: u64 = 32;

static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

/// Loads TSS and IDT. Once, before any interrupt.
pub(crate) fn init() {
    // SAFETY: the tables are ours, written once, before the processor is told of them, with no other reference alive.
    unsafe {
        let tss = &raw const trap_tss as u64;
        for (ist, top) in [
            (FOR_INTERRUPTS, &raw const interrupt_stack_top as u64),
            (FOR_EXCEPTIONS, &raw const exception_stack_top as u64),
        ] {
            let at = 9 + 2 * (ist as usize - 1);
            trap_tss[at] = top as u32;
            trap_tss[at + 1] = (top >> 32) as u32;
        }
        trap_tss[25] = 104 << 16; // no I/O permission map
        let slot = usize::from(entry::TSS / 8);
        boot_gdt[slot] = 103 | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
        boot_gdt[slot + 1] = tss >> 32;
        asm!("ltr {0:x}", in(reg) entry::TSS, options(nostack));

        for vector in 0..256u64 {
            let stub = &raw const trap_stubs as u64 + 16 * vector;
            let ist = if vector < FIRST_INTERRUPT {
                FOR_EXCEPTIONS
            } else {
                FOR_INTERRUPTS
            };
            let selector = u64::from(entry::CODE);
            trap_idt[vector as usize] = [
                stub & 0xffff | selector << 16 | ist << 32 | 0x8e << 40 | (stub >> 16 & 0xffff) << 48,
                stub >> 32,
            ];
        }
        load_idt(4095, &raw const trap_idt as u64);
    }
}

/// Points the processor at an IDT.
///
/// # Safety
/// There must be one, unless the next trap is to be the machine's last.
pub unsafe fn load_idt(limit: u16, base: u64) {
    let register: [u16; 5] = [
        limit,
        base as u16,
        (base >> 16) as u16,
        (base >> 32) as u16,
        (base >> 48) as u16,
    ];
    // SAFETY: the caller's.
    unsafe { asm!("lidt [{}]", in(reg) &register, options(nostack)) };
}

/// Sets the handler of a vector; it runs with interrupts off and acknowledges its controller itself.
pub fn on(vector: u8, handler: fn(&mut Frame)) {
    HANDLERS[usize::from(vector)].store(handler as usize, Relaxed);
}

/// # Safety
/// Called by the stub, with its frame.
#[unsafe(no_mangle)]
unsafe extern "C" fn trap_dispatch(frame: &mut Frame) {
    let handler = HANDLERS[(frame.vector & 0xff) as usize].load(Relaxed);
    if handler == 0 {
        say!(
            "guest: unexpected vector ",
            frame.vector,
            " error ",
            Hex(frame.error),
            " at ",
            Hex(frame.rip),
            "\n"
        );
        check::exit(3);
    }
    // SAFETY: only `on` stores there, and only functions of this type.
    let handler: fn(&mut Frame) = unsafe { core::mem::transmute(handler) };
    handler(frame);
}
