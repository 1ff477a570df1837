// INT 10h: a text screen of 80 by 25 on the terminal behind COM1 (Ralf Brown's INTERRUP.LST, INT 10).
//
// The cursor callers speak of (CURSOR) and the terminal's (TERMINAL) are kept apart, and brought together only when
// something is written: moving the cursor costs nothing, and plain text stays plain text on the line. The terminal
// understands ECMA-48. There is one page, no graphics, no font, and nothing written can be read back but the colours.

    .set ESCAPE, 27

int10:
    service video
    at video
    row 0x00, video_mode
    row 0x01, cursor_shape
    row 0x02, cursor_set
    row 0x03, cursor_get
    row 0x06, scroll_up
    row 0x07, scroll_down
    row 0x08, read_cell
    row 0x09, write_cells
    row 0x0a, write_characters
    row 0x0e, teletype
    row 0x0f, video_get
    row 0x13, write_text
    others nothing

    at begin_sequence
    .byte ESCAPE
    .asciz "["
    at clear_all
    .byte ESCAPE
    .asciz "[2J"
    at clear_and_home
    .byte ESCAPE
    .ascii "[0m"
    .byte ESCAPE
    .ascii "[2J"
    .byte ESCAPE
    .asciz "[H"
    at reset_margins
    .byte ESCAPE
    .asciz "[r"
    at colours_off
    .byte ESCAPE
    .asciz "[0"

video_mode:                                 // any: there is but 80x25; bit 7 keeps what is shown
    test al, 0x80
    jnz 1f
    mov word ptr [CURSOR], 0
    mov word ptr [TERMINAL], 0
    mov byte ptr [ATTRIBUTE], 7
    mov si, offset clear_and_home
    call16 send_text
1:  clc
    ret16
cursor_shape:
    mov [CURSOR_SHAPE], cx
    ret16
cursor_set:
    cmp dl, 80
    jae 1f
    cmp dh, 25
    jae 1f
    mov [CURSOR], dx
1:  clc
    ret16
cursor_get:
    mov ax, [CURSOR]
    mov [bp + FRAME_DX], ax
    mov ax, [CURSOR_SHAPE]
    mov [bp + FRAME_CX], ax
    ret16
video_get:
    mov word ptr [bp + FRAME_AX], 80 << 8 | 3
    mov byte ptr [bp + FRAME_BX + 1], 0
    ret16
read_cell:
    mov al, 0x20
    mov ah, [ATTRIBUTE]
    mov [bp + FRAME_AX], ax
    ret16

write_cells:                                // CX times AL in the colours BL, the cursor stays
    call16 colours
write_characters:
    mov byte ptr [WRITTEN], 0
    jcxz 3f
    cmp cx, 80 * 25
    ja 3f
    push ax
    call16 go_to_cursor
    pop ax
    mov dx, [CURSOR]
    mov bx, dx
    mov bh, 0
    add bx, cx                              // the column behind the last
    cmp bx, 80
    jae 1f
    mov dl, bl
    cmp cx, 1
    jne 2f
    mov [WRITTEN], al
    jmp 2f
1:  mov dx, 0xffff
2:  mov [TERMINAL], dx
    call16 send_visible
    loop 2b
3:  clc
    ret16

teletype:                                   // AL
    cmp al, 0x07
    je send
    cmp al, 0x08
    je back
    cmp al, 0x0a
    je line_feed
    cmp al, 0x0d
    je carriage_return
    mov dx, [CURSOR]
    inc dl
    cmp dx, [TERMINAL]
    jne 1f
    cmp al, [WRITTEN]                       // function 09 has just written it there
    je 2f
1:  push ax
    call16 go_to_cursor
    pop ax
    call16 send_visible
2:  mov byte ptr [WRITTEN], 0
    inc byte ptr [CURSOR]
    mov dx, [CURSOR]
    mov [TERMINAL], dx
    cmp dl, 80
    jae new_line
    clc
    ret16
new_line:
    mov al, 13
    call16 send
    mov byte ptr [CURSOR], 0
    mov byte ptr [TERMINAL], 0
line_feed:
    call16 go_to_cursor
    mov al, 10
    call16 send
    mov dx, [CURSOR]
    inc dh
    cmp dh, 25
    jb 1f
    mov dh, 24                              // the terminal has scrolled
1:  mov [CURSOR], dx
    mov [TERMINAL], dx
    clc
    ret16
back:
    cmp byte ptr [CURSOR], 0
    je 1f
    dec byte ptr [CURSOR]
1:  mov byte ptr [WRITTEN], 0
    clc
    ret16
carriage_return:
    mov byte ptr [CURSOR], 0
    clc
    ret16

send_visible:                               // AL, or a stand-in for what the terminal would not show as one character
    cmp al, 0x20
    jb 1f
    cmp al, 0x7f
    jb send
1:  push ax
    mov al, 0x3f
    call16 send
    pop ax
    ret16

