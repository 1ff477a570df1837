//! The board: which devices there are, which ports, addresses and wires are theirs. Wiring is data ([`PORTS`], [`WIRES`]);
//! the code below only follows it.
//!
//! The board owns every device and is itself owned by the run loop's thread. It turns an exit's port or address into a
//! device ([`Part`]), and after each access carries what changed on the wires to the interrupt controllers
//! ([`Board::settle`]). It never blocks and never looks at the host.

use crate::bus::{
    Access, Change, Channelled, Claim, Line, Mmio, MmioMap, Overlap, PortIo, PortMap, Signal, Signals,
    Splitting, Timed, Width, Wires,
};
use crate::dev::chipset::acpi::{self, AcpiConfig, AcpiError};
use crate::dev::chipset::interrupts::Interrupts;
use crate::dev::chipset::ioapic::{self, IoApic};
use crate::dev::chipset::lapic::{self, LocalApic, TscScale};
use crate::dev::chipset::pci::{PciBus, PlugError, intx};
use crate::dev::chipset::pic::PicPair;
use crate::dev::chipset::pit::Pit;
use crate::dev::chipset::pm::Pm;
use crate::dev::chipset::rtc::{BootDevice, Cmos, Rtc};
use crate::dev::debug::{DebugExit, PostPort};
use crate::dev::i8042::I8042;
use crate::dev::ide::Ide;
use crate::dev::lance::Lance;
use crate::dev::testdev::TestDevice;
use crate::dev::uart::Uart;
use crate::engine::{Op, Reply};
use crate::mem::{GuestMemory, IOAPIC_BASE, MemoryError, PCI_HOLE};
use crate::time::Ns;
use shared::abi::counters::VmmCounter;
use shared::spec::{CONSOLE_CHANNEL, MachineSpec};
use std::ops::RangeInclusive;
use std::sync::Arc;
use thiserror::Error;
use vmdriver_shim::crossing::{Crossing, CrossingError};

/// Edge or level of IRQ 8 to 15.
const ELCR_HIGH: u16 = 0x4d1;

mod plug;
mod slots;

/// What answers an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Pics,
    Pit,
    Rtc,
    Keyboard,
    Post,
    Pci,
    Pm,
    Uart,
    DebugExit,
    Test,
    LocalApic,
    IoApic,
    Ide,
    IdeBusMaster,
    /// Network card n.
    Lance(usize),
}

/// Who has which ports, and whether the bus cuts wide accesses into bytes for it.
const PORTS: &[(&[RangeInclusive<u16>], Splitting, Part)] = &[
    (&PicPair::PORTS, Splitting::Bytes, Part::Pics),
    (&Pit::PORTS, Splitting::Bytes, Part::Pit),
    (&I8042::PORTS, Splitting::Bytes, Part::Keyboard),
    (&Rtc::PORTS, Splitting::Bytes, Part::Rtc),
    (&PostPort::PORTS, Splitting::Bytes, Part::Post),
    (&[Uart::PORTS], Splitting::Bytes, Part::Uart),
    (&[Pm::PORTS], Splitting::Native, Part::Pm),
    (&[PciBus::PORTS], Splitting::Native, Part::Pci),
];

/// Who drives which wire. 0..=15 are also the 8259s' inputs, but for the PIT's, which is their IRQ 0 and GSI 2.
mod wire {
    pub const KEYBOARD: u8 = 1;
    pub const PIT: u8 = crate::dev::chipset::interrupts::PIT_WIRE;
    pub const COM1: u8 = crate::dev::uart::Uart::GSI;
    pub const RTC: u8 = 8;
    pub const SCI: u8 = crate::dev::chipset::pm::Pm::SCI_GSI;
    pub const AUX: u8 = 12;
}

