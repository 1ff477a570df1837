//! What one step of a fuzzed thing may take: a bound on work, in the thread's own processor time, so that a busy host does not
//! count.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// In a debug build with sanitizers: far more than any step takes.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Does a step.
pub fn bounded<T>(step: impl FnOnce() -> T) -> T {
    let began = cpu_time();
    let done = step();
    let took = cpu_time() - began;
    assert!(took < MOST_TIME, "a step took {took:?}");
    done
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every thread has one")
        .into()
}
