//! The configuration ports as an operating system uses them, and the interrupt routing behind them.

use super::config::{Bar, ConfigSpace, Identity, Pin, Space, Window};
use super::*;
use crate::bus::Line;
use proptest::prelude::*;

const NOW: Ns = Ns(0);
const NIC: DevFn = DevFn::new(3, 0);

fn nic() -> ConfigSpace {
    ConfigSpace::new(Identity {
        vendor: 0x1022,
        device: 0x2000,
        revision: 0x10,
        class: 0x02_0000,
    })
    .subsystem(0x1af4, 0x1100)
    .bars([Some(Bar::io(32)), Some(Bar::memory(32)), None, None, None, None])
    .interrupt(Pin::A)
}

struct Bench {
    bus: PciBus,
    wires: Wires,
    signals: Signals,
}

impl Bench {
    fn new() -> Self {
        let (wires, signals) = (Wires::default(), Signals::default());
        let mut bus = PciBus::new(&wires, signals.clone()).unwrap();
        bus.plug(NIC, nic()).unwrap();
        Self { bus, wires, signals }
    }

    fn outl(&mut self, port: u16, value: u32) {
        assert_eq!(
            self.bus.port_write(NOW, port, Width::Dword, value),
            Access::Done(())
        );
    }

    fn inl(&mut self, port: u16) -> u32 {
        match self.bus.port_read(NOW, port, Width::Dword) {
            Access::Done(value) => value,
            other => panic!("{port:#x}: {other:?}"),
        }
    }

    fn select(&mut self, devfn: DevFn, register: u8) {
        let address = ENABLE | u32::from(devfn.0) << 8 | u32::from(register & 0xfc);
        self.outl(CONFIG_ADDRESS, address);
    }

    fn read(&mut self, devfn: DevFn, register: u8) -> u32 {
        self.select(devfn, register);
        self.inl(CONFIG_DATA)
    }

    fn write(&mut self, devfn: DevFn, register: u8, value: u32) {
        self.select(devfn, register);
        self.outl(CONFIG_DATA, value);
    }

    fn write_byte(&mut self, devfn: DevFn, register: u8, value: u8) {
        self.select(devfn, register);
        let port = CONFIG_DATA + u16::from(register & 3);
        assert_eq!(
            self.bus.port_write(NOW, port, Width::Byte, value.into()),
            Access::Done(())
        );
    }

    /// As the board does after every access.
    fn drain_wires(&mut self) {
        while self.wires.changed() {
            for change in self.wires.take() {
                self.bus.follow(change);
            }
        }
    }

    fn nic_line(&self) -> Line {
        self.wires.line(intx::gsi(NIC.device(), Pin::A)).unwrap()
    }
}

#[test]
fn linux_finds_mechanism_1_and_not_mechanism_2() {
    let mut bench = Bench::new();
    // arch/x86/pci/direct.c, pci_check_type1.
    let at_cfb = bench.bus.port_write(NOW, 0xcfb, Width::Byte, 1);
    assert_eq!(at_cfb, Access::Bad);
    bench.outl(0xcf8, 0x8000_0000);
    assert_eq!(bench.inl(0xcf8), 0x8000_0000);
    // pci_check_type2 wants zeros back from bytes it wrote.
    for port in [0xcf8, 0xcfa] {
        assert_eq!(bench.bus.port_write(NOW, port, Width::Byte, 0), Access::Bad);
        assert_eq!(bench.bus.port_read(NOW, port, Width::Byte), Access::Bad);
    }
    assert_eq!(
        bench.inl(0xcf8),
        0x8000_0000,
        "bytes do not reach the address register"
    );
}

