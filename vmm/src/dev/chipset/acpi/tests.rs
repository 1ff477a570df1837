//! The tables as an operating system reads them: found by scanning, followed by pointers, checked by sums, and the
//! fields an OS acts on by their offsets in the specification.

use super::*;
use crate::dev::chipset::pci::config::Pin;
use crate::dev::chipset::pci::intx;
use std::collections::BTreeMap;

/// Guest memory with the tables in it.
struct Memory(BTreeMap<u64, u8>);

impl Memory {
    fn new(config: &AcpiConfig) -> Self {
        let mut memory = BTreeMap::new();
        for (at, bytes) in build(config).unwrap().blobs {
            for (at, byte) in (at..).zip(bytes) {
                assert!(AREA.contains(&at), "{at:#x} is outside the BIOS area");
                assert_eq!(memory.insert(at, byte), None, "two tables at {at:#x}");
            }
        }
        Self(memory)
    }

    fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        (at..at + len)
            .map(|at| self.0.get(&at).copied().unwrap_or(0))
            .collect()
    }

    fn number(&self, at: u64, len: u64) -> u64 {
        self.bytes(at, len)
            .iter()
            .rev()
            .fold(0, |n, &byte| n << 8 | u64::from(byte))
    }

    /// What an OS does without being told: every 16 bytes of the area.
    fn scan(&self) -> u64 {
        AREA.step_by(16)
            .find(|&at| self.bytes(at, 8) == b"RSD PTR ")
            .unwrap()
    }

    /// A table with a standard header, whose sum is checked.
    fn table(&self, at: u64, signature: &[u8; 4]) -> Vec<u8> {
        let table = self.bytes(at, self.number(at + 4, 4));
        assert_eq!(&table[..4], signature);
        assert_eq!(sum(&table), 0, "checksum of {}", signature.escape_ascii());
        table
    }

    fn xsdt(&self) -> Vec<u64> {
        let at = self.number(self.scan() + 24, 8);
        let entries = self.table(at, b"XSDT").len() as u64 - 36;
        (0..entries / 8)
            .map(|n| self.number(at + 36 + 8 * n, 8))
            .collect()
    }

    fn dsdt(&self) -> Vec<u8> {
        self.table(self.number(self.xsdt()[0] + 140, 8), b"DSDT")
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

fn one_cpu() -> Memory {
    Memory::new(&AcpiConfig::default())
}

#[test]
fn a_scan_finds_the_root_pointer_and_both_its_sums_are_right() {
    let memory = one_cpu();
    let at = memory.scan();
    assert_eq!(at, build(&AcpiConfig::default()).unwrap().rsdp_at);
    assert_eq!(memory.number(at + 15, 1), 2, "revision");
    assert_eq!(memory.number(at + 20, 4), 36, "length");
    assert_eq!(sum(&memory.bytes(at, 20)), 0);
    assert_eq!(sum(&memory.bytes(at, 36)), 0);
}

#[test]
fn every_table_is_reached_by_pointers_and_sums_to_zero() {
    for cpus in [1, 2, 255] {
        let memory = Memory::new(&AcpiConfig { cpus });
        let [fadt, madt] = memory.xsdt()[..] else {
            panic!("two tables");
        };
        assert_eq!(memory.table(fadt, b"FACP").len(), 276);
        memory.table(madt, b"APIC");
        memory.dsdt();
        let facs = memory.number(fadt + 36, 4);
        assert_eq!(memory.bytes(facs, 4), b"FACS");
        assert_eq!(facs % 64, 0);
        assert_eq!(memory.number(facs + 4, 4), 64);
        assert_eq!(
            memory.number(fadt + 40, 4),
            memory.number(fadt + 140, 8),
            "both pointers to the DSDT"
        );
    }
}

/// Section 5.2.9, table 5.9: offset, bytes, value.
#[test]
fn the_fadt_names_the_registers_of_the_board() {
    let memory = one_cpu();
    let at = memory.xsdt()[0];
    for (offset, len, value, what) in [
        (8, 1, 6, "major version"),
        (46, 2, 9, "SCI_INT"),
        (48, 4, 0, "SMI_CMD"),
        (56, 4, 0x600, "PM1a_EVT_BLK"),
        (64, 4, 0x604, "PM1a_CNT_BLK"),
        (76, 4, 0x608, "PM_TMR_BLK"),
        (80, 4, 0, "GPE0_BLK"),
        (88, 1, 4, "PM1_EVT_LEN"),
        (89, 1, 2, "PM1_CNT_LEN"),
        (91, 1, 4, "PM_TMR_LEN"),
        (92, 1, 0, "GPE0_BLK_LEN"),
        (108, 1, 0x32, "CENTURY"),
        (109, 2, 0x07, "IAPC_BOOT_ARCH: legacy devices, 8042, no VGA"),
        // WBINVD, PROC_C1, SLP_BUTTON, FIX_RTC, RESET_REG_SUP; not PWR_BUTTON, TMR_VAL_EXT, HW_REDUCED_ACPI.
        (112, 4, 0x0000_0465, "flags"),
        (116, 4, 0x0100_0801, "RESET_REG: I/O, 8 bits, bytes"),
        (120, 8, 0xcf9, "RESET_REG address"),
        (128, 1, 0x06, "RESET_VALUE"),
        (148, 4, 0x0200_2001, "X_PM1a_EVT_BLK: I/O, 32 bits, words"),
        (152, 8, 0x600, "X_PM1a_EVT_BLK address"),
        (172, 4, 0x0200_1001, "X_PM1a_CNT_BLK: I/O, 16 bits, words"),
        (176, 8, 0x604, "X_PM1a_CNT_BLK address"),
        (208, 4, 0x0300_2001, "X_PM_TMR_BLK: I/O, 32 bits, dwords"),
        (212, 8, 0x608, "X_PM_TMR_BLK address"),
    ] {
        assert_eq!(memory.number(at + offset, len), value, "{what}");
    }
}

#[test]
fn the_madt_tells_of_the_apics_and_the_wires() {
    let memory = Memory::new(&AcpiConfig { cpus: 2 });
    let madt = memory.table(memory.xsdt()[1], b"APIC");
    #[rustfmt::skip]
    let expected = [
        // Local APICs at FEE00000; 8259s present.
        0x00, 0x00, 0xe0, 0xfe, 1, 0, 0, 0,
        0, 8, 0, 0, 1, 0, 0, 0,
        0, 8, 1, 1, 1, 0, 0, 0,
        // I/O APIC 0 at FEC00000 from GSI 0.
        1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0,
        // IRQ 0 is GSI 2; IRQ 9 is GSI 9, level, active high.
        2, 10, 0, 0, 2, 0, 0, 0, 0, 0,
        2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0,
        // NMI at LINT1.
        4, 6, 0xff, 0, 0, 1,
    ];
    assert_eq!(madt[36..], expected);
}

#[test]
fn soft_off_is_the_sleep_type_that_turns_the_power_off() {
    // Name (_S5, Package (4) { 0, 0, 0, 0 })
    assert_eq!(bytes(&dsdt::soft_off()), b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00");
}

#[test]
fn com1_is_a_16550_at_3f8_with_irq_4() {
    let expected = [
        // Device (COM1)
        &b"\x5b\x82\x2bCOM1"[..],
        // Name (_HID, EisaId ("PNP0501"))
        b"\x08_HID\x0c\x41\xd0\x05\x01",
        // Name (_UID, One)
        b"\x08_UID\x01",
        // Name (_CRS, ResourceTemplate () {
        b"\x08_CRS\x11\x10\x0a\x0d",
        //   IO (Decode16, 0x3f8, 0x3f8, 1, 8)
        b"\x47\x01\xf8\x03\xf8\x03\x01\x08",
        //   IRQNoFlags () {4}
        b"\x22\x10\x00",
        // })
        b"\x79\x00",
    ];
    assert_eq!(bytes(&dsdt::com1()), expected.concat());
}

/// An integer and what follows it (20.2.3).
fn integer(aml: &[u8]) -> (u32, &[u8]) {
    let bytes = match aml[0] {
        0x00 => return (0, &aml[1..]),
        0x01 => return (1, &aml[1..]),
        0x0a => 1,
        0x0b => 2,
        0x0c => 4,
        op => panic!("not an integer: {op:#x}"),
    };
    let (number, rest) = aml[1..].split_at(bytes);
    let number = number.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte));
    (number, rest)
}

