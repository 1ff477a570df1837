//! One channel of the controller: two places for a device, the registers both listen to, one interrupt wire and one bus
//! master.
//!
//! The front end ([`super::Ide`]) decodes ports and brings the guest's accesses here. A command is [begun](Disk::execute)
//! and then moved on by [`Cable::run`], at every event that can move it: a word of its data, the bus master's start, a
//! signal of vmapp. One command at a time, as the standard has it: while it runs the registers are its own, and what the
//! guest writes to them is lost. Only a software reset ends it early.
//!
//! Source: ATA/ATAPI-6, "Protocol"; for a device that is absent "Single device configurations".

use super::bus_master::BusMaster;
use super::command::Command;
use super::disk::{Disk, Power};
use super::execute::Outcome;
use super::status::{Control, DIAGNOSTIC_PASSED, Error, Status};
use super::taskfile::{Addressing, DEVICE, DEVICE_DEV, TaskFile};
use super::transfer::{Ends, Failure, Step, Transfer};
use crate::bus::{Line, Width};
use crate::mem::GuestMemory;
use crate::time::Ns;
use std::sync::Arc;

/// Offsets of the registers that are not kept in the task file.
pub(super) const DATA: u16 = 0;
const ERROR: u16 = 1;
const STATUS_COMMAND: u16 = 7;

/// What the wires give where no device drives them: a resistor pulls D7 down, so that nobody waits for BSY to clear.
const FLOATING: u8 = 0x7f;
/// A Data register without data.
const NO_DATA: u16 = 0xffff;
/// Steps of a command in one go: about half a mebibyte moves before the vCPU goes on.
const MOST_STEPS: u32 = 16;
/// When the rest of it is done.
const PAUSE_NS: u64 = 1_000;

/// A place for a device. Its registers are written whether there is one or not.
struct Unit {
    taskfile: TaskFile,
    status: Status,
    error: u8,
    /// The device asks for an interrupt.
    intrq: bool,
    disk: Option<Disk>,
}

/// A command under way.
struct Current {
    /// Whose: 0 or 1.
    unit: usize,
    addressing: Addressing,
    transfer: Transfer,
}

/// A channel.
pub(super) struct Cable {
    units: [Unit; 2],
    /// The device the guest talks to.
    selected: usize,
    control: Control,
    current: Option<Current>,
    /// Room for the next command's data.
    spare: Vec<u8>,
    pub(super) master: BusMaster,
    memory: Arc<GuestMemory>,
    irq: Line,
    /// Level of `irq`.
    level: bool,
    /// When a command that had its share goes on.
    resume: Option<Ns>,
}

impl Cable {
    pub(super) fn new(disks: [Option<Disk>; 2], irq: Line, memory: Arc<GuestMemory>) -> Self {
        Self {
            units: disks.map(Unit::new),
            selected: 0,
            control: Control::default(),
            current: None,
            spare: Vec::new(),
            master: BusMaster::default(),
            memory,
            irq,
            level: false,
            resume: None,
        }
    }

    /// The disk whose channel this is.
    pub(super) fn disk_of(&mut self, channel: u8) -> Option<usize> {
        let mut disks = self.units.iter().map(|unit| unit.disk.as_ref());
        disks.position(|disk| disk.is_some_and(|disk| disk.requests.number() == channel))
    }

    /// Whether vmapp has anything to do for a disk here.
    pub(super) fn any_pending(&mut self) -> bool {
        let disks = self.units.iter_mut().filter_map(|unit| unit.disk.as_mut());
        disks.fold(false, |pending, disk| disk.requests.pending() | pending)
    }

    /// When [`run`](Self::run) is to be called.
    pub(super) fn resume(&self) -> Option<Ns> {
        self.resume
    }

    /// [`run`](Self::run) is to be called soon, if there is a command.
    pub(super) fn resume_soon(&mut self) {
        self.resume = self.current.is_some().then_some(Ns(0));
    }

    /// The guest reads [`ERROR`] to [`STATUS_COMMAND`].
    pub(super) fn read(&mut self, offset: u16) -> u8 {
        let value = match offset {
            STATUS_COMMAND => self.status(),
            _ => {
                let previous = self.control.contains(Control::HOB);
                match self.answering() {
                    None => FLOATING,
                    Some(unit) if offset == ERROR => unit.error,
                    Some(unit) => unit.taskfile.read(offset, previous),
                }
            }
        };
        if offset == STATUS_COMMAND
            && let Some(unit) = self.units.get_mut(self.selected)
        {
            unit.intrq = false;
            self.show();
        }
        value
    }

