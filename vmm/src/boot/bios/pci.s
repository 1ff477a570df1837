// INT 1Ah, AH=B1h: PCI configuration by mechanism 1 (PCI BIOS Specification 2.1, chapter 3). One bus. No interrupt routing
// table and no special cycles.

    .set CONFIG_ADDRESS, 0xcf8
    .set CONFIG_DATA, 0xcfc
    .set PCI_UNSUPPORTED, 0x81
    .set PCI_BAD_VENDOR, 0x83
    .set PCI_NOT_FOUND, 0x86
    .set PCI_BAD_REGISTER, 0x87

pci:
    mov si, offset pci_functions
    xchg ah, al                             // AL: B1
    jmp dispatch
    at pci_functions
    row 0x01, pci_present
    row 0x02, pci_find_device
    row 0x03, pci_find_class
    row 0x08, pci_read
    row 0x09, pci_read
    row 0x0a, pci_read
    row 0x0b, pci_write
    row 0x0c, pci_write
    row 0x0d, pci_write
    others pci_unsupported

pci_unsupported:
    mov al, PCI_UNSUPPORTED
pci_failed:
    mov [bp + FRAME_AX + 1], al
    stc
    ret16
pci_done:
    mov byte ptr [bp + FRAME_AX + 1], 0
    clc
    ret16

pci_present:                                // version 2.10, mechanism 1, last bus 0, no protected-mode entry
    mov dword ptr [bp + FRAME_DX], 0x20494350
    mov dword ptr [bp + FRAME_DI], 0
    mov word ptr [bp + FRAME_BX], 0x0210
    mov byte ptr [bp + FRAME_CX], 0
    mov byte ptr [bp + FRAME_AX], 1
    jmp pci_done

pci_find_device:                            // number SI of vendor DX, device CX
    mov al, PCI_BAD_VENDOR
    cmp dx, 0xffff
    je pci_failed
    movzx esi, cx
    shl esi, 16
    mov si, dx
    mov di, 0x00
    mov cl, 0
    jmp pci_find
pci_find_class:                             // number SI of class ECX
    mov esi, ecx
    mov di, 0x08
    mov cl, 8
pci_find:                                   // number FRAME_SI of those whose register DI, shifted by CL, is ESI
    mov ch, [bp + FRAME_SI]
    cmp byte ptr [bp + FRAME_SI + 1], 0
    jne 4f
    xor bx, bx
1:  test bl, 7
    jz 2f
    push bx                                 // a function above 0: only where function 0 says that there are more
    push di
    and bl, 0xf8
    mov di, 0x0c
    call16 pci_dword
    pop di
    pop bx
    test eax, 0x800000
    jz 3f
2:  push di
    mov di, 0x00
    call16 pci_dword
    pop di
    inc ax                                  // vendor FFFF: nobody there
    jz 3f
    call16 pci_dword
    shr eax, cl
    cmp eax, esi
    jne 3f
    sub ch, 1
    jb 5f
3:  inc bl
    jnz 1b
4:  mov al, PCI_NOT_FOUND
    jmp pci_failed
5:  mov [bp + FRAME_BX], bx
    jmp pci_done

pci_dword:                                  // EAX: register DI of device and function BL, bus BH; changes DX
    call16 pci_select
    in eax, dx
    ret16
pci_select:                                 // DX: the data port of register DI; changes EAX
    movzx eax, bx
    shl eax, 8
    mov dx, di
    mov al, dl
    and al, 0xfc
    or eax, 0x80000000
    mov dx, CONFIG_ADDRESS
    out dx, eax
    mov dx, di
    and dx, 3
    add dx, CONFIG_DATA
    ret16
pci_check:                                  // CF: register DI is none for the width of function AH: 0, 1, 2 from its group's
    sub ah, cl                              // first, CL. AH becomes log2 of the width
    cmp di, 0x100
    jae 1f
    mov cl, ah
    mov al, 1
    shl al, cl
    dec al
    mov dx, di
    test dl, al
    jnz 1f
    clc
    ret16
1:  mov al, PCI_BAD_REGISTER
    stc
    ret16

pci_read:                                   // register DI of BH:BL to CL, CX or ECX
    mov cl, 0x08
    call16 pci_check
    jc pci_failed
    push ax
    call16 pci_select
    pop ax
    cmp ah, 1
    je 1f
    ja 2f
    in al, dx
    mov [bp + FRAME_CX], al
    jmp pci_done
1:  in ax, dx
    mov [bp + FRAME_CX], ax
    jmp pci_done
2:  in eax, dx
    mov [bp + FRAME_CX], eax
    jmp pci_done
pci_write:                                  // CL, CX or ECX to register DI of BH:BL
    mov cl, 0x0b
    call16 pci_check
    jc pci_failed
    push ax
    call16 pci_select
    pop ax
    mov bl, ah
    mov eax, [bp + FRAME_CX]
    cmp bl, 1
    je 1f
    ja 2f
    out dx, al
    jmp pci_done
1:  out dx, ax
    jmp pci_done
2:  out dx, eax
    jmp pci_done
