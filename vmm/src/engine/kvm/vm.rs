//! Building the virtual machine around the vCPU: memory slots, the registers that come out to us, CPUID.
//!
//! No interrupt controller and no timer of the kernel's: the chipset is ours. Runs once, at start.
#![allow(
    unsafe_code,
    reason = "hands the host addresses of guest memory to the kernel"
)]

use super::probe::unavailable;
use crate::engine::EngineError;
use crate::engine::cpu_model::features::{TSC_DEADLINE, X2APIC};
use crate::engine::cpu_model::{Answer, CpuModel, Dynamic, MSRS, msrs};
use crate::mem::{GuestMemory, RegionKind};
use kvm_bindings::{
    CpuId, KVM_CAP_X86_USER_SPACE_MSR, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES,
    KVM_MEM_READONLY, kvm_cpuid_entry2, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{
    Cap, Kvm, MsrExitReason, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd,
};

/// Three pages the kernel uses to run real mode on Intel processors without unrestricted guest: above the local APIC
/// and below the 16 MiB a firmware ROM may take (QEMU's place, too).
const TSS_AT: usize = 0xfeff_d000;
/// One page more for the same purpose.
const IDENTITY_MAP_AT: u64 = 0xfeff_c000;

/// Creates the machine and gives it its memory.
pub(super) fn create(kvm: &Kvm, memory: &GuestMemory) -> Result<VmFd, EngineError> {
    let vm = kvm.create_vm().map_err(host("creating the machine"))?;
    vm.set_identity_map_address(IDENTITY_MAP_AT)
        .map_err(host("placing the identity map"))?;
    vm.set_tss_address(TSS_AT).map_err(host("placing the TSS"))?;
    for (slot, region) in (0..).zip(memory.regions()) {
        let flags = match region.kind {
            RegionKind::Ram => 0,
            RegionKind::Rom => KVM_MEM_READONLY,
        };
        let slot = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: region.base,
            memory_size: region.len,
            userspace_addr: region.host.as_ptr().addr() as u64,
        };
        // SAFETY: the region is a live mapping of that length which the engine keeps alive (Arc) longer than the
        // machine; regions do not overlap; nobody holds Rust references into it.
        unsafe { vm.set_user_memory_region(slot) }.map_err(host("giving guest memory to KVM"))?;
    }
    Ok(vm)
}

/// Makes KVM hand out the register accesses that are not its own to answer, and takes from the model what it cannot.
/// Returns what is lost, in words.
pub(super) fn route_msrs(kvm: &Kvm, vm: &VmFd, model: &mut CpuModel) -> Result<Vec<String>, EngineError> {
    let mut lost = Vec::new();
    if !kvm.check_extension(Cap::X86UserSpaceMsr) || !kvm.check_extension(Cap::X86MsrFilter) {
        model.hide(X2APIC);
        model.hide(TSC_DEADLINE);
        lost.push(
            "KVM cannot pass register accesses out (Linux 5.10 can): no x2APIC, no TSC-deadline timer"
                .to_owned(),
        );
        return Ok(lost);
    }
    let reasons = MsrExitReason::Unknown | MsrExitReason::Inval | MsrExitReason::Filter;
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        ..kvm_enable_cap::default()
    };
    cap.args[0] = reasons.bits().into();
    vm.enable_cap(&cap)
        .map_err(host("routing registers out of KVM"))?;

    let [low, high] = [Block::LOW, Block::HIGH].map(|(first, count)| Block::new(first, count, model));
    // Written, TSC and TSC_ADJUST come out, so that we always know the offset.
    let low_writes = low.without(&[msrs::TSC, msrs::TSC_ADJUST]);
    let (reads, writes) = (MsrFilterRangeFlags::READ, MsrFilterRangeFlags::WRITE);
    let ranges = [
        low.range(reads),
        low_writes.range(writes),
        high.range(reads),
        high.range(writes),
    ];
    vm.set_msr_filter(MsrFilterDefaultAction::DENY, &ranges)
        .map_err(host("filtering registers"))?;
    Ok(lost)
}

/// A run of register numbers and a bit for each that KVM answers by itself.
#[derive(Clone)]
struct Block {
    first: u32,
    count: u32,
    bits: Vec<u8>,
}

