//! COM1: a 16550A whose line ends at vmapp's console.
//!
//! The guest talks to [`Registers`]; this file joins them to the bus, the interrupt wire and the rings. Called by the
//! run loop only. Never blocks, and never loses a byte that left the transmitter.
//!
//! - **Out.** Bytes leave the transmitter into a private burst and cross in one slot: when the slot is full, when the run
//!   loop says so ([`Uart::flush`]: the vCPU stopped writing, or is about to sleep), or at the latest 1 ms after the
//!   first of them. While vmapp has not drained the ring there is no credit: the burst fills, then the 16-byte FIFO, THRE
//!   stays clear and the guest's driver waits as it would for a slow line. Credit comes as a signal ([`Channelled`]).
//! - **In.** The receiver is filled when it is empty, a whole FIFO at a time, and after the guest has emptied it not for
//!   another [`GAP_NS`]. As on a real line the FIFO runs dry between bursts and the interrupt line drops; filled sooner, a
//!   driver that returns from its handler would never see another edge, and one that loops would report an interrupt gone
//!   wild. The gap is not a baud rate: nothing waits for it but a guest that is already being fed.
//!   Input crosses by credit too: a slot is read when the receiver has room, and given back when its last byte has
//!   gone into the FIFO. So a guest that does not read stops vmapp from reading its terminal, and nothing is dropped.
//!
//! A break the guest sends (LCR bit 6) ends here: no message carries one.

mod fifo;
mod registers;
#[cfg(test)]
mod tests;

pub use registers::Registers;

use crate::bus::{Access, Channelled, Line, PortIo, Resettable, Timed, Width};
use crate::time::Ns;
use shared::abi::counters::VmmCounter;
use shared::msg::console::{Down, Up};
use shared::ring::PushError;
use std::ops::RangeInclusive;
use vmdriver_shim::crossing::{Channel, CrossingError};

/// Longest time a byte waits for company, in nanoseconds.
const HOLD_NS: u64 = 1_000_000;
/// How long the receiver stays empty once the guest has emptied it, in nanoseconds.
const GAP_NS: u64 = 100_000;
/// Slots without a usable byte passed over in one go. An honest peer sends none; one that sends nothing else gets its
/// next turn with its next signal.
const MOST_REFUSED: u32 = 64;

/// The serial port.
pub struct Uart {
    registers: Registers,
    irq: Line,
    channel: Channel,
    /// Bytes sent by the guest and not yet published; at most what a slot carries.
    burst: Vec<u8>,
    /// When the burst is to cross at the latest.
    due: Option<Ns>,
    /// The ring had no room for the burst; a signal will come.
    stalled: bool,
    /// The input slot being given to the guest, and how much of it went.
    input: Vec<u8>,
    used: usize,
    /// The up ring may hold slots not looked at.
    more: bool,
    /// When the receiver may be filled again.
    refill: Option<Ns>,
    /// [`Self::complain_of`] has spoken.
    complained: bool,
}

impl Uart {
    /// Ports answered, 8 bits wide ([`crate::bus::Splitting::Bytes`]).
    pub const PORTS: RangeInclusive<u16> = 0x3f8..=0x3ff;
    /// The board's wire: IRQ 4.
    pub const GSI: u8 = 4;

    /// After power-on.
    pub fn new(irq: Line, channel: Channel) -> Self {
        Self {
            registers: Registers::default(),
            irq,
            burst: Vec::with_capacity(channel.payload_max()),
            channel,
            due: None,
            stalled: false,
            input: Vec::new(),
            used: 0,
            more: true,
            refill: None,
            complained: false,
        }
    }

    /// Sends the bytes held, if there are any and room for them. The run loop calls it at exits that are not writes to
    /// this port, and before it sleeps.
    pub fn flush(&mut self, now: Ns) {
        if !self.burst.is_empty() && !self.stalled {
            self.publish();
            self.settle(now);
        }
    }

    /// Whether a burst waits for [`flush`](Self::flush): a cheap question for every exit.
    #[inline]
    pub fn holds(&self) -> bool {
        self.due.is_some()
    }

    /// Whether everything the guest sent has crossed.
    pub fn drained(&self) -> bool {
        self.burst.is_empty()
    }

    /// Moves what can be moved after anything happened, and shows the outcome on the interrupt wire.
    fn settle(&mut self, now: Ns) {
        self.drain_transmitter();
        if self.refill.is_none() && self.registers.receiver_empty() {
            self.fill_receiver();
        }
        self.due = match self.due {
            _ if self.burst.is_empty() || self.stalled => None,
            None => Some(now.after(HOLD_NS)),
            due => due,
        };
        self.irq.set(self.registers.interrupt());
    }

