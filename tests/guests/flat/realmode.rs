//! Real mode: segments, A20, string I/O, the interrupt vector table, faults, the timer.
#![no_std]
#![no_main]

mod framework;

use core::arch::global_asm;

global_asm!(
    r#"
    .section .image.main, "awx"
    .code16
    .global main
main:
    cmp word ptr [entry_cs], 0
    check "real: entered with CS 0"
    cmp byte ptr [entry_dx], 0x80
    check "real: DL names the first disk"
    call16 addresses
    call16 string_io
    call16 software_interrupts
    call16 faults
    call16 timer
    ret16

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
    ret16

string_io:
    call16 drain
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
    ret16
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
    ret16
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
    ret16
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
    ret16
on_tick:
    push ax
    inc word ptr [seen]
    port 0x20, 0x20
    pop ax
    iret
    "#
);
