//! The keyboard controller of a PC (ports 0x60, 0x64) and system control port A (0x92): keyboard, A20 gate and two of
//! the ways to reset the machine. One type, because port 0x92 and the controller's output port hold the same A20.
//!
//! Answers are there at once. The controller has an auxiliary interface with nothing plugged in: a byte for the mouse
//! ends in the controller's time-out answer (0xFE with the time-out bit), so a driver gives up without waiting.
//! Queues are bounded by what one command can answer; a guest that only writes loses answers, nothing else.
//!
//! Sources: IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"
//! and "System Control Port A"; IBM PC/AT Technical Reference for commands 0x20..=0x7f, 0xc0, 0xe0 and 0xf0..=0xff.

mod keyboard;
#[cfg(test)]
mod tests;

use crate::bus::{Access, Line, PortIo, Resettable, Signal, Signals, Width};
use crate::time::Ns;
use keyboard::Keyboard;
use std::collections::VecDeque;
use std::ops::RangeInclusive;

// Status register.
const OBF: u8 = 1 << 0;
const STATUS_SYS: u8 = 1 << 2;
const COMMAND_LAST: u8 = 1 << 3;
const NOT_LOCKED: u8 = 1 << 4;
const AUX_OBF: u8 = 1 << 5;
const TIMEOUT: u8 = 1 << 6;

// Command byte: byte 0 of the controller's memory.
const INT1: u8 = 1 << 0;
const INT12: u8 = 1 << 1;
const SYS: u8 = 1 << 2;
const KEYBOARD_OFF: u8 = 1 << 4;
const AUX_OFF: u8 = 1 << 5;
const TRANSLATE: u8 = 1 << 6;

// Output port.
const NO_RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;
const OUT_KEYBOARD: u8 = 1 << 4;
const OUT_AUX: u8 = 1 << 5;
/// Clock and data lines, all idle.
const OUT_IDLE: u8 = 0xcc;

/// Port 0x92: a rising edge resets the machine; the A20 bit stands where the output port has it.
const FAST_RESET: u8 = 1 << 0;

/// A byte for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Output {
    byte: u8,
    aux: bool,
    timeout: bool,
}

impl Output {
    fn controller(byte: u8) -> Self {
        Self {
            byte,
            aux: false,
            timeout: false,
        }
    }
}

/// What the next byte at port 0x60 is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Keyboard,
    Memory(u8),
    OutputPort,
    KeyboardBuffer,
    AuxBuffer,
    AuxDevice,
}

/// Controller, keyboard and port 0x92.
pub struct I8042 {
    /// The output buffer at port 0x60; full means OBF.
    buffer: Option<Output>,
    /// What an empty buffer reads as.
    last_read: u8,
    /// Answers of the controller behind the buffer.
    replies: VecDeque<Output>,
    keyboard: Keyboard,
    memory: [u8; 32],
    expect: Expect,
    command_last: bool,
    a20: bool,
    fast_reset: bool,
    irq1: Line,
    irq12: Line,
    signals: Signals,
}

impl I8042 {
    /// Ports answered, 8 bits wide ([`crate::bus::Splitting::Bytes`]).
    pub const PORTS: [RangeInclusive<u16>; 3] = [0x60..=0x60, 0x64..=0x64, 0x92..=0x92];

    /// Most answers kept behind the output buffer.
    const MOST_REPLIES: usize = 16;

    /// After power-on: both interfaces off, A20 open. `irq1` and `irq12` are the keyboard's and the mouse's lines.
    pub fn new(irq1: Line, irq12: Line, signals: Signals) -> Self {
        Self {
            buffer: None,
            last_read: 0,
            replies: VecDeque::new(),
            keyboard: Keyboard::new(),
            memory: Self::power_on_memory(),
            expect: Expect::Keyboard,
            command_last: false,
            a20: true,
            fast_reset: false,
            irq1,
            irq12,
            signals,
        }
    }

    fn power_on_memory() -> [u8; 32] {
        let mut memory = [0; 32];
        memory[0] = KEYBOARD_OFF | AUX_OFF;
        memory
    }

    // ---- output buffer ----

    fn reply(&mut self, output: Output) {
        if self.replies.len() < Self::MOST_REPLIES {
            self.replies.push_back(output);
        }
    }

    /// Fills an empty buffer: the controller's answers first, then the keyboard if its interface is on.
    fn refill(&mut self) {
        if self.buffer.is_none() {
            self.buffer = self.replies.pop_front().or_else(|| self.next_of_keyboard());
            // Each byte is an edge of its own.
            self.irq1.set(false);
            self.irq12.set(false);
        }
        let full = self.buffer.map(|output| output.aux);
        self.irq1
            .set(full == Some(false) && self.command_byte() & INT1 != 0);
        self.irq12
            .set(full == Some(true) && self.command_byte() & INT12 != 0);
    }

    fn next_of_keyboard(&mut self) -> Option<Output> {
        if self.command_byte() & KEYBOARD_OFF != 0 {
            return None;
        }
        let byte = self.keyboard.send()?;
        let translate = self.command_byte() & TRANSLATE != 0;
        Some(Output::controller(if translate {
            translated(byte)
        } else {
            byte
        }))
    }

    fn command_byte(&self) -> u8 {
        self.memory[0]
    }

    fn status(&self) -> u8 {
        let buffer = match self.buffer {
            None => 0,
            Some(Output { aux, timeout, .. }) => {
                OBF | if aux { AUX_OBF } else { 0 } | if timeout { TIMEOUT } else { 0 }
            }
        };
        let sys = if self.command_byte() & SYS != 0 {
            STATUS_SYS
        } else {
            0
        };
        let last = if self.command_last { COMMAND_LAST } else { 0 };
        buffer | sys | last | NOT_LOCKED
    }

