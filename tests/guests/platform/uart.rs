//! COM1: registers, loopback, FIFO, interrupts (National Semiconductor PC16550D data sheet).
//!
//! Results are printed on the same port, so each step ends with the port as [`rt::serial::init`] leaves it.

use crate::{count_irq, forget, hit, wait_hits};
use rt::io::{inb, outb};
use rt::serial::{self, COM1};
use rt::{check, check::equal, pic, time, traps};

const IER: u16 = COM1 + 1;
const IIR: u16 = COM1 + 2;
const FCR: u16 = COM1 + 2;
const LCR: u16 = COM1 + 3;
const MCR: u16 = COM1 + 4;
const LSR: u16 = COM1 + 5;
const MSR: u16 = COM1 + 6;
const SCRATCH: u16 = COM1 + 7;
const LOOPBACK: u8 = 0x10;
const DATA_READY: u8 = 0x01;
const OVERRUN: u8 = 0x02;
const EMPTY: u8 = 0x60;
const IRQ: u8 = 4;

pub fn run() {
    registers();
    loopback();
    fifo();
    transmit_interrupt();
}

/// Runs a step with the transmitter drained, then makes the port fit for printing again.
fn apart<T>(step: impl FnOnce() -> T) -> T {
    time::wait_until(|| inb(LSR) & EMPTY == EMPTY);
    let result = step();
    serial::init();
    result
}

fn registers() {
    let scratch = apart(|| {
        [0x55, 0xaa].map(|value| {
            outb(SCRATCH, value);
            inb(SCRATCH)
        })
    });
    check!("uart: the scratch register keeps bytes", scratch == [0x55, 0xaa]);
    let divisor = apart(|| {
        outb(LCR, 0x83);
        outb(COM1, 0x34);
        outb(COM1 + 1, 0x12);
        let divisor = [inb(COM1), inb(COM1 + 1)];
        outb(LCR, 0x03);
        (divisor, inb(IER))
    });
    check!(
        "uart: the divisor reads back behind DLAB",
        divisor == ([0x34, 0x12], 0)
    );
    let ier = apart(|| {
        outb(MCR, 0); // no interrupt leaves without OUT2
        outb(IER, 0xff);
        inb(IER)
    });
    equal("uart: the interrupt enable has four bits", ier.into(), 0x0f);
}

fn loopback() {
    let modem = apart(|| {
        [0x0, 0x1, 0x2, 0x4, 0x8].map(|outputs| {
            outb(MCR, LOOPBACK | outputs);
            inb(MSR) & 0xf0
        })
    });
    check!(
        "uart: loopback shows outputs as inputs",
        modem == [0, 0x20, 0x10, 0x40, 0x80]
    );
    let (ready, iir, byte, after) = apart(|| {
        outb(MCR, LOOPBACK);
        outb(IER, 1);
        outb(COM1, b'L');
        let ready = time::wait_until(|| inb(LSR) & DATA_READY != 0);
        time::wait_until(|| inb(IIR) & 1 == 0);
        (ready, inb(IIR) & 0x0f, inb(COM1), inb(LSR) & DATA_READY)
    });
    check!("uart: loopback receives what it sends", ready && byte == b'L');
    check!(
        "uart: received data is pending in IIR",
        iir == 0x04 || iir == 0x0c
    );
    equal("uart: reading takes the byte", after.into(), 0);
}

fn fifo() {
    let iir = apart(|| {
        outb(FCR, 0);
        let off = inb(IIR) & 0xc0;
        outb(FCR, 1);
        [off, inb(IIR) & 0xc0]
    });
    check!("uart: IIR tells whether the FIFOs are on", iir == [0, 0xc0]);
    let (bytes, overrun, left) = apart(|| {
        outb(MCR, LOOPBACK);
        outb(FCR, 7);
        // Reading the status clears the overrun bit, so every look at it counts.
        let mut status = 0;
        for byte in 0..18 {
            time::wait_until(|| {
                let now = inb(LSR);
                status |= now;
                now & EMPTY == EMPTY
            });
            if byte < 17 {
                outb(COM1, byte);
            }
        }
        let mut bytes = 0;
        while inb(LSR) & DATA_READY != 0 && inb(COM1) == bytes {
            bytes += 1;
        }
        (bytes, status & OVERRUN, inb(LSR) & DATA_READY)
    });
    equal("uart: the FIFO keeps 16 bytes in order", bytes.into(), 16);
    equal("uart: the 17th is an overrun", overrun.into(), OVERRUN.into());
    equal("uart: then the FIFO is empty", left.into(), 0);
    let cleared = apart(|| {
        outb(MCR, LOOPBACK);
        outb(COM1, 1);
        time::wait_until(|| inb(LSR) & DATA_READY != 0);
        outb(FCR, 3);
        inb(LSR) & DATA_READY
    });
    equal("uart: the FIFO reset drops what was received", cleared.into(), 0);
}

fn transmit_interrupt() {
    fn transmitter(frame: &mut traps::Frame) {
        if inb(IIR) & 0x0f == 0x02 {
            hit(1);
        }
        count_irq(frame);
    }
    pic::init();
    traps::on(pic::BASE + IRQ, transmitter);
    pic::only(1 << IRQ);
    let (came, idle, again) = apart(|| {
        forget();
        outb(IER, 2);
        let came = wait_hits(1, 1);
        let idle = inb(IIR) & 1;
        outb(COM1, b'\n');
        let again = wait_hits(1, 2);
        (came, idle, again)
    });
    check!("uart: enabling the empty transmitter's interrupt raises it", came);
    equal("uart: reading IIR ends it", idle.into(), 1);
    check!("uart: a byte sent raises it again", again);
    pic::only(0);
}
