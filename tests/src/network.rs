//! What tests put at the other end of a guest's cable: a network namespace with a tap, an HTTP server, bytes to send.

use nix::sched::{CloneFlags, unshare};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

/// Bytes nobody has seen before: a linear congruential generator's (Knuth's MMIX constants).
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

/// Serves `file` over HTTP on 127.0.0.1 to whoever asks, until the test ends. Returns the port.
pub fn serve(file: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut client = client;
            let mut asked = Vec::new();
            let mut buffer = [0; 512];
            while !asked.ends_with(b"\r\n\r\n") {
                match client.read(&mut buffer) {
                    Ok(len @ 1..) => asked.extend_from_slice(&buffer[..len]),
                    _ => break,
                }
            }
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
            // A guest that goes away is its own test's failure.
            client
                .write_all(head.as_bytes())
                .and_then(|()| client.write_all(&file))
                .ok();
        }
    });
    port
}

/// Puts this thread, and all it starts, into a network of its own with a tap, whose end on the host is `host`, of 24 bits.
/// Takes root; the error says what failed.
pub fn enter_namespace(tap: &str, host: Ipv4Addr) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("a network namespace takes root: {}", errno.desc()))?;
    for words in [
        "link set lo up".to_owned(),
        format!("tuntap add dev {tap} mode tap"),
        format!("addr add {host}/24 dev {tap}"),
        format!("link set {tap} up"),
    ] {
        let done = Command::new("ip").args(words.split(' ')).output();
        match done {
            Ok(done) if done.status.success() => {}
            Ok(done) => return Err(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr))),
            Err(error) => return Err(format!("ip: {error}")),
        }
    }
    Ok(())
}