    fn read_data(&mut self) -> u8 {
        if let Some(output) = self.buffer.take() {
            self.last_read = output.byte;
        }
        self.refill();
        self.last_read
    }

    // ---- output port and port 0x92 ----

    fn set_a20(&mut self, open: bool) {
        if self.a20 != open {
            self.a20 = open;
            self.signals.raise(Signal::A20(open));
        }
    }

    fn output_port(&self) -> u8 {
        let waiting = match self.buffer {
            None => 0,
            Some(Output { aux: true, .. }) => OUT_AUX,
            Some(_) => OUT_KEYBOARD,
        };
        OUT_IDLE | NO_RESET | waiting | if self.a20 { A20 } else { 0 }
    }

    fn set_output_port(&mut self, value: u8) {
        self.set_a20(value & A20 != 0);
        if value & NO_RESET == 0 {
            self.signals.raise(Signal::Reset);
        }
    }

    fn read_port_a(&self) -> u8 {
        let reset = if self.fast_reset { FAST_RESET } else { 0 };
        reset | if self.a20 { A20 } else { 0 }
    }

    fn write_port_a(&mut self, value: u8) {
        self.set_a20(value & A20 != 0);
        let reset = value & FAST_RESET != 0;
        if reset && !self.fast_reset {
            self.signals.raise(Signal::Reset);
        }
        self.fast_reset = reset;
    }

    // ---- commands ----

    /// Port 0x64. Commands nobody defined are not answered.
    fn command(&mut self, command: u8) {
        self.command_last = true;
        self.expect = Expect::Keyboard;
        match command {
            0x20..=0x3f => self.answer(self.memory[usize::from(command & 0x1f)]),
            0x60..=0x7f => self.expect = Expect::Memory(command & 0x1f),
            0xa4 => self.answer(0xf1), // no password
            0xa7 => self.memory[0] |= AUX_OFF,
            0xa8 => self.memory[0] &= !AUX_OFF,
            0xa9 | 0xab => self.answer(0x00), // interface tests: passed
            0xaa => {
                self.buffer = None;
                self.replies.clear();
                self.memory[0] |= SYS;
                self.answer(0x55); // self test: passed
            }
            0xad => self.memory[0] |= KEYBOARD_OFF,
            0xae => self.memory[0] &= !KEYBOARD_OFF,
            0xc0 => self.answer(0xb0), // input port: not locked, no jumper
            0xd0 => self.answer(self.output_port()),
            0xd1 => self.expect = Expect::OutputPort,
            0xd2 => self.expect = Expect::KeyboardBuffer,
            0xd3 => self.expect = Expect::AuxBuffer,
            0xd4 => self.expect = Expect::AuxDevice,
            0xdd => self.set_a20(false),
            0xdf => self.set_a20(true),
            // Test inputs: keyboard clock, low while the interface is off, and data.
            0xe0 => self.answer(if self.command_byte() & KEYBOARD_OFF != 0 {
                0x02
            } else {
                0x03
            }),
            // Pulses the output port's low bits that are 0 in the command; only the reset line is so quick.
            0xf0..=0xff if command & NO_RESET == 0 => self.signals.raise(Signal::Reset),
            _ => {}
        }
        self.refill();
    }

    fn answer(&mut self, byte: u8) {
        self.reply(Output::controller(byte));
    }

    /// Port 0x60.
    fn write_data(&mut self, byte: u8) {
        self.command_last = false;
        match std::mem::replace(&mut self.expect, Expect::Keyboard) {
            Expect::Keyboard => {
                // Sending to the keyboard turns its interface on.
                self.memory[0] &= !KEYBOARD_OFF;
                self.keyboard.receive(byte);
            }
            Expect::Memory(place) => self.memory[usize::from(place & 0x1f)] = byte,
            Expect::OutputPort => self.set_output_port(byte),
            Expect::KeyboardBuffer => self.answer(byte),
            Expect::AuxBuffer => self.reply(Output {
                byte,
                aux: true,
                timeout: false,
            }),
            Expect::AuxDevice => self.reply(Output {
                byte: 0xfe,
                aux: true,
                timeout: true,
            }),
        }
        self.refill();
    }
}

/// Set 2 to set 1, for the bytes this keyboard sends; all others stay as they are. So the identification reads AB 41
/// and the scan code sets 43, 41 and 3F, as on every PC.
fn translated(byte: u8) -> u8 {
    match byte {
        0x01 => 0x43,
        0x02 | 0x83 => 0x41,
        0x03 => 0x3f,
        other => other,
    }
}

impl PortIo for I8042 {
    fn port_read(&mut self, _now: Ns, port: u16, width: Width) -> Access<u32> {
        let value = match (port, width) {
            (0x60, Width::Byte) => self.read_data(),
            (0x64, Width::Byte) => self.status(),
            (0x92, Width::Byte) => self.read_port_a(),
            _ => return Access::Bad,
        };
        Access::Done(value.into())
    }

    fn port_write(&mut self, _now: Ns, port: u16, width: Width, value: u32) -> Access {
        let value = value as u8;
        match (port, width) {
            (0x60, Width::Byte) => self.write_data(value),
            (0x64, Width::Byte) => self.command(value),
            (0x92, Width::Byte) => self.write_port_a(value),
            _ => return Access::Bad,
        }
        Access::Done(())
    }
}

impl Resettable for I8042 {
    fn reset(&mut self) {
        self.buffer = None;
        self.last_read = 0;
        self.replies.clear();
        self.keyboard = Keyboard::new();
        self.memory = Self::power_on_memory();
        self.expect = Expect::Keyboard;
        self.command_last = false;
        self.fast_reset = false;
        self.set_a20(true);
        self.refill();
    }
}
