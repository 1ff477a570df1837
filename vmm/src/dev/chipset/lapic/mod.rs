//! The local APIC of one CPU (Intel SDM volume 3, chapter 11, "Advanced Programmable Interrupt Controller"):
//! xAPIC registers in memory, x2APIC registers as MSRs, the timer, and the IA32_APIC_BASE and IA32_TSC_DEADLINE
//! MSRs.
//!
//! Called by the interrupt fabric ([`super::interrupts`]) alone. A register machine: it injects nothing, it
//! answers what is [`pending`](LocalApic::pending). There is one CPU; messages to others reach nobody.
//!
//! What must never happen here: an interrupt lost or doubled between IRR and ISR, or a register access that
//! sees the timer where it was at some earlier time: every access brings it to `now` first.

mod delivery;
mod interface;
mod registers;
#[cfg(test)]
mod tests;
mod timer;
mod tsc;
mod vectors;

pub use delivery::Delivery;
pub use timer::TIMER_HZ;
pub use tsc::TscScale;

use crate::bus::{Resettable, Signals, Timed};
use crate::time::Ns;
use registers::Lvt;
use timer::Timer;
use vectors::Vectors;

/// IA32_APIC_BASE.
pub const MSR_APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// First of the x2APIC registers.
pub const MSR_X2APIC_FIRST: u32 = 0x800;
/// Last of the x2APIC registers.
pub const MSR_X2APIC_LAST: u32 = 0x8ff;
/// Where the registers are after reset.
pub const DEFAULT_BASE: u64 = crate::mem::LAPIC_BASE;
/// Bytes of the register page.
pub const PAGE_BYTES: u64 = 4096;

/// The access faults: #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrFault;

/// Whether the APIC is there, and how it is reached (SDM section 11.12.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Globally off: the PIC's INTR and the board's NMI go straight to the CPU.
    Disabled,
    Xapic,
    X2apic,
}

/// How a message names its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By APIC id; all ones is everybody.
    Physical(u32),
    /// By what software put into the LDR; all ones is everybody.
    Logical(u32),
}

impl Destination {
    /// From the 8 bits of an xAPIC command or a redirection table entry.
    pub fn of_byte(logical: bool, destination: u8) -> Self {
        let destination = if destination == 0xff {
            u32::MAX
        } else {
            destination.into()
        };
        Self::of(logical, destination)
    }

    fn of(logical: bool, destination: u32) -> Self {
        if logical {
            Self::Logical(destination)
        } else {
            Self::Physical(destination)
        }
    }
}

/// Bit 16 of an LVT entry.
const LVT_MASKED: u32 = 1 << 16;
/// Bit 15 of an LVT entry: level-triggered.
const LVT_LEVEL: u32 = 1 << 15;
/// Bit 14 of an LVT entry: a level has been accepted and not yet been given an EOI.
const LVT_REMOTE_IRR: u32 = 1 << 14;
/// SVR: software enable.
const SVR_ENABLED: u32 = 1 << 8;
/// SVR: an EOI is not broadcast; software tells the I/O APIC by itself.
const SVR_NO_EOI_BROADCAST: u32 = 1 << 12;

/// The local APIC.
pub struct LocalApic {
    signals: Signals,
    tsc: TscScale,
    /// Physical address bits of the CPU: what IA32_APIC_BASE can hold.
    phys_bits: u32,
    mode: Mode,
    base: u64,
    bootstrap: bool,
    /// xAPIC id; software may change it, the x2APIC id it may not.
    id: u8,
    tpr: u8,
    ldr: u8,
    /// Destination format, bits 28-31; 15 flat, 0 cluster.
    dfr: u8,
    svr: u32,
    icr: u64,
    lvt: [u32; Lvt::COUNT],
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    /// What the ESR shows.
    esr: u32,
    /// Errors since the last write of the ESR.
    errors: u32,
    /// An error has been signalled through the LVT since the last write of the ESR.
    error_signalled: bool,
    /// Level of the LINT0 pin.
    lint0: bool,
    /// Level-triggered vectors that got their EOI and still have to be told to the I/O APIC.
    ended: Vectors,
    timer: Timer,
}

