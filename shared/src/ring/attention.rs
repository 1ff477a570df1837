//! Who must be told, and is a doorbell owed: the wake-up protocol.
//!
//! Each side has one *bits* word the other sets bits in, and one *waiting* word in which it announces that it is
//! about to stop looking. The waker does: publish the ring, set the bit, **fence**, look at the waiting word. The
//! sleeper does: announce in the waiting word, **fence**, look at the bits, and only then sleep. The two full fences
//! make it impossible for both to miss the other (store buffering), which is the whole protocol; it is modelled with
//! loom in `tests/loom.rs`.
//!
//! The waker swaps the waiting word back to `Awake`, so that one sleep costs one doorbell however many bits follow.

use crate::abi::words::{APP_WAITING, IRQ_BITMAP, PENDING, VMM_WAITING, Waiting};
use crate::mem::Memory;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Which side of the crossing this code runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Guest side.
    Vmm,
    /// Host side.
    App,
}

/// What a publication owes the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an owed doorbell that is not rung is a lost wake-up"]
pub enum Owed {
    /// The peer is looking: nothing.
    Nothing,
    /// The peer sleeps: ring its doorbell.
    Doorbell,
    /// The peer runs guest code: ring its kick.
    Kick,
}

/// One side's view of the words.
#[derive(Clone)]
pub struct Attention<M: Memory> {
    mem: M,
    own_bits: usize,
    own_waiting: usize,
    peer_bits: usize,
    peer_waiting: usize,
    /// See [`set_deaf`](Attention::set_deaf). In this process's own memory, where no peer can set it.
    deaf: Arc<AtomicBool>,
}

impl<M: Memory> Attention<M> {
    /// The view of `side`.
    pub fn new(mem: M, side: Side) -> Self {
        let (own_bits, own_waiting, peer_bits, peer_waiting) = match side {
            Side::Vmm => (IRQ_BITMAP, VMM_WAITING, PENDING, APP_WAITING),
            Side::App => (PENDING, APP_WAITING, IRQ_BITMAP, VMM_WAITING),
        };
        Self {
            mem,
            own_bits,
            own_waiting,
            peer_bits,
            peer_waiting,
            deaf: Arc::default(),
        }
    }

    /// Tells the peer that `channel` (below 64) has something; call after publishing the ring.
    pub fn signal(&self, channel: u8) -> Owed {
        if self.post(channel) {
            self.wake()
        } else {
            Owed::Nothing
        }
    }

    /// The first half of [`signal`](Self::signal): sets the peer's bit. True: it has announced that it stops looking, and
    /// is owed a [`wake`](Self::wake), now or when the caller chooses. False: it looks, and will see the bit.
    #[must_use = "a peer that sleeps and is never woken"]
    pub fn post(&self, channel: u8) -> bool {
        self.mem
            .fetch_or_u64(self.peer_bits, 1 << (channel & 63), Release);
        self.mem.fence();
        self.mem.load_u32(self.peer_waiting, Relaxed) != Waiting::Awake as u32
    }

    /// Whether the peer has yet to take one of `bits` (bit n is channel n). False: it has looked since they were set, and
    /// sees what was published before.
    pub fn pending(&self, bits: u64) -> bool {
        self.mem.load_u64(self.peer_bits, Relaxed) & bits != 0
    }

    /// The second half of [`signal`](Self::signal): takes the peer's announcement, so that it is woken once.
    pub fn wake(&self) -> Owed {
        match Waiting::from_shared(
            self.mem
                .swap_u32(self.peer_waiting, Waiting::Awake as u32, AcqRel),
        ) {
            Waiting::Awake => Owed::Nothing,
            Waiting::Asleep => Owed::Doorbell,
            Waiting::InGuest => Owed::Kick,
        }
    }

    /// Whether any bit is set for us: one plain load where none is, made for a hot path.
    #[inline]
    pub fn any(&self) -> bool {
        self.mem.load_u64(self.own_bits, Relaxed) != 0 && !self.deaf()
    }

    /// Makes this handle and its clones find nothing for a while, whatever the peer signals: the bits stay. Who says so
    /// looks again by itself; nobody is told to wake us.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Relaxed);
    }

    /// Whether [`any`](Self::any) is to find nothing for now.
    pub fn deaf(&self) -> bool {
        self.deaf.load(Relaxed)
    }

    /// Takes all bits set for us. What was published before a bit was set is visible after.
    pub fn take(&self) -> u64 {
        if self.any() {
            self.mem.swap_u64(self.own_bits, 0, AcqRel)
        } else {
            0
        }
    }

    /// Sets bits of our own word: what a predecessor may have taken and not done, or what we took and will not do now.
    pub fn remind(&self, bits: u64) {
        self.mem.fetch_or_u64(self.own_bits, bits, Release);
    }

    /// Announces that we are about to stop looking. True: nothing is waiting, go and sleep (or enter the guest).
    /// False: there is work; the announcement is withdrawn.
    pub fn announce(&self, how: Waiting) -> bool {
        self.mem.store_u32(self.own_waiting, how as u32, Relaxed);
        self.mem.fence();
        if self.mem.load_u64(self.own_bits, Acquire) == 0 {
            return true;
        }
        self.awake();
        false
    }

    /// Withdraws the announcement after waking up.
    pub fn awake(&self) {
        self.mem
            .store_u32(self.own_waiting, Waiting::Awake as u32, Relaxed);
    }
}
