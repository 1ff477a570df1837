//! The PC chipset: interrupt controllers, timers, clock, PCI configuration and power management, the same for every
//! engine.

pub mod acpi;
pub mod interrupts;
pub mod ioapic;
pub mod lapic;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod rtc;
