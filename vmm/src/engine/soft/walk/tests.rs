//! Written expectations: every cause of a page fault and its error code, in every kind of paging.

use super::Right::{Execute, Read, Write};
use super::*;
use crate::engine::soft::fixture::{PML4, fault, get, long, protected, put};

const PDPT: u64 = PML4 + 0x1000;
const PD: u64 = PML4 + 0x2000;
const PT: u64 = PML4 + 0x3000;
/// The linear page under test, and where it is mapped.
const LINEAR: u64 = 0x4000_0000;
const PAGE: u64 = 0x20_0000;
const NXE: u64 = EFER_NXE;
const AC: u64 = crate::engine::soft::flags::AC;

/// 4-level paging with one 4 KiB page whose four entries have these bits.
fn four_levels(entries: [u64; 4]) -> Cpu {
    let cpu = long(0);
    put(&cpu, PML4, PDPT | entries[0]);
    put(&cpu, PDPT + 8, PD | entries[1]);
    put(&cpu, PD, PT | entries[2]);
    put(&cpu, PT, PAGE | entries[3]);
    cpu
}

fn entries(cpu: &Cpu) -> [u64; 4] {
    [PML4, PDPT + 8, PD, PT].map(|at| get::<u64>(cpu, at) & 0xfff)
}

/// A setting: rights in the page's last entry, control bits, the access, and the error code.
struct Row {
    leaf: u64,
    wp: bool,
    cr4: u64,
    efer: u64,
    ac: bool,
    right: Right,
    user: bool,
    code: Option<u32>,
}

fn row(leaf: u64, right: Right, user: bool, code: Option<u32>) -> Row {
    Row {
        leaf,
        wp: false,
        cr4: 0,
        efer: 0,
        ac: false,
        right,
        user,
        code,
    }
}

fn rights() -> Vec<Row> {
    vec![
        // User accesses.
        row(P | US, Read, true, None),
        row(P | US | RW, Write, true, None),
        row(P | US, Write, true, Some(7)),
        row(P | RW, Read, true, Some(5)),
        row(P | RW, Write, true, Some(7)),
        row(0, Read, true, Some(4)),
        row(0, Write, true, Some(6)),
        row(P | RW, Execute, true, Some(5)),
        // Supervisor accesses and CR0.WP.
        row(P, Read, false, None),
        row(P, Write, false, None),
        row(0, Write, false, Some(2)),
        Row {
            wp: true,
            ..row(P, Write, false, Some(3))
        },
        Row {
            wp: true,
            ..row(P | US, Write, false, Some(3))
        },
        Row {
            wp: true,
            ..row(P | RW, Write, false, None)
        },
        // No-execute, and the I bit that comes with it.
        Row {
            efer: NXE,
            ..row(P | NX, Execute, false, Some(0x11))
        },
        Row {
            efer: NXE,
            ..row(P | US | NX, Execute, true, Some(0x15))
        },
        Row {
            efer: NXE,
            ..row(P | NX, Read, false, None)
        },
        Row {
            efer: NXE,
            ..row(0, Execute, true, Some(0x14))
        },
        row(P | NX, Read, false, Some(9)),
        row(P | US | NX, Write, true, Some(0xf)),
        // SMEP.
        Row {
            cr4: CR4_SMEP,
            ..row(P | US, Execute, false, Some(0x11))
        },
        Row {
            cr4: CR4_SMEP,
            ..row(P | US, Execute, true, None)
        },
        Row {
            cr4: CR4_SMEP,
            ..row(P, Execute, false, None)
        },
        Row {
            cr4: CR4_SMEP,
            ..row(P | US, Read, false, None)
        },
        // SMAP and its override.
        Row {
            cr4: CR4_SMAP,
            ..row(P | US | RW, Read, false, Some(1))
        },
        Row {
            cr4: CR4_SMAP,
            ..row(P | US | RW, Write, false, Some(3))
        },
        Row {
            cr4: CR4_SMAP,
            ac: true,
            ..row(P | US | RW, Write, false, None)
        },
        Row {
            cr4: CR4_SMAP,
            ..row(P | US, Execute, false, None)
        },
        Row {
            cr4: CR4_SMAP,
            ..row(P | US, Read, true, None)
        },
        // Reserved: an address bit that does not exist.
        row(P | RW | US | 1 << 51, Read, false, Some(9)),
        row(P | RW | US | 1 << 51, Write, true, Some(0xf)),
        row(1 << 51, Read, false, Some(0)),
    ]
}

