// COM1, which is screen and keyboard here (National Semiconductor PC16550D data sheet).

    .set LINE_STATUS, COM1 + 5

serial_start:                               // 115200 8N1, FIFOs, receive interrupt
    mov si, offset serial_settings
1:  movzx dx, byte ptr cs:[si]
    add dx, COM1
    mov al, cs:[si + 1]
    out dx, al
    add si, 2
    cmp si, offset serial_settings_end
    jb 1b
    ret16
    at serial_settings
    .byte 3, 0x80, 0, 1, 1, 0               // divisor 1
    .byte 3, 0x03, 2, 0x07, 4, 0x0b, 1, 0x01
    at serial_settings_end

send:                                       // AL; changes nothing but flags
    push dx
    push ax
    mov dx, LINE_STATUS
1:  in al, dx
    test al, 0x20
    jz 1b
    mov dx, COM1
    pop ax
    out dx, al
    pop dx
    ret16
send_text:                                  // the zero-terminated text at CS:SI; changes AL, SI
    mov al, cs:[si]
    inc si
    test al, al
    jz 1f
    call16 send
    jmp send_text
1:  ret16
send_number:                                // AL in decimal; changes AX
    aam
    push ax
    mov al, ah
    test al, al
    jz 1f
    call16 send_number
1:  pop ax
    add al, 0x30
    jmp send
send_hex:                                   // AX in four digits; changes AX, CX
    mov cx, 4
1:  rol ax, 4
    push ax
    and al, 0x0f
    cmp al, 10
    sbb al, 0x69                            // 0-9 and A-F, the classic three instructions
    das
    call16 send
    pop ax
    loop 1b
    ret16
