// INT 11h, 12h, 13h and 15h: equipment, memory, no disks, the system's odds and ends (Ralf Brown's INTERRUP.LST; INT 15
// AX=E820h: ACPI Specification 6.5, section 15.1).

int11:
    push ds
    push 0x40
    pop ds
    mov ax, [EQUIPMENT]
    pop ds
    iret
int12:
    push ds
    push 0x40
    pop ds
    mov ax, [BASE_MEMORY]
    pop ds
    iret

int13:                                      // invalid drive, whatever the function
    service disk
    at disk
    others no_drive
no_drive:
    mov byte ptr [bp + FRAME_AX + 1], 1
    stc
    ret16

int15:
    service system
    at system
    row 0x24, a20
    row 0x86, wait
    row 0x88, extended_memory
    row 0xc0, configuration
    row 0xe8, memory_map
    others unsupported
unsupported:
    mov byte ptr [bp + FRAME_AX + 1], 0x86
    stc
    ret16

a20:                                        // AL: 0 closes, 1 opens, 2 tells, 3 tells what can
    mov si, ax
    in al, 0x92
    and al, 0xfe                            // bit 0 would reset
    cmp si, 0x2401
    jb 1f
    je 2f
    cmp si, 0x2403
    jb 3f
    jne unsupported
    mov word ptr [bp + FRAME_BX], 2         // by port 92
    jmp 4f
1:  and al, 0xfd
    out 0x92, al
    jmp 4f
2:  or al, 2
    out 0x92, al
    jmp 4f
3:  shr al, 1
    and al, 1
    mov [bp + FRAME_AX], al
4:  mov byte ptr [bp + FRAME_AX + 1], 0
    clc
    ret16

// CX:DX microseconds by the ACPI timer, 315/88 MHz, asleep while a timer tick is sooner. At most 2^30, 17 minutes, which
// is what 32 bits of its ticks hold.
wait:
    movzx eax, cx
    shl eax, 16
    mov ax, dx
    cmp eax, 1 << 30
    jb 1f
    mov eax, 1 << 30
1:  mov ebx, 315
    mul ebx
    mov ebx, 88
    div ebx
    mov ebx, eax                            // what is left, in ticks of the timer
    mov dx, TIMER
    in eax, dx
    mov ecx, eax
2:  cmp ebx, 210000                         // 58.7 ms; IRQ 0 comes every 54.9
    jb 3f
    call16 doze
3:  in eax, dx
    mov esi, eax
    sub eax, ecx
    mov ecx, esi
    and eax, 0xffffff
    sub ebx, eax
    ja 2b
    mov byte ptr [bp + FRAME_AX + 1], 0
    clc
    ret16

extended_memory:                            // KiB from 1 MiB up to what a loader has put there
    mov ax, cs:[EXTENDED]
    mov [bp + FRAME_AX], ax
    clc
    ret16

configuration:
    mov [bp + FRAME_ES], cs
    mov word ptr [bp + FRAME_BX], offset configuration_table
    mov byte ptr [bp + FRAME_AX + 1], 0
    clc
    ret16
    at configuration_table
    .word 8
    .byte 0xfc, 0, 0, 0x60, 0, 0, 0, 0      // an AT, with a second 8259 and a clock

memory_map:
    cmp al, 0x20
    je range
    cmp al, 0x01
    jne unsupported
    mov al, 0x34                            // E801: in 64 KiB from 16 MiB
    call16 cmos_word
    mov [bp + FRAME_BX], ax
    mov [bp + FRAME_DX], ax
    mov al, 0x30                            // and in KiB from 1 MiB up to there
    call16 cmos_word
    cmp ax, 15 << 10
    jb 1f
    mov ax, 15 << 10
1:  mov [bp + FRAME_AX], ax
    mov [bp + FRAME_CX], ax
    clc
    ret16
range:                                      // E820: range EBX to ES:DI
    cmp edx, 0x534d4150                     // "SMAP"
    jne unsupported
    cmp ecx, 20
    jb unsupported
    movzx eax, word ptr cs:[MAP]
    cmp ebx, eax
    jae unsupported
    imul si, bx, 20
    add si, offset MAP + 2
    mov cx, 20
    push cs
    pop ds
    rep movsb
    inc ebx
    cmp ebx, eax
    jb 1f
    xor ebx, ebx
1:  mov [bp + FRAME_BX], ebx
    mov dword ptr [bp + FRAME_AX], 0x534d4150
    mov dword ptr [bp + FRAME_CX], 20
    clc
    ret16

cmos_word:                                  // AX from the CMOS bytes AL and AL + 1; changes BX
    mov bl, al
    inc al
    call16 cmos_read
    mov bh, al
    mov al, bl
    call16 cmos_read
    mov ah, bh
    ret16
