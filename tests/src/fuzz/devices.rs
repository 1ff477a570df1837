//! A function per device: how it is made, which ports and registers it has, and what else can happen to it.

use super::input::Input;
use super::rig::Rig;
use std::collections::BTreeMap;
use vmm::bus::{Access, Change, Line, PortIo, Signal, Signals, Width, Wires};
use vmm::dev::chipset::interrupts::Interrupts;
use vmm::dev::chipset::ioapic::{self, IoApic};
use vmm::dev::chipset::lapic::{self, Destination, LocalApic, TscScale};
use vmm::dev::chipset::pci::config::{Bar, ConfigSpace, Decode, Identity, Pin, Space, Window};
use vmm::dev::chipset::pci::{DevFn, PciBus, chipset, intx};
use vmm::dev::chipset::pic::PicPair;
use vmm::dev::chipset::pit::Pit;
use vmm::dev::chipset::pm::Pm;
use vmm::dev::chipset::rtc::{Cmos, Rtc};
use vmm::dev::i8042::I8042;
use vmm::mem::{IOAPIC_BASE, PCI_HOLE};
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

/// The chipset's functions, and one with windows of every kind. The board follows now and then, as it would.
pub fn pci(bytes: &[u8]) -> u64 {
    const CARD: DevFn = DevFn::new(3, 0);
    const FUNCTIONS: [DevFn; 4] = [
        chipset::HOST_BRIDGE,
        chipset::ISA_BRIDGE,
        chipset::POWER_MANAGEMENT,
        CARD,
    ];
    let (wires, signals) = (Wires::default(), Signals::default());
    let mut bus = PciBus::new(&wires, signals.clone()).expect("wires of the board");
    bus.plug(CARD, card()).expect("an empty place");
    let decode = |bus: &PciBus, devfn| bus.function(devfn).expect("a function plugged in").decode();
    let mut known: BTreeMap<u16, Decode> = BTreeMap::new();
    let place = |devfn: DevFn| u16::from(devfn.device()) << 3 | u16::from(devfn.function());
    known.extend(FUNCTIONS.map(|devfn| (place(devfn), decode(&bus, devfn))));
    let pirqs = intx::PIRQ_GSIS.map(|gsi| wires.line(gsi).expect("a wire of the board"));
    let levels = wires.clone();
    Rig::new(bus)
        .ports(&[PciBus::PORTS])
        .resettable()
        .also(move |bus, _now, input| {
            if input.flag() {
                pirqs[usize::from(input.byte() % 4)].set(input.flag());
                wires.take().for_each(|change| bus.follow(change));
                return String::new();
            }
            let moved = bus.take_moved();
            for moved in &moved {
                moved.decode.windows.iter().flatten().for_each(sound);
                known.insert(place(moved.devfn), moved.decode);
            }
            for devfn in FUNCTIONS {
                assert_eq!(known[&place(devfn)], decode(bus, devfn), "{devfn:?} moved unseen");
            }
            format!("{moved:?}")
        })
        .check(move |bus| {
            assert!(signals.take().iter().all(|&signal| signal == Signal::Reset));
            let bridge = bus.function(chipset::ISA_BRIDGE).expect("every board has it");
            for irq in [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15] {
                let routed = (0..4u8).any(|n| {
                    bridge.byte(chipset::PIRQRC + n) == irq && levels.level(intx::PIRQ_GSIS[usize::from(n)])
                });
                assert_eq!(levels.level(irq), routed, "ISA wire {irq}");
            }
        })
        .run(bytes)
}

fn card() -> ConfigSpace {
    ConfigSpace::new(Identity {
        vendor: 0x1022,
        device: 0x2000,
        revision: 0x16,
        class: 0x02_0000,
    })
    .bars([
        Some(Bar::io(32)),
        Some(Bar::memory(32)),
        None,
        Some(Bar::memory(1 << 20)),
        Some(Bar::io(256)),
        Some(Bar::memory(1 << 31)),
    ])
    .interrupt(Pin::A)
}

/// A window the board can give to a device.
fn sound(window: &Window) {
    let &Window { space, base, len } = window;
    assert!(len.is_power_of_two() && base.is_multiple_of(len), "{window:?}");
    let last = u64::from(base) + u64::from(len) - 1;
    match space {
        Space::Io => assert!(last <= 0xffff, "{window:?}"),
        Space::Memory => assert!(u64::from(base) >= PCI_HOLE && last < IOAPIC_BASE, "{window:?}"),
    }
}

/// The SCI is up exactly while an enabled status bit is set, and nothing but soft off is ever asked for.
pub fn pm(bytes: &[u8]) -> u64 {
    let (wires, signals) = (Wires::default(), Signals::default());
    let sci = wires.line(Pm::SCI_GSI).expect("a wire of the board");
    Rig::new(Pm::new(sci, signals.clone()))
        .ports(&[
            Pm::PORTS,
            Pm::EVENT..=Pm::EVENT + 3,
            Pm::CONTROL..=Pm::CONTROL + 1,
        ])
        .timed()
        .resettable()
        .also(move |pm, now, input| {
            if input.flag() {
                pm.press_power_button();
            }
            let Access::Done(event) = pm.port_read(now, Pm::EVENT, Width::Dword) else {
                panic!("a register refuses its own width");
            };
            let due = event & event >> 16 & 0xffff != 0;
            assert_eq!(wires.level(Pm::SCI_GSI), due, "status and enable {event:#x}");
            format!("{} {event:#x}", pm.refused_sleeps())
        })
        .check(move |_| assert!(signals.take().iter().all(|&signal| signal == Signal::PowerOff)))
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