/// Why a board could not be made.
#[derive(Debug, Error)]
pub enum BoardError {
    /// Two devices want one place: the debug-exit port, which is the user's choice, on top of another device.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// A wire that does not exist or is full.
    #[error("wire {0} cannot take another device")]
    Wire(u8),
    /// A device's channel.
    #[error("channel of a device: {0}")]
    Channel(#[from] CrossingError),
    /// Two functions in one slot.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// The tables do not fit.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// The tables' place is not memory.
    #[error("ACPI tables: {0}; raise [machine] memory to at least 1M")]
    Memory(#[from] MemoryError),
}

/// What a board is made with.
pub struct BoardConfig {
    /// Guest memory: the ACPI tables go there.
    pub memory: Arc<GuestMemory>,
    /// The way to vmapp.
    pub crossing: Arc<Crossing>,
    /// The guest's time stamp counter against the machine's clock.
    pub tsc: TscScale,
    /// Wall time at the clock's zero, nanoseconds since 1970.
    pub unix_ns: u64,
    /// Bits of a physical address the guest's CPU has.
    pub phys_bits: u8,
    /// The machine asked for: its cards, its disks, its debug-exit port.
    pub spec: MachineSpec,
}

/// Every device of the machine.
pub struct Board {
    wires: Wires,
    signals: Signals,
    interrupts: Interrupts,
    pit: Pit,
    rtc: Rtc,
    keyboard: I8042,
    post: PostPort,
    pci: PciBus,
    pm: Pm,
    uart: Uart,
    debug_exit: Option<DebugExit>,
    ide: Option<Ide>,
    lances: Vec<Lance>,
    spec: MachineSpec,
    test: Option<TestDevice>,
    ports: PortMap<Part>,
    mmio: MmioMap<Part>,
    /// Where the local APIC's page is claimed.
    lapic_base: Option<u64>,
    crossing: Arc<Crossing>,
    rsdp_at: u64,
}

impl Board {
    /// Makes the devices, wires them, and writes the ACPI tables.
    pub fn new(config: BoardConfig) -> Result<Self, BoardError> {
        let BoardConfig {
            memory,
            crossing,
            tsc,
            unix_ns,
            phys_bits,
            spec,
        } = config;
        let (wires, signals) = (Wires::default(), Signals::default());
        let line = |gsi| wires.line(gsi).ok_or(BoardError::Wire(gsi));
        let lapic = LocalApic::new(signals.clone(), tsc, phys_bits);
        let mut interrupts = Interrupts::new(PicPair::new(), IoApic::default(), lapic);
        interrupts.virtual_wire();
        // As firmware leaves it: the SCI and the interrupts PCI is routed to are level-triggered.
        let [_, elcr_high] = intx::ELCR.to_le_bytes();
        let _always_a_register = interrupts.port_write(Ns(0), ELCR_HIGH, Width::Byte, elcr_high.into());
        let test = if spec.test_device {
            Some(TestDevice::new(&wires).ok_or(BoardError::Wire(0))?)
        } else {
            None
        };
        let mut board = Self {
            test,
            pit: Pit::new(line(wire::PIT)?),
            rtc: Rtc::new(line(wire::RTC)?, unix_ns, &cmos(memory.ram_bytes())),
            keyboard: I8042::new(line(wire::KEYBOARD)?, line(wire::AUX)?, signals.clone()),
            post: PostPort::default(),
            pci: PciBus::new(&wires, signals.clone()).ok_or(BoardError::Wire(intx::PIRQ_GSIS[0]))?,
            pm: Pm::new(line(wire::SCI)?, signals.clone()),
            uart: Uart::new(line(wire::COM1)?, crossing.channel(CONSOLE_CHANNEL)?),
            debug_exit: spec.debug_exit.map(|port| DebugExit::new(port, signals.clone())),
            ide: None,
            lances: Vec::new(),
            ports: PortMap::default(),
            mmio: MmioMap::default(),
            lapic_base: None,
            rsdp_at: place_acpi(&memory)?,
            spec,
            interrupts,
            wires,
            signals,
            crossing,
        };
        board.claim()?;
        board.plug_disks(&memory)?;
        board.plug_cards(&memory)?;
        board.follow_pci();
        Ok(board)
    }

    fn line(&self, gsi: u8) -> Result<Line, BoardError> {
        self.wires.line(gsi).ok_or(BoardError::Wire(gsi))
    }

    fn claim(&mut self) -> Result<(), BoardError> {
        for &(ranges, splitting, device) in PORTS {
            for ports in ranges {
                self.claim_ports(ports, splitting, device)?;
            }
        }
        if let Some(ports) = self.debug_exit.as_ref().map(DebugExit::ports) {
            self.claim_ports(&ports, Splitting::Native, Part::DebugExit)?;
        }
        if self.test.is_some() {
            for ports in &TestDevice::PORTS {
                self.claim_ports(ports, Splitting::Native, Part::Test)?;
            }
            self.mmio
                .claim(TestDevice::MEMORY, TestDevice::MEMORY_BYTES, Part::Test)?;
        }
        self.mmio.claim(IOAPIC_BASE, ioapic::REGION_BYTES, Part::IoApic)?;
        self.follow_lapic();
        Ok(())
    }

    fn claim_ports(
        &mut self,
        ports: &RangeInclusive<u16>,
        splitting: Splitting,
        device: Part,
    ) -> Result<(), Overlap> {
        self.ports.claim(Claim {
            first: *ports.start(),
            last: *ports.end(),
            splitting,
            device,
        })
    }

    /// The local APIC's page is where IA32_APIC_BASE says, if it is anywhere.
    fn follow_lapic(&mut self) {
        let base = self.interrupts.lapic().base();
        if base != self.lapic_base {
            self.mmio.drop_claims(|&part| part == Part::LocalApic);
            // A guest that puts it onto the I/O APIC gets neither: it is then nowhere.
            self.lapic_base =
                base.filter(|&base| self.mmio.claim(base, lapic::PAGE_BYTES, Part::LocalApic).is_ok());
        }
    }

    /// Guest-physical address of the ACPI root pointer.
    pub fn rsdp_at(&self) -> u64 {
        self.rsdp_at
    }

    /// The interrupt controllers.
    pub fn interrupts(&mut self) -> &mut Interrupts {
        &mut self.interrupts
    }

    /// A port access: the value read; 0 for a write.
    pub fn port(&mut self, now: Ns, port: u16, width: Width, op: Op) -> u64 {
        let Some(claim) = self.ports.find(port) else {
            return self.unclaimed(width);
        };
        let last = port.checked_add(u16::from(width.bytes()) - 1);
        if claim.splitting == Splitting::Bytes && width != Width::Byte {
            return self.port_bytes(now, port, width, op);
        }
        if last.is_none_or(|last| last > claim.last) {
            return self.unclaimed(width);
        }
        let write = |value: u64| value as u32 & width.ones() as u32;
        let done = if let (Part::IdeBusMaster, Some(ide)) = (claim.device, &mut self.ide) {
            let register = port - claim.first;
            match op {
                Op::Read => ide.bus_master_read(register, width),
                Op::Write(value) => done_as(ide.bus_master_write(now, register, width, write(value))),
            }
        } else {
            let Some(device) = self.port_device(claim.device) else {
                return self.unclaimed(width);
            };
            // Behind a base address register a device knows offsets, not ports.
            let register = match claim.device {
                Part::Lance(_) => port - claim.first,
                _ => port,
            };
            match op {
                Op::Read => device.port_read(now, register, width),
                Op::Write(value) => done_as(device.port_write(now, register, width, write(value))),
            }
        };
        if claim.device == Part::Pci {
            self.follow_pci();
        }
        self.finish(done.map_value(u64::from), width)
    }

    /// Whether a port moves data or commands of a device that vmapp serves: what `ports = "forward"` forwards.
    pub fn is_data_port(&self, port: u16) -> bool {
        self.ports.find(port).is_some_and(|claim| match claim.device {
            Part::Uart => port == claim.first,
            Part::Ide => Ide::is_data_port(port),
            Part::IdeBusMaster => true,
            Part::Lance(n) => self
                .lances
                .get(n)
                .is_some_and(|lance| lance.is_data_port(port - claim.first)),
            _ => false,
        })
    }

    /// As an ISA bus does it: byte by byte, low port first, whoever they belong to.
    fn port_bytes(&mut self, now: Ns, port: u16, width: Width, op: Op) -> u64 {
        let mut value = 0;
        for i in 0..u16::from(width.bytes()) {
            let byte = match op {
                Op::Read => Op::Read,
                Op::Write(value) => Op::Write(value >> (8 * i) & 0xff),
            };
            value |= (self.port(now, port.wrapping_add(i), Width::Byte, byte) & 0xff) << (8 * i);
        }
        value
    }

    fn port_device(&mut self, part: Part) -> Option<&mut dyn PortIo> {
        Some(match part {
            Part::Pics => &mut self.interrupts,
            Part::Pit => &mut self.pit,
            Part::Rtc => &mut self.rtc,
            Part::Keyboard => &mut self.keyboard,
            Part::Post => &mut self.post,
            Part::Pci => &mut self.pci,
            Part::Pm => &mut self.pm,
            Part::Uart => &mut self.uart,
            Part::DebugExit => self.debug_exit.as_mut()?,
            Part::Test => self.test.as_mut()?,
            Part::Ide => self.ide.as_mut()?,
            Part::Lance(n) => self.lances.get_mut(n)?,
            Part::LocalApic | Part::IoApic | Part::IdeBusMaster => return None,
        })
    }

    /// An access to a guest-physical address that is not RAM: the value read; 0 for a write.
    pub fn mmio(&mut self, now: Ns, at: u64, width: Width, op: Op) -> u64 {
        let Some((part, offset)) = self.mmio.find(at, width) else {
            return self.unclaimed(width);
        };
        let done = match (part, op) {
            (Part::LocalApic, Op::Read) => self.interrupts.lapic_read(now, offset, width),
            (Part::LocalApic, Op::Write(value)) => {
                done_as(self.interrupts.lapic_write(now, offset, width, value))
            }
            (Part::IoApic, Op::Read) => self.interrupts.ioapic_read(now, offset, width),
            (Part::IoApic, Op::Write(value)) => {
                done_as(self.interrupts.ioapic_write(now, offset, width, value))
            }
            (Part::Test, op) => match (&mut self.test, op) {
                (Some(test), Op::Read) => test.memory_read(offset, width),
                (Some(test), Op::Write(value)) => done_as(test.memory_write(offset, width, value)),
                (None, _) => Access::Bad,
            },
            (Part::Lance(n), op) => match (self.lances.get_mut(n), op) {
                (Some(lance), Op::Read) => lance.mmio_read(now, offset, width),
                (Some(lance), Op::Write(value)) => done_as(lance.mmio_write(now, offset, width, value)),
                (None, _) => Access::Bad,
            },
            _ => Access::Bad,
        };
        self.finish(done, width)
    }

    /// An MSR of the local APIC.
    pub fn msr(&mut self, now: Ns, index: u32, op: Op) -> Reply {
        let reply = match op {
            Op::Read => self
                .interrupts
                .msr_read(now, index)
                .map_or(Reply::Fault, Reply::Value),
            Op::Write(value) => self
                .interrupts
                .msr_write(now, index, value)
                .map_or(Reply::Fault, |()| Reply::None),
        };
        self.follow_lapic();
        reply
    }

    fn finish(&mut self, done: Access<u64>, width: Width) -> u64 {
        match done {
            Access::Done(value) => value,
            Access::Bad => self.unclaimed(width),
        }
    }

    fn unclaimed(&self, width: Width) -> u64 {
        self.crossing.vmm_counters().add(VmmCounter::BusUnclaimed, 1);
        width.ones()
    }

    /// When the next device wants [`advance`](Self::advance).
    pub fn deadline(&self) -> Option<Ns> {
        let fixed: [&dyn Timed; 5] = [&self.interrupts, &self.pit, &self.rtc, &self.pm, &self.uart];
        let ide = self.ide.iter().map(|ide| ide as &dyn Timed);
        let lances = self.lances.iter().map(|lance| lance as &dyn Timed);
        fixed
            .into_iter()
            .chain(ide)
            .chain(lances)
            .filter_map(Timed::deadline)
            .min()
    }

    /// Brings to `now` every device whose time has come.
    pub fn advance(&mut self, now: Ns) {
        let fixed: [&mut dyn Timed; 5] = [
            &mut self.interrupts,
            &mut self.pit,
            &mut self.rtc,
            &mut self.pm,
            &mut self.uart,
        ];
        let ide = self.ide.iter_mut().map(|ide| ide as &mut dyn Timed);
        let lances = self.lances.iter_mut().map(|lance| lance as &mut dyn Timed);
        for device in fixed.into_iter().chain(ide).chain(lances) {
            if device.deadline().is_some_and(|due| due <= now) {
                device.advance(now);
            }
        }
    }

    /// The guest has halted: devices say now what they put off saying. Returns whether that was anything.
    pub fn idle(&mut self) -> bool {
        let mut told = false;
        for lance in &mut self.lances {
            told |= lance.idle();
        }
        told
    }

    /// Carries changes of the wires to the interrupt controllers. PIRQs raise ISA wires in turn, which raise nothing.
    pub fn settle(&mut self) {
        while self.wires.changed() {
            let changes: Vec<Change> = self.wires.take().collect();
            for &change in &changes {
                self.pci.follow(change);
            }
            self.interrupts.wires(changes);
        }
    }

    /// Takes what devices told the whole machine.
    pub fn take_signals(&self) -> Vec<Signal> {
        self.signals.take()
    }

    /// Lets devices take in what vmapp sent; bit n of `bits` is channel n.
    pub fn pull(&mut self, bits: u64, now: Ns) {
        if bits >> CONSOLE_CHANNEL & 1 != 0 {
            self.uart.pull(now);
        }
        for (n, lance) in (0u8..).zip(&mut self.lances) {
            if bits >> self.spec.net_channel(n) & 1 != 0 {
                lance.pull(now);
            }
        }
        if let Some(ide) = &mut self.ide {
            for n in 0..self.spec.disks.len() as u8 {
                let channel = self.spec.disk_channel(n);
                if bits >> channel & 1 != 0 {
                    ide.pull(channel, now);
                }
            }
        }
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.pm.press_power_button();
    }

    /// Sends off console output that waits for more to go with it.
    pub fn flush_console(&mut self, now: Ns) {
        self.uart.flush(now);
    }

    /// Whether all console output is in the ring to vmapp.
    pub fn console_drained(&self) -> bool {
        self.uart.drained()
    }
}

/// A write's end, shaped like a read's.
fn done_as<T: Default>(done: Access) -> Access<T> {
    done.map_value(|()| T::default())
}

fn cmos(ram_bytes: u64) -> Cmos {
    Cmos {
        below_4g: ram_bytes.min(PCI_HOLE),
        above_4g: ram_bytes.saturating_sub(PCI_HOLE),
        boot: BootDevice::Unset,
        shutdown_status: 0,
    }
}

fn place_acpi(memory: &GuestMemory) -> Result<u64, BoardError> {
    let tables = acpi::build(&AcpiConfig::default())?;
    for (at, bytes) in &tables.blobs {
        memory.write(*at, bytes)?;
    }
    Ok(tables.rsdp_at)
}
