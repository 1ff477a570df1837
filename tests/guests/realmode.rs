//! A flat real-mode image: segments, A20, string I/O, the interrupt vector table, faults, 32-bit protected mode and back.
//!
//! All of it is assembly, entered at 0000:7C00; Rust only assembles it. A check is a comparison that leaves ZF set where
//! it holds, then the macro `check` with its name. An interrupt that nobody expects ends the guest with code 3.
#![no_std]
#![no_main]

use core::arch::global_asm;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

// Start, and what real mode does by itself.
global_asm!(
    r#"
    .macro check name
    call note
    .asciz "\name"
    .endm
    .macro vector number, handler           // an entry of the interrupt vector table
    mov word ptr [4 * \number], offset \handler
    mov word ptr [4 * \number + 2], 0
    .endm
    .macro port number, value
    mov al, \value
    out \number, al
    .endm

    .section .image.start, "awx"
    .code16
    .global _start
_start:
    cli
    cld
    mov bx, cs                              // as we were entered, before it is made so
    .byte 0xea                              // jmp 0000:1f
    .word 1f, 0
1:  xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    push dx
    call serial_init
    call vectors_init
    test bx, bx
    check "real: entered with CS 0"
    pop dx
    cmp dl, 0x80
    check "real: DL names the first disk"
    call addresses
    call string_io
    call software_interrupts
    call faults
    call timer
    jmp to_protected

addresses:
    mov ax, 0x3000                          // 3000:0010 is 3001:0000
    mov fs, ax
    inc ax
    mov gs, ax
    mov word ptr fs:[0x10], 0x1234
    cmp word ptr gs:[0], 0x1234
    check "real: a segment starts at 16 times its value"
    in al, 0x92
    or al, 2
    and al, 0xfe
    out 0x92, al
    mov ax, 0xffff
    mov fs, ax
    mov word ptr [0x500], 0x1111
    mov word ptr fs:[0x510], 0x2222
    cmp word ptr [0x500], 0x1111
    check "real: with A20 open, FFFF:0510 is not 0000:0500"
    cmp word ptr fs:[0x510], 0x2222
    check "real: but memory of its own"
    ret

string_io:
    call drain
    mov si, offset greeting
    mov cx, 10
    mov dx, 0x3f8
    rep outsb
    cmp si, offset greeting + 10
    check "real: rep outsb moves SI by its count"
    test cx, cx
    check "real: and leaves CX 0"
    port 0x21, 0xa5                         // a port that reads back
    mov di, 0x600
    mov dword ptr [di], 0
    mov dword ptr [di + 4], 0
    mov dx, 0x21
    mov cx, 4
    rep insb
    cmp dword ptr [0x600], 0xa5a5a5a5
    check "real: rep insb fills memory"
    cmp dword ptr [0x604], 0
    check "real: and no more than its count"
    mov di, 0x606
    mov cx, 2
    std
    rep insb
    cld
    cmp dword ptr [0x604], 0x00a5a500
    check "real: rep insb goes down with DF set"
    cmp di, 0x604
    check "real: and so does DI"
    xor cx, cx
    rep insb
    cmp di, 0x604
    check "real: rep insb of none does nothing"
    insb
    cmp di, 0x605
    check "real: a single insb moves DI by one"
    port 0x21, 0xff
    ret
greeting:
    .ascii "rep outsb\n"

software_interrupts:
    vector 0x40, on_int40
    mov word ptr [seen], 0
    sti
    stc
    int 0x40
    pushf
    pop bx
    cli
    cmp word ptr [seen], 0x40
    check "real: INT goes through the vector table"
    cmp word ptr [seen_flags], 0
    check "real: its handler runs with IF and TF clear"
    and bx, 0x201
    cmp bx, 0x201
    check "real: IRET restores IF and CF"
    ret
on_int40:
    mov word ptr [seen], 0x40
    pushf
    pop ax
    and ax, 0x300
    mov [seen_flags], ax
    clc
    iret

faults:
    vector 0, on_divide
    vector 4, on_overflow
    vector 6, on_undefined
    mov word ptr [seen], 0xffff
    mov word ptr [resume], offset divided
    xor bx, bx
divide:
    div bx
divided:
    cmp word ptr [seen], 0
    check "real: a division by 0 is interrupt 0"
    cmp word ptr [seen_ip], offset divide
    check "real: which points to the division"
    mov word ptr [resume], offset undefined_done
undefined:
    ud2
undefined_done:
    cmp word ptr [seen], 6
    check "real: an undefined instruction is interrupt 6"
    cmp word ptr [seen_ip], offset undefined
    check "real: which points to it"
    mov word ptr [resume], offset overflowed
    mov al, 0x7f
    inc al
    into
overflowed:
    cmp word ptr [seen], 4
    check "real: INTO with OF set is interrupt 4"
    cmp word ptr [seen_ip], offset overflowed
    check "real: which points behind it"
    ret
on_divide:
    mov word ptr [seen], 0
    jmp caught
on_overflow:
    mov word ptr [seen], 4
    jmp caught
on_undefined:
    mov word ptr [seen], 6
caught:                                     // notes IP, goes on at `resume`
    push bp
    mov bp, sp
    mov ax, [bp + 2]
    mov [seen_ip], ax
    mov ax, [resume]
    mov [bp + 2], ax
    pop bp
    iret

timer:                                      // the PIT at 100 Hz through IRQ 0, at its classic vector 8
    vector 8, on_tick
    mov word ptr [seen], 0
    port 0x20, 0x11
    port 0x21, 0x08
    port 0x21, 0x04
    port 0x21, 0x01
    port 0xa1, 0xff
    port 0x43, 0x34
    port 0x40, 0x9c
    port 0x40, 0x2e
    port 0x21, 0xfe
1:  sti
    hlt
    cli
    cmp word ptr [seen], 3
    jb 1b
    port 0x21, 0xff
    cmp word ptr [seen], 3
    check "real: the timer interrupts a halted CPU, three times"
    ret
on_tick:
    push ax
    inc word ptr [seen]
    port 0x20, 0x20
    pop ax
    iret

vectors_init:
    xor di, di
    mov cx, 256
1:  mov word ptr [di], offset unexpected
    mov word ptr [di + 2], 0
    add di, 4
    loop 1b
    ret
unexpected:
    mov si, offset unexpected_text
    call print
    port 0xf4, 3
    hlt
unexpected_text:
    .asciz "guest: unexpected interrupt\n"
    "#
);

