//! 8254 timer: modes 0, 2 and 3, latching, read-back, the gate of counter 2 (Intel 8254 data sheet).

use crate::{count_irq, forget, hits, hits_within, wait_hits};
use rt::{check, check::equal, io, pic, pit, time, traps};

/// Status: OUT, null count, and access (both bytes) with mode.
const OUT: u8 = 1 << 7;
const NULL: u8 = 1 << 6;

pub fn run() {
    counting();
    gate();
    interrupts();
    pit::stop(0);
    pic::only(0);
}

fn counting() {
    pit::start(0, 2, 0);
    time::wait_until(|| pit::status(0) & NULL == 0);
    equal(
        "pit: read-back tells mode 2, both bytes",
        (pit::status(0) & 0x3f).into(),
        0x34,
    );
    let first = pit::count(0);
    check!(
        "pit: the count goes down",
        time::wait_until(|| pit::count(0) != first)
    );
    io::outb(0x43, 0); // latch counter 0, then again: the second is ignored until the first is read
    let start = time::pm();
    time::wait_at_most(time::PM_HZ / 1000, || time::pm_since(start) > 500);
    io::outb(0x43, 0);
    let latched = pit::read(0);
    let later = pit::count(0);
    check!("pit: a latched count stays until it is read", latched != later);
    pit::start(0, 2, 100);
    time::wait_until(|| pit::status(0) & NULL == 0);
    let in_range = (0..50).all(|_| (1..=100).contains(&pit::count(0)));
    check!("pit: mode 2 counts from its count to 1", in_range);
    pit::start(0, 3, 100);
    time::wait_until(|| pit::status(0) & NULL == 0);
    equal(
        "pit: read-back tells mode 3",
        (pit::status(0) & 0x3f).into(),
        0x36,
    );
    let even = (0..50).all(|_| pit::count(0) % 2 == 0);
    check!("pit: mode 3 counts by twos", even);
    io::outb(0x43, 0x10); // counter 0, low byte only, mode 0
    io::outb(0x40, 200);
    equal(
        "pit: read-back tells low byte only",
        (pit::status(0) & 0x3e).into(),
        0x10,
    );
    io::outb(0x43, 0);
    let low = io::inb(0x40);
    check!(
        "pit: low-byte counts read in one access",
        low <= 200 || pit::status(0) & OUT != 0
    );
}

fn gate() {
    pit::gate2(false);
    pit::start(2, 0, 5000);
    time::pass(1);
    let (first, second) = (pit::count(2), {
        time::pass(1);
        pit::count(2)
    });
    equal(
        "pit: counter 2 stands while its gate is closed",
        second.into(),
        first.into(),
    );
    check!("pit: OUT 2 is low before the terminal count", !pit::out2());
    pit::gate2(true);
    check!(
        "pit: counter 2 runs when its gate opens",
        time::wait_until(|| pit::count(2) != first)
    );
    check!(
        "pit: OUT 2 is high after the terminal count",
        time::wait_until(pit::out2)
    );
    equal(
        "pit: read-back agrees on OUT 2",
        (pit::status(2) & OUT).into(),
        OUT.into(),
    );
    let refresh = io::inb(0x61) & 0x10;
    check!(
        "pit: port 61 bit 4 toggles",
        time::wait_until(|| io::inb(0x61) & 0x10 != refresh)
    );
    pit::gate2(false);
}

fn interrupts() {
    traps::on(pic::BASE, count_irq);
    pit::stop(0);
    pic::init();
    forget();
    pic::only(1);
    pit::start(0, 0, 2000);
    check!("pit: mode 0 interrupts at the terminal count", wait_hits(0, 1));
    equal("pit: mode 0 interrupts once", hits_within(0, 20), 0);
    forget();
    pit::start(0, 2, 11932);
    check!("pit: mode 2 interrupts again and again", wait_hits(0, 3));
    forget();
    pit::start(0, 3, 11932);
    check!("pit: mode 3 interrupts again and again", wait_hits(0, 3));
    pit::stop(0);
    hits_within(0, 5);
    forget();
    equal(
        "pit: none after a mode word without a count",
        hits_within(0, 30) + hits(0),
        0,
    );
}