#[test]
fn a_scan_of_all_buses_finds_exactly_the_functions_plugged_in() {
    let mut bench = Bench::new();
    let mut found = Vec::new();
    for bus in [0u32, 1, 255] {
        for devfn in 0..=255u8 {
            bench.outl(CONFIG_ADDRESS, ENABLE | bus << 16 | u32::from(devfn) << 8);
            let id = bench.inl(CONFIG_DATA);
            if id != u32::MAX {
                found.push((bus, DevFn(devfn), id));
            }
        }
    }
    assert_eq!(
        found,
        [
            (0, DevFn::new(0, 0), 0x1237_8086),
            (0, DevFn::new(1, 0), 0x7000_8086),
            (0, DevFn::new(1, 3), 0x7113_8086),
            (0, DevFn::new(3, 0), 0x2000_1022),
        ]
    );
}

#[test]
fn headers_tell_class_and_more_functions() {
    let mut bench = Bench::new();
    for (devfn, class_revision, header_type) in [
        (DevFn::new(0, 0), 0x0600_0002, 0x00),
        (DevFn::new(1, 0), 0x0601_0000, 0x80),
        (DevFn::new(1, 3), 0x0680_0003, 0x00),
        (NIC, 0x0200_0010, 0x00),
    ] {
        assert_eq!(bench.read(devfn, 0x08), class_revision);
        assert_eq!(bench.read(devfn, 0x0c) >> 16, header_type);
    }
    assert_eq!(bench.read(NIC, 0x2c), 0x1100_1af4);
    // Pin A of device 3 is PIRQ D, IRQ 11.
    assert_eq!(bench.read(NIC, 0x3c) & 0xffff, 0x010b);
}

#[test]
fn linux_quirk_of_the_pm_function_finds_the_acpi_registers() {
    let mut bench = Bench::new();
    // drivers/pci/quirks.c, quirk_piix4_acpi: PMBASE, SMBus base, device resources.
    assert_eq!(bench.read(chipset::POWER_MANAGEMENT, 0x40) & 0xffc0, 0x600);
    assert_eq!(bench.read(chipset::POWER_MANAGEMENT, 0x90) & 0xfff0, 0);
    assert_eq!(bench.read(chipset::POWER_MANAGEMENT, 0x5c), 0);
    bench.write(chipset::POWER_MANAGEMENT, 0x40, 0xffff_ffff);
    assert_eq!(bench.read(chipset::POWER_MANAGEMENT, 0x40), 0x601, "fixed");
}

#[test]
fn narrow_accesses_are_lanes_of_the_dword() {
    let mut bench = Bench::new();
    let dword = bench.read(NIC, 0x00);
    for (port, width, expected) in [
        (0xcfc, Width::Byte, dword & 0xff),
        (0xcfd, Width::Byte, dword >> 8 & 0xff),
        (0xcfe, Width::Byte, dword >> 16 & 0xff),
        (0xcff, Width::Byte, dword >> 24),
        (0xcfc, Width::Word, dword & 0xffff),
        (0xcfd, Width::Word, dword >> 8 & 0xffff),
        (0xcfe, Width::Word, dword >> 16),
    ] {
        assert_eq!(
            bench.bus.port_read(NOW, port, width),
            Access::Done(expected),
            "{port:#x}"
        );
    }
    assert_eq!(bench.bus.port_read(NOW, 0xcff, Width::Word), Access::Bad);
    assert_eq!(bench.bus.port_read(NOW, 0xcfd, Width::Dword), Access::Bad);
    bench.select(DevFn::new(9, 0), 0);
    assert_eq!(bench.bus.port_read(NOW, 0xcfc, Width::Byte), Access::Done(0xff));
    assert_eq!(bench.bus.port_read(NOW, 0xcfc, Width::Word), Access::Done(0xffff));
    bench.outl(CONFIG_ADDRESS, 0);
    assert_eq!(
        bench.bus.port_read(NOW, 0xcfc, Width::Dword),
        Access::Bad,
        "not enabled"
    );
}

