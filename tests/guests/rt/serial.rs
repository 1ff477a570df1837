//! COM1 by polling, and [`say!`]: text and numbers without `core::fmt`, which would cost thousands of instructions a line.

use crate::io::{inb, outb};

/// First port of COM1.
pub const COM1: u16 = 0x3f8;
/// Line status: transmitter holding register empty.
const THRE: u8 = 1 << 5;

/// 115200 8N1, FIFOs on, no interrupts, DTR, RTS and OUT2 on.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0x0b)] {
        outb(COM1 + register, value);
    }
}

/// Sends a byte when there is room; a transmitter that never has any is given up on.
pub fn send(byte: u8) {
    for _ in 0..10_000_000u32 {
        if inb(COM1 + 5) & THRE != 0 {
            break;
        }
    }
    outb(COM1, byte);
}

/// What [`say!`] prints: text as it is, numbers in decimal.
pub trait Show {
    fn show(&self);
}

impl Show for &str {
    fn show(&self) {
        self.bytes().for_each(send);
    }
}

impl Show for u64 {
    fn show(&self) {
        let mut digits = [0; 20];
        let mut rest = *self;
        let mut used = 0;
        loop {
            digits[used] = b'0' + (rest % 10) as u8;
            used += 1;
            rest /= 10;
            if rest == 0 || used == digits.len() {
                break;
            }
        }
        digits[..used].iter().rev().for_each(|&d| send(d));
    }
}

/// A number in hexadecimal, with 0x.
pub struct Hex(pub u64);

impl Show for Hex {
    fn show(&self) {
        "0x".show();
        let digits = (64 - self.0.leading_zeros()).div_ceil(4).max(1);
        for n in (0..digits).rev() {
            send(b"0123456789abcdef"[(self.0 >> (4 * n) & 15) as usize]);
        }
    }
}

/// Prints its arguments one after the other on COM1.
#[macro_export]
macro_rules! say {
    ($($part:expr),* $(,)?) => {{ $( $crate::serial::Show::show(&$part); )* }};
}
