//! Cylinders, heads and sectors, and the linear address behind them.
//!
//! Source: ATA/ATAPI-6, "Sector addressing"; for the limits of the default translation its annex on the words of IDENTIFY DEVICE.

/// Cylinders of the default translation at most.
const MOST_CYLINDERS: u64 = 16_383;
/// Heads of the default translation at most.
const MOST_HEADS: u64 = 16;
/// Sectors of a track, at most, in the default translation.
const MOST_PER_TRACK: u64 = 63;

/// A translation. No field is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    /// 1 to 16.
    pub(super) heads: u8,
    /// Sectors of a track.
    pub(super) per_track: u8,
}

impl Geometry {
    /// What a disk of `sectors` has after power-on. It never reaches beyond the disk's end.
    pub(super) fn native(sectors: u64) -> Self {
        let per_track = sectors.clamp(1, MOST_PER_TRACK);
        let heads = (sectors / per_track).clamp(1, MOST_HEADS);
        Self {
            cylinders: (sectors / (heads * per_track)).clamp(1, MOST_CYLINDERS) as u16,
            heads: heads as u8,
            per_track: per_track as u8,
        }
    }

    /// What INITIALIZE DEVICE PARAMETERS asks for; `None` if the disk has not one such cylinder.
    pub(super) fn translated(sectors: u64, heads: u8, per_track: u8) -> Option<Self> {
        let cylinder = u64::from(heads) * u64::from(per_track);
        let cylinders = sectors.checked_div(cylinder)?.min(u16::MAX.into());
        (cylinders > 0).then_some(Self {
            cylinders: cylinders as u16,
            heads,
            per_track,
        })
    }

    /// Sectors that can be addressed.
    pub(super) fn capacity(self) -> u32 {
        u32::from(self.cylinders) * u32::from(self.heads) * u32::from(self.per_track)
    }

    /// The linear address; sectors count from 1. `None`: there is no such place.
    pub(super) fn lba(self, cylinder: u16, head: u8, sector: u8) -> Option<u64> {
        let exists = cylinder < self.cylinders && head < self.heads && (1..=self.per_track).contains(&sector);
        exists.then(|| {
            let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
            track * u64::from(self.per_track) + u64::from(sector) - 1
        })
    }

    /// Cylinder, head and sector of a linear address; what does not fit the registers is cut off.
    pub(super) fn place(self, lba: u64) -> (u16, u8, u8) {
        let (heads, per_track) = (u64::from(self.heads), u64::from(self.per_track));
        let track = lba / per_track;
        (
            (track / heads) as u16,
            (track % heads) as u8,
            (lba % per_track + 1) as u8,
        )
    }
}
