//! Every refusal's words, and damaged images.

use super::samples::{self, file, kernel, put, segment};
use super::tests::{RSDP, bytes_at, memory, with};
use super::{Boot, BootError, load};
use crate::engine::state::CS;
use proptest::prelude::*;

fn refusal(boot: &Boot) -> String {
    load(boot, &memory(), Some(RSDP)).unwrap_err().to_string()
}

/// Damage to a sample and the words it must lead to.
type Refusal = (Vec<u8>, &'static [(usize, &'static [u8])], &'static str);

/// Each sample, damaged so, is refused with these words.
fn refused(table: Vec<Refusal>) {
    for (mut image, damage, words) in table {
        for (at, bytes) in damage {
            put(&mut image, *at, bytes);
        }
        let said = refusal(&kernel(&image));
        assert!(
            said.contains(words),
            "{damage:x?}: wanted {words:?}, got {said:?}"
        );
    }
}

#[test]
fn a_damaged_bzimage_is_refused_in_its_own_words() {
    let bz = samples::bzimage;
    refused(vec![
        (bz(), &[(0x211, &[0])], "below 1 MiB"),
        (bz(), &[(0x201, &[0x20])], "setup header is too short"),
        (
            bz(),
            &[(0x1f1, &[9])],
            "protected-mode kernel ends at byte 9216, the file has 6656 (2560 missing)",
        ),
        (
            bz(),
            &[(0x1f4, &[0, 2])],
            "protected-mode kernel ends at byte 10752, the file has 6656 (4096 missing)",
        ),
        (
            bz(),
            &[(0x260, &[0, 0, 0, 8])],
            "the kernel needs guest memory up to 0x8200000, the machine has 32M: raise [machine] memory by 98M, to at least 130M",
        ),
        (
            bz(),
            &[(0x25c, &[1])],
            "the kernel wants 0x100200000..0x100300000, which is never RAM here",
        ),
        (bz(), &[(0x258, &[0xff; 8])], "never RAM"),
    ]);
}

#[test]
fn a_damaged_image_for_real_mode_is_refused_in_its_own_words() {
    let lkrn = samples::lkrn;
    refused(vec![
        (
            lkrn(),
            &[(0x206, &[0x01, 2])],
            "boot protocol 2.01, 2.02 or later is needed (Linux 2.4, 2001)",
        ),
        (lkrn(), &[(0x201, &[0x39])], "setup header is too short"),
        (lkrn(), &[(0x206, &[0x0b, 2])], "setup header is too short"),
        (
            lkrn(),
            &[(0x1f1, &[11])],
            "real-mode setup code ends at byte 6144, the file has 5632 (512 missing)",
        ),
        (
            lkrn(),
            &[(0x1f1, &[0xff])],
            "its real-mode setup code leaves no room for its stack in 64 KiB",
        ),
        (
            lkrn(),
            &[(0x1f4, &[0, 2])],
            "protected-mode kernel ends at byte 9728, the file has 5632 (4096 missing)",
        ),
    ]);
    let elf = kernel(&samples::pvh_elf());
    assert_eq!(
        refusal(&samples::in_real_mode(elf)),
        "only a Linux image has a real-mode entry, and the kernel is none: remove entry = \"real16\""
    );
    let mut huge = samples::bzimage();
    put(&mut huge, 0x236, &[0, 0]);
    put(&mut huge, 0x260, &0x0800_0000u32.to_le_bytes());
    assert!(refusal(&kernel(&huge)).contains("raise [machine] memory by 98M, to at least 130M"));
    put(&mut huge, 0x258, &[0xff; 8]);
    assert!(refusal(&kernel(&huge)).contains("never RAM"));
    let mut low = samples::lkrn();
    put(&mut low, 0x211, &[0]);
    put(&mut low, 0x1f4, &0u32.to_le_bytes());
    low.resize(3 * 512 + 0x8_0001, 0);
    assert_eq!(
        refusal(&kernel(&low)),
        "the kernel (0x10000..0x90001) overlaps the kernel's real-mode code (0x90000..0xa0000)"
    );
    let long = "x".repeat(300);
    let mut old = samples::lkrn();
    put(&mut old, 0x206, &[0x05, 2]);
    assert!(refusal(&with(kernel(&old), &long, None, &[])).contains("at most 255 fit"));
    let long = "x".repeat(2048);
    assert!(refusal(&with(kernel(&samples::lkrn()), &long, None, &[])).contains("at most 2047 fit"));
}

