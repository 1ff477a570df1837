//! One function's configuration space: 256 bytes, and tables that say which bits a write changes.
//!
//! A device describes its space once ([`ConfigSpace::new`] and the methods that return `Self`) and plugs it into
//! [`super::PciBus`]; nobody decodes configuration offsets by hand. Sizing of base address registers needs no code:
//! the bits below the size are not writable.
//!
//! Source: PCI Local Bus Specification 2.1, chapter 6.

use crate::bus::Width;
use crate::mem::{IOAPIC_BASE, PCI_HOLE};

const SIZE: usize = 256;

const COMMAND: u8 = 0x04;
const STATUS: u8 = 0x06;
const HEADER_TYPE: u8 = 0x0e;
const BAR0: u8 = 0x10;
const INTERRUPT_LINE: u8 = 0x3c;
const INTERRUPT_PIN: u8 = 0x3d;

const COMMAND_IO: u8 = 1 << 0;
const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_MASTER: u8 = 1 << 2;
const MULTI_FUNCTION: u8 = 1 << 7;

/// Command bits a guest may set: I/O, memory, master, parity response, SERR#.
const COMMAND_WRITABLE: [u8; 2] = [0x47, 0x01];
/// Status bits a guest clears by writing ones: the error reports of the upper byte.
const STATUS_CLEARABLE: u8 = 0xf9;

/// What a function says it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
    /// Stepping.
    pub revision: u8,
    /// Base class, subclass and programming interface, in bits 23:0.
    pub class: u32,
}

/// Which of the two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Ports.
    Io,
    /// Guest-physical memory below 4 GiB.
    Memory,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    space: Space,
    len: u32,
}

impl Bar {
    /// Decodes `len` ports, rounded up to a power of two from 4 to 256 (section 6.2.5.1).
    pub fn io(len: u32) -> Self {
        Self {
            space: Space::Io,
            len: len.clamp(4, 256).next_power_of_two(),
        }
    }

    /// Decodes `len` bytes of memory, rounded up to a power of two from 16 to 2 GiB. Not prefetchable.
    pub fn memory(len: u32) -> Self {
        Self {
            space: Space::Memory,
            len: len.clamp(16, 1 << 31).next_power_of_two(),
        }
    }

    /// The bits that tell the kind.
    fn kind(self) -> u32 {
        match self.space {
            Space::Io => 1,
            Space::Memory => 0,
        }
    }

    /// What `register` decodes, if it is anything the machine can give to a device.
    fn window(self, register: u32) -> Option<Window> {
        let base = register & !(self.len - 1);
        let last = base.checked_add(self.len - 1)?;
        let possible = match self.space {
            Space::Io => last <= u32::from(u16::MAX),
            // Anything else goes to RAM, the APICs or the ROM before it could reach the PCI bus.
            Space::Memory => u64::from(base) >= PCI_HOLE && u64::from(last) < IOAPIC_BASE,
        };
        // Zero is a register nobody has set yet.
        (possible && base != 0).then_some(Window {
            space: self.space,
            base,
            len: self.len,
        })
    }
}

/// A range a function answers now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Ports or memory.
    pub space: Space,
    /// First.
    pub base: u32,
    /// How many.
    pub len: u32,
}

/// What of the configuration concerns the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    /// By base address register: what it decodes.
    pub windows: [Option<Window>; 6],
    /// The function may read and write guest memory.
    pub bus_master: bool,
}

/// Which of a function's four interrupt pins it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pin {
    /// INTA#.
    A = 1,
    /// INTB#.
    B = 2,
    /// INTC#.
    C = 3,
    /// INTD#.
    D = 4,
}

/// One function's registers.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    after_reset: [u8; SIZE],
    writable: [u8; SIZE],
    clearable: [u8; SIZE],
    bars: [Option<Bar>; 6],
    pin: Option<Pin>,
}

impl ConfigSpace {
    /// A type 0 header without base address registers or interrupt.
    pub fn new(identity: Identity) -> Self {
        let [prog_if, subclass, class, _] = identity.class.to_le_bytes();
        Self {
            bytes: [0; SIZE],
            after_reset: [0; SIZE],
            writable: [0; SIZE],
            clearable: [0; SIZE],
            bars: [None; 6],
            pin: None,
        }
        .preset(0x00, &identity.vendor.to_le_bytes())
        .preset(0x02, &identity.device.to_le_bytes())
        // Medium DEVSEL# timing.
        .preset(STATUS, &[0x00, 0x02])
        .preset(0x08, &[identity.revision, prog_if, subclass, class])
        .writable(COMMAND, &COMMAND_WRITABLE)
        // Cache line size and latency timer.
        .writable(0x0c, &[0xff, 0xff])
        .clearable(STATUS + 1, STATUS_CLEARABLE)
    }

