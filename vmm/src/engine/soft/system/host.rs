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
    let (start, first) = (Instant::now(), tsc());
    std::thread::sleep(MEASURE);
    let (elapsed, ticks) = (start.elapsed(), tsc().wrapping_sub(first));
    let khz = u128::from(ticks) * 1_000_000 / elapsed.as_nanos().max(1);
    u32::try_from(khz).unwrap_or(u32::MAX)
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
