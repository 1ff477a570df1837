//! Resets the machine in the way the command line names: `i8042`, `cf9`, `port92` or `triple`.
//!
//! It says so first; whether the machine comes up again or ends is `on_reset`'s. A reset that did not come is a failed
//! check.
#![no_std]
#![no_main]

use rt::io::{inb, outb};
use rt::{check, cmdline, say, time, traps};

#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    if cmdline::has("i8042") {
        say!("reset by i8042\n");
        outb(0x64, 0xfe); // pulse output port bit 0
    } else if cmdline::has("cf9") {
        say!("reset by cf9\n");
        outb(0xcf9, 0x02); // hard reset, then the 0 to 1 transition of RST_CPU
        outb(0xcf9, 0x06);
    } else if cmdline::has("port92") {
        say!("reset by port92\n");
        outb(0x92, inb(0x92) & !1);
        outb(0x92, inb(0x92) | 1);
    } else if cmdline::has("triple") {
        say!("reset by triple\n");
        // SAFETY: no gates: the breakpoint becomes #GP, #DF, shutdown.
        unsafe {
            traps::load_idt(0, 0);
            core::arch::asm!("int3");
        }
    } else {
        say!("say how: i8042, cf9, port92, triple\n");
    }
    time::pass(500);
    check!("the machine reset", false);
}
