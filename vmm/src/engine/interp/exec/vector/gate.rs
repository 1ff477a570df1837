//! What keeps an x87, MMX or SSE instruction from running: CR0.EM, TS and MP, CR4.OSFXSR and OSXSAVE, a pending x87
//! exception (Intel SDM volume 3, table 2-2 and sections 14.1, 15.1.1; volume 2, section 2.5).
//!
//! CR0.NE is not asked: with NE clear a PC reports x87 exceptions as IRQ 13 through FERR#, a wire no board since the
//! Pentium needs and this machine does not have. #MF is raised either way, as under VT-x, which fixes NE at 1.

use crate::engine::soft::cpu::{Cpu, Step, vector};

const CR0_MP: u64 = 1 << 1;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;

/// SSE.
pub fn sse(cpu: &mut Cpu) -> Step {
    if cpu.cr0 & CR0_EM != 0 || cpu.cr4 & CR4_OSFXSR == 0 {
        return cpu.raise_ud();
    }
    task_switched(cpu)
}

/// MMX.
pub fn mmx(cpu: &mut Cpu) -> Step {
    if cpu.cr0 & CR0_EM != 0 {
        return cpu.raise_ud();
    }
    task_switched(cpu)
}

/// x87, FXSAVE and FXRSTOR.
pub fn x87(cpu: &mut Cpu) -> Step {
    if cpu.cr0 & (CR0_EM | CR0_TS) != 0 {
        return cpu.raise(vector::NM);
    }
    Ok(())
}

/// WAIT.
pub fn wait(cpu: &mut Cpu) -> Step {
    if cpu.cr0 & (CR0_MP | CR0_TS) == CR0_MP | CR0_TS {
        return cpu.raise(vector::NM);
    }
    pending(cpu)
}

/// XSAVE and its kin.
pub fn xsave(cpu: &mut Cpu) -> Step {
    if cpu.cr4 & CR4_OSXSAVE == 0 {
        return cpu.raise_ud();
    }
    task_switched(cpu)
}

fn task_switched(cpu: &mut Cpu) -> Step {
    if cpu.cr0 & CR0_TS != 0 {
        return cpu.raise(vector::NM);
    }
    Ok(())
}

/// #MF, if an unmasked x87 exception waits.
#[inline(always)]
pub fn pending(cpu: &mut Cpu) -> Step {
    if cpu.xstate.legacy.pending() {
        return cpu.raise(vector::MF);
    }
    Ok(())
}

/// An unmasked SSE exception: #XM, or #UD if the guest's system does not know it.
#[cold]
pub fn simd_exception(cpu: &mut Cpu) -> Step {
    if cpu.cr4 & CR4_OSXMMEXCPT == 0 {
        return cpu.raise_ud();
    }
    cpu.raise(vector::XM)
}
