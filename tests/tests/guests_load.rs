//! The guests of this tree are what the boot loaders take them for.

use shared::spec::KernelEntry;
use std::fs::File;
use std::path::Path;
use vmm::boot::{Boot, load};
use vmm::mem::GuestMemory;

fn open(name: &str) -> File {
    let path = Path::new(env!("GUESTS_DIR")).join(name);
    File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_guest_is_recognised_and_fits_the_least_sensible_machine() {
    let kernels = [
        ("hello.elf", "Multiboot 1 ELF"),
        ("hello-pvh.elf", "PVH ELF"),
        ("hello.bzimage", "bzImage 64-bit"),
        ("platform.elf", "Multiboot 1 ELF"),
        ("reset.elf", "Multiboot 1 ELF"),
    ];
    let memory = GuestMemory::new(4 << 20).unwrap();
    for (name, what) in kernels {
        let boot = Boot::Kernel {
            kernel: open(name),
            cmdline: String::new(),
            initrd: None,
            modules: Vec::new(),
            entry: KernelEntry::Auto,
        };
        let loaded = load(&boot, &memory, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(loaded.what, what, "{name}");
    }
    for name in ["realmode.bin", "protected.bin"] {
        let loaded = load(&Boot::Image(open(name)), &memory, None).unwrap();
        assert_eq!(loaded.what, "flat image", "{name}");
    }
}
