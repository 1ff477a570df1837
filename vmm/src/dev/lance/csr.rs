//! Control and status registers: their names, their bits, and one table of what a guest may do to each.
//!
//! The register file ([`super::registers`]) keeps all 128 as plain words and follows [`RULES`]; what more a register does
//! is there. A register absent from the table reads zero and ignores writes.
//!
//! Source: AMD publication 19436 (Am79C970A data sheet), "Control and Status Registers", by number; H_RESET, S_RESET and
//! STOP are the three resets it tells apart.

use bitflags::bitflags;

/// Number of a register: what RAP holds, 0..=127.
pub type Csr = u8;

/// Status.
pub const CSR0: Csr = 0;
/// Initialization block address; high half with the upper address byte of 16-bit structures.
pub const IADR: [Csr; 2] = [1, 2];
/// Interrupt masks and deferral control.
pub const CSR3: Csr = 3;
/// Test and features control.
pub const CSR4: Csr = 4;
/// Extended control and interrupt.
pub const CSR5: Csr = 5;
/// Encoded ring lengths, read only.
pub const ENCODED_LENGTHS: Csr = 6;
/// Logical address filter, four words.
pub const LADRF: [Csr; 4] = [8, 9, 10, 11];
/// Physical address, three words.
pub const PADR: [Csr; 3] = [12, 13, 14];
/// Mode.
pub const MODE: Csr = 15;
/// Other numbers of [`IADR`].
pub const IADR_ALIAS: [Csr; 2] = [16, 17];
/// Interval of the descriptor polls, two's complement of 30 ns clocks.
pub const POLL_INTERVAL: Csr = 47;
/// Other number of BCR20.
pub const STYLE_ALIAS: Csr = 58;
/// Chip identification.
pub const CHIP_ID: [Csr; 2] = [88, 89];
/// Missed frames.
pub const MISSED: Csr = 112;
/// Collisions seen while receiving: none here.
const COLLISIONS: Csr = 114;
/// Test register.
const TEST: Csr = 124;

bitflags! {
    /// CSR0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u16 {
        const INIT = 1 << 0;
        const STRT = 1 << 1;
        const STOP = 1 << 2;
        const TDMD = 1 << 3;
        const TXON = 1 << 4;
        const RXON = 1 << 5;
        const IENA = 1 << 6;
        const INTR = 1 << 7;
        const IDON = 1 << 8;
        const TINT = 1 << 9;
        const RINT = 1 << 10;
        const MERR = 1 << 11;
        const MISS = 1 << 12;
        const CERR = 1 << 13;
        const BABL = 1 << 14;
        const ERR = 1 << 15;
        /// What ERR is the OR of.
        const ERRORS = Self::BABL.bits() | Self::CERR.bits() | Self::MISS.bits() | Self::MERR.bits();
        /// What interrupts unless CSR3 masks it. CERR never does.
        const CAUSES = Self::BABL.bits() | Self::MISS.bits() | Self::MERR.bits()
            | Self::RINT.bits() | Self::TINT.bits() | Self::IDON.bits();
        /// Cleared by writing ones.
        const CLEARABLE = Self::CAUSES.bits() | Self::CERR.bits();
    }

    /// CSR4.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u16 {
        const EN124 = 1 << 15;
        const DPOLL = 1 << 12;
        const APAD_XMT = 1 << 11;
        const ASTRP_RCV = 1 << 10;
        const MFCO = 1 << 9;
        const UINTCMD = 1 << 7;
        const UINT = 1 << 6;
        const TXSTRT = 1 << 3;
    }

    /// CSR5.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Extended: u16 {
        const TOKINTD = 1 << 15;
        const LTINTEN = 1 << 14;
        const SPND = 1 << 0;
    }

    /// CSR15, and the first word of the initialization block.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mode: u16 {
        const DRX = 1 << 0;
        const DTX = 1 << 1;
        const LOOP = 1 << 2;
        const DXMTFCS = 1 << 3;
        const INTL = 1 << 6;
        const DLNKTST = 1 << 12;
        const DRCVPA = 1 << 13;
        const DRCVBC = 1 << 14;
        const PROM = 1 << 15;
    }
}

