//! The vmm's two threads.

use super::{Is, Row, no_path};
use libc::{
    SYS_fstat, SYS_ioctl, SYS_lseek, SYS_newfstatat, SYS_pread64, SYS_recvmsg, SYS_statx, SYS_timer_delete,
    SYS_timer_settime,
};

/// The vCPU's thread: engine, devices, run loop. It reads the boot files first, which are the last files it ever sees:
/// their descriptors are closed before the first guest instruction.
pub(super) const VCPU: &[Row] = &[
    Row::any("pread64", SYS_pread64, "boot files, which came open"),
    Row::any(
        "lseek",
        SYS_lseek,
        "boot files: the position of a read to the end",
    ),
    Row::any("fstat", SYS_fstat, "boot files: their size"),
    Row::when(
        "statx",
        SYS_statx,
        &[&[no_path(2)]],
        "boot files: their size, as the standard library asks for it",
    ),
    Row::when(
        "newfstatat",
        SYS_newfstatat,
        &[&[no_path(3)]],
        "as statx, with another C library",
    ),
];

const fn ioctl(number: u32) -> Is {
    Is::Equal(1, number)
}

/// More for the vCPU's thread, where the engine is KVM: what runs a vCPU and moves its state (linux/kvm.h). What makes
/// machines, vCPUs, memory slots and devices is done before the jail, and is not here.
pub(super) const KVM: &[Row] = &[
    Row::when(
        "ioctl",
        SYS_ioctl,
        &[
            &[ioctl(0xae80)],      // KVM_RUN
            &[ioctl(0x8090_ae81)], // KVM_GET_REGS
            &[ioctl(0x4090_ae82)], // KVM_SET_REGS
            &[ioctl(0x8138_ae83)], // KVM_GET_SREGS
            &[ioctl(0x4138_ae84)], // KVM_SET_SREGS
            &[ioctl(0x4004_ae86)], // KVM_INTERRUPT
            &[ioctl(0xc008_ae88)], // KVM_GET_MSRS
            &[ioctl(0x4008_ae89)], // KVM_SET_MSRS
            &[ioctl(0xae9a)],      // KVM_NMI
            &[ioctl(0x8040_ae9f)], // KVM_GET_VCPU_EVENTS
            &[ioctl(0x4040_aea0)], // KVM_SET_VCPU_EVENTS
            &[ioctl(0x8080_aea1)], // KVM_GET_DEBUGREGS
            &[ioctl(0x4080_aea2)], // KVM_SET_DEBUGREGS
            &[ioctl(0x9000_aea4)], // KVM_GET_XSAVE
            &[ioctl(0x5000_aea5)], // KVM_SET_XSAVE
            &[ioctl(0x8188_aea6)], // KVM_GET_XCRS
            &[ioctl(0x4188_aea7)], // KVM_SET_XCRS
            &[ioctl(0x4018_aee1)], // KVM_SET_DEVICE_ATTR, of a vCPU: its time stamp counter's offset
        ],
        "KVM: runs the vCPU and moves its state; nothing that makes or changes a machine",
    ),
    Row::any("timer_settime", SYS_timer_settime, "KVM: the vCPU's alarm"),
    Row::any(
        "timer_delete",
        SYS_timer_delete,
        "KVM: the end of the vCPU's alarm",
    ),
];

/// The ear: hears the supervisor, and kicks.
pub(super) const EAR: &[Row] = &[Row::any("recvmsg", SYS_recvmsg, "the supervisor's words")];
