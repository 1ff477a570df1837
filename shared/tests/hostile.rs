//! A peer that writes anything anywhere, between our operations and during them.
//!
//! What must hold: every outcome is a value or a typed error, no operation does more work than a ring has slots, what is
//! returned is within what was asked for, and the honest side's own state survives.

use proptest::prelude::*;
use shared::abi::words::{APP_WAITING, IRQ_BITMAP, PENDING, VMM_WAITING, Waiting};
use shared::abi::{ChannelKind, ChannelShape, Layout, RingLayout};
use shared::mem::{Mapped, Memory};
use shared::ring::{Attention, Consumer, Producer, PushError, RingError, Side};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SLOTS: u32 = 4;

fn machine() -> (Mapped, RingLayout, RingLayout) {
    let layout = Layout::plan(&[ChannelShape {
        kind: ChannelKind::Control,
        down_slots: SLOTS,
        up_slots: SLOTS,
        slot_bytes: 128,
    }])
    .unwrap();
    let channel = layout.channels()[0];
    (Mapped::heap(layout.total()), channel.down, channel.up)
}

/// Places a hostile peer would aim at: every shared word, the slot headers, and payloads.
fn targets(down: RingLayout, up: RingLayout) -> Vec<usize> {
    let mut at = vec![
        PENDING,
        PENDING + 4,
        IRQ_BITMAP,
        IRQ_BITMAP + 4,
        VMM_WAITING,
        APP_WAITING,
    ];
    for ring in [down, up] {
        at.extend([ring.at, ring.at + 64, ring.at + 128]);
        for slot in 0..SLOTS {
            at.extend((0..20).step_by(4).map(|n| ring.slot_at(slot) + n));
        }
    }
    at
}

/// One side at its honest work. Panics on anything but values in range and typed errors.
struct Honest {
    producer: Producer<Mapped>,
    consumer: Consumer<Mapped>,
    attention: Attention<Mapped>,
    payload: Vec<u8>,
    next_id: u64,
    /// Errors met: head, tail, length. A run that met none of a kind has tested nothing.
    met: [u32; 3],
}

impl Honest {
    fn new(mem: &Mapped, down: RingLayout, up: RingLayout) -> Self {
        Self {
            producer: Producer::attach(mem.clone(), down).unwrap(),
            consumer: Consumer::attach(mem.clone(), up).unwrap(),
            attention: Attention::new(mem.clone(), Side::Vmm),
            payload: Vec::new(),
            next_id: 0,
            met: [0; 3],
        }
    }

    fn work(&mut self, what: u8) {
        match what % 8 {
            0 => match self.producer.push(1, self.next_id, &[0x5a; 100]) {
                Ok(()) => self.next_id += 1,
                Err(PushError::Full) => {}
                Err(PushError::Ring(RingError::Tail { .. })) => self.met[1] += 1,
                Err(other) => panic!("{other}"),
            },
            1 => {
                self.producer.publish();
                // Owed to a liar or not, the answer is one of three.
                let _owed = self.attention.signal(0);
            }
            2 => match self.producer.credit() {
                Ok(credit) => assert!(credit <= SLOTS),
                Err(RingError::Tail { .. }) => {}
                Err(other) => panic!("{other}"),
            },
            3 => match self.consumer.next(&mut self.payload) {
                Ok(Some(header)) => assert_eq!(self.payload.len(), header.len as usize),
                Ok(None) => {}
                Err(RingError::Head { .. }) => self.met[0] += 1,
                Err(RingError::Length { len, max, .. }) => {
                    assert!(len as usize > max);
                    self.met[2] += 1;
                }
                Err(other) => panic!("{other}"),
            },
            4 => {
                let _owed = self.consumer.release(u32::from(what >> 3));
            }
            5 => match self.producer.want_credit() {
                Ok(_) | Err(RingError::Tail { .. }) => {}
                Err(other) => panic!("{other}"),
            },
            6 => {
                self.attention.take();
            }
            _ => {
                self.attention.announce(Waiting::Asleep);
                self.attention.awake();
            }
        }
        assert!(
            self.payload.capacity() <= 256,
            "a peer made us allocate {}",
            self.payload.capacity()
        );
        assert!(self.consumer.held() <= SLOTS && self.producer.unpublished() <= SLOTS);
    }

    /// Takes the rings up where the peer left them, as a successor would, if that is possible.
    fn restart(&mut self, mem: &Mapped, down: RingLayout, up: RingLayout) {
        match Producer::attach(mem.clone(), down) {
            Ok(producer) => self.producer = producer,
            Err(error) => assert!(matches!(error, RingError::Attach { .. }), "{error}"),
        }
        match Consumer::attach(mem.clone(), up) {
            Ok(consumer) => self.consumer = consumer,
            Err(error) => assert!(matches!(error, RingError::Attach { .. }), "{error}"),
        }
    }

