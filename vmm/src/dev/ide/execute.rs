//! What each command does when it is given: answers at once, or begins a [`Transfer`].
//!
//! Pure but for what it sets in the disk; nothing is asked of vmapp here.
//!
//! Source: ATA/ATAPI-6, by command name.

use super::command::{Command, Protocol};
use super::disk::{Disk, MOST_LBA28, Power};
use super::identify::identity;
use super::status::Error;
use super::taskfile::{Addressing, TaskFile};
use super::transfer::{Failure, Route, Transfer};
use shared::msg::disk::SECTOR;

/// What the device does next.
pub(super) enum Outcome {
    /// Nothing: it is done, and interrupts.
    Done,
    /// It takes time.
    Begun(Transfer, Addressing),
}

/// The command is not done, for a reason that concerns no sector.
const ABORTED: Failure = Failure {
    error: Error::ABRT,
    lba: None,
};
/// A sector asked for does not exist. The registers keep what was asked.
const NOT_FOUND: Failure = Failure {
    error: Error::IDNF,
    lba: None,
};

/// SET FEATURES, by the Features register.
mod feature {
    pub(super) const WRITE_CACHE_ON: u8 = 0x02;
    pub(super) const TRANSFER_MODE: u8 = 0x03;
    pub(super) const LOOK_AHEAD_OFF: u8 = 0x55;
    /// Settings outlive a software reset, as they do here in any case.
    pub(super) const KEEP_SETTINGS: u8 = 0x66;
    pub(super) const WRITE_CACHE_OFF: u8 = 0x82;
    pub(super) const LOOK_AHEAD_ON: u8 = 0xaa;
}

impl Disk {
    /// Begins `command` with the parameters in `taskfile`, and returns there what it answers. `second`: it is device 1.
    /// `spare` is room for data, and comes back if it is not used.
    pub(super) fn execute(
        &mut self,
        command: Command,
        taskfile: &mut TaskFile,
        second: bool,
        spare: &mut Vec<u8>,
    ) -> Result<Outcome, Failure> {
        let short = |transfer| Ok(Outcome::Begun(transfer, Addressing::Short));
        match command {
            Command::Read(protocol, addressing) => {
                let route = self.route(protocol)?;
                return self.fetch(taskfile, addressing, route, spare);
            }
            Command::Verify(addressing) => return self.fetch(taskfile, addressing, Route::Nowhere, spare),
            Command::Write(protocol, addressing) => {
                return self.store(taskfile, addressing, protocol, spare);
            }
            Command::Identify => {
                return short(Transfer::words(&identity(self, second), std::mem::take(spare)));
            }
            Command::Flush => return short(Transfer::flush(std::mem::take(spare))),
            Command::SetFeatures => return self.set_features(taskfile, spare),
            // What was written is on the medium before the disk rests.
            Command::Standby | Command::Sleep => {
                self.settings.power = match command {
                    Command::Sleep => Power::Asleep,
                    _ => Power::Standby,
                };
                return short(Transfer::flush(std::mem::take(spare)));
            }
            Command::Idle => self.settings.power = Power::Active,
            Command::CheckPower => taskfile.set_parameter(match self.settings.power {
                Power::Active => 0xff,
                Power::Standby | Power::Asleep => 0x00,
            }),
            Command::SetMultiple => accept(self.set_multiple(taskfile.parameter()))?,
            Command::InitializeParameters => {
                accept(self.translate(taskfile.head() + 1, taskfile.parameter()))?;
            }
            Command::Seek => {
                let geometry = self.settings.geometry;
                let there = taskfile.address(Addressing::Short, geometry);
                if there.is_none_or(|lba| lba >= self.sectors) {
                    return Err(NOT_FOUND);
                }
            }
            Command::NativeMax(Addressing::Short) => {
                taskfile.set_lba28(self.sectors.saturating_sub(1).min(MOST_LBA28));
            }
            Command::NativeMax(Addressing::Ext) => taskfile.set_lba48(self.sectors.saturating_sub(1)),
            // The cable's: it concerns both devices.
            Command::Recalibrate | Command::Diagnose => {}
        }
        Ok(Outcome::Done)
    }

    fn route(&self, protocol: Protocol) -> Result<Route, Failure> {
        let sectors = match protocol {
            Protocol::Dma => return Ok(Route::Dma),
            Protocol::Single => 1,
            Protocol::Multiple => self.settings.multiple,
        };
        accept(sectors > 0)?;
        Ok(Route::Data {
            block: usize::from(sectors) * SECTOR,
        })
    }

    fn fetch(
        &mut self,
        taskfile: &TaskFile,
        addressing: Addressing,
        route: Route,
        spare: &mut Vec<u8>,
    ) -> Result<Outcome, Failure> {
        let range = self.range(taskfile, addressing).ok_or(NOT_FOUND)?;
        self.settings.power = Power::Active;
        let transfer = Transfer::read(range, route, std::mem::take(spare));
        Ok(Outcome::Begun(transfer, addressing))
    }

    fn store(
        &mut self,
        taskfile: &TaskFile,
        addressing: Addressing,
        protocol: Protocol,
        spare: &mut Vec<u8>,
    ) -> Result<Outcome, Failure> {
        let route = self.route(protocol)?;
        let range = self.range(taskfile, addressing).ok_or(NOT_FOUND)?;
        if self.read_only {
            return Err(Failure {
                error: Error::WP | Error::ABRT,
                lba: Some(range.0),
            });
        }
        self.settings.power = Power::Active;
        let through = !self.settings.write_cache;
        let transfer = Transfer::write(range, route, through, std::mem::take(spare));
        Ok(Outcome::Begun(transfer, addressing))
    }

    fn set_features(&mut self, taskfile: &TaskFile, spare: &mut Vec<u8>) -> Result<Outcome, Failure> {
        match taskfile.feature() {
            feature::WRITE_CACHE_ON => self.settings.write_cache = true,
            feature::WRITE_CACHE_OFF => {
                self.settings.write_cache = false;
                let flush = Transfer::flush(std::mem::take(spare));
                return Ok(Outcome::Begun(flush, Addressing::Short));
            }
            feature::LOOK_AHEAD_ON => self.settings.look_ahead = true,
            feature::LOOK_AHEAD_OFF => self.settings.look_ahead = false,
            feature::KEEP_SETTINGS => {}
            feature::TRANSFER_MODE => accept(self.set_mode(taskfile.parameter()))?,
            _ => return Err(ABORTED),
        }
        Ok(Outcome::Done)
    }
}

fn accept(right: bool) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(ABORTED) }
}
