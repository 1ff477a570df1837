//! The register file of an Am79C970A, and nothing else: numbers in, numbers and [`Commit`]s out. It knows neither guest
//! memory, nor the host, nor time.
//!
//! The front end ([`super::Lance`]) hands it the guest's accesses and does what the commits say; the transmitter and the
//! receiver ask it where their rings are and report what happened. A write to RAP is a plain store. No access may panic
//! or do more than constant work.
//!
//! Source: AMD publication 19436 (Am79C970A data sheet), "Register Descriptions". Not modelled: the wire (collisions,
//! deferral, time domain reflectometry), Magic Packet and sleep, the EEPROM, big-endian structures, look-ahead packet
//! processing. Bits that only steer those keep what is written.

mod causes;
mod rings;

pub use rings::Direction;

use super::bcr;
use super::csr::{self, Csr, Extended, Features, Mode, RULES, Status, When};
use super::descriptors::Style;
use super::filters::Filters;
use super::init_block::InitBlock;
use super::window::{self, Target};
use crate::bus::Width;
use bitflags::bitflags;

/// CSR88 and CSR89: Am79C970A, AMD.
const CHIP_ID: [u16; 2] = [0x1003, 0x0262];
/// Length of a clock of the poll counter, in nanoseconds (33 MHz PCI).
const POLL_CLOCK_NS: u64 = 30;

bitflags! {
    /// What the front end must do after an access, in this order.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Commit: u8 {
        /// STOP was set or the card reset: forget everything under way.
        const HALT = 1 << 0;
        /// Read the initialization block.
        const INITIALISE = 1 << 1;
        /// Turn transmitter and receiver on.
        const START = 1 << 2;
        /// Look at the transmit ring now; the end of suspension, too.
        const DEMAND = 1 << 3;
        /// CSR0 or the masks were written: the guest has been at work, perhaps on the receive ring.
        const TOUCHED = 1 << 4;
    }
}

/// The registers.
pub struct Registers {
    rap: Csr,
    /// CSR0 without ERR and INTR, which follow from the rest.
    csr: [u16; 128],
    bcr: [u16; bcr::COUNT],
    prom: [u8; window::PROM_BYTES],
    mac: [u8; 6],
    link: bool,
    /// Frames are out, and TINT does not say so yet ([`Self::tell`]).
    untold: bool,
}

impl Registers {
    /// After power-on, with the cable out.
    pub fn new(mac: [u8; 6]) -> Self {
        let mut registers = Self {
            rap: 0,
            csr: [0; 128],
            bcr: [0; bcr::COUNT],
            prom: [0; window::PROM_BYTES],
            mac,
            link: false,
            untold: false,
        };
        registers.hard_reset();
        registers
    }

    /// H_RESET: the reset pin. The cable is not the card's.
    pub fn hard_reset(&mut self) {
        self.csr = [0; 128];
        self.bcr = bcr::RULES.map(|rule| rule.reset);
        self.prom = window::prom(self.mac);
        let [a, b, c, d, e, f] = self.mac;
        for (csr, pair) in csr::PADR.into_iter().zip([[a, b], [c, d], [e, f]]) {
            self.set(csr, u16::from_le_bytes(pair));
        }
        self.soft_reset();
    }

    /// S_RESET: the RESET register was read. Bus configuration, ring pointers and addresses stay.
    fn soft_reset(&mut self) {
        self.rap = 0;
        for (value, rule) in self.csr.iter_mut().zip(&RULES) {
            *value = rule.reset.unwrap_or(*value);
        }
        self.untold = false;
        self.set(csr::CSR0, Status::STOP.bits());
    }

    fn stop(&mut self) {
        for (value, rule) in self.csr.iter_mut().zip(&RULES) {
            *value &= !rule.stop_clears;
        }
        self.untold = false;
        self.set(csr::CSR0, Status::STOP.bits());
    }

