//! Real guests under the real product, as a user runs it, on every engine that runs here. Where `/dev/kvm` is missing the
//! KVM half says that it skips.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::time::{Duration, Instant};
use tests::product::{GUESTS, Vm, alive, children, kvm, skip};

/// The engines to run a test on; a line says which is left out and why.
fn engines(test: &str) -> Vec<&'static str> {
    let mut engines = vec!["interp"];
    match kvm() {
        Ok(()) => engines.push("kvm"),
        Err(why) => skip(&format!("{test} on kvm"), &why),
    }
    engines
}

/// A guest of this tree on an engine.
fn guest(engine: &str, name: &str, file: &str, words: &str, machine: &str) -> Vm {
    Vm::guest(
        name,
        file,
        words,
        &format!(
            "engine = \"{engine}\"
{machine}"
        ),
    )
}

/// A nested KVM may interpret guest kernel code, and not know every instruction: then the test says so and skips.
fn not_emulated(test: &str, code: i32, vm: &Vm) -> bool {
    let errors = vm.errors();
    let refused = errors
        .lines()
        .find(|line| line.contains("KVM could not emulate an instruction"));
    if let (1, Some(line)) = (code, refused) {
        skip(test, line);
        return true;
    }
    false
}

fn exit_code(vm: &mut Vm) -> i32 {
    vm.end().code().expect("vmapp ends by itself")
}

#[test]
fn hello_reaches_long_mode_takes_ten_ticks_and_powers_off_by_every_boot_protocol() {
    for engine in engines("hello") {
        for (file, protocol) in [
            ("hello.elf", "Multiboot"),
            ("hello-pvh.elf", "PVH"),
            ("hello.bzimage", "Linux"),
        ] {
            let mut vm = guest(engine, "hello", file, "", "");
            assert_eq!(exit_code(&mut vm), 0, "{}\n{}", vm.output(), vm.errors());
            let output = vm.output();
            assert!(output.contains("hello from long mode"), "{output}");
            assert!(output.contains(protocol), "{output}");
            assert!(output.contains("tick 10"), "{output}");
            assert!(
                vm.errors()
                    .lines()
                    .next()
                    .is_some_and(|line| line.contains("engine")),
                "{}",
                vm.errors()
            );
        }
    }
}

#[test]
fn platform_finds_every_device_as_its_data_sheet_says() {
    for engine in engines("platform") {
        let mut vm = guest(engine, "platform", "platform.elf", "", "debug_exit = 0xf4");
        assert_eq!(exit_code(&mut vm), 10, "{}\n{}", vm.output(), vm.errors());
        assert!(!vm.output().contains("FAIL"), "{}", vm.output());
    }
}

#[test]
fn flat_images_pass_through_the_old_modes() {
    for engine in engines("flat images") {
        for image in ["realmode", "protected"] {
            let mut vm = Vm::start(
                image,
                &format!("image = \"{GUESTS}/{image}.bin\""),
                &format!("engine = \"{engine}\"\ndebug_exit = 0xf4"),
            );
            let code = exit_code(&mut vm);
            if not_emulated(&format!("{image} on {engine}"), code, &vm) {
                continue;
            }
            assert_eq!(code, 10, "{}\n{}", vm.output(), vm.errors());
        }
    }
}

#[test]
fn every_way_to_reset_ends_with_status_4_when_asked_to() {
    for engine in engines("resets") {
        for way in ["i8042", "cf9", "port92", "triple"] {
            let mut vm = guest(engine, "reset", "reset.elf", way, "on_reset = \"exit\"");
            let code = exit_code(&mut vm);
            if not_emulated(&format!("reset by {way} on {engine}"), code, &vm) {
                continue;
            }
            assert_eq!(code, 4, "{way}: {}\n{}", vm.output(), vm.errors());
            assert!(vm.output().contains("reset by"), "{}", vm.output());
        }
    }
}

#[test]
fn a_reset_starts_the_machine_again() {
    for engine in engines("reboot") {
        let mut vm = guest(engine, "reboot", "reset.elf", "i8042", "");
        vm.wait_for("third start", |vm| vm.output().matches("reset by").count() >= 3);
        assert!(vm.vmapp(&["stop", "reboot", "--now"]).status.success());
        vm.end();
    }
}

