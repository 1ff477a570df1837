//! The register page: reset values, writable bits, widths, addresses (SDM volume 3, section 11.4).

use super::*;

/// Every register of the page, what it shows after reset, and what it shows after a write of all ones to an
/// APIC that is software enabled.
const PAGE: &[(u64, u32, u32)] = &[
    (0x020, 0x0000_0000, 0xff00_0000),
    (0x030, 0x0105_0014, 0x0105_0014),
    (0x080, 0x00, 0xff),
    (0x090, 0x00, 0x00),
    (0x0a0, 0x00, 0x00),
    (0x0b0, 0x00, 0x00),
    (0x0c0, 0x00, 0x00),
    (0x0d0, 0x0000_0000, 0xff00_0000),
    (0x0e0, 0xffff_ffff, 0xffff_ffff),
    (0x0f0, 0xff, 0x13ff),
    (0x100, 0, 0),
    (0x170, 0, 0),
    (0x180, 0, 0),
    (0x1f0, 0, 0),
    (0x200, 0, 0),
    (0x270, 0, 0),
    (0x280, 0, 0),
    (0x300, 0, 0x000c_cfff),
    (0x310, 0, 0xff00_0000),
    (0x320, 0x0001_0000, 0x0007_00ff),
    (0x330, 0x0001_0000, 0x0001_07ff),
    (0x340, 0x0001_0000, 0x0001_07ff),
    (0x350, 0x0001_0000, 0x0001_a7ff),
    (0x360, 0x0001_0000, 0x0001_a7ff),
    (0x370, 0x0001_0000, 0x0001_00ff),
    (0x380, 0, 0xffff_ffff),
    (0x390, 0, 0),
    (0x3e0, 0, 0xb),
];

#[test]
fn registers_show_their_reset_value_and_keep_their_writable_bits() {
    for &(offset, reset, written) in PAGE {
        assert_eq!(Bench::reset().read(offset), reset, "{offset:#x} after reset");
        let mut bench = Bench::enabled();
        bench.write(offset, u32::MAX);
        assert_eq!(bench.read(offset), written, "{offset:#x} after writing ones");
        bench.lapic.reset();
        assert_eq!(bench.read(offset), reset, "{offset:#x} after another reset");
    }
}

#[test]
fn an_address_without_register_is_an_apic_error() {
    for offset in [0x00, 0x10, 0x40, 0x2f0, 0x3a0, 0x3f0, 0x400, 0xff0] {
        let mut bench = Bench::enabled();
        assert_eq!(bench.read(offset), 0);
        bench.write(ESR, 0);
        assert_eq!(bench.read(ESR), 0x80, "read of {offset:#x}");
        bench.write(offset, 1);
        bench.write(ESR, 0);
        assert_eq!(bench.read(ESR), 0x80, "write of {offset:#x}");
    }
}

#[test]
fn narrow_reads_work_inside_the_register_and_nothing_else_does() {
    let mut bench = Bench::enabled();
    for (offset, width, value) in [
        (0x30, Width::Byte, Access::Done(0x14)),
        (0x32, Width::Byte, Access::Done(0x05)),
        (0x32, Width::Word, Access::Done(0x0105)),
        (0x33, Width::Word, Access::Bad),
        (0x31, Width::Dword, Access::Bad),
        (0x34, Width::Byte, Access::Bad),
        (0x30, Width::Qword, Access::Bad),
        (0x1020, Width::Dword, Access::Bad),
    ] {
        assert_eq!(
            bench.lapic.mmio_read(Ns(0), offset, width),
            value,
            "{offset:#x} {width:?}"
        );
    }
    for (offset, width) in [
        (0x80, Width::Byte),
        (0x80, Width::Word),
        (0x80, Width::Qword),
        (0x82, Width::Dword),
    ] {
        assert_eq!(bench.lapic.mmio_write(Ns(0), offset, width, 0x77), Access::Bad);
        assert_eq!(bench.read(TPR), 0, "{offset:#x} {width:?}");
    }
}

#[test]
fn the_vector_table_is_masked_while_software_has_it_off() {
    let mut bench = Bench::enabled();
    bench.write(LVT_TIMER, 0x40);
    bench.write(SVR, 0xff);
    assert_eq!(bench.read(LVT_TIMER), 0x1_0040, "masked by switching off");
    bench.write(LVT_TIMER, 0x41);
    assert_eq!(bench.read(LVT_TIMER), 0x1_0041, "and the mask cannot be cleared");
    bench.write(SVR, 0x1ff);
    assert_eq!(bench.read(LVT_TIMER), 0x1_0041, "nor does it go away by itself");
}
