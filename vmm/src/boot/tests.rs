//! What each loader leaves in memory and registers.

use super::samples::{self, file, kernel, put, segment};
use super::{Boot, Loaded, MapEntry, MapKind, load};
use crate::engine::state::CS;
use crate::mem::GuestMemory;

pub(super) const RSDP: u64 = 0xe_0000;
const MIB: u64 = 1 << 20;

pub(super) fn memory() -> GuestMemory {
    GuestMemory::new(32 * MIB).unwrap()
}

fn run(boot: &Boot, memory: &GuestMemory) -> Loaded {
    load(boot, memory, Some(RSDP)).unwrap()
}

fn u32_at(memory: &GuestMemory, at: u64) -> u32 {
    memory.read_obj(at).unwrap()
}

fn u64_at(memory: &GuestMemory, at: u64) -> u64 {
    memory.read_obj(at).unwrap()
}

pub(super) fn bytes_at(memory: &GuestMemory, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read(at, &mut bytes).unwrap();
    bytes
}

fn line_at(memory: &GuestMemory, at: u64) -> String {
    let bytes = bytes_at(memory, at, 2048);
    let end = bytes.iter().position(|&b| b == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

/// Fills a kernel boot's optional parts.
pub(super) fn with(
    boot: Boot,
    line: &str,
    initrd_bytes: Option<&[u8]>,
    module_bytes: &[(&[u8], &str)],
) -> Boot {
    let Boot::Kernel { kernel, entry, .. } = boot else {
        panic!("not a kernel")
    };
    Boot::Kernel {
        kernel,
        cmdline: line.to_owned(),
        initrd: initrd_bytes.map(file),
        modules: module_bytes
            .iter()
            .map(|(bytes, line)| (file(bytes), (*line).to_owned()))
            .collect(),
        entry,
    }
}

#[test]
fn a_bzimage_starts_at_its_64_bit_entry_with_a_zero_page() {
    let memory = memory();
    let image = samples::bzimage();
    let initrd = vec![0x5a; 5000];
    let boot = with(kernel(&image), "console=ttyS0", Some(&initrd), &[]);
    let loaded = run(&boot, &memory);
    assert_eq!(loaded.what, "bzImage 64-bit");
    assert_eq!((loaded.state.rip, loaded.state.gprs[6]), (0x20_0200, 0x7000));
    assert_eq!(bytes_at(&memory, 0x20_0000, 0x1000), image[5 * 512..]);
    let page = 0x7000;
    assert_eq!(u64_at(&memory, page + 0x70), RSDP);
    assert_eq!(bytes_at(&memory, page + 0x1f1, 0x1f), image[0x1f1..0x210]);
    assert_eq!(bytes_at(&memory, page + 0x210, 1), [0xff]);
    assert_eq!(bytes_at(&memory, page + 0x1ef, 1), [0], "sentinel");
    assert_eq!(
        line_at(&memory, u32_at(&memory, page + 0x228).into()),
        "console=ttyS0"
    );
    let at = u64::from(u32_at(&memory, page + 0x218));
    assert_eq!(at, 32 * MIB - 0x2000, "the last pages of RAM");
    assert_eq!(u32_at(&memory, page + 0x21c), 5000);
    assert_eq!(bytes_at(&memory, at, 5000), initrd);
}

#[test]
fn a_bzimage_may_end_within_its_last_paragraph() {
    let mut image = samples::bzimage();
    image.truncate(image.len() - 15);
    run(&kernel(&image), &memory());
    image.pop();
    assert!(load(&kernel(&image), &memory(), None).is_err());
}

/// Where the setup code, the protected-mode part and the command line of an image for real mode lie.
type RealModePlaces = (u64, u64, u64);
const HIGH: RealModePlaces = (0x1_0000, 0x10_0000, 0x1_e000);
const LOW: RealModePlaces = (0x9_0000, 0x1_0000, 0x9_9800);

/// Checks what is loaded for the 16-bit entry: an initrd of 5000 bytes and the line "a b" come with it.
fn enters_real_mode(image: &[u8], boot: Boot, (setup, system, line): RealModePlaces) -> GuestMemory {
    let memory = memory();
    let initrd = vec![0x5a; 5000];
    let loaded = run(&with(boot, "a b", Some(&initrd), &[]), &memory);
    assert_eq!(loaded.what, "bzImage 16-bit");
    let state = &loaded.state;
    assert_eq!((state.segments.user[CS].selector, state.rip), (0xf000, 0xe400));
    assert_eq!((state.gprs[3], state.gprs[4]), (setup >> 4, line - setup));

    let sectors = usize::from(image[0x1f1]) + 1;
    assert_eq!(
        bytes_at(&memory, system, image.len() - sectors * 512),
        image[sectors * 512..]
    );
    let mut expected = image[..sectors * 512].to_vec();
    let initrd_at = 32 * MIB - 0x2000;
    put(&mut expected, 0x1fa, &[0xff, 0xff]);
    put(&mut expected, 0x210, &[0xff, image[0x211] | 0x80]);
    put(&mut expected, 0x218, &(initrd_at as u32).to_le_bytes());
    put(&mut expected, 0x21c, &5000u32.to_le_bytes());
    put(
        &mut expected,
        0x224,
        &((line - setup) as u16 - 0x200).to_le_bytes(),
    );
    put(&mut expected, 0x228, &(line as u32).to_le_bytes());
    assert_eq!(bytes_at(&memory, setup, sectors * 512), expected);
    assert_eq!(line_at(&memory, line), "a b");
    assert_eq!(bytes_at(&memory, initrd_at, 5000), initrd);

    let told: [u16; 2] = memory.read_obj(0xf_e000).unwrap();
    assert_eq!(
        told.map(u64::from),
        [(initrd_at - MIB) / 1024, loaded.map.len() as u64]
    );
    memory
}

#[test]
fn an_image_without_a_64_bit_entry_starts_in_real_mode_with_a_bios() {
    let lkrn = samples::lkrn();
    let memory = enters_real_mode(&lkrn, kernel(&lkrn), HIGH);
    assert_eq!(u64_at(&memory, 0x7000 + 0x70), 0, "no zero page");
    let mut narrow = samples::bzimage();
    put(&mut narrow, 0x236, &[0, 0]);
    enters_real_mode(&narrow, kernel(&narrow), HIGH);
    let mut low = samples::lkrn();
    put(&mut low, 0x211, &[0]);
    enters_real_mode(&low, kernel(&low), LOW);
}

#[test]
fn a_kernel_with_both_entries_starts_in_real_mode_if_told() {
    let image = samples::bzimage();
    enters_real_mode(&image, samples::in_real_mode(kernel(&image)), HIGH);
}

#[test]
fn linux_is_given_the_memory_map_in_its_zero_page() {
    let memory = memory();
    let loaded = run(&kernel(&samples::bzimage()), &memory);
    assert_eq!(bytes_at(&memory, 0x7000 + 0x1e8, 1), [loaded.map.len() as u8]);
    for (n, entry) in loaded.map.iter().enumerate() {
        let at = 0x7000 + 0x2d0 + 20 * n as u64;
        assert_eq!(u64_at(&memory, at), entry.base);
        assert_eq!(u64_at(&memory, at + 8), entry.len);
        assert_eq!(u32_at(&memory, at + 16), entry.kind as u32);
    }
}

#[test]
fn the_memory_map_leaves_out_the_hole_and_reserves_the_firmware_area() {
    let memory = GuestMemory::new((3 << 30) + 64 * MIB).unwrap();
    let entry = |base, len, kind| MapEntry { base, len, kind };
    assert_eq!(
        super::e820::map(&memory),
        [
            entry(0, 0xa_0000, MapKind::Ram),
            entry(0xa_0000, 0x6_0000, MapKind::Reserved),
            entry(MIB, 0xc000_0000 - MIB, MapKind::Ram),
            entry(1 << 32, 64 * MIB, MapKind::Ram),
        ]
    );
    let least = GuestMemory::new(MIB).unwrap();
    assert_eq!(super::e820::map(&least).len(), 2);
}

/// Walks the tables as the processor does; gives the physical address behind a linear one.
fn walk(memory: &GuestMemory, cr3: u64, linear: u64) -> Option<u64> {
    let mut table = cr3;
    for shift in [39, 30, 21] {
        let entry = u64_at(memory, table + 8 * (linear >> shift & 0x1ff));
        if entry & 3 != 3 {
            return None;
        }
        if entry & 0x80 != 0 {
            return Some((entry & !0x1f_ffff) + (linear & 0x1f_ffff));
        }
        table = entry & !0xfff;
    }
    None
}

#[test]
fn four_gib_are_identity_mapped_for_the_64_bit_entry() {
    let memory = memory();
    let state = run(&kernel(&samples::bzimage()), &memory).state;
    for linear in [
        0,
        0x7000,
        0x20_0200,
        0x3fff_ffff,
        0x4000_0000,
        0xfee0_0000,
        0xffff_ffff,
    ] {
        assert_eq!(walk(&memory, state.cr3, linear), Some(linear), "{linear:#x}");
    }
    assert_eq!(walk(&memory, state.cr3, 1 << 32), None);
}

#[test]
fn the_descriptor_table_agrees_with_the_loaded_segments() {
    let memory = memory();
    let state = run(&kernel(&samples::bzimage()), &memory).state;
    let segments = state.segments.user.iter().chain([&state.segments.tr]);
    for segment in segments {
        let selector = segment.selector;
        assert!(selector + 7 <= state.gdtr.limit);
        let descriptor = u64_at(&memory, state.gdtr.base + u64::from(selector));
        let granular = descriptor >> 55 & 1 == 1;
        let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
        let limit = if granular { limit << 12 | 0xfff } else { limit };
        assert_eq!(limit, segment.limit, "{selector:#x}");
        assert_eq!(
            (descriptor >> 40 & 0xf0ff) as u32,
            segment.attributes,
            "{selector:#x}"
        );
    }
}

#[test]
fn an_initrd_stays_below_the_kernels_limit() {
    let memory = memory();
    let mut image = samples::bzimage();
    put(&mut image, 0x22c, &0x4f_ffffu32.to_le_bytes());
    run(&with(kernel(&image), "", Some(&[1; 4097]), &[]), &memory);
    assert_eq!(u32_at(&memory, 0x7000 + 0x218), 0x50_0000 - 0x2000);
}

#[test]
fn a_pvh_elf_gets_start_info_in_ebx() {
    let memory = memory();
    memory.write(0x100_0000, &[0xff; 0x3000]).unwrap();
    let boot = with(
        kernel(&samples::pvh_elf()),
        "quiet",
        Some(&[3; 10]),
        &[(&[4; 20], "two words")],
    );
    let loaded = run(&boot, &memory);
    assert_eq!(loaded.what, "PVH ELF");
    assert_eq!((loaded.state.rip, loaded.state.gprs[3]), (0x100_0010, 0x1000));
    assert_eq!(bytes_at(&memory, 0x100_0000, 100), [0x90; 100]);
    assert_eq!(
        bytes_at(&memory, 0x100_0064, 0x2000 - 100),
        [0; 0x2000 - 100],
        "bss"
    );
    assert_eq!(bytes_at(&memory, 0x100_2000, 16), [7; 16]);
    let info = 0x1000;
    assert_eq!(u32_at(&memory, info), 0x336e_c578);
    assert_eq!(u32_at(&memory, info + 4), 1);
    assert_eq!(u32_at(&memory, info + 12), 2, "modules");
    let list = u64_at(&memory, info + 16);
    let expected: [(u8, usize, &str); 2] = [(3, 10, ""), (4, 20, "two words")];
    for (n, (byte, len, line)) in expected.into_iter().enumerate() {
        let entry = list + 32 * n as u64;
        assert_eq!(bytes_at(&memory, u64_at(&memory, entry), len), vec![byte; len]);
        assert_eq!(u64_at(&memory, entry + 8), len as u64);
        assert_eq!(line_at(&memory, u64_at(&memory, entry + 16)), line);
    }
    assert_eq!(line_at(&memory, u64_at(&memory, info + 24)), "quiet");
    assert_eq!(u64_at(&memory, info + 32), RSDP);
    let map = u64_at(&memory, info + 40);
    assert_eq!(u32_at(&memory, info + 48), 3);
    assert_eq!(u64_at(&memory, map + 2 * 24), MIB);
    assert_eq!(u64_at(&memory, map + 2 * 24 + 8), 31 * MIB);
}

#[test]
fn a_multiboot_elf_of_either_class_gets_its_information_in_ebx() {
    for wide in [false, true] {
        let memory = memory();
        memory.write(0x10_0000, &[0xff; 64]).unwrap();
        let boot = with(
            kernel(&samples::multiboot_elf(wide)),
            "test.elf arg",
            None,
            &[(&[1; 5000], "first"), (&[2; 10], "")],
        );
        let loaded = run(&boot, &memory);
        assert_eq!(loaded.what, "Multiboot 1 ELF");
        assert_eq!(loaded.state.rip, 0x10_000c);
        assert_eq!(loaded.state.gprs[0], 0x2bad_b002);
        assert_eq!(bytes_at(&memory, 0x10_0010, 48), [0; 48], "bss");
        let info = loaded.state.gprs[3];
        let word = |offset| u32_at(&memory, info + offset);
        assert_eq!(word(0), 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
        assert_eq!((word(4), word(8)), (640, 31 * 1024));
        assert_eq!(line_at(&memory, word(16).into()), "test.elf arg");
        assert_eq!(word(20), 2);
        let modules: Vec<_> = (0..2)
            .map(|n| {
                let at = u64::from(word(24)) + 16 * n;
                (
                    u32_at(&memory, at),
                    u32_at(&memory, at + 4),
                    line_at(&memory, u32_at(&memory, at + 8).into()),
                )
            })
            .collect();
        let first = (0x10_1000, 0x10_1000 + 5000, "first".to_owned());
        assert_eq!(modules, [first, (0x10_3000, 0x10_300a, String::new())]);
        assert_eq!(bytes_at(&memory, 0x10_3000, 10), [2; 10]);
        assert_eq!(word(44), 3 * 24, "mmap_length");
        let map = u64::from(word(48));
        assert_eq!((u32_at(&memory, map), u32_at(&memory, map + 20)), (20, 1));
        assert_eq!(u64_at(&memory, map + 4 + 8), 0xa_0000);
        assert_eq!(line_at(&memory, word(64).into()), "Worldswitch");
    }
}

#[test]
fn a_multiboot_kernel_may_lie_below_the_tables_it_is_given() {
    let content = samples::multiboot_header(3);
    for (at, fits) in [(0x8000, true), (0x400, false), (0xfff8, false)] {
        let image = samples::elf(false, at, &[segment(at, 16, &content)]);
        let loaded = load(&kernel(&image), &memory(), None);
        assert_eq!(loaded.is_ok(), fits, "{at:#x}: {loaded:?}");
    }
}

#[test]
fn a_multiboot_image_is_loaded_by_the_addresses_in_its_header() {
    let memory = memory();
    memory.write(0x10_0000, &[0xff; 64]).unwrap();
    let image = samples::multiboot_flat();
    let loaded = run(&kernel(&image), &memory);
    assert_eq!((loaded.what, loaded.state.rip), ("Multiboot 1 image", 0x10_0024));
    assert_eq!(bytes_at(&memory, 0x10_0000, 40), image[..40]);
    assert_eq!(
        bytes_at(&memory, 0x10_0028, 24),
        [vec![0; 16], vec![0xff; 8]].concat()
    );
}

#[test]
fn an_elf_with_both_headers_is_a_multiboot_kernel() {
    let mut content = samples::multiboot_header(0);
    content.extend([0xf4; 4]);
    let parts = [segment(0x10_0000, 16, &content), samples::pvh_note(0x10_000c)];
    let loaded = run(&kernel(&samples::elf(true, 0x10_000c, &parts)), &memory());
    assert_eq!(loaded.what, "Multiboot 1 ELF");
}

#[test]
fn a_virtual_entry_point_is_translated_by_its_segment() {
    let mut part = segment(0x10_0000, 16, &samples::multiboot_header(0));
    part.vaddr = 0xc010_0000;
    let loaded = run(&kernel(&samples::elf(false, 0xc010_0004, &[part])), &memory());
    assert_eq!(loaded.state.rip, 0x10_0004);
}

#[test]
fn a_flat_image_runs_at_7c00_as_from_the_first_disk() {
    let memory = memory();
    let content: Vec<u8> = (0..0xa_0000 - 0x7c00).map(|n| n as u8).collect();
    let loaded = run(&Boot::Image(file(&content)), &memory);
    assert_eq!(loaded.what, "flat image");
    assert_eq!(
        (loaded.state.rip, loaded.state.gprs[2], loaded.state.gprs[4]),
        (0x7c00, 0x80, 0x7c00)
    );
    assert_eq!(bytes_at(&memory, 0x7c00, content.len()), content);
}

#[test]
fn loading_again_gives_the_same() {
    let boot = with(kernel(&samples::bzimage()), "a", Some(&[9; 100]), &[]);
    let (first, second) = (memory(), memory());
    let a = run(&boot, &first);
    let b = run(&boot, &second);
    assert_eq!(a.state, b.state);
    assert_eq!(bytes_at(&first, 0, 0xa_0000), bytes_at(&second, 0, 0xa_0000));
}