    fn drain_transmitter(&mut self) {
        while self.burst.len() < self.channel.payload_max() {
            let Some(byte) = self.registers.transmit() else {
                return;
            };
            self.burst.push(byte);
            self.count(VmmCounter::ConsoleOut, 1);
            if self.burst.len() == self.channel.payload_max() && !self.stalled {
                self.publish();
            }
        }
    }

    /// The burst becomes a slot, or a stall begins or goes on.
    fn publish(&mut self) {
        self.due = None;
        let sent = self.push_burst() || (self.credit_came_meanwhile() && self.push_burst());
        if !sent && !self.stalled {
            self.count(VmmCounter::ConsoleStalls, 1);
        }
        self.stalled = !sent;
    }

    /// Asks for a signal when there is credit; true if there is some after all, and no signal will come.
    fn credit_came_meanwhile(&mut self) -> bool {
        self.channel.want_credit().is_ok_and(|will_be_told| !will_be_told)
    }

    /// A peer that broke its ring gives no credit; the channel has counted it.
    fn push_burst(&mut self) -> bool {
        match self.channel.push(Down::Output as u16, 0, &self.burst) {
            Ok(()) => {}
            Err(PushError::Full | PushError::TooLong { .. } | PushError::Ring(_)) => return false,
        }
        self.burst.clear();
        let rung = self.channel.flush();
        self.complain_of(rung.err());
        true
    }

    fn fill_receiver(&mut self) {
        let mut given = 0;
        while self.registers.room() > 0 {
            let Some(&byte) = self.input.get(self.used) else {
                if self.more && self.next_input() {
                    continue;
                }
                break;
            };
            self.registers.receive(byte);
            given += 1;
            self.used += 1;
            if self.used == self.input.len() {
                self.give_back();
            }
        }
        self.count(VmmCounter::ConsoleIn, given);
    }

    /// Takes the next slot with bytes in it; `false` if there is none.
    fn next_input(&mut self) -> bool {
        for _ in 0..MOST_REFUSED {
            match self.channel.next(&mut self.input) {
                Ok(Some(header)) if Up::try_from(header.kind).is_ok() && !self.input.is_empty() => {
                    self.used = 0;
                    return true;
                }
                Ok(Some(_)) => self.channel.crossing().count_peer_error(),
                Ok(None) => break,
                // A bad length was passed over and is held; a bad index left nothing to read.
                Err(_) if self.channel.held() > 0 => {}
                Err(_) => break,
            }
            self.give_back();
        }
        self.more = false;
        self.input.clear();
        self.used = 0;
        false
    }

    fn give_back(&mut self) {
        self.input.clear();
        self.used = 0;
        let told = self.channel.release(1);
        self.complain_of(told.err());
    }

    /// A doorbell that cannot be rung: said once; the run loop meets the same trouble when it next sleeps.
    fn complain_of(&mut self, error: Option<CrossingError>) {
        if let Some(error) = error
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(%error, "console: vmapp cannot be woken");
        }
    }

    fn count(&self, counter: VmmCounter, count: u64) {
        if count > 0 {
            self.channel.crossing().vmm_counters().add(counter, count);
        }
    }
}

impl PortIo for Uart {
    fn port_read(&mut self, now: Ns, port: u16, width: Width) -> Access<u32> {
        if width != Width::Byte {
            return Access::Bad;
        }
        let was_empty = self.registers.receiver_empty();
        let value = self.registers.read(port);
        let input_waits = self.more || self.used < self.input.len();
        if !was_empty && self.registers.receiver_empty() && input_waits {
            self.refill = Some(now.after(GAP_NS));
        }
        self.settle(now);
        Access::Done(value.into())
    }

    fn port_write(&mut self, now: Ns, port: u16, width: Width, value: u32) -> Access {
        if width != Width::Byte {
            return Access::Bad;
        }
        self.registers.write(port, value as u8);
        self.settle(now);
        Access::Done(())
    }
}

impl Timed for Uart {
    fn deadline(&self) -> Option<Ns> {
        [self.due, self.refill].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Ns) {
        if self.refill.is_some_and(|at| at <= now) {
            self.refill = None;
            self.settle(now);
        }
        if self.due.is_some_and(|due| due <= now) {
            self.flush(now);
        }
    }
}

impl Channelled for Uart {
    fn pull(&mut self, now: Ns) {
        self.more = true;
        if self.stalled {
            self.publish();
        }
        self.settle(now);
    }
}

impl Resettable for Uart {
    /// What left the transmitter still crosses, and input not yet received waits for the next guest: the reset line is
    /// the machine's, not the terminal's.
    fn reset(&mut self) {
        self.registers = Registers::default();
        self.irq.set(false);
    }
}
