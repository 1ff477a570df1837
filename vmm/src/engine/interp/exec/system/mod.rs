//! System instructions: thin handlers over [`crate::engine::soft::system`] and
//! [`crate::engine::soft::transfer`]. Privilege first, as the manuals order it: #UD by mode (when compiled), then
//! #GP(0) by CPL, then operands.

pub mod selectors;
#[cfg(test)]
mod tests;

use crate::engine::check::is_canonical;
use crate::engine::cpu_model::Dynamic;
use crate::engine::interp::form::Form;
use crate::engine::interp::op::Op;
use crate::engine::soft::cpu::{Cpu, Fault, Leave, Step, vector};
use crate::engine::soft::flags::{AC, CF};
use crate::engine::soft::mode::Mode;
use crate::engine::soft::regs::RegAt;
use crate::engine::soft::system::host;
use crate::engine::soft::transfer::SyscallWidth;
use crate::engine::soft::walk::Right;
use crate::engine::soft::word::Word;
use crate::engine::state::GS;

const RAX: RegAt = RegAt::new(0);
const RCX: RegAt = RegAt::new(1);
const RDX: RegAt = RegAt::new(2);
const RBX: RegAt = RegAt::new(3);

const CR0_TS: u64 = 1 << 3;
const CR4_TSD: u64 = 1 << 2;
const CR4_UMIP: u64 = 1 << 11;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;

fn privileged(cpu: &mut Cpu) -> Step {
    if cpu.cpl == 0 { Ok(()) } else { cpu.raise_gp() }
}

/// CR4.UMIP keeps user code from reading system registers.
fn not_user_with_umip(cpu: &mut Cpu) -> Step {
    if cpu.cpl != 0 && cpu.cr4 & CR4_UMIP != 0 {
        return cpu.raise_gp();
    }
    Ok(())
}

/// CLTS.
pub fn clts(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    cpu.write_cr0(cpu.cr0 & !CR0_TS)?;
    op.finish(cpu)
}

/// MOV from CR; [`Op::imm`]: its number.
pub fn read_control<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let value = cpu.read_control(op.imm as u8)?;
    cpu.regs.set(op.reg, W::from_u64(value));
    Ok(())
}

/// MOV to CR.
pub fn write_control<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let value = cpu.regs.get::<W>(op.reg).to_u64();
    cpu.write_control(op.imm as u8, value)?;
    op.finish(cpu)
}

/// MOV from DR; privilege is checked behind #UD, by the register.
pub fn read_debug<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.read_debug(op.imm as u8)?;
    cpu.regs.set(op.reg, W::from_u64(value));
    Ok(())
}

/// MOV to DR.
pub fn write_debug<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    let value = cpu.regs.get::<W>(op.reg).to_u64();
    cpu.write_debug(op.imm as u8, value)?;
    op.finish(cpu)
}

/// INVLPG.
pub fn invlpg<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let linear = F::linear::<u8, false>(cpu, op)?;
    cpu.tlb.flush_page(linear);
    op.finish(cpu)
}

/// INVPCID (Intel SDM volume 2). The TLB holds the current PCID's translations only; without PCIDs there is but 0.
pub fn invpcid<W: Word, F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let kind = cpu.regs.get::<W>(op.reg).to_u64();
    let at = F::linear::<u64, false>(cpu, op)?;
    let second_half = Op {
        disp: op.disp.wrapping_add(8),
        ..*op
    };
    let address_at = F::linear::<u64, false>(cpu, &second_half)?;
    let pcid: u64 = cpu.load(at)?;
    let address: u64 = cpu.load(address_at)?;
    let highest = if cpu.cr4 & CR4_PCIDE != 0 { 0xfff } else { 0 };
    match kind {
        0 if pcid <= highest && is_canonical(address) => cpu.tlb.flush_page(address),
        1 if pcid <= highest => cpu.tlb.flush_non_global(),
        2 => cpu.tlb.flush(),
        3 => cpu.tlb.flush_non_global(),
        _ => return cpu.raise_gp(),
    }
    op.finish(cpu)
}

/// WBINVD, INVD: caches are not modelled.
pub fn caches(cpu: &mut Cpu, _: &Op) -> Step {
    privileged(cpu)
}

/// CLFLUSH: faults as a load would, and reaches no device.
pub fn clflush<F: Form>(cpu: &mut Cpu, op: &Op) -> Step {
    let at = F::linear::<u8, false>(cpu, op)?;
    if cpu.mode.contains(Mode::LONG) && !is_canonical(at) {
        return cpu.raise_fault(Fault {
            noncanonical: true,
            ..Fault::new(vector::GP, Some(0))
        });
    }
    cpu.walk(at, Right::Read, cpu.cpl == 3).map(drop)
}

fn index_and_value(cpu: &Cpu) -> (u32, u64) {
    let low: u32 = cpu.regs.get(RAX);
    let high: u32 = cpu.regs.get(RDX);
    (cpu.regs.get(RCX), u64::from(high) << 32 | u64::from(low))
}

fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.regs.set(RAX, value as u32);
    cpu.regs.set(RDX, (value >> 32) as u32);
}

/// RDMSR.
pub fn rdmsr(cpu: &mut Cpu, _: &Op) -> Step {
    privileged(cpu)?;
    let (index, _) = index_and_value(cpu);
    let value = cpu.read_msr(index)?;
    set_edx_eax(cpu, value);
    Ok(())
}

