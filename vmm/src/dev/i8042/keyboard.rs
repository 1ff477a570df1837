//! The keyboard at the other end of the cable: it answers commands and has no keys.
//!
//! The guest types on the serial console; this keyboard is here so that a stock driver finds what it expects and is
//! done with it at once. So of all its settings only the scan code set, which can be read back, is kept. Commands:
//! IBM Personal System/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)", section "Commands
//! from the System".

use std::collections::VecDeque;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const ECHO: u8 = 0xee;
/// Basic assurance test passed.
const BAT_OK: u8 = 0xaa;
/// What an MF2 keyboard calls itself.
const ID: [u8; 2] = [0xab, 0x83];
/// The scan code set after a reset.
const DEFAULT_SET: u8 = 2;

/// The option byte a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    ScanCodeSet,
    /// Acknowledged, and of no further effect: LEDs, typematic rate, a key of set 3.
    Ignored,
}

/// The keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keyboard {
    /// Bytes on their way to the controller. Every command empties it first, so it holds one answer: 3 bytes.
    queue: VecDeque<u8>,
    awaited: Option<Awaited>,
    scan_code_set: u8,
    /// For the resend command.
    last_sent: u8,
}

impl Keyboard {
    /// After power-on; the BAT code is not sent, as if the firmware had read it.
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            awaited: None,
            scan_code_set: DEFAULT_SET,
            last_sent: BAT_OK,
        }
    }

    /// The next byte for the controller.
    pub(super) fn send(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last_sent = byte;
        Some(byte)
    }

    /// A byte from the controller.
    pub(super) fn receive(&mut self, byte: u8) {
        self.queue.clear();
        match self.awaited.take() {
            // An option byte is below the commands; a command in its place is obeyed as one.
            Some(option) if byte < 0xed => self.option_byte(option, byte),
            _ => self.command(byte),
        }
    }

    fn command(&mut self, byte: u8) {
        match byte {
            0xed | 0xf3 | 0xfb..=0xfd => {
                self.awaited = Some(Awaited::Ignored);
                self.answer(&[ACK]);
            }
            0xf0 => {
                self.awaited = Some(Awaited::ScanCodeSet);
                self.answer(&[ACK]);
            }
            0xee => self.answer(&[ECHO]),
            0xf2 => {
                let [first, second] = ID;
                self.answer(&[ACK, first, second]);
            }
            0xf4 | 0xf7..=0xfa => self.answer(&[ACK]),
            0xf5 | 0xf6 => {
                self.scan_code_set = DEFAULT_SET;
                self.answer(&[ACK]);
            }
            0xfe => self.answer(&[self.last_sent]),
            0xff => {
                *self = Self::new();
                self.answer(&[ACK, BAT_OK]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn option_byte(&mut self, option: Awaited, byte: u8) {
        match (option, byte) {
            (Awaited::Ignored, _) => self.answer(&[ACK]),
            (Awaited::ScanCodeSet, 0) => self.answer(&[ACK, self.scan_code_set]),
            (Awaited::ScanCodeSet, 1..=3) => {
                self.scan_code_set = byte;
                self.answer(&[ACK]);
            }
            (Awaited::ScanCodeSet, _) => self.answer(&[RESEND]),
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
    }
}
