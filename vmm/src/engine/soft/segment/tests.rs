//! Written expectations: what each segment register accepts, by descriptor type and privilege.

use crate::engine::soft::fixture::*;
use crate::engine::state::{CS, DS, ES, FS, GS, SS};

type Seen = Option<(u8, Option<u32>)>;

/// (type with S set, DS takes it, SS takes it, conforming)
const TYPES: [(u32, bool, bool, bool); 16] = [
    (0x10, true, false, false),
    (0x11, true, false, false),
    (0x12, true, true, false),
    (0x13, true, true, false),
    (0x14, true, false, false),
    (0x15, true, false, false),
    (0x16, true, true, false),
    (0x17, true, true, false),
    (0x18, false, false, false),
    (0x19, false, false, false),
    (0x1a, true, false, false),
    (0x1b, true, false, false),
    (0x1c, false, false, true),
    (0x1d, false, false, true),
    (0x1e, true, false, true),
    (0x1f, true, false, true),
];

#[test]
fn loads_obey_type_cpl_rpl_and_dpl() {
    for (kind, data, stack, conforming) in TYPES {
        for cpl in [0u8, 3] {
            let mut cpu = protected(cpl);
            for rpl in 0..4u8 {
                for dpl in 0..4u8 {
                    for present in [true, false] {
                        let attributes = 0xc000 | kind | u32::from(dpl) << 5 | u32::from(present) << 7;
                        let privileged = conforming || (rpl <= dpl && cpl <= dpl);
                        let for_ds = judge(data && privileged, present, 11);
                        let for_ss = judge(stack && rpl == cpl && dpl == cpl, present, 12);
                        for (index, expected) in [(DS, for_ds), (GS, for_ds), (SS, for_ss)] {
                            set_gdt(&cpu, FREE, segment(0x12_3456, 0xf_fffe, attributes));
                            let before = cpu.segments[index];
                            let step = cpu.load_segment(index, FREE | u16::from(rpl));
                            let what = format!("{index}: type {kind:#x} CPL {cpl} RPL {rpl} DPL {dpl}");
                            assert_eq!(fault(&mut cpu, step), expected, "{what}");
                            let loaded = cpu.segments[index];
                            if expected.is_some() {
                                assert_eq!(loaded, before, "{what}");
                                continue;
                            }
                            assert_eq!((loaded.base, loaded.limit), (0x12_3456, 0xffff_efff), "{what}");
                            assert_eq!(loaded.attributes, attributes | 1, "{what}");
                            let access: u8 = get(&cpu, GDT + u64::from(FREE) + 5);
                            assert_eq!(access & 1, 1, "{what}: accessed");
                        }
                        enter(&mut cpu, cpl);
                    }
                }
            }
        }
    }
}

fn judge(allowed: bool, present: bool, absent: u8) -> Seen {
    match (allowed, present) {
        (false, _) => Some((13, Some(FREE.into()))),
        (true, false) => Some((absent, Some(FREE.into()))),
        (true, true) => None,
    }
}

#[test]
fn system_descriptors_are_never_loaded() {
    let mut cpu = protected(0);
    for kind in 0..16u32 {
        set_gdt(&cpu, FREE, segment(0, 0xffff, 0x80 | kind));
        for index in [ES, SS, FS] {
            let step = cpu.load_segment(index, FREE);
            assert_eq!(
                fault(&mut cpu, step),
                Some((13, Some(FREE.into()))),
                "type {kind}"
            );
        }
    }
}

#[test]
fn selectors_reach_exactly_to_the_limits_of_their_tables() {
    let mut cpu = protected(0);
    cpu.ldtr = super::SegmentRegister {
        selector: LDT_SLOT,
        base: LDT,
        limit: 0x16,
        attributes: 0x82,
    };
    for slot in 0..4 {
        put(&cpu, LDT + 8 * slot, segment(0, 0xf_ffff, FLAT_DATA));
    }
    for (selector, expected) in [
        (0x04, None),
        (0x0c, None),
        // Its last byte lies beyond the limit.
        (0x14, Some((13, Some(0x14)))),
        (0xfffc, Some((13, Some(0xfffc)))),
        (0x80, Some((13, Some(0x80)))),
    ] {
        let step = cpu.load_segment(DS, selector);
        assert_eq!(fault(&mut cpu, step), expected, "{selector:#x}");
    }
    cpu.ldtr.attributes |= super::UNUSABLE;
    let step = cpu.load_segment(DS, 4);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(4))));
}

