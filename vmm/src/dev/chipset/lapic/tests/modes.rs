//! IA32_APIC_BASE and the x2APIC interface (SDM volume 3, sections 11.4.4 and 11.12).

use super::*;

const EN: u64 = 0x800;
const EXTD: u64 = 0x400;
const BSP: u64 = 0x100;

#[test]
fn modes_change_only_as_the_manual_draws_it() {
    const OFF: u64 = 0;
    const INVALID: u64 = EXTD;
    const XAPIC: u64 = EN;
    const X2APIC: u64 = EN | EXTD;
    // How to get into the first mode from reset, and then which mode can be written.
    type Path = &'static [u64];
    type Changes = &'static [(u64, bool)];
    let paths: &[(Path, Changes)] = &[
        (
            &[OFF],
            &[(OFF, true), (INVALID, false), (XAPIC, true), (X2APIC, false)],
        ),
        (
            &[XAPIC],
            &[(OFF, true), (INVALID, false), (XAPIC, true), (X2APIC, true)],
        ),
        (
            &[X2APIC],
            &[(OFF, true), (INVALID, false), (XAPIC, false), (X2APIC, true)],
        ),
        (
            &[X2APIC, OFF, XAPIC],
            &[(OFF, true), (INVALID, false), (XAPIC, true), (X2APIC, true)],
        ),
    ];
    for (path, changes) in paths {
        for &(to, legal) in *changes {
            let mut bench = Bench::reset();
            for step in *path {
                bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | BSP | step).unwrap();
            }
            let before = bench.msr_read(MSR_APIC_BASE);
            let done = bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | BSP | to);
            assert_eq!(done.is_ok(), legal, "{path:x?} to {to:#x}");
            let expected = if legal {
                Ok(DEFAULT_BASE | BSP | to)
            } else {
                before
            };
            assert_eq!(bench.msr_read(MSR_APIC_BASE), expected);
        }
    }
}

#[test]
fn reserved_bits_of_the_base_fault() {
    let mut bench = Bench::reset();
    assert_eq!(bench.msr_read(MSR_APIC_BASE), Ok(DEFAULT_BASE | EN | BSP));
    for bit in (0..8).chain([9]).chain(40..64) {
        let value = DEFAULT_BASE | EN | BSP | 1 << bit;
        assert_eq!(bench.msr_write(MSR_APIC_BASE, value), Err(MsrFault), "bit {bit}");
    }
    let high = 1 << 39 | EN | BSP;
    assert_eq!(bench.msr_write(MSR_APIC_BASE, high), Ok(()), "bit 39 of 40");
    assert_eq!(bench.lapic.base(), Some(1 << 39));
}

#[test]
fn the_page_is_there_in_xapic_mode_only() {
    let mut bench = Bench::reset();
    assert_eq!(bench.lapic.base(), Some(DEFAULT_BASE));
    bench.msr_write(MSR_APIC_BASE, 0xfed4_0000 | EN | BSP).unwrap();
    assert_eq!(bench.lapic.base(), Some(0xfed4_0000));
    for off in [EN | EXTD | BSP, BSP] {
        bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | off).unwrap();
        assert_eq!(bench.lapic.base(), None);
        assert_eq!(bench.lapic.mmio_read(Ns(0), VERSION, Width::Dword), Access::Bad);
        assert_eq!(bench.lapic.mmio_write(Ns(0), TPR, Width::Dword, 1), Access::Bad);
    }
}

#[test]
fn switching_off_forgets_everything_but_cr8() {
    let mut bench = Bench::enabled();
    bench.write(LVT_TIMER, 0x40);
    bench.write(INITIAL_COUNT, 1000);
    bench.lapic.accept(0x55, false);
    bench.lapic.set_cr8(3);
    bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | BSP).unwrap();
    assert!(!bench.lapic.enabled() && bench.lapic.lint0_extint());
    assert_eq!((bench.lapic.pending(), bench.lapic.deadline()), (None, None));
    assert_eq!(bench.lapic.cr8(), 3);
    bench.lapic.set_cr8(9);
    assert!(!bench.lapic.accept(0x55, false));
    bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | EN | BSP).unwrap();
    assert_eq!(bench.read(SVR), 0xff);
    assert_eq!(bench.read(LVT_TIMER), 0x1_0000);
    assert_eq!(bench.read(TPR), 0x90);
    assert!(!bench.shows(IRR, 0x55));
}

#[test]
fn x2apic_registers_fault_outside_x2apic_mode() {
    let mut bench = Bench::reset();
    for index in MSR_X2APIC_FIRST..=MSR_X2APIC_LAST {
        assert_eq!(bench.msr_read(index), Err(MsrFault), "{index:#x}");
        assert_eq!(bench.msr_write(index, 0), Err(MsrFault), "{index:#x}");
    }
    assert_eq!(bench.msr_read(0x10), Err(MsrFault), "not ours at all");
    assert_eq!(bench.msr_write(0x10, 0), Err(MsrFault));
}

