//! FNSTENV, FLDENV, FNSAVE, FRSTOR: the x87's own save formats (Intel SDM volume 1, figures 8-9 to 8-12), which depend on
//! operand size and on whether the mode is real or protected.
//!
//! Selectors of the pointers are stored as zero, as by every processor that deprecates them.

use super::gate;
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::interp::thunk;
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::xstate::{FCW_MASKS, FSW_B, FSW_ES, Legacy};

/// Bytes of the register stack in memory.
const STACK: usize = 8 * 10;
/// Environment of seven 32-bit fields, and of seven 16-bit ones.
const WIDE: usize = 28;
const NARROW: usize = 14;

fn real(cpu: &Cpu) -> bool {
    !cpu.mode.contains(Mode::PROTECTED) || cpu.mode.contains(Mode::V86)
}

/// The seven fields; unused upper halves of 32-bit ones are ones.
fn fields(state: &Legacy, wide: bool, real: bool) -> [u32; 7] {
    const UPPER: u32 = 0xffff_0000;
    let head = [state.fcw, state.fsw, state.full_tags()].map(|word| UPPER | u32::from(word));
    let (ip, dp, op) = (state.fip as u32, state.fdp as u32, u32::from(state.fop & 0x7ff));
    let tail = match (wide, real) {
        (true, false) => [ip, op << 16, dp, UPPER],
        (true, true) => [UPPER | ip, ip >> 16 << 12 | op, UPPER | dp, dp >> 16 << 12],
        (false, false) => [ip, 0, dp, 0],
        (false, true) => [ip, ip >> 4 & 0xf000 | op, dp, dp >> 4 & 0xf000],
    };
    [head[0], head[1], head[2], tail[0], tail[1], tail[2], tail[3]]
}

fn set_fields(state: &mut Legacy, fields: [u32; 7], wide: bool, real: bool) {
    let [fcw, fsw, tags, ip, ip_more, dp, dp_more] = fields;
    (state.fcw, state.fsw) = (fcw as u16, fsw as u16);
    state.set_full_tags(tags as u16);
    let pointer = |low: u32, more: u32| match (wide, real) {
        (true, false) => low,
        (true, true) => low & 0xffff | (more >> 12 & 0xffff) << 16,
        (false, false) => low & 0xffff,
        (false, true) => low & 0xffff | (more & 0xf000) << 4,
    };
    state.fip = pointer(ip, ip_more).into();
    state.fdp = pointer(dp, dp_more).into();
    state.fop = match (wide, real) {
        (true, false) => (ip_more >> 16) as u16 & 0x7ff,
        (_, true) => ip_more as u16 & 0x7ff,
        (false, false) => 0,
    };
}

fn encode(state: &Legacy, real: bool, into: &mut [u8], wide: bool) {
    let step = if wide { 4 } else { 2 };
    for (field, place) in fields(state, wide, real).iter().zip(into.chunks_mut(step)) {
        place.copy_from_slice(&field.to_le_bytes()[..step]);
    }
}

fn decode(from: &[u8], wide: bool) -> [u32; 7] {
    let step = if wide { 4 } else { 2 };
    let mut fields = [0; 7];
    for (field, place) in fields.iter_mut().zip(from.chunks(step)) {
        let mut bytes = [0; 4];
        bytes[..step].copy_from_slice(place);
        *field = u32::from_le_bytes(bytes);
    }
    fields
}

/// FNSTENV: stores the environment, then masks all exceptions.
pub fn store<F: Form, const IS_WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::x87(cpu)?;
    let len = if IS_WIDE { WIDE } else { NARROW };
    let at = F::bytes::<true>(cpu, op, len as u32)?;
    let mut bytes = [0; WIDE];
    encode(&cpu.xstate.legacy, real(cpu), &mut bytes, IS_WIDE);
    cpu.store_bytes(at, &bytes[..len])?;
    let state = &mut cpu.xstate.legacy;
    state.fcw |= FCW_MASKS;
    state.fsw &= !(FSW_ES | FSW_B);
    Ok(())
}

/// FNSAVE: stores environment and registers, then does what FNINIT does.
pub fn save<F: Form, const IS_WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::x87(cpu)?;
    let head = if IS_WIDE { WIDE } else { NARROW };
    let at = F::bytes::<true>(cpu, op, (head + STACK) as u32)?;
    let mut bytes = [0; WIDE + STACK];
    encode(&cpu.xstate.legacy, real(cpu), &mut bytes[..head], IS_WIDE);
    for (st, place) in cpu.xstate.legacy.st.iter().zip(bytes[head..].chunks_mut(10)) {
        place.copy_from_slice(&st.to_le_bytes()[..10]);
    }
    cpu.store_bytes(at, &bytes[..head + STACK])?;
    cpu.xstate.legacy.init_x87(false);
    Ok(())
}

/// FLDENV.
pub fn load<F: Form, const IS_WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::x87(cpu)?;
    gate::pending(cpu)?;
    let len = if IS_WIDE { WIDE } else { NARROW };
    let at = F::bytes::<false>(cpu, op, len as u32)?;
    let mut bytes = [0; WIDE];
    cpu.load_bytes(at, &mut bytes[..len])?;
    // The physical registers stay: what is ST(0) moves with the new top.
    let before = cpu.xstate.legacy.top();
    let real = real(cpu);
    let state = &mut cpu.xstate.legacy;
    set_fields(state, decode(&bytes, IS_WIDE), IS_WIDE, real);
    let moved = state.top().wrapping_sub(before) & 7;
    state.st.rotate_left(usize::from(moved));
    thunk::settle(state);
    Ok(())
}

/// FRSTOR.
pub fn restore<F: Form, const IS_WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    gate::x87(cpu)?;
    gate::pending(cpu)?;
    let head = if IS_WIDE { WIDE } else { NARROW };
    let at = F::bytes::<false>(cpu, op, (head + STACK) as u32)?;
    let mut bytes = [0; WIDE + STACK];
    cpu.load_bytes(at, &mut bytes[..head + STACK])?;
    let real = real(cpu);
    let state = &mut cpu.xstate.legacy;
    set_fields(state, decode(&bytes, IS_WIDE), IS_WIDE, real);
    for (st, place) in state.st.iter_mut().zip(bytes[head..].chunks(10)) {
        let mut value = [0; 16];
        value[..10].copy_from_slice(place);
        *st = u128::from_le_bytes(value);
    }
    thunk::settle(state);
    Ok(())
}
