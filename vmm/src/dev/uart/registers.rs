//! The register file of a 16550A, and nothing else: numbers in, numbers out, no time and no host.
//!
//! The front end ([`super::Uart`]) hands it the guest's accesses, takes the bytes that leave the transmitter and gives
//! it those that arrive. No access may panic, and none does more work than one FIFO holds.
//!
//! Time does not pass here. A byte leaves the transmitter when the front end takes it, and the character timeout is
//! reported as soon as data below the trigger level waits. Refused: waiting for the four character times of the
//! data sheet, and pacing bytes by the divisor; both would only slow the guest down to a line that is not there. For
//! the same reason word length, parity and stop bits shape nothing: a guest that never programs LCR is still heard.
//!
//! Source: National Semiconductor PC16550D data sheet, June 1995, section 8 "Registers", by register name.

use super::fifo::{DEPTH, Fifo};
use bitflags::bitflags;

// Offsets of the registers. With LCR bit 7 (DLAB) set, the first two are the divisor instead.
const RBR_THR: u16 = 0;
const IER: u16 = 1;
const IIR_FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

const LCR_DLAB: u8 = 1 << 7;
/// 9600 baud at the PC's 1.8432 MHz. The data sheet leaves the divisor undefined after power-on.
const POWER_ON_DIVISOR: u16 = 12;
/// IIR bits 7:6 while the FIFOs are on.
const IIR_FIFOS: u8 = 0xc0;
/// RX trigger levels by FCR bits 7:6.
const TRIGGERS: [usize; 4] = [1, 4, 8, 14];

bitflags! {
    /// Interrupt Enable Register. The high nibble reads zero; a guest looks there for other makers' chips.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    struct Ier: u8 {
        const RX_DATA = 1 << 0;
        const THR_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
        const MODEM_STATUS = 1 << 3;
    }

    /// FIFO Control Register. Bit 3 (DMA mode) moves pins nobody has wired; bits 5:4 are reserved and stay without
    /// effect (bit 5 would make a guest take the chip for a 16750).
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Fcr: u8 {
        const ENABLE = 1 << 0;
        const RESET_RX = 1 << 1;
        const RESET_TX = 1 << 2;
    }

    /// Modem Control Register.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    struct Mcr: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        const OUT2 = 1 << 3;
        const LOOP = 1 << 4;
    }

    /// Line Status Register.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    struct Lsr: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const PARITY = 1 << 2;
        const FRAMING = 1 << 3;
        const BREAK = 1 << 4;
        const THR_EMPTY = 1 << 5;
        const TRANSMITTER_EMPTY = 1 << 6;
        const FIFO_ERROR = 1 << 7;
        /// The errors that belong to one byte.
        const OF_A_BYTE = Self::PARITY.bits() | Self::FRAMING.bits() | Self::BREAK.bits();
    }

    /// Modem Status Register: four inputs, and what changed since it was read.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    struct Msr: u8 {
        const DELTA_CTS = 1 << 0;
        const DELTA_DSR = 1 << 1;
        const TRAILING_RI = 1 << 2;
        const DELTA_DCD = 1 << 3;
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RI = 1 << 6;
        const DCD = 1 << 7;
    }
}

/// What loopback connects: each modem output to an input.
const LOOPED: [(Mcr, Msr); 4] = [
    (Mcr::RTS, Msr::CTS),
    (Mcr::DTR, Msr::DSR),
    (Mcr::OUT1, Msr::RI),
    (Mcr::OUT2, Msr::DCD),
];

/// Each modem input and the bit that tells of its change.
const DELTAS: [(Msr, Msr); 4] = [
    (Msr::CTS, Msr::DELTA_CTS),
    (Msr::DSR, Msr::DELTA_DSR),
    (Msr::RI, Msr::TRAILING_RI),
    (Msr::DCD, Msr::DELTA_DCD),
];

/// The causes of an interrupt, with their codes in IIR bits 3:0.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Cause {
    LineStatus = 0x6,
    RxData = 0x4,
    RxTimeout = 0xc,
    ThrEmpty = 0x2,
    ModemStatus = 0x0,
}

/// IIR bits 3:0 when nothing is pending.
const NO_CAUSE: u8 = 0x1;

#[derive(Clone, Copy, Default)]
struct Received {
    byte: u8,
    errors: Lsr,
}

