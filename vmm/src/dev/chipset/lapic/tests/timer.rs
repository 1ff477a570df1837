//! The timer (SDM volume 3, section 11.5.4) in all modes, and its arithmetic against a counter that really ticks.

use super::*;
use crate::dev::chipset::lapic::timer::{MIN_PERIOD, Mode};
use proptest::prelude::*;

const VECTOR: u32 = 0xec;
const PERIODIC: u32 = 1 << 17;
const TSC_DEADLINE: u32 = 2 << 17;
const MASKED: u32 = 1 << 16;
/// Divide by 1.
const BY_1: u32 = 0b1011;

/// An APIC with the timer in this mode, undivided.
fn timer(lvt: u32) -> Bench {
    let mut bench = Bench::enabled();
    bench.write(DIVIDE, BY_1);
    bench.write(LVT_TIMER, VECTOR | lvt);
    bench
}

impl Bench {
    /// Lets time pass; whether the timer's vector is requested afterwards (and takes it back).
    fn fires_at(&mut self, now: u64) -> bool {
        self.now = Ns(now);
        self.lapic.advance(self.now);
        self.drain() == [VECTOR as u8]
    }
}

#[test]
fn one_shot_counts_down_once() {
    let mut bench = timer(0);
    bench.now = Ns(100);
    bench.write(INITIAL_COUNT, 1000);
    assert_eq!(bench.lapic.deadline(), Some(Ns(1100)));
    for (now, count) in [(100, 1000), (101, 999), (1099, 1)] {
        bench.now = Ns(now);
        assert_eq!(bench.read(CURRENT_COUNT), count, "at {now}");
    }
    assert!(!bench.fires_at(1099));
    assert!(bench.fires_at(1100));
    assert_eq!(bench.read(CURRENT_COUNT), 0);
    assert_eq!(bench.read(INITIAL_COUNT), 1000);
    assert_eq!(bench.lapic.deadline(), None);
    assert!(!bench.fires_at(1_000_000));
}

#[test]
fn a_read_sees_the_interrupt_of_a_count_that_has_run_out() {
    let mut bench = timer(0);
    bench.write(INITIAL_COUNT, 10);
    bench.now = Ns(10);
    assert_eq!(bench.read(CURRENT_COUNT), 0);
    assert!(bench.shows(IRR, VECTOR as u8), "though nobody called advance");
}

#[test]
fn the_divider_has_eight_settings() {
    // SDM section 11.5.4, divide configuration register.
    for (divide, by) in [
        (0b0000, 2),
        (0b0001, 4),
        (0b0010, 8),
        (0b0011, 16),
        (0b1000, 32),
        (0b1001, 64),
        (0b1010, 128),
        (0b1011, 1),
    ] {
        let mut bench = timer(0);
        bench.write(DIVIDE, divide);
        bench.write(INITIAL_COUNT, 3);
        assert_eq!(bench.lapic.deadline(), Some(Ns(3 * by)), "divide {divide:#b}");
    }
}

#[test]
fn changing_the_divider_keeps_the_count() {
    let mut bench = timer(0);
    bench.write(INITIAL_COUNT, 1000);
    bench.now = Ns(400);
    bench.write(DIVIDE, 0b0000);
    assert_eq!(bench.read(CURRENT_COUNT), 600);
    assert_eq!(bench.lapic.deadline(), Some(Ns(400 + 1200)));
}

#[test]
fn a_periodic_timer_keeps_its_phase_and_delivers_no_burst() {
    let mut bench = timer(PERIODIC);
    bench.write(INITIAL_COUNT, 1_000_000);
    assert!(bench.fires_at(1_000_000));
    assert_eq!(bench.read(CURRENT_COUNT), 1_000_000);
    assert_eq!(bench.lapic.deadline(), Some(Ns(2_000_000)));
    assert!(bench.fires_at(7_300_000), "five periods late");
    assert_eq!(bench.read(CURRENT_COUNT), 700_000);
    assert_eq!(bench.lapic.deadline(), Some(Ns(8_000_000)));
    assert!(!bench.fires_at(7_999_999));
    assert!(bench.fires_at(8_000_000));
    bench.write(INITIAL_COUNT, 0);
    assert_eq!(bench.lapic.deadline(), None, "a count of 0 stops it");
}

