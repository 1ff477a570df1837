//! The client of a `socket:` console, lent by the test to a real worker.

use super::{LONG, Supervisor, hear, next};
use shared::abi::words::APP_HEARTBEAT;
use shared::mem::Memory;
use shared::msg::console::{Down, Up};
use shared::msg::handover::{ConsoleSpec, FromApp, NetBackSpec, ToApp};
use shared::spec::CONSOLE_CHANNEL;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use vmdriver_shim::handover::{HandoverError, Socket};

/// Words that come to more than a socket holds unread.
const FLOOD: usize = 2000;

fn lend(socket: &Socket) -> UnixStream {
    let (client, theirs) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    socket.send(&ToApp::ConsoleClient, &[theirs.as_fd()]).unwrap();
    client
}

/// Asks for answers, and reads none: in the end there is no room for another. Returns when the worker has taken all.
fn flood(socket: &Socket) {
    let begun = Instant::now();
    for _ in 0..FLOOD {
        while let Err(error) = socket.send(&ToApp::Faults(Vec::new()), &[]) {
            assert!(matches!(error, HandoverError::Busy), "{error}");
            assert!(begun.elapsed() < LONG, "the worker does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until the worker's loop has been all the way round.
fn wait_turns(supervisor: &Supervisor) {
    let beat = || supervisor.memory.mem().load_u64(APP_HEARTBEAT, Relaxed);
    let (begun, first) = (Instant::now(), beat());
    while beat() < first + 2 {
        assert!(begun.elapsed() < LONG, "the worker stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_is_served_and_its_end_is_told_though_the_supervisor_was_too_busy_to_hear_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::new(folder.path());
    supervisor.console = ConsoleSpec::Socket;
    supervisor.heartbeat_ms = Some(20);
    let (_child, socket, word) = supervisor.start(vec![NetBackSpec::None]);
    assert_eq!(word, Some(FromApp::Ready));
    let mut console = supervisor.channel(CONSOLE_CHANNEL);

    let mut client = lend(&socket);
    client.write_all(b"typed").unwrap();
    assert_eq!(next(&mut console), (Up::Input as u16, 0, b"typed".to_vec()));
    console.push(Down::Output as u16, 0, b"printed").unwrap();
    console.flush().unwrap();
    let mut printed = [0; 7];
    client.read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"printed");

    flood(&socket);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    // The worker hangs up: nobody else has a copy of its end. And it has tried to tell before there is room.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    wait_turns(&supervisor);
    let mut answers = 0;
    loop {
        match hear(&socket) {
            Some(FromApp::Injected { .. }) => answers += 1,
            word => break assert_eq!(word, Some(FromApp::ConsoleClientGone)),
        }
    }
    assert!(answers < FLOOD, "the socket was never full");

    let mut another = lend(&socket);
    another.write_all(b"anew").unwrap();
    assert_eq!(next(&mut console), (Up::Input as u16, 0, b"anew".to_vec()));
}