    /// Reads from the window. `None`: no register there, or not of this width.
    pub fn read(&mut self, offset: u16, width: Width) -> Option<(u32, Commit)> {
        let value = match window::target(offset, width, self.is_dwio())? {
            Target::Prom(at) => self.read_prom(at, width),
            Target::Rdp => {
                if self.rap == csr::CSR0 {
                    self.tell();
                }
                self.read_csr(self.rap).into()
            }
            Target::Rap => self.rap.into(),
            Target::Bdp => self.read_bcr(self.rap).into(),
            Target::Reset => {
                self.soft_reset();
                return Some((0, Commit::HALT));
            }
        };
        Some((value, Commit::empty()))
    }

    /// Writes to the window. `None`: no register there, or not of this width.
    #[inline]
    pub fn write(&mut self, offset: u16, width: Width, value: u32) -> Option<Commit> {
        if window::selects_dwio(offset, width) {
            self.bcr[usize::from(bcr::BSBC)] |= bcr::DWIO;
        }
        match window::target(offset, width, self.is_dwio())? {
            Target::Rap => self.rap = value as u8 & 0x7f,
            Target::Rdp => return Some(self.write_csr(self.rap, value as u16)),
            Target::Bdp => self.write_bcr(self.rap, value as u16),
            Target::Prom(at) => self.write_prom(at, width, value),
            // Only reading resets.
            Target::Reset => {}
        }
        Some(Commit::empty())
    }

    /// Whether an offset is RDP, RESET or BDP.
    pub fn is_data_port(&self, offset: u16) -> bool {
        let dwio = self.is_dwio();
        let width = if dwio { Width::Dword } else { Width::Word };
        matches!(
            window::target(offset, width, dwio),
            Some(Target::Rdp | Target::Reset | Target::Bdp)
        )
    }

    fn is_dwio(&self) -> bool {
        self.bcr(bcr::BSBC) & bcr::DWIO != 0
    }

