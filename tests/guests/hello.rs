//! The first guest: enters long mode, says so, counts ten timer interrupts and powers off through ACPI.
//!
//! Words on the command line make it a load for tests of the run loop: `forever` ticks once a second, idle between;
//! `spin` never leaves the CPU; `flood` writes to the serial port without end; `echo` returns serial input until `q`;
//! `button` waits for the power button.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rt::io::{cli, halt, inb, inw, outb, outw, sti};
use rt::serial::COM1;
use rt::{acpi, cmdline, pic, pit, say, traps};

static TICKS: AtomicU64 = AtomicU64::new(0);
static QUIT: AtomicU64 = AtomicU64::new(0);

#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    say!("hello from long mode\n");
    say!("booted by ", cmdline::protocol(), "\n");
    if cmdline::has("forever") {
        forever();
    } else if cmdline::has("spin") {
        say!("spinning\n");
        sti();
        loop {
            core::hint::spin_loop();
        }
    } else if cmdline::has("flood") {
        loop {
            say!("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\n");
        }
    } else if cmdline::has("echo") {
        echo();
    } else if cmdline::has("button") {
        button();
    } else {
        ticks(10);
    }
    say!("powering off\n");
}

fn tick(_: &mut traps::Frame) {
    TICKS.fetch_add(1, Relaxed);
    pic::eoi(0);
}

/// Prints a line for each of `count` timer interrupts, 100 a second.
fn ticks(count: u64) {
    traps::on(pic::BASE, tick);
    pit::start(0, 2, (pit::HZ / 100) as u16);
    pic::only(1);
    for n in 1..=count {
        while TICKS.load(Relaxed) < n {
            halt();
        }
        say!("tick ", n, "\n");
    }
    pic::only(0);
}

/// A line about once a second: every 18th wrap of the timer.
fn forever() {
    traps::on(pic::BASE, tick);
    pit::start(0, 2, 0);
    pic::only(1);
    for second in 1u64.. {
        while TICKS.load(Relaxed) < 18 * second {
            halt();
        }
        say!("second ", second, "\n");
    }
}

/// Returns what comes in on COM1, by interrupt, up to and including `q`.
fn echo() {
    const IRQ: u8 = 4;
    fn received(_: &mut traps::Frame) {
        // Bounded: at most the FIFO's 16 bytes an interrupt.
        for _ in 0..16 {
            if inb(COM1 + 5) & 1 == 0 {
                break;
            }
            let byte = inb(COM1);
            rt::serial::send(byte);
            if byte == b'q' {
                QUIT.store(1, Relaxed);
            }
        }
        pic::eoi(IRQ);
    }
    traps::on(pic::BASE + IRQ, received);
    outb(COM1 + 1, 1);
    pic::only(1 << IRQ);
    say!("echo until q\n");
    while QUIT.load(Relaxed) == 0 {
        halt();
    }
    cli();
    say!("\n");
}

/// Waits for the SCI with the power button's status bit (ACPI specification, section 4.8.2.2).
fn button() {
    static EVENT: AtomicU64 = AtomicU64::new(0);
    static SCI: AtomicU64 = AtomicU64::new(0);
    fn sci(_: &mut traps::Frame) {
        let event = EVENT.load(Relaxed) as u16;
        let status = inw(event);
        outw(event, status);
        if status & acpi::PWRBTN != 0 {
            QUIT.store(1, Relaxed);
        }
        pic::eoi(SCI.load(Relaxed) as u8);
    }
    let Some(fixed) = acpi::fixed() else {
        say!("no FADT\n");
        return;
    };
    fixed.enable();
    EVENT.store(u64::from(fixed.pm1_event), Relaxed);
    SCI.store(u64::from(fixed.sci), Relaxed);
    traps::on(pic::BASE + fixed.sci, sci);
    outw(fixed.pm1_event, u16::MAX);
    outw(fixed.pm1_event + 2, acpi::PWRBTN);
    pic::only(1 << fixed.sci);
    say!("waiting for the power button\n");
    while QUIT.load(Relaxed) == 0 {
        halt();
    }
    say!("power button\n");
}