impl LocalApic {
    /// APIC id of the one CPU.
    pub const ID: u8 = 0;

    /// After power-on. `phys_bits` (13..=52) is the CPU model's physical address width; non-maskable interrupts
    /// and INITs it is told to deliver come out of `signals`.
    pub fn new(signals: Signals, tsc: TscScale, phys_bits: u8) -> Self {
        Self {
            signals,
            tsc,
            phys_bits: u32::from(phys_bits.clamp(13, 52)),
            mode: Mode::Xapic,
            base: DEFAULT_BASE,
            bootstrap: true,
            id: Self::ID,
            tpr: 0,
            ldr: 0,
            dfr: 0xf,
            svr: 0xff,
            icr: 0,
            lvt: [LVT_MASKED; Lvt::COUNT],
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            esr: 0,
            errors: 0,
            error_signalled: false,
            lint0: false,
            ended: Vectors::default(),
            timer: Timer::default(),
        }
    }

    /// Puts the APIC into the state firmware leaves it in for an operating system that knows only the PIC:
    /// software enabled, LINT0 ExtINT, LINT1 NMI (MultiProcessor Specification 1.4, section 3.6.2.2, virtual
    /// wire mode). For boots without firmware.
    pub fn virtual_wire(&mut self) {
        self.svr = SVR_ENABLED | 0xff;
        self.lvt[Lvt::Lint0 as usize] = 0x700;
        self.lvt[Lvt::Lint1 as usize] = 0x400;
    }

    /// Where the register page is now; `None` while the APIC is off or in x2APIC mode and no address reaches it.
    pub fn base(&self) -> Option<u64> {
        (self.mode == Mode::Xapic).then_some(self.base)
    }

    /// Whether IA32_APIC_BASE has it globally on. While it is off, CPUID leaf 1 EDX bit 9 reads 0.
    pub fn enabled(&self) -> bool {
        self.mode != Mode::Disabled
    }

    /// Replaces the relation of the guest's time stamp counter to the machine's clock: after it was written,
    /// after a stop, and whenever the machine wants to keep the two clocks from drifting apart.
    pub fn set_tsc(&mut self, tsc: TscScale) {
        self.tsc = tsc;
    }

    /// CR8: bits 4-7 of the task priority. It is there with the APIC off, too.
    pub fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// Takes over the CPU's CR8 (0..=15). An unchanged one leaves bits 0-3 of the task priority alone.
    pub fn set_cr8(&mut self, cr8: u8) {
        if cr8 != self.cr8() {
            self.tpr = cr8 << 4;
        }
    }

    fn software_enabled(&self) -> bool {
        self.enabled() && self.svr & SVR_ENABLED != 0
    }

    fn lvt(&self, entry: Lvt) -> u32 {
        self.lvt[entry as usize]
    }

    /// Everything but the mode, the base and the task priority (which is the CPU's CR8) as after reset.
    fn reset_registers(&mut self) {
        let fresh = Self::new(self.signals.clone(), self.tsc, self.phys_bits as u8);
        *self = Self {
            mode: self.mode,
            base: self.base,
            bootstrap: self.bootstrap,
            tpr: self.tpr,
            lint0: self.lint0,
            ..fresh
        };
    }

    /// Whether an expiry of the timer could become an interrupt.
    fn timer_wanted(&self) -> bool {
        self.software_enabled() && self.lvt(Lvt::Timer) & LVT_MASKED == 0
    }
}

impl Timed for LocalApic {
    /// A masked timer needs no call: every register access catches up with it.
    fn deadline(&self) -> Option<Ns> {
        self.timer.deadline(&self.tsc).filter(|_| self.timer_wanted())
    }

    fn advance(&mut self, now: Ns) {
        if self.timer.expire(now, &self.tsc) {
            self.deliver_local(Lvt::Timer);
        }
    }
}

impl Resettable for LocalApic {
    /// RESET (SDM section 11.4.7.1). The pins stay as the board drives them.
    fn reset(&mut self) {
        self.mode = Mode::Xapic;
        self.base = DEFAULT_BASE;
        self.bootstrap = true;
        self.reset_registers();
        self.tpr = 0;
    }
}
