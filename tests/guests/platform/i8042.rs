//! The keyboard controller's commands, the A20 latches and the keyboard behind it (IBM PC AT technical reference).

use rt::io::{inb, outb};
use rt::{check, check::equal, time};

const DATA: u16 = 0x60;
const STATUS: u16 = 0x64;
const OUTPUT_FULL: u8 = 1;
const INPUT_FULL: u8 = 2;

fn command(value: u8) {
    time::wait_until(|| inb(STATUS) & INPUT_FULL == 0);
    outb(STATUS, value);
}

fn write(value: u8) {
    time::wait_until(|| inb(STATUS) & INPUT_FULL == 0);
    outb(DATA, value);
}

/// The next byte, or FFFF if none comes within a second.
fn read() -> u64 {
    if time::wait_at_most(time::PM_HZ, || inb(STATUS) & OUTPUT_FULL != 0) {
        inb(DATA).into()
    } else {
        0xffff
    }
}

pub fn run() {
    for _ in 0..32 {
        if inb(STATUS) & OUTPUT_FULL == 0 {
            break;
        }
        inb(DATA);
    }
    command(0xaa);
    equal("i8042: the self-test passes", read(), 0x55);
    command(0x60); // keyboard off, no interrupts, system flag
    write(0x14);
    command(0x20);
    equal("i8042: the command byte reads back", read(), 0x14);
    command(0xd0);
    let output = read();
    check!(
        "i8042: the output port has A20 open and reset off",
        output & 3 == 3
    );
    a20(output as u8);
    port_92();
    command(0x60);
    write(0x04);
}

/// The gate's latch; whether it changes addresses is the engine's affair, and this guest lies where it does not matter.
fn a20(output: u8) {
    command(0xd1);
    write(output & !2);
    command(0xd0);
    equal("i8042: closing A20 reads back", read() & 2, 0);
    command(0xd1);
    write(output | 2);
    command(0xd0);
    equal("i8042: opening A20 reads back", read() & 2, 2);
}

fn port_92() {
    let fast = inb(0x92) & !1;
    outb(0x92, fast & !2);
    equal("port92: closing A20 reads back", (inb(0x92) & 2).into(), 0);
    outb(0x92, fast | 2);
    equal("port92: opening A20 reads back", (inb(0x92) & 2).into(), 2);
}