#[test]
fn null_selectors_load_where_the_mode_lets_them() {
    let gp0 = Some((13, Some(0)));
    for rpl in 0..4u16 {
        for (make, cpl) in [
            (protected as fn(u8) -> _, 0),
            (protected, 3),
            (long, 0),
            (long, 3),
        ] {
            let mut cpu: crate::engine::soft::cpu::Cpu = make(cpl);
            for index in [ES, DS, FS, GS] {
                cpu.load_segment(index, rpl).unwrap();
                assert!(cpu.segments[index].unusable());
            }
            let long_kernel = cpu.mode.contains(super::Mode::CODE64) && cpl == 0 && rpl == 0;
            let step = cpu.load_segment(SS, rpl);
            assert_eq!(fault(&mut cpu, step), if long_kernel { None } else { gp0 });
            assert_eq!(cpu.cpl, cpl);
        }
    }
}

#[test]
fn amd_keeps_the_base_under_a_null_selector() {
    let mut cpu = long(0);
    cpu.segments[FS].base = 0x1234_5678_9abc;
    cpu.load_segment(FS, 0).unwrap();
    assert_eq!(cpu.segments[FS].base, 0x1234_5678_9abc);
    cpu.null_clears_base = true;
    cpu.load_segment(FS, 0).unwrap();
    assert_eq!(cpu.segments[FS].base, 0);
}

#[test]
fn a_null_segment_faults_when_used_outside_64_bit_code() {
    let mut cpu = protected(0);
    cpu.load_segment(DS, 0).unwrap();
    let step = cpu.segmented(DS as u8, 0, 1, false);
    assert_eq!(fault(&mut cpu, step), Some((13, Some(0))));
    let mut cpu = long(0);
    cpu.load_segment(DS, 0).unwrap();
    assert_eq!(cpu.segmented(DS as u8, 5, 1, true), Ok(5));
}

#[test]
fn limits_hold_for_both_directions() {
    // (attributes, raw limit, offset, bytes, write, fault)
    let gp0 = Some((13, Some(0)));
    let table: &[(u32, u32, u64, u32, bool, Seen)] = &[
        (0x4093, 0xfff, 0xffc, 4, true, None),
        (0x4093, 0xfff, 0xffd, 4, true, gp0),
        (0x4093, 0xfff, 0xffff_ffff, 4, true, gp0),
        (0xc093, 0xf_ffff, 0xffff_fffc, 4, true, None),
        (0xc093, 0xf_ffff, 0xffff_fffd, 4, true, gp0),
        // Expand-down: above the limit, up to the top that B gives.
        (0x4097, 0xfff, 0x1000, 4, true, None),
        (0x4097, 0xfff, 0xfff, 4, true, gp0),
        (0x4097, 0xfff, 0x1_0000, 4, true, None),
        (0x0097, 0xfff, 0xfffc, 4, true, None),
        (0x0097, 0xfff, 0xfffd, 4, true, gp0),
        (0x4091, 0xfff, 0, 4, true, gp0),
        (0x4091, 0xfff, 0, 4, false, None),
        (0x409b, 0xfff, 0, 4, true, gp0),
        (0x409b, 0xfff, 0, 4, false, None),
    ];
    for (i, &(attributes, limit, offset, bytes, write, expected)) in table.iter().enumerate() {
        let mut cpu = protected(0);
        set_gdt(&cpu, FREE, segment(0, limit, attributes));
        cpu.load_segment(DS, FREE).unwrap();
        let step = cpu.segmented(DS as u8, offset, bytes, write);
        assert_eq!(fault(&mut cpu, step), expected, "row {i}");
    }
    let mut cpu = protected(0);
    cpu.segments[SS].limit = 0xfff;
    let step = cpu.segmented(SS as u8, 0x1000, 1, false);
    assert_eq!(fault(&mut cpu, step), Some((12, Some(0))));
}

#[test]
fn real_mode_keeps_limits_and_virtual_8086_mode_sets_them() {
    let mut cpu = real();
    cpu.segments[ES].limit = u32::MAX;
    cpu.load_segment(ES, 0xabcd).unwrap();
    assert_eq!(
        (cpu.segments[ES].base, cpu.segments[ES].limit),
        (0xa_bcd0, u32::MAX)
    );
    let mut cpu = v86(0);
    cpu.segments[ES].limit = u32::MAX;
    cpu.load_segment(ES, 0xabcd).unwrap();
    assert_eq!(
        (cpu.segments[ES].base, cpu.segments[ES].limit),
        (0xa_bcd0, 0xffff)
    );
    assert_eq!(cpu.segments[CS].attributes, 0xf3);
}
