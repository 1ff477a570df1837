//! What a PC's firmware leaves in the battery-backed memory beside the clock: memory sizes, boot order, equipment.
//!
//! Places as Ralf Brown's interrupt list, file CMOS.LST, has them; 0x34 and 0x5b..=0x5d as SeaBIOS and OVMF read them.

/// What the machine boots from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BootDevice {
    /// Not said.
    #[default]
    Unset = 0,
    /// Floppy disk.
    Floppy = 1,
    /// Hard disk.
    Disk = 2,
    /// CD-ROM.
    Cdrom = 3,
    /// Network.
    Network = 4,
}

/// What the board writes into the memory when the machine is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cmos {
    /// Bytes of RAM below 4 GiB, from address 0.
    pub below_4g: u64,
    /// Bytes of RAM from 4 GiB up.
    pub above_4g: u64,
    /// First boot device (0x3d).
    pub boot: BootDevice,
    /// Shutdown status (0x0f): why the CPU comes out of reset; 0 is power-on.
    pub shutdown_status: u8,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What is below the video memory, at most.
const BASE: u64 = 640 * KIB;

impl Cmos {
    /// Fills in the bytes from 0x0e up.
    pub(super) fn fill(&self, ram: &mut [u8; 128]) {
        let mut word = |place: usize, units: u64| {
            let [low, high] = u16::try_from(units).unwrap_or(u16::MAX).to_le_bytes();
            ram[place] = low;
            ram[place + 1] = high;
        };
        word(0x15, self.below_4g.min(BASE) / KIB);
        let above_1m = self.below_4g.saturating_sub(MIB) / KIB;
        word(0x17, above_1m);
        word(0x30, above_1m);
        word(0x34, self.below_4g.saturating_sub(16 * MIB) / (64 * KIB));

        let [low, middle, high, ..] = (self.above_4g / (64 * KIB)).min(0xff_ffff).to_le_bytes();
        ram[0x5b] = low;
        ram[0x5c] = middle;
        ram[0x5d] = high;

        ram[0x0f] = self.shutdown_status;
        ram[0x14] = 0x02; // equipment: a floating-point unit
        ram[0x3d] = self.boot as u8;

        let sum = (0x10..0x2e).fold(0u16, |sum, place: usize| sum.wrapping_add(ram[place].into()));
        [ram[0x2e], ram[0x2f]] = sum.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_sizes_are_in_the_units_of_their_places() {
        // Below 4 GiB, above; base, extended, above 16 MiB, above 4 GiB.
        for (below_4g, above_4g, base, extended, above_16m, high) in [
            (512 * KIB, 0, 512, 0, 0, 0),
            (8 * MIB, 0, 640, 7 * 1024, 0, 0),
            (512 * MIB, 0, 640, 0xffff, 496 * 16, 0),
            (3 * GIB, 5 * GIB, 640, 0xffff, 0xbf00, 0x01_4000),
            (u64::MAX, u64::MAX, 640, 0xffff, 0xffff, 0xff_ffff),
        ] {
            let mut ram = [0; 128];
            let cmos = Cmos {
                below_4g,
                above_4g,
                boot: BootDevice::Disk,
                shutdown_status: 0x0a,
            };
            cmos.fill(&mut ram);
            let word = |at: usize| u16::from_le_bytes([ram[at], ram[at + 1]]);
            assert_eq!(
                [word(0x15), word(0x17), word(0x30), word(0x34)],
                [base, extended, extended, above_16m]
            );
            assert_eq!(u32::from_le_bytes([ram[0x5b], ram[0x5c], ram[0x5d], 0]), high);
            assert_eq!((ram[0x0f], ram[0x3d]), (0x0a, 2));
            let sum: u16 = ram[0x10..0x2e].iter().map(|&byte| u16::from(byte)).sum();
            assert_eq!(u16::from_be_bytes([ram[0x2e], ram[0x2f]]), sum);
        }
    }
}
