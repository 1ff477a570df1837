//! UDP for a Linux guest, whose busybox has none: `udp echo PORT` returns every datagram to where it came from, for ever;
//! `udp send ADDRESS:PORT COUNT BYTES` sends datagrams as fast as they go out.
//!
//! Built by `../build.rs` as a static program with nothing but the toolchain; tests carry it into the guest over TCP.

use std::net::UdpSocket;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["echo", port] => echo(port),
        ["send", to, count, bytes] => send(to, count, bytes),
        _ => Err("udp echo PORT | udp send ADDRESS:PORT COUNT BYTES".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn echo(port: &str) -> Outcome {
    let socket = UdpSocket::bind(("0.0.0.0", port.parse()?))?;
    println!("udp: listening");
    let mut buffer = [0; 2048];
    loop {
        // An earlier answer that reached nobody is no reason to stop.
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from).ok();
        }
    }
}

fn send(to: &str, count: &str, bytes: &str) -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let datagram = vec![0x55; bytes.parse()?];
    for _ in 0..count.parse::<u64>()? {
        // "Nobody listens", told of the one before.
        socket.send(&datagram).ok();
    }
    Ok(())
}