    /// Reads all there is: a ring's worth at most, however the peer writes meanwhile, once nothing is given back.
    fn drain(&mut self) {
        let mut reads = 0;
        while let Ok(Some(_)) | Err(RingError::Length { .. }) = self.consumer.next(&mut self.payload) {
            reads += 1;
            assert!(reads <= SLOTS, "more slots than the ring has");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn garbage_between_operations_gives_only_typed_errors(
        steps in proptest::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<u32>(), 0u8..4), 1..300),
    ) {
        let (mem, down, up) = machine();
        let targets = targets(down, up);
        let mut honest = Honest::new(&mem, down, up);
        for (what, target, value, size) in steps {
            // Small values pass more checks than large ones, so they go deeper.
            let value = match size { 0 => value % 8, 1 => value % 256, 2 => value.wrapping_neg() % 8, _ => value };
            mem.store_u32(targets[target.index(targets.len())], value, Relaxed);
            honest.work(what);
        }
        honest.drain();
    }
}

/// Ends the other thread when a test ends, however that ends.
struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Overwrites shared words until told to stop: with anything, with small numbers, and with indices an honest peer could
/// write, for those get past the first check.
fn scribble(mem: &Mapped, down: RingLayout, up: RingLayout, done: &AtomicBool) {
    let targets = targets(down, up);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    while !done.load(Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let few = (random >> 20) as u32 % 8;
        let anywhere = targets[(random >> 40) as usize % targets.len()];
        let (target, value) = match random % 5 {
            0 => (anywhere, few),
            1 => (anywhere, random as u32 >> (random & 24)),
            2 => (up.at, mem.load_u32(up.at + 128, Relaxed).wrapping_add(few)),
            3 => (down.at + 128, mem.load_u32(down.at, Relaxed).wrapping_sub(few)),
            _ => (up.slot_at(few), (2 * few) << (random & 15)),
        };
        mem.store_u32(target, value, Relaxed);
    }
}

#[test]
fn garbage_from_a_concurrent_peer_gives_only_typed_errors() {
    let (mem, down, up) = machine();
    let mut honest = Honest::new(&mem, down, up);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| scribble(&mem, down, up, &done));
        let _finally = Finally(&done);
        // However long the other thread waits for a processor.
        let limit = Instant::now() + Duration::from_secs(60);
        for round in 0u32.. {
            honest.work(round.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]);
            if round.is_multiple_of(64) {
                honest.drain();
                honest.restart(&mem, down, up);
            }
            let enough = round > 500_000 && honest.met.iter().all(|&met| met > 1000);
            if round.is_multiple_of(1024) && (enough || Instant::now() > limit) {
                break;
            }
        }
    });
    assert!(
        honest.met.iter().all(|&met| met > 1000),
        "errors met: {:?}",
        honest.met
    );
}

/// A snapshot once taken is not read again: the peer rewrites a slot after we read its header.
#[test]
fn a_length_that_grows_after_the_check_is_not_believed() {
    let (mem, down, up) = machine();
    let mut honest = Honest::new(&mem, down, up);
    let mut peer = Producer::attach(mem.clone(), up).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut len = 0u32;
            while !done.load(Relaxed) {
                len = if len == 16 { u32::MAX } else { 16 };
                for slot in 0..SLOTS {
                    mem.store_u32(up.slot_at(slot), len, Relaxed);
                }
            }
        });
        let _finally = Finally(&done);
        for _ in 0..50_000 {
            peer.push(1, 1, &[7; 16]).unwrap();
            peer.publish();
            match honest.consumer.next(&mut honest.payload) {
                Ok(Some(header)) => assert_eq!((header.len, honest.payload.len()), (16, 16)),
                Err(RingError::Length { len, .. }) => assert_eq!(len, u32::MAX),
                other => panic!("{other:?}"),
            }
            let _owed = honest.consumer.release(1);
        }
    });
}

#[test]
fn unknown_waiting_words_cost_a_ring_and_never_a_wake_up() {
    use shared::ring::Owed;
    let cases = [
        (0, Owed::Nothing),
        (1, Owed::Doorbell),
        (2, Owed::Kick),
        (3, Owed::Doorbell),
        (u32::MAX, Owed::Doorbell),
    ];
    for (raw, owed) in cases {
        let (mem, ..) = machine();
        mem.store_u32(VMM_WAITING, raw, Relaxed);
        let attention = Attention::new(mem.clone(), Side::App);
        assert_eq!(attention.signal(0), owed, "waiting word {raw:#x}");
        assert_eq!(attention.signal(0), Owed::Nothing, "one sleep, one ring");
        assert_eq!(mem.load_u64(IRQ_BITMAP, Relaxed), 1);
    }
}
