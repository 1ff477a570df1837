//! The x87 through thunks that run under the guest's whole x87 state; and the few x87 instructions that need none.
//!
//! An unmasked exception is the silicon's own affair: it stays pending in the status word, and [`gate::pending`] raises
//! #MF at the next waiting instruction. Instruction and operand pointers are set here, since the host's would be
//! addresses of this process: always, as processors do that save them regardless of exceptions.
#![allow(unsafe_code, reason = "calls thunks, with pointers to x87 state and a local")]

use super::gate;
use super::thunked::{address, pack_flags, thunk, unpack_flags};
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::interp::thunk::plan::{Direction, FlagUse};
use crate::engine::interp::thunk::{Args, Thunk};
use crate::engine::soft::cpu::{Cpu, Step};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::xstate::Legacy;
use crate::engine::state::FS;

/// Any x87 instruction that has a thunk. `WAITS`: it takes a pending exception first.
pub fn run<F: Form, const WAITS: bool, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if CHECK {
        gate::x87(cpu)?;
    }
    if WAITS {
        gate::pending(cpu)?;
    }
    let thunk = thunk(op);
    let Some(memory) = thunk.plan.memory else {
        return compute_in_place(cpu, op, thunk, 0, None);
    };
    let bytes = usize::from(memory.bytes & 31).min(16);
    if memory.direction == Direction::Load {
        let at = address::<F, false>(cpu, op, memory)?;
        let mut operand = [0; 16];
        cpu.load_bytes(at, &mut operand[..bytes])?;
        return compute_in_place(cpu, op, thunk, u128::from_le_bytes(operand), Some(at));
    }
    let at = address::<F, true>(cpu, op, memory)?;
    let mut after = cpu.xstate.legacy.clone();
    let (stored, written) = compute_store(&mut after, thunk);
    if written {
        cpu.store_bytes(at, &stored[..bytes])?;
    } else {
        cpu.probe_store(at, bytes)?;
    }
    Place::of(cpu, op, Some(at)).remember(thunk, &mut after);
    cpu.xstate.legacy = after;
    Ok(())
}

fn compute_in_place(cpu: &mut Cpu, op: &Op, thunk: &Thunk, mut operand: u128, at: Option<u64>) -> Step {
    let mut args = Args::new(0);
    if thunk.plan.flags != FlagUse::None {
        args.flags = pack_flags(&cpu.flags);
    }
    let place = Place::of(cpu, op, at);
    let state = &mut cpu.xstate.legacy;
    call(thunk, state, &mut operand, &mut args);
    place.remember(thunk, state);
    if thunk.plan.flags != FlagUse::None {
        unpack_flags(&mut cpu.flags, args.flags);
    }
    Ok(())
}

/// The bytes stored, and whether there are any: an unmasked exception can keep a store from happening. What was not
/// written differs when the same instruction runs over another background.
fn compute_store(after: &mut Legacy, thunk: &Thunk) -> ([u8; 16], bool) {
    let before = after.clone();
    let mut operand = 0;
    call(thunk, after, &mut operand, &mut Args::new(0));
    let mut written = true;
    if after.pending() && !before.pending() {
        let mut other = !0;
        let mut again = before;
        call(thunk, &mut again, &mut other, &mut Args::new(0));
        written = operand as u8 == other as u8;
    }
    (operand.to_le_bytes(), written)
}

/// Runs the thunk. Pointers and opcode stay as they are.
fn call(thunk: &Thunk, state: &mut Legacy, operand: &mut u128, args: &mut Args) {
    let kept = (state.fop, state.fip, state.fdp);
    // SAFETY: an x87 thunk takes a `Legacy`, whose MXCSR is kept valid by all who write it, and 16 bytes.
    unsafe { thunk.call(std::ptr::from_mut(state).cast(), operand, args) };
    (state.fop, state.fip, state.fdp) = kept;
}

/// What the x87 remembers of where an instruction and its operand are.
struct Place {
    fip: u64,
    fdp: Option<u64>,
}

impl Place {
    /// Offsets; in real and virtual-8086 mode linear addresses.
    fn of(cpu: &Cpu, op: &Op, operand: Option<u64>) -> Self {
        let rip = cpu.cut_ip(op.here(cpu));
        if !cpu.mode.contains(Mode::PROTECTED) || cpu.mode.contains(Mode::V86) {
            return Self {
                fip: cpu.code_address(rip),
                fdp: operand,
            };
        }
        let segment = usize::from(op.segment);
        let base = if cpu.mode.contains(Mode::CODE64) && segment < FS {
            0
        } else {
            cpu.segments[segment].base
        };
        Self {
            fip: rip,
            fdp: operand.map(|at| cpu.wrap(at.wrapping_sub(base))),
        }
    }

    /// For all but control instructions (Intel SDM volume 1, section 8.1.8); FNINIT forgets.
    fn remember(&self, thunk: &Thunk, state: &mut Legacy) {
        if thunk.plan.fop != 0 {
            state.fop = thunk.plan.fop & 0x7ff;
            state.fip = self.fip;
            state.fdp = self.fdp.unwrap_or(state.fdp);
        } else if thunk.plan.renamed.code() == iced_x86::Code::Fninit {
            (state.fop, state.fip, state.fdp) = (0, 0, 0);
        }
    }
}

/// WAIT.
pub fn wait(cpu: &mut Cpu, _: &Op) -> Step {
    gate::wait(cpu)
}

/// FNSTSW AX.
pub fn status_to_ax<const CHECK: bool>(cpu: &mut Cpu, _: &Op) -> Step {
    if CHECK {
        gate::x87(cpu)?;
    }
    cpu.regs.set(RegAt::new(0), cpu.xstate.legacy.fsw);
    Ok(())
}

/// FNSTSW and FNSTCW to memory.
pub fn store_word<F: Form, const CONTROL: bool, const CHECK: bool>(cpu: &mut Cpu, op: &Op) -> Step {
    if CHECK {
        gate::x87(cpu)?;
    }
    let at = F::linear::<u16, true>(cpu, op)?;
    let legacy = &cpu.xstate.legacy;
    let word = if CONTROL { legacy.fcw } else { legacy.fsw };
    cpu.store(at, word)
}

/// EMMS.
pub fn empty_mmx(cpu: &mut Cpu, _: &Op) -> Step {
    gate::mmx(cpu)?;
    gate::pending(cpu)?;
    cpu.xstate.legacy.leave_mmx();
    Ok(())
}

/// FNENI, FNDISI, FNSETPM: of the 8087 and 80287, nothing since.
pub fn nothing(cpu: &mut Cpu, _: &Op) -> Step {
    gate::x87(cpu)
}
