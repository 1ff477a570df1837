//! The clock: binary and BCD, rolling over, its three interrupts (Motorola MC146818A data sheet).

use crate::{forget, hit, hits_within, wait_hits};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rt::io::{cli, inb, outb};
use rt::{check, check::equal, pic, time, traps};

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
/// Where PCs keep the century, in the same format as the rest.
const CENTURY: u8 = 0x32;
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const D: u8 = 13;

/// Register B: SET, the interrupt enables, binary, 24 hours.
const SET: u8 = 0x80;
const PIE: u8 = 0x40;
const AIE: u8 = 0x20;
const UIE: u8 = 0x10;
const BINARY: u8 = 0x04;
const HOURS_24: u8 = 0x02;
/// Register C: any, and one for each enable, in the same places.
const IRQF: u8 = 0x80;
const IRQ: u8 = 8;

/// Register C and the PICs' ISR as the handler saw them.
static CAUSE: AtomicU64 = AtomicU64::new(0);
static SERVED: AtomicU64 = AtomicU64::new(0);

fn get(register: u8) -> u8 {
    outb(0x70, register);
    inb(0x71)
}

fn set(register: u8, value: u8) {
    outb(0x70, register);
    outb(0x71, value);
}

pub fn run() {
    equal("rtc: memory and time are valid", (get(D) & 0x80).into(), 0x80);
    set(0x50, 0x5a);
    set(0x51, 0xa5);
    check!(
        "rtc: CMOS memory keeps bytes",
        get(0x50) == 0x5a && get(0x51) == 0xa5
    );
    set(B, HOURS_24);
    let now = get(SECONDS);
    check!(
        "rtc: the seconds advance",
        time::wait_until(|| get(SECONDS) != now)
    );
    roll_over(
        "rtc: a leap day in binary",
        BINARY,
        [59, 59, 23, 28, 2, 24, 20],
        [0, 0, 29, 2, 24],
    );
    roll_over(
        "rtc: the year's end in BCD",
        0,
        [0x59, 0x59, 0x23, 0x31, 0x12, 0x29, 0x20],
        [0, 0, 1, 1, 0x30],
    );
    interrupts();
    set(B, HOURS_24);
    pic::only(0);
}

/// Sets second to century, lets a second pass, looks at minute to year.
fn roll_over(name: &str, format: u8, from: [u8; 7], to: [u8; 5]) {
    set(B, SET | format | HOURS_24);
    let registers = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY];
    registers.iter().zip(from).for_each(|(&r, value)| set(r, value));
    set(B, format | HOURS_24);
    let rolled = time::wait_until(|| get(A) & 0x80 == 0 && get(SECONDS) != from[0]);
    let right = registers[1..].iter().zip(to).all(|(&r, value)| get(r) == value);
    check!(name, rolled && right);
}

fn interrupts() {
    fn clock(_: &mut traps::Frame) {
        SERVED.store(pic::isr().into(), Relaxed);
        CAUSE.fetch_or(get(C).into(), Relaxed);
        hit(0);
        pic::eoi(IRQ);
    }
    fn silent(_: &mut traps::Frame) {
        hit(0);
        pic::eoi(IRQ);
    }
    pic::init();
    traps::on(pic::BASE + IRQ, clock);
    pic::only(1 << IRQ);
    let cases = [
        ("rtc: the update interrupt", UIE, 1),
        ("rtc: the alarm interrupt, every second", AIE, 1),
        ("rtc: the periodic interrupt", PIE, 3),
    ];
    for alarm in [1, 3, 5] {
        set(alarm, 0xc0); // don't care
    }
    set(A, 0x26); // 32768 Hz, a period of 976 us
    for (name, enable, least) in cases {
        forget();
        CAUSE.store(0, Relaxed);
        get(C);
        set(B, HOURS_24 | enable);
        let came = wait_hits(0, least);
        set(B, HOURS_24);
        let cause = CAUSE.load(Relaxed) as u8;
        check!(name, came && cause & (IRQF | enable) == IRQF | enable);
    }
    equal(
        "rtc: IRQ 8 is served by both controllers",
        SERVED.load(Relaxed),
        1 << IRQ | 1 << 2,
    );

    cli();
    traps::on(pic::BASE + IRQ, silent);
    get(C);
    forget();
    set(B, HOURS_24 | PIE);
    wait_hits(0, 1);
    equal(
        "rtc: no further interrupt until register C is read",
        hits_within(0, 20),
        0,
    );
    check!("rtc: register C tells why", get(C) & (IRQF | PIE) == IRQF | PIE);
    check!("rtc: reading it lets the next one come", wait_hits(0, 2));
    set(B, HOURS_24);
    get(C);
    equal("rtc: reading register C clears it", (get(C) & IRQF).into(), 0);
}
