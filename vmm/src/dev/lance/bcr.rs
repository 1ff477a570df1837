//! Bus configuration registers: a table of what each is after H_RESET and what a guest may write, and the three that
//! mean something here: miscellaneous configuration, link status, software style. None is touched by S_RESET or STOP.
//!
//! Source: AMD publication 19436 (Am79C970A data sheet), "Bus Configuration Registers", by number.

use super::descriptors::Style;

/// Number of a register: what RAP holds, 0..=127.
pub type Bcr = u8;

/// Miscellaneous configuration.
pub const MC: Bcr = 2;
/// MC: the address PROM may be written.
pub const APROMWE: u16 = 1 << 8;
/// MC: the LED registers may be written.
pub const LEDPE: u16 = 1 << 12;
/// The four LED registers; the first shows the link.
pub const LEDS: std::ops::RangeInclusive<Bcr> = 4..=7;
/// LED: its output.
pub const LEDOUT: u16 = 1 << 15;
/// LED: lit while the link is up.
pub const LNKSE: u16 = 1 << 6;
/// LED: lit while the link is up and full duplex.
pub const FDLSE: u16 = 1 << 8;
/// Full-duplex control.
pub const FDC: Bcr = 9;
/// FDC: full duplex.
pub const FDEN: u16 = 1 << 0;
/// Burst and bus control.
pub const BSBC: Bcr = 18;
/// BSBC: 32-bit register window.
pub const DWIO: u16 = 1 << 7;
/// Software style.
pub const SWS: Bcr = 20;
/// SWS: structures have 32-bit addresses.
pub const SSIZE32: u16 = 1 << 8;
/// SWS: advanced parity error handling, kept and without effect.
const APERREN: u16 = 1 << 10;

/// Registers there are.
pub const COUNT: usize = 32;

/// What a register is after H_RESET, and the bits a guest may write.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Value after H_RESET.
    pub reset: u16,
    /// Bits that take the value written.
    pub writable: u16,
}

const fn rule(bcr: Bcr) -> Rule {
    let (reset, writable) = match bcr {
        0 | 1 => (0x0005, 0),
        MC => (0x0002, 0x5186),
        4 => (0x00c0, 0x63ff),
        5 => (0x0084, 0x63ff),
        6 => (0x0088, 0x63ff),
        7 => (0x0090, 0x63ff),
        FDC => (0, 0x0007),
        BSBC => (0x9001, 0xf367),
        // No EEPROM: neither detected nor ever valid; its pins can be wiggled.
        19 => (0x0002, 0x0017),
        SWS => (0x0200, 0),
        21 => (0, 0x00ff),
        22 => (0xff06, 0xffff),
        _ => (0, 0),
    };
    Rule { reset, writable }
}

/// [`Rule`] by register number.
pub const RULES: [Rule; COUNT] = {
    let mut rules = [Rule {
        reset: 0,
        writable: 0,
    }; COUNT];
    let mut bcr = 0;
    while bcr < COUNT {
        rules[bcr] = rule(bcr as Bcr);
        bcr += 1;
    }
    rules
};

/// What BCR20 becomes when `value` is written: a style there is, with the two bits that follow from it; any other is
/// that of a C-LANCE.
pub fn software_style(value: u16) -> u16 {
    let style = match value & 0xff {
        1 => 0x0101,
        2 => 0x0302,
        3 => 0x0303,
        _ => 0x0200,
    };
    style | value & APERREN
}

/// The layout of structures BCR20 stands for.
pub fn style(sws: u16) -> Style {
    match (sws & SSIZE32 != 0, sws & 0xff) {
        (false, _) => Style::Lance,
        (true, 3) => Style::Burst,
        (true, _) => Style::Wide,
    }
}
