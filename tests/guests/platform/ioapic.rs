//! The I/O APIC: its registers, an edge from the PIT, a level from the UART (82093AA data sheet).

use crate::{count_apic, forget, hit, hits_within, wait_hits};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rt::apic::{self, LEVEL, MASKED, REMOTE_IRR, entry, io_get, io_set, route};
use rt::serial::COM1;
use rt::{check, check::equal, io, pic, pit, time, traps};

const VECTOR: u8 = 0x71;
/// IRQ 0 by the MADT's override, and COM1's IRQ 4.
const TIMER_PIN: u32 = 2;
const UART_PIN: u32 = 4;
/// UART interrupt enable: transmitter empty.
const ETBEI: u8 = 2;

static ENTRY: AtomicU64 = AtomicU64::new(0);

pub fn run() {
    pic::only(0);
    pit::stop(0);
    registers();
    edge();
    level();
}

fn registers() {
    equal("ioapic: 24 pins", (io_get(1) >> 16 & 0xff).into(), 23);
    io_set(0, 0x0500_0000);
    equal("ioapic: its ID reads back", (io_get(0) >> 24 & 0xf).into(), 5);
    io_set(0, 0);
    io_set(0x10 + 2 * 20, MASKED | LEVEL | 0x2000 | 0x33);
    io_set(0x11 + 2 * 20, 0x0700_0000);
    equal(
        "ioapic: a redirection entry reads back",
        entry(20).into(),
        (MASKED | LEVEL | 0x2000 | 0x33).into(),
    );
    equal(
        "ioapic: and its destination",
        (io_get(0x11 + 2 * 20) >> 24).into(),
        7,
    );
    io_set(0x10 + 2 * 20, MASKED | REMOTE_IRR | 1 << 12);
    equal(
        "ioapic: remote IRR and delivery status are read-only",
        entry(20).into(),
        MASKED.into(),
    );
}

fn edge() {
    traps::on(VECTOR, count_apic);
    forget();
    route(TIMER_PIN, VECTOR, 0);
    pit::start(0, 2, 11932);
    check!("ioapic: the timer's edges arrive", wait_hits(0, 3));
    route(TIMER_PIN, VECTOR, MASKED);
    hits_within(0, 5);
    equal("ioapic: masked, they do not", hits_within(0, 30), 0);
    pit::stop(0);
}

/// The transmitter's interrupt is on as long as it is empty and enabled: a level that the handler chooses to end.
fn level() {
    fn uart(_: &mut traps::Frame) {
        hit(0);
        ENTRY.store(entry(UART_PIN).into(), Relaxed);
        if crate::hits(0) >= 3 {
            io::outb(COM1 + 1, 0);
        }
        apic::eoi();
    }
    traps::on(VECTOR, uart);
    forget();
    time::wait_until(|| io::inb(COM1 + 5) & 0x60 == 0x60);
    route(UART_PIN, VECTOR, LEVEL);
    io::outb(COM1 + 1, ETBEI);
    let came = wait_hits(0, 3);
    io::outb(COM1 + 1, 0);
    check!("ioapic: a level comes again after each EOI", came);
    equal(
        "ioapic: remote IRR is set in the handler",
        ENTRY.load(Relaxed) & u64::from(REMOTE_IRR),
        REMOTE_IRR.into(),
    );
    equal("ioapic: none once the level has ended", hits_within(0, 10), 0);
    equal(
        "ioapic: remote IRR is clear after the EOI",
        (entry(UART_PIN) & REMOTE_IRR).into(),
        0,
    );
    route(UART_PIN, VECTOR, MASKED);
}
