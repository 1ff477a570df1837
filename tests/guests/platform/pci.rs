//! PCI configuration mechanism 1 (PCI Local Bus Specification 3.0, section 3.2.2.3).

use rt::io::{inb, inl, inw, outl};
use rt::{check, check::equal};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

fn read(device: u32, register: u32) -> u32 {
    outl(ADDRESS, ENABLE | device << 11 | register);
    inl(DATA)
}

pub fn run() {
    outl(ADDRESS, ENABLE | 0x1234 << 8 | 0x10);
    equal(
        "pci: the address register reads back",
        inl(ADDRESS).into(),
        (ENABLE | 0x1234 << 8 | 0x10).into(),
    );
    check!(
        "pci: there is a host bridge at 00.0",
        read(0, 0) != u32::MAX && read(0, 8) >> 16 == 0x0600
    );
    check!(
        "pci: there is an ISA bridge at 01.0",
        read(1, 0) != u32::MAX && read(1, 8) >> 16 == 0x0601
    );
    equal(
        "pci: an absent device reads all ones",
        read(30, 0).into(),
        0xffff_ffff,
    );
    let id = read(0, 0);
    let bytes = [0, 1, 2, 3].map(|n| inb(DATA + n));
    check!("pci: bytes are parts of the register", bytes == id.to_le_bytes());
    equal("pci: words too", inw(DATA + 2).into(), (id >> 16).into());
    outl(ADDRESS, 0);
    equal(
        "pci: nothing answers while the enable bit is off",
        inl(DATA).into(),
        0xffff_ffff,
    );
}
