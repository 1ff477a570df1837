//! Small valid images of every kind, made byte by byte, for the tests to load whole and to damage.

use super::Boot;
use shared::spec::KernelEntry;
use std::fs::File;
use std::io::Write;

/// A bzImage of protocol 2.15: 4 setup sectors, 0x1000 bytes of kernel, running at 2 MiB in 1 MiB.
pub fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 5 * 512 + 0x1000];
    put(&mut image, 0x1f1, &[4]); // setup_sects
    put(&mut image, 0x1f4, &0x100u32.to_le_bytes()); // syssize
    put(&mut image, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut image, 0x200, &[0xeb, 0x6a]); // jump: the header ends at 0x26c
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x020fu16.to_le_bytes());
    put(&mut image, 0x211, &[1]); // LOADED_HIGH
    put(&mut image, 0x22c, &0x7fff_ffffu32.to_le_bytes()); // initrd_addr_max
    put(&mut image, 0x230, &0x20_0000u32.to_le_bytes()); // kernel_alignment
    put(&mut image, 0x234, &[1]); // relocatable
    put(&mut image, 0x236, &1u16.to_le_bytes()); // XLF_KERNEL_64
    put(&mut image, 0x238, &255u32.to_le_bytes()); // cmdline_size
    put(&mut image, 0x258, &0x20_0000u64.to_le_bytes()); // pref_address
    put(&mut image, 0x260, &0x10_0000u32.to_le_bytes()); // init_size
    for (n, byte) in image[5 * 512..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    image
}

/// An image for real mode of protocol 2.07, as iPXE's: 2 setup sectors, 0x1000 bytes behind.
pub fn lkrn() -> Vec<u8> {
    let mut image = vec![0x90; 3 * 512 + 0x1000];
    image[0x1f1..0x268].fill(0);
    put(&mut image, 0x1f1, &[2]); // setup_sects
    put(&mut image, 0x1f4, &0x100u32.to_le_bytes()); // syssize
    put(&mut image, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut image, 0x200, &[0xeb, 0x46]); // jump: the header ends at 0x248
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x0207u16.to_le_bytes());
    put(&mut image, 0x211, &[1]); // LOADED_HIGH
    put(&mut image, 0x22c, &0xffff_ffffu32.to_le_bytes()); // initrd_addr_max
    put(&mut image, 0x238, &0x7ffu32.to_le_bytes()); // cmdline_size
    for (n, byte) in image[3 * 512..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    image
}

/// A segment or note of [`elf`].
pub struct Part {
    pub kind: u32,
    pub vaddr: u64,
    pub paddr: u64,
    pub memsz: u64,
    pub content: Vec<u8>,
}

/// A PT_LOAD at the same virtual and physical address.
pub fn segment(at: u64, memsz: u64, content: &[u8]) -> Part {
    Part {
        kind: 1,
        vaddr: at,
        paddr: at,
        memsz,
        content: content.to_vec(),
    }
}

/// An executable of either class: headers, then the contents one after the other.
pub fn elf(wide: bool, entry: u64, parts: &[Part]) -> Vec<u8> {
    let (header, each) = if wide { (64, 56) } else { (52, 32) };
    let mut image = vec![0; header + each * parts.len()];
    put(&mut image, 0, b"\x7fELF");
    put(&mut image, 4, &[1 + u8::from(wide), 1, 1]);
    put(&mut image, 16, &2u16.to_le_bytes());
    put(&mut image, 18, &(if wide { 62u16 } else { 3 }).to_le_bytes());
    put(&mut image, 20, &1u32.to_le_bytes());
    let word = |image: &mut [u8], at: usize, value: u64| {
        put(image, at, &value.to_le_bytes()[..if wide { 8 } else { 4 }]);
    };
    let (entry_at, table_at, sizes_at) = if wide { (24, 32, 52) } else { (24, 28, 40) };
    word(&mut image, entry_at, entry);
    word(&mut image, table_at, header as u64);
    put(&mut image, sizes_at, &(header as u16).to_le_bytes());
    put(&mut image, sizes_at + 2, &(each as u16).to_le_bytes());
    put(&mut image, sizes_at + 4, &(parts.len() as u16).to_le_bytes());
    for (n, part) in parts.iter().enumerate() {
        let at = header + n * each;
        let offset = image.len().next_multiple_of(4);
        image.resize(offset, 0);
        put(&mut image, at, &part.kind.to_le_bytes());
        let fields = [
            offset as u64,
            part.vaddr,
            part.paddr,
            part.content.len() as u64,
            part.memsz,
        ];
        let (first, step) = if wide { (8, 8) } else { (4, 4) };
        for (n, value) in fields.into_iter().enumerate() {
            word(&mut image, at + first + n * step, value);
        }
        image.extend_from_slice(&part.content);
    }
    image
}

/// A Multiboot header.
pub fn multiboot_header(flags: u32) -> Vec<u8> {
    let magic = 0x1bad_b002u32;
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    [magic, flags, checksum]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect()
}

/// A Multiboot ELF at 1 MiB: 16 bytes of file (the header and 4 of code), 64 of memory.
pub fn multiboot_elf(wide: bool) -> Vec<u8> {
    let mut content = multiboot_header(3);
    content.extend([0xf4, 0xeb, 0xfd, 0x90]);
    elf(wide, 0x10_000c, &[segment(0x10_0000, 64, &content)])
}

/// A flat Multiboot image at 1 MiB: header at offset 4, entered right behind it, 16 bytes of bss.
pub fn multiboot_flat() -> Vec<u8> {
    let mut image = vec![0; 4];
    image.extend(multiboot_header(1 << 16));
    let base = 0x10_0000u32;
    for word in [base + 4, base, base + 40, base + 56, base + 36] {
        image.extend(word.to_le_bytes());
    }
    image.extend([0xf4; 8]);
    image
}

/// The note that makes an ELF a PVH kernel, behind another one.
pub fn pvh_note(entry: u32) -> Part {
    let mut content = note(b"GNU\0", 3, &[1, 2, 3, 4, 5]);
    content.extend(note(b"Xen\0", 18, &entry.to_le_bytes()));
    Part {
        kind: 4,
        content,
        ..segment(0, 0, &[])
    }
}

fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, desc.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for field in [name, desc] {
        note.extend(field);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// A PVH ELF at 16 MiB with a second segment behind it.
pub fn pvh_elf() -> Vec<u8> {
    let parts = [
        segment(0x100_0000, 0x2000, &[0x90; 100]),
        segment(0x100_2000, 16, &[7; 16]),
        pvh_note(0x100_0010),
    ];
    elf(true, 0x100_0000, &parts)
}

/// Overwrites bytes of an image.
pub fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An image as the file a boot takes.
pub fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

/// The same kernel, to be entered in real mode.
pub fn in_real_mode(boot: Boot) -> Boot {
    match boot {
        Boot::Kernel {
            kernel,
            cmdline,
            initrd,
            modules,
            ..
        } => Boot::Kernel {
            kernel,
            cmdline,
            initrd,
            modules,
            entry: KernelEntry::Real16,
        },
        other @ Boot::Image(_) => other,
    }
}

/// A kernel alone.
pub fn kernel(image: &[u8]) -> Boot {
    Boot::Kernel {
        kernel: file(image),
        cmdline: String::new(),
        initrd: None,
        modules: Vec::new(),
        entry: KernelEntry::Auto,
    }
}
