//! States go in and come out as they were, and hostile ones are refused.

use super::*;
use crate::engine::soft::fixture::reset;
use crate::engine::soft::xstate::{FCW_INIT, MXCSR_INIT};

#[test]
fn what_was_loaded_is_saved() {
    for (i, mut state) in [
        CpuState::reset(),
        CpuState::real_mode(0x123, 0x7c00),
        CpuState::flat32(0x10_0000),
        CpuState::long64(0xffff_ffff_8000_0000, 0x1000),
    ]
    .into_iter()
    .enumerate()
    {
        state.pending = [
            Pending {
                sti_shadow: true,
                nmi_masked: true,
                ..Pending::default()
            },
            Pending {
                mov_ss_shadow: true,
                exception: Some((14, Some(6))),
                ..Pending::default()
            },
            Pending {
                interrupt: Some(0x30),
                halted: true,
                ..Pending::default()
            },
            Pending {
                nmi_pending: true,
                ..Pending::default()
            },
        ][i];
        state.cr2 = 0xdead_beef;
        state.rflags = 2 | 0x8d5 | 1 << 9;
        state.xsave[160..176].fill(0xa5);
        let mut cpu = reset();
        // What RESET gives every register, then what the state says.
        state.msrs = cpu.save_state().msrs;
        for (index, value) in &mut state.msrs {
            if matches!(*index, 0xc000_0082 | 0x277 | 0x200) {
                *value = 0x0606_0606;
            }
        }
        cpu.load_state(&state).unwrap();
        let mut saved = cpu.save_state();
        // The time stamp counter runs.
        let tsc = saved
            .msrs
            .iter()
            .position(|(index, _)| *index == msrs::TSC)
            .unwrap();
        assert!(saved.msrs[tsc].1 >= state.msrs[tsc].1);
        saved.msrs[tsc] = state.msrs[tsc];
        // MXCSR_MASK is the engine's own, whatever the image said.
        state.xsave[28..32].copy_from_slice(&saved.xsave[28..32]);
        assert_eq!(saved, state, "state {i}");
        saved.check().unwrap();
    }
}

#[test]
fn components_missing_from_an_image_are_initial() {
    let mut state = CpuState::reset();
    state.xsave.fill(0xff);
    state.xsave[512..576].fill(0);
    state.xsave[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    let mut cpu = reset();
    cpu.load_state(&state).unwrap();
    let image = cpu.save_state().xsave;
    assert_eq!(image[..2], FCW_INIT.to_le_bytes());
    assert!(image[32..416].iter().all(|&byte| byte == 0));
    assert_eq!(image[24..28], MXCSR_INIT.to_le_bytes());
}

#[test]
fn a_state_with_features_this_engine_lacks_is_refused() {
    let mut state = CpuState::long64(0, 0x1000);
    state.cr4 |= 1;
    let error = reset().load_state(&state).unwrap_err().to_string();
    assert!(error.contains("CR4"), "{error}");
}

#[test]
fn physical_addresses_are_as_wide_as_cpuid_says() {
    let cpu = reset();
    let told = cpu.model.cpuid(0x8000_0008, 0, &Dynamic::default())[0] & 0xff;
    assert_eq!(cpu.physical_bits, told);
    assert_eq!(cpu.beyond_physical(), 0x000f_ffff_ffff_f000 >> told << told);
}
