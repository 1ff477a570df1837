//! Model-specific registers of the vCPU: loading, saving, and the accesses KVM leaves to us.

use super::vm::host;
use super::{KvmEngine, Owed};
use crate::engine::cpu_model::{Answer, msr, msrs};
use crate::engine::{EngineError, Exit, Op};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};

/// Gives the guest the silicon's IA32_ARCH_CAPABILITIES; false if the host refuses.
pub(super) fn set_arch_capabilities(kvm: &Kvm, vcpu: &VcpuFd) -> bool {
    let entry = |data| kvm_msr_entry {
        index: msrs::ARCH_CAPABILITIES,
        data,
        ..kvm_msr_entry::default()
    };
    let Ok(mut values) = Msrs::from_entries(&[entry(0)]) else {
        return false;
    };
    matches!(kvm.get_msrs(&mut values), Ok(1)) && matches!(vcpu.set_msrs(&values), Ok(1))
}

impl KvmEngine {
    /// Writes every register the state has; one that is not in `values` gets its value after RESET. A refused one is
    /// a named warning: the guest may well live without it.
    pub(super) fn load_msrs(&mut self, values: &[(u32, u64)]) -> Result<(), EngineError> {
        let value = |index: u32| {
            let given = values.iter().find(|(i, _)| *i == index).map(|(_, value)| *value);
            given.unwrap_or_else(|| msr(index).map_or(0, |row| row.reset))
        };
        let entries = self.saved_registers().map(|index| kvm_msr_entry {
            index,
            data: value(index),
            ..kvm_msr_entry::default()
        });
        let entries: Vec<_> = entries.collect();
        let mut rest = entries.as_slice();
        while let Some(first) = rest.first() {
            let table = Msrs::from_entries(rest).map_err(|_| out_of_memory())?;
            match self.vcpu.set_msrs(&table).map_err(host("loading registers"))? {
                // KVM stops at the first it refuses.
                0 => {
                    self.refused(first.index);
                    rest = &rest[1..];
                }
                done => rest = rest.get(done..).unwrap_or_default(),
            }
        }
        self.set_tsc(value(msrs::TSC))
    }

    fn set_tsc(&mut self, value: u64) -> Result<(), EngineError> {
        if !self.tsc.set(&self.vcpu, value)? {
            self.warn("KVM ignores the guest's TSC offset: the guest sees the host's TSC".to_owned());
        }
        Ok(())
    }

    /// Reads every register the state has, ascending.
    pub(super) fn save_msrs(&mut self) -> Result<Vec<(u32, u64)>, EngineError> {
        let entries = self.saved_registers().map(|index| kvm_msr_entry {
            index,
            ..kvm_msr_entry::default()
        });
        let entries: Vec<_> = entries.collect();
        let mut saved = vec![(msrs::TSC, self.tsc.now())];
        let mut rest = entries.as_slice();
        while let Some(first) = rest.first() {
            let mut table = Msrs::from_entries(rest).map_err(|_| out_of_memory())?;
            let done = self.vcpu.get_msrs(&mut table).map_err(host("saving registers"))?;
            saved.extend(table.as_slice().iter().take(done).map(|e| (e.index, e.data)));
            if done == 0 {
                self.refused(first.index);
            }
            rest = rest.get(done.max(1)..).unwrap_or_default();
        }
        Ok(saved)
    }

    /// All but the time stamp counter, which KVM might "synchronize": see [`super::tsc`].
    fn saved_registers(&self) -> impl Iterator<Item = u32> + use<> {
        self.model.saved_msrs().into_iter().filter(|i| *i != msrs::TSC)
    }

    fn refused(&mut self, index: u32) {
        let name = msr(index).map_or("?", |row| row.name);
        self.warn(format!("KVM refuses register {name} ({index:#x})"));
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// An access KVM did not answer by itself: filtered, unknown to it, or refused by it. The chipset's come out;
    /// the others are answered here and the guest goes on (a guest that does nothing else is still kicked out).
    pub(super) fn msr_exit(&mut self, op: Op, index: u32) -> Option<Exit> {
        let row = self.model.msr(index);
        let answer = match (row.map(|row| row.answer), op) {
            (Some(Answer::Chipset), _) => {
                self.owed = Owed::Msr { read: op == Op::Read };
                return Some(Exit::Msr { index, op });
            }
            (Some(Answer::Constant | Answer::Ignored), Op::Read) => row.map(|row| row.reset),
            (Some(Answer::Ignored), Op::Write(_)) => Some(0),
            (Some(Answer::Saved), Op::Write(value)) => self.write_time(index, value),
            _ => None,
        };
        self.page.answer_msr(answer);
        None
    }

    /// WRMSR of TSC or TSC_ADJUST: each moves the other along (Intel SDM volume 3, 19.17.3). `None` is #GP, for
    /// these if KVM refuses, and for all other registers: then KVM did not like the value.
    fn write_time(&mut self, index: u32, value: u64) -> Option<u64> {
        let now = self.tsc.now();
        let adjust = self.read_adjust();
        let moved = match index {
            msrs::TSC => value.wrapping_sub(now),
            msrs::TSC_ADJUST => value.wrapping_sub(adjust),
            _ => return None,
        };
        if self.model.msr(msrs::TSC_ADJUST).is_some() {
            self.write_adjust(adjust.wrapping_add(moved));
        }
        self.tsc
            .set(&self.vcpu, self.tsc.now().wrapping_add(moved))
            .ok()?;
        Some(0)
    }

    /// 0 where the model has no TSC_ADJUST.
    fn read_adjust(&self) -> u64 {
        let entry = kvm_msr_entry {
            index: msrs::TSC_ADJUST,
            ..kvm_msr_entry::default()
        };
        let table = Msrs::from_entries(&[entry]).ok();
        let read = table.and_then(|mut table| match self.vcpu.get_msrs(&mut table) {
            Ok(1) => table.as_slice().first().map(|e| e.data),
            _ => None,
        });
        read.unwrap_or(0)
    }

    /// From this side the write does not move the counter (KVM: host-initiated).
    fn write_adjust(&mut self, value: u64) {
        let entry = kvm_msr_entry {
            index: msrs::TSC_ADJUST,
            data: value,
            ..kvm_msr_entry::default()
        };
        let written = Msrs::from_entries(&[entry]).map(|table| self.vcpu.set_msrs(&table));
        if !matches!(written, Ok(Ok(1))) {
            self.refused(msrs::TSC_ADJUST);
        }
    }
}

fn out_of_memory() -> EngineError {
    EngineError::Host {
        what: "listing registers",
        source: std::io::ErrorKind::OutOfMemory.into(),
    }
}