    /// Status, without touching the interrupt: Alternate Status.
    pub(super) fn status(&self) -> u8 {
        match (self.units.get(self.selected), self.answering()) {
            (Some(selected), _) if selected.disk.is_some() => selected.status.bits(),
            // Device 0 answers for a device 1 that is not there: with nothing.
            (_, Some(_)) => 0,
            (_, None) => FLOATING,
        }
    }

    /// The device that drives the wires.
    fn answering(&self) -> Option<&Unit> {
        let present = |unit: &&Unit| unit.disk.is_some();
        let selected = self.units.get(self.selected).filter(present);
        selected.or_else(|| self.units.first().filter(present))
    }

    /// The guest writes [`ERROR`] to [`STATUS_COMMAND`].
    pub(super) fn write(&mut self, now: Ns, offset: u16, value: u8) {
        self.control -= Control::HOB;
        if self.current.is_some() || self.control.contains(Control::SRST) {
            return;
        }
        match offset {
            STATUS_COMMAND => self.command(now, value),
            _ => {
                for unit in &mut self.units {
                    unit.taskfile.write(offset, value);
                }
                if offset == DEVICE {
                    self.selected = usize::from(value & DEVICE_DEV != 0);
                }
            }
        }
        self.show();
    }

    /// The guest writes Device Control.
    pub(super) fn write_control(&mut self, value: u8) {
        let was = self.control;
        self.control = Control::from_bits_truncate(value);
        if self.control.contains(Control::SRST) {
            self.abort();
            for unit in &mut self.units {
                unit.status = Status::BSY;
                unit.intrq = false;
            }
        } else if was.contains(Control::SRST) {
            self.signature();
        }
        self.show();
    }

    /// Data are 16 bits wide: a dword is two of them, and of a byte the other half is lost.
    pub(super) fn read_data(&mut self, now: Ns, width: Width) -> u32 {
        match width {
            Width::Byte => u32::from(self.pop_word(now) as u8),
            Width::Word => self.pop_word(now).into(),
            Width::Dword | Width::Qword => {
                let low = u32::from(self.pop_word(now));
                u32::from(self.pop_word(now)) << 16 | low
            }
        }
    }

    /// As [`read_data`](Self::read_data).
    pub(super) fn write_data(&mut self, now: Ns, width: Width, value: u32) {
        match width {
            Width::Byte => self.push_word(now, value as u8 as u16),
            Width::Word => self.push_word(now, value as u16),
            Width::Dword | Width::Qword => {
                self.push_word(now, value as u16);
                self.push_word(now, (value >> 16) as u16);
            }
        }
    }

    fn pop_word(&mut self, now: Ns) -> u16 {
        let Some((word, last)) = self.moving().and_then(Transfer::pop_word) else {
            return NO_DATA;
        };
        if last {
            self.run(now);
        }
        word
    }

    fn push_word(&mut self, now: Ns, word: u16) {
        if self.moving().and_then(|transfer| transfer.push_word(word)) == Some(true) {
            self.run(now);
        }
    }

    /// The command of the device the guest talks to.
    fn moving(&mut self) -> Option<&mut Transfer> {
        let current = self.current.as_mut()?;
        (current.unit == self.selected).then_some(&mut current.transfer)
    }

    fn command(&mut self, now: Ns, opcode: u8) {
        let command = Command::decode(opcode);
        if command == Some(Command::Diagnose) {
            return self.diagnose();
        }
        let (at, second) = (self.selected, self.selected != 0);
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        let Some(disk) = &mut unit.disk else { return };
        if disk.settings.power == Power::Asleep {
            return;
        }
        unit.intrq = false;
        unit.error = 0;
        let aborted = Failure {
            error: Error::ABRT,
            lba: None,
        };
        let outcome = command.map_or(Err(aborted), |command| {
            disk.execute(command, &mut unit.taskfile, second, &mut self.spare)
        });
        match outcome {
            Ok(Outcome::Done) => unit.end(true),
            Ok(Outcome::Begun(transfer, addressing)) => {
                unit.status = Status::BSY;
                self.current = Some(Current {
                    unit: at,
                    addressing,
                    transfer,
                });
                self.run(now);
            }
            Err(failure) => unit.fail(failure, Addressing::Short),
        }
    }

