//! The product in bad moments: resets and ends with I/O in flight, and a host that stops all its processes for a while.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use tests::product::{GUESTS, Vm, alive};

/// A machine with a disk of its own.
fn with_disk(name: &str, words: &str, more: &str) -> (Vm, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk.img");
    std::fs::File::create(&disk)
        .and_then(|file| file.set_len(64 * 512))
        .expect("a file");
    let disk = disk.display();
    let vm = Vm::configured(
        name,
        &format!(
            "name = \"{name}\"\n[machine]\nmemory = \"16M\"\nengine = \"interp\"\ndebug_exit = 0xf4\n[boot]\n\
             kernel = \"{GUESTS}/disk.elf\"\ncmdline = \"disk.elf {words}\"\n[[disk]]\npath = \"{disk}\"\n{more}"
        ),
    );
    (vm, folder)
}

fn rounds(vm: &Vm) -> usize {
    vm.output().matches("round ").count()
}

#[test]
fn resets_with_a_command_half_done_lose_nothing_that_was_acknowledged() {
    let (mut vm, _folder) = with_disk("resets", "reset", "");
    let status = vm.end();
    let output = vm.output();
    assert_eq!(status.code(), Some(10), "{output}\n{}", vm.errors());
    assert!(output.contains("start 5") && !output.contains("FAIL"), "{output}");
}

#[test]
fn an_end_with_requests_in_flight_leaves_no_process() {
    for how in [&["stop", "ending", "--now"][..], &[]] {
        let (mut vm, _folder) = with_disk("ending", "load", "");
        vm.wait_for("the load", |vm| rounds(vm) >= 2);
        let workers = vm.workers();
        assert_eq!(workers.len(), 2, "{workers:?}");
        if how.is_empty() {
            kill(pid(vm.pid()), Signal::SIGKILL).expect("ours");
        } else {
            assert!(vm.vmapp(how).status.success());
        }
        vm.end();
        for (worker, name) in workers {
            tests::product::until(&format!("the end of {name}"), || !alive(worker));
        }
    }
}

#[test]
fn a_host_that_stops_everything_for_a_while_finds_the_guest_at_work_again() {
    // Longer than the watchdog's patience: who was stopped himself must not judge.
    let (mut vm, _folder) = with_disk("frozen", "load", "[io]\nwatchdog_ms = 400\n");
    vm.wait_for("the load", |vm| rounds(vm) >= 2);
    let workers: Vec<u32> = vm.workers().iter().map(|&(worker, _)| worker).collect();
    let supervisor = vm.pid();
    let orders = [
        [vec![supervisor], workers.clone()].concat(),
        [workers.clone(), vec![supervisor]].concat(),
    ];
    for order in orders {
        for &process in &order {
            kill(pid(process), Signal::SIGSTOP).expect("ours");
        }
        let before = rounds(&vm);
        std::thread::sleep(Duration::from_millis(1200));
        for &process in &order {
            kill(pid(process), Signal::SIGCONT).expect("ours");
        }
        vm.wait_for("more rounds", |vm| rounds(vm) >= before + 3);
    }
    let now: Vec<u32> = vm.workers().iter().map(|&(worker, _)| worker).collect();
    assert_eq!(now, workers, "a worker was shot\n{}", vm.errors());
    let output = vm.output();
    assert!(!output.contains("ERROR") && !output.contains("WRONG"), "{output}");
    assert!(vm.vmapp(&["stop", "frozen", "--now"]).status.success());
    vm.end();
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed())
}
