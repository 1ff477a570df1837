// INT 1Ah and IRQ 0: ticks since midnight, the battery-backed clock (Ralf Brown's INTERRUP.LST, INT 1A; Motorola MC146818A
// data sheet), and the way to PCI.

    .set TICKS_A_DAY, 0x1800b0

int1a:
    service clock
    at clock
    row 0x00, ticks_get
    row 0x01, ticks_set
    row 0x02, time_get
    row 0x03, time_set
    row 0x04, date_get
    row 0x05, date_set
    row 0xb1, pci
    others unsupported

irq_timer:
    push ds
    push ax
    push dx
    push 0x40
    pop ds
    inc dword ptr [TICKS]
    cmp dword ptr [TICKS], TICKS_A_DAY
    jb 1f
    mov dword ptr [TICKS], 0
    mov byte ptr [MIDNIGHT], 1
1:  int 0x1c
    port 0x20, 0x20
    pop dx
    pop ax
    pop ds
    iret

doze:                                       // until an interrupt, unless the caller keeps the timer's out; changes AL
    in al, 0x21
    test al, 1
    jnz 1f
    sti                                     // the interrupt comes behind the HLT
    hlt
    cli
1:  ret16

ticks_get:
    mov al, 0
    xchg al, [MIDNIGHT]
    mov [bp + FRAME_AX], al
    mov ax, [TICKS]
    mov [bp + FRAME_DX], ax
    mov ax, [TICKS + 2]
    mov [bp + FRAME_CX], ax
    clc
    ret16
ticks_set:
    mov [TICKS], dx
    mov [TICKS + 2], cx
    mov byte ptr [MIDNIGHT], 0
    clc
    ret16

time_get:
    call16 cmos_settle
    mov al, 0x04
    call16 cmos_read
    mov [bp + FRAME_CX + 1], al
    mov al, 0x02
    call16 cmos_read
    mov [bp + FRAME_CX], al
    mov al, 0x00
    call16 cmos_read
    mov [bp + FRAME_DX + 1], al
    mov byte ptr [bp + FRAME_DX], 0
    clc
    ret16
date_get:
    call16 cmos_settle
    mov al, CENTURY
    call16 cmos_read
    mov [bp + FRAME_CX + 1], al
    mov al, 0x09
    call16 cmos_read
    mov [bp + FRAME_CX], al
    mov al, 0x08
    call16 cmos_read
    mov [bp + FRAME_DX + 1], al
    mov al, 0x07
    call16 cmos_read
    mov [bp + FRAME_DX], al
    clc
    ret16
time_set:                                   // CH hours, CL minutes, DH seconds
    call16 clock_hold
    mov al, 0x04
    mov ah, ch
    call16 cmos_write
    mov al, 0x02
    mov ah, cl
    call16 cmos_write
    mov al, 0x00
    mov ah, dh
    call16 cmos_write
    jmp clock_go
date_set:                                   // CH century, CL year, DH month, DL day
    call16 clock_hold
    mov al, CENTURY
    mov ah, ch
    call16 cmos_write
    mov al, 0x09
    mov ah, cl
    call16 cmos_write
    mov al, 0x08
    mov ah, dh
    call16 cmos_write
    mov al, 0x07
    mov ah, dl
    call16 cmos_write
clock_go:                                   // register B: 24 hours, BCD, running
    mov ax, 0x020b
    call16 cmos_write
    clc
    ret16
clock_hold:
    mov ax, 0x820b
cmos_write:                                 // AH to place AL
    or al, 0x80                             // NMI stays off
    out 0x70, al
    mov al, ah
    out 0x71, al
    ret16
cmos_read:                                  // AL from place AL
    or al, 0x80
    out 0x70, al
    in al, 0x71
    ret16
cmos_settle:                                // until no update is near
    mov al, 0x0a
    call16 cmos_read
    test al, al
    js cmos_settle
    ret16

set_ticks:                                  // the day so far, at 1193182 / 65536 Hz
    call16 cmos_settle
    mov al, 0x04
    call16 cmos_binary
    imul edi, eax, 3600
    mov al, 0x02
    call16 cmos_binary
    imul eax, eax, 60
    add edi, eax
    mov al, 0x00
    call16 cmos_binary
    add eax, edi
    mov edi, 1193182
    mul edi
    shrd eax, edx, 16
    mov [TICKS], eax
    ret16
cmos_binary:                                // EAX: the BCD at place AL; changes CX
    call16 cmos_read
    mov cl, al
    shr al, 4
    mov ch, 10
    mul ch
    and cl, 0x0f
    add al, cl
    movzx eax, al
    ret16
