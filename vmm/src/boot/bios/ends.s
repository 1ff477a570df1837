// Interrupts nobody serves, faults nobody handles, and the end of the boot program.

    at ignored_at
ignored:
    iret
irq_high:
    push ax
    port 0xa0, 0x20
    port 0x20, 0x20
    pop ax
    iret
irq_low:
    push ax
    port 0x20, 0x20
    pop ax
    iret

boot_ended:                                 // INT 18h, 19h: there is nothing else to boot
    mov si, offset ended_text
    call16 send_text
    call16 serial_drain
    mov dx, PM_CONTROL
    mov ax, 0x2000                          // SLP_EN, S5: off
    out dx, ax
1:  cli
    hlt
    jmp 1b
    at ended_text
    .asciz "\r\nBIOS: the boot program has ended and there is nothing else to boot; powering off\r\n"

divide_fault:
    mov si, offset divide_text
    jmp fault
opcode_fault:
    mov si, offset opcode_text
fault:                                      // a program that does not expect it would fault again forever
    call16 send_text
    mov si, offset fault_text
    call16 send_text
    mov bp, sp
    mov ax, [bp + 2]
    call16 send_hex
    mov al, 0x3a
    call16 send
    mov ax, [bp]
    call16 send_hex
    mov si, offset line_end
    call16 send_text
    call16 serial_drain
    cli
    lidt cs:[no_vectors]                    // a triple fault ends the machine as failed
    int 3
1:  hlt
    jmp 1b
    at divide_text
    .asciz "\r\nBIOS: division error"
    at opcode_text
    .asciz "\r\nBIOS: undefined instruction"
    at fault_text
    .asciz " in real mode that the program does not handle, at "
    at line_end
    .asciz "\r\n"
    at no_vectors
    .word 0
    .long 0

serial_drain:
    mov dx, LINE_STATUS
1:  in al, dx
    test al, 0x40
    jz 1b
    ret16

reboot:
    mov dx, 0xcf9                           // the reset control register (Intel 82371SB data sheet)
    port dx, 0x06
1:  hlt
    jmp 1b

    .org 0x1ff0                             // F000:FFF0, where a processor leaves RESET and programs jump to for a reboot
    .byte 0xea
    .word reboot - org, 0xf000
    .ascii "11/21/26"
    .org 0x1ffe
    .byte 0xfc                              // model: AT
    .org 0x2000
