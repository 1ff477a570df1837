//! FXSAVE, FXRSTOR, XSAVE, XRSTOR, LDMXCSR, STMXCSR (Intel SDM volume 1, chapters 10.5 and 13).
//!
//! Outside 64-bit code XMM8 to XMM15 are neither saved nor restored. FXSAVE and FXRSTOR take XMM and MXCSR along even
//! with CR4.OSFXSR clear, which is left to the processor. XSAVE always finds both components in use, which
//! section 13.6 allows, so XSAVEOPT would be the same.

use super::gate;
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::interp::thunk;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::xstate::{COMPONENT_SSE, COMPONENT_X87, Legacy, MXCSR_MASK};
use std::ops::Range;

/// Legacy region, and with the XSAVE header.
const LEGACY: usize = 512;
const WITH_HEADER: usize = 576;
/// The image's parts.
const X87_HEAD: Range<usize> = 0..24;
const MXCSR: Range<usize> = 24..32;
const STACK: Range<usize> = 32..160;
const XMM_AT: usize = 160;
/// Low 80 bits: what a stack register has of its 16 bytes.
const REGISTER: u128 = (1 << 80) - 1;

fn xmm_registers(cpu: &Cpu) -> usize {
    if cpu.mode.contains(Mode::CODE64) { 16 } else { 8 }
}

/// The legacy region as an instruction writes it: `WIDE` (REX.W) with 64-bit pointers, else 32-bit ones, selectors zero.
fn image<const WIDE: bool>(cpu: &Cpu) -> [u8; LEGACY] {
    let mut image = cpu.xstate.image();
    if !WIDE {
        image[12..16].fill(0);
        image[20..24].fill(0);
    }
    image
}

/// FXSAVE.
pub fn fxsave<F: Form, const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::x87(cpu)?;
    let at = aligned::<F, true>(cpu, op, LEGACY, 16)?;
    cpu.probe_store(at, LEGACY)?;
    let image = image::<WIDE>(cpu);
    // Bytes beyond the registers are reserved or software's: not written.
    cpu.store_bytes(at, &image[..XMM_AT + 16 * xmm_registers(cpu)])
}

/// FXRSTOR.
pub fn fxrstor<F: Form, const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::x87(cpu)?;
    let at = aligned::<F, false>(cpu, op, LEGACY, 16)?;
    let mut image = [0; LEGACY];
    cpu.load_bytes(at, &mut image)?;
    let mxcsr = word(&image, MXCSR.start);
    if mxcsr & !MXCSR_MASK != 0 {
        return cpu.raise_gp();
    }
    let registers = xmm_registers(cpu);
    let state = &mut cpu.xstate.legacy;
    take_x87::<WIDE>(state, &image);
    take_xmm(state, &image, registers);
    state.mxcsr = mxcsr;
    thunk::settle(state);
    Ok(())
}

fn aligned<F: Form, const WRITE: bool>(cpu: &mut Cpu, op: &Op, len: usize, to: u64) -> Step<u64> {
    let at = F::bytes::<WRITE>(cpu, op, len as u32)?;
    if at & (to - 1) != 0 {
        return cpu.raise_gp();
    }
    Ok(at)
}

fn word(image: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |word, i| {
        word | u32::from(image.get(at + i).copied().unwrap_or(0)) << (8 * i)
    })
}

fn quad(image: &[u8], at: usize) -> u64 {
    u64::from(word(image, at)) | u64::from(word(image, at + 4)) << 32
}

fn register(image: &[u8], at: usize) -> u128 {
    u128::from(quad(image, at)) | u128::from(quad(image, at + 8)) << 64
}

fn take_x87<const WIDE: bool>(state: &mut Legacy, image: &[u8; LEGACY]) {
    state.fcw = word(image, 0) as u16;
    state.fsw = word(image, 2) as u16;
    state.ftw = image[4];
    state.fop = word(image, 6) as u16 & 0x7ff;
    let pointer = |at| {
        if WIDE {
            quad(image, at)
        } else {
            u64::from(word(image, at))
        }
    };
    (state.fip, state.fdp) = (pointer(8), pointer(16));
    for (i, st) in state.st.iter_mut().enumerate() {
        *st = register(image, STACK.start + 16 * i) & REGISTER;
    }
}