    fn read_prom(&self, at: u8, width: Width) -> u32 {
        let bytes = self.prom.iter().skip(at.into()).take(width.bytes().into());
        bytes.rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    fn write_prom(&mut self, at: u8, width: Width, value: u32) {
        if self.bcr(bcr::MC) & bcr::APROMWE == 0 {
            return;
        }
        let bytes = self.prom.iter_mut().skip(at.into()).take(width.bytes().into());
        for (byte, value) in bytes.zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    fn csr(&self, csr: Csr) -> u16 {
        self.csr[usize::from(csr & 0x7f)]
    }

    fn set(&mut self, csr: Csr, value: u16) {
        self.csr[usize::from(csr & 0x7f)] = value;
    }

    fn bcr(&self, bcr: u8) -> u16 {
        self.bcr.get(usize::from(bcr)).copied().unwrap_or(0)
    }

    fn pair(&self, [low, high]: [Csr; 2]) -> u32 {
        u32::from(self.csr(high)) << 16 | u32::from(self.csr(low))
    }

    fn set_pair(&mut self, [low, high]: [Csr; 2], value: u32) {
        self.set(low, value as u16);
        self.set(high, (value >> 16) as u16);
    }

    fn read_csr(&self, csr: Csr) -> u16 {
        let half = |value: u32, low: bool| if low { value as u16 } else { (value >> 16) as u16 };
        match csr {
            csr::CSR0 => self.read_status(),
            16 | 17 => self.csr(csr - csr::IADR_ALIAS[0] + csr::IADR[0]),
            28 | 29 => half(self.current(Direction::Rx), csr == csr::RX_RING.current[0]),
            34 | 35 => half(self.current(Direction::Tx), csr == csr::TX_RING.current[0]),
            csr::STYLE_ALIAS => self.bcr(bcr::SWS),
            88 | 89 => CHIP_ID[usize::from(csr - csr::CHIP_ID[0])],
            _ => self.csr(csr),
        }
    }

    fn read_status(&self) -> u16 {
        let mut status = self.status();
        status.set(Status::ERR, status.intersects(Status::ERRORS));
        status.set(Status::INTR, self.cause_pending());
        status.bits()
    }

    fn write_csr(&mut self, csr: Csr, value: u16) -> Commit {
        match csr {
            csr::CSR0 => return self.write_status(Status::from_bits_retain(value)) | Commit::TOUCHED,
            16 | 17 => return self.write_csr(csr - csr::IADR_ALIAS[0] + csr::IADR[0], value),
            csr::STYLE_ALIAS => self.write_bcr(bcr::SWS, value),
            csr::CSR3 => {
                self.follow_rule(csr, value);
                return Commit::TOUCHED;
            }
            csr::CSR5 => {
                let was = self.is_suspended();
                self.follow_rule(csr, value);
                if was && !self.is_suspended() {
                    return Commit::DEMAND | Commit::TOUCHED;
                }
            }
            csr::CSR4 => {
                let polled = self.polls();
                self.follow_rule(csr, value);
                // The command bit turns into the flag at once.
                if value & Features::UINTCMD.bits() != 0 {
                    self.csr[usize::from(csr)] |= Features::UINT.bits();
                }
                if self.polls() && !polled {
                    return Commit::DEMAND;
                }
            }
            _ if csr::is_test(csr) && !self.features().contains(Features::EN124) => {}
            _ => self.follow_rule(csr, value),
        }
        Commit::empty()
    }

    fn follow_rule(&mut self, csr: Csr, value: u16) {
        let at = usize::from(csr & 0x7f);
        let rule = RULES[at];
        if rule.when == When::Always || self.is_halted() {
            let kept = self.csr[at] & !rule.writable & !(value & rule.clearable);
            self.csr[at] = kept | value & rule.writable;
        }
    }

    /// STOP wins over all; INIT and STRT act when they were clear before; INEA takes the value of every write.
    fn write_status(&mut self, value: Status) -> Commit {
        if value.contains(Status::STOP) {
            self.stop();
            return Commit::HALT;
        }
        let mut status = self.status() - (value & Status::CLEARABLE);
        status.set(Status::IENA, value.contains(Status::IENA));
        let fresh = value - status;
        let mut commit = Commit::empty();
        for (bit, what) in [(Status::INIT, Commit::INITIALISE), (Status::STRT, Commit::START)] {
            if fresh.contains(bit) {
                status = (status | bit) - Status::STOP;
                commit |= what;
            }
        }
        if value.contains(Status::TDMD) {
            commit |= Commit::DEMAND;
        }
        self.set(csr::CSR0, status.bits());
        commit
    }

    fn read_bcr(&self, bcr: u8) -> u16 {
        let value = self.bcr(bcr);
        if !bcr::LEDS.contains(&bcr) {
            return value;
        }
        let duplex = self.bcr(bcr::FDC) & bcr::FDEN != 0;
        let lit = self.has_link() && (value & bcr::LNKSE != 0 || value & bcr::FDLSE != 0 && duplex);
        value | if lit { bcr::LEDOUT } else { 0 }
    }

    fn write_bcr(&mut self, bcr: u8, value: u16) {
        let at = usize::from(bcr);
        let (Some(register), Some(rule)) = (self.bcr.get(at).copied(), bcr::RULES.get(at)) else {
            return;
        };
        let locked = match bcr {
            bcr::SWS => !self.is_halted(),
            _ => bcr::LEDS.contains(&bcr) && self.bcr(bcr::MC) & bcr::LEDPE == 0,
        };
        if !locked {
            self.bcr[at] = match bcr {
                bcr::SWS => bcr::software_style(value),
                _ => register & !rule.writable | value & rule.writable,
            };
        }
    }

    fn status(&self) -> Status {
        Status::from_bits_retain(self.csr(csr::CSR0))
    }

    fn features(&self) -> Features {
        Features::from_bits_retain(self.csr(csr::CSR4))
    }

    fn extended(&self) -> Extended {
        Extended::from_bits_retain(self.csr(csr::CSR5))
    }

    /// The mode register.
    pub fn mode(&self) -> Mode {
        Mode::from_bits_retain(self.csr(csr::MODE))
    }

    fn is_suspended(&self) -> bool {
        self.extended().contains(Extended::SPND)
    }

    fn is_halted(&self) -> bool {
        self.status().contains(Status::STOP) || self.is_suspended()
    }

    /// Whether a direction was started (and did not stop by an error): suspended or not.
    pub fn is_on(&self, direction: Direction) -> bool {
        self.status().contains(direction.on())
    }

    /// Whether a direction does its work now.
    pub fn is_running(&self, direction: Direction) -> bool {
        self.is_on(direction) && !self.is_suspended()
    }

    /// Whether the transmit ring is to be looked at without demand.
    pub fn polls(&self) -> bool {
        self.is_on(Direction::Tx) && !self.features().contains(Features::DPOLL)
    }

    /// Time between two looks at the transmit ring, in nanoseconds; up to 2 ms.
    pub fn poll_interval_ns(&self) -> u64 {
        (0x1_0000 - u64::from(self.csr(csr::POLL_INTERVAL))) * POLL_CLOCK_NS
    }

    /// Whether short frames are padded on their way out, and get a sequence whatever else is said.
    pub fn pads(&self) -> bool {
        self.features().contains(Features::APAD_XMT)
    }

    /// Whether padding and sequence are taken off short IEEE 802.3 frames on their way in.
    pub fn strips(&self) -> bool {
        self.features().contains(Features::ASTRP_RCV)
    }

    /// Whether the transmitter goes on after an underflow.
    pub fn survives_underflow(&self) -> bool {
        self.csr(csr::CSR3) & csr::DXSUFLO != 0
    }

    /// What received frames are compared with.
    pub fn filters(&self) -> Filters {
        let [a, b, c] = csr::PADR.map(|csr| self.csr(csr).to_le_bytes());
        Filters {
            mode: self.mode(),
            physical: [a[0], a[1], b[0], b[1], c[0], c[1]],
            logical: (csr::LADRF.iter().rev())
                .fold(0, |filter, &csr| filter << 16 | u64::from(self.csr(csr))),
        }
    }

    /// The cable.
    pub fn set_link(&mut self, up: bool) {
        self.link = up;
    }

    /// Whether the card sees a link: the cable is in, or the link test is off.
    pub fn has_link(&self) -> bool {
        self.link || self.mode().contains(Mode::DLNKTST)
    }

    /// Layout of structures in guest memory.
    pub fn style(&self) -> Style {
        bcr::style(self.bcr(bcr::SWS))
    }

    /// Where the initialization block is.
    pub fn init_block_at(&self) -> u64 {
        self.pair(csr::IADR).into()
    }

    /// The block was read.
    pub fn initialise(&mut self, block: &InitBlock) {
        self.set(csr::MODE, block.mode.bits());
        for (csr, value) in csr::PADR.into_iter().zip(block.physical) {
            self.set(csr, value);
        }
        for (csr, value) in csr::LADRF.into_iter().zip(block.logical) {
            self.set(csr, value);
        }
        let lengths = u16::from(block.tx.log2) << 12 | u16::from(block.rx.log2) << 8;
        self.set(csr::ENCODED_LENGTHS, lengths);
        self.set_ring(Direction::Rx, block.rx);
        self.set_ring(Direction::Tx, block.tx);
        self.raise(Status::IDON);
    }

    /// STRT: the mode says which directions come on.
    pub fn start(&mut self) {
        let mode = self.mode();
        let mut status = self.status();
        status.set(Status::TXON, !mode.contains(Mode::DTX));
        status.set(Status::RXON, !mode.contains(Mode::DRX));
        self.set(csr::CSR0, status.bits());
    }

    /// An address in a structure as one on the bus: 16-bit structures have 24 bits, CSR2 gives the rest.
    pub fn bus_address(&self, address: u32) -> u64 {
        let [_, high] = csr::IADR;
        match self.style() {
            Style::Lance => u32::from(self.csr(high) & 0xff00) << 16 | address & 0x00ff_ffff,
            Style::Wide | Style::Burst => address,
        }
        .into()
    }
}