#[test]
fn a_damaged_elf_is_refused_in_its_own_words() {
    let pvh = samples::pvh_elf;
    refused(vec![
        (pvh(), &[(4, &[9])], "neither for i386 nor for x86-64"),
        (pvh(), &[(5, &[2])], "not little-endian"),
        (pvh(), &[(16, &[3])], "link it without -pie"),
        (pvh(), &[(54, &[55])], "program headers of an unknown size"),
        (pvh(), &[(56, &[65])], "more than 64 ELF program headers"),
        (pvh(), &[(32, &[0xff; 8])], "program header table ends at byte"),
        (pvh(), &[(64 + 8, &[0xff; 8])], "ELF segment ends at byte"),
        (pvh(), &[(64 + 32, &[0, 1])], "ELF segment ends at byte"),
        (
            pvh(),
            &[(64 + 32, &[0, 0, 1])],
            "larger in the file than in memory",
        ),
        (
            pvh(),
            &[(64 + 40, &[1, 0x20])],
            "program header 1 of the kernel (0x1002000..0x1002010) overlaps program header 0 of the kernel (0x1000000..0x1002001)",
        ),
        (
            pvh(),
            &[(64 + 40, &[0xff; 8])],
            "program header 0 of the kernel wants 0x1000000..0xffffffffffffffff",
        ),
        (
            pvh(),
            &[(64 + 56 + 24, &[0, 0, 0, 2])],
            "program header 1 of the kernel needs guest memory up to 0x2000010, the machine has 32M: raise [machine] memory by 1M, to at least 33M",
        ),
        (
            pvh(),
            &[(64 + 56 + 24, &[0, 0, 1, 0])],
            "program header 1 of the kernel (0x10000..0x10010) overlaps the boot tables",
        ),
        (
            pvh(),
            &[(64 + 56 + 24, &[0, 0, 0xe, 0])],
            "overlaps the ACPI tables",
        ),
        (pvh(), &[(64 + 56 + 24, &[0, 0, 0xa, 0])], "never RAM"),
        (
            pvh(),
            &[(64, &[6]), (64 + 56, &[6])],
            "PVH entry point lies in no loaded segment",
        ),
        (
            pvh(),
            &[(64 + 112, &[6])],
            "neither a Multiboot 1 header nor a PVH entry",
        ),
    ]);
}

#[test]
fn a_damaged_multiboot_kernel_is_refused_in_its_own_words() {
    let mb = || samples::multiboot_elf(false);
    let flat = samples::multiboot_flat;
    refused(vec![
        (mb(), &[(52, &[6])], "entry point lies in no loaded segment"),
        (
            mb(),
            &[(24, &[0x40, 0, 0x10])],
            "entry point lies in no loaded segment",
        ),
        (mb(), &[(0, &[0])], "must set flags bit 16"),
        (mb(), &[(88, &[0x0b]), (92, &[0xf3])], "requires features 0x0008"),
        (flat(), &[(16, &[5])], "lies before the start of the file"),
        (
            flat(),
            &[(24, &[0xff, 0xff])],
            "Multiboot load range ends at byte",
        ),
        (flat(), &[(24, &[1, 0, 0, 0])], "lies behind the load end"),
        (flat(), &[(28, &[1])], "bss ends before the load end"),
        (flat(), &[(32, &[28 + 12])], "entry point is not loaded"),
    ]);
}

#[test]
fn a_file_of_no_known_kind_is_refused() {
    refused(vec![
        (
            vec![1, 2, 3],
            &[],
            "none of: Linux bzImage, Multiboot 1 kernel, ELF with a PVH entry",
        ),
        (vec![], &[], "the kernel is malformed: it is empty"),
    ]);
}

