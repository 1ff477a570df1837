//! QEMU's TCG with the same card, kernel, initramfs and cable: the peer.

use super::media::{self, Media};
use super::{Cable, Guest};
use crate::Outcome;
use crate::process::{Part, thread_name, threads};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where it is, or what to install.
pub fn program() -> Result<PathBuf, String> {
    media::program("qemu-system-x86_64")
        .ok_or_else(|| "qemu: not installed; apt-get install qemu-system-x86".to_owned())
}

/// As it says itself.
pub fn version() -> String {
    let output = program()
        .ok()
        .and_then(|qemu| Command::new(qemu).arg("--version").output().ok());
    let text = output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let version = text.lines().next().and_then(|line| line.split_once("version "));
    version.map_or("unknown", |(_, version)| version).to_owned()
}

/// The command that runs `guest`.
pub fn command(guest: &Guest, media: &Media, words: &str, work: &Path) -> Outcome<Command> {
    let mut command = Command::new(program()?);
    let netdev = match &guest.cable {
        Cable::Tap { name, .. } => format!("tap,id=net,ifname={name},script=no,downscript=no"),
        Cable::Nat => "user,id=net".to_owned(),
    };
    // Its threads have names then, and the one that runs the guest can be told apart.
    command
        .args(["-accel", "tcg", "-m", "256", "-name", "bench,debug-threads=on"])
        .args([
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
            "-vga",
            "none",
        ])
        .arg("-serial")
        .arg(format!("file:{}", work.join("console").display()))
        .arg("-kernel")
        .arg(&media.vmlinux)
        .arg("-initrd")
        .arg(&media.initrd)
        .args([
            "-append",
            words,
            "-netdev",
            &netdev,
            "-device",
            "pcnet,netdev=net",
        ]);
    if let Some(disk) = &guest.disk {
        let drive = format!("file={},if=ide,format=raw,cache=writeback", disk.display());
        command.args(["-drive", &drive]);
    }
    Ok(command)
}

/// The thread that runs the guest, and all of QEMU.
pub fn parts(pid: u32) -> Outcome<Vec<Part>> {
    let vcpu = threads(pid)
        .into_iter()
        .find(|&tid| thread_name(pid, tid).starts_with("CPU 0"));
    let whole = Part {
        name: "qemu",
        pid,
        tid: None,
    };
    let vcpu = vcpu.map(|tid| Part {
        name: "vcpu",
        pid,
        tid: Some(tid),
    });
    Ok(vcpu.into_iter().chain([whole]).collect())
}
