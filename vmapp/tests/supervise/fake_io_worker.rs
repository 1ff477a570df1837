//! An I/O worker that plays a script instead of serving anybody, for what an honest one never does.
//!
//! The script is `WORLDSWITCH_WORK`, steps separated by `;`, with those of [`murmur`](crate::murmur):
//!
//! | step | does |
//! |---|---|
//! | `beat` | shows from now on that it lives |
//! | `word JSON` | sends a word |
//! | `cut JSON` | sends half of it |
//! | `long`, `empty` | sends a record longer than any may be, one of no bytes |
//! | `descriptors N M` | sends N words with M descriptors each, unless its kernel refuses |
//! | `chatter N` | sends N words of every kind and size, as fast as they are taken |
//! | `scribble` | writes the largest number into every counter of both sides |
//! | `close` | closes its socket |
//! | `rest` | does nothing more |

use shared::abi::counters::{AppCounter, VmmCounter};
use shared::abi::words::APP_HEARTBEAT;
use shared::mem::Memory;
use shared::msg::fault::Injection;
use shared::msg::handover::{FdRole, FromApp, MAX_BYTES, ToApp};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use vmdriver_shim::counters::{CounterSet, Counters};
use vmdriver_shim::handover::{Descriptors, HandoverError, Received, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

#[test]
#[ignore = "the I/O worker of the other tests, started by the supervisor"]
fn fake_io_worker() {
    let Ok(work) = std::env::var("WORLDSWITCH_WORK") else {
        return;
    };
    let mut worker = FakeIoWorker::start();
    for step in work.split(';') {
        worker.play(step.trim());
    }
    std::process::exit(0);
}

struct FakeIoWorker {
    socket: Socket,
    memory: SharedMemory,
}

impl FakeIoWorker {
    fn start() -> Self {
        spawn::die_with_parent().unwrap();
        spawn::leave_signals_to_supervisor().unwrap();
        let socket = spawn::inherited_socket().unwrap();
        assert!(socket.wait(Duration::from_secs(10)).unwrap());
        let Received::Message(ToApp::Start { fds: roles, .. }, fds) = socket.recv().unwrap() else {
            panic!("no Start");
        };
        let mut given = Descriptors::new(roles, fds).unwrap();
        let memory = SharedMemory::attach(given.take(FdRole::Memory).unwrap()).unwrap();
        Self { socket, memory }
    }

    fn play(&mut self, step: &str) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "beat" => self.beat(),
            "word" => self.send(rest.as_bytes(), 0),
            "cut" => self.send(&rest.as_bytes()[..rest.len() / 2], 0),
            "long" => self.send(&vec![b' '; MAX_BYTES + 1], 0),
            "empty" => self.send(b"", 0),
            "descriptors" => {
                let (times, each) = rest.split_once(' ').unwrap();
                for _ in 0..times.parse().unwrap() {
                    self.send(b"\"continued\"", each.parse().unwrap());
                }
            }
            "chatter" => self.chatter(rest.parse().unwrap()),
            "scribble" => {
                fill::<AppCounter>(&self.memory);
                fill::<VmmCounter>(&self.memory);
            }
            "close" => self.socket = Socket::pair().unwrap().0,
            "rest" => std::thread::sleep(Duration::from_secs(3600)),
            word => assert!(crate::murmur::play(word, rest), "no step {word:?}"),
        }
    }

    fn beat(&self) {
        let mem = self.memory.mem();
        std::thread::spawn(move || {
            loop {
                let beat = mem.load_u64(APP_HEARTBEAT, Relaxed);
                mem.store_u64(APP_HEARTBEAT, beat.wrapping_add(1), Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }

    /// A record of any bytes with any number of descriptors, when there is room for it.
    fn send(&self, bytes: &[u8], descriptors: usize) {
        let fds = vec![self.memory.fd().as_raw_fd(); descriptors];
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = &rights[..usize::from(!fds.is_empty())];
        // Blocks, unlike an honest worker's.
        let sent = sendmsg::<()>(
            self.socket.as_fd().as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Err(Errno::EPERM) if descriptors > 0 => {}
            sent => assert_eq!(sent, Ok(bytes.len())),
        }
    }

    fn chatter(&self, count: usize) {
        let injection = Injection {
            order: 7,
            pass: u64::MAX,
            times: u64::MAX,
            channel: None,
            dir: None,
        };
        let words = [
            FromApp::Ready,
            FromApp::Warning("\x1b]0;pwned\x07".to_owned()),
            FromApp::Warning("w".repeat(MAX_BYTES - 100)),
            FromApp::Failed("f".repeat(MAX_BYTES - 100)),
            FromApp::Injected {
                injections: vec![injection; 500],
                progress: Vec::new(),
            },
            FromApp::Stopping { ms: u32::MAX },
            FromApp::Stopping { ms: 0 },
            FromApp::Continued,
            FromApp::ConsoleClientGone,
            FromApp::Finished,
        ];
        for word in words.iter().cycle().take(count) {
            while let Err(error) = self.socket.send(word, &[]) {
                assert!(matches!(error, HandoverError::Busy), "{error}");
                std::thread::yield_now();
            }
        }
    }
}

fn fill<K: CounterSet>(memory: &SharedMemory) {
    let counters = Counters::<K>::new(memory.mem());
    for &counter in K::ALL {
        counters.add(counter, u64::MAX - counters.get(counter));
    }
}
