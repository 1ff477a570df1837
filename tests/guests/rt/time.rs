//! Time by the ACPI timer: waiting with a bound, and measuring.

use crate::acpi;
use crate::io::inl;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Frequency of the ACPI timer in Hz (ACPI specification, section 4.8.2.1).
pub const PM_HZ: u64 = 3_579_545;
/// Bits that every implementation has.
const PM_MASK: u32 = 0xff_ffff;

static PORT: AtomicU32 = AtomicU32::new(0);

/// The timer's 24 low bits.
pub fn pm() -> u32 {
    if PORT.load(Relaxed) == 0 {
        PORT.store(acpi::fixed().map_or(0, |f| u32::from(f.pm_timer)), Relaxed);
    }
    inl(PORT.load(Relaxed) as u16) & PM_MASK
}

/// Ticks from `since` to now; right for less than 4.6 s.
pub fn pm_since(since: u32) -> u64 {
    u64::from(pm().wrapping_sub(since) & PM_MASK)
}

/// Waits for a condition for at most 4 s, by a timer that moves; says whether it came true.
///
/// Interrupts are as the caller left them.
pub fn wait_until(condition: impl FnMut() -> bool) -> bool {
    wait_at_most(4 * PM_HZ, condition)
}

/// Waits for a condition for at most so many timer ticks.
pub fn wait_at_most(ticks: u64, mut condition: impl FnMut() -> bool) -> bool {
    let mut last = pm();
    let (mut elapsed, mut stuck) = (0, 0);
    while elapsed < ticks && stuck < 1_000_000 {
        if condition() {
            return true;
        }
        let step = pm_since(last);
        last = last.wrapping_add(step as u32) & PM_MASK;
        elapsed += step;
        stuck = if step == 0 { stuck + 1 } else { 0 };
    }
    condition()
}

/// Lets so many milliseconds pass.
pub fn pass(ms: u64) {
    wait_at_most(ms * PM_HZ / 1000, || false);
}