/// Every x2APIC register: number, readable, bits that may be set in a write (`None`: read-only).
/// SDM section 11.12.1.2.
const X2APIC: &[(u32, bool, Option<u64>)] = &[
    (0x802, true, None),
    (0x803, true, None),
    (0x808, true, Some(0xff)),
    (0x80a, true, None),
    (0x80b, false, Some(0)),
    (0x80d, true, None),
    (0x80f, true, Some(0x13ff)),
    (0x828, true, Some(0)),
    (0x830, true, Some(0xffff_ffff_000c_dfff)),
    (0x832, true, Some(0x0007_10ff)),
    (0x833, true, Some(0x0001_17ff)),
    (0x834, true, Some(0x0001_17ff)),
    (0x835, true, Some(0x0001_f7ff)),
    (0x836, true, Some(0x0001_f7ff)),
    (0x837, true, Some(0x0001_10ff)),
    (0x838, true, Some(0xffff_ffff)),
    (0x839, true, None),
    (0x83e, true, Some(0xb)),
    (0x83f, false, Some(0xff)),
];

#[test]
fn x2apic_registers_take_what_the_manual_lists_and_fault_otherwise() {
    for index in MSR_X2APIC_FIRST..=MSR_X2APIC_LAST {
        let listed = X2APIC.iter().find(|row| row.0 == index);
        let (readable, writable) = match index {
            0x810..=0x827 => (true, None), // ISR, TMR, IRR
            _ => listed.map_or((false, None), |row| (row.1, row.2)),
        };
        let mut bench = Bench::x2apic();
        assert_eq!(bench.msr_read(index).is_ok(), readable, "read {index:#x}");
        assert_eq!(
            bench.msr_write(index, 0).is_ok(),
            writable.is_some(),
            "write {index:#x}"
        );
        for bit in 0..64 {
            let legal = writable.is_some_and(|mask| mask >> bit & 1 != 0);
            let mut bench = Bench::x2apic();
            assert_eq!(
                bench.msr_write(index, 1 << bit).is_ok(),
                legal,
                "{index:#x} bit {bit}"
            );
        }
    }
}

#[test]
fn x2apic_commands_are_64_bits_wide() {
    for (icr, reached) in [
        (0x0000_0000_0000_0041u64, true),
        (0x0000_0001_0000_0041, false),
        (0x0000_00ff_0000_0041, false), // id 255, not a broadcast here
        (0xffff_ffff_0000_0041, true),
        (0x0000_0001_0000_0841, true), // logical: cluster 0, bit 0
        (0x0000_0002_0000_0841, false),
        (0x0001_0001_0000_0841, false),
        (0xffff_ffff_0000_0841, true),
    ] {
        let mut bench = Bench::x2apic();
        bench.msr_write(0x830, icr).unwrap();
        assert_eq!(bench.lapic.acknowledge(), reached.then_some(0x41), "{icr:#018x}");
        assert_eq!(bench.msr_read(0x830), Ok(icr));
    }
    let mut bench = Bench::x2apic();
    bench.msr_write(0x83f, 0x66).unwrap();
    assert_eq!(bench.lapic.acknowledge(), Some(0x66), "self IPI");
    assert!(
        bench.lapic.is_for(Destination::of_byte(false, 0xff)),
        "an I/O APIC's broadcast"
    );
}

#[test]
fn x2apic_mode_keeps_state_and_has_its_own_id_and_ldr() {
    let mut bench = Bench::enabled();
    bench.write(ID, 0x0700_0000);
    bench.write(LDR, 0x8000_0000);
    bench.write(ICR_HIGH, 0x0300_0000);
    bench.lapic.accept(0x55, false);
    bench
        .msr_write(MSR_APIC_BASE, DEFAULT_BASE | EN | EXTD | BSP)
        .unwrap();
    assert_eq!(bench.msr_read(0x802), Ok(0));
    assert_eq!(bench.msr_read(0x80d), Ok(1));
    assert_eq!(bench.msr_read(0x830), Ok(0));
    assert_eq!(bench.msr_read(0x80f), Ok(0x1ff));
    assert_eq!(bench.lapic.acknowledge(), Some(0x55));
    assert_eq!(bench.msr_read(0x812), Ok(1 << 0x15), "ISR of vectors 40h to 5Fh");
    bench.msr_write(0x80b, 0).unwrap();
    assert_eq!(bench.msr_read(0x812), Ok(0));
}
