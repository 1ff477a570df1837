//! Exercises every device of the platform, as drivers and firmware do, and checks what the data sheets promise.
//!
//! Without words on the command line all parts run, in this order; with words, those parts only. Bounds on time are
//! wide: they hold where guest kernel code runs at 1.8 million instructions a second.
#![no_std]
#![no_main]

mod acpi;
mod i8042;
mod ioapic;
mod lapic;
mod pci;
mod pic;
mod pit;
mod pm;
mod rtc;
mod uart;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rt::{cmdline, io, time, traps};

const PARTS: &[(&str, fn())] = &[
    ("acpi", acpi::run),
    ("pm", pm::run),
    ("pit", pit::run),
    ("pic", pic::run),
    ("rtc", rtc::run),
    ("lapic", lapic::run),
    ("ioapic", ioapic::run),
    ("uart", uart::run),
    ("i8042", i8042::run),
    ("pci", pci::run),
];

#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    let all = !PARTS.iter().any(|(name, _)| cmdline::has(name));
    for (name, run) in PARTS {
        if all || cmdline::has(name) {
            run();
        }
    }
    // A POST code: nothing to read back, but it must not stop the machine before the count is printed.
    io::outb(0x80, 0xaa);
}

/// Counts of up to four kinds of interrupt, for handlers, which have no state of their own.
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Counts one interrupt of a kind.
fn hit(kind: usize) {
    COUNTS[kind].fetch_add(1, Relaxed);
}

/// Interrupts of a kind since [`forget`].
fn hits(kind: usize) -> u64 {
    COUNTS[kind].load(Relaxed)
}

fn forget() {
    COUNTS.iter().for_each(|count| count.store(0, Relaxed));
}

/// With interrupts on, waits until so many of a kind have come; off again afterwards.
fn wait_hits(kind: usize, least: u64) -> bool {
    io::sti();
    let came = time::wait_until(|| hits(kind) >= least);
    io::cli();
    came
}

/// With interrupts on, lets some milliseconds pass; the number of a kind that came.
fn hits_within(kind: usize, ms: u64) -> u64 {
    let before = hits(kind);
    io::sti();
    time::pass(ms);
    io::cli();
    hits(kind) - before
}

/// A handler for a line of the PICs that counts as kind 0.
fn count_irq(frame: &mut traps::Frame) {
    hit(0);
    rt::pic::eoi(frame.vector as u8 - rt::pic::BASE);
}

/// A handler for local APIC vectors: kind 0, acknowledged there.
fn count_apic(_: &mut traps::Frame) {
    hit(0);
    rt::apic::eoi();
}
