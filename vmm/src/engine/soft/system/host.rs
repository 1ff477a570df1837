//! What an engine takes from the processor it runs on: the time stamp counter and random numbers.
#![allow(unsafe_code, reason = "RDTSC and RDRAND intrinsics")]

use std::arch::x86_64::{_rdrand64_step, _rdtsc};

/// RDRAND fails only for a moment; so often in a row (Intel's advice is ten) means it is broken.
const TRIES: usize = 10;

/// The host's time stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC has no preconditions; CR4.TSD is clear for processes on every supported host.
    unsafe { _rdtsc() }
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
