//! A vmm that plays a script instead of running a guest. It speaks the real hand-over and the real rings.
//!
//! The script is `WORLDSWITCH_PLAY`, steps separated by `;`, with those of [`murmur`](crate::murmur):
//!
//! | step | does |
//! |---|---|
//! | `started` | says so |
//! | `print TEXT` | writes a line to the console |
//! | `flood N` | writes N numbered lines, waiting for credit |
//! | `full FILE` | writes until the ring is full and stays so, then writes how many bytes fit |
//! | `echo` | sends console input back until the word `quit` has come |
//! | `ping` | makes a synchronous call and writes the answer to the console |
//! | `obey` | waits for the power button (then powers off) or Stop |
//! | `deaf` | hears nothing any more |
//! | `garbage` | sends a record that is no word |
//! | `linger` | passes a socket whose last close waits ten minutes, and keeps none of it |
//! | `scribble` | fills words and indices of the shared memory with nonsense, again and again, for a second |
//! | `strange` | sends a slot of an unknown kind and an empty one |
//! | `once FILE STEP` | plays STEP only if FILE is not there, and makes it |
//! | `ended JSON` | says how it ended and exits |
//! | `exit N`, `close` | exits, closes its socket and sleeps |

use nix::sys::socket::{setsockopt, sockopt};
use shared::abi::words::{IRQ_BITMAP, PENDING};
use shared::abi::{CONTROL_CHANNEL, ChannelKind, RingOffsets};
use shared::mem::Memory;
use shared::msg::console::Down;
use shared::msg::control;
use shared::msg::handover::{FdRole, FromVmm, Outcome, ToVmm};
use shared::ring::{PushError, Side};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use vmdriver_shim::channel::Channel;
use vmdriver_shim::crossing::{Bells, Crossing};
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::{Descriptors, Received, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn;

const FOR_EVER: Duration = Duration::from_secs(3600);

#[test]
#[ignore = "the vmm of the other tests, started by the supervisor"]
fn fake_vmm() {
    let Ok(play) = std::env::var("WORLDSWITCH_PLAY") else {
        return;
    };
    let mut vmm = FakeVmm::start();
    for step in play.split(';') {
        vmm.play(step.trim());
    }
    std::process::exit(0);
}

struct FakeVmm {
    socket: Socket,
    memory: SharedMemory,
    crossing: Arc<Crossing>,
    console: Channel,
}

impl FakeVmm {
    fn start() -> Self {
        spawn::die_with_parent().unwrap();
        spawn::leave_signals_to_supervisor().unwrap();
        let socket = spawn::inherited_socket().unwrap();
        assert!(socket.wait(Duration::from_secs(10)).unwrap());
        let Received::Message(ToVmm::Start { spec, fds: roles }, fds) = socket.recv().unwrap() else {
            panic!("no Start");
        };
        spec.check().unwrap();
        let mut given = Descriptors::new(roles, fds).unwrap();
        let memory = SharedMemory::attach(given.take(FdRole::Memory).unwrap()).unwrap();
        let mut bell = |role| Doorbell::from_fd(given.take(role).unwrap()).unwrap();
        let bells = Bells {
            app: bell(FdRole::AppDoorbell),
            vmm: bell(FdRole::VmmDoorbell),
            vmm_kick: bell(FdRole::VmmKick),
        };
        given.take(FdRole::Kernel).unwrap();
        given.finish().unwrap();
        let crossing = Crossing::new(Side::Vmm, &memory, bells, spec.io);
        let number = memory
            .layout()
            .channels()
            .iter()
            .position(|channel| channel.kind == ChannelKind::Console)
            .unwrap();
        let console = crossing.channel(u8::try_from(number).unwrap()).unwrap();
        Self {
            socket,
            memory,
            crossing,
            console,
        }
    }

    fn play(&mut self, step: &str) {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "started" => self.say(&FromVmm::Started {
                engine: "fake".to_owned(),
                why: "it plays a script".to_owned(),
            }),
            "print" => self.print(format!("{rest}\n").as_bytes()),
            "flood" => {
                for n in 0..rest.parse::<u64>().unwrap() {
                    self.print(format!("line {n}\n").as_bytes());
                }
            }
            "full" => self.full(Path::new(rest)),
            "echo" => self.echo(),
            "ping" => self.ping(),
            "obey" => self.obey(),
            "deaf" => std::thread::sleep(FOR_EVER),
            "garbage" => self.socket.send(&"nonsense", &[]).unwrap(),
            "linger" => self.linger(),
            "scribble" => self.scribble(),
            "strange" => {
                self.console.push(77, 0, b"what is this").unwrap();
                self.console.push(Down::Output as u16, 0, b"").unwrap();
                self.console.flush().unwrap();
            }
            "once" => {
                let (file, step) = rest.split_once(' ').unwrap();
                if std::fs::File::create_new(file).is_ok() {
                    self.play(step);
                }
            }
            "ended" => self.end(serde_json::from_str(rest).unwrap()),
            "exit" => std::process::exit(rest.parse().unwrap()),
            "close" => {
                let (other, _) = Socket::pair().unwrap();
                self.socket = other;
                std::thread::sleep(FOR_EVER);
            }
            other => assert!(crate::murmur::play(other, rest), "no step {other:?}"),
        }
    }

    fn say(&self, word: &FromVmm) {
        self.socket.send(word, &[]).unwrap();
    }

    fn end(&self, outcome: Outcome) {
        self.say(&FromVmm::Ended(outcome));
        std::process::exit(0);
    }

    /// Writes all of it, as a UART does: waits for credit, and meanwhile obeys.
    fn print(&mut self, text: &[u8]) {
        for piece in text.chunks(self.console.payload_max()) {
            while let Err(error) = self.console.push(Down::Output as u16, 0, piece) {
                assert_eq!(error, PushError::Full);
                if self.console.want_credit().unwrap() {
                    self.pause();
                }
            }
            self.console.flush().unwrap();
        }
    }

    /// Sleeps until something comes; obeys Stop.
    fn pause(&mut self) -> Option<ToVmm> {
        self.crossing.sleep(None, &[self.socket.as_fd()]).unwrap();
        self.crossing.look();
        match self.socket.recv().unwrap() {
            Received::Message(ToVmm::Stop, _) => {
                self.end(Outcome::Stopped);
                None
            }
            Received::Message(word, _) => Some(word),
            Received::HungUp => std::process::exit(9),
            Received::Nothing => None,
        }
    }

    fn ping(&mut self) {
        let mut control = self.crossing.channel(CONTROL_CHANNEL).unwrap();
        for id in 0..100 {
            let payload = format!("ping {id}");
            let deadline = Instant::now() + Duration::from_secs(10);
            let (header, answer) = control
                .call(control::Down::Echo as u16, id, payload.as_bytes(), deadline)
                .unwrap();
            assert_eq!(header.kind, control::Up::EchoReply as u16);
            assert_eq!(answer, payload.as_bytes());
        }
        self.print(b"pong\n");
    }

    fn obey(&mut self) {
        loop {
            if self.pause() == Some(ToVmm::PowerButton) {
                self.end(Outcome::PoweredOff);
            }
        }
    }

    fn echo(&mut self) {
        let (mut all, mut payload) = (Vec::new(), Vec::new());
        loop {
            while self.console.next(&mut payload).unwrap().is_some() {
                self.console.release(1).unwrap();
                self.print(&payload);
                all.extend_from_slice(&payload);
            }
            if all.windows(4).any(|word| word == b"quit") {
                return;
            }
            self.pause();
        }
    }

    /// Fills the ring until the worker has not taken a slot for a while, and tells how much went out.
    fn full(&mut self, file: &Path) {
        let (mut sent, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(500) {
            let text = format!("{sent:07}\n");
            if self.console.push(Down::Output as u16, 0, text.as_bytes()).is_ok() {
                self.console.flush().unwrap();
                sent += text.len();
                since = Instant::now();
            }
        }
        std::fs::write(file, sent.to_string()).unwrap();
    }

    /// A connection with octets that nobody reads, beside a word.
    fn linger(&self) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut waits = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
        waits.set_nonblocking(true).unwrap();
        while waits.write(&[0; 1 << 16]).is_ok() {}
        let linger = |seconds| {
            let linger = nix::libc::linger {
                l_onoff: (seconds > 0).into(),
                l_linger: seconds,
            };
            setsockopt(&waits, sockopt::Linger, &linger).unwrap();
        };
        linger(600);
        let word = FromVmm::Warning("look here".to_owned());
        if self.socket.send(&word, &[waits.as_fd()]).is_err() {
            // It is still ours to close.
            linger(0);
        }
        // The peer lives as long as this process.
        std::mem::forget(peer);
    }

    fn scribble(&mut self) {
        let mem = self.memory.mem();
        let rings = self.memory.layout().channels().to_vec();
        let begun = Instant::now();
        let mut n = 0x9e37_79b9_u32;
        while begun.elapsed() < Duration::from_secs(1) {
            for channel in &rings {
                for ring in [channel.down, channel.up] {
                    for at in [RingOffsets::HEAD, RingOffsets::TAIL, RingOffsets::WANTED] {
                        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        mem.store_u32(ring.at + at, n, SeqCst);
                    }
                    mem.write(ring.slot_at(n), &n.to_le_bytes().repeat(16));
                }
            }
            mem.store_u64(PENDING, u64::MAX, SeqCst);
            mem.store_u64(IRQ_BITMAP, u64::MAX, SeqCst);
            self.crossing.bells().app.ring().unwrap();
        }
    }
}
