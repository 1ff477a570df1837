//! The local APIC: priorities, interrupts to itself, its timer (Intel SDM volume 3, chapter 11).

use crate::{count_apic, forget, hit, hits, hits_within, wait_hits};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rt::apic::{self, DIVIDE, INITIAL, IRR, ISR, LVT_TIMER, MASKED, PPR, TPR, bit, get, set};
use rt::{check, check::equal, check::within, io, pic, time, traps};

const TIMER: u8 = 0x41;
const LOW: u8 = 0x51;
const HIGH: u8 = 0x61;
const PERIODIC: u32 = 1 << 17;
const DEADLINE: u32 = 2 << 17;
/// Divide by 16.
const BY_16: u32 = 3;

/// Vectors in their order of arrival, a byte each, latest lowest.
static ORDER: AtomicU64 = AtomicU64::new(0);

pub fn run() {
    pic::only(0);
    for vector in [TIMER, LOW, HIGH] {
        traps::on(vector, count_apic);
    }
    within(
        "lapic: an integrated APIC's version",
        (get(apic::VERSION) & 0xff).into(),
        0x10..=0x15,
    );
    priorities();
    order();
    timer();
    set(LVT_TIMER, MASKED);
    set(INITIAL, 0);
}

fn priorities() {
    forget();
    apic::send_self(LOW);
    check!("lapic: an interrupt to itself arrives", wait_hits(0, 1));
    set(TPR, 0x60);
    equal("lapic: CR8 is the high half of TPR", io::cr8(), 6);
    equal("lapic: PPR follows TPR", (get(PPR) & 0xf0).into(), 0x60);
    forget();
    apic::send_self(LOW);
    equal("lapic: TPR holds a lower class back", hits_within(0, 5), 0);
    check!("lapic: it waits in IRR", bit(IRR, LOW));
    apic::send_self(HIGH);
    equal("lapic: and its own class", hits_within(0, 5), 0);
    io::set_cr8(5);
    equal("lapic: TPR follows CR8", (get(TPR) & 0xf0).into(), 0x50);
    check!("lapic: a higher class gets through", wait_hits(0, 1));
    check!(
        "lapic: the lower one still waits",
        bit(IRR, LOW) && !bit(IRR, HIGH)
    );
    io::set_cr8(0);
    check!("lapic: with CR8 0 it comes", wait_hits(0, 2));
}

fn order() {
    fn note(frame: &mut traps::Frame) {
        ORDER.store(ORDER.load(Relaxed) << 8 | frame.vector, Relaxed);
        if bit(ISR, frame.vector as u8) && !bit(IRR, frame.vector as u8) {
            hit(1);
        }
        hit(0);
        apic::eoi();
    }
    traps::on(LOW, note);
    traps::on(HIGH, note);
    forget();
    apic::send_self(LOW);
    apic::send_self(HIGH);
    check!("lapic: two at once both arrive", wait_hits(0, 2));
    equal(
        "lapic: the higher vector first",
        ORDER.load(Relaxed) & 0xffff,
        u64::from(HIGH) << 8 | u64::from(LOW),
    );
    equal("lapic: each is in ISR, not IRR, in its handler", hits(1), 2);
    check!(
        "lapic: ISR is empty after the EOIs",
        !bit(ISR, LOW) && !bit(ISR, HIGH)
    );
}

fn timer() {
    set(DIVIDE, BY_16);
    set(LVT_TIMER, MASKED | u32::from(TIMER));
    set(INITIAL, u32::MAX);
    let first = get(apic::CURRENT);
    check!(
        "lapic: the timer counts down",
        time::wait_until(|| get(apic::CURRENT) < first)
    );
    // How far it goes in about 10 ms: the period for what follows.
    let before = get(apic::CURRENT);
    time::pass(10);
    let period = before.wrapping_sub(get(apic::CURRENT)).max(1);
    set(INITIAL, 0);
    equal(
        "lapic: an initial count of 0 stops it",
        get(apic::CURRENT).into(),
        0,
    );

    forget();
    set(LVT_TIMER, u32::from(TIMER));
    set(INITIAL, period);
    check!("lapic: one-shot fires", wait_hits(0, 1));
    equal("lapic: one-shot fires once", hits_within(0, 30), 0);
    equal("lapic: and stays at 0", get(apic::CURRENT).into(), 0);
    forget();
    set(LVT_TIMER, PERIODIC | u32::from(TIMER));
    set(INITIAL, period);
    check!("lapic: periodic fires again and again", wait_hits(0, 3));
    set(LVT_TIMER, PERIODIC | MASKED | u32::from(TIMER));
    hits_within(0, 5);
    equal("lapic: masked, it does not", hits_within(0, 30), 0);
    set(INITIAL, 0);
    deadline();
}

fn deadline() {
    let supported = core::arch::x86_64::__cpuid(1).ecx >> 24 & 1 == 1;
    if !supported {
        return;
    }
    let start = io::rdtsc();
    time::pass(10);
    let period = io::rdtsc() - start;
    forget();
    set(LVT_TIMER, DEADLINE | u32::from(TIMER));
    let target = io::rdtsc() + period;
    apic::set_deadline(target);
    check!("lapic: the TSC deadline fires", wait_hits(0, 1));
    check!("lapic: not before its time", io::rdtsc() >= target);
    equal("lapic: the deadline fires once", hits_within(0, 30), 0);
    equal("lapic: and disarms itself", io::rdmsr(0x6e0), 0);
    apic::set_deadline(io::rdtsc() + period);
    apic::set_deadline(0);
    equal("lapic: a deadline of 0 disarms", hits_within(0, 30), 0);
    apic::set_deadline(1);
    check!("lapic: a deadline in the past fires at once", wait_hits(0, 2));
}
