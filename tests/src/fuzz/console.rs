//! COM1 between a guest and a vmapp that are both made of the fuzzer's bytes, over real shared memory.
//!
//! The peer drains, sends and gives credit as a console does; then, from some byte on, it may write whatever it likes
//! anywhere in the rings. Asserted of an honest peer: every byte that left the transmitter arrives once the rings
//! are drained, and no more are received than were sent. Of a hostile one: what [`super::rig`] asserts of every device.

use super::input::Input;
use super::rig::Rig;
use super::rings;
use shared::abi::counters::VmmCounter;
use shared::abi::{ChannelKind, ChannelShape, RingLayout};
use shared::msg::console::{Down, Up};
use shared::ring::Side;
use shared::spec::IoSpec;
use std::sync::Arc;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::memory::SharedMemory;
use vmm::bus::{Channelled, Wires};
use vmm::dev::uart::Uart;
use vmm::time::Ns;

/// Number of the console's channel.
const CONSOLE: u8 = 1;
/// Small, so that rings are full and slots are used again after a few steps.
const SLOTS: u32 = 2;
const SLOT_BYTES: u32 = 64;
/// A FIFO of 16 and a burst of less than a slot are all a UART holds: settled in fewer rounds than this.
const MOST_ROUNDS: usize = 8;

pub fn uart(bytes: &[u8]) -> u64 {
    let (uart, mut vmapp) = pair();
    Rig::new(uart)
        .ports(&[Uart::PORTS])
        .timed()
        .resettable()
        .also(move |uart, now, input| vmapp.act(uart, now, input))
        .run(bytes)
}

/// The other end.
struct VmApp {
    memory: SharedMemory,
    rings: [RingLayout; 2],
    channel: Channel,
    /// The vmm's side of the crossing, for what its run loop does: look, and read the counters.
    vmm: Arc<Crossing>,
    honest: bool,
    /// Bytes found in slots of the guest's output.
    arrived: u64,
    /// Bytes put into slots for the guest.
    sent: u64,
}

/// A new machine's serial port and its console.
fn pair() -> (Uart, VmApp) {
    let shape = |kind| ChannelShape {
        kind,
        down_slots: SLOTS,
        up_slots: SLOTS,
        slot_bytes: SLOT_BYTES,
    };
    let shapes = [shape(ChannelKind::Control), shape(ChannelKind::Console)];
    let memory = SharedMemory::create(&shapes).expect("shared memory");
    let bells = Bells::new().expect("doorbells");
    let io = IoSpec::default;
    let app = Crossing::new(Side::App, &memory, bells.try_clone().expect("descriptors"), io());
    let vmm = Crossing::new(Side::Vmm, &memory, bells, io());
    let irq = Wires::default().line(Uart::GSI).expect("a wire of the board");
    let uart = Uart::new(irq, vmm.channel(CONSOLE).expect("a channel of the layout"));
    let layout = memory.layout().channels()[usize::from(CONSOLE)];
    let vmapp = VmApp {
        rings: [layout.down, layout.up],
        channel: app.channel(CONSOLE).expect("a channel of the layout"),
        memory,
        vmm,
        honest: true,
        arrived: 0,
        sent: 0,
    };
    (uart, vmapp)
}

impl VmApp {
    fn act(&mut self, uart: &mut Uart, now: Ns, input: &mut Input<'_>) -> String {
        match input.byte() % 8 {
            0 => self.look(uart, now),
            1 => uart.flush(now),
            2 => return format!("{:?}", self.drain_slot()),
            3 | 4 => self.send(input),
            5 => return self.settle(uart, now),
            6 => self.scribble_index(input),
            _ => self.scribble_slot(input),
        }
        format!("{} {}", uart.holds(), uart.drained())
    }

    /// The run loop's part: the device is called if its bit is set.
    fn look(&mut self, uart: &mut Uart, now: Ns) {
        if self.vmm.look() >> CONSOLE & 1 != 0 {
            uart.pull(now);
        }
    }

    fn drain_slot(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        let next = self.channel.next(&mut payload);
        self.channel.release(1).expect("a doorbell can be rung");
        assert!(next.is_ok() || !self.honest, "{next:?}");
        let header = next.ok()??;
        if self.honest {
            assert_eq!(Down::try_from(header.kind), Ok(Down::Output));
            assert!(!payload.is_empty(), "an empty slot is a waste of a crossing");
        }
        self.arrived += payload.len() as u64;
        Some(payload)
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let payload = vec![input.byte(); usize::from(input.byte()) % self.channel.payload_max() + 1];
        if self.channel.push(Up::Input as u16, 0, &payload).is_ok() {
            self.sent += payload.len() as u64;
        }
        self.channel.flush().expect("a doorbell can be rung");
    }

    /// Takes all there is, and gives the device its turns, until neither has anything to do.
    fn settle(&mut self, uart: &mut Uart, now: Ns) -> String {
        for _ in 0..MOST_ROUNDS {
            for _ in 0..SLOTS {
                self.drain_slot();
            }
            self.look(uart, now);
            uart.flush(now);
        }
        let counters = self.vmm.vmm_counters();
        let (out, received) = (
            counters.get(VmmCounter::ConsoleOut),
            counters.get(VmmCounter::ConsoleIn),
        );
        if self.honest {
            assert!(uart.drained(), "a burst is stuck though the ring is empty");
            assert_eq!(self.arrived, out, "bytes that left the transmitter, and arrived");
            assert!(received <= self.sent, "{received} received of {} sent", self.sent);
            assert_eq!(counters.get(VmmCounter::PeerErrors), 0);
        }
        format!("{out} {received}")
    }

    /// An index or the wish for credit, of either ring.
    fn scribble_index(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        rings::scribble_index(&self.memory, &self.rings, input);
    }

    /// Up to eight bytes of a slot, its header included.
    fn scribble_slot(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        rings::scribble_slot(&self.memory, &self.rings, SLOT_BYTES as usize - 8, input);
    }
}
