//! What flat real-mode images share: entry at 0000:7C00, COM1, checks, the way out.
//!
//! All of it is assembly; Rust only assembles it. An image defines `main`, called in real mode with interrupts off, every
//! segment 0, interrupt vectors that lead to `unexpected` (which ends the guest with code 3), and what the loader left in
//! CS and DX in `entry_cs` and `entry_dx`. A check is a comparison that leaves ZF set where it holds, then the macro
//! `check` (in 32-bit mode `check32`) with its name.

use core::arch::global_asm;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

global_asm!(
    r#"
    .macro call16 target                    // the assembler's own CALL and RET move 32 bits even here
    .byte 0xe8
    .word \target - . - 2
    .endm
    .macro ret16
    .byte 0xc3
    .endm
    .macro check name
    call16 note
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

    .macro check32 name
    call note32
    .asciz "\name"
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
    mov [entry_cs], bx
    mov [entry_dx], dx
    call16 serial_init
    call16 vectors_init
    call16 main
    jmp finish

vectors_init:
    xor di, di
    mov cx, 256
1:  mov word ptr [di], offset unexpected
    mov word ptr [di + 2], 0
    add di, 4
    loop 1b
    ret16
unexpected:
    mov si, offset unexpected_text
    call16 print
    port 0xf4, 3
    hlt
unexpected_text:
    .asciz "guest: unexpected interrupt\n"

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
    ret16
drain:                                      // until the transmitter is empty
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x40
    jz 1b
    ret16
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
    ret16
print:
1:  lodsb
    test al, al
    jz 2f
    call16 send
    jmp 1b
2:  ret16

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
    call16 print
    pop si
    call16 print
    mov al, 10
    call16 send
    pop ax
    push si
    mov si, [text]
    ret16

finish:
    mov si, offset guest_text
    call16 print
    mov ax, [passed]
    call16 number
    mov si, offset passed_text
    call16 print
    mov ax, [failed]
    call16 number
    mov si, offset failed_text
    call16 print
    call16 drain
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
    call16 send
1:  mov al, ah
    add al, 0x30
    jmp send

    .code32
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

ok_text: .asciz "ok "
fail_text: .asciz "FAIL "
guest_text: .asciz "guest: "
passed_text: .asciz " passed, "
failed_text: .asciz " failed\n"
    .align 4
entry_cs: .word 0
entry_dx: .word 0
seen: .long 0
seen_ip: .long 0
seen_error: .long 0
seen_flags: .long 0
resume: .long 0
text: .long 0
passed: .word 0
failed: .word 0
holds: .byte 0
    "#
);