#[test]
fn status_shows_engine_exits_and_world_switches_of_a_running_guest() {
    for engine in engines("status") {
        let mut vm = guest(engine, "status", "hello.elf", "forever", "");
        vm.wait_for("two seconds", |vm| vm.output().contains("second 2"));
        let listed = vm.vmapp(&["list"]);
        assert!(
            String::from_utf8_lossy(&listed.stdout).contains("status"),
            "{listed:?}"
        );
        let output = vm.vmapp(&["status", "status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(status["name"], "status");
        assert_eq!(status["engine"], engine);
        for (group, kind) in [
            ("exits", "port"),
            ("exits", "halt"),
            ("world_switches", "console"),
        ] {
            assert!(
                status[group][kind].as_u64().is_some_and(|n| n > 0),
                "{group}.{kind}: {status}"
            );
        }
    }
}

#[test]
fn a_halted_guests_timer_wakes_it_once() {
    for engine in engines("a halted guest's timer") {
        let mut vm = guest(engine, "halting", "hello.elf", "forever", "");
        vm.wait_for("two seconds", |vm| vm.output().contains("second 2"));
        let status = vm.vmapp(&["status", "halting", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
        let exits = |kind: &str| status["exits"][kind].as_u64().expect("a number");
        // The sleep has its own limit: the engine's alarm must not ring as well, and throw the vCPU out once more.
        assert!(
            exits("halt") > 10 && 4 * exits("kicked") < 3 * exits("halt"),
            "{} halts, {} kicks",
            exits("halt"),
            exits("kicked")
        );
    }
}

#[test]
fn the_power_button_reaches_the_guest_from_stop_and_from_sigterm() {
    for engine in engines("button") {
        let mut vm = guest(engine, "button", "hello.elf", "button", "");
        vm.wait_for("the guest to wait", |vm| vm.output().contains("button"));
        assert!(vm.vmapp(&["stop", "button"]).status.success());
        assert_eq!(exit_code(&mut vm), 0, "{}\n{}", vm.output(), vm.errors());

        let mut vm = guest(engine, "sigterm", "hello.elf", "button", "");
        vm.wait_for("the guest to wait", |vm| vm.output().contains("button"));
        kill(Pid::from_raw(vm.pid() as i32), Signal::SIGTERM).expect("vmapp lives");
        assert_eq!(exit_code(&mut vm), 0, "{}\n{}", vm.output(), vm.errors());
    }
}

#[test]
fn a_worker_killed_for_good_ends_the_vm_within_a_second_and_leaves_nothing() {
    for engine in engines("killed workers") {
        for (worker, status) in [("vmm", 3), ("vmapp-io", 1)] {
            let mortal = "[io]\nrestart_limit = 0";
            let mut vm = guest(engine, "killed", "hello.elf", "forever", mortal);
            vm.wait_for("a second", |vm| vm.output().contains("second 1"));
            let workers = vm.workers();
            let (pid, _) = workers
                .iter()
                .find(|(_, name)| name == worker)
                .expect("both workers run");
            let killed = Instant::now();
            kill(Pid::from_raw(*pid as i32), Signal::SIGKILL).expect("the worker lives");
            assert_eq!(exit_code(&mut vm), status, "{}", vm.errors());
            assert!(
                killed.elapsed() < Duration::from_secs(1),
                "{:?}",
                killed.elapsed()
            );
            let last = vm.errors().lines().last().unwrap_or_default().to_owned();
            assert!(last.contains("SIGKILL"), "{last}");
            for (pid, name) in workers {
                assert!(!alive(pid), "{name} {pid} is still there");
            }
        }
    }
}

#[test]
fn the_supervisors_sudden_death_takes_the_workers_with_it() {
    for engine in engines("orphans") {
        let mut vm = guest(engine, "orphans", "hello.elf", "spin", "");
        vm.wait_for("the guest to spin", |vm| vm.output().contains("spinning"));
        let workers = vm.workers();
        assert_eq!(workers.len(), 2, "{workers:?}");
        kill(Pid::from_raw(vm.pid() as i32), Signal::SIGKILL).expect("vmapp lives");
        let began = Instant::now();
        while workers.iter().any(|(pid, _)| alive(*pid)) {
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "workers outlive their supervisor"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn typed_bytes_come_back_from_an_echoing_guest_in_order() {
    for engine in engines("echo") {
        let mut vm = guest(engine, "echo", "hello.elf", "echo", "");
        vm.wait_for("the guest to listen", |vm| vm.output().contains("echo"));
        let line: String = ('a'..='p')
            .chain('r'..='z')
            .chain('0'..='9')
            .cycle()
            .take(2000)
            .collect();
        vm.type_in(&line);
        vm.wait_for("the whole line", |vm| vm.output().contains(&line));
        vm.type_in("q");
        assert_eq!(exit_code(&mut vm), 0, "{}", vm.errors());
    }
}

#[test]
fn the_reader_of_a_pty_gets_the_guests_last_line() {
    for engine in engines("a pty's last line") {
        let boot = format!(
            "kernel = \"{GUESTS}/hello.elf\"\ncmdline = \"hello.elf button\"\n[console]\nserial = \"pty\""
        );
        let mut vm = Vm::start("on-a-pty", &boot, &format!("engine = \"{engine}\""));
        vm.wait_for("the pty's name", |vm| vm.errors().contains("engine "));
        let errors = vm.errors();
        let at = errors
            .split("console: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let mut slave = std::fs::File::open(at.expect("a path")).expect("a terminal");
        let mut text = vec![0; 4096];
        let mut len = 0;
        // What was printed before we came was dropped: so ask until the guest answers.
        vm.wait_for("halt", |vm| {
            let status = vm.vmapp(&["status", "on-a-pty", "--json"]);
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
            status["exits"]["halt"].as_u64() > Some(0)
        });
        assert!(vm.vmapp(&["stop", "on-a-pty"]).status.success());
        // Nothing is read before the machine is gone.
        let supervisor = vm.pid();
        while !children(supervisor).is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Nor before a supervisor that does not wait for us would be gone too.
        let patience = Instant::now() + Duration::from_millis(300);
        while alive(supervisor) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        while let Ok(more @ 1..) = slave.read(&mut text[len..]) {
            len += more;
        }
        let text = String::from_utf8_lossy(&text[..len]);
        assert!(text.contains("powering off"), "{text:?}\n{}", vm.errors());
        drop(slave);
        assert_eq!(vm.end().code(), Some(0));
    }
}
