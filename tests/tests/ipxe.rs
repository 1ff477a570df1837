//! Debian's iPXE under the product: a program that is entered in real mode and sees the machine through the BIOS.
//!
//! Needs `ipxe.lkrn`, which `tests/linux/fetch-ipxe` obtains, in `target/linux`, in the folder that WORLDSWITCH_LINUX names, or
//! where Debian's package puts it; says that it skips where there is none.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::product::{GUESTS, Vm, skip};

const PROMPT: &str = "iPXE> ";
/// How much longer than asked for `sleep` may take until its prompt is here: the host is shared.
const SLACK: Duration = Duration::from_secs(3);

fn ipxe() -> Option<PathBuf> {
    let fetched = Path::new(GUESTS).with_file_name("linux");
    let named = std::env::var_os("WORLDSWITCH_LINUX").map(PathBuf::from);
    let folders = named
        .into_iter()
        .chain([fetched, "/boot".into(), "/usr/lib/ipxe".into()]);
    folders
        .map(|folder| folder.join("ipxe.lkrn"))
        .find(|file| file.is_file())
}

fn start(name: &str, more: &str) -> Option<Vm> {
    let Some(file) = ipxe() else {
        skip(name, "no ipxe.lkrn; tests/linux/fetch-ipxe obtains it");
        return None;
    };
    let mut vm = Vm::start(name, &format!("kernel = {file:?}\n{more}"), "");
    match vm.fast_engine() {
        Ok(()) => Some(vm),
        Err(why) => {
            skip(name, &why);
            None
        }
    }
}

/// Types a command and waits for the prompt behind its answer.
fn command(vm: &mut Vm, line: &str) {
    let prompts = vm.output().matches(PROMPT).count();
    vm.type_in(line);
    vm.wait_for("the next prompt", |vm| {
        vm.output().matches(PROMPT).count() > prompts
    });
}

#[test]
fn ipxe_boots_to_a_shell_on_the_serial_port_and_keeps_time() {
    let Some(mut vm) = start("ipxe", "") else { return };
    vm.wait_for("the invitation", |vm| vm.output().contains("Press Ctrl-B"));
    assert!(vm.output().contains("Open Source Network Boot Firmware"));
    vm.type_in("\x02");
    vm.wait_for("the prompt", |vm| vm.output().contains(PROMPT));

    command(&mut vm, "help\n");
    assert!(vm.output().contains("Available commands:"), "{}", vm.output());
    command(&mut vm, "echo twisting\x7f\x7f\x7f\x7f\x7fce\r");
    assert!(vm.output().contains("\ntwice"), "{}", vm.output());

    let began = Instant::now();
    command(&mut vm, "sleep 2\n");
    let took = began.elapsed();
    let asked = Duration::from_secs(2);
    assert!(took >= asked && took < asked + SLACK, "sleep 2 took {took:?}");

    vm.type_in("exit\n");
    vm.wait_for("the second invitation", |vm| {
        vm.output().matches("Press Ctrl-B").count() > 1 || vm.output().contains("BIOS:")
    });
    let status = vm.end();
    assert!(vm.output().contains("nothing else to boot"), "{}", vm.output());
    assert_eq!(status.code(), Some(0), "{}\n{}", vm.output(), vm.errors());
}

#[test]
fn ipxe_runs_a_script_given_as_initrd() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let script = temp.path().join("boot.ipxe");
    std::fs::write(&script, "#!ipxe\necho the script runs on ${platform}\nexit\n").expect("a script");
    let Some(mut vm) = start("ipxe-script", &format!("initrd = {script:?}")) else {
        return;
    };
    let status = vm.end();
    assert!(
        vm.output().contains("\nthe script runs on pcbios"),
        "{}",
        vm.output()
    );
    assert_eq!(status.code(), Some(0), "{}", vm.errors());
}
