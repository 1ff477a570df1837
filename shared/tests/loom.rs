//! Every interleaving, within a bound on preemptions, of the ring and of the wake-up protocol over loom's memory model.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shared --release --test loom --target-dir target/loom`
//!
//! The memory under test is made of loom's atomics and, for the slots, of loom's cells, which fail the model when two
//! threads reach one without an order between them: a slot read before it is published, or written before it is given
//! back. Lost wake-ups show as a failed assertion (the short models) or as a deadlock (the long one, where the sleeper
//! really blocks).
#![cfg(loom)]
#![allow(
    unsafe_code,
    reason = "loom's cell gives access by pointer, and checks that access itself"
)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use shared::abi::words::{APP_WAITING, IRQ_BITMAP, PENDING, VMM_WAITING, Waiting};
use shared::abi::{RingLayout, RingOffsets, SlotHeader};
use shared::mem::Memory;
use shared::ring::{Attention, Consumer, Owed, Producer, Side};

const SLOTS: u32 = 2;
const SLOT_BYTES: u32 = 64;
/// Behind the shared words, so that both fit one memory.
const RING_AT: usize = 0x4000;
const RING: RingLayout = RingLayout {
    at: RING_AT,
    slots: SLOTS,
    slot_bytes: SLOT_BYTES,
};

/// Only the words the code under test may touch exist; any other offset fails the test.
#[derive(Clone)]
struct LoomMemory(Arc<Words>);

struct Words {
    small: [(usize, AtomicU32); 5],
    bits: [(usize, AtomicU64); 2],
    slots: Vec<UnsafeCell<[u8; SLOT_BYTES as usize]>>,
}

// SAFETY: the cells are reached by two threads on purpose; loom stops the model at the first access that is not ordered
// after the other thread's.
unsafe impl Sync for Words {}
// SAFETY: bytes and atomics belong to no thread.
unsafe impl Send for Words {}

impl LoomMemory {
    fn new() -> Self {
        let small = [
            VMM_WAITING,
            APP_WAITING,
            RING_AT + RingOffsets::HEAD,
            RING_AT + RingOffsets::WANTED,
            RING_AT + RingOffsets::TAIL,
        ];
        Self(Arc::new(Words {
            small: small.map(|at| (at, AtomicU32::new(0))),
            bits: [PENDING, IRQ_BITMAP].map(|at| (at, AtomicU64::new(0))),
            slots: (0..SLOTS)
                .map(|_| UnsafeCell::new([0; SLOT_BYTES as usize]))
                .collect(),
        }))
    }

    fn u32_at(&self, at: usize) -> &AtomicU32 {
        let found = self.0.small.iter().find(|(known, _)| *known == at);
        &found.expect("not a shared u32").1
    }

    fn u64_at(&self, at: usize) -> &AtomicU64 {
        let found = self.0.bits.iter().find(|(known, _)| *known == at);
        &found.expect("not a shared u64").1
    }

    /// The slot an offset lies in, and where in it.
    fn slot(&self, at: usize) -> (&UnsafeCell<[u8; SLOT_BYTES as usize]>, usize) {
        let at = at - RING_AT - RingOffsets::SLOTS;
        let bytes = SLOT_BYTES as usize;
        (&self.0.slots[at / bytes], at % bytes)
    }
}