impl Block {
    const LOW: (u32, u32) = (0, 0x300);
    const HIGH: (u32, u32) = (0xc000_0080, 0x88);

    fn new(first: u32, count: u32, model: &CpuModel) -> Self {
        let mut block = Self {
            first,
            count,
            bits: vec![0; count.div_ceil(8) as usize],
        };
        for row in MSRS {
            if matches!(row.answer, Answer::Saved | Answer::Elsewhere) && model.msr(row.first).is_some() {
                (row.first..=row.last).for_each(|index| block.put(index, true));
            }
        }
        block
    }

    fn put(&mut self, index: u32, on: bool) {
        let at = index.wrapping_sub(self.first);
        if at < self.count
            && let Some(byte) = self.bits.get_mut(at as usize / 8)
        {
            let bit = 1 << (at % 8);
            *byte = if on { *byte | bit } else { *byte & !bit };
        }
    }

    fn without(&self, indices: &[u32]) -> Self {
        let mut block = self.clone();
        indices.iter().for_each(|&index| block.put(index, false));
        block
    }

    fn range(&self, flags: MsrFilterRangeFlags) -> MsrFilterRange<'_> {
        MsrFilterRange {
            flags,
            base: self.first,
            msr_count: self.count,
            bitmap: &self.bits,
        }
    }
}

/// Fits the model to the host: its silicon, less what KVM does not offer.
pub(super) fn fit_model(kvm: &Kvm, model: &mut CpuModel) -> Result<(), EngineError> {
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(host("asking KVM for its CPUID"))?;
    let answer = |leaf: u32, subleaf: u32| lookup(&supported, leaf, subleaf);
    model.adopt_silicon(&answer);
    model.mask(&answer);
    Ok(())
}

/// Shows the model to the guest, and makes the model what the guest is really shown: a KVM that cannot hide what the
/// silicon tells user mode (without VT-x or SVM) adds to it. What it adds is returned, in words. KVM itself
/// keeps OSXSAVE, XSAVE sizes and the APIC bit up to date.
pub(super) fn set_cpuid(vcpu: &VcpuFd, model: &mut CpuModel) -> Result<Option<String>, EngineError> {
    let entries: Vec<_> = model
        .leaves()
        .into_iter()
        .map(|(leaf, subleaf, indexed)| cpuid_entry(model, leaf, subleaf, indexed))
        .collect();
    let table = CpuId::from_entries(&entries).map_err(|_| unavailable("the CPUID table is too long"))?;
    vcpu.set_cpuid2(&table).map_err(host("setting CPUID"))?;
    let shown = vcpu
        .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
        .map_err(host("reading CPUID back"))?;
    let answer = |leaf: u32, subleaf: u32| lookup(&shown, leaf, subleaf);
    model.see(&answer);
    let extra: Vec<_> = model.beyond(&answer);
    Ok((!extra.is_empty()).then(|| {
        format!(
            "KVM shows the guest more than the CPU model: {}",
            extra.join(", ")
        )
    }))
}

fn cpuid_entry(model: &CpuModel, function: u32, index: u32, indexed: bool) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = model.cpuid(function, index, &Dynamic::default());
    let flags = if indexed {
        KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    } else {
        0
    };
    kvm_cpuid_entry2 {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
        ..kvm_cpuid_entry2::default()
    }
}

fn lookup(table: &CpuId, leaf: u32, subleaf: u32) -> [u32; 4] {
    let mut entries = table.as_slice().iter();
    let entry = entries.find(|e| e.function == leaf && e.index == subleaf);
    entry.map_or([0; 4], |e| [e.eax, e.ebx, e.ecx, e.edx])
}

/// Turns an error of a KVM call into ours.
pub(super) fn host(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> EngineError {
    move |error| EngineError::Host {
        what,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_blocks_hold_every_register_kvm_answers() {
        let model = CpuModel::default_level();
        for row in MSRS {
            let ours =
                !matches!(row.answer, Answer::Saved | Answer::Elsewhere) || model.msr(row.first).is_none();
            let held = [Block::LOW, Block::HIGH].into_iter().any(|(first, count)| {
                let at = row.first.wrapping_sub(first);
                let block = Block::new(first, count, &model);
                at < count && block.bits[at as usize / 8] >> (at % 8) & 1 == 1
            });
            assert_eq!(held, !ours, "{}", row.name);
        }
    }
}
