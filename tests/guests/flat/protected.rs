//! 32-bit protected mode entered from real mode: segments, gates, faults, the timer; then back, by way of unreal mode.
#![no_std]
#![no_main]

mod framework;

use core::arch::global_asm;

global_asm!(
    r#"
    .macro gate number, handler             // a 32-bit interrupt gate
    mov eax, offset \handler
    mov word ptr [idt + 8 * \number], ax
    mov dword ptr [idt + 8 * \number + 2], 0x8e000000 + 0x08
    shr eax, 16
    mov word ptr [idt + 8 * \number + 6], ax
    .endm
    .section .image.main, "awx"
    .code16
    .global main
main:
    in al, 0x92                             // A20 open, and what lies above it
    or al, 2
    and al, 0xfe
    out 0x92, al
    mov ax, 0xffff
    mov fs, ax
    mov word ptr fs:[0x510], 0x2222
    vector 0x40, on_int40
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea                        // jmp 0008:protected
    .long protected
    .word 8

    .code32
protected:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, 0x7c00 - 2
    mov ebx, cs
    cmp ebx, 8
    check32 "protected: the far jump loads CS"
    mov eax, 0x18
    mov fs, eax
    mov dword ptr fs:[4], 0x12345678
    cmp dword ptr [0x20004], 0x12345678
    check32 "protected: a segment adds its base"

    gate 0, on_divide32
    gate 11, on_absent32
    gate 13, on_protection32
    gate 0x40, on_int40_32
    gate 0x20, on_tick32
    lidt [idtr]
    int 0x40
    cmp dword ptr [seen], 0x40
    check32 "protected: INT goes through its gate"

    mov dword ptr [resume], offset divided32
    xor ebx, ebx
divide32:
    div ebx
divided32:
    cmp dword ptr [seen], 0
    check32 "protected: a division by 0 is #DE"
    cmp dword ptr [seen_ip], offset divide32
    check32 "protected: which points to the division"
    mov dword ptr [resume], offset beyond_table_done
    mov eax, 0x1000
    mov gs, eax
beyond_table_done:
    cmp dword ptr [seen], 13
    check32 "protected: a selector beyond the table is #GP"
    cmp dword ptr [seen_error], 0x1000
    check32 "protected: with the selector as error code"
    mov dword ptr [resume], offset absent_done
    mov eax, 0x30
    mov gs, eax
absent_done:
    cmp dword ptr [seen], 11
    check32 "protected: an absent segment is #NP"
    cmp dword ptr [seen_error], 0x30
    check32 "protected: with its selector"
    mov dword ptr [seen], 0
    mov dword ptr [resume], offset beyond_limit_done
    mov eax, fs:[0x100]
beyond_limit_done:
    cmp dword ptr [seen], 13
    check32 "protected: an offset beyond the limit is #GP"
    mov dword ptr [seen], 0
    mov dword ptr [resume], offset code_write_done
    mov dword ptr cs:[seen_flags], 0
code_write_done:
    cmp dword ptr [seen], 13
    check32 "protected: a write to a code segment is #GP"

    mov dword ptr [seen], 0                 // the PIT at 100 Hz
    port 0xa1, 0xff
    port 0x43, 0x34
    port 0x40, 0x9c
    port 0x40, 0x2e
    port 0x20, 0x11
    port 0x21, 0x20
    port 0x21, 0x04
    port 0x21, 0x01
    port 0x21, 0xfe
1:  sti
    hlt
    cli
    cmp dword ptr [seen], 3
    jb 1b
    port 0x21, 0xff
    cmp dword ptr [seen], 3
    check32 "protected: the timer interrupts a halted CPU, three times"
    .byte 0xea                              // jmp 0020:leave_protected
    .long leave_protected
    .word 0x20

on_int40_32:
    mov dword ptr [seen], 0x40
    iretd
on_tick32:
    push eax
    inc dword ptr [seen]
    port 0x20, 0x20
    pop eax
    iretd
on_divide32:
    mov dword ptr [seen], 0
    jmp caught32
on_absent32:
    pop dword ptr [seen_error]
    mov dword ptr [seen], 11
    jmp caught32
on_protection32:
    pop dword ptr [seen_error]
    mov dword ptr [seen], 13
caught32:
    pop dword ptr [seen_ip]
    push dword ptr [resume]
    iretd

    .code16
leave_protected:
    mov ax, 0x28
    mov ds, ax
    mov ss, ax
    mov ax, 0x10                            // ES keeps the flat limit: unreal mode
    mov es, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    .byte 0xea
    .word 1f, 0
1:  xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00 - 2                      // the return address of `main`
    lidt [real_idtr]
    mov word ptr [seen], 0
    int 0x40
    cmp word ptr [seen], 0x40
    check "back: INT goes through the vector table again"
    mov ebx, 0x100500
    cmp word ptr es:[ebx], 0x2222
    check "back: a flat limit outlives protected mode"
    xor ax, ax
    mov es, ax
    ret16
on_int40:
    mov word ptr [seen], 0x40
    iret

    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff                // 08: 32-bit code
    .quad 0x00cf93000000ffff                // 10: flat data
    .quad 0x00409302000000ff                // 18: data at 20000, 256 bytes
    .quad 0x00009b000000ffff                // 20: 16-bit code
    .quad 0x000093000000ffff                // 28: data, 64 KiB
    .quad 0x00cf13000000ffff                // 30: not present
gdtr:
    .word 7 * 8 - 1
    .long gdt
idtr:
    .word 0x41 * 8 - 1
    .long idt
real_idtr:
    .word 0x3ff
    .long 0
    .align 8
idt: .skip 0x41 * 8
    "#
);