/// The chip.
pub struct Registers {
    ier: Ier,
    fifos: bool,
    trigger: usize,
    lcr: u8,
    mcr: Mcr,
    scratch: u8,
    divisor: u16,
    rx: Fifo<Received>,
    tx: Fifo<u8>,
    /// Error bits of LSR, kept until it is read.
    errors: Lsr,
    /// Delta bits of MSR, kept until it is read.
    deltas: Msr,
    /// The THRE interrupt: set when the transmitter's FIFO runs empty, gone when it was reported or THR was written.
    thr_emptied: bool,
}

impl Default for Registers {
    /// After power-on.
    fn default() -> Self {
        Self {
            ier: Ier::empty(),
            fifos: false,
            trigger: TRIGGERS[0],
            lcr: 0,
            mcr: Mcr::empty(),
            scratch: 0,
            divisor: POWER_ON_DIVISOR,
            rx: Fifo::new(),
            tx: Fifo::new(),
            errors: Lsr::empty(),
            deltas: Msr::empty(),
            thr_emptied: false,
        }
    }
}

impl Registers {
    /// The guest reads the register at `offset` (the low three bits count).
    pub fn read(&mut self, offset: u16) -> u8 {
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match (offset & 7, self.divisor_shown()) {
            (RBR_THR, true) => divisor_low,
            (IER, true) => divisor_high,
            (RBR_THR, false) => self.read_rbr(),
            (IER, false) => self.ier.bits(),
            (IIR_FCR, _) => self.read_iir(),
            (LCR, _) => self.lcr,
            (MCR, _) => self.mcr.bits(),
            (LSR, _) => self.read_lsr(),
            (MSR, _) => self.read_msr(),
            _ => self.scratch,
        }
    }

    /// The guest writes the register at `offset` (the low three bits count).
    pub fn write(&mut self, offset: u16, value: u8) {
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match (offset & 7, self.divisor_shown()) {
            (RBR_THR, true) => self.divisor = u16::from_le_bytes([value, divisor_high]),
            (IER, true) => self.divisor = u16::from_le_bytes([divisor_low, value]),
            (RBR_THR, false) => self.write_thr(value),
            (IER, false) => self.write_ier(Ier::from_bits_truncate(value)),
            (IIR_FCR, _) => self.write_fcr(value),
            (LCR, _) => self.lcr = value,
            (MCR, _) => self.write_mcr(Mcr::from_bits_truncate(value)),
            (SCR, _) => self.scratch = value,
            // LSR is for the factory's tests and MSR is read-only: "writing is not recommended".
            _ => {}
        }
    }

    /// The next byte leaves the transmitter.
    pub fn transmit(&mut self) -> Option<u8> {
        let byte = self.tx.pop()?;
        self.thr_emptied |= self.tx.is_empty();
        Some(byte)
    }

    /// How many bytes the receiver can take now without losing one. None in loopback, where the line is cut off.
    pub fn room(&self) -> usize {
        if self.mcr.contains(Mcr::LOOP) {
            return 0;
        }
        self.depth().saturating_sub(self.rx.len())
    }

    /// Whether the guest has read everything the receiver had.
    pub fn receiver_empty(&self) -> bool {
        self.rx.is_empty()
    }

    /// A byte arrives on the line.
    pub fn receive(&mut self, byte: u8) {
        if !self.mcr.contains(Mcr::LOOP) {
            self.enter_rx(byte, Lsr::empty());
        }
    }

    /// A break arrives on the line: one zero byte, marked.
    pub fn receive_break(&mut self) {
        if !self.mcr.contains(Mcr::LOOP) {
            self.enter_rx(0, Lsr::BREAK);
        }
    }

    /// The interrupt line as the PC has it: the chip's INTR, let through by MCR's OUT2 bit.
    ///
    /// The bit itself, as in the chips that have the gate inside. Refused: the discrete 16550's OUT2 *pin*, which falls
    /// in loopback and with it the interrupts of a driver that tests itself.
    pub fn interrupt(&self) -> bool {
        self.mcr.contains(Mcr::OUT2) && self.cause().is_some()
    }