impl Memory for LoomMemory {
    fn len(&self) -> usize {
        RING_AT + RING.bytes()
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.u32_at(at).load(order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.u32_at(at).store(value, order);
    }
    fn swap_u32(&self, at: usize, value: u32, order: Ordering) -> u32 {
        self.u32_at(at).swap(value, order)
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.u64_at(at).load(order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.u64_at(at).store(value, order);
    }
    fn swap_u64(&self, at: usize, value: u64, order: Ordering) -> u64 {
        self.u64_at(at).swap(value, order)
    }
    fn fetch_or_u64(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        self.u64_at(at).fetch_or(bits, order)
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    fn read(&self, at: usize, into: &mut [u8]) {
        let (slot, from) = self.slot(at);
        // SAFETY: loom has just checked that nobody writes the cell meanwhile.
        slot.with(|bytes| into.copy_from_slice(&unsafe { *bytes }[from..from + into.len()]));
    }
    fn write(&self, at: usize, from: &[u8]) {
        let (slot, to) = self.slot(at);
        // SAFETY: loom has just checked that nobody reads or writes the cell meanwhile.
        slot.with_mut(|bytes| unsafe { &mut *bytes }[to..to + from.len()].copy_from_slice(from));
    }
}

fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

fn push(producer: &mut Producer<LoomMemory>, id: u64) -> bool {
    let pushed = producer.push(1, id, &(!id).to_le_bytes()).is_ok();
    producer.publish();
    pushed
}

fn next(consumer: &mut Consumer<LoomMemory>) -> Option<u64> {
    let mut payload = Vec::new();
    let SlotHeader { id, len, kind, .. } = consumer.next(&mut payload).expect("an honest peer")?;
    assert_eq!((len, kind), (8, 1), "header and index do not belong together");
    assert_eq!(
        payload,
        (!id).to_le_bytes(),
        "payload and index do not belong together"
    );
    Some(id)
}

#[test]
fn every_slot_arrives_once_in_order_and_is_not_overwritten_while_read() {
    check(Some(3), || {
        let mem = LoomMemory::new();
        let mut producer = Producer::attach(mem.clone(), RING).unwrap();
        let mut consumer = Consumer::attach(mem, RING).unwrap();
        let writer = thread::spawn(move || {
            // One more than the ring has slots: the last waits for a slot to come back.
            for id in 1..=u64::from(SLOTS) + 1 {
                while !push(&mut producer, id) {
                    thread::yield_now();
                }
            }
        });
        for id in 1..=u64::from(SLOTS) + 1 {
            let got = loop {
                match next(&mut consumer) {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(got, id);
            // The producer never waits for a signal here; it looks.
            let _owed: bool = consumer.release(1);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_producer_that_waits_for_credit_is_told() {
    check(None, || {
        let mem = LoomMemory::new();
        let mut producer = Producer::attach(mem.clone(), RING).unwrap();
        for id in 0..u64::from(SLOTS) {
            assert!(push(&mut producer, id));
        }
        let mut consumer = Consumer::attach(mem, RING).unwrap();
        let reader = thread::spawn(move || {
            let mut owed = false;
            for _ in 0..SLOTS {
                next(&mut consumer).expect("published before");
                owed |= consumer.release(1);
            }
            owed
        });
        let waits = producer.want_credit().unwrap();
        let told = reader.join().unwrap();
        assert!(told || !waits, "the producer waits and nobody will tell it");
    });
}

/// One announcement against two signals: whoever stops looking is owed a ring, of the right kind.
fn nobody_sleeps_through(how: Waiting, ring: Owed) {
    check(None, move || {
        let mem = LoomMemory::new();
        let waker = Attention::new(mem.clone(), Side::App);
        let sleeper = Attention::new(mem, Side::Vmm);
        let signals = thread::spawn(move || [waker.signal(3), waker.signal(5)]);
        let stopped_looking = sleeper.announce(how);
        let seen = if stopped_looking { 0 } else { sleeper.take() };
        let owed = signals.join().unwrap();
        if stopped_looking {
            assert!(owed.contains(&ring), "asleep, and owed only {owed:?}");
            assert!(
                owed.contains(&Owed::Nothing),
                "one sleep costs one ring: {owed:?}"
            );
        } else {
            assert_ne!(seen, 0, "stayed awake for nothing");
        }
        assert_eq!(seen | sleeper.take(), 1 << 3 | 1 << 5, "a bit was lost");
    });
}

#[test]
fn no_signal_is_slept_through() {
    nobody_sleeps_through(Waiting::Asleep, Owed::Doorbell);
}

#[test]
fn no_signal_is_missed_in_guest_code() {
    nobody_sleeps_through(Waiting::InGuest, Owed::Kick);
}

/// A doorbell as the kernel gives it: a count and a way to block on it.
struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.waiting.notify_one();
    }
    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.waiting.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// Ring and wake-up together, over several sleeps: a message without a wake-up would leave the reader blocked for ever,
/// which loom reports. Also shows that a ring for an earlier sleep cannot stand in for a later one.
fn every_message_wakes(how: Waiting) {
    check(Some(3), move || {
        const MESSAGES: u64 = 2;
        let mem = LoomMemory::new();
        let bell = Arc::new(Bell {
            rung: Mutex::new(false),
            waiting: Condvar::new(),
        });
        let mut producer = Producer::attach(mem.clone(), RING).unwrap();
        let waker = Attention::new(mem.clone(), Side::App);
        let rings = bell.clone();
        let writer = thread::spawn(move || {
            for id in 0..MESSAGES {
                assert!(push(&mut producer, id));
                if waker.signal(0) != Owed::Nothing {
                    rings.ring();
                }
            }
        });
        let sleeper = Attention::new(mem.clone(), Side::Vmm);
        let mut consumer = Consumer::attach(mem, RING).unwrap();
        let mut expected = 0;
        loop {
            sleeper.take();
            while let Some(id) = next(&mut consumer) {
                assert_eq!(id, expected);
                expected += 1;
            }
            if expected == MESSAGES {
                break;
            }
            if sleeper.announce(how) {
                bell.sleep();
                sleeper.awake();
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn every_message_wakes_a_sleeper() {
    every_message_wakes(Waiting::Asleep);
}

#[test]
fn every_message_gets_a_guest_kicked() {
    every_message_wakes(Waiting::InGuest);
}
