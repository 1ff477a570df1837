//! The assembly of the probe: into the code under test and, from any trap, back.
//!
//! The context's offsets are written once, as symbols. On the way back nothing of the code under test is trusted but
//! that the GDT is the probe's.

use core::arch::global_asm;

global_asm!(
    r#"
    .set AT_GPRS, 0
    .set AT_RIP, 128
    .set AT_CS, 136
    .set AT_FLAGS, 144
    .set AT_SS, 152
    .set AT_VECTOR, 160
    .set AT_ERROR, 168
    .set AT_CR2, 176
    .set AT_SELECTORS, 184
    .set AT_HANDLER, 192
    .set AT_CONTROL, 224
    .set AT_HOST_SP, 248
    .set AT_HOST_CR0, 256
    .set AT_HOST_CR3, 264
    .set AT_HOST_CR4, 272
    .set AT_HOST_IDTR, 280

    .macro stubs call_common
    .set vector, 0
    .rept 256
    .align 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    .byte 0x6a, 0xff                    // push -1: no error code
    .endif
    .byte 0x68
    .long vector
    jmp \call_common
    .set vector, vector + 1
    .endr
    .endm

    .section .text.probe, "ax"
    .code64
    .global probe_run64, probe_run32, probe_stubs64, probe_stubs32
    .align 16
probe_stubs64:
    stubs probe_caught64

    .macro enter_probe
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [probe_context + AT_HOST_SP], rsp
    sidt [probe_context + AT_HOST_IDTR]
    mov rax, cr0
    mov [probe_context + AT_HOST_CR0], rax
    mov rax, cr3
    mov [probe_context + AT_HOST_CR3], rax
    mov rax, cr4
    mov [probe_context + AT_HOST_CR4], rax
    .endm

probe_run64:
    enter_probe
    lidt [probe_idtr64]
    push qword ptr [probe_context + AT_SS]
    push qword ptr [probe_context + AT_GPRS + 32]
    push qword ptr [probe_context + AT_FLAGS]
    push qword ptr [probe_context + AT_CS]
    push qword ptr [probe_context + AT_RIP]
    mov rax, [probe_context + AT_GPRS]
    mov rcx, [probe_context + AT_GPRS + 8]
    mov rdx, [probe_context + AT_GPRS + 16]
    mov rbx, [probe_context + AT_GPRS + 24]
    mov rbp, [probe_context + AT_GPRS + 40]
    mov rsi, [probe_context + AT_GPRS + 48]
    mov rdi, [probe_context + AT_GPRS + 56]
    mov r8, [probe_context + AT_GPRS + 64]
    mov r9, [probe_context + AT_GPRS + 72]
    mov r10, [probe_context + AT_GPRS + 80]
    mov r11, [probe_context + AT_GPRS + 88]
    iretq

probe_caught64:
    mov [probe_context + AT_GPRS], rax
    mov [probe_context + AT_GPRS + 8], rcx
    mov [probe_context + AT_GPRS + 16], rdx
    mov [probe_context + AT_GPRS + 24], rbx
    mov [probe_context + AT_GPRS + 40], rbp
    mov [probe_context + AT_GPRS + 48], rsi
    mov [probe_context + AT_GPRS + 56], rdi
    mov [probe_context + AT_GPRS + 64], r8
    mov [probe_context + AT_GPRS + 72], r9
    mov [probe_context + AT_GPRS + 80], r10
    mov [probe_context + AT_GPRS + 88], r11
    pushfq
    pop rax
    mov [probe_context + AT_HANDLER + 24], rax
    cld
    mov rax, [rsp]
    mov [probe_context + AT_VECTOR], rax
    mov rax, [rsp + 8]
    mov [probe_context + AT_ERROR], rax
    mov rax, [rsp + 16]
    mov [probe_context + AT_RIP], rax
    mov rax, [rsp + 24]
    mov [probe_context + AT_CS], rax
    mov rax, [rsp + 32]
    mov [probe_context + AT_FLAGS], rax
    mov rax, [rsp + 40]
    mov [probe_context + AT_GPRS + 32], rax
    mov rax, [rsp + 48]
    mov [probe_context + AT_SS], rax
    lea rax, [rsp + 16]
    mov [probe_context + AT_HANDLER + 16], rax
    mov eax, cs
    mov [probe_context + AT_HANDLER], rax
    mov eax, ss
    mov [probe_context + AT_HANDLER + 8], rax
    mov rax, cr2
    mov [probe_context + AT_CR2], rax
    mov [probe_context + AT_SELECTORS], ds
    mov [probe_context + AT_SELECTORS + 2], es
    mov [probe_context + AT_SELECTORS + 4], fs
    mov [probe_context + AT_SELECTORS + 6], gs
probe_leave:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rsp, [probe_context + AT_HOST_SP]
    push 2
    popfq
    lidt [probe_context + AT_HOST_IDTR]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

probe_run32:
    enter_probe
    lidt [probe_idtr32]
    push 0x28
    mov eax, offset probe_compatibility
    push rax
    .byte 0x48, 0xcb                    // retfq
    .code32
probe_compatibility:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff                 // LME
    wrmsr
    mov eax, [probe_context + AT_CONTROL + 16]
    mov cr4, eax
    mov eax, [probe_context + AT_CONTROL + 8]
    mov cr3, eax
    mov eax, [probe_context + AT_CONTROL]
    mov cr0, eax
    jmp 1f
1:  mov eax, 0x30
    ltr ax
    movzx eax, word ptr [probe_context + AT_SELECTORS]
    mov ds, eax
    mov es, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov esp, [probe_context + AT_GPRS + 32]
    test dword ptr [probe_context + AT_CS], 3
    jz 2f
    mov esp, offset probe_stack_top
    push dword ptr [probe_context + AT_SS]
    push dword ptr [probe_context + AT_GPRS + 32]
2:  push dword ptr [probe_context + AT_FLAGS]
    push dword ptr [probe_context + AT_CS]
    push dword ptr [probe_context + AT_RIP]
    mov eax, [probe_context + AT_GPRS]
    mov ecx, [probe_context + AT_GPRS + 8]
    mov edx, [probe_context + AT_GPRS + 16]
    mov ebx, [probe_context + AT_GPRS + 24]
    mov ebp, [probe_context + AT_GPRS + 40]
    mov esi, [probe_context + AT_GPRS + 48]
    mov edi, [probe_context + AT_GPRS + 56]
    iretd

    .align 16
probe_stubs32:
    stubs probe_caught32
probe_caught32:
    push eax
    pushfd
    pop eax
    cld
    mov ss:[probe_context + AT_HANDLER + 24], eax
    mov dword ptr ss:[probe_context + AT_HANDLER + 28], 0
    mov ax, ds
    mov ss:[probe_context + AT_SELECTORS], ax
    mov ax, es
    mov ss:[probe_context + AT_SELECTORS + 2], ax
    mov ax, fs
    mov ss:[probe_context + AT_SELECTORS + 4], ax
    mov ax, gs
    mov ss:[probe_context + AT_SELECTORS + 6], ax
    mov ax, ss
    mov ss:[probe_context + AT_HANDLER + 8], ax
    mov eax, 0x10
    mov ds, eax
    pop eax
    mov [probe_context + AT_GPRS], eax
    mov [probe_context + AT_GPRS + 8], ecx
    mov [probe_context + AT_GPRS + 16], edx
    mov [probe_context + AT_GPRS + 24], ebx
    mov [probe_context + AT_GPRS + 40], ebp
    mov [probe_context + AT_GPRS + 48], esi
    mov [probe_context + AT_GPRS + 56], edi
    mov eax, [esp]
    mov [probe_context + AT_VECTOR], eax
    mov dword ptr [probe_context + AT_ERROR + 4], 0
    mov eax, [esp + 4]
    mov [probe_context + AT_ERROR], eax
    cmp eax, -1
    jne 1f
    mov [probe_context + AT_ERROR + 4], eax
1:  mov eax, [esp + 8]
    mov [probe_context + AT_RIP], eax
    mov eax, [esp + 12]
    mov [probe_context + AT_CS], eax
    mov ecx, eax
    mov eax, [esp + 16]
    mov [probe_context + AT_FLAGS], eax
    lea eax, [esp + 20]
    mov edx, 0x10
    test ecx, 3
    jz 1f
    mov eax, [esp + 20]
    mov edx, [esp + 24]
1:  mov [probe_context + AT_GPRS + 32], eax
    mov [probe_context + AT_SS], edx
    lea eax, [esp + 8]
    mov [probe_context + AT_HANDLER + 16], eax
    mov eax, cs
    mov [probe_context + AT_HANDLER], eax
    mov eax, cr2
    mov [probe_context + AT_CR2], eax

    mov eax, 0x10
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    jmp 1f
1:  mov eax, [probe_context + AT_HOST_CR4]
    mov cr4, eax
    mov eax, [probe_context + AT_HOST_CR3]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, [probe_context + AT_HOST_CR0]
    mov cr0, eax
    .byte 0xea                          // jmp 0008:probe_long
    .long probe_long
    .word 8
    .code64
probe_long:
    mov eax, 0x18
    ltr ax
    jmp probe_leave

    .section .data.probe, "aw"
    .align 16
    .global probe_gdt
probe_gdt: .skip 14 * 8
probe_idtr64:
    .word 4095
    .quad probe_idt64
probe_idtr32:
    .word 2047
    .quad probe_idt32

    .section .bss.probe, "aw", @nobits
    .align 16
    .global probe_context, probe_idt64, probe_idt32, probe_tss32, probe_stack_top
probe_context: .skip 296
probe_idt64: .skip 4096
probe_idt32: .skip 2048
probe_tss32: .skip 128
    .skip 8192
probe_stack_top:
    "#
);
