//! One counter of the 8254: its control word, latches and the counting itself, in ticks of its CLK input.
//!
//! Time passes only through [`Counter::run`], which takes any number of ticks at once in constant time: nobody
//! counts ticks one by one. Section names are those of Intel's data sheet 231164 (8254).

/// How the processor moves a 16-bit count over the 8-bit bus: bits 5..=4 of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// Bits 3..=1 of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// 0: interrupt on terminal count.
    TerminalCount,
    /// 1: hardware retriggerable one-shot.
    OneShot,
    /// 2: rate generator.
    Rate,
    /// 3: square wave.
    Square,
    /// 4: software triggered strobe.
    SoftStrobe,
    /// 5: hardware triggered strobe.
    HardStrobe,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    /// Bits 5..=0 of the control word as written; the status byte gives them back.
    control: u8,
    gate: bool,
    out: bool,
    /// Count register: the last complete count written, as written. `None` since the control word.
    register: Option<u16>,
    /// First byte of a two-byte write.
    first_byte: Option<u8>,
    /// The next read is the second byte of two.
    second_read: bool,
    latched: Option<u16>,
    latched_status: Option<u8>,
    /// The count register has not reached the counting element yet.
    null: bool,
    /// The next tick moves the count register to the counting element.
    load: bool,
    /// The counting element has been loaded since the control word.
    loaded: bool,
    /// Counting element, binary, 1 to the modulus after a load. In mode 3: ticks left of this half of the wave.
    element: u32,
    /// Mode 3: this is the high half of an odd count, one tick longer than the low half.
    long_half: bool,
    /// OUT is still to change at terminal count (modes 0, 1, 4, 5).
    armed: bool,
}

impl Counter {
    /// After power-on, which the data sheet leaves open: stopped in mode 0, OUT low.
    pub(super) fn new(gate: bool) -> Self {
        Self {
            control: 0x30,
            gate,
            out: false,
            register: None,
            first_byte: None,
            second_read: false,
            latched: None,
            latched_status: None,
            null: true,
            load: false,
            loaded: false,
            element: 0,
            long_half: false,
            armed: false,
        }
    }

    /// The OUT pin.
    pub(super) fn out(&self) -> bool {
        self.out
    }

