//! Keeps the first IDE disk busy, by programmed I/O (ATA/ATAPI-4, clauses 8 and 9), and checks what it reads.
//!
//! `load`: writes, flushes and reads back a pattern without end, a line every [`ROUNDS`] rounds. `reset`: counts its
//! starts in the disk's first sector, and ends each but the last of [`STARTS`] by a reset with a command half done. A disk
//! that is busy is waited for as long as it takes; with `impatient`, it is reset after [`PATIENCE`], as by any driver.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use rt::io::{inb, inw, outb, outw};
use rt::{check, cmdline, say, time};

const DATA: u16 = 0x1f0;
const COUNT: u16 = 0x1f2;
const LBA: u16 = 0x1f3;
const DEVICE: u16 = 0x1f6;
const COMMAND: u16 = 0x1f7;
const CONTROL: u16 = 0x3f6;
const BSY: u8 = 0x80;
const DRQ: u8 = 0x08;
const ERR: u8 = 0x01;
const READ: u8 = 0x20;
const WRITE: u8 = 0x30;
const FLUSH: u8 = 0xe7;

const WORDS: usize = 256;
/// Sectors the load goes round in; the disk has at least so many.
const SECTORS: u32 = 64;
const ROUNDS: u64 = 8;
const STARTS: u64 = 5;
/// Looks at the status: a second or so.
const PATIENCE: u32 = 600_000;

static IMPATIENT: AtomicBool = AtomicBool::new(false);

type Sector = [u16; WORDS];

#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    outb(CONTROL, 2);
    IMPATIENT.store(cmdline::has("impatient"), Relaxed);
    if cmdline::has("reset") {
        resets();
    } else {
        load();
    }
}

/// Until the disk is not busy: whether it has done what it was told.
fn done() -> bool {
    let mut left = PATIENCE;
    while left > 0 {
        let status = inb(COMMAND);
        if status & BSY == 0 {
            return status & ERR == 0;
        }
        left -= u32::from(IMPATIENT.load(Relaxed));
    }
    outb(CONTROL, 6);
    outb(CONTROL, 2);
    false
}

fn command(what: u8, lba: u32, sectors: u8) {
    done();
    outb(DEVICE, 0xe0 | (lba >> 24) as u8);
    outb(COUNT, sectors);
    for (port, byte) in (LBA..).zip(&lba.to_le_bytes()[..3]) {
        outb(port, *byte);
    }
    outb(COMMAND, what);
}

fn read(lba: u32, into: &mut Sector) -> bool {
    command(READ, lba, 1);
    if !done() || inb(COMMAND) & DRQ == 0 {
        return false;
    }
    into.fill_with(|| inw(DATA));
    true
}

fn write(lba: u32, from: &Sector) -> bool {
    command(WRITE, lba, 1);
    if !done() || inb(COMMAND) & DRQ == 0 {
        return false;
    }
    from.iter().for_each(|&word| outw(DATA, word));
    done()
}

fn flush() -> bool {
    command(FLUSH, 0, 0);
    done()
}

/// What a sector holds after a round.
fn pattern(round: u64, lba: u32) -> Sector {
    let mut sector = [0; WORDS];
    let mut seed = (round as u32).wrapping_mul(0x9e37_79b9) ^ lba;
    sector.fill_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as u16
    });
    sector
}

fn load() {
    let mut found = [0; WORDS];
    for round in 1u64.. {
        let lba = (round % u64::from(SECTORS)) as u32;
        let wrote = pattern(round, lba);
        if !(write(lba, &wrote) && flush() && read(lba, &mut found)) {
            say!("ERROR in round ", round, "\n");
        } else if found != wrote {
            say!("WRONG in round ", round, "\n");
        }
        if round.is_multiple_of(ROUNDS) {
            say!("round ", round, "\n");
        }
    }
}

fn resets() {
    let mut sector = [0; WORDS];
    check!("the first sector is read", read(0, &mut sector));
    let starts = u64::from(sector[0]) + 1;
    check!(
        "what was acknowledged before the reset is there",
        starts == 1 || sector == counted(starts - 1)
    );
    check!("the count is written", write(0, &counted(starts)) && flush());
    say!("start ", starts, "\n");
    if starts == STARTS {
        return;
    }
    // A read of many sectors not taken, then a write of many, the first sector's data given.
    command(READ, 1, 32);
    if starts.is_multiple_of(2) {
        done();
        outb(CONTROL, 4);
        outb(CONTROL, 2);
        command(WRITE, 1, 32);
        if done() {
            pattern(starts, 1).iter().for_each(|&word| outw(DATA, word));
        }
    }
    outb(0xcf9, 0x02);
    outb(0xcf9, 0x06);
    time::pass(500);
    check!("the machine reset", false);
}

/// The first sector after so many starts.
fn counted(starts: u64) -> Sector {
    let mut sector = pattern(starts, 0);
    sector[0] = starts as u16;
    sector
}
