//! The test framework: named checks, a count, and the way out.

use crate::io::{cli, outb};
use crate::{acpi, say, serial::Hex};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where a byte ends the machine: vmapp's `debug_exit`, QEMU's isa-debug-exit.
const DEBUG_EXIT: u16 = 0xf4;

static PASSED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Notes a result; see [`check!`](crate::check!).
pub fn note(name: &str, ok: bool) {
    let count = if ok { &PASSED } else { &FAILED };
    count.fetch_add(1, Relaxed);
    say!(if ok { "ok " } else { "FAIL " }, name, "\n");
}

/// Notes whether a value is the wanted one, and both if it is not.
pub fn equal(name: &str, got: u64, wanted: u64) {
    note(name, got == wanted);
    if got != wanted {
        say!("  got ", Hex(got), ", wanted ", Hex(wanted), "\n");
    }
}

/// Notes whether a value lies in a range.
pub fn within(name: &str, got: u64, range: core::ops::RangeInclusive<u64>) {
    note(name, range.contains(&got));
    if !range.contains(&got) {
        say!(
            "  got ",
            got,
            ", wanted ",
            *range.start(),
            " to ",
            *range.end(),
            "\n"
        );
    }
}

/// `check!(name, condition)`: prints `ok name` or `FAIL name` and counts.
#[macro_export]
macro_rules! check {
    ($name:expr, $condition:expr $(,)?) => {
        $crate::check::note($name, $condition)
    };
}

/// Prints the count and leaves: 0 if nothing failed, else 1. A guest without checks powers off.
pub fn finish() -> ! {
    let (passed, failed) = (PASSED.load(Relaxed), FAILED.load(Relaxed));
    if passed + failed == 0 {
        acpi::power_off();
    }
    say!("guest: ", passed, " passed, ", failed, " failed\n");
    exit(u8::from(failed > 0))
}

/// Leaves through the debug-exit port with this code.
pub fn exit(code: u8) -> ! {
    outb(DEBUG_EXIT, code);
    say!("guest: no debug-exit port at 0xf4\n");
    stop()
}

/// Halts for good.
pub fn stop() -> ! {
    loop {
        cli();
        // SAFETY: halting with interrupts off ends here.
        unsafe { core::arch::asm!("hlt", options(nostack)) };
    }
}
