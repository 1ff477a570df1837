//! The DSDT: the devices, their resources, the PCI interrupt routing, and how to turn the power off.
//!
//! ```text
//! \_S5_            soft off
//! \PICF, \_PIC     the interrupt mode the OS has chosen
//! \_SB_
//!   C000..         processors
//!   PCI0           host bridge: windows, _PRT
//!     ISA_         RTC_ KBD_ TIMR PIC_ SPKR COM1 RES_
//! ```
//!
//! The AML holds no method that does anything but answer: the routing is fixed at reset, so there are no link
//! devices. Refused: PNP0C0F links over PIRQRC, which let an OS choose among IRQs that are all alike here.
//!
//! Source: ACPI Specification 6.5, chapters 6, 19 and 20.

use super::{AcpiConfig, OEM, OEM_REVISION, OEM_TABLE, bytes};
use crate::dev::chipset::pci::config::Pin;
use crate::dev::chipset::pci::intx;
use crate::dev::chipset::pm::Pm;
use crate::mem::{IOAPIC_BASE, LAPIC_BASE, PCI_HOLE};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Arg, Device, EISAName, IO, If, Memory32Fixed, Method, Name, Package,
    PackageBuilder, Path, ResourceTemplate, Return, Scope, Store, ZERO,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

/// Integers of 64 bits.
const REVISION: u8 = 2;

/// The table.
pub(super) fn table(config: &AcpiConfig) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, REVISION, OEM, OEM_TABLE, OEM_REVISION);
    let mut system_bus: Vec<Encoded> = (0..config.cpus).map(processor).collect();
    system_bus.push(pci_root());
    let system_bus = system_bus.iter().map(|device| device as &dyn Aml).collect();
    let picf = Path::new("\\PICF");
    for object in [
        &soft_off() as &dyn Aml,
        &Name::new(Path::new("PICF"), &ZERO),
        &Method::new(Path::new("_PIC"), 1, false, vec![&Store::new(&picf, &Arg(0))]),
        &Scope::new(Path::new("\\_SB_"), system_bus),
    ] {
        dsdt.append_slice(&bytes(object));
    }
    dsdt
}

/// AML already in bytes: the crate's builders borrow their children, which a function cannot return.
pub(super) struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// An ISA interrupt: the small IRQ descriptor without flags, that is edge, active high, not shared (6.4.2.1). The
/// crate has only the extended one.
struct Irq(u8);

impl Aml for Irq {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        let [low, high] = (1u16 << (self.0 & 15)).to_le_bytes();
        sink.vec(&[0x22, low, high]);
    }
}

/// Ports at a fixed place.
fn ports(first: u16, count: u8) -> IO {
    IO::new(first, first, 1, count)
}

/// `\_S5`: SLP_TYP for PM1a and PM1b, and two reserved.
pub(super) fn soft_off() -> Name {
    let slp_typ = Pm::SLP_TYP_S5;
    Name::new(
        Path::new("_S5_"),
        &Package::new(vec![&slp_typ, &slp_typ, &ZERO, &ZERO]),
    )
}

fn processor(cpu: u8) -> Encoded {
    let name = format!("C{cpu:03X}");
    Encoded(bytes(&Device::new(
        Path::new(&name),
        vec![
            &Name::new(Path::new("_HID"), &"ACPI0007"),
            &Name::new(Path::new("_UID"), &cpu),
        ],
    )))
}

/// A device known by its PNP ID and nothing but its resources.
pub(super) fn pnp(name: &str, id: &str, uid: u8, resources: Vec<&dyn Aml>) -> Encoded {
    Encoded(bytes(&Device::new(
        Path::new(name),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new(id)),
            &Name::new(Path::new("_UID"), &uid),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources)),
        ],
    )))
}

pub(super) fn com1() -> Encoded {
    pnp("COM1", "PNP0501", 1, vec![&ports(0x3f8, 8), &Irq(4)])
}

fn isa_bridge() -> Encoded {
    let address = 0x0001_0000u32;
    Encoded(bytes(&Device::new(
        Path::new("ISA_"),
        vec![
            &Name::new(Path::new("_ADR"), &address),
            &pnp("RTC_", "PNP0B00", 0, vec![&ports(0x70, 4), &Irq(8)]),
            &pnp(
                "KBD_",
                "PNP0303",
                0,
                vec![&ports(0x60, 1), &ports(0x64, 1), &Irq(1)],
            ),
            &pnp("TIMR", "PNP0100", 0, vec![&ports(0x40, 4), &Irq(0)]),
            &pnp(
                "PIC_",
                "PNP0000",
                0,
                vec![&ports(0x20, 2), &ports(0xa0, 2), &Irq(2)],
            ),
            &pnp("SPKR", "PNP0800", 0, vec![&ports(0x61, 1)]),
            &com1(),
            // What an OS must not give to anybody else.
            &pnp(
                "RES_",
                "PNP0C02",
                0,
                vec![
                    &ports(0x80, 16),
                    &ports(0x92, 1),
                    &ports(0x4d0, 2),
                    &ports(Pm::FIRST, 0x40),
                    &Memory32Fixed::new(true, IOAPIC_BASE as u32, 0x1000),
                    &Memory32Fixed::new(true, LAPIC_BASE as u32, 0x1000),
                ],
            ),
        ],
    )))
}

fn pci_root() -> Encoded {
    Encoded(bytes(&Device::new(
        Path::new("PCI0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_CRS"), &windows()),
            &Name::new(Path::new("PRTA"), &routes(&intx::PIRQ_GSIS)),
            &Name::new(Path::new("PRTP"), &routes(&intx::PIRQ_IRQS)),
            &routing(),
            &isa_bridge(),
        ],
    )))
}

/// Bus 0; the configuration ports for the bridge itself; all other ports and the memory of the PCI hole passed on.
fn windows() -> Encoded {
    let (first, last) = (PCI_HOLE as u32, IOAPIC_BASE as u32 - 1);
    let uncached = AddressSpaceCacheable::NotCacheable;
    Encoded(bytes(&ResourceTemplate::new(vec![
        &AddressSpace::new_bus_number(0u16, 0u16),
        &ports(0xcf8, 8),
        &AddressSpace::new_io(0u16, 0x0cf7u16, None),
        &AddressSpace::new_io(0x0d00u16, 0xffffu16, None),
        &AddressSpace::new_memory(uncached, true, first, last, None),
    ])))
}

/// `_PRT`: by the mode that `_PIC` was told.
fn routing() -> Encoded {
    Encoded(bytes(&Method::new(
        Path::new("_PRT"),
        0,
        false,
        vec![
            &If::new(&Path::new("\\PICF"), vec![&Return::new(&Path::new("PRTA"))]),
            &Return::new(&Path::new("PRTP")),
        ],
    )))
}

/// A `_PRT` package: every pin of every device to the interrupt of its PIRQ. The ISA bridge's own pins are in it too;
/// it has none, and the table is regular.
fn routes(of_pirq: &[u8; 4]) -> PackageBuilder {
    let mut routes = PackageBuilder::new();
    for device in 0..32u8 {
        for (number, pin) in [Pin::A, Pin::B, Pin::C, Pin::D].into_iter().enumerate() {
            let address = u32::from(device) << 16 | 0xffff;
            let interrupt = of_pirq[usize::from(intx::pirq(device, pin))];
            routes.add_element(&Package::new(vec![&address, &(number as u8), &ZERO, &interrupt]));
        }
    }
    routes
}
