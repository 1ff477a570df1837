//! The AMD Am79C970A (PCnet-PCI II, "Lance"): the network card every old driver knows.
//!
//! This file joins the parts to the bus, the interrupt wire, guest memory and the rings, and decides when each works. Called
//! by the run loop only. Registers are answered here; the only writes that reach the host are those that transmit (CSR0
//! with TDMD or STRT), and they wait for nothing. A send costs the guest two writes and the host one ring slot; a burst of
//! descriptors crosses as one.
//!
//! - `registers`: what the chip's registers do, pure; `csr` and `bcr` are its tables, `window` where they are.
//! - `transmit`, `receive`: one frame out of and into guest memory, by `descriptors`; `loopback` between them.
//! - `coalesce`: when the guest is told that frames are out.
//! - `wire`, `intake`: frames to and from the host, back pressure both ways. `poll`: the transmit poll timer.
//!
//! All DMA happens within the access, timer or signal that causes it. STOP, the RESET register and the machine's reset
//! forget what is under way (`Lance::halt`), and while the PCI command register denies bus mastering guest memory is
//! not touched: so nothing stale is ever written. DMA reaches RAM only; anything else is MERR and turns the direction off.
//!
//! Source: AMD publication 19436, Am79C970A data sheet.

mod bcr;
mod coalesce;
mod csr;
mod descriptors;
mod fcs;
mod filters;
mod init_block;
mod intake;
mod loopback;
mod poll;
mod receive;
mod registers;
#[cfg(test)]
mod tests;
mod transmit;
mod window;
mod wire;

use crate::bus::{Access, Channelled, Line, Mmio, PortIo, Resettable, Timed, Width};
use crate::dev::chipset::pci::config::{Bar, ConfigSpace, Identity, Pin};
use crate::mem::GuestMemory;
use crate::time::Ns;
use coalesce::Coalescer;
use csr::Status;
use descriptors::TxErrors;
use init_block::InitBlock;
use intake::Intake;
use loopback::Path;
use poll::Poll;
use registers::{Commit, Direction, Registers};
use shared::abi::counters::VmmCounter;
use std::sync::Arc;
use transmit::{Step, Transmitter};
use vmdriver_shim::crossing::Channel;
use wire::{Fate, Wire};

/// Most steps of the transmitter in one go: as many descriptors as the longest ring of an initialization block has.
const MOST_STEPS: u32 = 512;
/// When work that was too much for one go is taken up again, in nanoseconds.
const RESUME_NS: u64 = 1_000;

/// The card.
pub struct Lance {
    registers: Registers,
    transmitter: Transmitter,
    intake: Intake,
    wire: Wire,
    poll: Poll,
    coalescer: Coalescer,
    /// There was more to do than one go allows.
    resume: Option<Ns>,
    /// A looped frame on its way.
    looped: Vec<u8>,
    memory: Arc<GuestMemory>,
    /// The PCI command register lets the card master the bus.
    bus_master: bool,
    irq: Line,
    /// The level of `irq`.
    asserted: bool,
}

impl Lance {
    /// Offsets behind both base address registers.
    pub const WINDOW: u16 = window::BYTES;

    /// After power-on: stopped, no bus master, cable out.
    pub fn new(mac: [u8; 6], irq: Line, memory: Arc<GuestMemory>, channel: Channel) -> Self {
        Self {
            registers: Registers::new(mac),
            transmitter: Transmitter::new(),
            intake: Intake::new(channel.payload_max()),
            looped: Vec::with_capacity(channel.payload_max()),
            coalescer: Coalescer::new(channel.crossing().io()),
            wire: Wire::new(channel),
            poll: Poll::default(),
            resume: None,
            memory,
            bus_master: false,
            irq,
            asserted: false,
        }
    }

    /// The card's PCI function.
    ///
    /// Source: AMD publication 19436, "PCI Configuration Registers"; the revision is that of later steppings, which
    /// drivers know.
    pub fn config_space() -> ConfigSpace {
        let window = u32::from(Self::WINDOW);
        let (io, memory) = (Bar::io(window), Bar::memory(window));
        ConfigSpace::new(Identity {
            vendor: 0x1022,
            device: 0x2000,
            revision: 0x10,
            class: 0x02_0000,
        })
        .bars([Some(io), Some(memory), None, None, None, None])
        .interrupt(Pin::A)
        // MIN_GNT and MAX_LAT.
        .preset(0x3e, &[6, 255])
    }

