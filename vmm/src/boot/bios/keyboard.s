// INT 16h and IRQ 4: the terminal behind COM1 as keyboard (Ralf Brown's INTERRUP.LST, INT 16).
//
// The serial port's interrupt fills the ring in the data area as a PC's INT 09 does; a full ring leaves the rest in the
// port. Asking for a key fills it too, for programs that run with interrupts off. A character comes with the scan code of the
// key that types it on a US keyboard; LF is Enter, DEL is Backspace. Keys that terminals send as escape sequences
// arrive as Esc and characters.

int16:
    service keys
    at keys
    row 0x00, key_read
    row 0x01, key_peek
    row 0x02, key_shifts
    row 0x05, key_push
    row 0x10, key_read
    row 0x11, key_peek
    row 0x12, key_shifts
    others nothing

key_read:
    call16 go_to_cursor
1:  call16 serial_take
    mov bx, [KEY_HEAD]
    cmp bx, [KEY_TAIL]
    jne 2f
    call16 doze
    jmp 1b
2:  mov ax, [bx]
    mov [bp + FRAME_AX], ax
    call16 ring_next
    mov [KEY_HEAD], bx
    clc
    ret16
key_peek:                                   // ZF: none
    call16 go_to_cursor
    call16 serial_take
    or byte ptr [bp + FRAME_FLAGS], ZERO
    mov bx, [KEY_HEAD]
    cmp bx, [KEY_TAIL]
    je 1f
    mov ax, [bx]
    mov [bp + FRAME_AX], ax
    and byte ptr [bp + FRAME_FLAGS], 0xff - ZERO
1:  clc
    ret16
key_shifts:                                 // a terminal tells of none
    mov byte ptr [bp + FRAME_AX], 0
    cmp ah, 0x12
    jne 1f
    mov byte ptr [bp + FRAME_AX + 1], 0
1:  clc
    ret16
key_push:                                   // CX; AL: 1 where there is no room
    mov ax, cx
    call16 ring_put
    setc al
    mov [bp + FRAME_AX], al
    clc
    ret16

ring_next:                                  // the place behind BX
    add bx, 2
    cmp bx, [KEY_RING_END]
    jb 1f
    mov bx, [KEY_RING_START]
1:  ret16
ring_put:                                   // AX; CF: no room; changes BX, SI
    mov si, [KEY_TAIL]
    mov bx, si
    call16 ring_next
    cmp bx, [KEY_HEAD]
    je 1f
    mov [si], ax
    mov [KEY_TAIL], bx
    clc
    ret16
1:  stc
    ret16

irq_serial:
    pusha
    push ds
    cld
    push 0x40
    pop ds
    call16 serial_take
    pop ds
    port 0x20, 0x20
    popa
    iret
serial_take:                                // from the port to the ring while there is room; changes AX, BX, DX, SI
    mov bx, [KEY_TAIL]
    call16 ring_next
    cmp bx, [KEY_HEAD]
    je 4f
    mov dx, LINE_STATUS
    in al, dx
    test al, 1
    jz 4f
    mov dx, COM1
    in al, dx
    cmp al, 10
    jne 1f
    mov al, 13
1:  cmp al, 0x7f
    jne 2f
    mov al, 8
2:  mov ah, 0
    test al, al
    js 3f
    movzx bx, al
    mov ah, cs:[bx + scan_codes]
3:  call16 ring_put
    jmp serial_take
4:  ret16

    at scan_codes
    .byte 0x03, 0x1e, 0x30, 0x2e, 0x20, 0x12, 0x21, 0x22, 0x0e, 0x0f, 0x24, 0x25, 0x26, 0x1c, 0x31, 0x18
    .byte 0x19, 0x10, 0x13, 0x1f, 0x14, 0x16, 0x2f, 0x11, 0x2d, 0x15, 0x2c, 0x01, 0x2b, 0x1b, 0x07, 0x0c
    .byte 0x39, 0x02, 0x28, 0x04, 0x05, 0x06, 0x08, 0x28, 0x0a, 0x0b, 0x09, 0x0d, 0x33, 0x0c, 0x34, 0x35
    .byte 0x0b, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x27, 0x27, 0x33, 0x0d, 0x34, 0x35
    .byte 0x03, 0x1e, 0x30, 0x2e, 0x20, 0x12, 0x21, 0x22, 0x23, 0x17, 0x24, 0x25, 0x26, 0x32, 0x31, 0x18
    .byte 0x19, 0x10, 0x13, 0x1f, 0x14, 0x16, 0x2f, 0x11, 0x2d, 0x15, 0x2c, 0x1a, 0x2b, 0x1b, 0x07, 0x0c
    .byte 0x29, 0x1e, 0x30, 0x2e, 0x20, 0x12, 0x21, 0x22, 0x23, 0x17, 0x24, 0x25, 0x26, 0x32, 0x31, 0x18
    .byte 0x19, 0x10, 0x13, 0x1f, 0x14, 0x16, 0x2f, 0x11, 0x2d, 0x15, 0x2c, 0x1a, 0x2b, 0x1b, 0x29, 0x0e
