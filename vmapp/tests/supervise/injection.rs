//! Scripted faults through the supervisor: armed over the control socket or by the file, kept over workers, counted, told.

use crate::stage::{Stage, eventually};
use nix::sys::signal::Signal;

/// Standard output of `vmapp fault demo WORDS...`, which must be done.
fn fault(stage: &Stage, words: &[&str]) -> String {
    let output = stage.ask(&[&["fault", "demo"], words].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn serving(stage: &Stage, restarts: u64) {
    eventually("the next worker", || {
        let status = stage.status();
        (status["io_restarts"] == restarts && status["io_state"] == "serving").then_some(())
    });
}

#[test]
fn a_worker_is_killed_at_a_point_as_often_as_asked_and_its_deaths_are_numbered() {
    let stage = Stage::new("started;print hello;obey", "");
    let mut run = stage.run();
    stage.wait_written(6);
    serving(&stage, 0);
    let said = fault(&stage, &["kill", "at=turn", "every=2", "count=2", "seed=9"]);
    assert_eq!(said, "demo: fault 1 armed: kill at=turn every=2 count=2 seed=9\n");
    serving(&stage, 2);
    stage.wait_log("fault 1: kill at turn, pass 2");
    stage.wait_log("fault 2: kill at turn, pass 4");
    assert_eq!(stage.status()["faults"], serde_json::json!({ "kill": 2 }));
    let list = fault(&stage, &["list"]);
    assert_eq!(
        list,
        "demo: fault 1   done   struck 2 of 4 passes: kill at=turn every=2 count=2 seed=9\ninjections so far: 2\n"
    );
    assert_eq!(
        fault(&stage, &["kill", "at=1"]),
        "demo: fault 2 armed: kill at=attached seed=1\n"
    );
    // The one that was asked for dies on its way, which is told.
    assert_eq!(stage.ask(&["restart-io", "demo"]).status.code(), Some(1));
    stage.wait_log("fault 3: kill at attached, pass 1");
    serving(&stage, 4);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.output(), (0, b"hello\n".to_vec()));
    stage.is_clean();
}

#[test]
fn a_worker_stops_at_a_point_and_goes_on_by_itself() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    serving(&stage, 0);
    let worker = stage.worker();
    fault(&stage, &["stop at=turn ms=400"]);
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.trim().chars().next().unwrap()
    };
    eventually("the stop", || (state() == 'T').then_some(()));
    eventually("the continuation", || (state() != 'T').then_some(()));
    stage.wait_log("fault 1: stop at turn, pass 1");
    assert_eq!(stage.status()["io_restarts"], 0);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_worker_that_stops_longer_than_the_watchdog_waits_is_taken_for_hung() {
    let stage = Stage::new("started;obey", "[io]\nwatchdog_ms = 200");
    let mut run = stage.run();
    serving(&stage, 0);
    fault(&stage, &["stop at=turn ms=60000"]);
    serving(&stage, 1);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_vmm_is_killed_and_the_vm_ends_with_status_3() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    fault(&stage, &["vmm-kill after_ms=50"]);
    assert_eq!(run.status(), 3, "{}", stage.log());
    assert!(
        stage.log().contains("fault 1: vmm-kill, pass 1"),
        "{}",
        stage.log()
    );
    stage.is_clean();
}

#[test]
fn faults_of_the_file_are_there_from_the_start_and_strike_the_console_both_ways() {
    let stage = Stage::new(
        "started;print one;print two;print three;print four;obey",
        "[faults]\nseed = 5\ninject = [\"drop channel=console dir=down after=1 count=1\", \"duplicate channel=console after=1 count=1\"]",
    );
    let mut run = stage.run();
    // The second is lost; as it is struck by both orders, nothing is left to come twice.
    stage.wait_written(15);
    let list = fault(&stage, &["list"]);
    assert!(
        list.contains("fault 1   done   struck 1 of 2 passes: drop"),
        "{list}"
    );
    assert!(
        list.contains("fault 2   done   struck 1 of 2 passes: duplicate"),
        "{list}"
    );
    assert!(list.contains("seed=5"), "{list}");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.output(), (0, b"one\nthree\nfour\n".to_vec()));
    stage.is_clean();
}

#[test]
fn what_a_vm_cannot_have_is_refused_and_clear_takes_all_off() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let refused = stage.ask(&["fault", "demo", "drop", "channel=net0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "error: the VM refused: this VM has no net0; it has control, console\n"
    );
    let wrong = stage.ask(&["fault", "demo", "drop", "rate=0.5", "kil", "at=turn"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&wrong.stderr),
        "error: there is no action `kil`\n --> kil at=turn\n = help: did you mean `kill`?\n"
    );
    assert_eq!(
        fault(&stage, &["list"]),
        "demo: nothing is armed\ninjections so far: 0\n"
    );
    for _ in 0..32 {
        fault(&stage, &["corrupt", "channel=control", "rate=0.000001"]);
    }
    let full = stage.ask(&["fault", "demo", "drop"]);
    assert_eq!(
        String::from_utf8_lossy(&full.stderr),
        "error: the VM refused: 32 faults are armed; take them off with `vmapp fault NAME clear`\n"
    );
    assert_eq!(fault(&stage, &["clear"]), "demo: 32 taken off\n");
    assert_eq!(
        fault(&stage, &["list"]),
        "demo: nothing is armed\ninjections so far: 0\n"
    );
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}