#[test]
fn base_address_registers_are_sized_by_writing_ones() {
    // What the register holds after all ones were written.
    for (bar, sized) in [
        (Bar::io(32), 0xffff_ffe1u32),
        (Bar::io(1), 0xffff_fffd),
        (Bar::io(100), 0xffff_ff81),
        (Bar::io(u32::MAX), 0xffff_ff01),
        (Bar::memory(0), 0xffff_fff0),
        (Bar::memory(32), 0xffff_ffe0),
        (Bar::memory(0x1001), 0xffff_e000),
        (Bar::memory(u32::MAX), 0x8000_0000),
    ] {
        let mut config = nic().bars([None, Some(bar), None, None, None, None]);
        config.write(0x14, Width::Dword, u32::MAX);
        assert_eq!(config.read(0x14, Width::Dword), sized, "{bar:?}");
        config.write(0x14, Width::Dword, 0);
        assert_eq!(config.read(0x14, Width::Dword), sized & 1);
    }
    let mut config = nic();
    config.write(0x18, Width::Dword, u32::MAX);
    assert_eq!(config.read(0x18, Width::Dword), 0, "no register, nothing to size");
}

#[test]
fn status_errors_are_cleared_by_ones_and_the_rest_stays() {
    let mut config = nic().preset(0x06, &[0x00, 0xfb]);
    config.write(0x04, Width::Dword, 0x1000_0000);
    assert_eq!(config.read(0x04, Width::Dword), 0xeb00_0000);
    config.write(0x06, Width::Word, 0xffff);
    assert_eq!(
        config.read(0x06, Width::Word),
        0x0200,
        "DEVSEL timing is not an error"
    );
}

#[test]
fn a_window_moves_when_its_register_or_the_command_changes() {
    let mut bench = Bench::new();
    let port = |base| {
        Some(Window {
            space: Space::Io,
            base,
            len: 32,
        })
    };
    let memory = |base| {
        Some(Window {
            space: Space::Memory,
            base,
            len: 32,
        })
    };
    assert!(bench.bus.take_moved().is_empty());
    bench.write(NIC, 0x10, 0xc000);
    bench.write(NIC, 0x14, 0xc000_0000);
    assert!(bench.bus.take_moved().is_empty(), "nothing is decoded yet");
    // Register, value, then both windows and mastering; None: no event.
    for (register, value, expected) in [
        (0x04, 0x01, Some((port(0xc000), None, false))),
        (0x04, 0x03, Some((port(0xc000), memory(0xc000_0000), false))),
        (0x04, 0x07, Some((port(0xc000), memory(0xc000_0000), true))),
        (0x04, 0x07, None),
        (0x3c, 0x05, None),
        (0x10, 0xc021, Some((port(0xc020), memory(0xc000_0000), true))),
        // Nothing outside the PCI hole and the 64 Ki ports ever reaches a device.
        (0x14, 0x0010_0000, Some((port(0xc020), None, true))),
        (0x14, 0xfec0_0000, None),
        (0x14, 0xfebf_ffe0, Some((port(0xc020), memory(0xfebf_ffe0), true))),
        (0x14, 0xffff_ffe0, Some((port(0xc020), None, true))),
        (0x10, 0x0001_0000, Some((None, None, true))),
        (0x10, 0x0000_0001, None),
        (0x10, 0x0000_ffe0, Some((port(0xffe0), None, true))),
        (0x04, 0x00, Some((None, None, false))),
    ] {
        bench.write(NIC, register, value);
        let moved = bench.bus.take_moved();
        let seen = moved.iter().map(|moved| {
            assert_eq!(moved.devfn, NIC);
            let [first, second, ..] = moved.decode.windows;
            (first, second, moved.decode.bus_master)
        });
        assert_eq!(
            seen.collect::<Vec<_>>(),
            Vec::from_iter(expected),
            "{register:#x} = {value:#x}"
        );
    }
}

