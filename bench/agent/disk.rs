//! Reads, writes and flushes of a disk or a file, past the page cache (O_DIRECT), one at a time.

use crate::{Answer, Fields, Outcome, net};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

/// O_DIRECT of x86 Linux (asm-generic/fcntl.h).
const O_DIRECT: i32 = 0o40000;
/// What O_DIRECT asks of a buffer, at most.
const ALIGNED: usize = 4096;

/// `op` (read, write, or flush: a write with fdatasync behind it) of `block` bytes in `path`, whose first `span` bytes are
/// used, for `seconds`; `random=1`: anywhere, else one after the other.
pub fn run(fields: &Fields) -> Outcome<Answer> {
    let (block, span): (usize, u64) = (fields.get("block")?, fields.get("span")?);
    let blocks = span / block as u64;
    let op: String = fields.get("op")?;
    let random = fields.get::<u8>("random")? != 0;
    let seconds = fields.seconds("seconds")?;
    if blocks == 0 || !block.is_multiple_of(512) {
        return Err("span and block do not fit".into());
    }
    let file = OpenOptions::new()
        .read(true)
        .write(op != "read")
        .custom_flags(O_DIRECT)
        .open(fields.get::<String>("path")?)?;
    let mut memory = vec![0x5a; block + ALIGNED];
    let start = memory.as_ptr().align_offset(ALIGNED);
    let buffer = memory.get_mut(start..start + block).ok_or("no aligned buffer")?;
    let (mut times, mut state, mut next) = (Vec::new(), 7_u64, 0);
    let began = Instant::now();
    while began.elapsed() < seconds {
        let at = next * block as u64;
        let each = Instant::now();
        match op.as_str() {
            "read" => match file.read_exact_at(buffer, at) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err("span is longer than the disk".into());
                }
                done => done?,
            },
            "write" => file.write_all_at(buffer, at)?,
            "flush" => {
                file.write_all_at(buffer, at)?;
                file.sync_data()?;
            }
            _ => return Err(format!("unknown op {op:?}").into()),
        }
        times.push(each.elapsed());
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        next = if random {
            state % blocks
        } else {
            (next + 1) % blocks
        };
    }
    if op == "write" {
        file.sync_data()?;
    }
    let took = began.elapsed().as_secs_f64();
    let count = times.len() as f64;
    let totals = vec![
        ("operations", count),
        ("bytes", count * block as f64),
        ("seconds", took),
    ];
    Ok([totals, net::quantiles(times)].concat())
}
