//! An I/O worker that is taken over, against the real supervisor: it is replaced or outlived, and the VM goes on.

use crate::stage::{Run, Stage, eventually, resident};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::process::Stdio;

/// A guest that says back what it hears, until it hears `quit`.
const ECHO: &str = "started;echo;ended \"powered-off\"";
/// More than any of these may cost the supervisor.
const MEMORY: u64 = 8 << 20;
/// Lines that a flood of words may cause: see the flood of lines.
const MOST_LINES: usize = 200;

/// A VM whose present I/O worker is the fake one, at work.
struct Held {
    stage: Stage,
    run: Run,
    /// What the supervisor needed before.
    memory: u64,
}

impl Held {
    fn by(work: &str, config: &str) -> Self {
        let stage = Stage::new(ECHO, config);
        let run = stage.run_installed(Stdio::piped());
        let memory = resident(run.child.id());
        stage.upgrade(work);
        Self { stage, run, memory }
    }

    fn is_bounded(&self) {
        let now = resident(self.run.child.id());
        assert!(now < self.memory + MEMORY, "{} to {now} bytes", self.memory);
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.run.child.id()))
            .unwrap()
            .count();
        assert!(open < 40, "{open} descriptors");
        let log = self.stage.log();
        assert!(log.lines().count() < MOST_LINES, "{log}");
        assert!(!log.replace('\n', "").chars().any(char::is_control), "{log}");
        assert!(log.lines().all(|line| line.chars().count() < 700), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Ends the fake one that still serves.
    fn kill_worker(&self) {
        let status = self.stage.status();
        assert_eq!(
            (&status["state"], &status["io_state"]),
            (&"running".into(), &"serving".into())
        );
        assert_eq!(status["io_restarts"], 1, "the fake one: {status}");
        let pid = status["io_worker_pid"].as_i64().unwrap();
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    }

    /// The next worker is ours and serves the guest.
    fn goes_on(mut self) {
        eventually("our own worker", || {
            let status = self.stage.status();
            let ours = status["io_state"] == "serving" && status["io_restarts"].as_u64() >= Some(2);
            ours.then_some(())
        });
        self.is_bounded();
        let text = b"and still here\nquit";
        self.run.child.stdin.as_mut().unwrap().write_all(text).unwrap();
        let mut echo = vec![0; text.len()];
        self.run
            .child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut echo)
            .unwrap();
        assert_eq!(echo, text);
        assert_eq!(self.run.status(), 0, "{}", self.stage.log());
        self.stage.is_clean();
    }
}

#[test]
fn an_io_worker_that_breaks_the_protocol_is_replaced() {
    let table = [
        (
            "beat;word \"ready\";word \"what\";rest",
            "a record does not say what it must",
        ),
        ("beat;word 17;rest", "a record does not say what it must"),
        (
            "beat;word \"ready\";cut {\"warning\":\"cut short\"};rest",
            "a record does not say what it must",
        ),
        (
            "beat;word \"ready\";long;rest",
            "the peer sent a record longer than",
        ),
        (
            "beat;word \"ready\";empty;rest",
            "it closed its socket and lives on",
        ),
        (
            "beat;word \"ready\";close;rest",
            "it closed its socket and lives on",
        ),
    ];
    for (work, reason) in table {
        let held = Held::by(work, "");
        held.stage.wait_log(&format!("broke the protocol: {reason}"));
        held.goes_on();
    }
}

#[test]
fn an_io_worker_that_falls_silent_is_replaced() {
    let held = Held::by("word \"ready\";rest", "[io]\nwatchdog_ms = 300");
    held.stage.wait_log("I/O worker gave no sign of life for");
    held.goes_on();
}

#[test]
fn words_too_early_or_twice_change_nothing() {
    let work = "beat;word \"finished\";word \"continued\";word \"console-client-gone\";\
                word \"ready\";word \"ready\";word \"finished\";word {\"stopping\":{\"ms\":0}};\
                word {\"stopping\":{\"ms\":4294967295}};word \"continued\";word \"continued\";\
                word {\"failed\":\"not at all\"};word {\"injected\":{\"injections\":[],\"progress\":[]}};\
                word \"ready\";touch said;rest";
    let held = Held::by(work, "");
    held.stage.wait_file_made("said");
    held.kill_worker();
    held.stage
        .wait_log("I/O worker failed: not at all; starting another");
    held.goes_on();
}

#[test]
fn a_flood_of_words_neither_fills_nor_stalls_the_supervisor() {
    let held = Held::by("beat;word \"ready\";chatter 30000;touch said;rest", "");
    eventually("the end of the flood", || {
        // Answered all the while.
        assert_eq!(held.stage.status()["state"], "running");
        held.stage.path("said").exists().then_some(())
    });
    held.is_bounded();
    held.kill_worker();
    held.goes_on();
}

#[test]
fn a_flood_on_an_io_workers_standard_error_is_a_trickle() {
    let held = Held::by(
        "beat;word \"ready\";shout 1000000;drone 67108864;touch said;rest",
        "",
    );
    eventually("the end of the flood", || {
        assert_eq!(held.stage.status()["state"], "running");
        held.stage.path("said").exists().then_some(())
    });
    assert!(
        held.stage.log().contains("I/O worker says:  [31mline "),
        "{}",
        held.stage.log()
    );
    held.is_bounded();
    held.kill_worker();
    held.goes_on();
}

/// The kernel refuses them to the worker (Linux 6.16), or the supervisor ends it for them.
#[test]
fn no_descriptor_of_an_io_worker_gets_into_the_supervisor() {
    for (times, each) in [(1, 1), (2000, 64), (3, 253)] {
        let held = Held::by(
            &format!("beat;word \"ready\";descriptors {times} {each};touch said;rest"),
            "",
        );
        let broke = eventually("the end of the records", || {
            let broke = held
                .stage
                .log()
                .contains("broke the protocol: a record brings descriptors");
            (broke || held.stage.path("said").exists()).then_some(broke)
        });
        held.is_bounded();
        if !broke {
            held.kill_worker();
        }
        held.goes_on();
    }
}

#[test]
fn counters_of_any_value_are_shown() {
    let held = Held::by("beat;word \"ready\";scribble;touch said;rest", "");
    held.stage.wait_file_made("said");
    assert_eq!(held.stage.status()["peer"]["errors"], u64::MAX);
    let table = held.stage.ask(&["status", "demo"]);
    assert_eq!(table.status.code(), Some(0), "{table:?}");
    let mut watch = held
        .stage
        .command(&["status", "demo", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let mut some = [0; 4096];
    let output = watch.stdout.as_mut().unwrap();
    while seen.windows(6).filter(|text| text == b"engine").count() < 2 {
        let count = output.read(&mut some).unwrap();
        assert!(count > 0, "it ended");
        seen.extend_from_slice(&some[..count]);
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    held.kill_worker();
    held.goes_on();
}