#[test]
fn a_reset_takes_the_windows_away() {
    let mut bench = Bench::new();
    bench.write(NIC, 0x10, 0xc000);
    bench.write(NIC, 0x04, 0x07);
    bench.bus.take_moved();
    bench.bus.reset();
    let moved = bench.bus.take_moved();
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].decode.windows, [None; 6]);
    assert_eq!(bench.inl(CONFIG_ADDRESS), 0);
    assert_eq!(bench.read(NIC, 0x10), 1);
}

#[test]
fn a_window_that_firmware_switched_on_is_there_from_the_start_and_after_a_reset() {
    let (wires, signals) = (Wires::default(), Signals::default());
    let mut bus = PciBus::new(&wires, signals.clone()).unwrap();
    let config = nic().preset(0x10, &0xc101_u16.to_le_bytes()).enabled();
    bus.plug(NIC, config).unwrap();
    let mut bench = Bench { bus, wires, signals };
    let expected = Some(Window {
        space: Space::Io,
        base: 0xc100,
        len: 32,
    });
    let there = |bench: &mut Bench| {
        let moved = bench.bus.take_moved();
        assert_eq!(moved.len(), 1);
        assert_eq!((moved[0].devfn, moved[0].decode.windows[0]), (NIC, expected));
        assert!(
            !moved[0].decode.bus_master,
            "mastering is the driver's to switch on"
        );
    };
    there(&mut bench);
    bench.write(NIC, 0x04, 0x00);
    assert_eq!(bench.bus.take_moved()[0].decode.windows, [None; 6]);
    bench.bus.reset();
    there(&mut bench);
}

#[test]
fn a_rise_of_the_reset_bit_resets() {
    // What is written to 0xCF9, one after the other; whether it resets; what is read back.
    for script in [
        &[(0x06, true, 0x06)][..],
        &[(0x04, true, 0x04)],
        &[(0x02, false, 0x02), (0x06, true, 0x06)],
        &[
            (0x06, true, 0x06),
            (0x06, false, 0x06),
            (0x02, false, 0x02),
            (0x06, true, 0x06),
        ],
        &[(0xfb, false, 0x02)],
    ] {
        let mut bench = Bench::new();
        for &(value, resets, kept) in script {
            let written = bench.bus.port_write(NOW, RESET_CONTROL, Width::Byte, value);
            assert_eq!(written, Access::Done(()));
            let expected = if resets { vec![Signal::Reset] } else { vec![] };
            assert_eq!(bench.signals.take(), expected, "{value:#x} of {script:x?}");
            let read = bench.bus.port_read(NOW, RESET_CONTROL, Width::Byte);
            assert_eq!(read, Access::Done(kept));
        }
    }
}

#[test]
fn a_dword_to_the_address_register_never_resets() {
    let mut bench = Bench::new();
    bench.outl(CONFIG_ADDRESS, 0xffff_ffff);
    assert_eq!(bench.inl(CONFIG_ADDRESS), ADDRESS_BITS);
    assert!(bench.signals.take().is_empty());
}

#[test]
fn plugging_asks_for_a_free_place_that_a_guest_can_find() {
    let mut bench = Bench::new();
    assert_eq!(bench.bus.plug(NIC, nic()), Err(PlugError::Taken(NIC)));
    let lonely = DevFn::new(4, 1);
    assert_eq!(bench.bus.plug(lonely, nic()), Err(PlugError::Hidden(lonely)));
    assert_eq!(bench.bus.plug(DevFn::new(4, 0), nic()), Ok(()));
    assert_eq!(bench.bus.plug(lonely, nic()), Ok(()));
    assert_eq!(bench.read(DevFn::new(4, 0), 0x0c) >> 16, 0x80);
    bench.bus.reset();
    assert_eq!(
        bench.read(DevFn::new(4, 0), 0x0c) >> 16,
        0x80,
        "also after a reset"
    );
}

