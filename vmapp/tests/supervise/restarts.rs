//! The I/O worker dies, hangs or is replaced, and the VM goes on.

use crate::stage::{Run, Stage, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A guest that says back what it hears, until it hears `quit`.
const ECHO: &str = "started;echo;ended \"powered-off\"";

/// Waits until the `count`th worker after the first serves; its process.
fn wait_served(stage: &Stage, count: u64) -> Pid {
    eventually("another worker", || {
        let status = stage.status();
        let there = status["io_state"] == "serving" && status["io_restarts"] == count;
        let pid = status["io_worker_pid"].as_i64()?;
        there.then(|| Pid::from_raw(pid.try_into().unwrap()))
    })
}

/// Types `text` and waits for its echo. What a worker wrote just before it was killed, the next may write again.
fn echoes(run: &mut Run, text: &str) {
    run.child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    read_up_to(run.child.stdout.as_mut().unwrap(), text);
}

fn read_up_to(from: &mut impl Read, text: &str) {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(text.as_bytes()) {
        from.read_exact(&mut byte).unwrap();
        all.push(byte[0]);
    }
}

#[test]
fn a_killed_io_worker_is_replaced_and_the_guest_goes_on() {
    let stage = Stage::new(ECHO, "");
    let mut run = stage.run_with(Stdio::piped(), Stdio::piped(), &[]);
    let vmm = stage.vmm();
    for count in 0..4 {
        let worker = wait_served(&stage, count);
        assert_eq!(worker, stage.worker(), "one at a time");
        echoes(&mut run, &format!("life {count} "));
        kill(worker, Signal::SIGKILL).unwrap();
    }
    wait_served(&stage, 4);
    assert_eq!(stage.vmm(), vmm);
    let status = stage.status();
    assert_eq!(status["state"], "running");
    assert_eq!(status["io_last_death"], "died: killed by signal 9 (SIGKILL)");
    echoes(&mut run, "quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
    let text = "I/O worker died: killed by signal 9 (SIGKILL); starting another";
    assert_eq!(stage.log().matches(text).count(), 4, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn without_restarts_a_killed_io_worker_ends_the_vm_cleanly() {
    let stage = Stage::new("started;obey", "[io]\nrestart_limit = 0");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    kill(stage.worker(), Signal::SIGKILL).unwrap();
    assert_eq!(run.status(), 1);
    let text = "demo: I/O worker died: killed by signal 9 (SIGKILL)\n";
    assert!(stage.log().contains(text), "{}", stage.log());
    stage.is_clean();
}

#[test]
fn workers_that_die_too_often_end_the_vm_with_the_reason() {
    let stage = Stage::new("started;obey", "[io]\nrestart_limit = 3");
    let mut run = stage.run();
    for count in 0..=3 {
        kill(wait_served(&stage, count), Signal::SIGABRT).unwrap();
    }
    assert_eq!(run.status(), 1);
    let text = "I/O worker lost 4 times in 60 s; it died: killed by signal 6 (SIGABRT)";
    assert!(stage.log().contains(text), "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let stage = Stage::new(ECHO, "[io]\nwatchdog_ms = 300");
    let mut run = stage.run_with(Stdio::piped(), Stdio::piped(), &[]);
    kill(wait_served(&stage, 0), Signal::SIGSTOP).unwrap();
    stage.wait_log("I/O worker gave no sign of life for");
    wait_served(&stage, 1);
    echoes(&mut run, "quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_whole_vm_that_was_stopped_goes_on_with_the_worker_it_had() {
    let stage = Stage::new(ECHO, "[io]\nwatchdog_ms = 300");
    let mut run = stage.run_with(Stdio::piped(), Stdio::piped(), &[]);
    let worker = wait_served(&stage, 0);
    let supervisor = Pid::from_raw(run.child.id().try_into().unwrap());
    let all = [supervisor, worker, stage.vmm()];
    for pid in all {
        kill(pid, Signal::SIGSTOP).unwrap();
    }
    // Four times what the watchdog would wait.
    std::thread::sleep(Duration::from_millis(1200));
    for pid in all {
        kill(pid, Signal::SIGCONT).unwrap();
    }
    echoes(&mut run, "hello ");
    assert_eq!(wait_served(&stage, 0), worker);
    echoes(&mut run, "quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
}

#[test]
fn a_worker_is_replaced_on_request_even_where_none_may_die() {
    let stage = Stage::new(ECHO, "[io]\nrestart_limit = 0");
    let mut run = stage.run_with(Stdio::piped(), Stdio::piped(), &[]);
    for count in 1..=3 {
        echoes(&mut run, "still here ");
        let asked = stage.ask(&["restart-io", "demo"]);
        let worker = wait_served(&stage, count);
        let said = format!("demo: I/O worker {worker} serves\n");
        assert_eq!(String::from_utf8_lossy(&asked.stdout), said, "{asked:?}");
    }
    echoes(&mut run, "quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
    assert!(stage.log().contains("I/O worker replaced on request"));
    let nobody = stage.ask(&["restart-io", "demo"]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn an_upgrade_takes_the_program_on_disk_and_one_that_does_not_fit_is_followed_by_our_own() {
    let stage = Stage::new(ECHO, "[io]\nrestart_limit = 0");
    let program = stage.path("vmapp");
    let install = |bytes: &[u8]| {
        let new = stage.path("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &program).unwrap();
    };
    let real = std::fs::read(env!("CARGO_BIN_EXE_vmapp")).unwrap();
    let real_size = real.len() as u64;
    install(&real);
    let mut command = Command::new(&program);
    stage.dress(&mut command);
    let errors = std::fs::File::create(stage.path("stderr")).unwrap();
    let child = command
        .args(["run", "vm.toml"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut run = Run { child };
    wait_served(&stage, 0);

    let mut upgraded = real;
    upgraded.extend_from_slice(b"another version");
    install(&upgraded);
    assert_eq!(stage.ask(&["restart-io", "demo"]).status.code(), Some(0));
    let worker = wait_served(&stage, 1);
    let runs = std::fs::metadata(format!("/proc/{worker}/exe")).unwrap();
    assert_eq!(runs.len(), upgraded.len() as u64, "the one on disk");
    echoes(&mut run, "upgraded ");

    install(b"#!/bin/sh\nexit 7\n");
    let asked = stage.ask(&["restart-io", "demo"]);
    let worker = wait_served(&stage, 3);
    let said = format!(
        "error: the I/O worker started from the program on disk died: exited with status 7; I/O worker {worker}, of the program \
         this VM was started with, serves now: mend or put back the program and ask again\n"
    );
    assert_eq!(
        (
            asked.status.code(),
            String::from_utf8_lossy(&asked.stderr).as_ref()
        ),
        (Some(1), said.as_str())
    );
    stage.wait_log("the I/O worker that was to replace ours died: exited with status 7; starting ours again");
    let runs = std::fs::metadata(format!("/proc/{worker}/exe")).unwrap();
    assert_eq!(runs.len(), real_size, "the one it was started with");
    echoes(&mut run, "back ");

    // One that does nothing at all is found out as well.
    install(b"#!/bin/sh\nexec sleep 1000\n");
    let asked = stage.ask(&["restart-io", "demo"]);
    assert_eq!(asked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(said.contains("gave no sign of life for 10"), "{said}");
    wait_served(&stage, 5);
    echoes(&mut run, "quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_client_of_the_console_socket_stays_connected() {
    let stage = Stage::new(ECHO, "[console]\nserial = \"socket:console\"");
    let mut run = stage.run();
    wait_served(&stage, 0);
    let mut client = UnixStream::connect(stage.path("console")).unwrap();
    client.set_read_timeout(Some(crate::stage::LIMIT)).unwrap();
    let mut says = |text: &str| {
        client.write_all(text.as_bytes()).unwrap();
        read_up_to(&mut client, text);
    };
    for count in 0..3 {
        says(&format!("life {count} "));
        kill(wait_served(&stage, count), Signal::SIGKILL).unwrap();
    }
    says("before restart-io ");
    assert_eq!(stage.ask(&["restart-io", "demo"]).status.code(), Some(0));
    says("quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
}

#[test]
fn a_second_client_of_the_console_socket_waits_for_the_firsts_end_whichever_worker_sees_it() {
    let stage = Stage::new(ECHO, "[console]\nserial = \"socket:console\"");
    let mut run = stage.run();
    wait_served(&stage, 0);
    let come = || {
        let client = UnixStream::connect(stage.path("console")).unwrap();
        client.set_read_timeout(Some(crate::stage::LIMIT)).unwrap();
        client
    };
    let says = |client: &mut UnixStream, text: &str| {
        client.write_all(text.as_bytes()).unwrap();
        read_up_to(client, text);
    };
    let mut first = come();
    says(&mut first, "first ");
    let mut second = come();
    second.write_all(b"second ").unwrap();
    kill(wait_served(&stage, 0), Signal::SIGKILL).unwrap();
    wait_served(&stage, 1);
    says(&mut first, "still first ");
    assert_eq!(stage.ask(&["restart-io", "demo"]).status.code(), Some(0));
    says(&mut first, "and still ");
    second.set_nonblocking(true).unwrap();
    let heard = second.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock), "not its turn");
    second.set_nonblocking(false).unwrap();

    drop(first);
    read_up_to(&mut second, "second ");
    kill(wait_served(&stage, 2), Signal::SIGKILL).unwrap();
    // Gone while there is no worker, or one that has not looked yet: the next one finds out.
    drop(second);
    let mut third = come();
    says(&mut third, "third ");
    third.shutdown(Shutdown::Write).unwrap();
    let mut fourth = come();
    says(&mut fourth, "quit");
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}