#[test]
fn rights_and_error_codes_follow_the_manual() {
    for (i, row) in rights().into_iter().enumerate() {
        let mut cpu = four_levels([P | RW | US, P | RW | US, P | RW | US, row.leaf]);
        cpu.cr4 |= row.cr4;
        cpu.efer |= row.efer;
        cpu.cr0 |= if row.wp { CR0_WP } else { 0 };
        cpu.flags.others |= if row.ac { AC } else { 0 };
        let step = cpu.walk(LINEAR + 0x123, row.right, row.user);
        let phys = step.as_ref().ok().map(|walked| walked.phys);
        let seen = fault(&mut cpu, step);
        assert_eq!(seen, row.code.map(|code| (14, Some(code))), "row {i}");
        let leaf = entries(&cpu)[3];
        if row.code.is_none() {
            assert_eq!(phys, Some(PAGE + 0x123), "row {i}");
            assert_eq!(leaf & A, A, "row {i}: accessed");
            assert_eq!(leaf & D != 0, row.right == Write, "row {i}: dirty");
        } else {
            assert_eq!(leaf, row.leaf & 0xfff, "row {i}: marks after a fault");
        }
    }
}

#[test]
fn an_implicit_access_has_no_smap_override() {
    let mut cpu = four_levels([P | RW | US; 4]);
    cpu.cr4 |= CR4_SMAP;
    cpu.flags.others |= AC;
    cpu.update_mode();
    assert!(cpu.load::<u64>(LINEAR).is_ok());
    let step = cpu.load_system::<u64>(LINEAR);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(1))));
}

#[test]
fn rights_are_those_of_all_levels_together() {
    for level in 0..4 {
        for (missing, right, user, code) in [(P, Read, false, 0), (RW, Write, true, 7), (US, Read, true, 5)] {
            let mut bits = [P | RW | US; 4];
            bits[level] &= !missing;
            let mut cpu = four_levels(bits);
            let step = cpu.walk(LINEAR, right, user);
            assert_eq!(fault(&mut cpu, step), Some((14, Some(code))), "level {level}");
        }
    }
    let mut cpu = four_levels([P | RW | US | PS, P | RW | US, P | RW | US, P]);
    let step = cpu.walk(LINEAR, Read, false);
    assert_eq!(
        fault(&mut cpu, step),
        Some((14, Some(9))),
        "PS in the PML4 is reserved"
    );
}

#[test]
fn large_pages_translate_by_their_size_and_keep_reserved_bits_clear() {
    // (PDPTE, PDE, linear, physical or error code)
    let cases = [
        (PS | 0x4000_0000, 0, LINEAR + 0x1234_5678, Ok(0x5234_5678)),
        (PS | 0x4020_0000, 0, LINEAR, Err(0xd)),
        (PD, PS | 0x20_0000, LINEAR + 0x1_2345, Ok(0x21_2345)),
        (PD, PS | 0x20_2000, LINEAR, Err(0xd)),
        (PD, PS | PAT_LARGE | 0x20_0000, LINEAR, Ok(0x20_0000)),
    ];
    for (i, (pdpte, pde, linear, expected)) in cases.into_iter().enumerate() {
        let mut cpu = four_levels([P | RW | US, 0, 0, 0]);
        put(&cpu, PDPT + 8, pdpte | P | RW | US);
        put(&cpu, PD, pde | P | RW | US);
        let step = cpu.walk(linear, Read, true);
        match expected {
            Ok(phys) => {
                let walked = step.unwrap();
                assert_eq!((walked.phys, walked.large), (phys, true), "row {i}");
            }
            Err(code) => assert_eq!(fault(&mut cpu, step), Some((14, Some(code))), "row {i}"),
        }
    }
}