#[test]
fn pins_rotate_over_devices() {
    for (device, pin, gsi) in [
        (0, Pin::A, 16),
        (1, Pin::A, 17),
        (1, Pin::D, 16),
        (2, Pin::B, 19),
        (3, Pin::A, 19),
        (4, Pin::C, 18),
        (31, Pin::D, 18),
    ] {
        assert_eq!(intx::gsi(device, pin), gsi, "device {device} {pin:?}");
        assert_eq!(intx::PIRQ_GSIS[usize::from(intx::pirq(device, pin))], gsi);
    }
}

#[test]
fn an_interrupt_pin_shows_on_the_isa_wire_its_router_names() {
    let mut bench = Bench::new();
    let line = bench.nic_line();
    let pirqrc = chipset::PIRQRC + 3;
    line.set(true);
    bench.drain_wires();
    assert!(bench.wires.level(11) && bench.wires.level(19));
    // PIRQRC of PIRQ D: what is written, the IRQ that is high after.
    for (route, irq) in [
        (0x80, None),
        (0x05, Some(5)),
        (0x8b, None),
        (0x0d, None),
        (0x00, None),
        (0x0b, Some(11)),
    ] {
        bench.write_byte(chipset::ISA_BRIDGE, pirqrc, route);
        bench.drain_wires();
        let high: Vec<u8> = (0..16).filter(|&irq| bench.wires.level(irq)).collect();
        assert_eq!(high, Vec::from_iter(irq), "{route:#x}");
    }
    line.set(false);
    bench.drain_wires();
    assert!(!bench.wires.level(11));
}

#[test]
fn functions_that_share_an_irq_hold_it_until_the_last_lets_go() {
    let mut bench = Bench::new();
    let line = bench.nic_line();
    // PIRQ B is routed to IRQ 11 as well.
    let other = bench.wires.line(intx::PIRQ_GSIS[1]).unwrap();
    for (nic, sharer, expected) in [
        (true, false, true),
        (true, true, true),
        (false, true, true),
        (false, false, false),
    ] {
        line.set(nic);
        other.set(sharer);
        bench.drain_wires();
        assert_eq!(bench.wires.level(11), expected);
    }
}

proptest! {
    #[test]
    fn no_stream_of_accesses_changes_what_is_plugged_in(
        stream in proptest::collection::vec((0u16..8, 0u8..3, any::<bool>(), any::<u32>(), 0u8..4), 0..300),
    ) {
        let mut bench = Bench::new();
        let lines: Vec<Line> = intx::PIRQ_GSIS.iter().map(|&gsi| bench.wires.line(gsi).unwrap()).collect();
        for (port, width, write, value, kind) in stream {
            let width = [Width::Byte, Width::Word, Width::Dword][usize::from(width)];
            // Mostly addresses of functions that are there.
            let value = match kind {
                0 => ENABLE | (value & 0x1fff),
                1 => ENABLE | u32::from(NIC.0) << 8 | value & 0xff,
                _ => value,
            };
            let port = 0xcf8 + port;
            if write {
                _ = bench.bus.port_write(NOW, port, width, value);
            } else {
                _ = bench.bus.port_read(NOW, port, width);
            }
            lines[(value & 3) as usize].set(value & 4 != 0);
            bench.drain_wires();
            for moved in bench.bus.take_moved() {
                for window in moved.decode.windows.into_iter().flatten() {
                    prop_assert!(window.base % window.len == 0);
                    prop_assert!(window.space == Space::Io || window.base >= 0xc000_0000);
                }
            }
        }
        for (devfn, id) in [(DevFn::new(0, 0), 0x1237_8086), (DevFn::new(1, 0), 0x7000_8086), (NIC, 0x2000_1022)] {
            prop_assert_eq!(bench.read(devfn, 0), id);
        }
        lines.iter().for_each(|line| line.set(false));
        bench.drain_wires();
        prop_assert!((0..24).all(|gsi| !bench.wires.level(gsi)), "no ISA wire is left up");
    }
}
