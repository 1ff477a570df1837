//! The console's back ends, end to end.

use crate::stage::{Stage, eventually, grown};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

#[test]
fn pipes_carry_every_byte_both_ways() {
    let stage = Stage::new("started;echo;ended \"powered-off\"", "");
    let mut run = stage.run_with(Stdio::piped(), Stdio::piped(), &[]);
    // No escape key on a pipe: C-a x is data.
    let mut text: Vec<u8> = (0..=255).chain(*b"\x01x\x01p").collect();
    text.extend(b"quit");
    run.child.stdin.take().unwrap().write_all(&text).unwrap();
    assert_eq!(run.output(), (0, text), "{}", stage.log());
    stage.is_clean();
}

#[test]
fn synchronous_calls_and_console_work_with_either_way_of_notifying() {
    for notify in ["bitmap", "select"] {
        let stage = Stage::new(
            "started;ping;echo;ended \"powered-off\"",
            &format!("[io]\nnotify = \"{notify}\""),
        );
        let mut run = stage.run_with(Stdio::piped(), Stdio::piped(), &[]);
        run.child.stdin.take().unwrap().write_all(b"quit").unwrap();
        assert_eq!(
            run.output(),
            (0, b"pong\nquit".to_vec()),
            "{notify}: {}",
            stage.log()
        );
    }
}

#[test]
fn end_of_input_is_not_the_end_of_the_vm() {
    let stage = Stage::new("started;print still here;obey", "");
    let mut run = stage.run_with(Stdio::null(), Stdio::piped(), &[]);
    stage.wait_log("engine fake");
    let mut line = [0; 11];
    run.child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"still here\n");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 0);
}

#[test]
fn a_file_on_standard_input_is_read_to_its_end() {
    let stage = Stage::new("started;echo;ended \"powered-off\"", "");
    let text = [&b"0123456789abcdef".repeat(2000)[..], b"quit"].concat();
    std::fs::write(stage.path("input"), &text).unwrap();
    let input = std::fs::File::open(stage.path("input")).unwrap();
    let mut run = stage.run_with(input.into(), Stdio::piped(), &[]);
    assert_eq!(run.output(), (0, text), "{}", stage.log());
}

#[test]
fn a_slow_reader_stalls_the_guest_and_loses_nothing() {
    let stage = Stage::new("", "");
    let told = stage.path("told");
    let play = format!("started;full {};ended \"powered-off\"", told.display());
    let stage = Stage::new(&play, "");
    let mut run = stage.run();
    // Nobody reads: pipe and ring fill, and the producer gets no further.
    let sent: usize = eventually("the producer to stall", || {
        std::fs::read_to_string(&told).ok()?.parse().ok()
    });
    let (pipe, ring) = (64 << 10, 64 * 512);
    assert!(sent <= pipe + ring, "{sent} bytes are buffered somewhere");
    let mut all = Vec::new();
    let mut reader = run.child.stdout.take().unwrap();
    let mut some = [0; 1000];
    loop {
        match reader.read(&mut some).unwrap() {
            0 => break,
            count => all.extend_from_slice(&some[..count]),
        }
    }
    assert_eq!(run.status(), 0, "{}", stage.log());
    assert_eq!(all.len(), sent);
    for (n, line) in all.chunks(8).enumerate() {
        assert_eq!(line, format!("{:07}\n", n * 8).as_bytes());
    }
}

#[test]
fn a_reader_that_never_reads_delays_the_end_by_two_seconds_at_most() {
    let stage = Stage::new("started;flood 100000", "");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    eventually("stalls", || {
        (stage.status()["io_worker"]["console"]["bytes_out"].as_u64()? >= 60_000).then_some(())
    });
    let begun = std::time::Instant::now();
    assert_eq!(stage.ask(&["stop", "demo", "--now"]).status.code(), Some(0));
    assert!(begun.elapsed() < std::time::Duration::from_secs(6));
    assert_eq!(run.status(), 1);
    assert!(
        stage.log().contains("console output was not taken in time"),
        "{}",
        stage.log()
    );
    stage.is_clean();
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_guest() {
    let stage = Stage::new("started;flood 20000;ended \"powered-off\"", "");
    let mut run = stage.run();
    drop(run.child.stdout.take());
    assert_eq!(run.status(), 0, "{}", stage.log());
}

#[test]
fn a_file_is_emptied_and_gets_everything() {
    let stage = Stage::new(
        "started;flood 20000;ended \"powered-off\"",
        "[console]\nserial = \"file:log\"",
    );
    std::fs::write(stage.path("log"), "old").unwrap();
    let mut run = stage.run();
    assert_eq!(run.status(), 0, "{}", stage.log());
    let wanted: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(grown(&stage.path("log"), wanted.len()), wanted.as_bytes());
}

#[test]
fn a_file_that_is_a_symlink_is_not_emptied() {
    let stage = Stage::new("started", "[console]\nserial = \"file:log\"");
    std::fs::write(stage.path("victim"), "precious").unwrap();
    std::os::unix::fs::symlink(stage.path("victim"), stage.path("log")).unwrap();
    let mut run = stage.run();
    assert_eq!(run.status(), 2, "{}", stage.log());
    assert!(
        stage.log().contains("log: it is a symbolic link"),
        "{}",
        stage.log()
    );
    assert_eq!(std::fs::read(stage.path("victim")).unwrap(), b"precious");
}

#[test]
fn a_pty_is_announced_and_carries_both_ways() {
    let stage = Stage::new(
        "started;echo;ended \"powered-off\"",
        "[console]\nserial = \"pty\"",
    );
    let mut run = stage.run();
    stage.wait_log("engine fake");
    let at = stage.status()["console_at"].as_str().unwrap().to_owned();
    assert!(
        stage.log().contains(&format!("demo: console: {at}\n")),
        "{}",
        stage.log()
    );
    let mut visitor = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(at)
        .unwrap();
    visitor.write_all(b"hello\r\n\x03").unwrap();
    let mut got = [0; 8];
    visitor.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello\r\n\x03");
    visitor.write_all(b"quit").unwrap();
    assert_eq!(run.status(), 0, "{}", stage.log());
}

#[test]
fn a_socket_is_private_outlives_a_reset_and_goes_with_the_vm() {
    let stage = Stage::new("", "");
    let been = stage.path("been");
    let play = format!(
        "started;print up;echo;once {} ended \"reset\";ended \"powered-off\"",
        been.display()
    );
    let stage = Stage::new(&play, "[console]\nserial = \"socket:console\"");
    let path = stage.path("console");
    let mut run = stage.run();
    stage.wait_log("engine fake");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"one quit").unwrap();
    stage.wait_log("guest reset");
    client.write_all(b"two quit").unwrap();
    assert_eq!(run.status(), 0, "{}", stage.log());
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert!(all.ends_with("one quitup\ntwo quit"), "{all:?}");
    assert!(!path.exists());
    stage.is_clean();
}

#[test]
fn without_a_console_output_is_dropped_and_counted() {
    let stage = Stage::new("started;print hello;obey", "[console]\nserial = \"none\"");
    let mut run = stage.run();
    eventually("the drop", || {
        (stage.status()["io_worker"]["console"]["bytes_dropped"] == 6).then_some(())
    });
    run.signal(Signal::SIGTERM);
    assert_eq!(run.status(), 0);
}
