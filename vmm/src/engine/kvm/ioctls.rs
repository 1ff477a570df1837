//! The few KVM calls kvm-ioctls has no safe form of.
#![allow(
    unsafe_code,
    reason = "ioctls on a vCPU's descriptor; every argument is a live local of the type the call takes"
)]

use kvm_bindings::{KVMIO, kvm_interrupt, kvm_xsave};
use kvm_ioctls::VcpuFd;
use std::os::fd::{AsRawFd, BorrowedFd};

// Not ioctl_none!: that leaves the third argument to chance, and KVM_RUN wants it to be 0.
nix::ioctl_write_int_bad!(kvm_run, nix::request_code_none!(KVMIO, 0x80));
nix::ioctl_write_ptr!(kvm_set_interrupt, KVMIO, 0x86, kvm_interrupt);

/// KVM_RUN, without looking at the outcome in the shared page.
pub(super) fn run(vcpu: &VcpuFd) -> nix::Result<()> {
    // SAFETY: the descriptor is a vCPU's. The kernel writes the shared page, which is only ever reached through raw
    // pointers, and guest memory, to which no Rust reference exists.
    unsafe { kvm_run(vcpu.as_raw_fd(), 0) }.map(|_| ())
}

/// KVM_INTERRUPT: queues an external interrupt, delivered on the next entry whatever the guest's flags say.
pub(super) fn interrupt(vcpu: &VcpuFd, vector: u8) -> nix::Result<()> {
    let interrupt = kvm_interrupt { irq: vector.into() };
    // SAFETY: the descriptor is a vCPU's, the argument a live local.
    unsafe { kvm_set_interrupt(vcpu.as_raw_fd(), &interrupt) }.map(|_| ())
}

/// KVM_SET_XSAVE.
pub(super) fn set_xsave(vcpu: &VcpuFd, xsave: &kvm_xsave) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the kernel reads more than the structure only if a permission for dynamic features (AMX) was asked of
    // it (arch_prctl), which this process never does.
    unsafe { vcpu.set_xsave(xsave) }
}

/// The descriptor of a vCPU, borrowed for as long as that lives.
pub(super) fn descriptor(vcpu: &VcpuFd) -> BorrowedFd<'_> {
    // SAFETY: `vcpu` keeps the descriptor open for the lifetime of the borrow.
    unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }
}
