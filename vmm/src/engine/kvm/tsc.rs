//! The guest's time stamp counter: the host's plus an offset.
//!
//! The offset is read and set through KVM_VCPU_TSC_OFFSET where the kernel has it (5.16), which is exact. Without it
//! the register itself is written, which KVM may take for an attempt to synchronize and ignore (writes of 0, or within
//! a second of what it expects). What KVM made of it is measured in either case: one that runs guests without VT-x or
//! SVM takes an offset and ignores it, since RDTSC does not trap there. Guest writes of TSC and TSC_ADJUST come to us
//! ([`super::registers`]), so the offset known here is always the one in force.
#![allow(
    unsafe_code,
    reason = "reads the host's time stamp counter; KVM's vCPU attributes have no wrapper on x86"
)]

use crate::engine::EngineError;
use crate::engine::cpu_model::msrs::TSC;
use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_device_attr, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use std::arch::x86_64::_rdtsc;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

nix::ioctl_write_ptr!(set_device_attr, kvm_bindings::KVMIO, 0xe1, kvm_device_attr);
nix::ioctl_write_ptr!(has_device_attr, kvm_bindings::KVMIO, 0xe3, kvm_device_attr);

/// A counter within this many ticks of what was asked for has obeyed (milliseconds; disobedience is off by hours).
const OBEYED: u64 = 100_000_000;

/// What is known of the guest's counter.
#[derive(Debug)]
pub(super) struct TscOffset {
    /// Guest minus host, wrapping.
    offset: u64,
    /// KVM takes the offset itself.
    settable: bool,
}

impl TscOffset {
    pub(super) fn new(vcpu: &VcpuFd) -> Self {
        let mut unused = 0;
        let attribute = attribute(&mut unused);
        // SAFETY: the descriptor is a vCPU's; the attribute is a live local; HAS reads nothing through `addr`.
        let settable = unsafe { has_device_attr(vcpu.as_raw_fd(), &attribute) }.is_ok();
        Self { offset: 0, settable }
    }

    /// The guest's counter now.
    pub(super) fn now(&self) -> u64 {
        host().wrapping_add(self.offset)
    }

    /// Makes the guest's counter show `value` now. False if KVM took the call and the counter did not move: then
    /// the guest sees what it sees, and so does [`TscOffset::now`].
    pub(super) fn set(&mut self, vcpu: &VcpuFd, value: u64) -> Result<bool, EngineError> {
        let failed = |source: std::io::Error| EngineError::Host {
            what: "setting the guest's time stamp counter",
            source,
        };
        let mut wanted = value.wrapping_sub(host());
        if self.settable {
            let attribute = attribute(&mut wanted);
            // SAFETY: the descriptor is a vCPU's; `attribute` and the u64 it points to live across the call.
            unsafe { set_device_attr(vcpu.as_raw_fd(), &attribute) }.map_err(|e| failed(e.into()))?;
        } else {
            write(vcpu, value).map_err(failed)?;
        }
        let measured = measure(vcpu).map_err(failed)?;
        let obeyed = measured.wrapping_sub(wanted).cast_signed().unsigned_abs() < OBEYED;
        // The attribute is exact; a measurement is not.
        let exact = obeyed && self.settable;
        self.offset = if exact { wanted } else { measured };
        Ok(obeyed)
    }
}

/// Frequency in kHz: KVM's word, or measured against the monotonic clock.
pub(super) fn khz(vcpu: &VcpuFd) -> u32 {
    match vcpu.get_tsc_khz() {
        Ok(khz) if khz > 0 => khz,
        _ => measure_khz(),
    }
}

fn attribute(offset: &mut u64) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: std::ptr::from_mut(offset) as u64,
    }
}

fn host() -> u64 {
    // SAFETY: RDTSC is part of the x86-64 baseline.
    unsafe { _rdtsc() }
}

fn write(vcpu: &VcpuFd, value: u64) -> std::io::Result<()> {
    match vcpu.set_msrs(&one(value)?)? {
        1 => Ok(()),
        _ => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

fn one(value: u64) -> std::io::Result<Msrs> {
    let entry = kvm_msr_entry {
        index: TSC,
        data: value,
        ..kvm_msr_entry::default()
    };
    Msrs::from_entries(&[entry]).map_err(|_| std::io::ErrorKind::OutOfMemory.into())
}

/// The offset, from the tightest of a few readings of the guest's counter between two of the host's.
fn measure(vcpu: &VcpuFd) -> std::io::Result<u64> {
    let mut best = (u64::MAX, 0);
    for _ in 0..8 {
        let mut msrs = one(0)?;
        let before = host();
        let read = vcpu.get_msrs(&mut msrs)?;
        let spread = host().wrapping_sub(before);
        let guest = msrs.as_slice().first().filter(|_| read == 1);
        let guest = guest.ok_or(std::io::ErrorKind::Unsupported)?.data;
        let middle = before.wrapping_add(spread / 2);
        best = best.min((spread, guest.wrapping_sub(middle)));
    }
    Ok(best.1)
}

/// Over 10 ms: good to about 10 parts in a million.
fn measure_khz() -> u32 {
    let (start, first) = (Instant::now(), host());
    std::thread::sleep(Duration::from_millis(10));
    let (elapsed, ticks) = (start.elapsed(), host().wrapping_sub(first));
    let khz = u128::from(ticks) * 1_000_000 / elapsed.as_nanos().max(1);
    u32::try_from(khz).unwrap_or(u32::MAX)
}