    /// Subsystem vendor and device.
    pub fn subsystem(self, vendor: u16, device: u16) -> Self {
        self.preset(0x2c, &vendor.to_le_bytes())
            .preset(0x2e, &device.to_le_bytes())
    }

    /// Gives the function its base address registers.
    pub fn bars(mut self, bars: [Option<Bar>; 6]) -> Self {
        self.bars = bars;
        for (at, bar) in (BAR0..).step_by(4).zip(bars) {
            if let Some(bar) = bar {
                self = self
                    .preset(at, &bar.kind().to_le_bytes())
                    .writable(at, &(!(bar.len - 1)).to_le_bytes());
            }
        }
        self
    }

    /// The function interrupts through this pin.
    pub fn interrupt(mut self, pin: Pin) -> Self {
        self.pin = Some(pin);
        self.preset(INTERRUPT_PIN, &[pin as u8])
            .writable(INTERRUPT_LINE, &[0xff])
    }

    /// Values after reset from `offset` on.
    pub fn preset(mut self, offset: u8, values: &[u8]) -> Self {
        put(&mut self.after_reset, offset, values);
        put(&mut self.bytes, offset, values);
        self
    }

    /// Decodes its windows from the start: firmware has switched them on. Bus mastering stays off.
    pub fn enabled(self) -> Self {
        self.preset(COMMAND, &[COMMAND_IO | COMMAND_MEMORY])
    }

    /// Bits a guest may change from `offset` on.
    pub fn writable(mut self, offset: u8, masks: &[u8]) -> Self {
        put(&mut self.writable, offset, masks);
        self
    }

    /// Bits a guest clears by writing ones.
    fn clearable(mut self, offset: u8, mask: u8) -> Self {
        put(&mut self.clearable, offset, &[mask]);
        self
    }

    /// The device has more functions than this one.
    pub(super) fn multi_function(&mut self) {
        let header_type = self.byte(HEADER_TYPE) | MULTI_FUNCTION;
        put(&mut self.after_reset, HEADER_TYPE, &[header_type]);
        put(&mut self.bytes, HEADER_TYPE, &[header_type]);
    }

    /// Where firmware would have noted the function's ISA interrupt.
    pub(super) fn interrupt_line(self, irq: u8) -> Self {
        self.preset(INTERRUPT_LINE, &[irq])
    }

    /// The pin the function interrupts through.
    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// One register.
    pub fn byte(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    /// Reads; an offset past the end goes on at the start.
    pub fn read(&self, offset: u8, width: Width) -> u32 {
        (0..width.bytes().min(4)).rev().fold(0, |value, i| {
            value << 8 | u32::from(self.byte(offset.wrapping_add(i)))
        })
    }

    /// The guest writes; an offset past the end goes on at the start.
    pub fn write(&mut self, offset: u8, width: Width, value: u32) {
        for (i, value) in (0..width.bytes()).zip(value.to_le_bytes()) {
            let at = usize::from(offset.wrapping_add(i));
            let kept = self.bytes[at] & !self.writable[at];
            self.bytes[at] = (kept | value & self.writable[at]) & !(value & self.clearable[at]);
        }
    }

    /// What the function answers and may do, by its registers now.
    pub fn decode(&self) -> Decode {
        let command = self.byte(COMMAND);
        let enabled = |space| match space {
            Space::Io => command & COMMAND_IO != 0,
            Space::Memory => command & COMMAND_MEMORY != 0,
        };
        let mut windows = [None; 6];
        for ((window, bar), at) in windows.iter_mut().zip(self.bars).zip((BAR0..).step_by(4)) {
            *window = bar
                .filter(|bar| enabled(bar.space))
                .and_then(|bar| bar.window(self.read(at, Width::Dword)));
        }
        Decode {
            windows,
            bus_master: command & COMMAND_MASTER != 0,
        }
    }

    /// Back to the values after reset.
    pub fn reset(&mut self) {
        self.bytes = self.after_reset;
    }
}

/// Copies as much as fits.
fn put(table: &mut [u8; SIZE], offset: u8, values: &[u8]) {
    for (byte, value) in table.iter_mut().skip(usize::from(offset)).zip(values) {
        *byte = *value;
    }
}
