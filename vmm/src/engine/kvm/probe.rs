//! What the host's KVM is and can: opened, asked, measured. Errors here say what would help.

use super::KvmEngine;
use crate::engine::cpu_model::CpuModel;
use crate::engine::state::CpuState;
use crate::engine::{Engine, EngineError, Entry, Exit};
use crate::mem::GuestMemory;
use kvm_ioctls::{Cap, Kvm};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The API version all of this is written for, frozen since Linux 2.6.22.
const API: i32 = 12;
/// How long the speed of guest kernel mode is looked at.
const MEASURED: Duration = Duration::from_millis(5);

/// Without these nothing works; Linux has had them all since 4.13.
const NEEDED: [(Cap, &str); 5] = [
    (Cap::UserMemory, "user memory"),
    (Cap::SetTssAddr, "TSS address"),
    (Cap::ReadonlyMem, "read-only memory"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::ExtCpuid, "CPUID"),
];

/// Opens `/dev/kvm` and checks that it is one we can use.
pub fn open() -> Result<Kvm, EngineError> {
    let kvm = Kvm::new().map_err(|error| unavailable(&why_not(error.errno())))?;
    let api = kvm.get_api_version();
    if api != API {
        return Err(unavailable(&format!(
            "/dev/kvm speaks API version {api}, not {API}"
        )));
    }
    match NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(unavailable(&format!(
            "this host's KVM lacks {name}; Linux 4.13 or later has it"
        ))),
        None => Ok(kvm),
    }
}

/// Millions of instructions a second in guest kernel mode: a counting loop in a throw-away machine, for 5 ms. A loop
/// without memory or exits, so an upper bound; it tells silicon (thousands) from interpretation (a few).
pub fn kernel_mode_mips(kvm: &Kvm, model: &CpuModel) -> Result<u32, EngineError> {
    const CODE_AT: u32 = 0x1000;
    const CODE: [u8; 3] = [
        0x40, // again: inc eax
        0xeb, 0xfd, // jmp again
    ];
    const PER_ROUND: u128 = 2;
    let broken = |why: String| unavailable(&format!("measuring its speed: {why}"));
    let memory = GuestMemory::new(1 << 20).map_err(|e| broken(e.to_string()))?;
    memory
        .write(CODE_AT.into(), &CODE)
        .map_err(|e| broken(e.to_string()))?;
    let mut engine = KvmEngine::new(kvm, Arc::new(memory), model.clone())?;
    engine.load(&CpuState::flat32(CODE_AT))?;
    engine.alarm(Some(MEASURED));
    let start = Instant::now();
    let exit = engine.run(Entry::default());
    let elapsed = start.elapsed();
    if exit != Exit::Kicked {
        return Err(broken(format!("a counting loop ended in {exit:?}")));
    }
    let rounds = engine.save()?.gprs[0];
    let mips = u128::from(rounds) * PER_ROUND * 1000 / elapsed.as_nanos().max(1);
    Ok(u32::try_from(mips).unwrap_or(u32::MAX))
}

pub(super) fn unavailable(why: &str) -> EngineError {
    EngineError::Unavailable {
        engine: super::NAME,
        why: why.to_owned(),
    }
}

fn why_not(errno: i32) -> String {
    match errno {
        libc::ENOENT => "there is no /dev/kvm: load the module (modprobe kvm_intel or kvm_amd) and enable \
                         virtualization in the firmware"
            .to_owned(),
        libc::EACCES | libc::EPERM => no_permission(),
        libc::ENODEV | libc::ENXIO => {
            "/dev/kvm has no driver behind it: load the module (modprobe kvm_intel or kvm_amd)".to_owned()
        }
        _ => format!("/dev/kvm: {}", std::io::Error::from_raw_os_error(errno)),
    }
}

/// Names the group the device really has.
fn no_permission() -> String {
    let gid = std::fs::metadata("/dev/kvm").map_or(0, |meta| meta.gid());
    let group = match nix::unistd::Group::from_gid(gid.into()) {
        Ok(Some(group)) if gid != 0 => group.name,
        _ => {
            return "no permission to open /dev/kvm, which belongs to root alone: as root, give it to a group \
                    (chgrp kvm /dev/kvm; chmod 660 /dev/kvm), add the user (usermod -aG kvm USER) and log in again"
                .to_owned();
        }
    };
    format!(
        "no permission to open /dev/kvm: add the user to its group (usermod -aG {group} USER) and log in again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_open_names_the_fix() {
        for (errno, fix) in [
            (libc::ENOENT, "modprobe"),
            (libc::EACCES, "usermod -aG"),
            (libc::ENODEV, "modprobe"),
            (libc::EIO, "/dev/kvm"),
        ] {
            assert!(why_not(errno).contains(fix), "{errno}");
        }
    }
}
