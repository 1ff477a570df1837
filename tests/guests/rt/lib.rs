//! Support for guests in long mode: entry from every boot protocol, traps, the chipset's registers, a test framework.
//!
//! A guest defines `guest_main`, called once with interrupts off, both PICs masked and COM1 ready; returning from it
//! ends the guest with the [`check`]s' result. There is no heap and one CPU; nothing here waits without a bound.
//!
//! The machine is the guest's alone, so port, register and memory accesses are safe functions here: what they can
//! break is the machine under test, which is their purpose.
#![no_std]

pub mod acpi;
pub mod apic;
pub mod check;
pub mod cmdline;
pub mod entry;
pub mod io;
mod mem;
pub mod pic;
pub mod pit;
pub mod serial;
pub mod time;
pub mod traps;

unsafe extern "C" {
    fn guest_main();
}

/// Called by the entry code on the boot stack.
#[unsafe(no_mangle)]
extern "C" fn rt_main(protocol: u64, info: u64) -> ! {
    serial::init();
    cmdline::init(protocol, info);
    traps::init();
    pic::init();
    apic::virtual_wire();
    // SAFETY: every guest defines it with this signature.
    unsafe { guest_main() };
    check::finish()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    say!(
        "guest: panic at line ",
        info.location().map_or(0, |l| u64::from(l.line())),
        "\n"
    );
    check::exit(2)
}
