// Power-on: vectors, data area, interrupt controllers, timer, serial port, time of day; then the boot program.
//
// Entered with interrupts off, BX = the boot program's segment, SP = its stack in that segment.

post:
    cld
    mov ss, bx
    call16 set_vectors
    call16 set_data
    call16 set_interrupts
    call16 serial_start
    call16 set_ticks
    mov ds, bx                              // Linux Documentation/arch/x86/boot.rst, "Running the Kernel"
    mov es, bx
    mov fs, bx
    mov gs, bx
    add bx, 0x20
    push bx
    push 0
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    retf16

set_vectors:
    xor di, di
    mov es, di
    mov cx, 256
1:  mov ax, offset ignored_at
    stosw
    mov ax, cs
    stosw
    loop 1b
    mov si, offset vectors
2:  movzx di, byte ptr cs:[si]
    mov ax, cs:[si + 1]
    shl di, 2
    stosw
    add si, 3
    cmp si, offset vectors_end
    jb 2b
    ret16
    .macro vector number, handler
    .byte \number
    .word \handler - org
    .endm
    at vectors
    vector 0x00, divide_fault
    vector 0x06, opcode_fault
    vector 0x08, irq_timer
    vector 0x09, irq_low
    vector 0x0a, irq_low
    vector 0x0b, irq_low
    vector 0x0c, irq_serial
    vector 0x0d, irq_low
    vector 0x0e, irq_low
    vector 0x0f, irq_low
    vector 0x10, int10
    vector 0x11, int11
    vector 0x12, int12
    vector 0x13, int13
    vector 0x15, int15
    vector 0x16, int16
    vector 0x18, boot_ended
    vector 0x19, boot_ended
    vector 0x1a, int1a
    vector 0x70, irq_high
    vector 0x71, irq_high
    vector 0x72, irq_high
    vector 0x73, irq_high
    vector 0x74, irq_high
    vector 0x75, irq_high
    vector 0x76, irq_high
    vector 0x77, irq_high
    at vectors_end

set_data:
    push 0x40
    pop ds
    push 0x40
    pop es
    xor ax, ax
    xor di, di
    mov cx, 128
    rep stosw
    mov si, offset data
1:  movzx di, byte ptr cs:[si]
    mov ax, cs:[si + 1]
    stosw
    add si, 3
    cmp si, offset data_end
    jb 1b
    ret16
    .macro datum place, value
    .byte \place
    .word \value
    .endm
    at data
    datum COM_PORTS, COM1
    datum EQUIPMENT, 0x0222                 // FPU, 80x25 colour, one serial port
    datum BASE_MEMORY, 640
    datum KEY_HEAD, KEY_RING
    datum KEY_TAIL, KEY_RING
    datum KEY_RING_START, KEY_RING
    datum KEY_RING_END, KEY_RING + 32
    datum VIDEO_MODE, 3
    datum COLUMNS, 80
    datum PAGE_BYTES, 0x1000
    datum CURSOR_SHAPE, 0x0607
    datum LAST_ROW, 24
    datum ATTRIBUTE, 7
    at data_end

set_interrupts:                             // 8259s at 08 and 70, IRQ 0, 2 and 4 open; 8254 counter 0 at 18.2 Hz
    port 0x20, 0x11
    port 0xa0, 0x11
    port 0x21, 0x08
    port 0xa1, 0x70
    port 0x21, 0x04
    port 0xa1, 0x02
    port 0x21, 0x01
    port 0xa1, 0x01
    port 0x21, 0xea
    port 0xa1, 0xff
    port 0x43, 0x36
    xor al, al
    out 0x40, al
    out 0x40, al
    ret16