    fn divisor_shown(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    /// Bytes each direction holds: one without FIFOs.
    fn depth(&self) -> usize {
        if self.fifos { DEPTH } else { 1 }
    }

    /// The pending cause of highest priority that is enabled.
    fn cause(&self) -> Option<Cause> {
        let enabled = |bit| self.ier.contains(bit);
        if enabled(Ier::LINE_STATUS) && !self.errors.is_empty() {
            Some(Cause::LineStatus)
        } else if enabled(Ier::RX_DATA) && self.rx.len() >= self.trigger {
            Some(Cause::RxData)
        } else if enabled(Ier::RX_DATA) && !self.rx.is_empty() {
            Some(Cause::RxTimeout)
        } else if enabled(Ier::THR_EMPTY) && self.thr_emptied {
            Some(Cause::ThrEmpty)
        } else if enabled(Ier::MODEM_STATUS) && !self.deltas.is_empty() {
            Some(Cause::ModemStatus)
        } else {
            None
        }
    }

    fn read_rbr(&mut self) -> u8 {
        let byte = self.rx.pop().map_or(0, |received| received.byte);
        self.reveal_errors();
        byte
    }

    fn read_iir(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Some(Cause::ThrEmpty) {
            self.thr_emptied = false;
        }
        let fifos = if self.fifos { IIR_FIFOS } else { 0 };
        fifos | cause.map_or(NO_CAUSE, |cause| cause as u8)
    }

    fn read_lsr(&mut self) -> u8 {
        let mut lsr = self.errors;
        lsr.set(Lsr::DATA_READY, !self.rx.is_empty());
        lsr.set(Lsr::THR_EMPTY | Lsr::TRANSMITTER_EMPTY, self.tx.is_empty());
        let bad_byte = self.errors.intersects(Lsr::OF_A_BYTE) || self.rx.iter().any(|r| !r.errors.is_empty());
        lsr.set(Lsr::FIFO_ERROR, self.fifos && bad_byte);
        self.errors = Lsr::empty();
        lsr.bits()
    }

    fn read_msr(&mut self) -> u8 {
        let msr = self.modem_inputs() | self.deltas;
        self.deltas = Msr::empty();
        msr.bits()
    }

    fn write_thr(&mut self, byte: u8) {
        self.thr_emptied = false;
        if self.mcr.contains(Mcr::LOOP) {
            // Bytes written before loopback still leave by the line: the chip would loop them too, and lose console
            // output to a driver's probe.
            self.enter_rx(byte, Lsr::empty());
            self.thr_emptied = self.tx.is_empty();
            return;
        }
        if !self.fifos {
            self.tx.clear();
        }
        // A guest that writes without looking at THRE loses the byte, as on the chip.
        self.tx.push(byte);
    }

    fn write_ier(&mut self, ier: Ier) {
        // Enabling the THRE interrupt with the transmitter empty raises it: drivers start sending this way.
        if (ier - self.ier).contains(Ier::THR_EMPTY) && self.tx.is_empty() {
            self.thr_emptied = true;
        }
        self.ier = ier;
    }

    fn write_fcr(&mut self, value: u8) {
        let fcr = Fcr::from_bits_truncate(value);
        let enable = fcr.contains(Fcr::ENABLE);
        let switched = enable != self.fifos;
        self.fifos = enable;
        if switched || (enable && fcr.contains(Fcr::RESET_RX)) {
            self.rx.clear();
        }
        if (switched || (enable && fcr.contains(Fcr::RESET_TX))) && !self.tx.is_empty() {
            self.tx.clear();
            self.thr_emptied = true;
        }
        // The other bits are programmed only together with the enable bit.
        self.trigger = if enable {
            TRIGGERS[usize::from(value >> 6)]
        } else {
            TRIGGERS[0]
        };
    }

    fn write_mcr(&mut self, mcr: Mcr) {
        let before = self.modem_inputs();
        self.mcr = mcr;
        let after = self.modem_inputs();
        for (input, delta) in DELTAS {
            let (was, is) = (before.contains(input), after.contains(input));
            // The ring indicator reports its trailing edge only.
            if was != is && (input != Msr::RI || was) {
                self.deltas |= delta;
            }
        }
    }

    /// The inputs as the chip sees them: a null modem with a listener always at the other end, or loopback.
    fn modem_inputs(&self) -> Msr {
        if !self.mcr.contains(Mcr::LOOP) {
            return Msr::CTS | Msr::DSR | Msr::DCD;
        }
        LOOPED
            .into_iter()
            .filter(|&(output, _)| self.mcr.contains(output))
            .map(|(_, input)| input)
            .collect()
    }

    fn enter_rx(&mut self, byte: u8, errors: Lsr) {
        if self.rx.len() >= self.depth() {
            self.errors |= Lsr::OVERRUN;
            if self.fifos {
                // The FIFO keeps what it has; the newcomer dies in the shift register.
                return;
            }
            self.rx.clear();
        }
        self.rx.push(Received { byte, errors });
        self.reveal_errors();
    }

    /// The errors of a byte show in LSR once it is the next to be read.
    fn reveal_errors(&mut self) {
        if let Some(next) = self.rx.oldest() {
            self.errors |= std::mem::take(&mut next.errors);
        }
    }
}
