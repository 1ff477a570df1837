//! The few words the two sides watch each other through. Each has a cache line pair of its own, so that a side
//! polling one never slows the side that writes another.

use super::WORDS_AT;

/// `u64`, bit n: channel n has requests for vmapp. Set by the vmm, taken (swapped with 0) by vmapp.
pub const PENDING: usize = WORDS_AT;
/// `u64`, bit n: channel n has something for the vmm (the IRQ bitmap). Set by vmapp, taken by the vmm.
pub const IRQ_BITMAP: usize = WORDS_AT + 0x80;
/// `u32`, a [`Waiting`] value: what the vmm announced about itself. The waker sets it back to `Awake`.
pub const VMM_WAITING: usize = WORDS_AT + 0x100;
/// `u32`, a [`Waiting`] value: what vmapp announced about itself. The waker sets it back to `Awake`.
pub const APP_WAITING: usize = WORDS_AT + 0x180;
/// `u64`: raised by vmapp each time round its wait loop; the supervisor's watchdog reads it.
pub const APP_HEARTBEAT: usize = WORDS_AT + 0x200;

/// What a side has announced before it stops looking at its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Waiting {
    /// It looks at its word by itself: no wake-up needed.
    Awake = 0,
    /// It blocks on its doorbell: write the doorbell.
    Asleep = 1,
    /// It runs guest code under hardware virtualization and cannot look: write the kick doorbell.
    InGuest = 2,
}

impl Waiting {
    /// A peer may write anything; an unknown value counts as asleep, which costs one needless wake-up and loses none.
    pub fn from_shared(raw: u32) -> Self {
        match raw {
            0 => Self::Awake,
            2 => Self::InGuest,
            _ => Self::Asleep,
        }
    }
}

const _: () = {
    assert!(PENDING.is_multiple_of(128) && IRQ_BITMAP.is_multiple_of(128));
    assert!(
        VMM_WAITING.is_multiple_of(128)
            && APP_WAITING.is_multiple_of(128)
            && APP_HEARTBEAT.is_multiple_of(128)
    );
    assert!(APP_HEARTBEAT + 8 <= super::VMM_COUNTERS_AT);
};