fn take_xmm(state: &mut Legacy, image: &[u8; LEGACY], registers: usize) {
    for (i, xmm) in state.xmm.iter_mut().enumerate().take(registers) {
        *xmm = register(image, XMM_AT + 16 * i);
    }
}

/// Requested components: EDX:EAX and XCR0.
fn requested(cpu: &Cpu) -> u64 {
    let low: u32 = cpu.regs.get(RegAt::new(0));
    let high: u32 = cpu.regs.get(RegAt::new(2));
    (u64::from(high) << 32 | u64::from(low)) & cpu.xstate.xcr0
}

/// XSAVE: only what is requested is written, and its bits in XSTATE_BV.
pub fn xsave<F: Form, const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::xsave(cpu)?;
    let at = aligned::<F, true>(cpu, op, WITH_HEADER, 64)?;
    cpu.probe_store(at, WITH_HEADER)?;
    let wanted = requested(cpu);
    let image = image::<WIDE>(cpu);
    let header = cpu.wrap(at.wrapping_add(LEGACY as u64));
    let present: u64 = cpu.load(header)?;
    let xmm = XMM_AT..XMM_AT + 16 * xmm_registers(cpu);
    let parts = [
        (COMPONENT_X87, X87_HEAD),
        (COMPONENT_SSE, MXCSR),
        (COMPONENT_X87, STACK),
        (COMPONENT_SSE, xmm),
    ];
    for (component, part) in parts {
        if wanted & component != 0 {
            let place = cpu.wrap(at.wrapping_add(part.start as u64));
            cpu.store_bytes(place, &image[part])?;
        }
    }
    cpu.store(header, present | wanted)
}

/// XRSTOR, standard format. A requested component that XSTATE_BV lacks is put into its initial state; MXCSR is loaded
/// with SSE requested, whether or not it is there (section 13.8.1).
pub fn xrstor<F: Form, const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::xsave(cpu)?;
    let at = aligned::<F, false>(cpu, op, WITH_HEADER, 64)?;
    let mut bytes = [0; WITH_HEADER];
    cpu.load_bytes(at, &mut bytes)?;
    let mut image = [0; LEGACY];
    image.copy_from_slice(&bytes[..LEGACY]);
    let wanted = requested(cpu);
    let present = quad(&bytes, LEGACY);
    let mxcsr = word(&image, MXCSR.start);
    // The compacted format (bit 63 of the second quadword) is not offered; bytes 8 to 23 of the header must be zero.
    let malformed =
        present & !cpu.xstate.xcr0 != 0 || quad(&bytes, LEGACY + 8) != 0 || quad(&bytes, LEGACY + 16) != 0;
    if malformed || (wanted & COMPONENT_SSE != 0 && mxcsr & !MXCSR_MASK != 0) {
        return cpu.raise_gp();
    }
    let registers = xmm_registers(cpu);
    let state = &mut cpu.xstate.legacy;
    if wanted & COMPONENT_X87 != 0 {
        if present & COMPONENT_X87 != 0 {
            take_x87::<WIDE>(state, &image);
        } else {
            state.init_x87(true);
        }
    }
    if wanted & COMPONENT_SSE != 0 {
        let initial = [0; LEGACY];
        let there = present & COMPONENT_SSE != 0;
        take_xmm(state, if there { &image } else { &initial }, registers);
        state.mxcsr = mxcsr;
    }
    thunk::settle(state);
    Ok(())
}

/// LDMXCSR.
pub fn load_mxcsr<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::sse(cpu)?;
    let at = F::linear::<u32, false>(cpu, op)?;
    let mxcsr: u32 = cpu.load(at)?;
    if mxcsr & !MXCSR_MASK != 0 {
        return cpu.raise_gp();
    }
    cpu.xstate.legacy.mxcsr = mxcsr;
    Ok(())
}

/// STMXCSR.
pub fn store_mxcsr<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::sse(cpu)?;
    let at = F::linear::<u32, true>(cpu, op)?;
    cpu.store(at, cpu.xstate.legacy.mxcsr)
}
