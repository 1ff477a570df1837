//! Either worker killed or hostile, and the supervisor killed.

use crate::stage::{Stage, eventually};
use nix::sys::signal::{Signal, kill};
use std::time::{Duration, Instant};

#[test]
fn a_killed_vmm_ends_the_run_with_status_3_within_a_second() {
    let stage = Stage::new("started;print hello;obey", "");
    let mut run = stage.run();
    stage.wait_written(6);
    let vmm = stage.vmm();
    let killed = Instant::now();
    kill(vmm, Signal::SIGKILL).unwrap();
    assert_eq!(run.output(), (3, b"hello\n".to_vec()));
    assert!(
        killed.elapsed() < Duration::from_secs(1),
        "{:?}",
        killed.elapsed()
    );
    assert!(
        stage
            .log()
            .contains("demo: vmm died: killed by signal 9 (SIGKILL)"),
        "{}",
        stage.log()
    );
    stage.is_clean();
}

#[test]
fn both_workers_killed_at_once_is_a_dead_vmm() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let (worker, vmm) = (stage.worker(), stage.vmm());
    run.signal(Signal::SIGSTOP);
    kill(worker, Signal::SIGKILL).unwrap();
    kill(vmm, Signal::SIGKILL).unwrap();
    run.signal(Signal::SIGCONT);
    assert_eq!(run.status(), 3, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_killed_supervisor_leaves_no_process_and_its_name_free() {
    let stage = Stage::new("started;obey", "");
    let run = stage.run();
    stage.wait_log("engine fake");
    run.signal(Signal::SIGKILL);
    drop(run);
    stage.is_empty();
    let list = stage.ask(&["list"]);
    assert!(!String::from_utf8_lossy(&list.stdout).contains("demo"));
    let mut again = stage.run();
    stage.wait_log("engine fake");
    again.signal(Signal::SIGINT);
    assert_eq!(again.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_vmm_that_talks_nonsense_is_ended() {
    for (play, reason) in [
        (
            "started;garbage;deaf",
            "vmm broke the protocol: a record does not say",
        ),
        ("started;close", "vmm broke the protocol: it closed its socket"),
    ] {
        let stage = Stage::new(play, "");
        let mut run = stage.run();
        assert_eq!(run.status(), 3, "{}", stage.log());
        assert!(stage.log().contains(reason), "{}", stage.log());
        stage.is_clean();
    }
}

/// A jailed worker has no call for it; this one is not jailed, and here the kernel refuses.
#[test]
fn a_descriptor_whose_close_waits_does_not_freeze_the_supervisor() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (major, minor) = (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap());
    if (major, minor) < (6, 16) {
        println!("skipped: Linux {release} cannot refuse descriptors on their way");
        return;
    }
    let stage = Stage::new("started;linger;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_vmm_that_scribbles_over_the_rings_harms_only_itself() {
    let stage = Stage::new("started;ping;scribble;obey", "");
    let mut run = stage.run();
    stage.wait_log("the vmm broke the ring's rules");
    let errors = eventually("peer errors", || {
        stage.status()["io_worker"]["peer"]["errors"]
            .as_u64()
            .filter(|&n| n > 0)
    });
    assert!(errors > 0);
    assert_eq!(stage.ask(&["stop", "demo", "--now"]).status.code(), Some(0));
    assert_eq!(run.status(), 1, "{}", stage.log());
    assert!(!stage.log().contains("panicked"), "{}", stage.log());
    assert!(
        stage.log().matches("broke the ring's rules").count() <= 2,
        "a trickle of complaints"
    );
    stage.is_clean();
}

#[test]
fn slots_of_no_known_kind_are_skipped_and_counted() {
    let stage = Stage::new("started;print one;strange;print two;obey", "");
    let mut run = stage.run();
    eventually("two peer errors", || {
        (stage.status()["io_worker"]["peer"]["errors"] == 2).then_some(())
    });
    run.signal(Signal::SIGTERM);
    assert_eq!(run.output(), (0, b"one\ntwo\n".to_vec()));
}

#[test]
fn an_io_worker_started_by_hand_says_so() {
    let stage = Stage::new("", "");
    let output = stage.ask(&["io-worker"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not by hand"));
}
