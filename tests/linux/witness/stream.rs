//! The stream: one TCP connection to the host, numbered blocks both ways, which must live through everything.
//!
//! Each side may be a few blocks ahead of what it has received, so the stream keeps its own pace, and a block that does not
//! come stops it.

use crate::format::{BLOCK, END, Found, Kind, fill, look};
use crate::tally::Tally;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Blocks that may be under way. Enough that a lost segment is seen by those behind it.
const AHEAD: u64 = 8;
/// Time between two blocks, and between two looks whether one may go: the disks want the processor too.
const PACE: Duration = Duration::from_millis(2);

/// Connects, and keeps both directions busy.
pub fn open(tally: &Arc<Tally>, peer: SocketAddr) -> std::io::Result<[JoinHandle<()>; 2]> {
    let out = TcpStream::connect(peer)?;
    out.set_nodelay(true)?;
    let back = out.try_clone()?;
    let (sends, receives) = (Arc::clone(tally), Arc::clone(tally));
    Ok([
        thread::spawn(move || send(&sends, out)),
        thread::spawn(move || receive(&receives, back)),
    ])
}

fn send(tally: &Tally, mut out: TcpStream) {
    let mut block = [0; BLOCK];
    let mut number = 0;
    loop {
        let next = if tally.is_stopped() { END } else { number + 1 };
        if next == END || number < tally.down.load(Relaxed) + AHEAD {
            fill(&mut block, Kind::Up, next);
            if let Err(error) = out.write_all(&block) {
                return tally.error(format!("stream, block {next}: {error}"));
            }
            if next == END {
                break;
            }
            number = next;
            tally.up.store(number, Relaxed);
        }
        thread::sleep(PACE);
    }
    if let Err(error) = out.shutdown(Shutdown::Write) {
        tally.error(format!("stream, shutdown: {error}"));
    }
}

fn receive(tally: &Tally, mut back: TcpStream) {
    let mut block = [0; BLOCK];
    let mut last = Instant::now();
    for number in 1.. {
        if let Err(error) = back.read_exact(&mut block) {
            return tally.error(format!("stream, block {number} of the host: {error}"));
        }
        match look(&block, Kind::Down) {
            Found::Whole(END) => return,
            Found::Whole(found) if found == number => {}
            found => return tally.error(format!("stream, block {number} of the host: {found:?}")),
        }
        tally.gap.note(last.elapsed());
        last = Instant::now();
        tally.down.store(number, Relaxed);
    }
}
