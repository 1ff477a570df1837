//! Every way a run can end: exit status and reason.

use crate::stage::Stage;
use nix::sys::signal::Signal;
use std::process::Stdio;

#[test]
fn each_outcome_has_its_exit_status_and_reason() {
    let table = [
        ("\"powered-off\"", 0, ""),
        ("\"triple-fault\"", 4, "guest triple-faulted"),
        ("{\"debug-exit\":5}", 15, "guest ended with exit code 5"),
        (
            "{\"failed\":\"no such\\u001b[31m luck\"}",
            1,
            "failed: no such [31m luck",
        ),
        ("\"stopped\"", 1, "ended before the guest powered off"),
        ("\"reset\"", 4, "guest reset"),
    ];
    for (outcome, status, reason) in table {
        let stage = Stage::new(
            &format!("started;print hello;ended {outcome}"),
            "[machine]\non_reset = \"exit\"",
        );
        let mut run = stage.run();
        assert_eq!(
            run.output(),
            (status, b"hello\n".to_vec()),
            "{outcome}: {}",
            stage.log()
        );
        assert_eq!(
            stage.log().lines().next(),
            Some("worldswitch: demo: engine fake: it plays a script")
        );
        assert!(stage.log().contains(reason), "{outcome}: {}", stage.log());
        stage.is_clean();
    }
}

#[test]
fn a_vmm_that_exits_without_a_word_is_status_3() {
    let stage = Stage::new("started;print last words;exit 7", "");
    let mut run = stage.run();
    assert_eq!(run.output(), (3, b"last words\n".to_vec()));
    assert!(
        stage.log().contains("vmm died: exited with status 7"),
        "{}",
        stage.log()
    );
    stage.is_clean();
}

#[test]
fn a_reset_starts_the_machine_again_on_the_same_console() {
    let stage = Stage::new("", "");
    let play = format!(
        "started;once {} ended \"reset\";print second life;ended \"powered-off\"",
        stage.path("been").display()
    );
    let stage = (Stage::new(&play, ""), stage);
    let mut run = stage.0.run();
    assert_eq!(run.output(), (0, b"second life\n".to_vec()), "{}", stage.0.log());
    assert!(stage.0.log().contains("guest reset"));
    stage.0.is_clean();
}

#[test]
fn sigint_presses_the_power_button() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let stage = Stage::new("started;obey", "");
        let mut run = stage.run();
        stage.wait_log("engine fake");
        run.signal(signal);
        assert_eq!(run.status(), 0, "{}", stage.log());
        assert!(
            stage
                .log()
                .contains(&format!("{signal}: pressed the power button")),
            "{}",
            stage.log()
        );
        stage.is_clean();
    }
}

#[test]
fn the_second_signal_ends_a_guest_that_ignores_the_button() {
    let stage = Stage::new("started;echo", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    run.signal(Signal::SIGINT);
    stage.wait_log("pressed the power button");
    run.signal(Signal::SIGINT);
    assert_eq!(run.status(), 1);
    assert!(
        stage.log().contains("ended before the guest powered off: SIGINT"),
        "{}",
        stage.log()
    );
    stage.is_clean();
}

#[test]
fn a_vmm_that_does_not_obey_is_killed() {
    let stage = Stage::new("started;deaf", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    run.signal(Signal::SIGTERM);
    stage.wait_log("pressed the power button");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 1);
    assert!(
        stage.log().contains("the vmm had to be killed"),
        "{}",
        stage.log()
    );
    stage.is_clean();
}

#[test]
fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let stage = Stage::new("started", "");
    std::fs::remove_file(stage.path("vmm")).unwrap();
    let mut run = stage.run();
    assert_eq!(run.status(), 1);
    assert!(stage.log().contains("cannot start"), "{}", stage.log());
    stage.is_clean();
}

#[test]
fn json_logs_are_one_object_a_line() {
    let stage = Stage::new("started;print guest;exit 1", "");
    let mut run = stage.run_with(Stdio::null(), Stdio::null(), &["--log", "json"]);
    assert_eq!(run.status(), 3);
    let lines: Vec<serde_json::Value> = stage
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert!(lines.len() >= 2);
    assert!(lines.iter().all(|line| line["vm"] == "demo"), "{lines:?}");
    assert_eq!(lines[0]["message"], "engine fake: it plays a script");
}

#[test]
fn quiet_keeps_only_what_went_wrong() {
    let stage = Stage::new("started;exit 1", "");
    let mut run = stage.run_with(Stdio::null(), Stdio::null(), &["--quiet"]);
    assert_eq!(run.status(), 3);
    assert_eq!(stage.log(), "worldswitch: demo: vmm died: exited with status 1\n");
}