#[test]
fn a_short_period_does_not_keep_the_host_busy() {
    let mut bench = timer(PERIODIC);
    bench.write(INITIAL_COUNT, 1);
    let mut calls = 0;
    while let Some(at) = bench.lapic.deadline().filter(|at| at.0 <= 10 * MIN_PERIOD) {
        assert!(bench.fires_at(at.0.max(bench.now.0)));
        calls += 1;
    }
    assert!((9..=11).contains(&calls), "{calls} calls in ten least periods");
}

#[test]
fn a_masked_timer_counts_and_loses_its_expiry() {
    let mut bench = timer(MASKED);
    bench.write(INITIAL_COUNT, 1000);
    assert_eq!(bench.lapic.deadline(), None, "nobody need call");
    bench.now = Ns(400);
    assert_eq!(bench.read(CURRENT_COUNT), 600);
    bench.now = Ns(2000);
    bench.write(LVT_TIMER, VECTOR);
    assert_eq!(bench.lapic.deadline(), None);
    assert!(!bench.fires_at(3000));
}

#[test]
fn one_shot_and_periodic_change_without_disturbing_the_count() {
    let mut bench = timer(0);
    bench.write(INITIAL_COUNT, 1000);
    bench.now = Ns(600);
    bench.write(LVT_TIMER, VECTOR | PERIODIC);
    assert_eq!(bench.read(CURRENT_COUNT), 400);
    assert!(bench.fires_at(1000));
    assert_eq!(bench.read(CURRENT_COUNT), 1000, "reloaded");
    bench.write(LVT_TIMER, VECTOR);
    assert!(bench.fires_at(2000));
    bench.write(LVT_TIMER, VECTOR | PERIODIC);
    assert_eq!(bench.read(CURRENT_COUNT), 0, "a count that ran out stays there");
    assert_eq!(bench.lapic.deadline(), None);
}

#[test]
fn a_tsc_deadline_fires_once_and_reads_zero() {
    let mut bench = timer(TSC_DEADLINE);
    bench.msr_write(MSR_TSC_DEADLINE, 2001).unwrap(); // two ticks a nanosecond
    assert_eq!(bench.lapic.deadline(), Some(Ns(1001)));
    assert_eq!(bench.msr_read(MSR_TSC_DEADLINE), Ok(2001));
    assert!(!bench.fires_at(1000));
    assert!(bench.fires_at(1001));
    assert_eq!(bench.msr_read(MSR_TSC_DEADLINE), Ok(0));
    assert_eq!(bench.lapic.deadline(), None);
}

#[test]
fn a_tsc_deadline_in_the_past_fires_at_once_and_zero_disarms() {
    let mut bench = timer(TSC_DEADLINE);
    bench.now = Ns(5000);
    bench.msr_write(MSR_TSC_DEADLINE, 1).unwrap();
    assert_eq!(bench.drain(), [VECTOR as u8]);
    assert_eq!(bench.msr_read(MSR_TSC_DEADLINE), Ok(0));
    bench.msr_write(MSR_TSC_DEADLINE, 20_000).unwrap();
    bench.msr_write(MSR_TSC_DEADLINE, 0).unwrap();
    assert_eq!(bench.lapic.deadline(), None);
    assert!(!bench.fires_at(20_000));
}

#[test]
fn a_tsc_deadline_follows_the_counter_when_it_is_set() {
    let mut bench = timer(TSC_DEADLINE);
    bench.msr_write(MSR_TSC_DEADLINE, 10_000).unwrap();
    bench.lapic.set_tsc(TscScale {
        at: Ns(100),
        tsc: 9_000,
        khz: 1_000_000,
    });
    assert_eq!(bench.lapic.deadline(), Some(Ns(1100)));
}