/// Each entry of the `_PRT` package of this name: address, pin, source, index (6.2.13).
fn routes(dsdt: &[u8], name: &[u8; 4]) -> Vec<[u32; 4]> {
    let package = [b"\x08", &name[..], b"\x12"].concat();
    let at = dsdt.windows(6).position(|bytes| bytes == package).unwrap() + package.len();
    // The package's length has up to three more bytes (20.2.4).
    let (count, mut rest) = dsdt[at + 1 + usize::from(dsdt[at] >> 6)..].split_first().unwrap();
    (0..*count)
        .map(|_| {
            assert_eq!((rest[0], rest[2]), (0x12, 4), "a package of four");
            rest = &rest[3..];
            std::array::from_fn(|_| {
                let number;
                (number, rest) = integer(rest);
                number
            })
        })
        .collect()
}

#[test]
fn the_routing_tables_say_what_the_wires_do_in_either_mode() {
    let dsdt = one_cpu().dsdt();
    let places = (0..32u8).flat_map(|device| [Pin::A, Pin::B, Pin::C, Pin::D].map(|pin| (device, pin)));
    let expected = |interrupt: fn(u8, Pin) -> u8| {
        let route = |(device, pin): (u8, Pin)| {
            let address = u32::from(device) << 16 | 0xffff;
            [address, pin as u32 - 1, 0, interrupt(device, pin).into()]
        };
        places.clone().map(route).collect::<Vec<_>>()
    };
    assert_eq!(routes(&dsdt, b"PRTA"), expected(intx::gsi));
    assert_eq!(
        routes(&dsdt, b"PRTP"),
        expected(|device, pin| intx::PIRQ_IRQS[usize::from(intx::pirq(device, pin))])
    );
}

#[test]
fn every_processor_has_a_device_with_its_uid() {
    let dsdt = Memory::new(&AcpiConfig { cpus: 3 }).dsdt();
    let named = |name: &[u8; 4]| dsdt.windows(4).filter(|bytes| bytes == name).count();
    assert_eq!(
        ["C000", "C001", "C002", "C003"].map(|name| named(name.as_bytes().try_into().unwrap())),
        [1, 1, 1, 0]
    );
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut placed = Placed {
        next: AREA.end - 32,
        blobs: Vec::new(),
    };
    assert_eq!(placed.put(16, vec![0; 16]), Ok(0xe_ffe0));
    assert_eq!(placed.put(64, vec![0; 1]), Err(AcpiError::TooLarge(0x1_0001)));
    assert_eq!(placed.put(16, vec![0; 16]), Ok(0xe_fff0));
}
