//! A function per device: how it is made, which ports and registers it has, and what else can happen to it.

use super::input::Input;
use super::rig::Rig;
use vmm::bus::{Change, Line, Signals, Width, Wires};
use vmm::dev::chipset::interrupts::Interrupts;
use vmm::dev::chipset::ioapic::{self, IoApic};
use vmm::dev::chipset::lapic::{self, Destination, LocalApic, TscScale};
use vmm::dev::chipset::pic::PicPair;
use vmm::dev::chipset::pit::Pit;
use vmm::dev::chipset::rtc::{Cmos, Rtc};
use vmm::dev::i8042::I8042;
use vmm::time::Ns;

const TSC: TscScale = TscScale {
    at: Ns(0),
    tsc: 0,
    khz: 2_000_000,
};

fn line(gsi: u8) -> Line {
    Wires::default().line(gsi).expect("a wire of the board")
}

fn new_lapic() -> LocalApic {
    LocalApic::new(Signals::default(), TSC, 40)
}

/// The MSRs of the local APIC, and one past either end.
fn msr(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        0xff => lapic::MSR_APIC_BASE,
        0xfe => lapic::MSR_TSC_DEADLINE,
        0xfd => input.number(4) as u32,
        index => lapic::MSR_X2APIC_FIRST + u32::from(index),
    }
}

pub fn lapic(bytes: &[u8]) -> u64 {
    fn also(apic: &mut LocalApic, now: Ns, input: &mut Input<'_>) -> String {
        match input.byte() % 9 {
            0 => return format!("{:?}", apic.msr_read(now, msr(input))),
            1 => return format!("{:?}", apic.msr_write(now, msr(input), input.number(8))),
            2 => return format!("{}", apic.accept(input.byte(), input.flag())),
            3 => return format!("{:?}", acknowledge(apic)),
            4 => apic.set_cr8(input.byte() & 15),
            5 => apic.set_lint0(input.flag()),
            6 => apic.pulse_lint1(),
            7 => return format!("{:?}", apic.take_ended()),
            _ => apic.set_tsc(TscScale {
                at: now,
                tsc: input.number(8),
                khz: input.number(4) as u32,
            }),
        }
        String::new()
    }
    fn acknowledge(apic: &mut LocalApic) -> Option<u8> {
        let class = |vector: Option<u8>| vector.map_or(0, |vector| vector >> 4);
        let pending = apic.pending();
        assert!(
            pending.is_none_or(|vector| vector >= 16),
            "illegal vector {pending:?}"
        );
        let taken = apic.acknowledge();
        assert_eq!(taken, pending);
        let next = apic.pending();
        assert!(
            next.is_none() || class(next) > class(taken),
            "{next:?} cannot nest in {taken:?}"
        );
        taken
    }
    Rig::new(new_lapic())
        .mmio(lapic::PAGE_BYTES)
        .timed()
        .resettable()
        .also(also)
        .check(|apic| assert!(apic.cr8() < 16))
        .run(bytes)
}

pub fn ioapic(bytes: &[u8]) -> u64 {
    fn also(apic: &mut IoApic, _now: Ns, input: &mut Input<'_>) -> String {
        let mut sent = Vec::new();
        match input.byte() % 4 {
            0 => apic.wire(input.byte(), input.flag(), input.flag()),
            1 => apic.end_of_interrupt(input.byte()),
            2 => apic.send(|_| false),
            _ => {
                apic.send(|message| {
                    sent.push(message);
                    true
                });
                apic.send(|message| panic!("{message:?} after everything was taken"));
            }
        }
        format!("{sent:?}")
    }
    Rig::new(IoApic::default())
        .mmio(ioapic::REGION_BYTES)
        .resettable()
        .also(also)
        .run(bytes)
}

pub fn i8042(bytes: &[u8]) -> u64 {
    let device = I8042::new(line(1), line(12), Signals::default());
    Rig::new(device).ports(&I8042::PORTS).resettable().run(bytes)
}

pub fn pic(bytes: &[u8]) -> u64 {
    fn also(pics: &mut PicPair, _now: Ns, input: &mut Input<'_>) -> String {
        match input.byte() % 4 {
            0 => pics.wire(input.byte(), input.flag(), input.flag()),
            1 => pics.set_irq(input.byte(), input.flag()),
            _ => {
                let output = pics.output();
                return format!("{output} {}", pics.acknowledge());
            }
        }
        String::new()
    }
    Rig::new(PicPair::new())
        .ports(&PicPair::PORTS)
        .resettable()
        .also(also)
        .run(bytes)
}

pub fn pit(bytes: &[u8]) -> u64 {
    Rig::new(Pit::new(line(2)))
        .ports(&Pit::PORTS)
        .timed()
        .resettable()
        .run(bytes)
}

pub fn rtc(bytes: &[u8]) -> u64 {
    let leap_day = 951_782_400 * Ns::SECOND; // 29 February 2000
    Rig::new(Rtc::new(line(8), leap_day, &Cmos::default()))
        .ports(&Rtc::PORTS)
        .timed()
        .resettable()
        .run(bytes)
}

/// The fabric: every controller through it, and what it promises the run loop.
pub fn interrupts(bytes: &[u8]) -> u64 {
    fn also(fabric: &mut Interrupts, now: Ns, input: &mut Input<'_>) -> String {
        match input.byte() % 9 {
            0 => return format!("{:?}", fabric.lapic_read(now, 16 * input.number(1), Width::Dword)),
            1 => {
                let (offset, value) = (16 * input.number(1), input.number(4));
                return format!("{:?}", fabric.lapic_write(now, offset, Width::Dword, value));
            }
            2 => return format!("{:?}", fabric.ioapic_read(now, 0x10, Width::Dword)),
            3 => {
                let select = fabric.ioapic_write(now, 0x00, Width::Dword, input.number(1));
                let write = fabric.ioapic_write(now, 0x10, Width::Dword, input.number(4));
                return format!("{select:?} {write:?}");
            }
            4 => fabric.wires([Change {
                gsi: input.byte(),
                rose: input.flag(),
                level: input.flag(),
            }]),
            5 => {
                let pending = fabric.pending();
                let taken = fabric.take();
                assert_eq!(taken.is_some(), pending, "pending and take agree");
                return format!("{taken:?}");
            }
            6 => fabric.set_cr8(input.byte() & 15),
            7 => return format!("{:?}", fabric.msr_write(now, msr(input), input.number(8))),
            _ => fabric.virtual_wire(),
        }
        String::new()
    }
    Rig::new(Interrupts::new(PicPair::new(), IoApic::default(), new_lapic()))
        .timed()
        .also(also)
        .check(|fabric| {
            let everybody = Destination::of_byte(false, 0xff);
            assert_eq!(fabric.lapic().is_for(everybody), fabric.lapic().enabled());
        })
        .run(bytes)
}
