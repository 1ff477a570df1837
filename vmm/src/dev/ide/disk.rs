//! A disk: what it is, what the guest has set, and its sector 0 to last as a command may address them.
//!
//! Source: ATA/ATAPI-6, SET FEATURES, SET MULTIPLE MODE and "Power Management feature set"; ATA/ATAPI-5 for INITIALIZE
//! DEVICE PARAMETERS.

use super::geometry::Geometry;
use super::requests::Requests;
use super::taskfile::{Addressing, TaskFile};
use vmdriver_shim::crossing::Channel;

/// Most sectors of a DRQ block of any disk.
const MOST_MULTIPLE: u8 = 16;
/// Most sectors 28 bits address.
pub(super) const MOST_LBA28: u64 = (1 << 28) - 1;

/// What a disk is made with.
pub struct Drive {
    /// Size in sectors of 512 bytes, 1 to 2^48.
    pub sectors: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Serial number: printable ASCII, at most 20 characters.
    pub serial: String,
    /// Its way to vmapp.
    pub channel: Channel,
}

/// The mode for DMA, of which one at most is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DmaMode {
    /// Multiword 0 to 2.
    Multiword(u8),
    /// Ultra 0 to 5.
    Ultra(u8),
}

/// How awake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Active,
    Standby,
    /// Hears nothing but a reset.
    Asleep,
}

/// What a guest changes; a software reset does not change it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Sectors of a DRQ block of READ and WRITE MULTIPLE; 0: these commands are off.
    pub(super) multiple: u8,
    pub(super) write_cache: bool,
    /// Reported, and without effect: sectors ahead are the host's business.
    pub(super) look_ahead: bool,
    pub(super) dma: Option<DmaMode>,
    pub(super) geometry: Geometry,
    pub(super) power: Power,
}

/// A disk on a cable.
pub(super) struct Disk {
    pub(super) sectors: u64,
    pub(super) read_only: bool,
    pub(super) serial: String,
    pub(super) requests: Requests,
    pub(super) settings: Settings,
}

impl Disk {
    pub(super) fn new(drive: Drive) -> Self {
        let requests = Requests::new(drive.channel);
        Self {
            sectors: drive.sectors,
            read_only: drive.read_only,
            serial: drive.serial,
            settings: Settings::after_power_on(drive.sectors, most_multiple(&requests)),
            requests,
        }
    }

    /// The sectors a command asks for, first and one past the last; `None` if any of them does not exist.
    pub(super) fn range(&self, taskfile: &TaskFile, addressing: Addressing) -> Option<(u64, u64)> {
        let first = taskfile.address(addressing, self.settings.geometry)?;
        let end = first.checked_add(taskfile.sectors(addressing).into())?;
        (end <= self.sectors).then_some((first, end))
    }

    /// SET FEATURES 03h: a transfer mode, as in its table of transfer modes. False: there is no such mode.
    pub(super) fn set_mode(&mut self, mode: u8) -> bool {
        match mode {
            // PIO: default, default without IORDY, and modes 0 to 4. All are one speed here.
            0x00 | 0x01 | 0x08..=0x0c => {}
            0x20..=0x22 => self.settings.dma = Some(DmaMode::Multiword(mode & 7)),
            0x40..=0x45 => self.settings.dma = Some(DmaMode::Ultra(mode & 7)),
            _ => return false,
        }
        true
    }

    /// SET MULTIPLE MODE. False: no such block.
    pub(super) fn set_multiple(&mut self, sectors: u8) -> bool {
        let possible = sectors == 0 || sectors.is_power_of_two() && sectors <= self.most_multiple();
        if possible {
            self.settings.multiple = sectors;
        }
        possible
    }

    /// INITIALIZE DEVICE PARAMETERS. False: no such translation.
    pub(super) fn translate(&mut self, heads: u8, per_track: u8) -> bool {
        let geometry = Geometry::translated(self.sectors, heads, per_track);
        self.settings.geometry = geometry.unwrap_or(self.settings.geometry);
        geometry.is_some()
    }

    /// Most sectors of a DRQ block.
    pub(super) fn most_multiple(&self) -> u8 {
        most_multiple(&self.requests)
    }

    /// The machine's reset line.
    pub(super) fn power_on(&mut self) {
        self.settings = Settings::after_power_on(self.sectors, self.most_multiple());
    }
}

impl Settings {
    /// READ and WRITE MULTIPLE are on, as firmware would have turned them on.
    fn after_power_on(sectors: u64, multiple: u8) -> Self {
        Self {
            multiple,
            write_cache: true,
            look_ahead: true,
            dma: None,
            geometry: Geometry::native(sectors),
            power: Power::Active,
        }
    }
}

/// A DRQ block is never in two requests.
fn most_multiple(requests: &Requests) -> u8 {
    requests.most_sectors().min(MOST_MULTIPLE.into()) as u8
}
