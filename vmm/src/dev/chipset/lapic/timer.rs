//! The APIC timer (Intel SDM volume 3, section 11.5.4): a 32-bit counter that counts down once or again and
//! again, or a deadline on the time stamp counter. A pure state machine in nanoseconds; whether an expiry
//! becomes an interrupt is the local APIC's business.
//!
//! Nothing ticks: the counter is the distance to its next zero, computed when somebody looks.

use super::TscScale;
use crate::time::Ns;

/// Frequency of the clock the divider divides: one tick is one nanosecond. What CPUID leaf 15h must report as
/// the core crystal clock if it reports one.
pub const TIMER_HZ: u64 = Ns::SECOND;

/// A periodic timer asks to be called no more often than this, in nanoseconds. A shorter period still counts
/// right, but its expiries are delivered in one; otherwise a guest could keep the host busy with a period of
/// one tick.
pub(super) const MIN_PERIOD: u64 = 100_000;

/// Bits 17-18 of the LVT timer entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    OneShot,
    Periodic,
    TscDeadline,
    /// Encoding 3, reserved: the timer does not run.
    Reserved,
}

impl Mode {
    /// From the LVT entry.
    pub const fn of_lvt(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// The timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timer {
    mode: Mode,
    /// Divide configuration register.
    divide: u32,
    initial: u32,
    /// When the counter next reaches zero; `None` when it stands.
    zero: Option<Ns>,
    /// When an expiry was last taken.
    expired: Ns,
    /// IA32_TSC_DEADLINE; 0 is disarmed.
    tsc_deadline: u64,
}

impl Timer {
    pub fn initial(&self) -> u32 {
        self.initial
    }

    pub fn divide(&self) -> u32 {
        self.divide
    }

    pub fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// What the clock is divided by, 1..=128 (SDM section 11.5.4).
    fn divisor(&self) -> u64 {
        match self.divide & 3 | self.divide >> 1 & 4 {
            7 => 1,
            power => 2 << power,
        }
    }

    /// Length of a whole count in nanoseconds.
    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    /// The counter at `now`. It shows the initial count at the start and when it reloads.
    pub fn current(&self, now: Ns) -> u32 {
        let Some(zero) = self.zero else { return 0 };
        let left = match zero.0.checked_sub(now.0) {
            Some(left) if left > 0 => left,
            _ if self.mode == Mode::Periodic && self.period() > 0 => {
                let period = self.period();
                period - now.since(zero) % period
            }
            _ => 0,
        };
        u32::try_from(left.div_ceil(self.divisor())).unwrap_or(u32::MAX)
    }

    /// Writes the initial count: starts the counter; 0 stops it. Without effect in TSC-deadline mode.
    pub fn set_initial(&mut self, now: Ns, initial: u32) {
        if self.mode.counts() {
            self.initial = initial;
            self.zero = (initial != 0).then(|| now.after(self.period()));
        }
    }

    /// Writes the divide configuration. A running counter goes on from where it is, at the new speed.
    pub fn set_divide(&mut self, now: Ns, divide: u32) {
        let left = self.current(now);
        self.divide = divide;
        if self.zero.is_some() {
            self.zero = Some(now.after(u64::from(left) * self.divisor()));
        }
    }

    /// Follows the LVT entry. Into and out of TSC-deadline mode everything is disarmed (SDM section 11.5.4.1);
    /// between one-shot and periodic the counter goes on, as processors do and kvm-unit-tests checks.
    pub fn set_mode(&mut self, mode: Mode) {
        if mode.counts() != self.mode.counts() || !mode.counts() && mode != self.mode {
            self.zero = None;
            self.initial = 0;
            self.tsc_deadline = 0;
        }
        self.mode = mode;
    }

    /// Writes IA32_TSC_DEADLINE; ignored in other modes.
    pub fn set_tsc_deadline(&mut self, deadline: u64) {
        if self.mode == Mode::TscDeadline {
            self.tsc_deadline = deadline;
        }
    }

    /// When it next expires.
    fn expiry(&self, tsc: &TscScale) -> Option<Ns> {
        match self.mode {
            Mode::OneShot | Mode::Periodic => self.zero,
            Mode::TscDeadline => (self.tsc_deadline != 0).then(|| tsc.ns_of_tsc(self.tsc_deadline)),
            Mode::Reserved => None,
        }
    }

    /// When it wants [`expire`](Self::expire) called.
    pub fn deadline(&self, tsc: &TscScale) -> Option<Ns> {
        let expiry = self.expiry(tsc)?;
        Some(match self.mode {
            Mode::Periodic if self.period() < MIN_PERIOD => expiry.max(self.expired.after(MIN_PERIOD)),
            _ => expiry,
        })
    }

    /// Whether it has expired by `now`, once, however many periods that were; a periodic one keeps its phase.
    pub fn expire(&mut self, now: Ns, tsc: &TscScale) -> bool {
        let Some(expiry) = self.expiry(tsc).filter(|expiry| *expiry <= now) else {
            return false;
        };
        self.tsc_deadline = 0;
        self.expired = now;
        let period = self.period();
        self.zero = (self.mode == Mode::Periodic && period > 0)
            .then(|| now.after(period - now.since(expiry) % period));
        true
    }
}
