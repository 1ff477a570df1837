//! The ACPI timer (ACPI specification, section 4.8.2.1).

use rt::{check, check::within, pit, time};

pub fn run() {
    let start = time::pm();
    check!(
        "pm: the timer advances",
        time::wait_at_most(time::PM_HZ, || time::pm_since(start) > 1000)
    );
    // 20 ms by the PIT, at least so many by the timer; the upper bound only says that the rate is not another one.
    pit::gate2(false);
    pit::start(2, 0, (pit::HZ / 50) as u16);
    pit::gate2(true);
    let start = time::pm();
    let done = time::wait_until(pit::out2);
    let ticks = time::pm_since(start);
    check!("pm: the PIT ends a count of 20 ms", done);
    within(
        "pm: it took as long by the PM timer",
        ticks,
        time::PM_HZ / 55..=time::PM_HZ,
    );
}