    /// EXECUTE DEVICE DIAGNOSTIC: both devices do it, whichever is selected, and device 0 answers.
    fn diagnose(&mut self) {
        if self.units.iter().all(|unit| unit.disk.is_none()) {
            return;
        }
        self.signature();
        if let Some(first) = self.units.first_mut() {
            first.intrq = first.disk.is_some();
        }
    }

    /// What resets and diagnostics leave in the registers.
    fn signature(&mut self) {
        self.selected = 0;
        for unit in &mut self.units {
            unit.taskfile = TaskFile::signature();
            unit.status = Status::IDLE;
            unit.error = DIAGNOSTIC_PASSED;
            unit.intrq = false;
        }
    }

    /// Ends the command, whatever vmapp still does of it, and wakes the devices.
    fn abort(&mut self) {
        if let Some(current) = self.current.take() {
            self.spare = current.transfer.into_spare();
        }
        self.resume = None;
        for disk in self.units.iter_mut().filter_map(|unit| unit.disk.as_mut()) {
            disk.requests.abandon();
            disk.settings.power = Power::Active;
        }
    }

    /// Moves the command on as far as it goes, or as far as is fair.
    pub(super) fn run(&mut self, now: Ns) {
        self.resume = None;
        for _ in 0..MOST_STEPS {
            let step = self.step();
            if step != Some(Step::Again) {
                return self.show();
            }
        }
        self.resume = Some(now.after(PAUSE_NS));
    }

    /// One step, and what it means for the registers. `None`: there is no command.
    fn step(&mut self) -> Option<Step> {
        let current = self.current.as_mut()?;
        let unit = self.units.get_mut(current.unit)?;
        let step = current.transfer.step(&mut Ends {
            disk: unit.disk.as_mut()?,
            master: &mut self.master,
            memory: &self.memory,
        });
        match step {
            Step::Again | Step::Busy => {
                unit.status = Status::BSY;
                return Some(step);
            }
            Step::Block { interrupt } => {
                unit.status = Status::IDLE | Status::DRQ;
                unit.intrq |= interrupt;
                return Some(step);
            }
            Step::Done { interrupt } => unit.end(interrupt),
            Step::Failed(failure) => unit.fail(failure, current.addressing),
        }
        let ended = self.current.take()?;
        self.spare = ended.transfer.into_spare();
        Some(step)
    }

    /// vmapp has something for the disk at `unit`. Without a command it can only be late, and is cleared away.
    pub(super) fn pull(&mut self, now: Ns, unit: usize) {
        if self.current.as_ref().is_some_and(|current| current.unit == unit) {
            return self.run(now);
        }
        if let Some(disk) = self.units.get_mut(unit).and_then(|unit| unit.disk.as_mut()) {
            let _late = disk.requests.answer(&mut self.spare);
        }
    }

    /// Shows on the wire what the selected device asks for. The bus master sees the wire rise.
    fn show(&mut self) {
        let selected = self.units.get(self.selected);
        let asks = selected.is_some_and(|unit| unit.disk.is_some() && unit.intrq);
        let level = asks && !self.control.contains(Control::NIEN);
        if level && !self.level {
            self.master.interrupt_rose();
        }
        self.level = level;
        self.irq.set(level);
    }

    /// The machine's reset line.
    pub(super) fn reset(&mut self) {
        self.abort();
        self.control = Control::default();
        self.master.reset();
        for disk in self.units.iter_mut().filter_map(|unit| unit.disk.as_mut()) {
            disk.power_on();
        }
        self.signature();
        self.show();
    }
}

impl Unit {
    fn new(disk: Option<Disk>) -> Self {
        Self {
            taskfile: TaskFile::signature(),
            status: Status::IDLE,
            error: DIAGNOSTIC_PASSED,
            intrq: false,
            disk,
        }
    }

    fn end(&mut self, interrupt: bool) {
        self.status = Status::IDLE;
        self.intrq |= interrupt;
    }

    fn fail(&mut self, failure: Failure, addressing: Addressing) {
        self.error = failure.error.bits();
        self.status = Status::IDLE | Status::ERR;
        self.intrq = true;
        let Some(disk) = &mut self.disk else { return };
        disk.requests.abandon();
        disk.requests.count_error();
        if let Some(lba) = failure.lba {
            self.taskfile.set_address(lba, addressing, disk.settings.geometry);
        }
    }
}