#[test]
fn what_comes_with_a_kernel_is_refused_by_how_much_it_does_not_fit() {
    let bz =
        |line: &str, initrd: Option<&[u8]>| refusal(&with(kernel(&samples::bzimage()), line, initrd, &[]));
    let line = "x".repeat(300);
    assert_eq!(
        bz(&line, None),
        "the command line has 300 bytes, at most 255 fit: shorten it by 45"
    );
    let initrd = vec![0; 30 << 20];
    assert_eq!(
        bz("", Some(&initrd)),
        "the initrd needs guest memory up to 0x2100000, the machine has 32M: raise [machine] memory by 1M, to at least 33M"
    );
    let mut low = samples::bzimage();
    put(&mut low, 0x22c, &0x3f_ffffu32.to_le_bytes());
    assert_eq!(
        refusal(&with(kernel(&low), "", Some(&initrd[..2 << 20]), &[])),
        "the initrd of 2097152 bytes does not fit between 0x300000 and 0x400000: 1048576 bytes too large"
    );
    let modules: &[(&[u8], &str)] = &[(&[1], ""), (&[1], "")];
    assert!(
        refusal(&with(kernel(&samples::bzimage()), "", None, modules)).contains("takes no modules (2 given)")
    );
    let mb =
        |modules: &[(&[u8], &str)]| refusal(&with(kernel(&samples::multiboot_elf(false)), "", None, modules));
    assert_eq!(
        mb(&[(&[0; 10], ""), (&initrd, ""), (&initrd, "")]),
        "module 3 needs guest memory up to 0x3d02000, the machine has 32M: raise [machine] memory by 30M, to at least 62M"
    );
    assert_eq!(
        mb(&[(&[1u8] as &[u8], ""); 33]),
        "33 modules given, at most 32 fit: 1 too many"
    );
    assert_eq!(mb(&[(&[], "")]), "module 1 is malformed: it is empty");
    assert_eq!(
        refusal(&Boot::Image(file(&vec![0; 0xa_0000 - 0x7c00 + 3]))),
        "the image has 623619 bytes, at most 623616 fit between 7C00 and A0000: 3 too many"
    );
}

#[test]
fn a_refused_elf_leaves_guest_memory_untouched() {
    let memory = memory();
    let parts = [
        segment(0x10_0000, 16, &[1; 16]),
        segment(0x10_0008, 16, &[2; 16]),
        samples::pvh_note(0x10_0000),
    ];
    let error = load(&kernel(&samples::elf(true, 0x10_0000, &parts)), &memory, None).unwrap_err();
    assert!(matches!(error, BootError::Overlap { .. }));
    assert_eq!(bytes_at(&memory, 0x10_0000, 24), [0; 24]);
}

fn any_sample() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(samples::bzimage()),
        Just(samples::lkrn()),
        Just(samples::pvh_elf()),
        Just(samples::multiboot_elf(false)),
        Just(samples::multiboot_elf(true)),
        Just(samples::multiboot_flat()),
    ]
}

proptest! {
    /// Few bytes changed, mostly in headers, and the end cut: any result but a panic. What loads is entered in RAM.
    #[test]
    fn damaged_images_never_panic(
        mut image in any_sample(),
        damage in prop::collection::vec((0usize..0x280, prop_oneof![Just(0u8), Just(0x7f), Just(0xff), any::<u8>()]), 0..12),
        cut in prop_oneof![3 => Just(0usize), 1 => 0usize..0x1a00],
        initrd in 0usize..3,
        real16: bool,
    ) {
        for (at, byte) in damage {
            if let Some(slot) = image.get_mut(at) {
                *slot = byte;
            }
        }
        image.truncate(image.len().saturating_sub(cut));
        let memory = memory();
        let extra = vec![0xee; initrd * 4096];
        let boot = with(kernel(&image), "line", (initrd > 0).then_some(&extra), &[]);
        let boot = if real16 { samples::in_real_mode(boot) } else { boot };
        if let Ok(loaded) = load(&boot, &memory, Some(RSDP)) {
            let code = &loaded.state.segments.user[CS];
            prop_assert!(memory.is_ram(code.base + loaded.state.rip, 1));
        }
        prop_assert_eq!(bytes_at(&memory, RSDP, 64), [0; 64], "the ACPI area is not the loader's");
    }
}