#[test]
fn pae_paging_uses_the_loaded_pointer_registers() {
    let mut cpu = protected(0);
    put(&cpu, PML4 + 8, PD | P);
    put(&cpu, PD, PT | P | RW | US);
    put(&cpu, PT, PAGE | P | RW | US);
    cpu.cr4 |= CR4_PAE;
    cpu.write_control(3, PML4).unwrap();
    cpu.write_control(0, cpu.cr0 | 1 << 31).unwrap();
    assert_eq!(cpu.walk(LINEAR + 5, Read, true).unwrap().phys, PAGE + 5);
    // A change in memory counts only from the next load of CR3.
    put(&cpu, PML4 + 8, 0u64);
    assert!(cpu.walk(LINEAR, Read, true).is_ok());
    cpu.write_control(3, PML4).unwrap();
    let step = cpu.walk(LINEAR, Read, true);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(4))));
    put(&cpu, PML4 + 8, PD | P | RW);
    let step = cpu.write_control(3, PML4);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0))), "reserved in a PDPTE");
}

#[test]
fn narrow_paging_has_4_kib_and_4_mib_pages() {
    let mut cpu = protected(0);
    put(&cpu, PML4 + 0x400, PT as u32 | 7);
    put(&cpu, PML4 + 0x404, 0x40_0087u32);
    put(&cpu, PML4 + 0x408, 0x40_0087u32 | 1 << 21);
    put(&cpu, PML4 + 0x40c, 0x1_2087u32);
    put(&cpu, PT, PAGE as u32 | 5);
    cpu.write_control(3, PML4).unwrap();
    cpu.write_control(4, cpu.cr4 | CR4_PSE).unwrap();
    cpu.write_control(0, cpu.cr0 | 1 << 31).unwrap();
    assert_eq!(cpu.walk(LINEAR + 7, Read, true).unwrap().phys, PAGE + 7);
    let step = cpu.walk(LINEAR, Write, true);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(7))));
    assert_eq!(cpu.walk(LINEAR + 0x40_0009, Write, true).unwrap().phys, 0x40_0009);
    let step = cpu.walk(LINEAR + 0x80_0000, Read, false);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(9))), "bit 21 is reserved");
    // PSE-36: bits 13 and up are address bits 32 and up.
    assert_eq!(
        cpu.walk(LINEAR + 0xc0_0000, Read, false).unwrap().phys,
        0x9_0000_0000
    );
    cpu.write_control(4, cpu.cr4 & !CR4_PSE).unwrap();
    // Now the same entry leads to a page table, at 0x12000, which is empty.
    let step = cpu.walk(LINEAR + 0xc0_0000, Read, false);
    assert_eq!(fault(&mut cpu, step), Some((14, Some(0))));
}

#[test]
fn closed_address_line_20_folds_every_translation() {
    let mut cpu = protected(0);
    cpu.a20 = false;
    assert_eq!(cpu.walk(0x10_0123, Read, false).unwrap().phys, 0x123);
    let mut cpu = four_levels([P | RW | US, P | RW | US, P | RW | US, P | RW | US]);
    put(&cpu, PT, 0x10_0000 | P);
    cpu.a20 = false;
    assert_eq!(cpu.walk(LINEAR, Read, false).unwrap().phys, 0);
}

#[test]
fn a_page_is_global_only_with_globals_on() {
    let mut cpu = four_levels([P, P, P, P | G]);
    assert!(!cpu.walk(LINEAR, Read, false).unwrap().global);
    cpu.cr4 |= CR4_PGE;
    assert!(cpu.walk(LINEAR, Read, false).unwrap().global);
}
