//! What keeps an instruction from running, and what it leaves untouched then.

use super::machine::{BUFFER, RAM, compiled_for, decode, faulted, long_mode, protected_mode, put, run, take};
use super::operands::{Random, state};
use crate::engine::Exit;
use crate::engine::interp::compile::undefined;
use crate::engine::soft::cpu::{Cpu, Leave, vector};
use crate::engine::soft::xstate::FSW_ES;

const MP: u64 = 1 << 1;
const EM: u64 = 1 << 2;
const TS: u64 = 1 << 3;
const OSFXSR: u64 = 1 << 9;
const OSXMMEXCPT: u64 = 1 << 10;
const OSXSAVE: u64 = 1 << 18;

const ADDPS: &[u8] = &[0x0f, 0x58, 0xc1];
const MOVAPS: &[u8] = &[0x0f, 0x28, 0xc1];
const PADDB_MM: &[u8] = &[0x0f, 0xfc, 0xc1];
const MOVQ2DQ: &[u8] = &[0xf3, 0x0f, 0xd6, 0xc1];
const FLD1: &[u8] = &[0xd9, 0xe8];
const WAIT: &[u8] = &[0x9b];
const FXSAVE: &[u8] = &[0x0f, 0xae, 0x03];
const XSAVE: &[u8] = &[0x0f, 0xae, 0x23];
const LDMXCSR: &[u8] = &[0x0f, 0xae, 0x13];
const FNSTSW: &[u8] = &[0xdf, 0xe0];
const EMMS: &[u8] = &[0x0f, 0x77];
const MASKMOVDQU: &[u8] = &[0x66, 0x0f, 0xf7, 0xc1];

fn machine(cr0: u64, cr4_without: u64) -> Cpu {
    let mut cpu = long_mode();
    cpu.cr0 = cpu.cr0 & !MP | cr0;
    cpu.cr4 &= !cr4_without;
    cpu.update_mode();
    let mut random = Random::new(7);
    put(&mut cpu, &state(&mut random, true));
    cpu.xstate.legacy.fsw &= !0x80ff;
    cpu.regs
        .set_all(&[3, 0, 0, BUFFER & !63, 0, 0, 0, BUFFER, 0, 0, 0, 0, 0, 0, 0, 0]);
    cpu
}

#[test]
fn control_registers_forbid_as_the_manuals_tables_say() {
    use vector::{NM, UD};
    // CR0 bits set, CR4 bits clear, instruction, vector.
    let table: &[(u64, u64, &[u8], Option<u8>)] = &[
        (0, 0, ADDPS, None),
        (TS, 0, ADDPS, Some(NM)),
        (EM, 0, ADDPS, Some(UD)),
        (0, OSFXSR, ADDPS, Some(UD)),
        (TS, OSFXSR, ADDPS, Some(UD)),
        (TS, 0, MOVAPS, Some(NM)),
        (0, OSFXSR, MOVAPS, Some(UD)),
        (0, OSFXSR, PADDB_MM, None),
        (TS, 0, PADDB_MM, Some(NM)),
        (EM, 0, PADDB_MM, Some(UD)),
        (0, OSFXSR, MOVQ2DQ, Some(UD)),
        (0, OSFXSR, FLD1, None),
        (TS, 0, FLD1, Some(NM)),
        (EM, 0, FLD1, Some(NM)),
        (EM, 0, FNSTSW, Some(NM)),
        (TS, 0, WAIT, None),
        (MP, 0, WAIT, None),
        (TS | MP, 0, WAIT, Some(NM)),
        (EM, 0, WAIT, None),
        (TS, 0, FXSAVE, Some(NM)),
        (EM, 0, FXSAVE, Some(NM)),
        (0, OSFXSR, FXSAVE, None),
        (TS, 0, LDMXCSR, Some(NM)),
        (0, OSFXSR, LDMXCSR, Some(UD)),
        (0, OSXSAVE, XSAVE, Some(UD)),
        (TS, 0, XSAVE, Some(NM)),
        (EM, 0, XSAVE, None),
        (TS, 0, EMMS, Some(NM)),
        (EM, 0, EMMS, Some(UD)),
        (TS, 0, MASKMOVDQU, Some(NM)),
        (0, OSFXSR, MASKMOVDQU, Some(UD)),
    ];
    for (cr0, cr4, bytes, expected) in table {
        let mut cpu = machine(*cr0, *cr4);
        cpu.memory.write(BUFFER & !63, &[0; 576]).unwrap();
        let before = take(&cpu);
        assert_eq!(
            faulted(&mut cpu, bytes),
            *expected,
            "CR0 {cr0:#x}, CR4 without {cr4:#x}, {bytes:x?}"
        );
        if expected.is_some() {
            assert_eq!(take(&cpu), before, "{bytes:x?}");
        }
    }
}

