//! One 8259A: request latches, priority resolver, command words. Knows nothing of ports or of its partner; the pair
//! in the parent module tells it levels and takes its INT output.
//!
//! After Intel's data sheet 231468 (8259A). Two differences of every PC chipset since the EISA bus are kept: edge or
//! level is chosen per input by the ELCR, not by LTIM in ICW1, and MCS-80 mode is not there (ICW4 bit 0 has no
//! effect, vectors are always the 8086's).

/// Which word the next write to A0 = 1 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Never initialised: OCWs are taken, nothing is delivered.
    Icw1,
    Icw2,
    Icw3,
    Icw4,
    /// Initialised; A0 = 1 is the mask.
    Ocw1,
}

// ICW1 and the selectors of A0 = 0.
const ICW1: u8 = 1 << 4;
const ICW1_IC4: u8 = 1 << 0;
const ICW1_SNGL: u8 = 1 << 1;
const OCW3: u8 = 1 << 3;
// OCW3
const OCW3_RIS: u8 = 1 << 0;
const OCW3_RR: u8 = 1 << 1;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_SMM: u8 = 1 << 5;
const OCW3_ESMM: u8 = 1 << 6;
// ICW4
const ICW4_AEOI: u8 = 1 << 1;
const ICW4_SFNM: u8 = 1 << 4;

/// The level a chip names when its request has gone by the time it is acknowledged (data sheet, "Edge and Level
/// Triggered Modes").
pub(super) const SPURIOUS: u8 = 7;

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chip {
    /// Inputs that have a slave on them, if cascaded. Wiring, not a register.
    slaves: u8,
    /// Levels of the inputs.
    level: u8,
    /// Edge latches: rose, and neither fell nor was acknowledged since.
    edge: u8,
    /// Whole pulses seen between two drains of the wires; kept until acknowledged.
    pulsed: u8,
    /// Inputs in level mode.
    elcr: u8,
    imr: u8,
    isr: u8,
    /// The input with the lowest priority; the next one up has the highest.
    lowest: u8,
    /// Vector of input 0.
    base: u8,
    expect: Expect,
    wants_icw4: bool,
    single: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    fully_nested: bool,
    read_isr: bool,
    poll: bool,
}

impl Chip {
    /// A chip after power-on, with slaves on the inputs of `slaves`. The data sheet leaves the state open: here it
    /// delivers nothing until initialised.
    pub(super) fn new(slaves: u8) -> Self {
        Self {
            slaves,
            level: 0,
            edge: 0,
            pulsed: 0,
            elcr: 0,
            imr: 0,
            isr: 0,
            lowest: 7,
            base: 0,
            expect: Expect::Icw1,
            wants_icw4: false,
            single: false,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_mask: false,
            fully_nested: false,
            read_isr: false,
            poll: false,
        }
    }

    /// Power-on state; the levels stay, they belong to the devices on the wires.
    pub(super) fn reset(&mut self) {
        *self = Self {
            level: self.level,
            ..Self::new(self.slaves)
        };
    }

    /// Puts input `ir` (0..=7) at `level`.
    pub(super) fn set(&mut self, ir: u8, level: bool) {
        let bit = 1 << (ir & 7);
        if level {
            self.edge |= bit & !self.level;
            self.level |= bit;
        } else {
            self.edge &= !bit;
            self.level &= !bit;
        }
    }

    /// Up and down again on input `ir`, faster than anybody could look: the edge is kept until acknowledged.
    pub(super) fn pulse(&mut self, ir: u8) {
        self.set(ir, false);
        self.pulsed |= 1 << (ir & 7);
    }

    /// Interrupt request register. An edge whose input fell again is gone, as in the chip.
    fn irr(&self) -> u8 {
        (self.level & (self.elcr | self.edge)) | (self.pulsed & !self.elcr)
    }

    /// 0 for the highest priority, 7 for the lowest.
    fn rank(&self, ir: u8) -> u8 {
        ir.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    /// The input of highest priority in `bits`.
    fn highest(&self, bits: u8) -> Option<u8> {
        (0..8)
            .map(|rank| self.lowest.wrapping_add(1).wrapping_add(rank) & 7)
            .find(|ir| bits >> ir & 1 != 0)
    }

    /// Whether a slave answers the acknowledge of input `ir`.
    pub(super) fn cascades(&self, ir: u8) -> bool {
        !self.single && self.slaves >> (ir & 7) & 1 != 0
    }

    /// The input that is asking the CPU, if any: INT.
    pub(super) fn pending(&self) -> Option<u8> {
        if self.expect != Expect::Ocw1 {
            return None;
        }
        let ir = self.highest(self.irr() & !self.imr)?;
        let in_service = if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        };
        let free = match self.highest(in_service) {
            None => true,
            // Special fully nested mode: a slave may interrupt its own service with something higher.
            Some(serving) if serving == ir => self.fully_nested && self.cascades(ir),
            Some(serving) => self.rank(ir) < self.rank(serving),
        };
        free.then_some(ir)
    }

