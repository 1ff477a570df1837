//! Worldswitch, as a user runs it: `vmapp run` of a configuration file.

use super::media::Media;
use super::{Cable, Guest, Named};
use crate::Outcome;
use crate::process::{Part, children};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What runs the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The interpreter.
    Interp,
    /// Hardware virtualization.
    Kvm,
}

impl Engine {
    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interp => "interp",
            Self::Kvm => "kvm",
        }
    }
}

/// The engines whose speed means something here, and why the others' does not: `vmapp` measures a KVM before it trusts it.
pub fn engines(media: &Media) -> Outcome<(Vec<Engine>, Vec<String>)> {
    let work = tempfile::tempdir()?;
    let (config, image) = (work.path().join("vm.toml"), work.path().join("out"));
    // MOV AL, 0; OUT 0F4h, AL: ends at its first look at the world.
    fs::write(&image, [0xb0, 0x00, 0xe6, 0xf4])?;
    fs::write(
        &config,
        format!(
            "name = \"which\"\n[machine]\nmemory = \"16M\"\nengine = \"auto\"\ndebug_exit = 0xf4\n\
             [boot]\nimage = {image:?}\n[console]\nserial = \"none\"\n"
        ),
    )?;
    let output = Command::new(&media.vmapp)
        .arg("run")
        .arg(&config)
        .env("XDG_RUNTIME_DIR", work.path())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text
        .lines()
        .find(|line| line.contains("engine "))
        .unwrap_or_default();
    Ok(judge(line))
}

fn judge(line: &str) -> (Vec<Engine>, Vec<String>) {
    if line.contains("engine kvm") && !line.contains("interprets") {
        return (vec![Engine::Interp, Engine::Kvm], Vec::new());
    }
    let why = line
        .split_once("engine ")
        .map_or("no engine told", |(_, rest)| rest);
    let why = format!("worldswitch kvm: not measured, it would mean nothing here; `auto` says: {why}");
    (vec![Engine::Interp], vec![why])
}

/// The command that runs `guest`, and how its status is found.
pub fn command(
    engine: Engine,
    guest: &Guest,
    media: &Media,
    words: &str,
    work: &Path,
) -> Outcome<(Command, Option<Named>)> {
    let name = "bench".to_owned();
    let net = match &guest.cable {
        Cable::Tap { name, .. } => format!("backend = \"tap\"\ntap = {name:?}"),
        Cable::Nat => "backend = \"nat\"".to_owned(),
    };
    let disk = guest
        .disk
        .as_ref()
        .map(|path| format!("[[disk]]\npath = {path:?}\n"));
    let text = format!(
        "name = {name:?}\n[machine]\nmemory = \"256M\"\nengine = {:?}\non_reset = \"exit\"\n\
         [boot]\nkernel = {:?}\ninitrd = {:?}\ncmdline = {words:?}\n[[net]]\n{net}\n{}\
         [console]\nserial = \"file:console\"\n",
        engine.name(),
        media.vmlinux,
        media.initrd,
        disk.unwrap_or_default(),
    );
    let config = work.join("vm.toml");
    fs::write(&config, text)?;
    let mut command = Command::new(&media.vmapp);
    command.arg("run").arg(&config).env("XDG_RUNTIME_DIR", work);
    for setting in &guest.settings {
        command.args(["--set", setting]);
    }
    let named = Named {
        program: media.vmapp.clone(),
        runtime: work.to_owned(),
        name,
    };
    Ok((command, Some(named)))
}

/// The vCPU's thread, which is the vmm's first; the whole vmm; the I/O worker; and the supervisor that started both.
pub fn parts(supervisor: u32) -> Outcome<Vec<Part>> {
    let children = children(supervisor);
    let (vmm, worker): (Vec<_>, Vec<_>) = children.iter().partition(|(_, name)| name.starts_with("vmm"));
    let (Some(&&(vmm, _)), Some(&&(worker, _))) = (vmm.first(), worker.first()) else {
        return Err(format!("no vmm and I/O worker among {children:?}").into());
    };
    let part = |name, pid, tid| Part { name, pid, tid };
    Ok(vec![
        part("vcpu", vmm, Some(vmm)),
        part("vmm", vmm, None),
        part("vmapp", worker, None),
        part("supervisor", supervisor, None),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_interprets_is_not_measured_and_that_is_said() {
        let nested = "worldswitch: which: engine interp: decoded-trace interpreter; kvm is present, but interprets guest kernel code: 2 MIPS";
        let (engines, left_out) = judge(nested);
        assert_eq!(engines, [Engine::Interp]);
        assert!(left_out[0].ends_with("guest kernel code: 2 MIPS"), "{left_out:?}");
        assert_eq!(judge("which: engine kvm: VT-x").0, [Engine::Interp, Engine::Kvm]);
    }
}