    fn mode(&self) -> Mode {
        match self.control >> 1 & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::OneShot,
            2 | 6 => Mode::Rate,
            3 | 7 => Mode::Square,
            4 => Mode::SoftStrobe,
            _ => Mode::HardStrobe,
        }
    }

    fn access(&self) -> Access {
        match self.control >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        }
    }

    fn bcd(&self) -> bool {
        self.control & 1 != 0
    }

    fn modulus(&self) -> u32 {
        if self.bcd() { 10_000 } else { 0x1_0000 }
    }

    /// The count register as a number of ticks; 0 stands for the modulus. Digits above 9 count for what they are.
    fn count(&self) -> u32 {
        let raw = u32::from(self.register.unwrap_or(0));
        let count = if self.bcd() {
            (raw >> 12) * 1000 + (raw >> 8 & 15) * 100 + (raw >> 4 & 15) * 10 + (raw & 15)
        } else {
            raw
        };
        if count == 0 { self.modulus() } else { count }
    }

    // ---- programming ----

    /// A control word for this counter, with RW not 0.
    pub(super) fn program(&mut self, control: u8) {
        *self = Self {
            control: control & 0x3f,
            ..Self::new(self.gate)
        };
        self.out = self.mode() != Mode::TerminalCount;
    }

    /// The counter latch command, or read-back of the count. A latched count stays until read.
    pub(super) fn latch_count(&mut self) {
        if self.latched.is_none() {
            self.latched = Some(self.displayed());
        }
    }

    /// Read-back of the status.
    pub(super) fn latch_status(&mut self) {
        if self.latched_status.is_none() {
            let pins = u8::from(self.out) << 7 | u8::from(self.null) << 6;
            self.latched_status = Some(pins | self.control);
        }
    }

    /// A byte for the count register.
    pub(super) fn write(&mut self, byte: u8) {
        let byte16 = u16::from(byte);
        let count = match (self.access(), self.first_byte.take()) {
            (Access::Low, _) => byte16,
            (Access::High, _) => byte16 << 8,
            (Access::LowThenHigh, Some(low)) => byte16 << 8 | u16::from(low),
            (Access::LowThenHigh, None) => {
                self.first_byte = Some(byte);
                if self.mode() == Mode::TerminalCount {
                    self.out = false; // at once; counting rests until the second byte
                }
                return;
            }
        };
        let first = self.register.is_none();
        self.register = Some(count);
        self.null = true;
        match self.mode() {
            Mode::TerminalCount => {
                self.out = false;
                self.load = true;
            }
            Mode::SoftStrobe => self.load = true,
            Mode::Rate | Mode::Square => self.load |= first,
            Mode::OneShot | Mode::HardStrobe => {}
        }
    }

    /// A read of the counter's port: latched status first, then the latched count, else the counting element.
    pub(super) fn read(&mut self) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched.unwrap_or_else(|| self.displayed()).to_le_bytes();
        let (byte, last) = match self.access() {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::LowThenHigh => {
                self.second_read = !self.second_read;
                if self.second_read {
                    (low, false)
                } else {
                    (high, true)
                }
            }
        };
        if last {
            self.latched = None;
        }
        byte
    }

    /// The counting element as the processor sees it.
    fn displayed(&self) -> u16 {
        let element = match self.mode() {
            // An odd count is loaded less one, and its high half lasts one tick longer.
            Mode::Square if self.long_half => self.element.saturating_sub(1) * 2,
            Mode::Square => self.element * 2,
            _ => self.element,
        } % self.modulus();
        let shown = if self.bcd() {
            (element / 1000) << 12 | (element / 100 % 10) << 8 | (element / 10 % 10) << 4 | (element % 10)
        } else {
            element
        };
        shown as u16
    }

    /// The GATE pin ("Gate Pin Operations Summary").
    pub(super) fn set_gate(&mut self, gate: bool) {
        let trigger = gate && !self.gate;
        self.gate = gate;
        match self.mode() {
            Mode::TerminalCount | Mode::SoftStrobe => {}
            Mode::OneShot | Mode::HardStrobe => self.load |= trigger && self.register.is_some(),
            Mode::Rate | Mode::Square => {
                self.load |= trigger && self.register.is_some();
                self.out |= !gate;
            }
        }
    }

    // ---- counting ----

    fn counts(&self) -> bool {
        self.loaded
            && match self.mode() {
                Mode::TerminalCount => self.gate && self.first_byte.is_none(),
                Mode::Rate | Mode::Square | Mode::SoftStrobe => self.gate,
                Mode::OneShot | Mode::HardStrobe => true,
            }
    }

    /// Lets `ticks` pass. Constant time.
    pub(super) fn run(&mut self, mut ticks: u64) {
        if ticks == 0 {
            return;
        }
        if self.strobing() {
            self.out = true;
        }
        if self.load {
            self.transfer();
            ticks -= 1;
        }
        if ticks == 0 || !self.counts() {
            return;
        }
        match self.mode() {
            Mode::TerminalCount | Mode::OneShot => {
                if self.armed && ticks >= self.element.into() {
                    self.out = true;
                    self.armed = false;
                }
                self.count_down(ticks);
            }
            Mode::SoftStrobe | Mode::HardStrobe => {
                if self.armed && ticks >= self.element.into() {
                    self.out = ticks > self.element.into();
                    self.armed = false;
                }
                self.count_down(ticks);
            }
            Mode::Rate => self.run_rate(ticks),
            Mode::Square => self.run_square(ticks),
        }
    }

    /// Low for the one tick of a strobe.
    fn strobing(&self) -> bool {
        !self.out && matches!(self.mode(), Mode::SoftStrobe | Mode::HardStrobe)
    }

    /// The tick that moves the count register to the counting element; it does not count.
    fn transfer(&mut self) {
        self.load = false;
        self.loaded = true;
        self.armed = true;
        match self.mode() {
            Mode::OneShot => self.out = false,
            Mode::Rate | Mode::Square => self.out = true,
            Mode::TerminalCount | Mode::SoftStrobe | Mode::HardStrobe => {}
        }
        self.reload();
    }

    /// Count register to counting element; in mode 3 for the half of the wave that begins.
    fn reload(&mut self) {
        self.null = false;
        let count = self.count();
        self.long_half = self.out && count & 1 != 0;
        self.element = match self.mode() {
            Mode::Square if self.out => count.div_ceil(2),
            Mode::Square => count / 2,
            _ => count,
        };
    }

    /// Down through zero, round at the modulus.
    fn count_down(&mut self, ticks: u64) {
        let modulus = u64::from(self.modulus());
        let element = u64::from(self.element);
        self.element = match element.checked_sub(ticks) {
            Some(left) => left as u32,
            None => ((modulus - (ticks - element) % modulus) % modulus) as u32,
        };
    }

    /// Mode 2: from the count down to 1, where OUT is low, and again. A count of 1, which the data sheet forbids,
    /// holds OUT low.
    fn run_rate(&mut self, ticks: u64) {
        match ticks.checked_sub(self.element.into()) {
            None => self.element -= ticks as u32,
            Some(beyond) => {
                self.reload();
                self.element -= (beyond % u64::from(self.element)) as u32;
            }
        }
        self.out = self.element != 1;
    }

    /// Mode 3: each half is loaded anew. A count of 1, which the data sheet forbids, has no low half.
    fn run_square(&mut self, ticks: u64) {
        let Some(beyond) = ticks.checked_sub(self.element.into()) else {
            self.element -= ticks as u32;
            return;
        };
        self.out = !self.out;
        self.reload();
        let beyond = (beyond % u64::from(self.count())) as u32;
        if beyond < self.element {
            self.element -= beyond;
        } else {
            let beyond = beyond - self.element;
            self.out = !self.out;
            self.reload();
            self.element -= beyond;
        }
    }

    /// Ticks (at least 1) until OUT next rises by counting alone; `None` if it does not.
    pub(super) fn next_rise(&self) -> Option<u64> {
        if self.strobing() {
            return Some(1);
        }
        if self.load {
            let mut loaded = self.clone();
            loaded.run(1);
            return loaded.next_rise().map(|ticks| ticks.saturating_add(1));
        }
        if !self.counts() {
            return None;
        }
        let element = u64::from(self.element);
        match self.mode() {
            Mode::TerminalCount | Mode::OneShot => self.armed.then_some(element),
            Mode::SoftStrobe | Mode::HardStrobe => self.armed.then_some(element + 1),
            Mode::Rate => (self.count() != 1).then_some(element),
            Mode::Square if !self.out => Some(element),
            // High: the low half comes first, if there is one.
            Mode::Square => match u64::from(self.count() / 2) {
                0 => None,
                low => Some(element + low),
            },
        }
    }
}