    /// Interrupt acknowledge: takes the pending input into service. `None` is the spurious case: nothing is put in
    /// service and the CPU is given level [`SPURIOUS`].
    pub(super) fn acknowledge(&mut self) -> Option<u8> {
        let ir = self.pending()?;
        let bit = 1 << ir;
        self.edge &= !bit;
        self.pulsed &= !bit;
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = ir;
        }
        Some(ir)
    }

    /// The vector of level `ir`.
    pub(super) fn vector(&self, ir: u8) -> u8 {
        self.base | ir & 7
    }

    /// Whether the coming read is a poll; it is only once.
    pub(super) fn take_poll(&mut self) -> bool {
        std::mem::take(&mut self.poll)
    }

    /// Reads the register at address line A0.
    pub(super) fn read(&self, a0: bool) -> u8 {
        match (a0, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr(),
        }
    }

    /// Writes a command word at address line A0.
    pub(super) fn write(&mut self, a0: bool, value: u8) {
        if a0 {
            self.write_sequence(value);
        } else if value & ICW1 != 0 {
            self.initialise(value);
        } else if value & OCW3 != 0 {
            self.ocw3(value);
        } else {
            self.ocw2(value);
        }
    }

    /// ICW1: what the data sheet lists under "Initialization Command Words", a to f.
    fn initialise(&mut self, icw1: u8) {
        *self = Self {
            level: self.level,
            elcr: self.elcr,
            base: self.base,
            expect: Expect::Icw2,
            wants_icw4: icw1 & ICW1_IC4 != 0,
            single: icw1 & ICW1_SNGL != 0,
            ..Self::new(self.slaves)
        };
    }

    fn write_sequence(&mut self, value: u8) {
        let after_icw3 = if self.wants_icw4 {
            Expect::Icw4
        } else {
            Expect::Ocw1
        };
        match self.expect {
            Expect::Icw1 | Expect::Ocw1 => self.imr = value,
            Expect::Icw2 => {
                self.base = value & 0xf8;
                self.expect = if self.single { after_icw3 } else { Expect::Icw3 };
            }
            // The cascade is wired on the board: whatever ICW3 says, the slave sits on input 2.
            Expect::Icw3 => self.expect = after_icw3,
            Expect::Icw4 => {
                self.auto_eoi = value & ICW4_AEOI != 0;
                self.fully_nested = value & ICW4_SFNM != 0;
                self.expect = Expect::Ocw1;
            }
        }
    }

    /// OCW2: R, SL and EOI in bits 7..=5, a level in bits 2..=0.
    fn ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b100 => self.rotate_on_auto_eoi = true,
            0b001 => {
                self.end_highest();
            }
            0b101 => {
                if let Some(ended) = self.end_highest() {
                    self.lowest = ended;
                }
            }
            0b011 => self.isr &= !(1 << level),
            0b111 => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            0b110 => self.lowest = level,
            _ => {} // 010: no operation
        }
    }

    /// Non-specific EOI. In special mask mode it passes over masked levels ("Special Mask Mode").
    fn end_highest(&mut self) -> Option<u8> {
        let eligible = if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        };
        let ended = self.highest(eligible)?;
        self.isr &= !(1 << ended);
        Some(ended)
    }

    fn ocw3(&mut self, value: u8) {
        if value & OCW3_ESMM != 0 {
            self.special_mask = value & OCW3_SMM != 0;
        }
        self.poll = value & OCW3_POLL != 0;
        if value & OCW3_RR != 0 {
            self.read_isr = value & OCW3_RIS != 0;
        }
    }

    /// Inputs in level mode.
    pub(super) fn elcr(&self) -> u8 {
        self.elcr
    }

    /// Chooses the inputs in level mode.
    pub(super) fn set_elcr(&mut self, elcr: u8) {
        self.elcr = elcr;
    }
}
