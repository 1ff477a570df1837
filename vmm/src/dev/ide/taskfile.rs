//! The command block registers a command takes its parameters from: each of the address and count registers is two
//! deep, for 48-bit addresses.
//!
//! Source: ATA/ATAPI-6, "48-bit Address feature set", and by register name.

use super::geometry::Geometry;

/// Offsets of the registers that are kept here. At 0 is Data, at 7 Status and Command.
pub(super) const FEATURES: u16 = 1;
pub(super) const COUNT: u16 = 2;
pub(super) const LBA_LOW: u16 = 3;
pub(super) const LBA_MID: u16 = 4;
pub(super) const LBA_HIGH: u16 = 5;
pub(super) const DEVICE: u16 = 6;

/// Device: the address is linear.
const DEVICE_LBA: u8 = 1 << 6;
/// Device: the second device is meant.
pub(super) const DEVICE_DEV: u8 = 1 << 4;
/// Device: head, or bits 27:24 of a linear address.
const DEVICE_HEAD: u8 = 0x0f;

/// How a command gives its address and count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressing {
    /// 28 bits or cylinder, head and sector; a count of 8 bits.
    Short,
    /// 48 bits; a count of 16 bits.
    Ext,
}

/// A register that remembers its previous content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Deep {
    recent: u8,
    previous: u8,
}

impl Deep {
    fn write(&mut self, value: u8) {
        self.previous = std::mem::replace(&mut self.recent, value);
    }

    fn set(&mut self, value: u16) {
        [self.recent, self.previous] = value.to_le_bytes();
    }

    fn read(self, previous: bool) -> u8 {
        if previous { self.previous } else { self.recent }
    }
}

/// The registers of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskFile {
    features: Deep,
    count: Deep,
    low: Deep,
    mid: Deep,
    high: Deep,
    device: u8,
}

impl TaskFile {
    /// What a reset or EXECUTE DEVICE DIAGNOSTIC leaves: "an ATA device" ("Signature and persistence").
    pub(super) fn signature() -> Self {
        let one = Deep {
            recent: 1,
            previous: 0,
        };
        Self {
            count: one,
            low: one,
            ..Self::default()
        }
    }

    /// The guest writes [`FEATURES`] to [`DEVICE`]; other offsets are not here.
    pub(super) fn write(&mut self, offset: u16, value: u8) {
        match offset {
            FEATURES => self.features.write(value),
            COUNT => self.count.write(value),
            LBA_LOW => self.low.write(value),
            LBA_MID => self.mid.write(value),
            LBA_HIGH => self.high.write(value),
            DEVICE => self.device = value,
            _ => {}
        }
    }

    /// The guest reads [`COUNT`] to [`DEVICE`], or with `previous` what was there before the last write.
    pub(super) fn read(&self, offset: u16, previous: bool) -> u8 {
        match offset {
            COUNT => self.count.read(previous),
            LBA_LOW => self.low.read(previous),
            LBA_MID => self.mid.read(previous),
            LBA_HIGH => self.high.read(previous),
            // Bits 7 and 5 are obsolete and read as ones.
            _ => self.device | 0xa0,
        }
    }

    /// What kind of SET FEATURES.
    pub(super) fn feature(&self) -> u8 {
        self.features.recent
    }

    /// The count register as a plain parameter.
    pub(super) fn parameter(&self) -> u8 {
        self.count.recent
    }

    /// Returns a plain parameter.
    pub(super) fn set_parameter(&mut self, value: u8) {
        self.count.recent = value;
    }

    /// The head number as a plain parameter.
    pub(super) fn head(&self) -> u8 {
        self.device & DEVICE_HEAD
    }

    /// Sectors asked for, 1 to 256 or 1 to 65536: zero stands for the most.
    pub(super) fn sectors(&self, addressing: Addressing) -> u32 {
        match addressing {
            Addressing::Short => (u32::from(self.count.recent).wrapping_sub(1) & 0xff) + 1,
            Addressing::Ext => {
                let count = u16::from_le_bytes([self.count.recent, self.count.previous]);
                (u32::from(count).wrapping_sub(1) & 0xffff) + 1
            }
        }
    }

    /// The first sector asked for. `None`: no place of this geometry.
    pub(super) fn address(&self, addressing: Addressing, geometry: Geometry) -> Option<u64> {
        let recent = [self.low.recent, self.mid.recent, self.high.recent];
        let [low, mid, high] = recent.map(u64::from);
        match addressing {
            Addressing::Ext => {
                let previous = [self.low.previous, self.mid.previous, self.high.previous];
                let [fourth, fifth, sixth] = previous.map(u64::from);
                Some(sixth << 40 | fifth << 32 | fourth << 24 | high << 16 | mid << 8 | low)
            }
            Addressing::Short if self.device & DEVICE_LBA != 0 => {
                Some(u64::from(self.head()) << 24 | high << 16 | mid << 8 | low)
            }
            Addressing::Short => {
                let cylinder = u16::from_le_bytes([self.mid.recent, self.high.recent]);
                geometry.lba(cylinder, self.head(), self.low.recent)
            }
        }
    }

    /// Returns the address of one sector, in the form the command's was in.
    pub(super) fn set_address(&mut self, lba: u64, addressing: Addressing, geometry: Geometry) {
        match addressing {
            Addressing::Ext => self.set_lba48(lba),
            Addressing::Short if self.device & DEVICE_LBA != 0 => self.set_lba28(lba),
            Addressing::Short => {
                let (cylinder, head, sector) = geometry.place(lba);
                [self.mid.recent, self.high.recent] = cylinder.to_le_bytes();
                self.low.recent = sector;
                self.device = self.device & !DEVICE_HEAD | head & DEVICE_HEAD;
            }
        }
    }

    /// Returns a linear address of 28 bits.
    pub(super) fn set_lba28(&mut self, lba: u64) {
        let [low, mid, high, top, ..] = lba.to_le_bytes();
        (self.low.recent, self.mid.recent, self.high.recent) = (low, mid, high);
        self.device = self.device & !DEVICE_HEAD | top & DEVICE_HEAD;
    }

    /// Returns a linear address of 48 bits.
    pub(super) fn set_lba48(&mut self, lba: u64) {
        let [low, mid, high, fourth, fifth, sixth, ..] = lba.to_le_bytes();
        self.low.set(u16::from_le_bytes([low, fourth]));
        self.mid.set(u16::from_le_bytes([mid, fifth]));
        self.high.set(u16::from_le_bytes([high, sixth]));
    }
}
