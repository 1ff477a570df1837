//! The way into long mode from Multiboot 1, PVH and the 64-bit entry of the Linux boot protocol.
//!
//! All end in `rt_main(protocol, information)` with memory identity-mapped (the first GiB and the last below 4 GiB),
//! our own GDT, SSE on and interrupts off.

use core::arch::global_asm;

/// `protocol` values that `rt_main` is given.
pub const MULTIBOOT: u64 = 1;
pub const PVH: u64 = 2;
pub const LINUX: u64 = 3;

/// Selectors of the GDT below.
pub const CODE: u16 = 0x08;
pub const TSS: u16 = 0x18;

global_asm!(
    r#"
    .section .head.multiboot, "a"
    .align 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)

    .section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18                  // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_start

    .section .head.pvh, "ax"
    .code32
    .global _start, pvh_start
_start:
    mov edi, 1
    jmp 1f
pvh_start:
    mov edi, 2
1:  cli
    cld
    mov esi, ebx
    mov esp, offset boot_stack_top
    lgdt [boot_gdtr]
    mov eax, offset boot_pdpt + 3
    mov [boot_pml4], eax
    mov eax, offset boot_pd_first + 3
    mov [boot_pdpt], eax
    mov eax, offset boot_pd_last + 3
    mov [boot_pdpt + 3 * 8], eax
    mov eax, 0x83                   // 2 MiB pages from 0
    mov ebx, offset boot_pd_first
    call fill_directory
    mov eax, 0xc0000083             // and from 3 GiB
    mov ebx, offset boot_pd_last
    call fill_directory
    mov eax, cr4
    or eax, 0x620                   // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080             // EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    and eax, 0xfffffff3             // not EM, TS
    or eax, 0x80000023              // PG, NE, MP, PE
    mov cr0, eax
    .byte 0xea                      // jmp 0008:long_start
    .long long_start
    .word 8

fill_directory:
    mov ecx, 512
2:  mov [ebx], eax
    add ebx, 8
    add eax, 0x200000
    dec ecx
    jnz 2b
    ret

    .section .head.linux, "ax"
    .code64
    // Load address + 0x200: long mode and an identity map are given, cleared memory is not.
linux_start:
    cli
    cld
    mov r8, rsi
    mov edi, offset __bss_start
    mov ecx, offset __bss_end
    sub ecx, edi
    xor eax, eax
    rep stosb
    mov rax, cr4
    or eax, 0x620
    mov cr4, rax
    mov rax, cr0
    and eax, 0xfffffff3
    or eax, 0x22
    mov cr0, rax
    lgdt [boot_gdtr]
    mov rsi, r8
    mov edi, 3
    mov esp, offset boot_stack_top
    push 8
    mov eax, offset long_start
    push rax
    .byte 0x48, 0xcb                // retfq
long_start:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov esp, offset boot_stack_top
    mov edi, edi
    mov esi, esi
    call rt_main
    ud2

    .section .data.boot, "aw"
    .align 16
    .global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 08: 64-bit code
    .quad 0x00cf93000000ffff        // 10: data
    .quad 0, 0                      // 18: TSS, written by traps::init
boot_gdtr:
    .word 5 * 8 - 1
    .quad boot_gdt

    .section .bss.boot, "aw", @nobits
    .align 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd_first: .skip 4096
boot_pd_last: .skip 4096
    .skip 32768
boot_stack_top:
    "#
);