go_to_cursor:                               // brings the terminal's cursor to ours; changes AX, DX, SI
    mov dx, [CURSOR]
    mov ax, [TERMINAL]
    cmp ax, dx
    je 4f
    mov byte ptr [WRITTEN], 0
    mov [TERMINAL], dx
    cmp ah, dh
    jne 2f
    test dl, dl
    jz 1f
    sub al, dl                              // in the row: few steps back, or from its start
    jb 1f
    cmp al, 4
    ja 1f
    mov ah, al
    mov al, 8
0:  call16 send
    dec ah
    jnz 0b
    ret16
1:  mov al, 13
    call16 send
    test dl, dl
    jz 4f
    mov si, offset begin_sequence
    call16 send_text
    mov al, dl
    call16 send_number
    mov al, 0x43                            // C: cursor forward
    jmp send
2:  xchg ax, dx
move_to:                                    // row AH, column AL; changes AX, SI
    push ax
    mov si, offset begin_sequence
    call16 send_text
    pop ax
    push ax
    mov al, ah
    inc al
    call16 send_number
    mov al, 0x3b
    call16 send
    pop ax
    inc al
    call16 send_number
    mov al, 0x48                            // H: cursor position
    jmp send
4:  ret16

colours:                                    // BL, a VGA attribute, from now on; changes SI, BH
    cmp bl, [ATTRIBUTE]
    je 4f
    mov [ATTRIBUTE], bl
    push ax
    mov si, offset colours_off
    call16 send_text
    test bl, 0x08
    jz 1f
    mov al, 0x3b
    call16 send
    mov al, 0x31                            // 1: bright
    call16 send
1:  mov ah, 0x33                            // 3x: foreground
    mov bh, bl
    and bx, 0x07ff
    cmp bh, 7
    je 2f
    call16 colour
2:  mov ah, 0x34                            // 4x: background
    mov bh, bl
    shr bh, 4
    and bh, 7
    jz 3f
    call16 colour
3:  mov al, 0x6d
    call16 send
    pop ax
4:  ret16
colour:                                     // kind AH, VGA colour BH; changes AL, SI
    mov al, 0x3b
    call16 send
    mov al, ah
    call16 send
    movzx si, bh
    mov al, cs:[si + ansi_colours]
    jmp send
    at ansi_colours
    .ascii "04261537"                       // blue and red change places

scroll_up:
    mov ah, 0x53                            // S: scroll up
    jmp scroll
scroll_down:
    mov ah, 0x54                            // T: scroll down
scroll:                                     // AL lines, 0: all; rows CH-DH, columns CL-DL; new ones in the colours BH
    cmp dh, 25
    jb 1f
    mov dh, 24
1:  cmp dl, 80
    jb 2f
    mov dl, 79
2:  cmp ch, dh
    ja 9f
    cmp cl, dl
    ja 9f
    mov bl, bh
    call16 colours
    mov bl, dh
    sub bl, ch
    test al, al
    jz clear
    cmp al, bl
    ja clear
    mov word ptr [TERMINAL], 0xffff
    push ax                                 // whole rows, whatever the columns: within margins
    mov si, offset begin_sequence
    call16 send_text
    mov al, ch
    inc al
    call16 send_number
    mov al, 0x3b
    call16 send
    mov al, dh
    inc al
    call16 send_number
    mov al, 0x72                            // r: margins
    call16 send
    mov si, offset begin_sequence
    call16 send_text
    pop ax
    push ax
    call16 send_number
    pop ax
    mov al, ah
    call16 send
    mov si, offset reset_margins
    call16 send_text
9:  clc
    ret16
clear:
    test cx, cx
    jnz 1f
    cmp dx, 24 << 8 | 79
    jne 1f
    mov si, offset clear_all                // leaves the terminal's cursor where it is
    call16 send_text
    clc
    ret16
1:  mov word ptr [TERMINAL], 0xffff
    sub dl, cl
    inc dl                                  // width
2:  mov ax, cx
    call16 move_to
    mov si, offset begin_sequence
    call16 send_text
    mov al, dl
    call16 send_number
    mov al, 0x58                            // X: erase characters
    call16 send
    inc ch
    cmp ch, dh
    jbe 2b
    clc
    ret16

write_text:                                 // CX characters at ES:BP from row DH, column DL. AL bit 0: the cursor moves;
    mov bh, al                              // bit 1: each with its colours behind it, else all in BL
    push word ptr [CURSOR]
    xchg ax, dx
    cmp al, 80
    jae 3f
    cmp ah, 25
    jae 3f
    mov [CURSOR], ax
    mov di, [bp + FRAME_BP]
    jcxz 3f
    cmp cx, 80 * 25
    ja 3f
1:  mov al, es:[di]
    inc di
    test bh, 2
    jz 2f
    mov bl, es:[di]
    inc di
2:  push bx
    call16 colours
    call16 teletype
    pop bx
    loop 1b
3:  pop ax
    test bh, 1
    jnz 4f
    mov [CURSOR], ax
4:  clc
    ret16