// Protected mode, and the way back.
global_asm!(
    r#"
    .macro gate number, handler             // a 32-bit interrupt gate
    mov eax, offset \handler
    mov word ptr [idt + 8 * \number], ax
    mov dword ptr [idt + 8 * \number + 2], 0x8e000000 + 0x08
    shr eax, 16
    mov word ptr [idt + 8 * \number + 6], ax
    .endm
    .macro check32 name
    call note32
    .asciz "\name"
    .endm

    .section .image.protected, "awx"
    .code16
to_protected:
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
    mov esp, 0x7c00
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

    mov dword ptr [seen], 0                 // the PIT once more, now at vector 20
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

note32:                                     // as `note`
    setz byte ptr [holds]
    mov [text], esi
    pop esi
    push eax
    push edx
    push esi
    mov esi, offset ok_text
    cmp byte ptr [holds], 1
    je 1f
    mov esi, offset fail_text
    inc word ptr [failed]
    dec word ptr [passed]
1:  inc word ptr [passed]
    call print32
    pop esi
    call print32
    mov al, 10
    call send32
    pop edx
    pop eax
    push esi
    mov esi, [text]
    ret
print32:
1:  lodsb
    test al, al
    jz 2f
    call send32
    jmp 1b
2:  ret
send32:
    push eax
    mov edx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    mov edx, 0x3f8
    pop eax
    out dx, al
    ret

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
    mov sp, 0x7c00
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
    jmp finish

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
    "#
);

// The framework: COM1, checks, the way out.
global_asm!(
    r#"
    .section .image.framework, "awx"
    .code16
serial_init:                                // 115200 8N1, FIFOs, no interrupts
    mov dx, 0x3f9
    xor al, al
    out dx, al
    mov dx, 0x3fb
    mov al, 0x80
    out dx, al
    mov dx, 0x3f8
    mov al, 1
    out dx, al
    inc dx
    xor al, al
    out dx, al
    mov dx, 0x3fb
    mov al, 3
    out dx, al
    mov dx, 0x3fa
    mov al, 7
    out dx, al
    ret
drain:                                      // until the transmitter is empty
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x40
    jz 1b
    ret
send:
    push dx
    push ax
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    mov dx, 0x3f8
    pop ax
    out dx, al
    pop dx
    ret
print:
1:  lodsb
    test al, al
    jz 2f
    call send
    jmp 1b
2:  ret

note:                                       // ZF set: the check whose name follows the call holds
    setz byte ptr [holds]
    mov [text], si
    pop si
    push ax
    push si
    mov si, offset ok_text
    cmp byte ptr [holds], 1
    je 1f
    mov si, offset fail_text
    inc word ptr [failed]
    dec word ptr [passed]
1:  inc word ptr [passed]
    call print
    pop si
    call print
    mov al, 10
    call send
    pop ax
    push si
    mov si, [text]
    ret

finish:
    mov si, offset guest_text
    call print
    mov ax, [passed]
    call number
    mov si, offset passed_text
    call print
    mov ax, [failed]
    call number
    mov si, offset failed_text
    call print
    call drain
    cmp word ptr [failed], 0
    setne al
    out 0xf4, al
1:  hlt
    jmp 1b
number:                                     // AX below 100 in decimal
    mov bl, 10
    div bl
    test al, al
    jz 1f
    add al, 0x30
    call send
1:  mov al, ah
    add al, 0x30
    jmp send

ok_text: .asciz "ok "
fail_text: .asciz "FAIL "
guest_text: .asciz "guest: "
passed_text: .asciz " passed, "
failed_text: .asciz " failed\n"
    .align 4
seen: .long 0
seen_ip: .long 0
seen_error: .long 0
seen_flags: .long 0
resume: .long 0
text: .long 0
passed: .word 0
failed: .word 0
holds: .byte 0
    .align 8
idt: .skip 0x41 * 8
    "#
);
