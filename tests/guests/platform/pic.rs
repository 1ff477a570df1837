//! The 8259A pair: masks, requests, service, ends of interrupt, polling, priorities (Intel 8259A data sheet).

use crate::{count_irq, forget, hit, hits, hits_within, wait_hits};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rt::io::{inb, outb};
use rt::{check, check::equal, pic, pit, time, traps};

const MASTER: u16 = pic::MASTER;
const SLAVE: u16 = pic::SLAVE;
/// ISR as the last handler saw it.
static SERVED: AtomicU64 = AtomicU64::new(0);

pub fn run() {
    traps::on(pic::BASE, count_irq);
    masks();
    requests();
    service();
    polling();
    automatic();
    pic::init();
    pit::stop(0);
}

/// One timer request, about a millisecond from now.
fn request() {
    pit::start(0, 0, 1000);
}

fn requested() -> bool {
    time::wait_until(|| pic::irr() & 1 != 0)
}

fn masks() {
    pic::init();
    for value in [0x00, 0xa5, 0x5a, 0xff] {
        outb(MASTER + 1, value);
        outb(SLAVE + 1, !value);
        let ok = inb(MASTER + 1) == value && inb(SLAVE + 1) == !value;
        check!("pic: the masks read back", ok);
    }
    outb(SLAVE + 1, 0xff);
    equal(
        "pic: nothing is in service after initialisation",
        pic::isr().into(),
        0,
    );
}

fn requests() {
    forget();
    request();
    check!("pic: a masked line shows its request", requested());
    equal("pic: a masked line does not interrupt", hits_within(0, 10), 0);
    pic::only(1);
    check!("pic: unmasking delivers the request", wait_hits(0, 1));
    equal("pic: an edge interrupts once", hits_within(0, 10), 0);
    equal("pic: an accepted request is gone", (pic::irr() & 1).into(), 0);
}

fn service() {
    fn keep(_: &mut traps::Frame) {
        SERVED.store(pic::isr().into(), Relaxed);
        hit(0);
    }
    traps::on(pic::BASE, keep);
    forget();
    request();
    check!("pic: an interrupt comes", wait_hits(0, 1));
    equal(
        "pic: the line is in service in its handler",
        SERVED.load(Relaxed),
        1,
    );
    request();
    check!("pic: a line in service takes a new request", requested());
    equal(
        "pic: but does not interrupt before its EOI",
        hits_within(0, 10),
        0,
    );
    outb(MASTER, 0x60); // specific EOI, IRQ 0
    check!("pic: a specific EOI lets it through", wait_hits(0, 2));
    outb(MASTER, 0x20);
    equal("pic: an EOI ends service", pic::isr().into(), 0);
    traps::on(pic::BASE, count_irq);
}

fn polling() {
    pic::only(1);
    outb(MASTER, 0x0c);
    equal(
        "pic: a poll with nothing to serve says so",
        (inb(MASTER) & 0x80).into(),
        0,
    );
    request();
    requested();
    outb(MASTER, 0x0c);
    equal(
        "pic: a poll gives and accepts the request",
        (inb(MASTER) & 0x87).into(),
        0x80,
    );
    equal("pic: a polled line is in service", (pic::isr() & 1).into(), 1);
    pic::eoi(0);
    forget();
    equal(
        "pic: a polled request does not interrupt as well",
        hits_within(0, 5),
        0,
    );
}

fn automatic() {
    fn no_eoi(_: &mut traps::Frame) {
        SERVED.store(pic::isr().into(), Relaxed);
        hit(0);
    }
    pic::start(true);
    traps::on(pic::BASE, no_eoi);
    forget();
    pic::only(1);
    request();
    check!("pic: an interrupt comes with automatic EOI", wait_hits(0, 1));
    equal(
        "pic: nothing is in service in its handler",
        SERVED.load(Relaxed),
        0,
    );
    request();
    check!("pic: and the next needs no EOI", wait_hits(0, 2));
    equal("pic: two requests, two interrupts", hits(0), 2);
    traps::on(pic::BASE, count_irq);
}
