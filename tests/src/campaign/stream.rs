//! The host's end of the witness's stream: one connection, numbered blocks both ways, each checked to its last byte.

use super::heard::format::{BLOCK, END, Found, Kind, fill, look};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Blocks the host may be ahead of what it has received.
const AHEAD: u64 = 8;
/// Time between two looks whether a block may go.
const LOOK: Duration = Duration::from_millis(1);

/// See the module.
pub struct Stream {
    /// Where the guest connects to.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    /// Longest time between two blocks, microseconds.
    worst: AtomicU64,
    /// The guest has said its last.
    ended: AtomicBool,
    broken: Mutex<Option<String>>,
}

impl Stream {
    /// Listens on `host`, for one guest.
    pub fn listen(host: Ipv4Addr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddrV4::new(host, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let kept = Arc::clone(&shared);
        thread::spawn(move || match listener.accept() {
            Ok((guest, _)) => kept.carry(guest),
            Err(error) => kept.breaks(&format!("accept: {error}")),
        });
        Ok(Self { port, shared })
    }

    /// Blocks received.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Relaxed)
    }

    /// The longest time between two blocks since the last call.
    pub fn take_worst(&self) -> Duration {
        Duration::from_micros(self.shared.worst.swap(0, Relaxed))
    }

    /// Whether the guest has ended it in good order.
    pub fn is_ended(&self) -> bool {
        self.shared.ended.load(Relaxed)
    }

    /// Why it is broken, if it is.
    pub fn broken(&self) -> Option<String> {
        self.shared.broken.lock().expect("no thread panicked").clone()
    }
}

impl Shared {
    fn breaks(&self, why: &str) {
        let mut broken = self.broken.lock().expect("no thread panicked");
        broken.get_or_insert_with(|| why.to_owned());
    }

    fn carry(self: Arc<Self>, guest: TcpStream) {
        let sends = Arc::clone(&self);
        match guest.set_nodelay(true).and_then(|()| guest.try_clone()) {
            Ok(out) => thread::spawn(move || sends.send(out)),
            Err(error) => return self.breaks(&error.to_string()),
        };
        self.receive(guest);
    }

    fn receive(&self, mut guest: TcpStream) {
        let mut block = [0; BLOCK];
        let mut last = Instant::now();
        for number in 1.. {
            if let Err(error) = guest.read_exact(&mut block) {
                return self.breaks(&format!("block {number} of the guest: {error}"));
            }
            match look(&block, Kind::Up) {
                Found::Whole(END) => return self.ended.store(true, Relaxed),
                Found::Whole(found) if found == number => {}
                found => return self.breaks(&format!("block {number} of the guest: {found:?}")),
            }
            self.worst.fetch_max(last.elapsed().as_micros() as u64, Relaxed);
            last = Instant::now();
            self.received.store(number, Relaxed);
        }
    }

    fn send(&self, mut guest: TcpStream) {
        let mut block = [0; BLOCK];
        let mut number = 0;
        loop {
            let ended = self.ended.load(Relaxed);
            if !ended && number >= self.received.load(Relaxed) + AHEAD {
                thread::sleep(LOOK);
                continue;
            }
            number = if ended { END } else { number + 1 };
            fill(&mut block, Kind::Down, number);
            if let Err(error) = guest.write_all(&block) {
                return self.breaks(&format!("block {number} to the guest: {error}"));
            }
            if ended {
                // The guest has closed its own direction: nothing is left to lose.
                guest.shutdown(Shutdown::Write).ok();
                return;
            }
        }
    }
}