#[test]
fn tsc_deadline_mode_and_the_counter_exclude_each_other() {
    let mut bench = timer(0);
    bench.msr_write(MSR_TSC_DEADLINE, 50).unwrap();
    assert_eq!(bench.msr_read(MSR_TSC_DEADLINE), Ok(0), "ignored in other modes");
    bench.write(INITIAL_COUNT, 1000);
    bench.write(LVT_TIMER, VECTOR | TSC_DEADLINE);
    assert_eq!(bench.lapic.deadline(), None, "the count is disarmed");
    bench.write(INITIAL_COUNT, 1000);
    assert_eq!((bench.read(INITIAL_COUNT), bench.read(CURRENT_COUNT)), (0, 0));
    bench.msr_write(MSR_TSC_DEADLINE, 1_000_000).unwrap();
    bench.write(LVT_TIMER, VECTOR | TSC_DEADLINE);
    assert_eq!(
        bench.lapic.deadline(),
        Some(Ns(500_000)),
        "the same mode again changes nothing"
    );
    bench.write(LVT_TIMER, VECTOR | PERIODIC);
    bench.write(LVT_TIMER, VECTOR | TSC_DEADLINE);
    assert_eq!(
        bench.msr_read(MSR_TSC_DEADLINE),
        Ok(0),
        "the deadline is disarmed"
    );
    bench.write(LVT_TIMER, VECTOR | TSC_DEADLINE | PERIODIC);
    bench.write(INITIAL_COUNT, 1000);
    assert_eq!(bench.lapic.deadline(), None, "the reserved mode does not run");
}

/// A counter that ticks, nanosecond by nanosecond: what the arithmetic must equal.
struct Ticking {
    periodic: bool,
    initial: u32,
    divisor: u64,
    count: u32,
    prescaler: u64,
    zeros: u64,
}

impl Ticking {
    fn tick(&mut self) {
        if self.count == 0 {
            return;
        }
        self.prescaler += 1;
        if self.prescaler == self.divisor {
            self.prescaler = 0;
            self.count -= 1;
            if self.count == 0 {
                self.zeros += 1;
                self.count = if self.periodic { self.initial } else { 0 };
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes, then advance.
    Advance(u64),
    /// Time passes, then only the count is read.
    Look(u64),
    Start(u32),
    Divide(u32),
    Periodic(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..400u64).prop_map(Step::Advance),
        3 => (0..400u64).prop_map(Step::Look),
        1 => (0..60u32).prop_map(Step::Start),
        1 => (0..8u32).prop_map(|bits| Step::Divide(bits & 3 | (bits & 4) << 1)),
        1 => any::<bool>().prop_map(Step::Periodic),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn the_arithmetic_equals_a_counter_that_ticks(steps in steps()) {
        let scale = TscScale { at: Ns(0), tsc: 0, khz: 1_000_000 };
        let mut timer = super::timer::Timer::default();
        let mut model = Ticking { periodic: false, initial: 0, divisor: 2, count: 0, prescaler: 0, zeros: 0 };
        let mut now = Ns(0);
        for step in steps {
            if let Step::Advance(ns) | Step::Look(ns) = step {
                now = now.after(ns);
                (0..ns).for_each(|_| model.tick());
            }
            if !matches!(step, Step::Look(_)) {
                // Any number of zeros since the last call is one expiry.
                prop_assert_eq!(timer.expire(now, &scale), std::mem::take(&mut model.zeros) > 0, "{:?}", step);
                prop_assert!(timer.deadline(&scale).is_none_or(|at| at > now));
            }
            match step {
                Step::Start(initial) => {
                    timer.set_initial(now, initial);
                    (model.initial, model.count, model.prescaler) = (initial, initial, 0);
                }
                Step::Divide(bits) => {
                    timer.set_divide(now, bits);
                    let code = bits & 3 | bits >> 1 & 4;
                    (model.divisor, model.prescaler) = (if code == 7 { 1 } else { 2 << code }, 0);
                }
                Step::Periodic(periodic) => {
                    timer.set_mode(if periodic { Mode::Periodic } else { Mode::OneShot });
                    model.periodic = periodic;
                }
                Step::Advance(_) | Step::Look(_) => {}
            }
            prop_assert_eq!(timer.current(now), model.count, "after {:?} at {:?}", step, now);
        }
    }

    #[test]
    fn the_instant_of_a_tsc_is_the_first_to_reach_it(
        at in 0..1u64 << 40, base in 0..1u64 << 50, khz in 1_000..6_000_000u32, ahead in 0..1u64 << 40,
    ) {
        let scale = TscScale { at: Ns(at), tsc: base, khz };
        let reached = |ns: u64| u128::from(ns - at) * u128::from(khz) / 1_000_000 >= u128::from(ahead);
        let Ns(found) = scale.ns_of_tsc(base + ahead);
        prop_assert!(reached(found));
        prop_assert!(found == at || !reached(found - 1));
    }
}