/// WRMSR.
pub fn wrmsr(cpu: &mut Cpu, op: &Op) -> Step {
    privileged(cpu)?;
    let (index, value) = index_and_value(cpu);
    cpu.write_msr(index, value)?;
    op.finish(cpu)
}

/// CPUID.
pub fn cpuid(cpu: &mut Cpu, _: &Op) -> Step {
    let now = Dynamic {
        cr4: cpu.cr4,
        xcr0: cpu.xstate.xcr0,
        apic_id: 0,
    };
    let [eax, ebx, ecx, edx] = cpu.model.cpuid(cpu.regs.get(RAX), cpu.regs.get(RCX), &now);
    for (at, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
        cpu.regs.set(at, value);
    }
    Ok(())
}

fn time_allowed(cpu: &mut Cpu) -> Step {
    if cpu.cpl != 0 && cpu.cr4 & CR4_TSD != 0 {
        return cpu.raise_gp();
    }
    Ok(())
}

/// RDTSC.
pub fn rdtsc(cpu: &mut Cpu, _: &Op) -> Step {
    time_allowed(cpu)?;
    let now = cpu.tsc();
    set_edx_eax(cpu, now);
    Ok(())
}

/// RDTSCP.
pub fn rdtscp(cpu: &mut Cpu, op: &Op) -> Step {
    rdtsc(cpu, op)?;
    cpu.regs.set(RCX, cpu.msrs.tsc_aux as u32);
    Ok(())
}

/// RDPMC: the model has no counter ECX could name.
pub fn rdpmc(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.raise_gp()
}

fn base_allowed(cpu: &mut Cpu) -> Step {
    if cpu.cr4 & CR4_FSGSBASE == 0 {
        return cpu.raise_ud();
    }
    Ok(())
}

/// RDFSBASE, RDGSBASE.
pub fn read_base<W: Word, const SEGMENT: usize>(cpu: &mut Cpu, op: &Op) -> Step {
    base_allowed(cpu)?;
    let base = cpu.segments[SEGMENT].base;
    cpu.regs.set(op.reg, W::from_u64(base));
    Ok(())
}

/// WRFSBASE, WRGSBASE.
pub fn write_base<W: Word, const SEGMENT: usize>(cpu: &mut Cpu, op: &Op) -> Step {
    base_allowed(cpu)?;
    let base = cpu.regs.get::<W>(op.reg).to_u64();
    cpu.write_segment_base(SEGMENT, base)
}

/// SWAPGS.
pub fn swapgs(cpu: &mut Cpu, _: &Op) -> Step {
    privileged(cpu)?;
    std::mem::swap(&mut cpu.segments[GS].base, &mut cpu.msrs.kernel_gs_base);
    Ok(())
}

fn xcr_allowed(cpu: &mut Cpu) -> Step {
    if cpu.cr4 & CR4_OSXSAVE == 0 {
        return cpu.raise_ud();
    }
    Ok(())
}

/// XGETBV.
pub fn xgetbv(cpu: &mut Cpu, _: &Op) -> Step {
    xcr_allowed(cpu)?;
    let (index, _) = index_and_value(cpu);
    if index != 0 {
        return cpu.raise_gp();
    }
    let value = cpu.xstate.xcr0;
    set_edx_eax(cpu, value);
    Ok(())
}

/// XSETBV.
pub fn xsetbv(cpu: &mut Cpu, op: &Op) -> Step {
    xcr_allowed(cpu)?;
    privileged(cpu)?;
    let (index, value) = index_and_value(cpu);
    cpu.write_xcr(index, value)?;
    op.finish(cpu)
}

/// STAC, CLAC.
pub fn set_ac<const ON: bool>(cpu: &mut Cpu, _: &Op) -> Step {
    if cpu.cpl != 0 {
        return cpu.raise_ud();
    }
    if ON {
        cpu.flags.others |= AC;
    } else {
        cpu.flags.others &= !AC;
    }
    cpu.select_tlb();
    Ok(())
}

/// RDRAND: CF says whether there was a number; none gives 0.
pub fn rdrand<W: Word>(cpu: &mut Cpu, op: &Op) -> Step {
    if !cpu.model.has("RDRAND") {
        return cpu.raise_ud();
    }
    let number = host::random();
    cpu.regs.set(op.reg, W::from_u64(number.unwrap_or(0)));
    cpu.flags.set_arithmetic(if number.is_some() { CF } else { 0 });
    Ok(())
}

/// SYSCALL.
pub fn syscall(cpu: &mut Cpu, op: &Op) -> Step {
    cpu.syscall(op.next(cpu))?;
    Err(Leave::Jump)
}

/// SYSRET to 32-bit code.
pub fn sysret32(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.sysret(SyscallWidth::Bits32)?;
    Err(Leave::Jump)
}

/// SYSRET to 64-bit code.
pub fn sysret64(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.sysret(SyscallWidth::Bits64)?;
    Err(Leave::Jump)
}

/// SYSENTER.
pub fn sysenter(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.sysenter()?;
    Err(Leave::Jump)
}

/// SYSEXIT.
pub fn sysexit(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.sysexit()?;
    Err(Leave::Jump)
}