    /// The PCI command register lets the card master the bus, or no more. Without it the card touches no guest memory: INIT
    /// ends in MERR, both rings rest, and frames wait as they do for a guest without descriptors.
    pub fn set_bus_master(&mut self, on: bool) {
        if on && !self.bus_master {
            self.poll.hurry();
        }
        self.bus_master = on;
    }

    /// Whether an offset moves data or commands as the window stands now; RAP and the PROM are latches.
    pub fn is_data_port(&self, offset: u16) -> bool {
        self.registers.is_data_port(offset)
    }

    /// Does what an access has committed, and shows the outcome on the interrupt wire.
    fn commit(&mut self, now: Ns, commit: Commit) {
        if commit.contains(Commit::HALT) {
            self.halt();
        }
        let ready = !commit.contains(Commit::INITIALISE) || self.initialise();
        if commit.contains(Commit::START) && ready {
            self.registers.start();
            if self.registers.polls() {
                self.poll.start(now, self.registers.poll_interval_ns());
            }
        }
        if commit.intersects(Commit::START | Commit::DEMAND) {
            self.transmit(now);
        }
        if commit.contains(Commit::TOUCHED) && self.intake.is_holding() {
            self.receive(now);
        }
        self.settle();
    }

    /// Forgets everything under way, frames that waited in the ring included.
    fn halt(&mut self) {
        self.transmitter.clear();
        self.wire.give_up();
        self.poll.stop();
        self.resume = None;
        if self.intake.clear(&mut self.wire) {
            // Nothing waits in a card that does not receive, so the time does not matter.
            self.receive(Ns(0));
        }
    }

    /// Reads the initialization block; false if it cannot.
    fn initialise(&mut self) -> bool {
        let style = self.registers.style();
        let mut bytes = [0; init_block::BYTES];
        let (block, _) = bytes.split_at_mut(InitBlock::bytes(style));
        let read = self.memory.read(self.registers.init_block_at(), block);
        // What the guest puts into its rings from now on is of another life.
        self.transmitter.clear();
        self.wire.give_up();
        let ready = self.bus_master && read.is_ok();
        if ready {
            self.registers.initialise(&InitBlock::parse(style, &bytes));
        } else {
            self.registers.initialise_failed();
        }
        ready
    }

    /// Sends what the transmit ring has; whether that was anything.
    fn transmit(&mut self, now: Ns) -> bool {
        if !self.registers.is_untold() {
            self.coalescer.start_afresh();
        }
        let (mut found, mut frames) = (false, 0);
        if self.bus_master {
            let mut steps = 0;
            loop {
                if steps == MOST_STEPS {
                    self.resume = Some(now.after(RESUME_NS));
                    break;
                }
                steps += 1;
                let step = self.transmitter.step(&mut self.registers, &self.memory);
                if step == Step::Idle || step == Step::Frame && !self.send(now) {
                    break;
                }
                found = true;
                frames += u32::from(step == Step::Frame);
            }
        }
        if found {
            self.wire.post();
            self.tell_or_wait(now, frames);
        }
        let interval = self.registers.poll_interval_ns();
        if self.wire.is_stalled() {
            self.poll.press(now, interval);
        } else if self.poll.due().is_none() && self.registers.polls() {
            self.poll.start(now, interval);
        }
        found
    }

    /// So many frames are out: the guest is told, now or with those that follow.
    fn tell_or_wait(&mut self, now: Ns, frames: u32) {
        let ring = self.registers.entries(Direction::Tx);
        let now_then = !self.registers.may_interrupt() || self.coalescer.is_told(now, frames, ring);
        if now_then {
            self.registers.tell();
        }
    }

    /// The guest has halted, perhaps to wait for TINT: it is put off no more, and frames go before. Returns whether it was owed.
    pub fn idle(&mut self) -> bool {
        let untold = self.registers.is_untold();
        if untold {
            self.wire.flush();
            self.registers.tell();
            self.settle();
        }
        untold
    }