#[test]
fn a_pending_x87_exception_is_taken_by_waiting_instructions_only() {
    let fnclex: &[u8] = &[0xdb, 0xe2];
    let fninit: &[u8] = &[0xdb, 0xe3];
    let fnstcw: &[u8] = &[0xd9, 0x3b];
    let fldcw: &[u8] = &[0xd9, 0x2b];
    let fnsave: &[u8] = &[0xdd, 0x33];
    let frstor: &[u8] = &[0xdd, 0x23];
    let table = [
        (FLD1, true),
        (WAIT, true),
        (PADDB_MM, true),
        (MOVQ2DQ, true),
        (EMMS, true),
        (fldcw, true),
        (frstor, true),
        (FNSTSW, false),
        (fnstcw, false),
        (fnclex, false),
        (fninit, false),
        (fnsave, false),
        (FXSAVE, false),
        (ADDPS, false),
    ];
    for (bytes, waits) in table {
        let mut cpu = machine(0, 0);
        // FLDZ; FLD1; FDIVRP with divide by zero unmasked.
        cpu.xstate.legacy.init_x87(true);
        cpu.xstate.legacy.fcw = 0x37b;
        for code in [&[0xd9, 0xee][..], &[0xd9, 0xe8], &[0xde, 0xf1]] {
            run(&mut cpu, code).unwrap();
        }
        assert_eq!(cpu.xstate.legacy.fsw & (FSW_ES | 4), FSW_ES | 4);
        // The operands are still there.
        assert_eq!(cpu.xstate.legacy.ftw.count_ones(), 2);
        let expected = waits.then_some(vector::MF);
        assert_eq!(faulted(&mut cpu, bytes), expected, "{bytes:x?}");
    }
}

#[test]
fn an_unmasked_simd_exception_is_undefined_to_a_system_that_does_not_know_it() {
    for (without, expected) in [(0, vector::XM), (OSXMMEXCPT, vector::UD)] {
        let mut cpu = machine(0, without);
        cpu.xstate.legacy.mxcsr = 0x1f80 & !(1 << 9);
        cpu.xstate.legacy.xmm[0] = 0x3f80_0000;
        cpu.xstate.legacy.xmm[1] = 0;
        let before = cpu.xstate.legacy.xmm;
        // DIVSS xmm0, xmm1
        assert_eq!(faulted(&mut cpu, &[0xf3, 0x0f, 0x5e, 0xc1]), Some(expected));
        assert_eq!(cpu.xstate.legacy.xmm, before);
        assert_eq!(cpu.xstate.legacy.mxcsr & 0x3f, 4);
    }
}

#[test]
fn sixteen_byte_operands_must_be_aligned_where_the_manual_says() {
    // With [rbx+1].
    let table: &[(&[u8], bool)] = &[
        (&[0x0f, 0x28, 0x43, 1], true),                 // MOVAPS
        (&[0x0f, 0x29, 0x43, 1], true),                 // MOVAPS, store
        (&[0x0f, 0x10, 0x43, 1], false),                // MOVUPS
        (&[0x0f, 0x11, 0x43, 1], false),                // MOVUPS, store
        (&[0x66, 0x0f, 0x6f, 0x43, 1], true),           // MOVDQA
        (&[0xf3, 0x0f, 0x6f, 0x43, 1], false),          // MOVDQU
        (&[0xf2, 0x0f, 0xf0, 0x43, 1], false),          // LDDQU
        (&[0x0f, 0x2b, 0x43, 1], true),                 // MOVNTPS
        (&[0x66, 0x0f, 0xfc, 0x43, 1], true),           // PADDB
        (&[0x0f, 0x58, 0x43, 1], true),                 // ADDPS
        (&[0xf3, 0x0f, 0x58, 0x43, 1], false),          // ADDSS
        (&[0x66, 0x0f, 0x3a, 0x63, 0x43, 1, 0], false), // PCMPISTRI
        (&[0x0f, 0xae, 0x43, 8], true),                 // FXSAVE
        (&[0x0f, 0xae, 0x63, 16], true),                // XSAVE
    ];
    for (bytes, aligned) in table {
        let mut cpu = machine(0, 0);
        assert_eq!(
            faulted(&mut cpu, bytes),
            aligned.then_some(vector::GP),
            "{bytes:x?}"
        );
    }
}

#[test]
fn hidden_features_and_wide_encodings_are_undefined() {
    let cpu = long_mode();
    let hidden: &[&[u8]] = &[
        &[0x66, 0x0f, 0x38, 0xdc, 0xc1],       // AESENC
        &[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0],    // PCLMULQDQ
        &[0x66, 0x0f, 0x79, 0xc1],             // EXTRQ (SSE4A)
        &[0x0f, 0x38, 0xc8, 0xc1],             // SHA1NEXTE
        &[0xc5, 0xf8, 0x58, 0xc1],             // VADDPS
        &[0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1], // VADDPS zmm
        &[0x0f, 0xae, 0x33],                   // XSAVEOPT
        &[0x0f, 0xc7, 0x23],                   // XSAVEC
        &[0x0f, 0x0f, 0xc1, 0x9e],             // PFADD
    ];
    let is_undefined =
        |op: crate::engine::interp::op::Op| std::ptr::fn_addr_eq(op.run, undefined as fn(&mut Cpu, &_) -> _);
    for bytes in hidden {
        let op = super::machine::compiled(&cpu, &decode(bytes, 64));
        assert!(is_undefined(op), "{bytes:x?}");
    }
    let mut model = (*cpu.model).clone();
    let pmulld = decode(&[0x66, 0x0f, 0x38, 0x40, 0xc1], 64);
    assert!(!is_undefined(compiled_for(&cpu, &pmulld, &model)));
    model.hide("SSE4_1");
    assert!(is_undefined(compiled_for(&cpu, &pmulld, &model)));
}

