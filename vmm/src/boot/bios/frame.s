// What every service shares: the layout of the data area, the register image, the way in and out.
//
// A service saves every register as a FRAME, finds its handler by AH in a table and calls it with AX, BX, CX, DX, DI and
// ES as the caller left them, DS = 0040, BP at the frame. A handler answers by writing into the frame; the carry flag it
// returns with becomes the caller's. It may change every register but BP, and must not trust what the caller passed.

    .set org, worldswitch_bios - 0xe000     // what F000:0000 would be: `label - org` is an offset in segment F000

    .macro at name                          // names the data that follows, as an offset in segment F000
    .set \name, . - org
    .endm
    .macro call16 target                    // the assembler's own CALL, RET and RETF move 32 bits even here
    .byte 0xe8
    .word \target - . - 2
    .endm
    .macro ret16
    .byte 0xc3
    .endm
    .macro retf16
    .byte 0xcb
    .endm
    .macro port number, value
    mov al, \value
    out \number, al
    .endm

// BIOS data area, from 0040:0000 (Ralf Brown's MEMORY.LST).
    .set COM_PORTS, 0x00
    .set EQUIPMENT, 0x10
    .set BASE_MEMORY, 0x13                  // KiB
    .set KEY_HEAD, 0x1a                     // next key to be read; empty where it equals the tail
    .set KEY_TAIL, 0x1c
    .set KEY_RING, 0x1e
    .set VIDEO_MODE, 0x49
    .set COLUMNS, 0x4a
    .set PAGE_BYTES, 0x4c
    .set CURSOR, 0x50                       // row in the high byte, column in the low
    .set CURSOR_SHAPE, 0x60
    .set TICKS, 0x6c
    .set MIDNIGHT, 0x70
    .set KEY_RING_START, 0x80
    .set KEY_RING_END, 0x82
    .set LAST_ROW, 0x84
// Ours, where the list has nothing.
    .set TERMINAL, 0xb0                     // where the terminal's cursor is, as CURSOR; FF: not known
    .set ATTRIBUTE, 0xb2                    // the terminal's colours, as a VGA attribute
    .set WRITTEN, 0xb3                      // character that function 09 left at the cursor; 0: none

// The frame, from SS:BP.
    .set FRAME_ES, 0
    .set FRAME_DI, 4
    .set FRAME_SI, 8
    .set FRAME_BP, 12
    .set FRAME_BX, 20
    .set FRAME_DX, 24
    .set FRAME_CX, 28
    .set FRAME_AX, 32
    .set FRAME_FLAGS, 40
    .set CARRY, 1
    .set ZERO, 0x40

    .macro service table
    pushad
    push ds
    push es
    mov bp, sp
    mov si, offset \table
    jmp serve
    .endm
    .macro row function, handler
    .byte \function, 0
    .word \handler - org
    .endm
    .macro others handler                   // the last row
    .byte 0, 1
    .word \handler - org
    .endm

serve:
    cld
    push 0x40
    pop ds
    call16 dispatch
    setc al
    and byte ptr [bp + FRAME_FLAGS], 0xff - CARRY
    or byte ptr [bp + FRAME_FLAGS], al
    pop es
    pop ds
    popad
    iret
dispatch:                                   // goes to the handler for AH in the table at SI
    cmp byte ptr cs:[si + 1], 0
    jne 1f
    cmp byte ptr cs:[si], ah
    je 1f
    add si, 4
    jmp dispatch
1:  jmp word ptr cs:[si + 2]

nothing:                                    // a handler that leaves all as it is
    clc
    ret16
