//! What an engine takes from the processor it runs on: the time stamp counter and random numbers.
#![allow(unsafe_code, reason = "RDTSC and RDRAND intrinsics")]

use std::arch::x86_64::{__cpuid, _rdrand64_step, _rdtsc};
use std::time::{Duration, Instant};

/// Hypervisors that name the counter's frequency do so here, in kHz (VMware's leaf, taken over by KVM and others).
const TIMING_LEAF: u32 = 0x4000_0010;
/// CPUID leaf 1, ECX: there is a hypervisor, and leaves from 4000_0000.
const HYPERVISOR: u32 = 1 << 31;
/// How long the counter is measured where nobody names its frequency: good to about 10 parts in a million.
const MEASURE: Duration = Duration::from_millis(10);

/// Readings of both clocks, of which the best counts.
const LOOKS: usize = 5;

/// RDRAND fails only for a moment; so often in a row (Intel's advice is ten) means it is broken.
const TRIES: usize = 10;

/// The host's time stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC has no preconditions; CR4.TSD is clear for processes on every supported host.
    unsafe { _rdtsc() }
}

/// Frequency of the counter in kHz: the hypervisor's word, or measured against the monotonic clock.
pub fn tsc_khz() -> u32 {
    let named = __cpuid(1).ecx & HYPERVISOR != 0 && __cpuid(0x4000_0000).eax >= TIMING_LEAF;
    match named.then(|| __cpuid(TIMING_LEAF).eax) {
        Some(khz) if khz > 0 => khz,
        _ => measure_khz(),
    }
}

fn measure_khz() -> u32 {
    let (start, first) = both_clocks();
    std::thread::sleep(MEASURE);
    let (end, last) = both_clocks();
    let elapsed = end.duration_since(start).as_nanos().max(1);
    let khz = u128::from(last.wrapping_sub(first)) * 1_000_000 / elapsed;
    u32::try_from(khz).unwrap_or(u32::MAX)
}

/// The monotonic clock and the counter at one instant: the closest of a few looks, for on a busy host another process may
/// run between the two readings.
fn both_clocks() -> (Instant, u64) {
    let look = || {
        let before = tsc();
        let clock = Instant::now();
        let between = tsc().wrapping_sub(before);
        (between, clock, before.wrapping_add(between / 2))
    };
    let (_, clock, ticks) = (1..LOOKS)
        .map(|_| look())
        .fold(look(), |best, next| if next.0 < best.0 { next } else { best });
    (clock, ticks)
}

/// Whether [`random`] can work here.
pub fn has_random() -> bool {
    std::arch::is_x86_feature_detected!("rdrand")
}

/// A random number of the silicon's generator; `None` when it has none ready.
pub fn random() -> Option<u64> {
    if !has_random() {
        return None;
    }
    // SAFETY: the feature was just found.
    (0..TRIES).find_map(|_| unsafe { draw() })
}

/// # Safety
/// The host must have RDRAND.
#[target_feature(enable = "rdrand")]
unsafe fn draw() -> Option<u64> {
    let mut value = 0;
    (_rdrand64_step(&mut value) == 1).then_some(value)
}
