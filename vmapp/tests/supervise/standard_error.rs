//! What workers write to their standard error: told, bounded, and never in anybody's way. And the supervisor's own.

use crate::stage::{Run, Stage, eventually, resident};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use std::fs::File;
use std::io::{Read, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// More than any of these may cost the supervisor, and far less than what they write.
const MEMORY: u64 = 8 << 20;
/// Lines that a flood may cause, however slow the machine: 20 in any 10 s, for no longer than a stage lives.
const MOST_LINES: usize = 200;

/// Waits for both lines and asserts their order.
fn told_in_order(stage: &Stage, first: &str, then: &str) {
    stage.wait_log(then);
    let log = stage.log();
    let [first, then] =
        [first, then].map(|text| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}")));
    assert!(first < then, "{log}");
}

#[test]
fn a_workers_last_words_are_told_before_its_death() {
    let stage = Stage::new("started;panic the \x1b[31mguest won", "");
    let mut run = stage.run();
    assert_eq!(run.status(), 3);
    told_in_order(
        &stage,
        "vmm says: thread 'fake_vmm::fake_vmm'",
        "vmm says: the  [31mguest won",
    );
    told_in_order(
        &stage,
        "vmm says: the  [31mguest won",
        "vmm died: exited with status 101",
    );
    stage.is_clean();

    let stage = Stage::new("started;says of no weight;shout 1000;says it was me;exit 9", "");
    let mut run = stage.run();
    assert_eq!(run.status(), 3);
    told_in_order(&stage, "vmm says: of no weight", "vmm said last: it was me\n");
    told_in_order(
        &stage,
        "vmm said last: it was me\n",
        "vmm died: exited with status 9",
    );
    stage.is_clean();
}

#[test]
fn an_io_workers_last_words_are_told_before_its_death() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run_installed(Stdio::null());
    stage.upgrade("beat;word \"ready\";await go;panic the net won");
    std::fs::write(stage.path("go"), "").unwrap();
    told_in_order(
        &stage,
        "I/O worker says: the net won",
        "I/O worker died: exited with status 101",
    );
    run.signal(Signal::SIGINT);
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

/// Plays `murmur` on the vmm; the supervisor meanwhile answers, and stays as small as it was. The log at the end.
fn flood(murmur: &str) -> String {
    let stage = Stage::new(&format!("started;await go;{murmur};print done;obey"), "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let before = resident(run.child.id());
    std::fs::write(stage.path("go"), "").unwrap();
    stage.wait_written(5);
    assert_eq!(stage.status()["state"], "running");
    let after = resident(run.child.id());
    assert!(after < before + MEMORY, "{before} to {after} bytes");
    run.signal(Signal::SIGINT);
    assert_eq!(run.output(), (0, b"done\n".to_vec()), "{}", stage.log());
    stage.is_clean();
    stage.log()
}

#[test]
fn a_flood_is_told_as_a_trickle_of_plain_lines() {
    let log = flood("shout 3000000");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("vmm says")).collect();
    assert!((1..MOST_LINES).contains(&lines.len()), "{log}");
    assert!(!log.replace('\n', "").chars().any(char::is_control), "{log}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("worldswitch: demo: warning: vmm says")),
        "{log}"
    );
}

#[test]
fn an_endless_line_is_told_once_and_cut() {
    let log = flood("drone 67108864");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("mmmm")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].ends_with("m…") && lines[0].chars().count() < 600,
        "{log}"
    );
}

#[test]
fn a_worker_whose_supervisor_does_not_read_loses_words_and_goes_on() {
    let stage = Stage::new("started;await go;shout 100000;touch shouted;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    run.signal(Signal::SIGSTOP);
    std::fs::write(stage.path("go"), "").unwrap();
    eventually("the end of the flood", || {
        stage.path("shouted").exists().then_some(())
    });
    run.signal(Signal::SIGCONT);
    run.signal(Signal::SIGINT);
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

/// `vmapp run` with this standard error, of a vmm that causes more lines than fit anywhere.
fn run_into(stage: &Stage, stderr: OwnedFd) -> Run {
    let child = stage
        .command(&["run", "vm.toml"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    Run { child }
}

/// Fills it until nothing more fits.
fn fill(fd: &impl AsFd) {
    let set = |flags| fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).unwrap();
    set(OFlag::O_NONBLOCK);
    for size in [4096, 1] {
        while nix::unistd::write(fd, &vec![b'\n'; size]).is_ok() {}
    }
    set(OFlag::empty());
}

#[test]
fn a_standard_error_that_nobody_reads_does_not_hold_up_the_supervisor() {
    for (name, full) in [
        ("pipe", true),
        ("socket", true),
        ("pipe", false),
        ("socket", false),
    ] {
        let (ours, theirs): (OwnedFd, OwnedFd) = if name == "pipe" {
            let (ours, theirs) = pipe().unwrap();
            (ours.into(), theirs.into())
        } else {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (ours.into(), theirs.into())
        };
        let ours = if full {
            fill(&theirs);
            Some(ours)
        } else {
            None
        };
        let stage = Stage::new(
            "started;shout 100;print said;shout 1000;obey",
            "[console]\nserial = \"file:out\"",
        );
        let mut run = run_into(&stage, theirs);
        eventually("the vmm to be past its lines", || {
            (stage.status()["io_worker"]["console"]["bytes_out"] == 5).then_some(())
        });
        // Dead, it is replaced: the loop turns.
        kill(stage.worker(), Signal::SIGKILL).unwrap();
        eventually("another worker", || {
            (stage.status()["io_restarts"] == 1).then_some(())
        });
        if let Some(ours) = ours {
            // Somebody reads again: the next line says how many are missing.
            let mut reader = File::from(ours);
            let mut there = vec![0; 1 << 20];
            let first = reader.read(&mut there).unwrap();
            assert!(first > 0);
            kill(stage.worker(), Signal::SIGKILL).unwrap();
            let mut text = String::new();
            while !text.contains("lines of the log found no room here and are lost\n") {
                let count = reader.read(&mut there).unwrap();
                assert!(count > 0, "{name}: {text}");
                text.push_str(std::str::from_utf8(&there[..count]).unwrap());
            }
            std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        }
        run.signal(Signal::SIGINT);
        assert_eq!(run.status(), 0, "{name}, full: {full}");
        stage.is_clean();
    }
}

#[test]
fn the_users_open_file_description_of_standard_error_keeps_its_flags() {
    let stage = Stage::new("started;obey", "");
    let (mut ours, theirs) = pipe().unwrap();
    let kept = theirs.try_clone().unwrap();
    let mut run = run_into(&stage, theirs.into());
    let mut line = [0; 64];
    assert!(ours.read(&mut line).unwrap() > 0);
    let flags = OFlag::from_bits_retain(fcntl(&kept, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK), "{flags:?}");
    run.signal(Signal::SIGINT);
    assert_eq!(run.status(), 0);
}
