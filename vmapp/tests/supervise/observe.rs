//! `list`, `status` and `stop` against running VMs.

use crate::stage::{Stage, eventually};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn status_tells_engine_counters_and_console() {
    let stage = Stage::new(
        "started;print hello;obey",
        "[console]\nserial = \"file:console.log\"",
    );
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let status = eventually("the greeting to be written", || {
        let status = stage.status();
        (status["io_worker"]["console"]["bytes_out"] == 6).then_some(status)
    });
    assert_eq!(status["schema"], 1);
    assert_eq!(status["name"], "demo");
    assert_eq!(status["state"], "running");
    assert_eq!(status["pid"], run.child.id());
    assert_eq!(status["engine"], "fake");
    assert_eq!(status["engine_why"], "it plays a script");
    assert_eq!(status["memory_bytes"], 512 << 20);
    assert!(status["console_at"].as_str().unwrap().ends_with("console.log"));
    for group in ["exits", "world_switches", "doorbells", "halt", "console", "peer"] {
        assert!(status[group].is_object(), "{group}: {status}");
    }
    let table = text(&stage.ask(&["status", "demo"]).stdout);
    assert!(
        table.contains("engine          fake: it plays a script\n"),
        "{table}"
    );
    let list = text(&stage.ask(&["list"]).stdout);
    assert!(list.contains("demo  running       fake"), "{list}");

    let stop = stage.ask(&["stop", "demo"]);
    assert_eq!(stop.status.code(), Some(0));
    assert!(text(&stop.stdout).contains("pressed the power button"));
    assert_eq!(run.status(), 0, "{}", stage.log());
    stage.is_clean();
}

#[test]
fn a_vm_that_is_not_there_is_named_beside_those_that_are() {
    let stage = Stage::new("started;obey", "");
    for args in [&["status", "dome"][..], &["stop", "dome"]] {
        let output = stage.ask(args);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            text(&output.stderr),
            "error: no VM named dome is running; none is\n"
        );
    }
    let _run = stage.run();
    stage.wait_log("engine fake");
    let output = stage.ask(&["status", "dome"]);
    assert_eq!(
        text(&output.stderr),
        "error: no VM named dome is running; running: demo\n"
    );
}

#[test]
fn a_second_vm_of_the_same_name_is_refused() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let second = stage.ask(&["run", "vm.toml"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(
        text(&second.stderr).contains("a VM named demo is running already"),
        "{second:?}"
    );
    assert_eq!(
        stage.status()["state"],
        "running",
        "the first one is not disturbed"
    );
    stage.ask(&["stop", "demo"]);
    assert_eq!(run.status(), 0);
}

#[test]
fn stop_now_returns_when_everything_is_gone() {
    let stage = Stage::new("started;echo", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let stop = stage.ask(&["stop", "demo", "--now"]);
    assert_eq!(stop.status.code(), Some(0));
    assert_eq!(text(&stop.stdout), "demo: ended\n");
    assert!(stage.processes("io-worker").is_empty() && stage.processes("fake_vmm").is_empty());
    assert_eq!(run.status(), 1);
    assert!(stage.log().contains("vmapp stop --now"), "{}", stage.log());
    stage.is_clean();
}

#[test]
fn watch_repeats_and_ends_with_the_vm() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let mut watch = stage
        .command(&["status", "demo", "--watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["name"], "demo");
    }
    stage.ask(&["stop", "demo"]);
    assert_eq!(run.status(), 0);
    let status = eventually("the end of watching", || watch.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn silent_clients_do_not_keep_the_supervisor_from_its_work() {
    let stage = Stage::new("started;obey", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let path = stage.path("run/worldswitch/demo.sock");
    let silent: Vec<_> = (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert_eq!(stage.status()["state"], "running");
    stage.ask(&["stop", "demo"]);
    assert_eq!(run.status(), 0);
    drop(silent);
}
