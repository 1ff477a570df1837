//! The local APIC against the manual, one file per topic, all through the interfaces a guest has.

mod delivery;
mod modes;
mod registers;
mod timer;

use super::*;
use crate::bus::{Access, Mmio, Signal, Width};

const ID: u64 = 0x20;
const VERSION: u64 = 0x30;
const TPR: u64 = 0x80;
const APR: u64 = 0x90;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const LDR: u64 = 0xd0;
const DFR: u64 = 0xe0;
const SVR: u64 = 0xf0;
const ISR: u64 = 0x100;
const TMR: u64 = 0x180;
const IRR: u64 = 0x200;
const ESR: u64 = 0x280;
const ICR_LOW: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const LVT_LINT1: u64 = 0x360;
const LVT_ERROR: u64 = 0x370;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

/// A local APIC, what it signals, and a clock.
struct Bench {
    lapic: LocalApic,
    signals: Signals,
    now: Ns,
}

impl Bench {
    /// After reset.
    fn reset() -> Self {
        let signals = Signals::default();
        let tsc = TscScale {
            at: Ns(0),
            tsc: 0,
            khz: 2_000_000,
        };
        Self {
            lapic: LocalApic::new(signals.clone(), tsc, 40),
            signals,
            now: Ns(0),
        }
    }

    /// Software enabled, spurious vector FFh.
    fn enabled() -> Self {
        let mut bench = Self::reset();
        bench.write(SVR, 0x1ff);
        bench
    }

    /// In x2APIC mode, software enabled.
    fn x2apic() -> Self {
        let mut bench = Self::reset();
        bench.msr_write(MSR_APIC_BASE, DEFAULT_BASE | 0xd00).unwrap();
        bench.msr_write(0x80f, 0x1ff).unwrap();
        bench
    }

    fn read(&mut self, offset: u64) -> u32 {
        match self.lapic.mmio_read(self.now, offset, Width::Dword) {
            Access::Done(value) => value as u32,
            other => panic!("read of {offset:#x} gave {other:?}"),
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        let done = self
            .lapic
            .mmio_write(self.now, offset, Width::Dword, value.into());
        assert_eq!(done, Access::Done(()), "write of {offset:#x}");
    }

    fn msr_read(&mut self, index: u32) -> Result<u64, MsrFault> {
        self.lapic.msr_read(self.now, index)
    }

    fn msr_write(&mut self, index: u32, value: u64) -> Result<(), MsrFault> {
        self.lapic.msr_write(self.now, index, value)
    }

    /// Whether `vector` is set in the 256-bit register at `register`.
    fn shows(&mut self, register: u64, vector: u8) -> bool {
        self.read(register + u64::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
    }

    /// Takes every interrupt there is, ending each at once; in the order taken.
    fn drain(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Some(vector) = self.lapic.acknowledge() {
            taken.push(vector);
            self.write(EOI, 0);
        }
        taken
    }
}

#[test]
fn a_set_of_vectors_finds_its_highest_member() {
    let mut set = Vectors::default();
    assert_eq!(set.highest(), None);
    for vector in 0..=255 {
        set.set(vector, true);
        assert_eq!(set.highest(), Some(vector));
        assert_eq!(
            set.register(vector / 32) >> (vector % 32),
            1,
            "vector {vector} in its 32-bit register"
        );
    }
    for vector in (1..=255).rev() {
        set.set(vector, false);
        assert!(!set.contains(vector));
        assert_eq!(set.highest(), Some(vector - 1));
    }
}

#[test]
fn a_tsc_deadline_becomes_the_first_instant_that_reaches_it() {
    let scale = TscScale {
        at: Ns(1_000),
        tsc: 5_000,
        khz: 3_000_000, // 3 ticks a nanosecond
    };
    for (tsc, ns) in [
        (5_000, 1_000),
        (5_001, 1_001),
        (5_003, 1_001),
        (5_004, 1_002),
        (4_997, 999),
        (2_000, 0),
        (0, 0),
    ] {
        assert_eq!(scale.ns_of_tsc(tsc), Ns(ns), "tsc {tsc}");
    }
    let slow = TscScale { khz: 0, ..scale };
    assert_eq!(slow.ns_of_tsc(u64::MAX), Ns(u64::MAX), "saturates");
}