/// CSR3: bits that exist but BSWP, which stays 0: the card never swaps bytes, and a driver can see that it does not.
const CSR3_BITS: u16 = 0x5f78;
/// CSR3: the transmitter survives an underflow.
pub const DXSUFLO: u16 = 1 << 6;
/// CSR4: the flags, cleared by writing ones.
const CSR4_FLAGS: u16 = 0x026a;
/// CSR4 after reset: every flag masked.
const CSR4_RESET: u16 = 0x0115;
/// CSR4: the mask of a flag stands one bit below it.
pub const CSR4_MASKS: u16 = 0x0115;
/// CSR5: the flags, cleared by writing ones.
const CSR5_FLAGS: u16 = 0x0a90;
/// CSR5: the enable of a flag stands one bit below it.
pub const CSR5_ENABLES: u16 = 0x0548;

/// One direction's ring, by register number.
#[derive(Clone, Copy, Debug)]
pub struct RingCsrs {
    /// First descriptor, low and high half.
    pub base: [Csr; 2],
    /// Current descriptor, low and high half; follows from the others.
    pub current: [Csr; 2],
    /// Two's complement of the number of descriptors left, the current one included.
    pub counter: Csr,
    /// Two's complement of the number of descriptors.
    pub length: Csr,
}

/// The receive ring.
pub const RX_RING: RingCsrs = RingCsrs {
    base: [24, 25],
    current: [28, 29],
    counter: 72,
    length: 76,
};
/// The transmit ring.
pub const TX_RING: RingCsrs = RingCsrs {
    base: [30, 31],
    current: [34, 35],
    counter: 74,
    length: 78,
};

/// When a write takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At any time.
    Always,
    /// While STOP or SPND is set.
    Halted,
}

/// What a guest may do to a register, and what resets do.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Bits that take the value written.
    pub writable: u16,
    /// Bits cleared by writing ones.
    pub clearable: u16,
    /// When either happens.
    pub when: When,
    /// Value after H_RESET and S_RESET; `None`: only H_RESET changes it (to zero).
    pub reset: Option<u16>,
    /// Bits that setting STOP clears.
    pub stop_clears: u16,
}

const READ_ONLY: Rule = Rule {
    writable: 0,
    clearable: 0,
    when: When::Halted,
    reset: None,
    stop_clears: 0,
};
/// Any value, while halted; kept over S_RESET.
const KEPT: Rule = Rule {
    writable: 0xffff,
    ..READ_ONLY
};

const fn rule(csr: Csr) -> Rule {
    match csr {
        1 | 2 | 8..=14 | 18..=27 | 30..=33 | 36..=45 | 60..=67 | 72 | 74 | 76 | 78 | 82 | 84..=86 | 92 => {
            KEPT
        }
        // CSR46 counts the clocks to the next poll; nobody can see it move.
        46 | POLL_INTERVAL => Rule {
            reset: Some(0),
            ..KEPT
        },
        CSR3 => Rule {
            writable: CSR3_BITS,
            when: When::Always,
            reset: Some(0),
            ..READ_ONLY
        },
        CSR4 => Rule {
            writable: 0xfc00 | CSR4_MASKS,
            clearable: CSR4_FLAGS,
            when: When::Always,
            reset: Some(CSR4_RESET),
            stop_clears: CSR4_FLAGS,
        },
        CSR5 => Rule {
            writable: 0xc027 | CSR5_ENABLES,
            clearable: CSR5_FLAGS,
            when: When::Always,
            reset: Some(0),
            stop_clears: CSR5_FLAGS | Extended::SPND.bits(),
        },
        MODE => Rule {
            reset: Some(0),
            ..KEPT
        },
        80 => Rule {
            writable: 0x3fff,
            reset: Some(0x1410),
            ..READ_ONLY
        },
        100 => Rule {
            reset: Some(0x0200),
            ..KEPT
        },
        MISSED | COLLISIONS => Rule {
            reset: Some(0),
            stop_clears: 0xffff,
            ..KEPT
        },
        // RPA and GPSIEN, behind EN124 (see the register file).
        TEST => Rule {
            writable: 0x0018,
            reset: Some(0),
            ..READ_ONLY
        },
        _ => READ_ONLY,
    }
}

/// [`Rule`] by register number.
pub const RULES: [Rule; 128] = {
    let mut rules = [READ_ONLY; 128];
    let mut csr = 0;
    while csr < 128 {
        rules[csr] = rule(csr as Csr);
        csr += 1;
    }
    rules
};

/// Whether a register is the test register, for which CSR4 has a lock of its own.
pub const fn is_test(csr: Csr) -> bool {
    csr == TEST
}