#[test]
fn memory_faults_and_devices_leave_the_state_alone_until_answered() {
    // FSTP m64, FLD m32, ADDPS, CVTSI2SD, PEXTRQ, MOVUPS store, MASKMOVDQU, FXSAVE, FNSAVE at [rbx] or [rdi].
    let table: &[&[u8]] = &[
        &[0xdd, 0x1b],
        &[0xd9, 0x03],
        &[0x0f, 0x58, 0x03],
        &[0xf2, 0x48, 0x0f, 0x2a, 0x03],
        &[0x66, 0x48, 0x0f, 0x3a, 0x16, 0x03, 1],
        &[0x0f, 0x11, 0x03],
        MASKMOVDQU,
        FXSAVE,
        &[0xdd, 0x33],
        &[0x0f, 0xae, 0x0b],
    ];
    for bytes in table {
        let mut cpu = machine(0, 0);
        cpu.xstate.legacy.xmm[1] = u128::MAX;
        let mut gprs = cpu.regs.all();
        // Not mapped: beyond the first GiB of the page tables.
        (gprs[3], gprs[7]) = (0x4000_0000_0000, 0x4000_0000_0000);
        cpu.regs.set_all(&gprs);
        let before = take(&cpu);
        assert_eq!(faulted(&mut cpu, bytes), Some(vector::PF), "{bytes:x?}");
        assert_eq!(take(&cpu), before, "{bytes:x?}");
        // A device: nothing changes until the last answer is there.
        (gprs[3], gprs[7]) = (RAM, RAM);
        cpu.regs.set_all(&gprs);
        let before = take(&cpu);
        let mut asked = 0;
        let result = loop {
            let result = run(&mut cpu, bytes);
            if result != Err(Leave::Exit) {
                break result;
            }
            assert!(matches!(cpu.exit, Some(Exit::Mmio { .. })));
            assert_eq!(take(&cpu), before, "{bytes:x?}");
            cpu.replay.answer(0);
            cpu.replay.rewind();
            asked += 1;
            assert!(asked < 200, "{bytes:x?}");
        };
        assert_eq!((result, asked > 0), (Ok(()), true), "{bytes:x?}");
    }
}

#[test]
fn an_unmasked_invalid_store_writes_nothing() {
    let mut cpu = machine(0, 0);
    cpu.xstate.legacy.init_x87(true);
    cpu.xstate.legacy.fcw = 0x37e;
    cpu.memory.write(BUFFER & !63, &[0x55; 16]).unwrap();
    // FISTP of an empty register: stack underflow.
    run(&mut cpu, &[0xdf, 0x3b]).unwrap();
    let mut bytes = [0; 16];
    cpu.memory.read(BUFFER & !63, &mut bytes).unwrap();
    assert_eq!(bytes, [0x55; 16]);
    assert!(cpu.xstate.legacy.pending());
    // Masked, the integer indefinite goes out.
    cpu.xstate.legacy.init_x87(true);
    run(&mut cpu, &[0xdf, 0x3b]).unwrap();
    cpu.memory.read(BUFFER & !63, &mut bytes).unwrap();
    assert_eq!(bytes[..9], [0, 0, 0, 0, 0, 0, 0, 0x80, 0x55]);
}

#[test]
fn segment_limits_count_every_byte_of_an_operand() {
    let mut cpu = protected_mode();
    cpu.segments[3].limit = 0x1_000f;
    cpu.update_mode();
    // MOVUPS, ADDSS, FLD m80 and FXSAVE at [ebx].
    let table: &[(&[u8], u64)] = &[
        (&[0x0f, 0x10, 0x03], 16),
        (&[0xf3, 0x0f, 0x58, 0x03], 4),
        (&[0xdb, 0x2b], 10),
        (FXSAVE, 512),
    ];
    for (bytes, len) in table {
        cpu.xstate.legacy.init_x87(true);
        for (at, expected) in [(0x1_0010 - len, None), (0x1_0010 - len + 16, Some(vector::GP))] {
            let mut gprs = [0; 16];
            gprs[3] = at;
            cpu.regs.set_all(&gprs);
            assert_eq!(faulted(&mut cpu, bytes), expected, "{bytes:x?} at {at:#x}");
        }
    }
}