    /// Sends the transmitter's frame where it belongs; false if it waits for room.
    fn send(&mut self, now: Ns) -> bool {
        let path = Path::of(self.registers.mode());
        let frame = self.transmitter.frame();
        let mut errors = TxErrors::empty();
        if path != Path::Internal {
            let payload = frame.as_ref().and_then(transmit::Frame::payload);
            match payload {
                _ if !self.registers.has_link() => {
                    self.wire.lost();
                    self.registers.raise(Status::CERR);
                    errors = TxErrors::LCAR;
                }
                Some(payload) => {
                    if self.wire.send(now, payload) == Fate::Waits {
                        return false;
                    }
                }
                None => self.wire.lost(),
            }
        }
        if path != Path::Wire && frame.is_some_and(|frame| frame.image(&mut self.looped)) {
            let defects = loopback::defects(&self.looped);
            intake::loop_back(&mut self.registers, &self.memory, &self.looped, defects);
        }
        self.transmitter.finish(&mut self.registers, &self.memory, errors);
        if path != Path::Wire || !errors.is_empty() {
            self.registers.tell();
        }
        true
    }

    /// Gives the guest what has arrived.
    fn receive(&mut self, now: Ns) {
        let memory = self.bus_master.then_some(&*self.memory);
        if self.intake.take(now, &mut self.registers, memory, &mut self.wire) {
            self.resume = Some(now.after(RESUME_NS));
        }
    }

    /// Shows the registers' interrupt on the wire.
    #[inline]
    fn settle(&mut self) {
        let level = self.registers.interrupt();
        if level {
            // One interrupt for both.
            self.registers.tell();
        }
        if level != self.asserted {
            self.asserted = level;
            self.irq.set(level);
            if level {
                self.wire.count(VmmCounter::NetIrqs, 1);
            }
        }
    }

    fn read(&mut self, now: Ns, offset: u16, width: Width) -> Access<u32> {
        let Some((value, commit)) = self.registers.read(offset, width) else {
            return Access::Bad;
        };
        if commit.is_empty() {
            self.settle();
        } else {
            self.commit(now, commit);
        }
        Access::Done(value)
    }

    fn write(&mut self, now: Ns, offset: u16, width: Width, value: u32) -> Access {
        let Some(commit) = self.registers.write(offset, width, value) else {
            return Access::Bad;
        };
        // RAP is a latch: nothing follows from it.
        if commit.is_empty() {
            self.settle();
        } else {
            self.commit(now, commit);
        }
        Access::Done(())
    }
}

impl PortIo for Lance {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        self.read(now, port, width)
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        self.write(now, port, width, value)
    }
}

impl Mmio for Lance {
    fn mmio_read(&mut self, now: Ns, offset: u64, width: Width) -> Access<u64> {
        match u16::try_from(offset) {
            Ok(offset) => self.read(now, offset, width).map_value(u64::from),
            Err(_) => Access::Bad,
        }
    }

    fn mmio_write(&mut self, now: Ns, offset: u64, width: Width, value: u64) -> Access {
        match u16::try_from(offset) {
            Ok(offset) => self.write(now, offset, width, value as u32),
            Err(_) => Access::Bad,
        }
    }
}

impl Timed for Lance {
    fn deadline(&self) -> Option<Ns> {
        let told = self.coalescer.due().filter(|_| self.registers.is_untold());
        [self.poll.due(), self.intake.retry(), self.resume, told]
            .into_iter()
            .flatten()
            .min()
    }

    fn advance(&mut self, now: Ns) {
        if self.coalescer.due().is_some_and(|at| at <= now) {
            self.registers.tell();
        }
        if self.resume.take_if(|at| *at <= now).is_some() {
            self.transmit(now);
            self.receive(now);
        }
        if self.intake.retry().is_some_and(|at| at <= now) {
            self.receive(now);
        }
        if self.poll.is_due(now) {
            let waited = self.wire.is_stalled();
            let found = self.transmit(now) && !waited;
            if !self.wire.is_stalled() {
                if self.registers.polls() {
                    self.poll.looked(now, found, self.registers.poll_interval_ns());
                } else {
                    self.poll.stop();
                }
            }
        }
        self.settle();
    }
}

impl Channelled for Lance {
    fn pull(&mut self, now: Ns) {
        if self.wire.is_stalled() {
            self.transmit(now);
        }
        self.receive(now);
        self.settle();
    }
}

impl Resettable for Lance {
    /// H_RESET. Frames the host sent for the guest before are lost to the next one as they would be on a wire.
    fn reset(&mut self) {
        self.registers.hard_reset();
        self.bus_master = false;
        self.halt();
        self.settle();
    }
}
